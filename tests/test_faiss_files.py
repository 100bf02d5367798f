"""The files of faiss: whatever they hold, what is found is right, and what is doubtful is made anew from the records."""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from test_faiss_index import clustered, fill, found, index_of, merged, opened

from memory import MemoryItem
from memory.backends.faiss import FaissStore, cache, generation, picking
from memory.backends.faiss.generation import DoubtfulError, Layout, Writing, read_manifest
from memory.errors import CorruptData

MORE = clustered(1_600)
VECTORS = MORE[:700]


async def made(path: Path, vectors: Any = VECTORS) -> None:
    async with opened(path) as store:
        await fill(store, vectors)
        await found(store, vectors[0])
        index_of(store)


async def right(path: Path, vectors: Any = VECTORS) -> int:
    """Every answer is, and the store has an index: the number of its generation."""
    async with opened(path) as store:
        for i in (0, 1, 350, len(vectors) - 1):
            assert await found(store, vectors[i]) == [f"{i}"]
        assert (await store.verify()).ok
        return index_of(store).generation.manifest.generation


def manifest(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "m.db-faiss").read_text()))


def files(path: Path) -> tuple[Path, Path]:
    return path / "m.db-faiss", path / f"m.db-faiss-{manifest(path)['generation']}"


def changed(path: Path, **facts: Any) -> None:
    files(path)[0].write_text(json.dumps({**manifest(path), **facts}))


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 4
    file.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda path: files(path)[0].unlink(),
    "an empty manifest": lambda path: files(path)[0].write_bytes(b""),
    "half a manifest": lambda path: files(path)[0].write_bytes(files(path)[0].read_bytes()[:60]),
    "a manifest of zeros": lambda path: files(path)[0].write_bytes(bytes(300)),
    "a manifest of text": lambda path: files(path)[0].write_text("[1, 2]"),
    "a manifest that is a folder": lambda path: (files(path)[0].unlink(), (path / "m.db-faiss").mkdir()),
    "another format": lambda path: changed(path, format=2),
    "more than is known": lambda path: changed(path, module="os"),
    "no codes": lambda path: files(path)[1].unlink(),
    "short codes": lambda path: os.truncate(files(path)[1], 1_000),
    "no bytes of codes": lambda path: os.truncate(files(path)[1], 0),
    "long codes": lambda path: files(path)[1].write_bytes(files(path)[1].read_bytes() + b"x"),
    "zeros for codes": lambda path: files(path)[1].write_bytes(bytes(files(path)[1].stat().st_size)),
    "a number of a record": lambda path: flip(files(path)[1], 40),
    "a bit of a code": lambda path: flip(files(path)[1], -900),
    "the last byte": lambda path: flip(files(path)[1], -1),
    "a hostile count": lambda path: changed(path, count=2**39, size=Layout(2**39, 64, 0).size),
    "a negative count": lambda path: changed(path, count=-1),
    "another dimension": lambda path: changed(path, dimension=32, size=Layout(manifest(path)["count"], 32, 0).size),
    "a generation that is a path": lambda path: changed(path, generation="../../etc/passwd"),
    "a generation that is not there": lambda path: changed(path, generation=77),
    "another era": lambda path: changed(path, era=9),
    "a later place in the log": lambda path: changed(path, seq=10**6),
    "another digest of the log": lambda path: changed(path, digest=1),
    "another sum": lambda path: changed(path, sha256=["0" * 64]),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_what_is_doubtful_is_made_anew(damage: str, tmp_path: Path) -> None:
    await made(tmp_path)
    DAMAGE[damage](tmp_path)
    if damage == "a manifest that is a folder":
        async with opened(tmp_path) as store:  # it cannot be replaced: the codes of the file serve
            assert await found(store, VECTORS[350]) == ["350"]
        return
    made_anew = await right(tmp_path)
    assert made_anew == (1 if damage == "no codes" else 2)
    assert await right(tmp_path) == made_anew


