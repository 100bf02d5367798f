"""Sentences about moving everything: export, import, backup, restore, verify, repair."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory.clock import ManualClock
from memory.errors import AlreadyExists, CorruptData, InvalidFilter, InvalidItem, MemoryStoreError
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, Tap, body, home, ids, item, stamp, walk


async def plant(store: MemoryStore, clock: ManualClock) -> list[MemoryItem]:
    """Items with every field, touched, updated, of several times; returned in key order."""
    await store.put_many(
        [
            item("plain"),
            item(
                "a\0b".replace("\0", "_"),
                {"n": [1, 1.0, -0.0, 1e18, 2**53 + 1, None, True], "s": "NUL \0 é e\u0301 \n"},
            ),
            item(
                "vec",
                "v",
                embedding=[0.1, -0.0, 3e38],
                namespace=home(store, "x", "y"),
                tags=("t", "t"),
                importance=1 / 3,
            ),
            item("old", "o", created_at=datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), user_id="ann"),
        ]
    )
    clock.advance(60)
    await store.put(item("temp", "will expire"), ttl=10_000)
    await store.touch("old")
    await store.update(
        "plain", metadata={"é": {"deep": ["x"]}}, agent_id="suite", session_id="s", kind="episodic", text="t"
    )
    return await walk(store)


def same(one: MemoryItem, other: MemoryItem) -> None:
    """Equal in all but the version."""
    assert body(one) == body(other)
    assert stamp(one) == stamp(other)


async def write(path: Path, *lines: Any) -> None:
    """A file of JSON lines; a str is written as it is."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    await asyncio.to_thread(path.write_text, text, "utf-8")


