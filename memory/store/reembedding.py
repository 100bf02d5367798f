"""``reembed``: vectors for what has none, or for everything anew by another embedder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from memory.codec import decode
from memory.errors import InvalidItem, InvalidSetting, Overloaded, UnsupportedOperation
from memory.model import Key, MemoryItem
from memory.ops import Attach, Space
from memory.store.embedding import check_space, is_text, made_embedder, service_of, vectors_of
from memory.store.slicing import row_bytes
from memory.store.types import Progress, ReembedReport
from memory.store.view import Operations
from memory.sync import blocking
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.search.embedders.base import Embedder
    from memory.search.embedders.service import EmbeddingService
    from memory.store.base import MemoryStore

MAX_BATCH = 4_096
MOST_PASSES = 1_000
_log = get_logger("store")


class Reembedding(Operations):
    """The part of a store that gives items their vectors after they are stored."""

    async def reembed(
        self,
        embedder: Embedder | str | Callable[..., Any] | None = None,
        *,
        batch: int = 256,
        progress: Progress | None = None,
    ) -> ReembedReport:
        """Give every item that has a text its vector: by the store's own embedder, or all anew by another.

        By the store's own, items that have none get one: those written with ``embed="later"``, or before there was an
        embedder. By another, new vectors are made aside while the old ones serve; once all are there the store
        switches, at once and for good, and whoever opened it with the old embedder gets EmbeddingMismatch from then
        on. Interrupted, it goes on where it stopped when it is called again. ``progress`` gets the number of items
        looked at. Raises EmbeddingFailed, InvalidSetting (no embedder), Overloaded (items are written faster than
        vectors are made), UnsupportedOperation (this backend cannot switch, or an item has a vector but no text to
        make another from).
        """
        store = self._enter()
        if type(batch) is not int or not 0 < batch <= MAX_BATCH:
            raise InvalidItem(f"batch must be an int from 1 to {MAX_BATCH}, not {batch!r}", field="batch")
        service = store.embedding if embedder is None else await service_of(made_embedder(embedder))
        if service is None:
            raise InvalidSetting(
                "name the embedder: reembed(...), or open the store with embedder=", setting="embedder"
            )
        try:
            return await _reembed(store, service, batch, progress)
        finally:
            if service is not store.embedding:
                await service.close()

    reembed_sync = blocking(reembed)


async def _reembed(
    store: MemoryStore, service: EmbeddingService, batch: int, progress: Progress | None
) -> ReembedReport:
    total = await store.count()
    embedded = 0
    for _ in range(MOST_PASSES):
        before = store._space
        space = await _space_of(store, service)
        if not _same(before, space) and not store.capabilities.reembeds:
            raise UnsupportedOperation(
                f"{store.name} cannot change the embedder of its vectors: export it, and import into a new store"
            )
        made, without = await _pass(store, service, space, batch, progress, embedded, replaces=not _same(before, space))
        embedded += made
        if _same(before, space):
            return ReembedReport(embedded, max(0, total - embedded - without), without, service.name, switched=False)
        if await store._switch(space, without):
            store._space = space
            _log.info("reembedded", backend=store.name, embedder=service.name, items=embedded)
            return ReembedReport(embedded, max(0, total - embedded - without), without, service.name, switched=True)
        # Something was written meanwhile: once more, for what is new.
    raise Overloaded(
        f"items are written faster than {service.name} makes their vectors; the old ones still serve, and what is made "
        "is kept: call reembed again at a quieter time"
    )


def _same(held: Space | None, wanted: Space) -> bool:
    """Whether vectors may be attached where they are: the store has this space, or none yet."""
    return held is None or held == wanted


async def _space_of(store: MemoryStore, service: EmbeddingService) -> Space:
    """The space of an embedder, whose dimension it may only tell after its first text."""
    if service.dimension is None:
        await service.embed(["dimension"])
    assert service.dimension is not None
    space = Space(service.name, service.dimension)
    if store.dimension not in (None, space.dimension):
        check_space(store, space.embedder, space.dimension)
    return space


async def _pass(
    store: MemoryStore,
    service: EmbeddingService,
    space: Space,
    batch: int,
    progress: Progress | None,
    done: int,
    *,
    replaces: bool,
) -> tuple[int, int]:
    """Vectors for all rows that lack one in this space: how many were made, and how many rows have no text."""
    made, without, after = 0, 0, None
    while rows := await store._unattached(space, after, batch):
        todo: list[tuple[Key, int, MemoryItem]] = []
        async for part in store._slices(rows, weigh=row_bytes):
            for row in part:
                item = decode(row)
                after = item.key
                if is_text(item):
                    todo.append((item.key, row.version, item))
                    continue
                gone = row.expires is not None and row.expires <= store._clock()
                if replaces and row.embedding is not None and not gone:
                    raise UnsupportedOperation(
                        f"item {item.id!r} in namespace {item.namespace!r} has a vector but no text to make another "
                        "from; take its vector away first: update(id, embedding=None)",
                        key=item.key,
                    )
                without += 1
        vectors = await vectors_of(service, [item for _, _, item in todo])
        ops = [
            Attach(key=key, version=version, embedding=vector)
            for (key, version, _), vector in zip(todo, vectors, strict=True)
        ]
        made += await store._attach(space, ops) if ops else 0
        if progress is not None:
            progress(done + made + without)
    return made, without
