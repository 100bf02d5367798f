"""MemoryStore: lifecycle, the hooks a backend implements, and correct slower defaults for the optional ones."""

from __future__ import annotations

import asyncio
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from memory.clock import Clock, system_clock
from memory.errors import Closed, InvalidItem, InvalidSetting, UnsupportedOperation, WrongLoop
from memory.layers import Layer, wrap
from memory.model import Key, MemoryItem, check_source
from memory.ops import (
    WHOLE,
    Around,
    Attach,
    Count,
    Events,
    FeedRead,
    Hybrid,
    Match,
    Matched,
    Mixed,
    Nearest,
    Page,
    Problem,
    Read,
    Result,
    Row,
    Scan,
    Space,
    Write,
)
from memory.search.fusion import Weights
from memory.store import fallbacks
from memory.store.embedding import check_space, made_embedder, service_of
from memory.store.options import CENTURY, check_index, check_seconds
from memory.store.reads import filled
from memory.store.reembedding import Reembedding
from memory.store.slicing import Slicing
from memory.store.sweeping import sweep_forever
from memory.store.tracking import AccessTracker
from memory.store.types import Capabilities, Durability, RepairReport
from memory.store.upkeep import Upkeep
from memory.sync import TO_OPEN, Home, Opens, blocking
from memory.telemetry import get_logger, ready

if TYPE_CHECKING:
    from memory.search.analysis import Analyser
    from memory.search.embedders.base import Embedder
    from memory.search.embedders.service import EmbeddingService

ENTERING = 32
"""Searches that are checked, and their queries embedded, together."""
_log = get_logger("store")
_open_stores: weakref.WeakSet[MemoryStore] = weakref.WeakSet()


