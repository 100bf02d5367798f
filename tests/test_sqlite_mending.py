"""Pages of the file that cannot be read: repair saves every record that can be, names the others, and keeps the damaged file."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from memory import MemoryItem
from memory.backends.sqlite import SqliteStore, mending
from memory.errors import BackendUnavailable, CorruptData, EmbeddingMismatch, MemoryStoreError
from memory.search.embedders import HashingEmbedder
from memory.vectors import vector_bytes

PAGE = 4096
OPTIONS: dict[str, Any] = {"index": ("metadata.n",), "feed": True, "embedder": None, "dimension": 4}


async def fill(path: Path, records: int = 60) -> dict[str, MemoryItem]:
    """A store with something in every table; returns what is in it."""
    async with SqliteStore(path, **OPTIONS) as store:
        items = [
            MemoryItem(
                content=f"the marmot number {i} sleeps until May " * 4,
                id=f"{i:02}",
                user_id="u",
                tags=(f"t{i % 3}",),
                metadata={"n": i},
                embedding=(1.0, i / records, 0.0, 0.5) if i % 2 else None,
            )
            for i in range(records + 3)
        ]
        await store.put_many(items)
        for item in items[records:]:
            await store.delete(item.id)
        return {item.id: item for item in await store.list(limit=1_000)}


def pages(path: Path) -> dict[int, str]:
    """Page -> the table or index that it belongs to."""
    db = apsw.Connection(str(path))
    try:
        return {number: name for name, number in db.execute("SELECT name, pageno FROM dbstat")}
    finally:
        db.close()


def spoil(source: Path, path: Path, *damaged: int) -> None:
    """A copy of a file, the beginnings of some of its pages overwritten."""
    shutil.copy(source, path)
    with path.open("r+b") as file:
        for page in damaged:
            file.seek((page - 1) * PAGE)
            file.write(random.Random(page).randbytes(50))


async def test_repair_heals_any_page_or_says_what_is_lost_and_what_to_do(tmp_path: Path) -> None:
    source = tmp_path / "source.db"
    wanted = await fill(source)
    whole = apsw.Connection(str(source))
    size = whole.pragma("page_count")
    whole.close()
    owners = pages(source)
    healed = 0
    for page in range(1, size + 1):
        what = f"page {page} of {owners.get(page)}"
        folder = tmp_path / str(page)
        folder.mkdir()
        path = folder / "m.db"
        spoil(source, path, page)
        try:
            store = await SqliteStore(path, **OPTIONS).open()
        except MemoryStoreError as error:
            await take_out(error, path, wanted, what)
            continue
        async with store:
            refusal = ""
            try:
                lost = await mended(store, wanted, what)
            except CorruptData as error:
                refusal = str(error)
        if refusal:
            assert "no record can be read" in refusal, what
            assert "Restore a backup" in refusal, what
            assert owners[page] == "items", what
            assert list(folder.glob("*.damaged*")) == [], "nothing was changed, so there is nothing to keep"
            continue
        assert not lost or owners[page] == "items", what
        assert not list(folder.glob("*mending*")), what
        kept = list(folder.glob("m.db.damaged"))
        assert not kept or kept[0].read_bytes()[PAGE : size * PAGE] == path_bytes(source, page, size), what
        healed += not lost
    assert healed > size // 2


def path_bytes(source: Path, page: int, size: int) -> bytes:
    """The pages of the damaged file but the first, in which SQLite counts."""
    content = bytearray(source.read_bytes()[: size * PAGE])
    content[(page - 1) * PAGE : (page - 1) * PAGE + 50] = random.Random(page).randbytes(50)
    return bytes(content[PAGE:])


async def mended(store: SqliteStore, wanted: dict[str, MemoryItem], what: str) -> set[str]:
    """Repair the store and look at all of it; returns which records are lost."""
    report = await store.repair()
    checked = await store.verify()
    assert checked.ok, (what, checked.problems)
    lost = {name.removeprefix("default/") for name in report.quarantined}
    found = {item.id: item for item in await store.list(limit=1_000)}
    assert found.keys() == wanted.keys() - lost, what
    bare = next((action for action in report.actions if "lost the vectors" in action), "")
    for id, item in found.items():
        if item != wanted[id]:
            assert f"default/{id}" in bare, what
            assert item.embedding is None
            assert item == msgspec.structs.replace(wanted[id], embedding=None), what
    # It is used as before.
    assert len(await store.search("marmot", limit=100)) == len(found), what
    assert await store.count({"metadata.n": {"$gte": 0}}) == len(found), what
    newest = await store.put(MemoryItem(content="after", id="after"))
    assert newest.version > max(item.version for item in wanted.values()), what
    await store.delete("after")
    return lost


async def take_out(failure: MemoryStoreError, path: Path, wanted: dict[str, MemoryItem], what: str) -> None:
    """Follow the advice for a file that cannot be opened."""
    if isinstance(failure, BackendUnavailable):  # its first bytes, by which it is known to be SQLite's
        assert "restore a backup" in str(failure), what
        return
    assert f"'memory restore {path} --path NEW'" in str(failure), what
    async with SqliteStore(path.with_name("new.db"), **OPTIONS) as fresh:
        refusal = ""
        try:
            await fresh.restore(path)
        except CorruptData as error:
            refusal = str(error)
        if refusal:
            assert str(path) in refusal, what
            assert "another backup" in refusal, what
            return
        found = {item.id: item for item in await fresh.list(limit=1_000)}
        assert {id: item.content for id, item in found.items()} == {id: wanted[id].content for id in wanted}, what


async def test_records_of_a_page_that_is_lost_are_named_even_when_an_index_is_damaged_too(tmp_path: Path) -> None:
    source, path = tmp_path / "source.db", tmp_path / "m.db"
    wanted = await fill(source)
    owners = pages(source)
    leaf = max(page for page, name in owners.items() if name == "items")
    spoil(source, path, leaf, *(page for page, name in owners.items() if name == "items_key"))
    async with SqliteStore(path, **OPTIONS) as store:
        lost = await mended(store, wanted, "a leaf and an index")
    assert lost
    assert lost < wanted.keys()
    spoil(source, path, leaf, *(page for page, name in owners.items() if name.startswith("items_")))
    async with SqliteStore(path, **OPTIONS) as store:
        report = await store.repair()
        assert report.quarantined == ["records whose keys are lost, if there were more"]
        assert await store.count() == len(wanted) - len(lost)
        assert (await store.verify()).ok
    assert sorted(one.name for one in tmp_path.glob("m.db.damaged*")) == ["m.db.damaged", "m.db.damaged-2"]


async def test_who_has_the_file_open_goes_on_with_what_was_mended(tmp_path: Path) -> None:
    source, path = tmp_path / "source.db", tmp_path / "m.db"
    wanted = await fill(source)
    owners = pages(source)
    spoil(source, path, next(page for page, name in owners.items() if name == "items_kind"))
    async with SqliteStore(path, **OPTIONS) as other, SqliteStore(path, **OPTIONS) as store:
        assert len(await other.search("marmot", limit=100)) == 60
        assert not await mended(store, wanted, "an index")
        assert {item.id for item in await other.list(limit=100)} == wanted.keys()
        assert len(await other.search("marmot", limit=100)) == 60
        assert await other.count({"metadata.n": {"$gte": 30}}) == 30
        await other.put(MemoryItem(content="the marmot wakes", id="new", metadata={"n": 1}))
        assert (await store.get("new")).content == "the marmot wakes"
        assert (await other.verify()).ok


async def test_no_write_of_another_process_falls_between_reading_and_replacing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = tmp_path / "source.db", tmp_path / "m.db"
    wanted = await fill(source)
    spoil(source, path, next(page for page, name in pages(source).items() if name == "items_expires"))
    refused: list[Exception] = []
    real = mending.rebuild

    def meanwhile(db: apsw.Connection, *args: Any) -> None:
        intruder = apsw.Connection(str(path))
        try:
            intruder.execute("BEGIN IMMEDIATE")
        except apsw.BusyError as error:
            refused.append(error)
        intruder.close()
        real(db, *args)

    monkeypatch.setattr(mending, "rebuild", meanwhile)
    async with SqliteStore(path, **OPTIONS) as store:
        own = asyncio.create_task(store.put(MemoryItem(content="the marmot wakes", id="own")))
        await store.repair()
        await own
        assert (await store.verify()).ok
        assert {item.id for item in await store.list(limit=100)} == {*wanted, "own"}
    assert len(refused) == 1


async def test_a_mending_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, path = tmp_path / "source.db", tmp_path / "m.db"
    await fill(source)
    spoil(source, path, next(page for page, name in pages(source).items() if name == "items_kind"))
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise apsw.FullError("no room")

    async with SqliteStore(path, **OPTIONS) as store:
        with monkeypatch.context() as patch, pytest.raises(MemoryStoreError, match="no room left"):
            patch.setattr(mending, "rebuild", full)
            await store.repair()
        assert path.read_bytes() == before
        assert sorted(one.name for one in tmp_path.iterdir() if not one.name.endswith(("-wal", "-shm"))) == [
            "m.db",
            "source.db",
        ]
        assert (await store.repair()).quarantined == []
        assert (await store.verify()).ok


async def test_events_that_are_lost_are_told_to_who_reads_the_feed(tmp_path: Path) -> None:
    source, path = tmp_path / "source.db", tmp_path / "m.db"
    await fill(source)
    spoil(source, path, next(page for page, name in pages(source).items() if name == "feed"))
    async with SqliteStore(path, **OPTIONS) as store:
        report = await store.repair()
        assert any("the change feed could be read only in part" in action for action in report.actions)
        assert report.quarantined == []
        assert store._direct is not None
        version, floor = store._direct.execute("SELECT version, floor FROM counter").fetchone()
        assert floor == version + 1


async def test_vectors_that_are_lost_are_made_anew(tmp_path: Path) -> None:
    source, path = tmp_path / "source.db", tmp_path / "m.db"
    async with SqliteStore(source, embedder=HashingEmbedder()) as store:
        await store.put_many([MemoryItem(content=f"marmot {i}", id=f"{i}") for i in range(30)])
        wanted = await store.list(limit=100)
    spoil(source, path, next(page for page, name in pages(source).items() if name == "vectors"))
    async with SqliteStore(path, embedder=HashingEmbedder()) as store:
        report = await store.repair()
        assert "which 'memory reembed' makes anew: default/0, " in report.actions[-1]
        assert report.quarantined == []
        assert (await store.verify()).ok
        await store.reembed()
        assert (await store.verify()).ok
        found = await store.list(limit=100)
        assert [item.id for item in found] == [item.id for item in wanted]
        assert all(
            vector_bytes(one.embedding) == vector_bytes(two.embedding) for one, two in zip(found, wanted, strict=True)
        )


async def test_a_damaged_file_is_not_backed_up_and_the_refusal_names_a_way_that_works(tmp_path: Path) -> None:
    source, path = tmp_path / "source.db", tmp_path / "m.db"
    wanted = await fill(source)
    spoil(source, path, next(page for page, name in pages(source).items() if name == "items_kind"))
    async with SqliteStore(path, **OPTIONS) as store:
        with pytest.raises(CorruptData, match="run 'memory repair' first"):
            await store.backup(tmp_path / "copy")
        await store.repair()
        assert await store.backup(tmp_path / "copy") == len(wanted)


async def test_what_waits_for_the_index_and_is_no_text_is_damage(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db") as store:
        await store.put(MemoryItem(content="a marmot", id="one"))
        db = apsw.Connection(str(tmp_path / "m.db"))
        db.execute("UPDATE texts SET terms = x'6d61726d6f74'")
        db.close()
        with pytest.raises(CorruptData, match="repair"):
            await store.search("marmot")
        await store.repair()
        assert [hit.item.id for hit in (await store.search("marmot")).hits] == ["one"]


async def test_another_name_of_the_embedder_in_the_file_is_damage_and_a_store_of_another_embedder_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.db"
    async with SqliteStore(path, embedder="hashing:16") as store:
        await store.put_many([MemoryItem(content=f"a marmot {i}", id=f"{i}") for i in range(12)])
    async with SqliteStore(path, embedder="hashing:8") as store:
        with pytest.raises(EmbeddingMismatch):
            await store.search("marmot", mode="vector")
    db = apsw.Connection(str(path))
    db.execute("UPDATE counter SET embedder = 'hashinG:16'")
    db.close()
    for embedder in ("hashing:16", "hashing:8"):
        with pytest.raises(CorruptData, match="memory restore"):
            await SqliteStore(path, embedder=embedder).open()
    async with SqliteStore(path, embedder=None) as store:  # whoever brings vectors can mend it
        problems = (await store.verify()).problems
        assert [problem.detail for problem in problems] == ["12 do not lie in the space of the others"]
        await store.repair()
    async with SqliteStore(path, embedder="hashing:16") as store:
        assert [hit.item.id for hit in (await store.search("marmot 3", mode="vector", limit=1)).hits] == ["3"]
