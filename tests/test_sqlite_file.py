"""The file of the sqlite backend: made, found again, shared, and refused when it is not ours to use."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import pytest

from memory import BackendUnavailable, CorruptData, F, InvalidSetting, MemoryItem
from memory.backends.sqlite import SqliteStore
from memory.backends.sqlite.layout import SCHEMA_VERSION
from memory.errors import StorageFull, UnsupportedOperation


def run_child(code: str, *args: object) -> str:
    """Run Python code in another process; its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_new_file_is_marked_as_ours(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="hello"))
    db = apsw.Connection(str(tmp_path / "m.db"))
    assert db.pragma("application_id") == 0x4D454D31
    assert db.pragma("user_version") == SCHEMA_VERSION
    db.close()


@pytest.mark.parametrize("setting", ["off", "normal", "full", "extra"])
async def test_the_synchronous_setting_decides_the_durability(tmp_path: Path, setting: str) -> None:
    async with SqliteStore(tmp_path / "m.db", synchronous=setting) as store:
        await store.put(MemoryItem(content="x", id="a"))
        assert store.durability == ("power" if setting in ("full", "extra") else "process")
        writing = store._writing().worker.db
        assert writing is not None
        assert writing.pragma("synchronous") == ["off", "normal", "full", "extra"].index(setting)


@pytest.mark.parametrize("options", [{"synchronous": "maybe"}, {"path": ":memory:"}, {"path": ""}, {"path": "a\0b"}])
def test_a_setting_that_means_nothing_is_refused_before_any_io(options: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting):
        SqliteStore(**options)


async def refused(path: Path, expected: type[Exception], **options: object) -> str:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(expected) as caught:
        await SqliteStore(path, **options).open()  # type: ignore[arg-type]
    assert (path.read_bytes() if path.is_file() else None) == before, "a refused file is left as it was"
    return str(caught.value)


async def test_a_file_that_is_not_sqlite_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.db").write_text("dear diary, " * 100)
    assert "not a SQLite database" in await refused(tmp_path / "m.db", BackendUnavailable)


async def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "m.db") as db:
        db.execute("CREATE TABLE theirs(x)")
    db.close()
    assert "another program" in await refused(tmp_path / "m.db", BackendUnavailable)


async def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db"):
        pass
    db = apsw.Connection(str(tmp_path / "m.db"))
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    assert "upgrade" in await refused(tmp_path / "m.db", BackendUnavailable)


async def test_a_directory_and_a_missing_directory_are_refused(tmp_path: Path) -> None:
    assert "not a file" in await refused(tmp_path, BackendUnavailable)
    assert "does not exist" in await refused(tmp_path / "nowhere" / "m.db", BackendUnavailable)


async def test_a_file_without_write_access_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteStore(tmp_path / "m.db"):
        pass
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, who may do all
    assert "cannot be read;" in await refused(tmp_path / "m.db", BackendUnavailable)
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    assert "read-only" in await refused(tmp_path / "m.db", BackendUnavailable)
    assert "cannot be written" in await refused(tmp_path / "other.db", BackendUnavailable)