class Transfer(Suite):
    """Export and import."""

    async def test_an_export_imported_again_gives_the_same_items(
        self, store: MemoryStore, clock: ManualClock, place: Path
    ) -> None:
        items = await plant(store, clock)
        assert await store.export_jsonl(place / "all.jsonl") == len(items)
        clock.advance(5)
        await store.delete_where(None, under=())
        report = await store.import_jsonl(place / "all.jsonl")
        assert (report.imported, report.refused) == (len(items), {})
        again = await walk(store)
        assert len(again) == len(items)
        for one, other in zip(items, again, strict=True):
            same(one, other)
            assert other.version > one.version, "the store issues new versions"

    async def test_an_export_is_one_item_a_line_in_key_order(
        self, store: MemoryStore, clock: ManualClock, place: Path
    ) -> None:
        items = await plant(store, clock)
        await store.export_jsonl(str(place / "all.jsonl"))
        text = await asyncio.to_thread((place / "all.jsonl").read_text, "utf-8")
        assert [MemoryItem.from_dict(json.loads(line)) for line in text.splitlines()] == items

    async def test_an_export_can_be_filtered_and_scoped(
        self, store: MemoryStore, clock: ManualClock, place: Path
    ) -> None:
        await plant(store, clock)
        assert await store.export_jsonl(place / "f.jsonl", {"user_id": "ann"}) == 1
        assert await store.export_jsonl(place / "f.jsonl", under=home(store, "x")) == (
            1 if home(store, "x") == ("x",) else 5
        )
        assert await store.export_jsonl(place / "f.jsonl", namespace=("x",)) == 0
        with pytest.raises(InvalidFilter):
            await store.export_jsonl(place / "g.jsonl", {"nofield": 1})
        assert not await asyncio.to_thread((place / "g.jsonl").exists)

    async def test_export_and_import_report_their_progress(self, store: MemoryStore, place: Path) -> None:
        await store.put_many([item(f"{i:04}") for i in range(1_234)])
        told: list[int] = []
        await store.export_jsonl(place / "p.jsonl", progress=told.append)
        assert told == sorted(told)
        assert (told[-1], len(told) > 1) == (1_234, True)
        told.clear()
        await store.import_jsonl(place / "p.jsonl", progress=told.append)
        assert told == sorted(told)
        assert told[-1] == 1_234

    async def test_an_import_replaces_items_of_the_same_key(self, store: MemoryStore, place: Path) -> None:
        first = await store.put(item("a", "old"))
        await write(
            place / "i.jsonl", {"id": "a", "content": "new", "access_count": 7, "created_at": "2020-01-01T00:00:00Z"}
        )
        await store.import_jsonl(place / "i.jsonl")
        found = await store.get("a")
        assert found is not None
        assert (found.content, found.access_count, found.created_at.year) == ("new", 7, 2020)
        assert found.version > first.version

    async def test_an_access_count_stays_at_the_largest_number(self, store: MemoryStore, place: Path) -> None:
        most = 2**63 - 1
        lines = [{"id": f"{most - count}", "content": "x", "access_count": count} for count in (most, most - 2)]
        lines += [{"id": "double", "content": "x", "access_count": 2**53}]
        await write(place / "i.jsonl", *lines)
        assert (await store.import_jsonl(place / "i.jsonl")).imported == 3
        for touches in range(1, 4):
            for id in ("0", "2", "double"):
                assert await store.touch(id)
            found = await store.get_many(["0", "2", "double"])
            counts = [one and one.access_count for one in found]
            assert counts == [most, min(most - 2 + touches, most), 2**53 + touches]
        assert await ids(store, {"access_count": {"$gte": most}}) == ["0", "2"]
        # What is exported is taken back.
        await store.export_jsonl(place / "o.jsonl")
        assert (await store.import_jsonl(place / "o.jsonl")).imported == 3

    async def test_a_minimal_line_is_enough_and_blank_lines_are_skipped(self, store: MemoryStore, place: Path) -> None:
        await write(
            place / "i.jsonl", {"content": "one"}, "", {"content": {"two": 2}, "namespace": home(store, "x")}, "   "
        )
        assert (await store.import_jsonl(place / "i.jsonl")).imported == 2
        assert await store.count() == 2
        await write(place / "empty.jsonl")
        assert (await store.import_jsonl(place / "empty.jsonl")).imported == 0

    async def test_a_bad_line_is_named_and_nothing_is_imported(self, make: Make, place: Path) -> None:
        tap = Tap()
        store = await make(layers=(tap,)).open()
        good = [{"id": f"{i:04}", "content": i} for i in range(700)]
        for bad in (
            "{", "[]", "null", '"text"', "\x00", {"id": "x"}, {"content": 1, "id": ""}, {"content": 1, "importance": 2}, {"content": 1, "id": 5},
            {"content": 1, "unknown": 1}, {"content": 1, "v": 99}, {"content": 1, "created_at": "yesterday"}, {"content": 1, "tags": "x"},
            {"content": "x" * 300_000}, {"content": 1, "embedding": "&"}, {"content": 1, "access_count": -1}, '{"content": 1e999}',
            {"content": 1, "created_at": "2026-01-01T00:00:00"}, {"content": " ".join(f"w{i}" for i in range(5_001))}, {"content": 2**64},
            '{"content": ' + "[" * 5_000 + "]" * 5_000 + "}", '{"content": 1, "metadata": ' + '{"a":' * 5_000 + "1" + "}" * 5_001,
        ):  # fmt: skip
            await write(place / "i.jsonl", *good, bad, {"content": 1})
            with pytest.raises(InvalidItem) as caught:
                await store.import_jsonl(place / "i.jsonl")
            assert list(vars(caught.value)["lines"]) == [701], bad
            assert "701" in str(caught.value)
        assert "write" not in tap.calls
        assert await store.count() == 0

    async def test_skipping_bad_lines_imports_the_rest_and_names_them(self, store: MemoryStore, place: Path) -> None:
        lines: list[Any] = [{"id": f"{i:04}", "content": i} for i in range(600)]
        lines.append('{"content": ' + "[" * 5_000 + "]" * 5_000 + "}")
        lines[2], lines[5], lines[555] = "{", {"content": 1, "kidn": "note"}, {"content": 1, "id": "\0"}
        await write(place / "i.jsonl", *lines)
        report = await store.import_jsonl(place / "i.jsonl", on_error="skip")
        assert (report.imported, list(report.refused)) == (597, [3, 6, 556, 601])
        assert "kind" in report.refused[6], "the name that was probably meant"
        assert await store.count() == 597

    async def test_an_unknown_answer_to_errors_is_refused(self, store: Any, place: Path) -> None:
        await write(place / "i.jsonl", {"content": 1})
        with pytest.raises(InvalidItem):
            await store.import_jsonl(place / "i.jsonl", on_error="ignore")
        assert await store.count() == 0

    async def test_a_missing_file_is_named(self, store: MemoryStore, place: Path) -> None:
        with pytest.raises((MemoryStoreError, OSError), match=r"nowhere\.jsonl"):
            await store.import_jsonl(place / "nowhere.jsonl")

    async def test_an_export_to_an_impossible_place_leaves_nothing(self, store: MemoryStore, place: Path) -> None:
        await store.put(item())
        with pytest.raises((MemoryStoreError, OSError)):
            await store.export_jsonl(place / "no" / "such" / "dir.jsonl")
        target = place / "taken"
        await asyncio.to_thread(target.mkdir)
        with pytest.raises((MemoryStoreError, OSError)):
            await store.export_jsonl(target)
        names = await asyncio.to_thread(lambda: [path.name for path in place.iterdir()])
        assert not [name for name in names if name.endswith(".part")]
        assert await store.export_jsonl(place / "fine.jsonl") == 1

    async def test_vectors_and_their_embedder_travel(self, store: MemoryStore, place: Path) -> None:
        vector = np.array([0.1, -2.5, 1e-40], dtype="<f4")
        line = {**item("a", embedding=vector).to_dict(), "embedder": "some-model"}
        await write(place / "i.jsonl", line, {"content": 1, "id": "b", "embedding": [1, 2.5, 4]})
        await store.import_jsonl(place / "i.jsonl")
        found = await store.get("a")
        assert found is not None
        assert found.embedding.tobytes() == vector.tobytes()
        await store.export_jsonl(place / "o.jsonl")
        text = await asyncio.to_thread((place / "o.jsonl").read_text)
        first, second = map(json.loads, text.splitlines())
        assert (first["embedder"], first["embedding"]) == ("some-model", line["embedding"])
        assert MemoryItem.from_dict(second).embedding.tolist() == [1.0, 2.5, 4.0]
        assert second["embedder"] == "some-model", "a vector without a name lies in the space of the store"

    async def test_what_was_imported_is_searched_filtered_and_deduplicated(
        self, store: MemoryStore, place: Path
    ) -> None:
        await write(place / "i.jsonl", {"id": "a", "content": "marmot whistle", "metadata": {"n": 5}})
        await store.import_jsonl(place / "i.jsonl")
        assert [hit.item.id for hit in await store.search("whistles")] == ["a"]
        assert await ids(store, {"metadata.n": {"$gt": 4}}) == ["a"]
        assert (await store.put(item("b", "marmot whistle"), dedup="content")).id == "a"

    async def test_an_imported_item_that_has_expired_stays_unseen(
        self, store: MemoryStore, clock: ManualClock, place: Path
    ) -> None:
        await store.put(item("a"), ttl=10)
        await store.export_jsonl(place / "i.jsonl")
        clock.advance(10)
        await store.import_jsonl(place / "i.jsonl")
        assert await store.count() == 0


