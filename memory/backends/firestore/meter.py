"""Documents read, which is what Firestore charges for: counted for each operation, and bounded when asked."""

from __future__ import annotations

from memory.errors import UnsupportedOperation


class Meter:
    """Counts the reads of one operation. ``most``: None, or how many it may make."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.reads = 0

    def count(self, reads: int) -> None:
        """So many documents were read. Raises UnsupportedOperation beyond the bound: no partial answer is given."""
        self.reads += reads
        if self.most is not None and self.reads > self.most:
            raise UnsupportedOperation(
                f"this would read more than max_reads={self.most} documents; narrow the filter or the namespace, "
                "or raise max_reads",
                max_reads=self.most,
            )

    def capped(self, limit: int | None) -> int | None:
        """A query's limit, lowered so that at most one document beyond the bound is read."""
        if self.most is None:
            return limit
        left = max(1, self.most - self.reads + 1)
        return left if limit is None else min(limit, left)
