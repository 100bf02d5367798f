"""Vectors of texts, and where they belong.

A store's vectors lie in one space (memory.ops.Space). What does not belong there is refused, never mixed in: before any
I/O by what this store knows, and again inside the write or read, since another process may have changed the space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from memory.errors import EmbeddingMismatch, InvalidItem
from memory.model import MemoryItem
from memory.ops import Put, Space
from memory.vectors import vector_bytes

if TYPE_CHECKING:
    from memory.search.embedders.base import Embedder
    from memory.search.embedders.service import EmbeddingService
    from memory.store.base import MemoryStore

Embed = Literal["now", "later"]
_force = msgspec.structs.force_setattr


def made_embedder(embedder: Embedder | str | Callable[..., Any] | None) -> Embedder | None:
    """The embedder that a name or a callable stands for; None for None and "none". Raises InvalidSetting."""
    if embedder is None:
        return None
    from memory.search.embedders.spec import embedder_of

    return embedder_of(embedder)


async def service_of(embedder: Embedder | None) -> EmbeddingService | None:
    """What embeds for the running loop, its name known. Raises BackendUnavailable, InvalidSetting."""
    if embedder is None:
        return None
    from memory.search.embedders.service import EmbeddingService

    service = EmbeddingService(embedder)
    if hasattr(embedder, "prepare"):
        try:
            await service.prepare()
        except BaseException:
            await service.close()
            raise
    return service


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
    """Raises EmbeddingMismatch for a vector that does not belong into the store, as far as is known without I/O, and
    InvalidItem for one that is longer than the backend takes.

    ``embedder`` None: a vector that the caller brings, and which is taken for one of the store's own embedder.
    """
    most = store.capabilities.max_dimension
    if dimension > most:
        raise InvalidItem(
            f"the embedding has {dimension} numbers; {store.name} takes at most {most}", field="embedding"
        )
    own = store.embedding
    if embedder is None and own is not None:
        embedder = own.name
        if own.dimension not in (None, dimension):
            raise EmbeddingMismatch(
                f"the embedding has {dimension} numbers; {own.name}, the store's embedder, makes {own.dimension}. Open "
                "the store without embedder (MEMORY_EMBEDDER=none) to bring vectors of your own",
                expected=own.dimension,
                actual=dimension,
            )
    if store.dimension is not None and dimension != store.dimension:
        raise EmbeddingMismatch(
            f"the embedding has {dimension} numbers; this store was opened for vectors of {store.dimension}",
            expected=store.dimension,
            actual=dimension,
        )
    if store._space is not None and not store._space.admits(embedder, dimension):
        raise mismatch(store._space, embedder, dimension)


def check_dimension(actual: int, expected: int, name: str) -> None:
    """Raises EmbeddingMismatch when the vectors of one batch differ in dimension."""
    if actual != expected:
        raise EmbeddingMismatch(
            f"{name} has an embedding of {actual} numbers, those before it {expected}; a store holds one kind of vector",
            expected=expected,
            actual=actual,
        )


def check_maker(store: MemoryStore, embedder: str | None, dimension: int) -> None:
    """Raises EmbeddingMismatch for a vector whose maker is known and is not the store's own embedder."""
    own = store.embedding
    if own is not None and embedder not in (None, own.name):
        raise mismatch(Space(own.name, own.dimension or dimension), embedder, dimension)
    check_space(store, embedder, dimension)


def check_embedder(store: MemoryStore) -> None:
    """Raises EmbeddingMismatch when the store holds vectors of another embedder than its own."""
    own, space = store.embedding, store._space
    if own is not None and space is not None and space.embedder != own.name:
        raise mismatch(space, own.name, own.dimension or space.dimension)


def is_text(item: MemoryItem) -> bool:
    """Whether there is something to make a vector from."""
    return bool(item.searchable.strip())


async def vectors_of(service: EmbeddingService, items: Sequence[MemoryItem]) -> list[bytes]:
    """The stored form of each item's vector. Raises EmbeddingFailed, EmbeddingMismatch, BackendUnavailable."""
    made = await service.embed([item.searchable for item in items])
    return [vector_bytes(vector) or b"" for vector in made]


async def add_vectors(store: MemoryStore, ops: Sequence[Put], now: bool) -> None:
    """Give puts that have a text and no vector one by the store's embedder, or (``now`` False) mark that one is owed.

    Raises EmbeddingMismatch, before anything is computed where that is possible, EmbeddingFailed, BackendUnavailable.
    """
    service = store.embedding
    if service is None:
        return
    todo = [op for op in ops if op.embedding is None and is_text(op.item)]
    if not todo:
        return
    check_embedder(store)
    if now:
        await store._vectors_ready()
        made = await service.embed([op.item.searchable for op in todo])
        check_space(store, service.name, len(made[0]))
        async for part in store._slices(list(zip(todo, made, strict=True))):
            for op, vector in part:
                # Nobody else has seen the operation yet.
                _force(op, "embedding", vector_bytes(vector))
                _force(op, "item", msgspec.structs.replace(op.item, embedding=vector))
    for op in todo:
        _force(op, "embedder", service.name)