class Keeping(Suite):
    """Backup, restore, verify, repair, stats, health."""

    async def test_a_backup_restores_every_item_with_its_times(
        self, make: Make, clock: ManualClock, place: Path
    ) -> None:
        store = await make().open()
        items = await plant(store, clock)
        await store.delete("vec", namespace=home(store, "x", "y"))
        items = [one for one in items if one.id != "vec"]
        assert await store.backup(place / "all.backup") == len(items)
        clock.advance(5)
        await store.delete_where(None, under=())
        assert await store.restore(place / "all.backup") == len(items)
        for one, other in zip(items, await walk(store), strict=True):
            same(one, other)
        assert [hit.item.id for hit in await store.search("expire")] == ["temp"]
        assert (await store.verify()).ok

    async def test_a_backup_never_overwrites_a_file(self, make: Make, place: Path) -> None:
        store = await make().open()
        await asyncio.to_thread((place / "mine").write_text, "precious")
        with pytest.raises(AlreadyExists):
            await store.backup(place / "mine")
        assert await asyncio.to_thread((place / "mine").read_text) == "precious"

    async def test_a_backup_to_an_impossible_place_is_refused(self, make: Make, place: Path) -> None:
        store = await make().open()
        await store.put(item())
        await asyncio.to_thread((place / "file").write_text, "x")
        for bad in (place / "no" / "such" / "b", place / "file" / "b", place / ("x" * 300)):
            with pytest.raises(InvalidItem, match=r"cannot be opened|does not exist") as caught:
                await store.backup(bad)
            assert vars(caught.value)["field"] == "path"
        assert await store.backup(place / "fine") == 1

    async def test_restore_asks_for_an_empty_store_or_permission(self, make: Make, place: Path) -> None:
        store = await make().open()
        await store.put_many([item("a", "then"), item("b", "then")])
        await store.backup(place / "b")
        await store.put_many([item("a", "now"), item("c", "now")])
        with pytest.raises(AlreadyExists):
            await store.restore(place / "b")
        assert (await store.get("a") or item()).content == "now"
        assert await store.restore(place / "b", replace=True) == 2
        assert [(one.id, one.content) for one in await walk(store)] == [("a", "then"), ("b", "then")]

    async def test_a_damaged_backup_restores_nothing(self, make: Make, place: Path) -> None:
        store = await make().open()
        await store.put_many([item(str(i), "x" * 500) for i in range(20)])
        await store.backup(place / "b")
        data = await asyncio.to_thread((place / "b").read_bytes)
        await store.delete_where(None, under=())
        for name, wrong in (
            ("cut", data[: len(data) // 2]),
            ("text", b"not a backup at all"),
            ("json", b'{"id": 5}\n'),
        ):
            await asyncio.to_thread((place / name).write_bytes, wrong)
            with pytest.raises((InvalidItem, CorruptData, MemoryStoreError)):
                await store.restore(place / name)
            assert await store.count() == 0, name

    async def test_a_missing_backup_is_named(self, make: Make, place: Path) -> None:
        store = await make().open()
        with pytest.raises((MemoryStoreError, OSError), match=r"nowhere\.backup"):
            await store.restore(place / "nowhere.backup")

    async def test_an_export_can_be_restored_too(self, make: Make, clock: ManualClock, place: Path) -> None:
        store = await make().open()
        items = await plant(store, clock)
        await store.export_jsonl(place / "e.jsonl")
        assert await store.restore(place / "e.jsonl", replace=True) == len(items)
        for one, other in zip(items, await walk(store), strict=True):
            same(one, other)

    async def test_verify_of_a_sound_store_finds_no_problem(self, make: Make, clock: ManualClock) -> None:
        store = await make(feed=make().capabilities.feed).open()
        assert (await store.verify()).ok
        items = await plant(store, clock)
        await store.search("expire")
        await store.delete("plain")
        report = await store.verify()
        assert (report.problems, report.ok) == ([], True)
        assert report.checked >= len(items) - 1

    async def test_repair_of_a_sound_store_loses_nothing(self, make: Make, clock: ManualClock) -> None:
        store = await make().open()
        items = await plant(store, clock)
        report = await store.repair()
        assert report.actions
        assert report.quarantined == []
        assert await walk(store) == items
        assert [hit.item.id for hit in await store.search("expire")] == ["temp"]
        assert (await store.verify()).ok

    async def test_stats_count_live_items_and_namespaces(self, make: Make, clock: ManualClock) -> None:
        store = await make().open()
        await plant(store, clock)
        stats = await store.stats()
        assert (stats.items, stats.namespaces) == (5, len({home(store, "x", "y"), ("default",)}))
        clock.advance(20_000)
        assert (await store.stats()).items == 4

    async def test_health_of_an_open_store_is_healthy(self, make: Make) -> None:
        store = await make().open()
        health = await store.health()
        assert (health.status, health.backend, health.durability) == ("healthy", store.name, store.durability)

    async def test_declared_durability_is_one_of_the_known(self, make: Make) -> None:
        store = await make().open()
        assert store.durability in ("none", "process", "power", "replicated", "unknown")
        if store.capabilities.persistent:
            assert store.durability != "none"