async def test_an_index_of_another_store_is_not_used(tmp_path: Path) -> None:
    for name, vectors in (("one", VECTORS), ("two", clustered(700, seed=5))):
        (tmp_path / name).mkdir()
        await made(tmp_path / name, vectors)
    for file in (tmp_path / "one").glob("m.db-faiss*"):
        shutil.copy(file, tmp_path / "two" / file.name)
    await right(tmp_path / "two", clustered(700, seed=5))


async def test_an_index_that_is_ahead_of_a_restored_file_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MERGE", 1_000)
    await made(tmp_path)
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(tmp_path / "m.db", old / "m.db")
    async with opened(tmp_path, exact=200) as store:
        await fill(store, clustered(6_000, seed=6), 700)
        await found(store, VECTORS[0])
        await merged(store, VECTORS[0], 5_000)
    shutil.copy(old / "m.db", tmp_path / "m.db")
    async with opened(tmp_path) as store:
        await fill(store, clustered(600, seed=7), 700)
        assert await found(store, clustered(600, seed=7)[599]) == ["1299"]
        assert await found(store, VECTORS[699]) == ["699"]
        for vector in clustered(5, seed=6):
            assert await found(store, vector, limit=5) == await found(store, vector, limit=5, exact=True)


STATES = ("absent", "empty", "zeros", "half", "whole")


