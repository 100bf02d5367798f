"""How the sqlite backend reads: filters as SQL against the reference, ways to a page, searches against the rule."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory import F, ManualClock, MemoryItem
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore, compiling, matching, postings, scanning
from memory.backends.sqlite.compiling import Sql
from memory.backends.sqlite.indexing import flush_pending
from memory.backends.sqlite.pace import Pace
from memory.backends.sqlite.postings import Judged, Memo
from memory.errors import CorruptData
from memory.filters import evaluate, parse
from memory.testing.heartbeat import assert_calm

NAMES = ['a"b', "$", "[0]", ".", "a\\b", "a.b", "é", " ", "a\tb", "*", "#-1", "x", "a\0b", "😀", "'", "--", "?1"]
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        1.0,
        1.5,
        -0.0,
        1e308,
        5e-324,
        2**53,
        2**53 + 1,
        float(2**53),
        2**63 - 1,
        -(2**63),
    ),
    *("", "a", "ab", "a\0b", "b", "A", "é", "\U0010ffff", "1", "true", "null", "x" * 300, "x" * 256),
    *([], ["a"], [1], [1.0, True, None], [[1]], {}, {"a": 1}),
]
ORDERED = ("gt", "gte", "lt", "lte")


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    json_path = st.builds(
        lambda root, names: ".".join([root, *(n.replace("\\", "\\\\").replace(".", "\\.") for n in names)]),
        st.sampled_from(["metadata", "content"]),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=2),
    )
    value = st.sampled_from(VALUES)
    comparison = st.one_of(
        st.builds(lambda op, v: {f"${op}": v}, st.sampled_from(["eq", "ne", *ORDERED, "contains"]), value),
        st.builds(lambda op, vs: {f"${op}": vs}, st.sampled_from(["in", "nin"]), st.lists(value, max_size=4)),
        st.builds(lambda v: {"$exists": v}, st.booleans()),
        st.builds(lambda v: {"$startswith": v}, st.sampled_from(["", "a", "x" * 250, "\U0010ffff", "é"])),
    )
    plain = st.sampled_from(["kind", "user_id", "id", "importance", "tags", "access_count", "version", "text"])
    moment = st.sampled_from([datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s) for s in (-1, 0, 1)])
    times = st.builds(
        lambda field, op, v: {field: {f"${op}": v}},
        st.sampled_from(["created_at", "updated_at", "expires_at"]),
        st.sampled_from(["eq", "ne", *ORDERED]),
        moment,
    )
    return st.one_of(st.builds(lambda path, c: {path: c}, st.one_of(json_path, plain), comparison), times)


FILTERS = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.builds(lambda a: {"$and": a}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda a: {"$or": a}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda a: {"$not": a}, inner),
    ),
    max_leaves=5,
)


def population() -> list[MemoryItem]:
    items = []
    for i, value in enumerate(VALUES):
        name = NAMES[i % len(NAMES)]
        items.append(
            MemoryItem(
                id=f"{i:03}",
                content={name: value, "x": VALUES[(i * 7) % len(VALUES)]},
                metadata={name: value, "x": {name: value}, "a.b": VALUES[(i * 3) % len(VALUES)]} if i % 5 else {},
                kind=["a", "ab", "note", "é"][i % 4],
                user_id=[None, "a", "b"][i % 3],
                tags=[(), ("a",), ("a", "x" * 200)][i % 3],
                importance=[0.5, 0.0, 1.0, 0.25][i % 4],
                text=None if i % 2 else "a",
                created_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=i % 3 - 1),
                expires_at=None if i % 2 else datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=1 + i),
            )
        )
    return items


@pytest.mark.parametrize(
    "declared", [(), ("metadata.x", 'metadata.a"b', "metadata.a\\.b", "metadata.é")], ids=["plain", "declared"]
)
def test_every_filter_finds_what_the_reference_evaluator_finds(declared: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = SqliteStore(Path(place) / "m.db", index=declared, clock=ManualClock(), sweep_interval=None)
        with store:
            store.put_many_sync(population())
            everything = list(store.list_sync(limit=1000))
            assert len(everything) == len(VALUES)

            @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
            @given(FILTERS, st.sampled_from(["key", "-key", "created_at", "-importance", "-updated_at", "importance"]))
            def agrees(where: dict[str, Any], order: str) -> None:
                tree = parse(where)
                expected = {item.id for item in everything if evaluate(tree, item)}
                found = [item.id for item in store.list_sync(where, order=order, limit=1000)]
                assert set(found) == expected
                assert len(found) == len(expected)
                assert store.count_sync(where) == len(expected)

            agrees()


def test_a_filter_with_very_many_parts_is_no_expression_too_deep_for_sqlite(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        store.put_sync(MemoryItem(content="x", id="a", metadata={"n": 500}))
        where = {"$or": [{"metadata.n": i} for i in range(900)]}
        assert [item.id for item in store.list_sync(where)] == ["a"]
        assert [item.id for item in store.list_sync({"metadata.n": {"$in": list(range(900))}})] == ["a"]


def test_floats_in_json_reach_sqlite_exactly(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        values = [0.1, 1 / 3, 2.0**-1074, 1.7976931348623157e308, 123456789.123456789, 1e23, 9007199254740993.0]
        store.put_many_sync([MemoryItem(content="x", id=f"{i}", metadata={"f": v}) for i, v in enumerate(values)])
        for i, value in enumerate(values):
            assert [item.id for item in store.list_sync(F.metadata.f == value)] == [f"{i}"]


async def test_no_name_or_value_becomes_query_text() -> None:
    fields: dict[tuple[str, ...], int] = {("metadata", "x"): 1}
    nasty = "'; DROP TABLE items; --"
    for where in ({f"metadata.{nasty}": nasty}, {"kind": nasty}, {"metadata.x": nasty}, {"tags": {"$contains": nasty}}):
        said = compiling.compile_filter(parse(where), fields)
        assert said.predicate is not None
        assert "DROP" not in said.predicate.text


ORDERS = ("key", "-key", "created_at", "-created_at", "updated_at", "-accessed_at", "importance", "-importance")


@pytest.mark.parametrize(
    "where",
    [
        None,
        {"kind": "a"},
        {"kind": "rare"},
        {"tags": {"$contains": "half"}},
        {"tags": {"$contains": "few"}},
        {"metadata.n": {"$lt": 30}},
        {"metadata.n": 7, "kind": "a"},
        {"importance": {"$gt": 0.6}},
        {"importance": 0.5},
        {"created_at": {"$gte": "2026-01-01T00:00:10Z"}},
        {"expires_at": {"$lt": "2026-02-01T00:00:00Z"}},
        {"session_id": "s3", "user_id": "u1"},
    ],
)
async def test_pages_by_every_way_are_those_of_the_reference(tmp_path: Path, where: Any) -> None:
    clock = ManualClock()
    options: dict[str, Any] = {"clock": clock, "sweep_interval": None, "index": ("metadata.n",)}
    async with SqliteStore(tmp_path / "m.db", **options) as store, InMemoryStore(**options) as reference:
        for chunk in range(4):
            items = [
                MemoryItem(
                    content="x",
                    id=f"{(i * 7919) % 1000:04}",
                    namespace=(f"t{i % 3}", f"s{i % 2}") if i % 4 else (f"t{i % 3}",),
                    kind="rare" if i % 97 == 0 else "ab"[i % 2],
                    tags=("half",) * (i % 2) + ("few",) * (i % 101 == 0),
                    importance=[0.5, 0.5, 0.9, 0.1, 0.7][i % 5],
                    metadata={"n": i % 50},
                    user_id=f"u{i % 3}",
                    session_id=f"s{i % 11}",
                    expires_at=clock_time(clock, 5 + i % 40) if i % 6 == 0 else None,
                )
                for i in range(chunk * 250, chunk * 250 + 250)
            ]
            for target in (store, reference):
                await target.put_many(items)
                if chunk == 2:
                    await target.touch("0000", namespace=("t0",))
            clock.advance(7)
        for scope in ({}, {"under": ("t1",)}, {"namespace": ("t1", "s1")}):
            for order in ORDERS:
                expected = await pages(reference, where, order, scope)
                assert await pages(store, where, order, scope) == expected, order
                assert await store.count(where, **scope) == len(expected)
        assert await store.namespaces() == await reference.namespaces()


def clock_time(clock: ManualClock, seconds: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=0 * clock())


async def pages(store: Any, where: Any, order: str, scope: dict[str, Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    cursor = None
    while True:
        page = await store.list(where, order=order, limit=90, cursor=cursor, **scope)
        found += [item.key for item in page]
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("order", ["key", "-created_at"])
async def test_a_declared_fields_damaged_column_brings_no_record_of_another_value(tmp_path: Path, order: str) -> None:
    async with SqliteStore(tmp_path / "m.db", index=("metadata.n",)) as store:
        await store.put_many([MemoryItem(content="x", id=f"{i:03}", metadata={"n": i % 3}) for i in range(300)])
        db = apsw.Connection(str(tmp_path / "m.db"))
        db.execute("UPDATE items SET f1 = 1 WHERE f1 = 2")
        db.close()
        found = await pages(store, {"metadata.n": 1}, order, {})
        assert sorted(id for _, id in found) == [f"{i:03}" for i in range(1, 300, 3)]


@pytest.mark.parametrize("mode", ["text", "vector", "hybrid"])
async def test_a_search_does_not_take_a_damaged_columns_record(tmp_path: Path, mode: Any) -> None:
    async with SqliteStore(tmp_path / "m.db", index=("metadata.n",)) as store:
        await store.put_many(
            [MemoryItem(content="x", id=f"{i:03}", metadata={"n": i % 3}, embedding=[1.0, i]) for i in range(300)]
        )
        db = apsw.Connection(str(tmp_path / "m.db"))
        db.execute("UPDATE items SET f1 = 1 WHERE f1 = 2")
        db.close()
        with pytest.raises(CorruptData):
            await store.search(
                None if mode == "vector" else "x",
                vector=None if mode == "text" else [1.0, 0.5],
                mode=mode,
                where={"metadata.n": 1},
            )


async def test_a_read_that_would_wait_or_grows_long_goes_to_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put_many(
            [MemoryItem(content="x", id=f"{i:05}", kind="a", user_id=f"u{i % 2}") for i in range(3000)]
        )
        asked: list[str] = []
        real = store._read_in

        async def watched(call: Any, *args: Any) -> Any:
            asked.append(call.__name__)
            return await real(call, *args)

        monkeypatch.setattr(store, "_read_in", watched)
        assert (await store.get("00001")) is not None
        assert len(await store.list(limit=5)) == 5
        assert asked == [], "short reads run on the loop"
        for error in (apsw.BusyError("busy"), apsw.LockedError("locked")):

            def busy(*args: Any, error: Exception = error, patient: bool = True) -> Any:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(scanning, "scan", busy)
                with pytest.raises(Exception, match="process"):
                    await store.list(limit=5)
            assert asked.pop() == "busy"
        monkeypatch.setattr("memory.backends.sqlite.backend.INLINE_SECONDS", -1.0)
        where = {"$and": [{"kind": "a"}, {"user_id": "u1"}, {"version": {"$gt": 2_990}}]}
        assert len(await store.list(where, limit=5)) == 5
        assert asked == ["scan"]
        assert len(await store.get_many([f"{i:05}" for i in range(40)])) == 40
        assert asked[-1] == "read_rows", "many keys are no work for the loop"


async def test_searches_come_back_to_the_loop_when_they_are_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put_many([MemoryItem(content="marmot", id=f"{i}", embedding=[1.0, i]) for i in range(20)])
        asked: list[Any] = []
        real = store._read_in

        async def watched(call: Any, *args: Any) -> Any:
            asked.append(args[0])
            return await real(call, *args)

        monkeypatch.setattr(store, "_read_in", watched)
        monkeypatch.setattr("memory.backends.sqlite.backend.SHORT", 60.0)  # none gives up because others had the core
        for how in ({"query": "marmot"}, {"vector": [1.0, 0.0]}, {"query": "marmot", "neighbours": 1}):
            pace = Pace()
            monkeypatch.setattr(store, "_match_pace", pace)
            monkeypatch.setattr(store, "_nearest_pace", pace)
            monkeypatch.setattr(store, "_around_pace", pace)
            found = [hit.item.id for hit in await store.search(**how)]
            assert asked, "the first one is the thread's"
            for _ in range(40):
                await store.search(**how)
            asked.clear()
            assert [hit.item.id for hit in await store.search(**how)] == found
            assert not asked
        for _ in range(8):
            store._match_pace.gave_up()
        await store.search("marmot")
        assert asked == [matching.match], "while they take long, they are the thread's"


async def test_what_passed_a_filter_is_forgotten_with_the_next_write(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        SqliteStore(tmp_path / "m.db", clock=clock, sweep_interval=None) as store,
        SqliteStore(tmp_path / "m.db", clock=clock, sweep_interval=None) as other,
    ):
        await store.put_many(
            [MemoryItem(content="marmot burrow", id=f"{i}", importance=0.9 if i % 2 else 0.1) for i in range(6)]
        )

        async def found(query: str = "marmot burrow") -> set[str]:
            return {hit.item.id for hit in await store.search(query, where={"importance": {"$gt": 0.5}})}

        for _ in range(2):
            assert await found() == {"1", "3", "5"}
        await store.update("1", importance=0.2)
        assert await found() == {"3", "5"}
        await other.update("2", importance=0.8)
        await other.put(MemoryItem(content="marmot", id="3", importance=0.7), ttl=10)
        assert await found() == {"2", "3", "5"}
        clock.advance(10)
        assert await found() == {"2", "5"}, "time passes without a write"
        assert await found("burrow marmot alpine") == {"2", "5"}


async def test_searches_of_common_terms_follow_the_rule_of_the_newest_thousand(tmp_path: Path) -> None:
    clock = ManualClock()
    options: dict[str, Any] = {"clock": clock, "sweep_interval": None}
    async with SqliteStore(tmp_path / "m.db", **options) as store, InMemoryStore(**options) as reference:
        for chunk in range(6):
            items = [
                MemoryItem(
                    content=f"common words {'common ' * (i % 12)} {'rare' if i % 61 == 0 else ''} filler{i % 9}",
                    id=f"{(i * 7919) % 5000:04}",
                    user_id=f"u{i % 3}",
                    importance=0.9 if i % 2 else 0.5,
                    expires_at=clock_time(clock, 200) if i % 10 == 0 else None,
                )
                for i in range(chunk * 400, chunk * 400 + 400)
            ]
            for target in (store, reference):
                await target.put_many(items)
            clock.advance(0.02 if chunk % 2 else 30)
        for moment in range(2):
            for query in (
                "common",
                "common words",
                "rare common",
                "filler3 words rare",
                "words filler1 filler2",
                "nothing",
            ):
                for extra in (
                    {},
                    {"where": {"importance": {"$gt": 0.6}}},
                    {"where": {"user_id": "u1"}},
                    {"neighbours": 1},
                ):
                    for limit in (1, 15):
                        mine = await store.search(query, limit=limit, explain=True, **extra)
                        theirs = await reference.search(query, limit=limit, explain=True, **extra)
                        assert [(h.item.id, h.score, h.components) for h in mine] == [
                            (h.item.id, h.score, h.components) for h in theirs
                        ], (moment, query, extra, limit)
            clock.advance(200)
        await store.delete_many([f"{i:04}" for i in range(0, 5000, 3)])
        await reference.delete_many([f"{i:04}" for i in range(0, 5000, 3)])
        assert [h.item.id for h in await store.search("common rare", limit=100)] == [
            h.item.id for h in await reference.search("common rare", limit=100)
        ]


@pytest.mark.parametrize("year", [1, 1900, 2090, 9000])
async def test_the_newest_thousand_of_the_years_that_share_a_bucket(year: int, tmp_path: Path) -> None:
    """Before 2010 and from 2081 on all records share one bucket each, and come in any order of creation."""
    options: dict[str, Any] = {"clock": ManualClock(), "sweep_interval": None}
    start = datetime(year, 1, 1, tzinfo=UTC)
    async with SqliteStore(tmp_path / "m.db", **options) as store, InMemoryStore(**options) as reference:
        for chunk in range(3):
            items = [
                MemoryItem(
                    content=f"common words filler{i % 9}",
                    id=f"{i:04}",
                    importance=0.9 if i % 2 else 0.5,
                    created_at=start + timedelta(hours=i * 7919 % 1500),
                )
                for i in range(chunk * 500, chunk * 500 + 500)
            ]
            for target in (store, reference):
                await target.put(items[0])
                await target.put_many(items[1:])
        for query in ("common", "common filler3", "words filler1 filler2"):
            for extra in ({}, {"where": {"importance": {"$gt": 0.4}}}, {"neighbours": 1}):
                mine = await store.search(query, limit=200, **extra)
                theirs = await reference.search(query, limit=200, **extra)
                assert [(h.item.id, h.score) for h in mine] == [(h.item.id, h.score) for h in theirs], (query, extra)
        assert (await store.verify()).ok
        await store.repair()
        assert (await store.verify()).ok


async def test_with_very_many_expired_records_searches_stay_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "MANY_EXPIRED", 50)
    clock = ManualClock()
    async with SqliteStore(tmp_path / "m.db", clock=clock, sweep_interval=None) as store:
        await store.put_many([MemoryItem(content="marmot", id=f"old{i}") for i in range(100)], ttl=5)
        await store.put_many([MemoryItem(content="marmot", id=f"new{i}") for i in range(20)])
        clock.advance(10)
        assert len(await store.search("marmot", limit=50)) == 20
        assert await store.count() == 20
        assert await store.sweep() == 100
        assert len(await store.search("marmot", limit=50)) == 20
        assert (await store.verify()).ok


async def test_gets_stay_fast_while_the_store_is_verified_and_filled(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put_many([MemoryItem(content=f"some text number {i}", id=f"{i}") for i in range(3000)])

        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(store.verify())
                group.create_task(
                    store.put_many([MemoryItem(content=f"more text {i}", id=f"more{i}") for i in range(1000)])
                )
                slowest = 0.0
                for i in range(50):
                    started = time.perf_counter()
                    assert await store.get(f"{i}") is not None
                    slowest = max(slowest, time.perf_counter() - started)
                    await asyncio.sleep(0.001)

        await assert_calm(work)


async def test_a_cancelled_long_read_is_interrupted(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
        task = asyncio.create_task(store._read_in(lambda db: db.execute(endless).get))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            assert await store.count() == 0, "the reader is free again"


def test_a_prefix_has_a_least_string_above_it() -> None:
    assert compiling.after_prefix("a") == "b"
    assert compiling.after_prefix("a\U0010ffff") == "b"
    assert compiling.after_prefix("\ud7ff") == "\ue000", "surrogates are skipped"
    assert compiling.after_prefix("\U0010ffff") is None
    assert compiling.after_prefix("") is None


async def test_a_read_that_is_given_up_leaves_no_transaction(tmp_path: Path) -> None:
    """Not even where the statement that ends it is what was given up."""

    def long(db: apsw.Connection) -> int:
        db.execute("BEGIN")
        return int(
            db.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 99999) SELECT max(i) FROM n"
            ).get
        )

    async with SqliteStore(tmp_path / "m.db") as store:
        for _ in range(2):
            assert store._at_once(long, seconds=-1.0) is None
        assert store._direct is not None
        assert not store._direct.in_transaction
        assert store._at_once(lambda db: db.execute("SELECT 7").get) == 7


def test_what_searches_remember_of_one_version_is_never_taken_for_anothers() -> None:
    """Two threads search in snapshots of different versions: here the second gets its turn in the middle of the first's."""
    memo, asked, condition = Memo(), ("a", 0, 1, -1), Sql("x")

    class Interrupted(list[int]):
        def __len__(self) -> int:
            memo.put(6, ("b", 0, 1, -1), np.array([6]))
            memo.judge(6, Sql("y"), Judged(np.array([6]), np.array([6])))
            return 1

    memo.put(5, asked, Interrupted([5]))  # type: ignore[arg-type]
    memo.judge(5, condition, Judged(Interrupted([5]), np.array([5])))  # type: ignore[arg-type]
    assert memo.get(6, asked) is None
    assert memo.judged(6, condition) is None


