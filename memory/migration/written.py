"""What a migration has written so far: for each key who wrote last, in 32 bytes, so that millions fit in memory."""

from __future__ import annotations

import asyncio
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from memory.migration.records import key_digest

if TYPE_CHECKING:
    from memory.model import Key

RECENT = 20_000
"""So many additions, and an eighth of all, are looked up in a dict before they join the sorted ones."""


class Written(NamedTuple):
    """The last write of a key: the version the target issued, and the source's version it was made from.

    Where the item was removed again ``version`` is the one that was removed, below 0.
    """

    version: int
    source: int

    @property
    def removed(self) -> bool:
        """Whether the migration removed it again."""
        return self.version < 0


class Index:
    """Keys by digest (64 bits; that two share one is a chance of one in millions, and their versions differ).

    ``firsts`` are the places in the journal of what was there before: the first intent of each key.
    """

    def __init__(self) -> None:
        self._digests, self._firsts = array("Q"), array("Q")
        self._versions, self._sources = array("q"), array("q")
        self._sorted: tuple[Any, Any, Any] | None = None
        self._recent: dict[int, Written] = {}

    def add(self, key: Key, written: Written, place: int) -> None:
        """Note a write that took effect, and where its intent begins in the journal."""
        digest = key_digest(key)
        self._digests.append(digest)
        self._versions.append(written.version)
        self._sources.append(written.source)
        self._firsts.append(place)
        self._recent[digest] = written

    def clear(self) -> None:
        """Forget all: it was undone."""
        self.__init__()  # type: ignore[misc]

    async def settle(self) -> None:
        """Sort what was added, in a thread, once it is much."""
        if len(self._recent) >= max(RECENT, len(self._digests) // 8):
            self._sorted, self._recent = await asyncio.to_thread(self._sort), {}

    @property
    def empty(self) -> bool:
        """Whether nothing was written yet."""
        return not self._digests

    def find(self, key: Key) -> Written | None:
        """The last write of a key; None when there was none."""
        if not self._digests:
            return None
        digest = key_digest(key)
        found = self._recent.get(digest)
        if found is not None or self._sorted is None:
            return found
        import numpy as np

        digests, versions, sources = self._sorted
        place = int(digests.searchsorted(np.uint64(digest), side="right")) - 1
        if place < 0 or int(digests[place]) != digest:
            return None
        return Written(int(versions[place]), int(sources[place]))

    def _columns(self) -> tuple[Any, ...]:
        import numpy as np

        digests = np.array(self._digests, dtype=np.uint64)
        order = np.argsort(digests, kind="stable")  # writes of one key stay in their order
        columns = (np.array(one)[order] for one in (self._versions, self._sources, self._firsts))
        return (digests[order], *columns)

    def _sort(self) -> tuple[Any, Any, Any]:
        digests, versions, sources, _ = self._columns()
        return digests, versions, sources

    def undoing(self) -> tuple[list[int], list[int]]:
        """For each key, in the order of the journal: where its first intent begins, and its last version. Blocking."""
        import numpy as np

        if not self._digests:
            return [], []
        digests, versions, _, firsts = self._columns()
        begins = np.flatnonzero(np.concatenate(([True], digests[1:] != digests[:-1])))
        ends = np.concatenate((begins[1:], [len(digests)])) - 1
        places, last = firsts[begins], versions[ends]
        order = np.argsort(places, kind="stable")
        return places[order].tolist(), last[order].tolist()
