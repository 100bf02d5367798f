"""What the public operations return, and what a backend declares about itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from memory.errors import InvalidItem
from memory.model import DEFAULT_NAMESPACE, Key, MemoryItem
from memory.vectors import MAX_DIMENSION

Durability = Literal["none", "process", "power", "replicated", "unknown"]
"""What survives after an acknowledged write: nothing, the death of this process, power loss, loss of a server."""

Progress = Callable[[int], None]
"""Called now and then with the number of items handled so far."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend can do, declared on its class, tested by the contract suite, printed by ``memory backends``."""

    persistent: bool
    """Data survives close and open."""
    shared: bool
    """Several processes may use the same data at once."""
    atomic_batches: bool
    """``put_many(atomic=True)`` writes all or nothing."""
    feed: bool
    """Can store a change feed (``feed=True``), which ``watch`` needs."""
    indexes_terms: bool
    """Wants terms with every put; False: analyses lazily or not at all."""
    snapshots: bool = False
    """``backup`` takes a point-in-time copy; else it exports page by page."""
    reembeds: bool = False
    """``reembed`` can give a store the vectors of another embedder while the old ones serve."""
    namespaces: bool = True
    """Holds items of any namespace; False: of the default one only. An item of another is refused before any I/O."""
    forbidden_ids: str = ""
    """A regular expression of the ids that it cannot hold; an item with one is refused before any I/O."""
    max_dimension: int = MAX_DIMENSION
    """Most numbers of a vector; a longer one is refused before any I/O."""
    recall: float = 1.0
    """Least share of the true best that vector search finds without ``exact=True``; 1.0: it is always exact."""
    staleness: float = 0.0
    """Seconds by which a read by key may be behind what another process has written; 0.0: it never is. What this process
    has written is always seen."""

    def check(self, backend: str, item: MemoryItem) -> None:
        """Raises InvalidItem for an item that such a backend cannot hold."""
        if not self.namespaces and item.namespace != DEFAULT_NAMESPACE:
            raise InvalidItem(
                f"{backend} has one namespace, {DEFAULT_NAMESPACE!r}; it cannot hold an item of {item.namespace!r}",
                field="namespace",
            )
        if self.forbidden_ids and re.fullmatch(self.forbidden_ids, item.id):
            raise InvalidItem(f"{backend} cannot hold an item whose id is {item.id!r}", field="id")


class ItemPage(msgspec.Struct, frozen=True):
    """One page of a list. ``cursor`` fetches the next page; None: this was the last."""

    items: list[MemoryItem]
    cursor: str | None = None

    def __iter__(self) -> Iterator[MemoryItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Hit(msgspec.Struct, frozen=True, gc=False):
    """One search result. ``score``: higher is better, comparable within one search.

    ``item`` comes without its embedding; ``get`` has it. ``components`` say how the score came about: ``text`` is the
    text score, ``matched`` the share (0 to 1) of the query's idf that this item matched, ``vector`` the cosine (-1 to
    1; None: the item has no vector). ``matched`` and ``vector`` are absolute measures of relevance. ``neighbours`` is
    what the items around it lent; ``relevance``, ``recency`` and ``importance`` (0 to 1 each) are the parts of the
    composite order. With ``explain=True`` also ``terms``: df, idf, tf and contribution.
    """

    item: MemoryItem
    score: float
    components: dict[str, Any]


class SearchPage(msgspec.Struct, frozen=True, gc=False):
    """Search results, best first. ``cursor`` fetches the next page.

    A search ranks a pool of the best max(100, 4 * limit) items; ``complete`` is False when the pages
    ended with the pool though more items may match: ask for a higher limit.
    """

    hits: list[Hit]
    cursor: str | None = None
    complete: bool = True

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)


class Change(msgspec.Struct, frozen=True):
    """One event of ``watch``. ``token`` resumes after it. ``item`` is the item as it is now, None when it is gone."""

    kind: Literal["put", "delete"]
    key: Key
    version: int
    token: str
    item: MemoryItem | None = None


class Health(msgspec.Struct, frozen=True):
    """Result of ``health``: ``status`` is healthy, degraded or unhealthy; ``details`` are plain facts, no secrets."""

    status: Literal["healthy", "degraded", "unhealthy"]
    backend: str
    durability: Durability
    details: dict[str, Any] = {}


class Stats(msgspec.Struct, frozen=True):
    """Result of ``stats``: live items, namespaces with live items, and what the backend adds."""

    items: int
    namespaces: int
    details: dict[str, Any] = {}


class ImportReport(msgspec.Struct, frozen=True):
    """Result of an import: how many were written, and line number -> reason for those refused."""

    imported: int
    refused: dict[int, str] = {}


class VerifyReport(msgspec.Struct, frozen=True):
    """Result of ``verify``: how many records were read, and what is wrong."""

    checked: int
    problems: list[Any] = []

    @property
    def ok(self) -> bool:
        """No problem was found."""
        return not self.problems


class ReembedReport(msgspec.Struct, frozen=True):
    """Result of ``reembed``: vectors made now, items that had theirs already, items without text to make one from,
    whose vectors the store now holds (None: there are none yet), and whether that changed."""

    embedded: int
    kept: int
    without_text: int
    embedder: str | None
    switched: bool


class RepairReport(msgspec.Struct, frozen=True):
    """Result of ``repair``: what was done, in words, and the keys of records that could not be saved."""

    actions: list[str] = []
    quarantined: list[str] = []