async def test_texts_that_reach_the_index_without_a_new_version_are_found_once(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", sweep_interval=None) as store:
        await store.put_many([MemoryItem(id=id, content="a marmot and an eagle") for id in "abc"])
        assert len(await store.search("marmot")) == 3  # remembers what waits for the index
        db = apsw.Connection(str(tmp_path / "m.db"))
        assert db.execute("SELECT count(*) FROM pending").fetchall() == [(3,)]
        with db:
            flush_pending(db)
        db.close()
        assert [hit.item.id for hit in await store.search("eagle")] == ["a", "b", "c"]
        assert len(await store.search("marmot eagle")) == 3


async def test_a_page_asked_for_again_prepares_no_statement(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", index=("metadata.topic",), sweep_interval=None) as store:
        await store.put_many([MemoryItem(content="x", metadata={"topic": f"t{n % 3}"}) for n in range(12)])
        prepared: list[int] = []

        def note(operation: int, *_: object) -> int:
            prepared.append(operation)
            return apsw.SQLITE_OK

        assert store._direct is not None
        store._direct.authorizer = note  # asked by SQLite of each statement that it prepares
        assert len((await store.list({"metadata.topic": "t1"}, limit=2)).items) == 2
        assert prepared
        prepared.clear()
        assert len((await store.list({"metadata.topic": "t2"}, limit=3)).items) == 3
        assert not prepared
