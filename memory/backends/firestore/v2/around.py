"""The rows before and after each anchor in its namespace and session, in the order of their creation.

Anchors of one line are mostly near each other, so a line is first read onwards from its first anchor, for as many documents
as asking for each anchor by itself would read twice over; what that does not reach is asked for by itself.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memory.backends.firestore import values
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import Condition, Query
from memory.backends.firestore.v2 import paths
from memory.backends.firestore.v2.documents import Found
from memory.backends.firestore.v2.filtering import narrow
from memory.backends.firestore.v2.scanning import live, row
from memory.keys import encode_key
from memory.ops import Around, Row, Scope

if TYPE_CHECKING:
    from memory.backends.firestore.v2.backend import FirestoreV2Store

Place = tuple[int, bytes]
"""(created, key): where a document stands in its line."""
Line = tuple[tuple[str, ...], str | None]
"""(namespace, session)."""


async def around(store: FirestoreV2Store, op: Around, meter: Meter) -> list[tuple[list[Row], list[Row]]]:
    """For each anchor (before, after), both nearest first."""
    lines: dict[Line, set[Place]] = {}
    for key, session, created in op.anchors:
        if op.scope.covers_namespace(key[0]):
            lines.setdefault((key[0], session), set()).add((created, encode_key(key)))
    sides: dict[tuple[Line, Place], tuple[list[Found], list[Found]]] = {}
    for line, places in lines.items():
        found = await _Line(store, op, meter, line).sides(sorted(places))
        sides.update({(line, place): both for place, both in found.items()})
    rows: list[tuple[list[Row], list[Row]]] = []
    for key, session, created in op.anchors:
        before, after = sides.get(((key[0], session), (created, encode_key(key))), ([], []))
        rows.append((await _rows(store, op, before), await _rows(store, op, after)))
    return rows


async def _rows(store: FirestoreV2Store, op: Around, found: list[Found]) -> list[Row]:
    rows: list[Row] = []
    async for part in store._slices(found):
        rows += [row(store, one, vectors=op.vectors) for one in part]
    return rows


class _Line:
    def __init__(self, store: FirestoreV2Store, op: Around, meter: Meter, line: Line) -> None:
        self.store, self.op, self.meter = store, op, meter
        namespace, session = line
        held = op.scope
        self.conditions = narrow(
            Scope(namespace, False, held.user_id, held.agent_id, held.session_id), None, by_key=False
        ).conditions
        if held.session_id is None:
            self.conditions += (Condition(paths.SESSION, "==", values.optional_text(session)),)

    async def sides(self, places: Sequence[Place]) -> dict[Place, tuple[list[Found], list[Found]]]:
        """For each anchor (before, after)."""
        n = self.op.n
        before = await self._read(places[0], n, descending=True)
        wanted = 4 * n * len(places)
        following = await self._read(places[0], wanted, descending=False, inclusive=True)
        ended = len(following) < wanted
        line = [*reversed(before), *following]
        stands = [_place(one) async for one in singly(line)]
        sides: dict[Place, tuple[list[Found], list[Found]]] = {}
        for place in places:
            start, end = bisect_left(stands, place), bisect_right(stands, place)
            if ended or len(line) - end >= n:
                sides[place] = line[max(0, start - n) : start][::-1], line[end : end + n]
            else:
                sides[place] = (
                    await self._read(place, n, descending=True),
                    await self._read(place, n, descending=False),
                )
        return sides

    async def _read(self, place: Place, limit: int, *, descending: bool, inclusive: bool = False) -> list[Found]:
        query = Query(
            collection=self.store.names.items,
            conditions=self.conditions,
            orders=((paths.CREATED, descending), (paths.KEY, descending)),
            after=(values.moment(place[0]), values.blob(place[1])),
            inclusive=inclusive,
        )
        found: list[Found] = []
        async for documents in live(self.store, query, self.op.now, limit, self.meter):
            found += documents
        return found


def _place(found: Found) -> Place:
    return values.get_moment(found.fields, "timestamp") or 0, found.part("key")
