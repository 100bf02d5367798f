"""The space of a file's vectors: the first one makes it, a switch changes it whole or not at all, old files get one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from sqlite_fixtures import FIRST, rebuild

from memory import BatchError, EmbeddingMismatch, ManualClock, MemoryItem
from memory.backends.sqlite import SqliteStore, codes, upgrading
from memory.backends.sqlite.layout import SCHEMA_VERSION
from memory.backends.sqlite.planning import find_records
from memory.backends.sqlite.spaces import read_state
from memory.errors import CorruptData
from memory.keys import encode_key
from memory.ops import Attach, Nearest, Space
from memory.testing.embedder import WordEmbedder
from memory.vectors import vector_bytes


def vector(*values: float) -> Any:
    return np.array(values, dtype=np.float32)


def nearest(to: Any, embedder: str | None = None) -> Nearest:
    raw = vector_bytes(to)
    assert raw is not None
    return Nearest(vector=raw, embedder=embedder, limit=5, now=10**15)


def texts(count: int) -> list[MemoryItem]:
    return [MemoryItem(id=f"{i:03}", content=f"word{i} and word{i + 1}") for i in range(count)]


async def ids(store: SqliteStore, query: str, limit: int = 1) -> list[str]:
    return [hit.item.id for hit in await store.search(query, mode="vector", limit=limit)]


async def test_a_vector_that_does_not_fit_fails_alone_though_this_store_has_not_seen_the_space(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as late, SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(id="first", content="x", embedding=vector(1, 2, 3)))
        assert late._space is None
        items = [MemoryItem(id="fits not", content="x", embedding=vector(1, 2)), MemoryItem(id="has none", content="x")]
        with pytest.raises(BatchError) as caught:
            await late.put_many(items)
        assert {i: type(error) for i, error in caught.value.errors.items()} == {0: EmbeddingMismatch}
        assert await store.count() == 2
        assert late._space == Space(None, 3)
        with pytest.raises(EmbeddingMismatch):
            await late._nearest(nearest(vector(1, 2)))
        assert (await store.verify()).ok


async def test_an_atomic_batch_that_fails_makes_no_space(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(id="taken", content="x", user_id="somebody"))
        items = [MemoryItem(content="x", embedding=vector(1, 2)), MemoryItem(id="taken", content="y")]
        with pytest.raises(BatchError):
            await store.scoped(user_id="other").put_many(items, atomic=True)
        await store.put(MemoryItem(content="x", embedding=vector(1, 2, 3)))
        assert store._space == Space(None, 3)


async def test_vectors_that_are_owed_are_counted_and_given_later(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", embedder=WordEmbedder()) as store:
        await store.put_many(texts(5), embed="later")
        await store.put(MemoryItem(id="now", content="marmot"))
        details = (await store.health()).details
        assert (details["vectors"], details["vectors_owed"], details["embedder"]) == (1, 5, "words")
        report = await store.reembed()
        assert (report.embedded, report.kept, report.switched) == (5, 1, False)
        details = (await store.health()).details
        assert (details["vectors"], details["vectors_owed"]) == (6, 0)
        assert await ids(store, "word3 and word4") == ["003"]
        assert (await store.verify()).ok


async def test_old_vectors_serve_until_the_switch_and_other_stores_see_it(tmp_path: Path) -> None:
    old, new = WordEmbedder("old", 16), WordEmbedder("new", 20)
    async with (
        SqliteStore(tmp_path / "m.db", embedder=old) as store,
        SqliteStore(tmp_path / "m.db", embedder=old) as other,
    ):
        await store.put_many(texts(300))
        assert await ids(other, "word7 and word8") == ["007"]
        seen: list[int] = []
        report = await store.reembed(new, batch=50, progress=seen.append)
        assert (report.embedded, report.switched, report.embedder) == (300, True, "new")
        assert seen[-1] == 300
        with pytest.raises(EmbeddingMismatch):
            await ids(other, "word7 and word8")
        assert other._space == Space("new", 20)
        assert (await store.verify()).ok
        got = await store.get("007")
        assert got is not None
        assert got.embedding is not None
        assert len(got.embedding) == 20
    async with SqliteStore(tmp_path / "m.db", embedder=new) as store:
        assert await ids(store, "word7 and word8") == ["007"]
        assert store._space == Space("new", 20)


async def test_a_vector_aside_goes_with_the_text_it_was_made_of(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", embedder=WordEmbedder("old", 8)) as store:
        stored = await store.put_many(texts(6))
        space, raw = Space("new", 3), vector_bytes(vector(1, 2, 3)) or b""
        ops = [Attach(key=item.key, version=item.version, embedding=raw) for item in stored]
        stale = Attach(key=stored[0].key, version=stored[0].version - 1, embedding=raw)
        assert await store._attach(space, [*ops, stale]) == 6
        await store.put(MemoryItem(id="000", content="another text"))
        await store.delete("001")
        await store.touch("002", ttl=60)
        lacking = await store._unattached(space, None, 10)
        assert [row.version > stored[-1].version for row in lacking] == [True]
        assert await store._unattached(Space("third", 3), None, 3) != lacking
        assert not await store._switch(space, 0)
        assert await store._switch(space, 1)
        assert [row.embedding for row in await store._unattached(space, None, 10)] == [None]
        assert len(await store._nearest(nearest(vector(1, 2, 3)))) == 4
        assert (await store.verify()).ok


async def test_a_third_space_takes_the_place_of_what_lay_aside(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", embedder=WordEmbedder("old", 8)) as store:
        stored = await store.put_many(texts(3))
        for name, size in (("second", 3), ("third", 4)):
            raw = vector_bytes(vector(*range(size))) or b""
            ops = [Attach(key=item.key, version=item.version, embedding=raw) for item in stored]
            assert await store._attach(Space(name, size), ops) == 3
        assert not await store._switch(Space("second", 3), 0)
        assert await store._switch(Space("third", 4), 0)
        assert (await store.verify()).ok


async def test_a_switch_that_meets_damage_changes_nothing(tmp_path: Path) -> None:
    old, new = WordEmbedder("old", 16), WordEmbedder("new", 20)
    async with SqliteStore(tmp_path / "m.db", embedder=old) as store:
        await store.put_many(texts(40))
        db = apsw.Connection(str(tmp_path / "m.db"))
        (key, seal) = db.execute("SELECT key, seal FROM items ORDER BY rowid DESC LIMIT 1").fetchall()[0]
        space = Space("new", 20)
        rows = await store._unattached(space, None, 100)
        ops = [
            Attach(key=(("default",), f"{i:03}"), version=row.version, embedding=b"\0" * 80)
            for i, row in enumerate(rows)
        ]
        assert await store._attach(space, ops) == 40
        db.execute("UPDATE items SET seal = seal + 1 WHERE key = ?", (key,))
        with pytest.raises(CorruptData):
            await store._switch(space, 0)
        db.execute("UPDATE items SET seal = ? WHERE key = ?", (seal, key))
        db.close()
        assert await ids(store, "word7 and word8") == ["007"]
        assert store._space == Space("old", 16)
        assert (await store.verify()).ok
        report = await store.reembed(new)
        assert (report.embedded, report.switched) == (0, True)


KILLED = """
import asyncio, os, signal, sys
from memory import MemoryItem
from memory.backends.sqlite import SqliteStore
from memory.testing.embedder import WordEmbedder