@pytest.mark.crash
async def test_whatever_a_crash_leaves_of_a_commit_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every state of the three files that a loss of power can leave between the first write and the last removal."""
    monkeypatch.setattr(cache, "MERGE", 300)
    await made(tmp_path)
    old = {file.name: file.read_bytes() for file in tmp_path.iterdir() if "-faiss" in file.name and file.stat().st_size}
    async with opened(tmp_path) as opened_store:
        await fill(opened_store, MORE[700:], 700)
        await found(opened_store, VECTORS[0])
        await merged(opened_store, VECTORS[0], 1_000)
    new = {file.name: file.read_bytes() for file in tmp_path.iterdir() if "-faiss" in file.name and file.stat().st_size}
    name, data = (file.name for file in files(tmp_path))
    assert data not in old
    for kept_old in (True, False):
        for written in STATES:
            for named in ("old", "new", *STATES[:-1]):
                here = tmp_path / "here"
                here.mkdir()
                shutil.copy(tmp_path / "m.db", here / "m.db")
                if kept_old:
                    for file, content in old.items():
                        (here / file).write_bytes(content)
                leave(here / data, written, new[data])
                if named in ("old", "new"):
                    (here / name).write_bytes((old if named == "old" else new)[name])
                else:
                    leave(here / name, named, new[name])
                leave(here / f"{name}-new", written, new[name])
                async with opened(here) as again:
                    for i in (1, 699):
                        assert await found(again, VECTORS[i]) == [f"{i}"], (kept_old, written, named)
                    assert await found(again, MORE[1_599]) == ["1599"]
                    index_of(again)
                shutil.rmtree(here)


def leave(file: Path, state: str, whole: bytes) -> None:
    if state == "absent":
        file.unlink(missing_ok=True)
    else:
        content = {"empty": b"", "zeros": bytes(len(whole)), "half": whole[: len(whole) // 2], "whole": whole}
        file.write_bytes(content[state])


def _killed_at(path: Path, where: str, count: int) -> None:
    """Fill and search in a process that dies at the ``count``-th call of what writes a generation."""
    module, name = (generation.Path, where) if where in ("replace", "unlink") else (generation.os, where)
    call, left = getattr(module, name), [count]

    def counted(*args: Any, **options: Any) -> Any:
        target = str(args[0]) if isinstance(args[0], Path) else os.readlink(f"/proc/self/fd/{args[0]}")
        left[0] -= "-faiss" in target or target == str(path)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)

    setattr(module, name, counted)
    asyncio.run(made(path, MORE))


@pytest.mark.crash
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("where", "count"),
    [("pwrite", 1), ("pwrite", 3), ("fsync", 1), ("fsync", 2), ("fsync", 3), ("replace", 1), ("unlink", 1)],
)
def test_a_kill_anywhere_in_a_merge_leaves_what_is_right(where: str, count: int, tmp_path: Path) -> None:
    asyncio.run(made(tmp_path))
    child = multiprocessing.get_context("fork").Process(target=_small_and_killed, args=(tmp_path, where, count))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    asyncio.run(right(tmp_path))


def _small_and_killed(path: Path, where: str, count: int) -> None:
    cache.MERGE, cache.LATE = 100, 1  # type: ignore[misc]
    _killed_at(path, where, count)


async def test_what_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, content: Any, at: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(generation.os, "pwrite", refuse)
        async with opened(tmp_path) as store:
            await fill(store, VECTORS)
            assert await found(store, VECTORS[3]) == ["3"]
            assert await found(store, VECTORS[3], where={"user_id": "u3"}) == ["3"]
            assert not [name for name in os.listdir(tmp_path) if "-faiss-1" in name]
            assert store._vectors._build_from > 0
    assert await right(tmp_path) == 1


def test_a_generation_that_is_given_up_leaves_no_file(tmp_path: Path) -> None:
    writing = Writing(str(tmp_path / "m.db"), 5, 8)
    writing.add("scale", np.arange(5))
    writing.give_up()
    writing.give_up()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DoubtfulError):
        read_manifest(str(tmp_path / "m.db"))


def test_a_manifest_is_plain_json_that_names_no_path(tmp_path: Path) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(generation.Manifest)}
    assert {name for name, kind in fields.items() if kind is str} == {"faiss", "package"}


async def test_the_index_says_where_it_is(tmp_path: Path) -> None:
    await made(tmp_path)
    async with opened(tmp_path) as store:
        assert store.location == f"faiss://{'/'}{tmp_path}/m.db"
        await store.put(MemoryItem(id="x", content="x", embedding=VECTORS[0]))
        await found(store, VECTORS[0])
        details = (await store.health()).details
        assert details["index"]["generation"] == 1
        assert details["index"]["vectors"] + details["index"]["since"] == 701
    async with FaissStore(tmp_path / "m.db", embedder=None) as store:
        await found(store, VECTORS[0])
        assert (await store.health()).details["index"] is None
    assert cache.MERGE > 1_000


async def test_an_index_that_is_cut_off_while_it_is_used_is_damage_and_made_anew_when_the_store_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "IN_MEMORY", 0)
    monkeypatch.setattr(picking, "READ_BYTES", 0)
    await made(tmp_path)
    async with opened(tmp_path) as store:
        assert await found(store, VECTORS[3]) == ["3"]
        os.truncate(files(tmp_path)[1], Layout(index_of(store).generation.count, 64, 0).parts["fine"][0])
        with pytest.raises(CorruptData, match="Open the store again"):
            await found(store, VECTORS[3])
    async with opened(tmp_path) as store:
        assert await found(store, VECTORS[3]) == ["3"]


@pytest.mark.parametrize("ending", [False, True])
async def test_a_large_file_has_a_sum_for_each_piece_and_damage_is_seen_in_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: bool
) -> None:
    if ending:  # what the last merge of a program meets

        def refuse(*_: Any) -> None:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

        monkeypatch.setattr(generation.ThreadPoolExecutor, "submit", refuse)
    monkeypatch.setattr(generation, "PIECE", 5_000)
    monkeypatch.setattr(generation, "_READ", 700)
    await made(tmp_path)
    for number in range(-(-files(tmp_path)[1].stat().st_size // 5_000)):
        codes = files(tmp_path)[1]
        assert manifest(tmp_path)["sha256"] == [
            hashlib.sha256(codes.read_bytes()[start : start + 5_000]).hexdigest()
            for start in range(0, codes.stat().st_size, 5_000)
        ]
        flip(codes, min(5_000 * number + 4_999, codes.stat().st_size - 1))
        assert await right(tmp_path) == number + 2
