"""How the sqlite backend writes: groups, savepoints, cancellation, numbers, overwriting in place."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from memory import BatchError, ManualClock, MemoryItem
from memory.backends.sqlite import SqliteStore, indexing, queueing
from memory.backends.sqlite import writer as writing
from memory.backends.sqlite.planning import prepared
from memory.backends.sqlite.workers import Breather
from memory.errors import Closed, CorruptData, MemoryStoreError, Overloaded, UnknownOutcome
from memory.ops import Put


def commits(store: SqliteStore) -> list[int]:
    """A list that grows by one for each commit from now on."""
    seen: list[int] = []
    db = store._writing().worker.db
    assert db is not None
    db.set_commit_hook(lambda: bool(seen.append(1)))
    return seen


@pytest.mark.parametrize("on_a_loop", [True, False])
def test_only_where_no_loop_runs_a_thread_pauses_for_one(on_a_loop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)

    def work() -> None:
        breather = Breather()
        until = time.perf_counter() + 0.005
        while time.perf_counter() < until:
            breather.breathe()

    async def loop() -> None:
        work()

    # So the thread is called in which a twin's own loop runs.
    thread = threading.Thread(target=(lambda: asyncio.run(loop())) if on_a_loop else work, name="memory-loop")
    thread.start()
    thread.join()
    assert bool(slept) is not on_a_loop


async def test_the_thread_frees_what_it_has_written_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []

    def let_go(group: list[queueing.Request]) -> None:
        for request in group:
            ops = request.unit.ops
            monkeypatch.setattr(queueing.Breather, "breathe", lambda _: left.append(len(ops)))  # noqa: B023 - of this one
            queueing.let_go([request])

    monkeypatch.setattr(writing, "let_go", let_go)
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put_many([MemoryItem(content=f"{i}") for i in range(100)])
    assert left == [84, 68, 52, 36, 20, 4, 0]


async def test_writes_of_one_turn_share_a_transaction(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="x"))
        seen = commits(store)
        async with asyncio.TaskGroup() as group:
            for i in range(200):
                group.create_task(store.put(MemoryItem(content=f"text {i}", id=f"{i}")))
        assert len(seen) <= 5
        assert await store.count() == 201


async def test_an_item_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="x", id="before"))
        db = apsw.Connection(str(tmp_path / "m.db"))
        db.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON items WHEN NEW.kind = 'bad' BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
        with pytest.raises(BatchError) as caught:
            await store.put_many(
                [MemoryItem(content="y", id=f"{i}", kind="bad" if i == 3 else "note") for i in range(10)]
            )
        assert list(caught.value.errors) == [3]
        assert await store.count() == 10
        with pytest.raises(BatchError):
            await store.put_many(
                [MemoryItem(content="z", id=f"z{i}", kind="bad" if i == 3 else "note") for i in range(5)], atomic=True
            )
        assert await store.count() == 10, "of an atomic batch nothing is written"
        db.execute("DROP TRIGGER refuse")
        db.close()
        assert (await store.verify()).ok


async def test_a_queued_write_whose_caller_is_cancelled_is_withdrawn(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="x", id="a"))
        gate = threading.Event()
        blocked = asyncio.create_task(store._writing().worker.run(lambda db: gate.wait(10)))
        await asyncio.sleep(0.02)
        kept = asyncio.create_task(store.put(MemoryItem(content="y", id="kept")))
        dropped = asyncio.create_task(store.put(MemoryItem(content="y", id="dropped")))
        await asyncio.sleep(0.02)
        dropped.cancel()
        await asyncio.sleep(0)
        gate.set()
        await blocked
        await kept
        with pytest.raises(asyncio.CancelledError):
            await dropped
        assert await store.get("kept") is not None
        assert await store.get("dropped") is None


async def test_too_many_waiting_writes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        monkeypatch.setattr(writing, "MAX_WAITING", -1)
        with pytest.raises(Overloaded):
            await store.put(MemoryItem(content="x"))


class Failing:
    """A commit that fails once, as a disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self.error: Exception | None = error
        real = writing.Writer._finish

        def finish(this: Any, db: Any, group: Any, outcome: Any) -> Any:
            if self.error is None:
                return real(this, db, group, outcome)
            errors = [self.error]
            self.error = None

            class Broken:
                def __getattr__(self, name: str) -> Any:
                    return getattr(db, name)

                def execute(self, text: str, *args: Any) -> Any:
                    if text == "COMMIT" and errors:
                        raise errors.pop()
                    return db.execute(text, *args)

            return real(this, Broken(), group, outcome)

        monkeypatch.setattr(writing.Writer, "_finish", finish)