async def test_a_file_locked_by_another_process_is_refused_after_the_timeout(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db"):
        pass
    db = apsw.Connection(str(tmp_path / "m.db"))
    db.execute("PRAGMA journal_mode = delete; BEGIN EXCLUSIVE").fetchall()
    try:
        with pytest.raises(BackendUnavailable, match="another process"):
            await SqliteStore(tmp_path / "m.db", busy_timeout=0.2).open()
    finally:
        db.close()


async def test_another_analyser_than_the_files_is_refused(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", language="english"):
        pass
    with pytest.raises(InvalidSetting, match="analyser"):
        await SqliteStore(tmp_path / "m.db", language="german").open()


async def test_an_empty_or_missing_file_beside_a_log_is_damage(tmp_path: Path) -> None:
    (tmp_path / "m.db-wal").write_bytes(b"x" * 5_000)
    with pytest.raises(CorruptData, match="missing"):
        await SqliteStore(tmp_path / "m.db").open()
    (tmp_path / "m.db").touch()
    with pytest.raises(CorruptData, match="cut off"):
        await SqliteStore(tmp_path / "m.db").open()


async def test_a_file_that_has_lost_its_settings_is_damage(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db"):
        pass
    db = apsw.Connection(str(tmp_path / "m.db"))
    db.execute("DELETE FROM meta")
    db.close()
    with pytest.raises(CorruptData, match="settings"):
        await SqliteStore(tmp_path / "m.db").open()


async def test_a_log_damaged_in_its_middle_is_noticed_at_open(tmp_path: Path) -> None:
    child = """
        import asyncio, os, sys
        from memory import MemoryItem
        from memory.backends.sqlite import SqliteStore
        async def main():
            store = await SqliteStore(sys.argv[1]).open()
            for i in range(20):
                await store.put(MemoryItem(content=f"number {i}", id=str(i)))
            os._exit(0)
        asyncio.run(main())
    """
    run_child(child, tmp_path / "m.db")
    async with SqliteStore(tmp_path / "m.db") as store:
        assert await store.count() == 20, "the log of a killed process is read as a whole"
    (tmp_path / "m.db").unlink()
    run_child(child, tmp_path / "m.db")
    log = bytearray((tmp_path / "m.db-wal").read_bytes())
    log[60_000] ^= 1
    (tmp_path / "m.db-wal").write_bytes(log)
    with pytest.raises(CorruptData, match="log"):
        await SqliteStore(tmp_path / "m.db").open()


async def test_declared_fields_are_filled_when_an_old_file_is_opened(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put_many(
            [MemoryItem(content="x", id=f"{i:03}", metadata={"n": i, "deep": {"s": f"t{i % 7}"}}) for i in range(300)]
        )
    async with SqliteStore(tmp_path / "m.db", index=("metadata.n", "metadata.deep.s")) as store:
        assert [item.id for item in await store.list(F.metadata.n >= 297)] == ["297", "298", "299"]
        assert await store.count({"metadata.deep.s": "t3"}) == 43
        assert (await store.verify()).ok
        plan = store._direct
        assert plan is not None
        assert plan.execute("SELECT count(*) FROM items WHERE f1 IS NULL OR f2 IS NULL").get == 0


async def test_a_field_declared_by_one_store_is_kept_by_another_that_is_open(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as old:
        await old.put(MemoryItem(content="x", id="a", metadata={"n": 1}))
        async with SqliteStore(tmp_path / "m.db", index=("metadata.n",)) as new:
            await old.put(MemoryItem(content="x", id="b", metadata={"n": 2}))
            await old.update("a", metadata={"n": 5})
            assert [item.id for item in await new.list(F.metadata.n == 2)] == ["b"]
            assert [item.id for item in await old.list(F.metadata.n == 5)] == ["a"]
            assert (await new.verify()).ok


async def test_two_processes_share_a_file_and_see_each_others_writes(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="mine", id="a"))
        output = run_child(
            """
            import sys
            from memory import MemoryItem
            from memory.backends.sqlite import SqliteStore
            with SqliteStore(sys.argv[1]) as store:
                print(store.get_sync("a").content)
                for i in range(50):
                    store.put_sync(MemoryItem(content="theirs", id=f"b{i}"))
            """,
            tmp_path / "m.db",
        )
        assert output.strip() == "mine"
        assert await store.count({"content": "theirs"}) == 50
        assert len(await store.search("theirs", limit=60)) == 50


async def test_a_writer_waits_for_another_process_and_then_says_who_has_the_lock(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", busy_timeout=0.3) as store:
        await store.put(MemoryItem(content="x", id="a"))
        db = apsw.Connection(str(tmp_path / "m.db"))
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendUnavailable, match="another process"):
            await store.put(MemoryItem(content="y", id="b"))
        assert (await store.get("a")) is not None, "reads go on meanwhile"
        writing = asyncio.create_task(store.put(MemoryItem(content="y", id="c")))
        await asyncio.sleep(0.05)
        db.execute("ROLLBACK")
        assert (await writing).id == "c"
        db.close()


async def test_an_interpreter_that_ends_without_close_ends_at_once(tmp_path: Path) -> None:
    output = run_child(
        """
        import asyncio, sys, time
        from memory import MemoryItem
        from memory.backends.sqlite import SqliteStore
        async def main():
            store = await SqliteStore(sys.argv[1]).open()
            await store.put_many([MemoryItem(content=f"text {i}", id=str(i)) for i in range(3000)])
            verifying = asyncio.create_task(store.verify())
            await asyncio.sleep(0.02)
            print(time.time())
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        """,
        tmp_path / "m.db",
    )
    import time

    assert time.time() - float(output) < 2.0
    async with SqliteStore(tmp_path / "m.db") as store:
        assert await store.count() == 3000


async def test_a_full_disk_loses_nothing_and_still_deletes(tmp_path: Path) -> None:
    output = run_child(
        """
        import asyncio, resource, sys
        from memory import MemoryItem
        from memory.errors import BatchError, StorageFull
        from memory.backends.sqlite import SqliteStore
        async def main():
            kept = []
            async with SqliteStore(sys.argv[1]) as store:
                await store.put(MemoryItem(content="first", id="first"))
                resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
                try:
                    for i in range(2000):
                        await store.put(MemoryItem(content="x" * 3000, id=f"{i}"))
                        kept.append(f"{i}")
                    raise SystemExit("it never became full")
                except StorageFull as error:
                    assert "room" in str(error)
                try:
                    await store.put_many([MemoryItem(content="y" * 100_000, id=f"m{i}") for i in range(20)])
                    raise SystemExit("it never became full")
                except BatchError as error:
                    assert all(isinstance(one, StorageFull) for one in error.errors.values())
                for id in kept:
                    assert (await store.get(id)) is not None, id
                assert await store.delete(kept[0])
                assert await store.delete(kept[1])
                assert (await store.verify()).ok
            async with SqliteStore(sys.argv[1]) as store:
                assert await store.count() >= len(kept) - 1
        asyncio.run(main())
        print("done")
        """,
        tmp_path / "m.db",
    )
    assert output.strip() == "done"


async def test_a_backup_is_a_whole_file_that_opens_by_itself(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put_many([MemoryItem(content=f"number {i}", id=f"{i}", tags=("t",)) for i in range(700)])
        assert await store.backup(tmp_path / "b.db") == 700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.db", "m.db"], "no log, no half-written copy is left"
    async with SqliteStore(tmp_path / "b.db") as copy:
        assert (await copy.verify()).ok
        assert await copy.count({"tags": {"$contains": "t"}}) == 700
    async with SqliteStore(tmp_path / "n.db") as store:
        assert await store.restore(tmp_path / "b.db") == 700


async def test_a_foreign_database_is_no_backup(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "b.db") as db:
        db.execute("CREATE TABLE theirs(x)")
    db.close()
    async with SqliteStore(tmp_path / "m.db") as store:
        with pytest.raises((UnsupportedOperation, CorruptData)):
            await store.restore(tmp_path / "b.db")


def test_the_typed_error_for_a_full_disk_is_known_by_its_errno() -> None:
    from memory.backends.sqlite.faults import translate

    assert isinstance(translate(apsw.FullError("full"), "m.db"), StorageFull)
    assert isinstance(translate(apsw.CantOpenError("no"), "m.db"), BackendUnavailable)
    assert isinstance(translate(apsw.ReadOnlyError("no"), "m.db"), BackendUnavailable)
    assert isinstance(translate(apsw.NoMemError("no"), "m.db"), BackendUnavailable)
    assert isinstance(translate(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "m.db"), CorruptData)
    kept = CorruptData("as it is")
    assert translate(kept, "m.db") is kept
