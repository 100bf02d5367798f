"""Documents in order, a chunk at a time: of one collection, then of both together.

No index is needed but those that Firestore makes of each field by itself: a question has equalities, in the order of names, or
asks for one field in its order. So the newest come first by going down the times, of which equal ones come with their names
descending too; each group of equal times is put in order, and one that a chunk cuts is asked for by its time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from memory.backends.firestore import values
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import NAME, Condition, Query
from memory.backends.firestore.records import TIMESTAMP
from memory.backends.firestore.v1.documents import Found
from memory.backends.firestore.v1.narrowing import Conditions
from memory.backends.firestore.v1.natives import AGENTS, ITEMS
from memory.ops import Position

if TYPE_CHECKING:
    from memory.backends.firestore.v1.backend import FirestoreV1Store

PAGE = 300
"""Documents that one query reads at most."""
By = Literal["name", "oldest", "newest"]
Place = tuple[int, bytes]
"""Where a document stands in an order: its time (0 by name) and its name."""
PLACES: dict[By, Callable[[Found], Place]] = {
    "name": lambda found: (0, found.id.encode()),
    "oldest": lambda found: (found.created, found.id.encode()),
    "newest": lambda found: (-found.created, found.id.encode()),
}


async def walk(
    store: FirestoreV1Store, asked: dict[str, Conditions], by: By, after: Position | None, size: int, meter: Meter
) -> AsyncIterator[list[Found]]:
    """The documents behind a position that are asked for, in order, expired ones too. ``size``: how many are wanted first.

    By time only without conditions. What a document of ``memory_items`` hides is left out.
    """
    first = min(size + (by == "newest"), PAGE)  # one more tells whether the last time is whole
    walks = [_Walk(store, name, asked[name], by, after, first, meter) for name in asked]
    place = PLACES[by]
    chunks = [one.chunks() for one in walks]
    ahead: list[list[Found]] = [[] for _ in walks]
    going = [True] * len(walks)
    while True:
        for i, chunk in enumerate(chunks):
            while going[i] and not ahead[i]:
                try:
                    ahead[i] = await anext(chunk)
                except StopAsyncIteration:
                    going[i] = False
        # What lies behind the end of a chunk may lie behind what follows that chunk, too.
        ends = [place(held[-1]) for held, goes in zip(ahead, going, strict=True) if goes and held]
        end = min(ends, default=None)
        ready: list[Found] = []
        for i, held in enumerate(ahead):
            cut = len(held) if end is None else sum(place(one) <= end for one in held)
            ready += held[:cut]
            ahead[i] = held[cut:]
        if ready:
            yield sorted(ready, key=place)
        if not any(going):
            return


class _Walk:
    def __init__(
        self,
        store: FirestoreV1Store,
        collection: str,
        conditions: Conditions,
        by: By,
        after: Position | None,
        size: int,
        meter: Meter,
    ) -> None:
        self.store, self.collection, self.conditions = store, collection, conditions
        self.by, self.after, self.size, self.meter = by, after, size, meter

    async def chunks(self) -> AsyncIterator[list[Found]]:
        steps = self._newest() if self.by == "newest" else self._ascending()
        async for found in steps:
            shown = await visible(self.store, found, self.meter) if self.collection == AGENTS else found
            if shown:
                yield shown

    async def _ascending(self) -> AsyncIterator[list[Found]]:
        orders: tuple[tuple[str, bool], ...] = ((NAME, False),)
        cursor: tuple[Any, ...] = ()
        if self.after is not None:
            cursor = (self._name(self.after.id),)
        if self.by == "oldest":
            orders = ((TIMESTAMP, False), *orders)
            if self.after is not None:
                cursor = (values.moment(int(self.after.value or 0)), *cursor)
        async for found in self._pages(self.conditions, orders, cursor):
            yield found

    async def _pages(
        self, conditions: Sequence[Condition], orders: tuple[tuple[str, bool], ...], cursor: tuple[Any, ...]
    ) -> AsyncIterator[list[Found]]:
        while True:
            size, found = self.size, await self._ask(conditions, orders, cursor)
            if found:
                yield found
            if len(found) < size:
                return
            last = found[-1]
            cursor = (self._name(last.id),)
            if len(orders) == 2:
                cursor = (last.fields[TIMESTAMP], *cursor)

    async def _newest(self) -> AsyncIterator[list[Found]]:
        cursor: tuple[Any, ...] = ()
        if self.after is not None:
            at = values.moment(int(self.after.value or 0))
            async for found in self._at(at, (self._name(self.after.id),)):
                yield found
            cursor = (at,)
        while True:
            size, found = self.size, await self._ask((), ((TIMESTAMP, True),), cursor)
            whole = len(found) < size
            last = None if whole else found[-1].created
            complete = [one for one in found if one.created != last]
            if complete:
                yield sorted(complete, key=PLACES["newest"])
            if whole:
                return
            at = found[-1].fields[TIMESTAMP]
            async for group in self._at(at, ()):
                yield group
            cursor = (at,)

    async def _at(self, at: Any, cursor: tuple[Any, ...]) -> AsyncIterator[list[Found]]:
        """The documents of one time."""
        condition = Condition(TIMESTAMP, "==", at)
        async for found in self._pages((condition,), ((NAME, False),), cursor):
            yield found

    async def _ask(
        self, conditions: Sequence[Condition], orders: tuple[tuple[str, bool], ...], cursor: tuple[Any, ...]
    ) -> list[Found]:
        query = Query(
            collection=self.collection,
            conditions=tuple(conditions),
            orders=orders,
            after=cursor,
            limit=self.size,
        )
        self.size = min(PAGE, 2 * self.size)  # few are wasted where few are wanted
        return await self.store._connected().query(query, self.meter)

    def _name(self, id: str) -> Any:
        return values.Value(reference_value=self.store._connected().name(self.collection, id))


async def visible(store: FirestoreV1Store, found: list[Found], meter: Meter) -> list[Found]:
    """Those of some agent data that no document of ``memory_items`` hides by having the same name."""
    if not found:
        return found
    places = [(ITEMS, one.id) for one in found]
    hiding = await store._connected().get_across(places, meter, fields=("id",))
    if not hiding:
        return found
    store._clashes(name for _, name in hiding)
    return [one for one in found if (ITEMS, one.id) not in hiding]