async def test_a_commit_that_fails_in_the_disk_leaves_the_outcome_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="x", id="a"))
        first = store._writing().worker.db
        Failing(monkeypatch, apsw.IOError("fsync"))
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(MemoryItem(content="y", id="b"))
        assert (await caught.value.retry()).id == "b"
        assert store._writing().worker.db is not first, "the connection is never used again"
        assert (await store.verify()).ok


async def test_a_commit_without_room_is_tried_item_by_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="x", id="a"))
        Failing(monkeypatch, apsw.FullError("full"))
        await store.put_many([MemoryItem(content="y", id=f"{i}") for i in range(5)])
        assert await store.count() == 6


async def test_only_a_relaxed_store_writes_on_the_loop(tmp_path: Path) -> None:
    for setting, expected in (("normal", True), ("full", False)):
        async with SqliteStore(tmp_path / f"{setting}.db", synchronous=setting) as store:
            for i in range(3):
                await store.put(MemoryItem(content="x", id=f"{i}"))
            threads: list[bool] = []
            db = store._writing().worker.db
            assert db is not None
            db.set_commit_hook(lambda: bool(threads.append(threading.current_thread() is threading.main_thread())))  # noqa: B023
            for i in range(30):
                await store.put(MemoryItem(content="y", id=f"{i % 3}"))
                await asyncio.sleep(0.01)  # after a commit that was slow it takes a rest
            assert any(threads) == expected


