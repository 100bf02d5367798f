"""One primary and mirrors: the primary acknowledges, the feed supplies, what differs is found and healed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from composites import Faults, file, memory, mirrored
from msgspec.structs import replace

from memory import MemoryItem
from memory.backends.composite import MirroredStore
from memory.backends.composite.copies import copy_of, marked, unmarked
from memory.errors import BackendUnavailable, UnknownOutcome
from memory.ops import Read, Remove
from memory.store.settle import new_token
from memory.testing.contract.suite import settle


def items(count: int = 30) -> list[MemoryItem]:
    return [
        MemoryItem(
            id=f"{i:02}",
            content=f"marmot {i}",
            namespace=("n", str(i % 3)),
            metadata={"n": i},
            embedding=[1.0, float(i)],
        )
        for i in range(count)
    ]


async def test_a_mirror_that_was_down_catches_up_and_nothing_waits_for_it(tmp_path: Path) -> None:
    faults = Faults()
    async with mirrored(tmp_path, faults, failures=2, recovery=0.02) as store:
        faults.down.add("copy")
        stored = await store.put_many(items())
        await store.delete("03", namespace=("n", "0"))

        async def noticed() -> bool:
            return (await store.health()).status == "degraded"

        await settle(5, noticed)
        assert any("'copy'" in warning for warning in (await store.health()).details["warnings"])
        faults.down.clear()

        async def well() -> bool:
            return (await store.health()).status == "healthy"

        await settle(5, well)
        await store.drain()
        facts = (await store.health()).details["members"]
        assert facts["copy"]["behind_events"] == facts["index"]["behind_events"] == 0
        assert (await store.verify()).ok
        copies = await store.mirrors["copy"].read(Read(keys=tuple(item.key for item in stored), now=1))
        assert sum(copy is not None for copy in copies) == 29


async def test_reads_come_from_a_mirror_marked_stale_only_where_that_is_allowed(tmp_path: Path) -> None:
    faults = Faults()
    (tmp_path / "a").mkdir()
    async with mirrored(tmp_path / "a", faults, failures=2, recovery=0.02, stale_reads=True) as store:
        stored = await store.put_many(items())
        await store.drain()
        asked = [
            lambda: store.get("01", namespace=("n", "1")),
            lambda: store.list(limit=10),
            lambda: store.list({"metadata.n": {"$gte": 20}}, order="-created_at"),
            store.count,
            lambda: store.count({"kind": "note"}, under="n"),
            store.namespaces,
            lambda: store.search("marmot 7", neighbours=1, limit=200),
            lambda: store.search(vector=[1.0, 3.0], limit=200),
            lambda: store.list(where={"version": stored[3].version}),
        ]
        expected: list[Any] = [await ask() for ask in asked]
        faults.down.add("primary")
        for ask, wanted in zip(asked, expected, strict=True):
            assert await ask() == wanted
        assert store.stale == "copy"
        health = await store.health()
        assert health.status == "degraded"
        assert any("reads come from the mirror 'copy'" in warning for warning in health.details["warnings"])
        for write in (lambda: store.put(MemoryItem(content=1)), lambda: store.delete("01", namespace=("n", "1"))):
            with pytest.raises(BackendUnavailable):
                await write()
        faults.down.clear()
        await asyncio.sleep(0.03)
        assert await store.count() == 30
        assert store.stale is None
    (tmp_path / "b").mkdir(exist_ok=True)
    async with mirrored(tmp_path / "b", faults) as store:
        await store.put_many(items())
        faults.down.add("primary")
        with pytest.raises(BackendUnavailable):
            await store.count()


@pytest.mark.parametrize("damage", ["missing", "too many", "changed", "stamp", "older"])
async def test_divergence_is_found_by_comparison_and_healed_from_the_primary(damage: str, tmp_path: Path) -> None:
    async with mirrored(tmp_path, Faults()) as store:
        stored = await store.put_many(items())
        await store.drain()
        key, mirror = stored[7].key, store.mirrors["copy"]
        (row,) = await mirror.read(Read(keys=(key,), now=1))
        assert row is not None
        body, version = unmarked(row.body)
        now = store._clock()
        if damage == "missing":
            await mirror.write([Remove(key=key, token=new_token(), now=now)])
        elif damage == "too many":
            extra = copy_of(replace(row, body=body.replace(b'"id":"07"', b'"id":"77"')), now)
            await mirror.write([extra])
        else:
            wrong = replace(
                row, body=body, version=version - (damage == "older"), count=row.count + (damage == "stamp")
            )
            put = copy_of(wrong, now, row.version)
            if damage == "changed":
                put = replace(put, body=marked(body.replace(b"marmot 7", b"marmot 8"), version))
            await mirror.write([put])
        problems = (await store.verify()).problems
        assert [problem.what for problem in problems] == ["divergent copy"]
        assert "'copy'" in problems[0].detail
        report = await store.repair()
        assert any("made 1 records of 'copy' equal" in action for action in report.actions)
        assert (await store.verify()).ok


async def test_a_search_in_a_mirror_repairs_what_it_finds_wrong(tmp_path: Path) -> None:
    async with mirrored(tmp_path, Faults()) as store:
        stored = await store.put_many(items())
        expected = (await store.search(vector=[1.0, 7.0], limit=3)).hits
        index, key = store.mirrors["index"], stored[7].key
        (row,) = await index.read(Read(keys=(key,), now=1))
        assert row is not None
        body, version = unmarked(row.body)
        wrong = replace(row, body=body, version=version - 1)
        await index.write([copy_of(wrong, store._clock(), row.version)])
        assert (await store.search(vector=[1.0, 7.0], limit=3)).hits == expected
        assert (await store.verify()).ok, "it was repaired in passing"


async def test_a_mirror_that_is_searched_and_down_leaves_the_search_to_the_primary(tmp_path: Path) -> None:
    faults = Faults()
    async with mirrored(tmp_path, faults, failures=1_000) as store:
        await store.put_many(items())
        asked = [lambda: store.search("marmot 7"), lambda: store.search(vector=[1.0, 3.0])]
        expected = [(await ask()).hits for ask in asked]
        faults.down.add("index")
        assert [(await ask()).hits for ask in asked] == expected


async def test_a_mirror_starts_from_a_comparison_and_goes_on_from_where_it_was(tmp_path: Path) -> None:
    faults = Faults()
    async with file(tmp_path, "primary", faults, feed=True) as primary:
        await primary.put_many(items())

    def store() -> MirroredStore:
        return MirroredStore(file(tmp_path, "primary", faults), {"copy": file(tmp_path, "copy", faults)})

    async with store() as whole:
        await whole.drain()
        assert (await whole.verify()).ok
        assert await whole.mirrors["copy"].store.count(under="n") == 30
        position = await whole.copies["copy"].position()
    async with file(tmp_path, "primary", faults, feed=True) as primary:
        await primary.delete("07", namespace=("n", "1"))
    async with store() as whole:
        assert whole.followers["copy"].position == position
        await whole.drain()
        assert (await whole.verify()).ok
        assert await whole.mirrors["copy"].store.count(under="n") == 29


async def test_applying_is_idempotent_in_any_order_by_any_number_of_processes(tmp_path: Path) -> None:
    faults = Faults()

    def store() -> MirroredStore:
        return MirroredStore(file(tmp_path, "primary", faults), {"copy": file(tmp_path, "copy", faults)})

    async with store() as one, store() as other:
        for turn in range(5):
            await one.put_many(items(10))
            await other.put_many(items(5))
            await one.delete(f"{turn:02}", namespace=("n", str(turn % 3)))
            async with asyncio.TaskGroup() as group:
                for whole in (one, other, one):
                    group.create_task(whole.drain())
                    keys = [item.key for item in reversed(items(10))]
                    group.create_task(whole.copies["copy"].apply(keys, anew=True))
        await one.drain()
        assert (await one.verify()).ok
        assert (await other.verify()).ok


async def test_records_in_one_store_and_vectors_in_another_are_consistent_at_once(tmp_path: Path) -> None:
    store = MirroredStore(
        memory("primary", Faults()), {"vectors": file(tmp_path, "vectors", Faults())}, vectors="vectors"
    )
    async with store:
        for turn in range(20):
            await store.put(MemoryItem(id="a", content=turn, embedding=[1.0, float(turn)]))
            (hit,) = (await store.search(vector=[1.0, float(turn)])).hits
            assert (hit.item.content, hit.score) == (turn, pytest.approx(1.0))
        await store.delete("a")
        assert not (await store.search(vector=[1.0, 0.0])).hits


async def test_what_a_mirror_cannot_hold_is_told_and_holds_nothing_else_up(tmp_path: Path) -> None:
    async with file(tmp_path, "copy", Faults()) as copy:
        await copy.put(MemoryItem(id="other", content="x", embedding=[1.0, 2.0, 3.0]))
    store = MirroredStore(memory("primary", Faults()), {"copy": file(tmp_path, "copy", Faults())})
    async with store:
        await store.put(MemoryItem(id="vector", content="x", embedding=[1.0, 2.0]))
        await store.put(MemoryItem(id="plain", content="y"))
        await store.drain()
        assert await store.mirrors["copy"].store.exists("plain")
        assert "cannot hold 1 items" in (await store.health()).details["warnings"][0]
        found = {problem.key[1]: problem.detail for problem in (await store.verify()).problems if problem.key}
        assert found == {"vector": "in 'copy': missing"}


def queueing(place: Path, faults: Faults) -> MirroredStore:
    return MirroredStore(
        file(place, "primary", faults), {"copy": memory("copy", faults)}, queue=file(place, "queue", faults),
        failures=1_000, stale_reads=True,
    )  # fmt: skip


async def test_writes_that_are_queued_are_unknown_until_they_are_applied(tmp_path: Path) -> None:
    faults = Faults()
    async with queueing(tmp_path, faults) as store:
        old = await store.put(MemoryItem(id="a", content="old", embedding=[1.0, 2.0]))
        await store.put(MemoryItem(id="b", content="old"))
        await store.drain()
        faults.down.add("primary")
        unknown: list[UnknownOutcome] = []
        for item in (MemoryItem(id="a", content=1), MemoryItem(id="a", content=2, embedding=[2.0, 1.0])):
            with pytest.raises(UnknownOutcome) as caught:
                await store.put(item)
            unknown.append(caught.value)
        with pytest.raises(UnknownOutcome):
            await store.delete("b")
        with pytest.raises(UnknownOutcome):
            await unknown[1].retry()
        assert await store.get("a") == old, "nothing is claimed that is not stored"
        health = await store.health()
        assert health.details["queued_writes"] == 3
        assert "3 writes wait for the primary" in health.details["warnings"]
    async with queueing(tmp_path, faults) as store:
        faults.down.clear()
        assert store.queue is not None
        await store.queue.drain()
        found = await store.get("a")
        assert found is not None
        assert (found.content, found.embedding is None) == (2, False)
        assert await store.get("b") is None
        assert not store.queue.waiting
        assert store.queue.overtaken == 0
        assert (await store.health()).details["queued_writes"] == 0


async def test_a_queued_write_does_not_undo_what_others_wrote_meanwhile(tmp_path: Path) -> None:
    faults = Faults()
    async with queueing(tmp_path, faults) as store:
        await store.put(MemoryItem(id="a", content="old"))
        faults.down.add("primary")
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(MemoryItem(id="a", content="queued"))
        async with file(tmp_path, "primary", Faults(), feed=True) as other:
            new = await other.put(MemoryItem(id="a", content="of another process"))
        faults.down.clear()
        assert store.queue is not None
        await store.queue.drain()
        assert await store.get("a") == new
        assert (await store.health()).details["given_up_writes"] == 1
        with pytest.raises(UnknownOutcome):
            await caught.value.retry()
