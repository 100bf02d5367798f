"""What every part of the contract shares: how stores are made and closed, the fixtures, small helpers."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import pytest_asyncio

from memory.clock import ManualClock
from memory.errors import WrongLoop
from memory.layers import Hook
from memory.model import DEFAULT_NAMESPACE, MemoryItem
from memory.ops import Result, Status
from memory.store import MemoryStore, View
from memory.testing import heartbeat
from memory.testing.heartbeat import Heartbeat, limit_now, slowness

if TYPE_CHECKING:
    from memory.filters import Where

Make = Callable[..., MemoryStore]
"""``make(**options)``: a store, not opened yet, on this test's place and clock; closed when the test ends."""


Store = MemoryStore | View
Sentence = Callable[..., Coroutine[Any, Any, None]]


class Bench:
    """One test's stores. The fixtures are made of it, and so are runs without pytest (tests of the suite itself)."""

    def __init__(self, suite: Suite, place: Path, clock: ManualClock) -> None:
        self.suite, self.place, self.clock = suite, place, clock
        self._made: list[MemoryStore] = []

    def make(self, **options: Any) -> MemoryStore:
        """See ``Make``."""
        options = {"clock": self.clock, "sweep_interval": None, **options}
        if self.suite.calm:
            options["layers"] = (breathing, *options.get("layers", ()))
        store = self.suite.wrap(self.suite.make_store(self.place, **options))
        self._made.append(store)
        return store

    async def store(self) -> MemoryStore:
        """The store most sentences are about: open, with a feed where the backend can keep one."""
        first = self.make()
        if first.capabilities.feed:
            first = self.make(feed=True)
        return self.suite.seen(await first.open())

    async def close(self) -> None:
        """Close every store, the newest first."""
        for store in reversed(self._made):
            try:
                await store.close()
            except WrongLoop:
                pass  # the loop that owned it has ended, and its connections with it
        await self.suite.discard(self.place)

    @classmethod
    def of(cls, suite: Suite) -> Bench:
        """A bench with a clock of its own, in a place to be set."""
        return cls(suite, Path(), ManualClock())

    async def fixtures(self, sentence: Callable[..., Any]) -> dict[str, Any]:
        """The arguments that a sentence asks for."""
        wanted = inspect.signature(sentence).parameters
        offered: dict[str, Any] = {"make": self.make, "clock": self.clock, "place": self.place}
        if "store" in wanted:
            offered["store"] = await self.store()
        return {name: offered[name] for name in wanted if name != "self"}

    async def run(self, name: str) -> None:
        """Run the sentence of this name on fresh stores."""
        sentence = getattr(self.suite, name)
        try:
            await sentence(**await self.fixtures(sentence))
        finally:
            await self.close()


class Suite:
    """Base of every part. A backend's test class says how a store is made; the rest can stay as it is."""

    pytestmark = pytest.mark.asyncio
    calm = False
    """True in a subclass: its sentences run beside a heartbeat, and fail where the store holds the loop for 10 ms."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__dict__.get("calm"):
            for name in sentences(cls):
                sentence = getattr(cls, name)
                if not hasattr(sentence, "busy"):
                    setattr(cls, name, beside_a_heartbeat(name, sentence))

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        """A store, not opened yet. ``place`` is an empty directory of this test: the same place means the same data.

        ``options`` are those of MemoryStore (clock, feed, dimension, source, layers...); hand them on. A server
        backend derives a name from the place and keeps everything of this test under it.
        """
        raise NotImplementedError("say how a store of this backend is made: def make_store(self, place, **options)")

    async def discard(self, place: Path) -> None:
        """Remove what this test left behind, where deleting the directory ``place`` is not enough."""

    def wrap(self, store: MemoryStore) -> MemoryStore:
        """What the sentences see instead of a store."""
        return store

    def seen(self, store: MemoryStore) -> MemoryStore:
        """What the sentences see instead of an opened store."""
        return store

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of this test."""
        return ManualClock()

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """Where this test's data is."""
        return tmp_path

    @pytest_asyncio.fixture
    async def bench(self, place: Path, clock: ManualClock) -> AsyncIterator[Bench]:
        """This test's stores."""
        bench = Bench(self, place, clock)
        yield bench
        await bench.close()

    @pytest_asyncio.fixture
    async def make(self, bench: Bench) -> Make:
        """Makes further stores."""
        return bench.make

    @pytest_asyncio.fixture
    async def store(self, bench: Bench) -> MemoryStore:
        """An open store."""
        return await bench.store()


def breathing(name: str, hook: Hook) -> Hook:
    """A layer that lets other tasks run after each operation: what is measured is the store's, not the sentence's."""

    async def breathe(*args: Any) -> Any:
        result = await hook(*args)
        await asyncio.sleep(0)
        return result

    return breathe


def busy(sentence: Sentence) -> Sentence:
    """Marks a sentence whose own work, not the store's, holds the loop (or that measures by itself)."""
    sentence.busy = True  # type: ignore[attr-defined]
    return sentence


def beside_a_heartbeat(name: str, sentence: Sentence, tries: int = 5) -> Sentence:
    """The sentence beside a heartbeat. A silence may be the machine's: it counts when it comes back in every try, alone."""

    @functools.wraps(sentence)
    async def run(self: Suite, *args: Any, **named: Any) -> None:
        async with Heartbeat() as heart:
            await sentence(self, *args, **named)
        worst = [heart.worst]
        if _calm(heart.worst):
            return
        with heartbeat.alone():
            while len(worst) < tries:
                worst.append(await _worst(self, sentence))
                if _calm(worst[-1]):
                    return
        shown = ", ".join(f"{silence * 1000:.1f}" for silence in worst)
        raise AssertionError(f"{name}: the event loop was held for {shown} ms")

    return run


