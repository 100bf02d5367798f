"""Vectors of texts: made within the write, or later, or all anew by another embedder.

A store's vectors lie in one space (memory.ops.Space). What does not belong there is refused, never mixed in: before any
I/O by what this store knows, and again inside the write or read, since another process may have changed the space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from memory.codec import decode
from memory.errors import EmbeddingMismatch, InvalidItem, InvalidSetting, UnsupportedOperation
from memory.model import Key, MemoryItem, vector_bytes
from memory.ops import Attach, Space
from memory.store.types import Progress, ReembedReport
from memory.store.view import Operations
from memory.sync import blocking
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.search.embedders.base import Embedder
    from memory.search.embedders.service import EmbeddingService
    from memory.store.base import MemoryStore

Embed = Literal["now", "later"]
MAX_BATCH = 4_096
_log = get_logger("store")


def service_of(embedder: Embedder | str | Callable[..., Any]) -> EmbeddingService | None:
    """What makes vectors of texts, for a name, a callable or an Embedder; None for "none". Raises InvalidSetting."""
    from memory.search.embedders.service import EmbeddingService
    from memory.search.embedders.spec import embedder_of

    made = embedder_of(embedder)
    return None if made is None else EmbeddingService(made)


def mismatch(space: Space, embedder: str | None, dimension: int) -> EmbeddingMismatch:
    """The error for a vector that the store's space does not admit."""
    facts = {"expected": space.dimension, "actual": dimension, "holds": space.embedder, "embedder": embedder}
    holds = f"vectors of {space.dimension} numbers made by {space.embedder or 'its callers'}"
    if embedder in (None, space.embedder):
        return EmbeddingMismatch(f"the embedding has {dimension} numbers; this store holds {holds}", **facts)
    return EmbeddingMismatch(
        f"this store holds {holds}, not by {embedder}; open it with that embedder, or give all items new vectors: "
        f"memory reembed --to {embedder}",
        **facts,
    )


def check_embed(embed: Embed) -> bool:
    """Whether a vector is made within the write. Raises InvalidItem."""
    if embed not in ("now", "later"):
        raise InvalidItem(f'embed must be "now" or "later", not {embed!r}', field="embed")
    return embed == "now"


def check_space(store: MemoryStore, embedder: str | None, dimension: int) -> None:
    """Raises EmbeddingMismatch for a vector that does not belong into the store, as far as is known without I/O."""
    if store.dimension is not None and dimension != store.dimension:
        raise EmbeddingMismatch(
            f"the embedding has {dimension} numbers; this store holds vectors of {store.dimension}",
            expected=store.dimension,
            actual=dimension,
        )
    if store._space is not None and not store._space.admits(embedder, dimension):
        raise mismatch(store._space, embedder, dimension)


def is_text(item: MemoryItem) -> bool:
    """Whether there is something to make a vector from."""
    return bool(item.searchable.strip())


async def vectors_of(service: EmbeddingService, items: Sequence[MemoryItem]) -> list[bytes]:
    """The stored form of each item's vector. Raises EmbeddingFailed, EmbeddingMismatch, BackendUnavailable."""
    made = await service.embed([item.searchable for item in items])
    return [vector_bytes(vector) or b"" for vector in made]


class Embedding(Operations):
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
        looked at. Raises EmbeddingFailed, InvalidSetting (no embedder), UnsupportedOperation (this backend cannot
        switch, or an item has a vector but no text to make another from).
        """
        store = self._enter()
        if type(batch) is not int or not 0 < batch <= MAX_BATCH:
            raise InvalidItem(f"batch must be an int from 1 to {MAX_BATCH}, not {batch!r}", field="batch")
        service = store.embedding if embedder is None else service_of(embedder)
        if service is None:
            raise InvalidSetting("name the embedder: reembed(...), or open the store with embedder=", setting="embedder")
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
    while True:
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
        async for part in store._slices(rows):
            for row in part:
                item = decode(row)
                after = item.key
                if is_text(item):
                    todo.append((item.key, row.version, item))
                    continue
                if replaces and row.embedding is not None:
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