async def main():
    async with SqliteStore(sys.argv[1], embedder=WordEmbedder("old", 16)) as store:
        await store.put_many([MemoryItem(id=f"{i:03}", content=f"word{i} and word{i + 1}") for i in range(700)])

        def watch(cursor, text, bindings):
            if sys.argv[2] in text:
                os.kill(os.getpid(), signal.SIGKILL)
            return True

        store._writing().worker.db.exec_trace = watch
        await store.reembed(WordEmbedder("new", 20))

asyncio.run(main())
"""


@pytest.mark.crash
@pytest.mark.parametrize("moment", ["INTO asides", "UPDATE items SET embedder", "ALTER TABLE aside", "INTO moves"])
async def test_a_process_killed_in_a_switch_leaves_the_old_vectors_and_the_next_goes_on(
    tmp_path: Path, moment: str
) -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED, str(tmp_path / "m.db"), moment], timeout=60, env={**os.environ}
    )
    assert done.returncode == -signal.SIGKILL
    async with SqliteStore(tmp_path / "m.db", embedder=WordEmbedder("old", 16)) as store:
        assert (await store.verify()).ok
        assert await ids(store, "word7 and word8") == ["007"]
        report = await store.reembed(WordEmbedder("new", 20))
        assert report.switched
        assert report.embedded == (700 if moment == "INTO asides" else 0)
        assert (await store.verify()).ok


# --- files of older layouts --------------------------------------------------------------------


def to_first_layout(path: Path, strangers: dict[str, tuple[str | None, Any]]) -> None:
    """Make a file what layout 1 was, with some vectors of another maker or length, which it allowed."""
    db = apsw.Connection(str(path))
    for id, (embedder, stranger) in strangers.items():
        key = encode_key((("default",), id))
        record = find_records(db, [key], {})[key]
        raw = vector_bytes(stranger) or b""
        record.embedder, record.vcrc = embedder, __import__("zlib").crc32(raw)
        db.execute("UPDATE vectors SET v = ? WHERE ord = ?", (raw, record.order))
        db.execute(
            "UPDATE items SET embedder = ?, vcrc = ?, seal = ? WHERE key = ?",
            (embedder, record.vcrc, record.seal(), key),
        )
    db.execute("DROP INDEX items_owed; DROP TABLE moves; DROP TABLE codes; DROP TABLE aside; DROP TABLE asides")
    db.execute("DELETE FROM meta WHERE name = 'centre'")
    for (name,) in db.execute("SELECT name FROM pragma_table_info('counter')").fetchall():
        if name not in ("version", "layout", "feed", "floor"):
            db.execute(f"ALTER TABLE counter DROP COLUMN {name}")
    db.execute("PRAGMA user_version = 1")
    db.close()


async def test_a_file_of_the_first_layout_gets_the_space_of_its_vectors(tmp_path: Path) -> None:
    words = WordEmbedder()
    async with SqliteStore(tmp_path / "m.db", embedder=words) as store:
        await store.put_many(texts(400))
        await store.put(MemoryItem(id="none", content=5))
    to_first_layout(tmp_path / "m.db", {"005": ("words", vector(1, 2)), "006": ("other", np.ones(16, np.float32))})
    async with SqliteStore(tmp_path / "m.db", embedder=words) as store, SqliteStore(tmp_path / "m.db") as other:
        assert store._space == other._space == Space("words", 16)
        details = (await store.health()).details
        assert (details["layout"], details["vectors"], details["vectors_owed"]) == (SCHEMA_VERSION, 398, 2)
        assert (await store.verify()).ok
        assert await ids(store, "word7 and word8") == ["007"]
        assert (await store.reembed()).embedded == 2
        assert await ids(store, "word5 and word6") == ["005"]
        assert (await store.verify()).ok


async def test_an_upgrade_that_is_cut_short_has_not_happened(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", embedder=WordEmbedder()) as store:
        await store.put_many(texts(20))
    to_first_layout(tmp_path / "m.db", {})
    before = apsw.Connection(str(tmp_path / "m.db"))
    before.execute("CREATE TABLE codes(taken)")
    with pytest.raises(CorruptData):
        await SqliteStore(tmp_path / "m.db").open()
    assert before.pragma("user_version") == 1
    assert [name for (name,) in before.execute("SELECT name FROM sqlite_schema WHERE name IN ('moves', 'aside')")] == []
    before.execute("DROP TABLE codes")
    before.close()
    async with SqliteStore(tmp_path / "m.db", embedder=WordEmbedder()) as store:
        assert await ids(store, "word7 and word8") == ["007"]


async def test_the_first_file_is_upgraded_and_its_vectors_are_found(tmp_path: Path) -> None:
    rebuild(FIRST, tmp_path / "m.db")
    async with SqliteStore(tmp_path / "m.db", clock=ManualClock()) as store:
        state = await store._read_in(read_state)
        assert state.space == Space(None, 4)
        found = await store.search(vector=vector(3, 1, 2, 3), limit=1)
        assert [hit.item.id for hit in found] == ["item-3"]
        assert (await store.verify()).ok


def as_in_the_second_layout(patched: pytest.MonkeyPatch) -> None:
    """Codes are made as a program of layout 2 made them."""
    patched.setattr(codes, "rotated", lambda columns: columns)
    patched.setattr(codes, "CUT", 0)


async def of_the_second_layout(path: Path, vectors: Any) -> None:
    """A file as layout 2 left it: a chunk of codes, and moves."""
    with pytest.MonkeyPatch.context() as patched:
        as_in_the_second_layout(patched)
        async with SqliteStore(path) as store:
            await store.put_many([MemoryItem(id=f"{i}", content=i, embedding=v) for i, v in enumerate(vectors[:-3])])
            for i in range(len(vectors) - 3, len(vectors)):
                await store.put(MemoryItem(id=f"{i}", content=i, embedding=vectors[i]))
            state = await store._read_in(read_state)
            assert state.coded >= 300
            assert state.waiting >= 3
    db = apsw.Connection(str(path))
    db.execute("PRAGMA user_version = 2")
    db.close()


async def found_by_code(store: SqliteStore, vectors: Any) -> None:
    for i in range(0, len(vectors), 37):
        assert [hit.item.id for hit in await store.search(vector=vectors[i], limit=1)] == [f"{i}"]


@pytest.mark.parametrize("count", [450, 700], ids=["codes wait", "codes are made"])
async def test_a_file_of_the_second_layout_gets_new_codes(tmp_path: Path, count: int) -> None:
    vectors = np.random.default_rng(1).standard_normal((count, 20)).astype(np.float32)
    await of_the_second_layout(tmp_path / "m.db", vectors)
    async with SqliteStore(tmp_path / "m.db") as store, SqliteStore(tmp_path / "m.db") as other:
        store._vectors.exact = other._vectors.exact = -1
        await found_by_code(store, vectors)
        await store._run(store._writing().worker, lambda db: None)  # behind what was queued when it was opened
        state = await store._read_in(read_state)
        assert (state.vectors, state.coded, state.waiting) == ((count, 0, count) if count < 512 else (count, count, 0))
        await found_by_code(other, vectors)
        assert (await store.verify()).ok
        assert (await store.health()).details["layout"] == SCHEMA_VERSION


async def test_new_codes_come_in_one_step_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(1).standard_normal((400, 20)).astype(np.float32)
    await of_the_second_layout(tmp_path / "m.db", vectors)

    def fails(*args: object) -> None:
        raise CorruptData("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(upgrading, "save_state", fails)
        with pytest.raises(CorruptData):
            await SqliteStore(tmp_path / "m.db").open()
    db = apsw.Connection(str(tmp_path / "m.db"))
    assert db.pragma("user_version") == 2
    assert db.execute("SELECT count(*) FROM codes").fetchall() == [(1,)]
    db.close()
    async with SqliteStore(tmp_path / "m.db") as store:
        store._vectors.exact = -1
        await found_by_code(store, vectors)
        assert (await store.verify()).ok


async def test_codes_of_a_program_of_the_second_layout_that_goes_on_are_not_believed(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((600, 20)).astype(np.float32)
    async with SqliteStore(tmp_path / "m.db") as store:
        store._vectors.exact = -1
        for new, part in ((True, slice(0, 300)), (False, slice(300, 600))):
            with pytest.MonkeyPatch.context() as patched:
                if not new:
                    as_in_the_second_layout(patched)
                named = [MemoryItem(id=f"{i}", content=i, embedding=vectors[i]) for i in range(600)[part]]
                await store.put_many(named)
        await found_by_code(store, vectors)
        assert not (await store.verify()).ok
        await store.repair()
        assert (await store.verify()).ok
        await found_by_code(store, vectors)
