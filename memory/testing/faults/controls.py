"""A store that is wrong on purpose, so that the proofs show that they would notice.

``CarelessStore`` keeps rows in one SQLite table with no checksum of its own, and (``lag`` above 1) acknowledges
before it commits. Nobody should use it for anything else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import apsw
import msgspec

from memory.codec import decode
from memory.errors import BackendUnavailable, StorageFull
from memory.model import Key, key_order
from memory.ops import ABSENT, ANY, Page, Put, Read, Remove, Result, Row, Scan, Status, Touch, Write
from memory.store import Capabilities, MemoryStore
from memory.store.types import Durability

_FIELDS = ("body", "version", "created", "updated", "accessed", "count", "expires", "embedding", "embedder")


class CarelessStore(MemoryStore):
    """One table, no checksums, every ``lag``-th write committed."""

    name = "careless"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True, shared=True, atomic_batches=True, feed=False, indexes_terms=False
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lag: int = 1,
        synchronous: str = "full",
        vfs: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.path, self._lag, self._synchronous, self._vfs = Path(path), lag, synchronous, vfs
        self._waiting = 0

    @property
    def durability(self) -> Durability:
        return "unknown"

    async def _open(self) -> None:
        try:
            self._db = apsw.Connection(str(self.path), vfs=self._vfs)
            self._db.set_busy_timeout(10_000)
            for statement in (
                "PRAGMA journal_mode=WAL",
                f"PRAGMA synchronous={self._synchronous.upper()}",
                "CREATE TABLE IF NOT EXISTS issued(version INTEGER)",
                f"CREATE TABLE IF NOT EXISTS records(path BLOB, id BLOB, {', '.join(_FIELDS)}, PRIMARY KEY(path, id))",
            ):
                self._db.execute(statement)
        except apsw.Error as error:
            raise BackendUnavailable(str(error)) from None

    async def _close(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            results = [self._apply(op) for op in ops]
            self._waiting += 1
            if self._waiting >= self._lag:
                self._waiting = 0
                self._db.execute("COMMIT")
        except apsw.FullError:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StorageFull("the disk is full") from None
        return results

    def _apply(self, op: Write) -> Result:
        old = self._row(op.key, op.now)
        if op.expect not in (ANY, ABSENT) and (old is None or old.version != op.expect):
            return Result(Status.MISSING) if old is None else Result(Status.CONFLICT, old)
        if op.expect == ABSENT and old is not None:
            return Result(Status.EXISTS)
        if old is None and not isinstance(op, Put):
            return Result(Status.MISSING)
        if isinstance(op, Remove):
            self._db.execute("DELETE FROM records WHERE path = ? AND id = ?", key_order(op.key))
            return Result(Status.DONE, old)
        version = (self._db.execute("SELECT max(version) FROM issued").get or 0) + 1
        self._db.execute("DELETE FROM issued")
        self._db.execute("INSERT INTO issued VALUES (?)", (version,))
        if isinstance(op, Touch):
            assert old is not None
            row = msgspec.structs.replace(old, version=version, count=old.count + op.accesses)
        else:
            created = old.created if old is not None else op.created or op.now
            row = Row(
                body=op.body, version=version, created=created, updated=op.now, accessed=created, expires=op.expires
            )
        values = [getattr(row, field) for field in _FIELDS]
        places = ", ".join("?" * (2 + len(values)))
        self._db.execute(f"INSERT OR REPLACE INTO records VALUES ({places})", (*key_order(op.key), *values))
        return Result(Status.DONE, row)

    def _row(self, key: Key, now: int) -> Row | None:
        found = self._db.execute(
            f"SELECT {', '.join(_FIELDS)} FROM records WHERE path = ? AND id = ?", key_order(key)
        ).fetchone()
        row = None if found is None else Row(**dict(zip(_FIELDS, found, strict=True)))
        return None if row is not None and row.expires is not None and row.expires <= now else row

    async def _read(self, op: Read) -> list[Row | None]:
        return [self._row(key, op.now) for key in op.keys]

    async def _scan(self, op: Scan) -> Page:
        rows = [
            Row(**dict(zip(_FIELDS, found, strict=True)))
            for found in self._db.execute(f"SELECT {', '.join(_FIELDS)} FROM records ORDER BY path, id")
        ]
        kept: list[tuple[Any, Row]] = []
        for row in rows:
            item = decode(row)
            at = 0 if op.order.field == "key" else row.created
            place = (-at if op.order.descending else at, key_order(item.key))
            if op.scope.covers(item) and (row.expires is None or row.expires > op.now):
                kept.append((place, row))
        kept.sort(key=lambda pair: pair[0])
        if op.after is not None:
            value = op.after.value or 0
            start = (-value if op.order.descending else value, key_order((op.after.namespace, op.after.id)))
            kept = [pair for pair in kept if pair[0] > start]
        return Page([row for _, row in kept[: op.limit]], exact=False, more=len(kept) > op.limit)