async def test_an_overwrite_changes_only_what_differs(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", index=("metadata.n",)) as store:
        for i in range(40):
            await store.put(MemoryItem(content="the old text", id=f"{i}", tags=("a", "b"), metadata={"n": i}))
        db = store._direct
        assert db is not None
        found = "SELECT rowid, doc, created FROM items ORDER BY key"
        before = db.execute(found).fetchall()
        await store.put_many(
            [MemoryItem(content="the old text", id=f"{i}", tags=("a", "b"), metadata={"n": -i}) for i in range(40)]
        )
        assert db.execute(found).fetchall() == before
        assert [item.id for item in await store.list({"metadata.n": -7})] == ["7"]
        assert [item.id for item in await store.list({"metadata.n": 7})] == []
        await store.put_many([MemoryItem(content="new words now, four", id=f"{i}", tags=("c",)) for i in range(40)])
        assert await store.count({"tags": {"$contains": "a"}}) == 0
        assert await store.count({"tags": {"$contains": "c"}}) == 40
        assert len(await store.search("old", limit=50)) == 0
        assert len(await store.search("words", limit=50)) == 40
        assert (await store.verify()).ok


async def test_vectors_come_change_and_go_with_their_record(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", dimension=3) as store:
        await store.put(MemoryItem(content="x", id="a", embedding=[1, 2, 3]))
        await store.put(MemoryItem(content="x", id="a", embedding=[4, 5, 6]))
        found = await store.get("a")
        assert found is not None
        assert found.embedding.tolist() == [4, 5, 6]
        await store.put(MemoryItem(content="x", id="a"))
        found = await store.get("a")
        assert found is not None
        assert found.embedding is None
        await store.put(MemoryItem(content="x", id="a", embedding=[7, 8, 9]))
        assert (await store.verify()).ok
        await store.delete("a")
        assert (await store.verify()).ok


async def test_texts_wait_for_the_index_and_are_found_meanwhile(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        assert store._direct is not None
        for i in range(indexing.PENDING + 20):
            await store.put(MemoryItem(content=f"marmot number {i} of many", id=f"{i}"))
            if i % 10 == 0:
                assert len(await store.search("marmot", limit=200)) == i + 1
        waiting = store._direct.execute("SELECT count(*) FROM pending").get
        assert 0 < waiting < indexing.PENDING
        await store.delete(f"{indexing.PENDING + 19}")
        await store.delete("0")
        assert len(await store.search("marmot", limit=200)) == indexing.PENDING + 18
        assert (await store.verify()).ok


async def test_records_of_one_moment_keep_their_order_in_the_text_index(tmp_path: Path) -> None:
    clock = ManualClock()
    async with SqliteStore(tmp_path / "m.db", clock=clock) as store:
        for name in ("m", "z", "a", "q"):
            await store.put(MemoryItem(content="same moment", id=name))
        await store.put_many([MemoryItem(content="same moment", id=f"k{i:02}") for i in range(40)])
        assert store._direct is not None
        assert store._direct.execute("SELECT count(*) FROM mixed").get == 1
        assert (await store.verify()).ok


@pytest.mark.parametrize("year", [2026, 2090], ids=["any bucket", "the last bucket"])
async def test_a_bucket_that_overflows_goes_on_without_order(year: int, tmp_path: Path) -> None:
    from memory.backends.sqlite import numbering

    clock = ManualClock(datetime(year, 1, 1, tzinfo=UTC))
    async with SqliteStore(tmp_path / "m.db", clock=clock) as store:
        real = numbering.SEQUENCE_BITS
        await store.put_many([MemoryItem(content="marmot", id=f"a{i}") for i in range(10)])
        assert store._direct is not None
        last = store._direct.execute("SELECT max(doc) FROM items").get
        end = ((last >> (10 + real)) + 1) << real
        await store._writing().worker.run(
            lambda db: db.execute("UPDATE items SET doc = ? WHERE doc = ?", ((end - 2) << 10 | 1, last)) and None
        )
        await store.repair()
        await store.put_many([MemoryItem(content="marmot", id=f"b{i}") for i in range(5)])
        await store.put(MemoryItem(content="marmot", id="c"))
        assert store._direct.execute("SELECT count(*) FROM items WHERE doc < 0").get == 5
        assert len(await store.search("marmot", limit=50)) == 16
        assert (await store.verify()).ok


async def test_a_damaged_record_is_neither_read_nor_overwritten(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put_many([MemoryItem(content=f"text {i}", id=f"{i}", user_id="u") for i in range(3)])
        db = apsw.Connection(str(tmp_path / "m.db"))
        db.execute("UPDATE items SET created = created + 1 WHERE substr(key, -1) = x'31'")
        db.execute(
            "UPDATE items SET body = replace(CAST(body AS TEXT), 'text 2', 'test 2') WHERE substr(key, -1) = x'32'"
        )
        for id in ("1", "2"):
            with pytest.raises(CorruptData):
                await store.get(id)
        with pytest.raises(CorruptData):
            await store.list()
        with pytest.raises(CorruptData):
            await store.put(MemoryItem(content="new", id="1"))
        assert await store.put(MemoryItem(content="new", id="0", user_id="u"))
        report = await store.verify()
        assert {problem.key[1] for problem in report.problems if problem.what == "damaged record"} == {"1", "2"}
        repaired = await store.repair()
        assert sorted(repaired.quarantined) == ["default/1", "default/2"]
        assert db.execute("SELECT count(*) FROM quarantine").get == 2
        db.close()
        assert (await store.verify()).ok
        assert [item.id for item in await store.list()] == ["0"]


async def test_verify_finds_what_is_derived_and_wrong_and_repair_mends_it(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", index=("metadata.n",)) as store:
        await store.put_many(
            [MemoryItem(content=f"marmot {i}", id=f"{i:02}", tags=("t",), metadata={"n": i}) for i in range(50)]
        )
        db = apsw.Connection(str(tmp_path / "m.db"))
        for damage in (
            "DELETE FROM tags WHERE rowid IN (SELECT 1) OR entry LIKE '%'",
            "INSERT INTO tags VALUES (x'780079')",
            "UPDATE items SET f1 = 77 WHERE f1 = 3",
            "UPDATE texts SET terms = terms || ' other' WHERE ord IN (SELECT ord FROM texts LIMIT 1)",
            "INSERT INTO vectors VALUES (5, x'00')",
            "UPDATE items SET length = 9 WHERE f1 = 4",
            "UPDATE counter SET version = 1",
            "INSERT INTO words(rowid, terms) VALUES (12345, 'ghost')",
        ):
            try:
                db.execute(damage)
            except apsw.SQLError:
                db.execute("DELETE FROM tags")
            assert not (await store.verify()).ok, damage
            await store.repair()
            assert (await store.verify()).ok, damage
        db.close()
        assert await store.count({"tags": {"$contains": "t"}}) == 50
        assert len(await store.search("marmot", limit=60)) == 50


async def test_close_while_writes_wait_finishes_them(tmp_path: Path) -> None:
    def threads() -> set[int | None]:
        return {one.ident for one in threading.enumerate() if one.name.startswith("memory-sqlite")}

    before = threads()  # of other tests' stores that were left open on purpose
    store = await SqliteStore(tmp_path / "m.db").open()
    tasks = [asyncio.create_task(store.put(MemoryItem(content="x", id=f"{i}"))) for i in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await store.close()
    done = [await task for task in tasks]
    assert len(done) == 50
    assert not threads() - before
    async with SqliteStore(tmp_path / "m.db") as store:
        assert await store.count() == 50


@pytest.mark.parametrize("turns", range(0, 60, 2))
async def test_a_write_that_is_made_ready_while_the_store_closes_ends(turns: int, tmp_path: Path) -> None:
    store = await SqliteStore(tmp_path / "a.db", synchronous="off").open()
    items = [MemoryItem(id=f"{i}", content="x y z " * 30) for i in range(500)]
    job = asyncio.ensure_future(store.put_many(items))
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await store.close()
        await asyncio.wait([job])
    error = job.exception()
    assert error is None or isinstance(error, Closed | BatchError), repr(error)


async def test_a_mistake_of_ours_fails_its_write_and_blames_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memory.backends.sqlite import planning, reading

    real = planning._decide

    def mistaken(db: Any, plan: Any, one: Any) -> Any:
        if one.op.key[1] == "b":
            raise OverflowError("int too big to convert")
        return real(db, plan, one)

    async with SqliteStore(tmp_path / "m.db") as store:
        monkeypatch.setattr(planning, "_decide", mistaken)
        with pytest.raises(BatchError) as caught:
            await store.put_many([MemoryItem(content="x", id=id) for id in "abc"])
        errors = [*caught.value.errors.values()]
        with pytest.raises(MemoryStoreError) as alone:
            await store.put(MemoryItem(content="x", id="b"))
        monkeypatch.setattr(reading, "read_rows", lambda *args: [].nothing)  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            await store.get("a")
        monkeypatch.setattr(reading, "read_rows", lambda *args: 1 + "2")  # type: ignore[operator]
        with pytest.raises(MemoryStoreError) as read:
            await store.get("a")
        for error in (*errors, alone.value, read.value):
            assert type(error) is MemoryStoreError
            assert isinstance(error.__cause__, OverflowError | TypeError)
            assert "report" in str(error)
            assert "damaged" not in str(error)
        monkeypatch.undo()
        assert [one.id for one in await store.list()] == ["a", "c"]
        assert (await store.verify()).ok
        monkeypatch.setattr("memory.backends.sqlite.verifying._verify", lambda *args: 1 + "2")  # type: ignore[operator]
        assert [problem.what for problem in (await store.verify()).problems] == ["not checked"]


@pytest.mark.parametrize("value", [b"\0\1", "x", 1.5], ids=["a blob", "a text", "a float"])
@pytest.mark.parametrize("column", ["version", "vectors", "seq", "waiting", "coded", "era"])
async def test_a_counter_of_another_type_is_damage(tmp_path: Path, column: str, value: Any) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="x", id="a", embedding=[1.0, 2.0]))
    db = apsw.Connection(str(tmp_path / "m.db"))
    db.execute(f"UPDATE counter SET {column} = ?", (value,))
    db.close()
    with pytest.raises(CorruptData, match="counter"):
        await SqliteStore(tmp_path / "m.db").open()


async def test_an_expiry_of_another_type_is_damage_of_its_record(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="x", id="a"), ttl=1_000)
        db = apsw.Connection(str(tmp_path / "m.db"))
        db.execute("UPDATE items SET expires = x'0001'")
        db.close()
        with pytest.raises(CorruptData, match="'a'"):
            await store.get("a")


def test_what_waits_for_the_writer_is_nothing_that_collections_of_garbage_walk_through() -> None:
    """A full collection stops every thread, the loop's too, and comes the sooner the more it has to walk through."""
    item = MemoryItem(content="x", tags=("one", "two"), metadata={"score": 1, "topic": "y"})
    put = Put(key=item.key, now=0, token=b"", item=item, body=b"{}")
    ready = prepared(put, {("metadata", "score"): 1, ("metadata", "topic"): 2})
    assert ready.columns == (1, "y")
    assert len(ready.entries) == 2
    gc.collect()
    assert not any(gc.is_tracked(part) for part in (ready, ready.entries, ready.columns))