async def _worst(suite: Suite, sentence: Sentence) -> float:
    """The longest silence beside a sentence on fresh stores."""
    plain = Bench.of(suite)
    with tempfile.TemporaryDirectory() as folder:
        plain.place = Path(folder)
        offered = await plain.fixtures(sentence)
        gc.collect()
        await asyncio.sleep(0)
        try:
            async with Heartbeat() as heart:
                await sentence(suite, **offered)
        finally:
            await plain.close()
    return heart.worst


def _calm(silence: float) -> bool:
    """Whether a silence is no longer than allowed, on a machine as slow as this one is just now."""
    limit = limit_now()
    return silence < limit or silence < limit * slowness()


def sentences(suite: type[Suite]) -> list[str]:
    """The names of all sentences of a suite."""
    return sorted(name for name in dir(suite) if name.startswith("test_"))


def needs(store: Store, capability: str) -> None:
    """Skip the sentence where the backend does not declare the capability."""
    if not getattr(whole(store).capabilities, capability):
        pytest.skip(f"{whole(store).name} does not declare {capability}")


def home(store: Store, *path: str) -> tuple[str, ...]:
    """This namespace, for a sentence that only happens to use one: the default one where the backend has no other."""
    return path if whole(store).capabilities.namespaces else DEFAULT_NAMESPACE


def possible(store: Store, ids: Iterable[str]) -> list[str]:
    """The ids, but for those that the backend declares it cannot hold, each once."""
    forbidden = whole(store).capabilities.forbidden_ids
    return [id for id in dict.fromkeys(ids) if not (forbidden and re.fullmatch(forbidden, id))]


def item(id: str = "a", content: Any = "text", **fields: Any) -> MemoryItem:
    """An item, said shortly."""
    return MemoryItem(id=id, content=content, **fields)


async def walk(store: Store, where: Where = None, *, limit: int = 100, **options: Any) -> list[MemoryItem]:
    """All items of a list, page by page; every page but the last must be full."""
    found: list[MemoryItem] = []
    cursor: str | None = None
    while True:
        page = await store.list(where, limit=limit, cursor=cursor, **options)
        found += page.items
        if page.cursor is None:
            return found
        assert len(page) == limit, "only the last page may be short"
        cursor = page.cursor


async def ids(store: Store, where: Where = None, **options: Any) -> list[str]:
    """The ids of a list, in its order."""
    return [found.id for found in await walk(store, where, **options)]


async def answers(
    ask: Callable[[Any], Coroutine[Any, Any, Any]], questions: Sequence[Any], together: int = 16
) -> list[Any]:
    """What is answered to each question, some being asked together: alone, each would wait for the way to a server and back."""
    found: list[Any] = []
    for start in range(0, len(questions), together):
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(question)) for question in questions[start : start + together]]
        found += [task.result() for task in asked]
    return found


async def put_all(store: MemoryStore, items: Iterable[MemoryItem]) -> list[MemoryItem]:
    """Write items and return them as stored."""
    return await store.put_many(list(items))


def body(found: MemoryItem | None) -> dict[str, Any]:
    """What the caller said of an item, and its vector: everything but what the store stamps, version and times."""
    assert found is not None
    stamped = ("version", "created_at", "updated_at", "accessed_at", "expires_at", "access_count")
    return {name: value for name, value in found.to_dict().items() if name not in stamped}


def stamp(found: MemoryItem | None) -> tuple[Any, ...]:
    """The times and counts of an item."""
    assert found is not None
    return (found.created_at, found.updated_at, found.accessed_at, found.expires_at, found.access_count)


def exact(value: Any) -> str:
    """A JSON value with its types, its zeros' signs and every character; the order of keys does not count."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name!a}:{exact(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(exact, value)) + "]"
    return ascii(value)


class Tap:
    """A layer that counts calls of the hooks and can lose writes or their replies, as a bad network does.

    ``replies``: how many writes from now on are applied without anybody learning of it. ``requests``: how many never
    arrive. Both come back UNKNOWN, as from a driver whose connection broke.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.replies = self.requests = 0

    def __call__(self, name: str, hook: Hook) -> Hook:
        """The hook, watched."""

        async def watched(*args: Any) -> Any:
            self.calls.append(name)
            if name == "write" and self.requests:
                self.requests -= 1
                return [Result(Status.UNKNOWN) for _ in args[0]]
            result = await hook(*args)
            if name == "write" and self.replies:
                self.replies -= 1
                return [Result(Status.UNKNOWN) for _ in args[0]]
            return result

        return watched


def whole(store: Store) -> MemoryStore:
    """The store itself, where a view or a twin hides it: for its options and capabilities."""
    return cast("MemoryStore", getattr(store, "_store", store))


async def settle(seconds: float, ready: Callable[[], Any]) -> None:
    """Wait until the coroutine function ``ready`` is true, at most so long on the real clock."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await ready():
        assert asyncio.get_running_loop().time() < deadline, f"this did not come true within {seconds:g} s"
        await asyncio.sleep(0.005)


async def agrees(store: Store, ready: Callable[[], Any]) -> None:
    """Assert that the coroutine function ``ready`` is true of a store that others write to: at once, or as soon as it declares."""
    staleness = whole(store).capabilities.staleness
    if staleness:
        await settle(staleness + 5, ready)
    assert await ready()