class MemoryStore(Upkeep, Reembedding, Slicing, Opens, ABC):
    """A memory for agents behind one interface; subclasses are the backends.

    A backend declares ``name`` and ``capabilities`` and implements ``_open``, ``_close``, ``_write``, ``_read``
    and ``_scan``. Hooks get one operation value each (memory.ops), run on the loop that opened the store, must
    not hold it longer than 10 ms, and treat an item with ``expires <= now`` as absent.

    Options: ``clock`` (microseconds since the epoch; injected in tests), ``feed`` (keep a change feed),
    ``dimension`` (of every vector), ``embedder`` (who makes the vectors: a name, a callable, an Embedder; see
    memory.search.embedders; None: callers bring them), ``weights`` (how scores are mixed), ``language`` (of the text
    analyser), ``source`` (who writes: stamped on every item), ``track_access`` (reads count as accesses), ``index`` (metadata paths worth an index),
    ``feed_retention`` (seconds that events are kept), ``sweep_interval`` (seconds between sweeps that reclaim
    expired items; None: only when asked), ``layers`` (see memory.layers). Raises InvalidSetting, InvalidItem.
    """

    name: ClassVar[str]
    """The name in MEMORY_BACKEND_TYPE."""
    capabilities: ClassVar[Capabilities]
    pipelined_writes: ClassVar[int] = 1
    """Batches that ``_write`` may be given before the first has returned. Above 1 only where they are queued in order."""
    searches_at_once: ClassVar[int] = 64
    """Searches that are under way together; the others wait. Few where they compute here and not in a server."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        feed: bool = False,
        dimension: int | None = None,
        embedder: Embedder | str | Callable[..., Any] | None = None,
        weights: Weights | None = None,
        language: str = "english",
        source: dict[str, Any] | None = None,
        track_access: bool = False,
        index: Sequence[str] = (),
        feed_retention: float = 7 * 86_400,
        sweep_interval: float | None = 300.0,
        layers: Sequence[Layer] = (),
    ) -> None:
        if feed and not self.capabilities.feed:
            raise UnsupportedOperation(f"{self.name} cannot keep a feed; leave feed=True out or choose another backend")
        most = self.capabilities.max_dimension
        if dimension is not None and (type(dimension) is not int or not 0 < dimension <= most):
            raise InvalidItem(f"dimension must be an int from 1 to {most}", field="dimension")
        check_seconds(CENTURY, feed_retention=feed_retention)
        if sweep_interval is not None:
            check_seconds(CENTURY, sweep_interval=sweep_interval)
        self._clock = clock or system_clock
        self.injected_clock = clock is not None
        self.feed = feed
        self.feed_retention = feed_retention
        self.dimension = dimension
        self.embedder = made_embedder(embedder)
        self.embedding: EmbeddingService | None = None
        self.weights = weights or Weights()
        self._space: Space | None = None
        self.language = language
        self.index = check_index(index)
        self.sweep_interval = sweep_interval
        self._layers = tuple(layers)
        self._track_access = track_access
        self._store = self
        self._scope = WHOLE
        self._source = {} if source is None else check_source(source)
        self._residence = Home()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forked = False
        self._was_open = False
        self._opening = asyncio.Lock()
        self._watchers: set[asyncio.Event] = set()
        self._tracker: AccessTracker | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._analyser: Analyser | None = None
        if type(language) is not str:
            raise InvalidSetting(f"language must be a str, not {type(language).__name__}", setting="language")
        if language != "english":
            _ = self.analyser  # an unknown one is refused now, and not by the first search
        self._seen = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            return  # an intermediate or derived class: it keeps what it inherits
        if not isinstance(getattr(cls, "capabilities", None), Capabilities):
            raise TypeError(f"{cls.__name__} must declare capabilities = Capabilities(...)")
        for flag, hook in (("feed", "_feed"), ("snapshots", "_backup")):
            if getattr(cls.capabilities, flag) and getattr(cls, hook) is getattr(MemoryStore, hook):
                raise TypeError(f"{cls.__name__} declares {flag}=True but does not implement {hook}")

    @classmethod
    def _default_embedder(cls) -> str | None:
        """Who makes the vectors of a store for which nobody is named; None: they are brought."""
        return None

    # --- lifecycle -----------------------------------------------------------------------------

    async def open(self) -> Self:
        """Open the store on the running loop; again is harmless. Raises BackendUnavailable, CorruptData, WrongLoop."""
        loop = asyncio.get_running_loop()
        if self._forked:
            self._refuse()
        if self._loop is not None and self._loop is not loop and not self._loop.is_closed():
            raise WrongLoop("this store is open on another event loop; open a store of its own on each loop")
        async with self._opening:
            if self._loop is loop:
                return self
            await ready()
            try:
                if self._loop is not None:  # the loop it was open on has ended without close
                    await self._close()
                await self._open()
                if self._space is not None and self.dimension is not None:
                    check_space(self, None, self._space.dimension)
                self.embedding = await service_of(self.embedder)
            except BaseException:
                await self._close()
                raise
            names = ("write", "read", "scan", "count", "match", "nearest", "hybrid", "around", "feed", "namespaces")
            hooks: list[Callable[..., Any]] = [wrap(name, getattr(self, "_" + name), self._layers) for name in names]
            self._do_write, self._do_read, self._do_scan, self._do_count = hooks[:4]
            self._do_match, self._do_nearest, self._do_hybrid, self._do_around, self._do_feed, self._do_namespaces = (
                hooks[4:]
            )
            self._tracker = AccessTracker(self) if self._track_access else None
            self._entrance = asyncio.Semaphore(ENTERING)
            self._searching = asyncio.Semaphore(self.searches_at_once)
            self._residence.settle()
            self._loop = loop
            self._was_open = True
            if self.sweep_interval is not None:
                self._sweeper = loop.create_task(sweep_forever(self, self.sweep_interval))
            _open_stores.add(self)
            _log.info("open", backend=self.name, durability=self.durability, feed=self.feed)
        return self

    async def close(self) -> None:
        """Finish what was accepted and release everything; again is harmless. Watchers end with Closed."""
        if self._loop is None:
            return
        if self._loop is not asyncio.get_running_loop():
            self._refuse()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        try:
            if self._tracker is not None:
                await self._tracker.flush()
        finally:
            self._loop = None
            _open_stores.discard(self)
            for wake in self._watchers:
                wake.set()
            try:
                if self.embedding is not None:
                    await self.embedding.close()
                await self._close()
            finally:
                self.embedding = None
                self._residence.leave()
                _log.info("close", backend=self.name)

    close_sync = blocking(close)

    def _refuse(self) -> None:
        """Why this store cannot be used here and now, raised."""
        if self._forked:
            raise WrongLoop("this store was opened before a fork; open a new one in the child process")
        if self._loop is None:
            state = "is closed" if self._was_open else f"is not open yet: use {TO_OPEN.format('store')}"
            raise Closed(f"this {self.name} store {state}")
        raise WrongLoop(
            "this store belongs to another event loop; open one there, or call its _sync methods from other threads"
        )

    def index_definitions(self) -> dict[str, Any]:
        """The indexes that a server has to be given before the store's questions, in the form it takes them in. Does no
        I/O. Raises UnsupportedOperation where the store makes its own."""
        raise UnsupportedOperation(f"{self.name} makes its indexes itself; there are none to be defined by hand")

    # --- hooks that a backend must implement ---------------------------------------------------

    @property
    @abstractmethod
    def durability(self) -> Durability:
        """What survives after an acknowledged write, as it is configured now."""

    @property
    def location(self) -> str | None:
        """Where the data are: the address that opens them, without its passwords (as ``***``); the same for every open
        store that holds the same data. None: only here."""
        return None

    def _lives_in(self, path: Path) -> bool:
        """Whether this is a file of the store, which nothing else may be written to. Blocking."""
        return False

    def _reads_backup(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes (100 of them) may be one that ``_backup`` wrote."""
        return type(self)._backup is not MemoryStore._backup

    @abstractmethod
    async def _open(self) -> None:
        """Acquire everything; set ``self._seen`` to the highest version issued so far and ``self._space`` to the space of
        the vectors that are stored. May be cancelled."""

    @abstractmethod
    async def _close(self) -> None:
        """Release everything. Also called after a failed or cancelled ``_open``, whatever it had reached."""

    @abstractmethod
    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        """Apply writes in order, each atomically; one result each. Raising means that none was applied.

        For each, within one transaction: 1. a repeat (``floor`` set): if the record or tombstone of the key holds
        the op's token, the first result again (DONE with the stamp); else if its version is above ``floor``,
        UNKNOWN and nothing applied. 2. A live row outside the scope: EXISTS for a Put, MISSING for others.
        3. Expectation: ABSENT but live: EXISTS; a version but absent: MISSING; another version: CONFLICT with a
        row that tells the actual one. Remove or Touch of an absent row: MISSING. 4. Put with ``dedup`` and a live
        row of the same digest: DUPLICATE with that row. 5. Apply, with a version above every earlier one of this
        key, also across deletion. A row that is expired is absent, yet its version still counts. A Put whose vector the
        store's space does not admit: FAILED with EmbeddingMismatch (memory.store.embedding.mismatch); the first
        vector makes the space, in the same transaction.
        ``atomic``: if one cannot be applied none is, and the others are SKIPPED.
        """

    def _floor(self, key: Key) -> int:
        """A version that every write of this key which begins now will be above: the highest this store has seen. A
        backend whose keys do not all share one sequence of versions answers for the sequence of this key."""
        return self._seen

    @abstractmethod
    async def _read(self, op: Read) -> list[Row | None]:
        """Point reads: live rows within the scope, in the order of the keys."""

    @abstractmethod
    async def _scan(self, op: Scan) -> Page:
        """One page of live rows within the scope, in order, after a position."""

    # --- optional hooks ------------------------------------------------------------------------

    async def _count(self, op: Count) -> int | None:
        """How many, or None where only reading them can tell."""
        return None

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        """Namespaces with live rows in scope, in order."""
        return await fallbacks.namespaces(self, op)

    async def _match(self, op: Match) -> Matched:
        """Text candidates: at least the best ``op.limit`` by the text score, and each term's df."""
        return await fallbacks.match(self, op)

    async def _nearest(self, op: Nearest) -> list[Row]:
        """Vector candidates: at least the best ``op.limit`` by cosine."""
        return await fallbacks.nearest(self, op)

    async def _hybrid(self, op: Hybrid) -> Mixed | None:
        """Both in one snapshot, without the records that cannot be among the best; None: ask for one after the other. A
        class that answers ``_match`` or ``_nearest`` otherwise than the backend it inherits from overrides this too."""
        return None

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        """Rows before and after each anchor, nearest first."""
        return await fallbacks.around(self, op)

    async def _attach(self, space: Space, ops: Sequence[Attach]) -> int:
        """Give rows vectors of this space; returns how many still had their version. In the store's own space (or, if it
        has none yet, in what becomes it) a vector is the row's own from now on. In another, for ``reembeds``, it is
        kept aside, in place of any of a third space, until the row is written again or ``_switch``."""
        return await fallbacks.attach(self, space, ops)

    async def _unattached(self, space: Space, after: Key | None, limit: int) -> list[Row]:
        """Rows in key order after a key, expired ones too, that have no vector in this space, own or aside."""
        return await fallbacks.unattached(self, space, after, limit)

    async def _switch(self, space: Space, without: int) -> bool:
        """If all rows but this many have a vector aside in this space: make these the rows' own, drop all others, and
        let the store's space be this one. All or nothing; False when the number differs. Needed by ``reembeds``."""
        raise UnsupportedOperation(f"{self.name} cannot change the embedder of its vectors: export, and import anew")

    async def _feed(self, op: FeedRead) -> Events:
        """Committed changes after a sequence number, in order."""
        raise UnsupportedOperation(f"{self.name} keeps no feed")

    async def _sweep(self, now: int) -> int:
        """Reclaim expired rows (by version), tombstones older than a day and old events; returns the rows removed."""
        return 0

    async def _health(self) -> dict[str, Any]:
        """Plain facts for ``health``; raising means unhealthy. A store with connections tells ``connections_in_use``:
        how many serve a caller just now (0 when nobody waits for an answer)."""
        return {}

    async def _verify(self) -> tuple[int, list[Problem]]:
        """Check everything stored: (records checked, problems)."""
        return await fallbacks.verify(self)

    async def _unlisted(self) -> list[Problem]:
        """What lies where this store keeps its records and is not listed among them, such as another program's documents
        that are no items, each by the key that its name stands for. A migration tells them: nothing is left behind in
        silence."""
        return []

    async def _repair(self) -> RepairReport:
        """Rebuild what is derived from the records and set damaged records aside."""
        return RepairReport(["nothing to rebuild"])

    async def _backup(self, path: Path) -> int | None:
        """A point-in-time copy of the whole store, written and fsynced to a new file: records in it; None: not offered."""
        return None

    def _backup_rows(self, path: Path) -> AsyncIterator[list[Row]]:
        """The rows of a file made by ``_backup``. Raises CorruptData, or UnsupportedOperation for a foreign file."""
        raise UnsupportedOperation(f"{path} is not a backup that {self.name} can read")

    async def _filled(self, op: Scan) -> list[tuple[Row, MemoryItem]]:
        return await filled(self, op)


def _forget_loops() -> None:
    """After a fork the child owns neither loops nor threads: every open store refuses from now on."""
    for store in list(_open_stores):
        store._forked = True
        store._loop = None
        store._residence.forked()


os.register_at_fork(after_in_child=_forget_loops)
