"""Documents in order, a chunk at a time: of one collection, then of both together.

No index is needed but those that Firestore makes of each field by itself: a question has equalities, in the order of names, or
asks for one field in its order. So the newest come first by going down the times, of which equal ones come with their names
descending too; each group of equal times is put in order, and one that a chunk cuts is asked for by its time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from memory.backends.firestore import values
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import NAME, Condition, Query
from memory.backends.firestore.records import TIMESTAMP
from memory.backends.firestore.v1.documents import Found
from memory.backends.firestore.v1.narrowing import Conditions
from memory.backends.firestore.v1.natives import AGENTS, ITEMS
from memory.errors import InvalidCursor
from memory.ops import Position

if TYPE_CHECKING:
    from memory.backends.firestore.v1.backend import FirestoreV1Store

PAGE = 300
"""Documents that one query reads at most."""
By = Literal["name", "oldest", "newest"]
Orders = tuple[tuple[str, bool], ...]
Place = tuple[int, bytes]
"""Where a document stands in an order: its time (0 by name) and its name."""
_BY_NAME: Orders = ((NAME, False),)
PLACES: dict[By, Callable[[Found], Place]] = {
    "name": lambda found: (0, found.id.encode()),
    "oldest": lambda found: (found.created, found.id.encode()),
    "newest": lambda found: (-found.created, found.id.encode()),
}


class Walk:
    """The documents behind a position that are asked for, in order, expired ones too. ``size``: how many are wanted first.

    By time only without conditions. What a document of ``memory_items`` hides is left out.
    """

    def __init__(
        self,
        store: FirestoreV1Store,
        asked: dict[str, Conditions],
        meter: Meter,
        *,
        by: By = "name",
        after: Position | None = None,
        size: int = PAGE,
    ) -> None:
        self._place = PLACES[by]
        first = min(size + (by == "newest"), PAGE)  # one more tells whether the last time is whole
        kind = _Newest if by == "newest" else _Ascending
        self._walks = [kind(store, name, asked[name], by, after, first, meter) for name in asked]
        self._ahead: list[list[Found]] = [[] for _ in self._walks]

    async def next(self) -> list[Found]:
        """The next chunk; empty at the end."""
        while True:
            for i, walk in enumerate(self._walks):
                while not self._ahead[i] and not walk.ended:
                    self._ahead[i] = await walk.chunk()
            # What lies behind the end of a chunk may lie behind what follows that chunk, too.
            pairs = zip(self._ahead, self._walks, strict=True)
            end = min((self._place(held[-1]) for held, walk in pairs if held and not walk.ended), default=None)
            ready: list[Found] = []
            for i, held in enumerate(self._ahead):
                cut = len(held) if end is None else sum(self._place(one) <= end for one in held)
                ready += held[:cut]
                self._ahead[i] = held[cut:]
            if ready or end is None:
                return sorted(ready, key=self._place)


class _Walk(ABC):
    """One collection's documents."""

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
        self.size, self.meter = size, meter
        self.cursor: tuple[Any, ...] = ()
        self.ended = False
        self.start(by, after)

    @abstractmethod
    def start(self, by: By, after: Position | None) -> None:
        """Put the cursor behind a position."""

    @abstractmethod
    async def read(self) -> list[Found]:
        """The next documents; may be none before the end."""

    async def chunk(self) -> list[Found]:
        """The next documents that are shown; may be none before the end."""
        found = await self.read()
        return await visible(self.store, found, self.meter) if self.collection == AGENTS else found

    async def ask(self, conditions: Conditions, orders: Orders, cursor: tuple[Any, ...]) -> tuple[list[Found], bool]:
        """Some documents, and whether there are no more."""
        size = self.size
        query = Query(collection=self.collection, conditions=conditions, orders=orders, after=cursor, limit=size)
        self.size = min(PAGE, 2 * size)  # few are wasted where few are wanted
        found = await self.store._connected().query(query, self.meter)
        return found, len(found) < size

    def name(self, id: str) -> Any:
        """A document of the collection, as a value. Raises InvalidCursor: a position may tell any id."""
        if not self.store.can_hold(id):
            raise InvalidCursor("the cursor tells an id that no document can have; start again without one")
        return values.Value(reference_value=self.store._connected().name(self.collection, id))


class _Ascending(_Walk):
    """By name, or by time and name."""

    def start(self, by: By, after: Position | None) -> None:
        self.orders = _BY_NAME if by == "name" else ((TIMESTAMP, False), *_BY_NAME)
        if after is not None:
            time = () if by == "name" else (values.moment(int(after.value or 0)),)
            self.cursor = (*time, self.name(after.id))

    async def read(self) -> list[Found]:
        found, self.ended = await self.ask(self.conditions, self.orders, self.cursor)
        if found:
            last = found[-1]
            self.cursor = tuple(self.name(last.id) if path == NAME else last.fields[path] for path, _ in self.orders)
        return found


class _Newest(_Walk):
    """Down the times; those of one time by name."""

    at: Any = None
    """The time whose documents are being read by name, behind ``within``."""
    within: tuple[Any, ...] = ()

    def start(self, by: By, after: Position | None) -> None:
        if after is not None:
            self.at = values.moment(int(after.value or 0))
            self.within, self.cursor = (self.name(after.id),), (self.at,)

    async def read(self) -> list[Found]:
        if self.at is not None:
            found, whole = await self.ask((Condition(TIMESTAMP, "==", self.at),), _BY_NAME, self.within)
            self.at, self.within = (None, ()) if whole else (self.at, (self.name(found[-1].id),))
            return found
        found, self.ended = await self.ask((), ((TIMESTAMP, True),), self.cursor)
        if self.ended:
            return sorted(found, key=PLACES["newest"])
        # The last time may go on behind what was read: its documents are read by name.
        self.at = found[-1].fields[TIMESTAMP]
        self.cursor = (self.at,)
        last = found[-1].created
        return sorted((one for one in found if one.created != last), key=PLACES["newest"])


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
