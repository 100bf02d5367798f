"""A member: a store that a composite is made of, behind a circuit breaker; and what members are together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from memory.errors import BackendUnavailable, Closed, DeadlineExceeded, InvalidSetting, MemoryStoreError
from memory.ops import Page, Put, Read, Result, Row, Scan, Space, Status, Write
from memory.store.breaker import Breaker
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.store import Capabilities, Durability, MemoryStore

T = TypeVar("T")
_log = get_logger("composite")
DOWN = (BackendUnavailable, DeadlineExceeded)
"""What says that a member is down or does not answer."""
HOOKS = tuple(
    f"_do_{name}" for name in ("write", "read", "scan", "count", "match", "nearest", "around", "feed", "namespaces")
)
"""What calls of a member go through, once it is open."""
_SAFETY: tuple[Durability, ...] = ("unknown", "none", "process", "power", "replicated")


class Member:
    """One store of a composite, by its name there. Calls go through its breaker; the hooks are those of the open store."""

    def __init__(self, name: str, store: MemoryStore) -> None:
        self.name, self.store = name, store
        self.breaker = Breaker(5, 5.0)  # as the composite's options say, once it is made
        self._under_way = 0
        self._closing: asyncio.Event | None = None
        self._who = f"the member {name!r} ({store.name})"

    async def ask(self, hook: Callable[..., Awaitable[T]], *args: Any) -> T:
        """A call of a hook. Raises what it raises, BackendUnavailable while the breaker is open, and Closed."""
        self._enter()
        try:
            answer = await hook(*args)
        except BaseException as error:
            self._failed(error)
            raise
        self._left(failed=False)
        return answer

    def _enter(self) -> None:
        if self._closing is not None:
            raise Closed(f"{self._who} is closed")
        self.breaker.enter(self.name, self._who)
        self._under_way += 1

    def _failed(self, error: BaseException) -> None:
        """A call ended with an error: one of the store's own says that it answers, a cancellation says nothing."""
        if isinstance(error, MemoryStoreError):
            self._left(failed=isinstance(error, DOWN))
            return
        self.breaker.abandoned()
        self._ended()

    def _left(self, *, failed: bool) -> None:
        self.breaker.left(failed=failed)
        self._ended()

    def _ended(self) -> None:
        self._under_way -= 1
        if self._closing is not None and not self._under_way:
            self._closing.set()

    async def open(self, *, needed: bool = True) -> None:
        """Open the store on the running loop. One that is down and not needed is opened by a later call."""
        self._closing, self._under_way = None, 0
        try:
            await self.store.open()
        except DOWN as error:
            if needed:
                raise
            _log.warning("member not opened", member=self.name, backend=self.store.name, error=error)
            self.breaker.trip()
            for hook in HOOKS:
                setattr(self.store, hook, partial(self._open_first, hook))

    async def _open_first(self, hook: str, *args: Any) -> Any:
        """A hook of a store that was down when it was to be opened."""
        await self.store.open()  # which puts the hooks in place
        return await getattr(self.store, hook)(*args)

    async def close(self) -> None:
        """Take no further calls, wait for those under way, and close the store if it is open on the running loop."""
        if self.store._loop is not asyncio.get_running_loop():
            return  # one whose loop has ended is opened anew
        self._closing = asyncio.Event()
        if self._under_way:
            await self._closing.wait()
        await self.store.close()

    async def read(self, op: Read) -> list[Row | None]:
        """Point reads: as ``ask``, by a shorter way."""
        self._enter()
        try:
            rows: list[Row | None] = await self.store._do_read(op)
        except BaseException as error:
            self._failed(error)
            raise
        self._left(failed=False)
        return rows

    async def scan(self, op: Scan) -> Page:
        """One page."""
        return await self.ask(self.store._do_scan, op)

    async def write(self, ops: Sequence[Write], atomic: bool = False) -> list[Result]:
        """Writes; one result each. What is unknown of all of them counts against the member."""
        self._enter()
        try:
            results: list[Result] = await self.store._do_write(ops, atomic)
        except BaseException as error:
            self._failed(error)
            raise
        seen, unknown = self.store._seen, 0
        for result in results:
            if result.status is Status.UNKNOWN:
                unknown += 1
            elif result.row is not None and result.row.version > seen:
                seen = result.row.version
        self.store._seen = seen
        self._left(failed=0 < unknown == len(results))
        if self.store._space is None:
            for op, result in zip(ops, results, strict=True):
                if type(op) is Put and op.embedding is not None and result.status is Status.DONE:
                    self.store._space = Space(op.embedder, len(op.embedding) // 4)
                    break
        return results

    def told(self) -> dict[str, Any]:
        """Plain facts for ``health``."""
        return {"backend": self.store.name, "durability": self.store.durability, "circuit": self.breaker.state}


def check_member(member: Member, whole: MemoryStore, *, feed: bool) -> None:
    """Raises InvalidSetting for a store that is open, has an embedder or a language of its own, or cannot keep the feed that
    its part needs."""
    store, name = member.store, member.name
    if store._loop is not None:
        raise InvalidSetting(f"the member {name!r} is open; a composite opens its members itself", setting=name)
    if store.embedder is not None:
        raise InvalidSetting(f"the member {name!r} has an embedder; give it to the composite instead", setting=name)
    if store.language not in ("english", whole.language):
        raise InvalidSetting(
            f"the member {name!r} is for {store.language}, the composite for {whole.language}; name one language",
            setting=name,
        )
    if getattr(store, "stale_reads", False):
        raise InvalidSetting(
            f"the member {name!r} ({store.name}) has stale_reads, and {whole.name} would pass on, or keep, what is stale as if it "
            "were not; leave stale_reads out there: only the outermost store can have it",
            setting=name,
        )
    if feed and not store.capabilities.feed:
        raise InvalidSetting(
            f"the member {name!r} ({store.name}) cannot keep a feed, which its part here needs; choose another backend",
            setting=name,
        )


def adopt(member: Member, whole: MemoryStore, *, feed: bool) -> None:
    """Give a store that is about to be opened the clock, the language and the declared fields of the whole."""
    store = member.store
    store._clock, store.injected_clock = whole._clock, whole.injected_clock
    store.language, store.sweep_interval = whole.language, None
    store.index = whole.index or store.index
    store.feed, store.feed_retention = store.feed or feed, whole.feed_retention


def together(stores: Iterable[MemoryStore], **differently: Any) -> Capabilities:
    """What stores can do together: what each of them can; the tightest of their limits."""
    all_of = [store.capabilities for store in stores]
    flags = ("persistent", "shared", "atomic_batches", "feed", "reembeds", "snapshots", "namespaces")
    forbidden = [one.forbidden_ids for one in all_of if one.forbidden_ids]
    told: dict[str, Any] = {
        **{flag: all(getattr(one, flag) for one in all_of) for flag in flags},
        "indexes_terms": any(one.indexes_terms for one in all_of),
        "forbidden_ids": "|".join(f"(?:{one})" for one in dict.fromkeys(forbidden)),
        "max_dimension": min(one.max_dimension for one in all_of),
        "recall": min(one.recall for one in all_of),
        "staleness": max(one.staleness for one in all_of),
    }
    return msgspec.structs.replace(all_of[0], **{**told, **differently})


def weakest(stores: Iterable[MemoryStore]) -> Durability:
    """What survives wherever an item lies."""
    told = {store.durability for store in stores}
    return next(level for level in _SAFETY if level in told)
