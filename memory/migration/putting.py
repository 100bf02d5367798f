"""From a source's row to the write that the target gets; what the target cannot hold is refused here, before any I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from memory.errors import EmbeddingMismatch, InvalidItem, InvalidSetting
from memory.migration.records import Pair, Vectors
from memory.model import MAX_DISTINCT_TERMS
from memory.ops import ABSENT, Put, Space
from memory.store.embedding import check_embedder, is_text

if TYPE_CHECKING:
    from memory.ops import Row
    from memory.store import MemoryStore


class Putting:
    """Makes the writes of one migration. A target with limits of its own refuses in ``MemoryStore._privileged``."""

    def __init__(self, target: MemoryStore, vectors: Vectors) -> None:
        self.target = target
        self.vectors: Vectors = vectors
        self.embedder: str | None = None
        """Who makes vectors anew."""
        if vectors == "reembed":
            if target.embedding is None:
                raise InvalidSetting(
                    'vectors="reembed" needs a target that is opened with an embedder', setting="vectors"
                )
            check_embedder(target)
            self.embedder = target.embedding.name

    async def put(self, pair: Pair, held: Row | None) -> Put:
        """The write of an item with all its times and counts, in place of what the target holds and of nothing else.

        Raises InvalidItem, EmbeddingMismatch, and whatever else the target's own check refuses.
        """
        row, item = pair
        if self.vectors == "copy":
            self._check_vector(row)
            op = self.target._privileged(self.target, item, row.embedder)
        else:
            if self.vectors == "reembed" and row.embedding is not None and not is_text(item):
                raise InvalidItem("it has a vector, and no text to make another from", field="embedding")
            op = self.target._privileged(self.target, msgspec.structs.replace(item, embedding=None), None)
        if len(op.body) > MAX_DISTINCT_TERMS:
            await self.target._check_terms(op.item)
        return msgspec.structs.replace(op, expect=ABSENT if held is None else held.version)

    def _check_vector(self, row: Row) -> None:
        """Raises EmbeddingMismatch for a vector that another embedder made than those of the target."""
        if row.embedding is None:
            return
        target, own, size = self.target, self.target.embedding, len(row.embedding) // 4
        spaces = [target._space]
        if own is not None:
            spaces.append(Space(own.name, own.dimension or size))
        if target.dimension is not None:
            spaces.append(Space(row.embedder, target.dimension))
        for space in spaces:
            if space is not None and space != Space(row.embedder, size):
                raise EmbeddingMismatch(
                    f"its vector has {size} numbers and was made by {row.embedder or 'its caller'}; the target is for "
                    f"{space.dimension} numbers by {space.embedder or 'callers'}. Have vectors made anew "
                    '(vectors="reembed") or leave them behind (vectors="drop")',
                    expected=space.dimension,
                    actual=size,
                )
