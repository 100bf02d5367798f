"""What was written lately: so that a repeat of a write, whose reply was lost, finds what became of the first attempt."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from memory.model import Key
from memory.ops import Row, Write

if TYPE_CHECKING:
    from memory.backends.composite.routes import Route

MOST = 10_000
_replace = msgspec.structs.replace


class Sent:
    """A write as a member got it. ``base`` is added to the version; ``floor``: what the member had issued before."""

    __slots__ = ("base", "floor", "op", "route")

    def __init__(self, op: Write, route: Route, base: int, floor: int) -> None:
        self.op, self.route, self.base, self.floor = op, route, base, floor


class Recent:
    """The last writes by key, and those of which nobody knows. What is forgotten is called unknown."""

    def __init__(self) -> None:
        self._done: OrderedDict[Key, tuple[bytes, Row]] = OrderedDict()
        self._doubts: OrderedDict[bytes, Sent] = OrderedDict()
        self._forgotten = 0

    def done(self, key: Key, token: bytes, row: Row) -> None:
        """This write was applied, with this stamp."""
        self._done[key] = (token, _replace(row, body=b"", embedding=None))
        self._done.move_to_end(key)
        self._doubts.pop(token, None)
        if len(self._done) > MOST:
            _, (_, oldest) = self._done.popitem(last=False)
            self._forgotten = max(self._forgotten, oldest.version)

    def doubt(self, sent: Sent) -> None:
        """The outcome of this write is unknown."""
        self._doubts[sent.op.token] = sent
        if len(self._doubts) > MOST:
            self._doubts.popitem(last=False)

    def doubtful(self, token: bytes) -> Sent | None:
        """The write of this token, if its outcome is unknown."""
        return self._doubts.get(token)

    def decided(self, token: bytes) -> None:
        """The outcome of this write is known."""
        self._doubts.pop(token, None)

    def first_result(self, key: Key, token: bytes) -> Row | None:
        """The stamp that the write of this token got, if it was the last of its key."""
        known = self._done.get(key)
        return known[1] if known is not None and known[0] == token else None

    def version(self, key: Key) -> int:
        """The highest version that a write of this key may have got."""
        known = self._done.get(key)
        return self._forgotten if known is None else known[1].version
