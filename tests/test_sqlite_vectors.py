"""Vector search in the sqlite backend: exact where it says so, near enough where it does not, whatever was written."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from memory import ManualClock, MemoryItem
from memory.backends.sqlite import SqliteStore, entries, picking, spaces, survivors, vectorlog
from memory.backends.sqlite.codes import (
    Codes,
    centre_of,
    closest,
    codes_of,
    digest,
    distances,
    fine_products,
    inverse_lengths,
    pack,
    rough_cosines,
)
from memory.backends.sqlite.reading import conditions
from memory.backends.sqlite.rotation import rotated_vector
from memory.backends.sqlite.spaces import read_state
from memory.codec import decode
from memory.errors import CorruptData
from memory.filters import parse
from memory.model import key_order
from memory.ops import WHOLE, Nearest, Scope
from memory.search.vectors import cosines, matrix, products, slack, unit
from memory.store import fallbacks
from memory.vectors import vector_bytes

DIMENSION = 24
FILTERS: list[Any] = [
    None,
    {"kind": "odd"},
    {"metadata.n": {"$gte": 7}},
    {"metadata.n": 3, "tags": {"$contains": "red"}},
    {"metadata.plain": "x"},
    {"$or": [{"importance": {"$gt": 0.6}}, {"metadata.n": 1}]},
    {"content": {"$startswith": "w1"}},
    {"metadata.n": {"$gte": 3, "$lt": 6}},
    {"metadata.none": 1},
    {"created_at": None},
]
SCOPES = [
    WHOLE,
    Scope(("a",)),
    Scope(("a",), below=False),
    Scope(user_id="u1"),
    Scope(("a", "sub"), user_id="u2", session_id="s1"),
    Scope(("b",), agent_id="g"),
]


def some_vector(rng: random.Random, dimension: int = DIMENSION) -> Any:
    """Few directions, so that some are equal, and zeros."""
    if rng.random() < 0.05:
        return np.zeros(dimension, dtype=np.float32)
    if rng.random() < 0.1:
        return np.eye(dimension, dtype=np.float32)[rng.randrange(4)]
    return np.array([rng.gauss(0.3, 1) for _ in range(dimension)], dtype=np.float32)


def some_item(rng: random.Random, clock: ManualClock) -> MemoryItem:
    return MemoryItem(
        id=f"i{rng.randrange(600)}",
        namespace=rng.choice([("a",), ("a", "sub"), ("ab",), ("b",)]),
        content=f"w{rng.randrange(30)}",
        kind=rng.choice(["odd", "even"]),
        user_id=rng.choice([None, "u1", "u2"]),
        agent_id=rng.choice([None, "g"]),
        session_id=rng.choice([None, "s1"]),
        importance=rng.choice([0.1, 0.5, 0.9]),
        tags=tuple(rng.sample(["red", "green"], rng.randrange(3))),
        metadata={"n": rng.randrange(12), "plain": rng.choice(["x", "y"])},
        embedding=some_vector(rng) if rng.random() < 0.9 else None,
    )


async def write_some(store: SqliteStore, rng: random.Random, clock: ManualClock, count: int) -> None:
    for _ in range(count // 40):
        await store.put_many([some_item(rng, clock) for _ in range(rng.choice([1, 3, 40, 300]))])
        ttl = rng.choice([None, 1, 50])
        await store.put(some_item(rng, clock), ttl=ttl)
        clock.advance(rng.random())
        for item in (await store.list(limit=3, namespace=("a",))).items[:2]:
            await store.delete(item.id, namespace=item.namespace)


def best(rows: list[Any], op: Nearest) -> list[tuple[float, Any]]:
    """The best ``limit``, as (score, key), best first."""
    if not rows:
        return []
    scores = cosines(op.vector, matrix([row.embedding for row in rows], len(op.vector) // 4)).tolist()
    keys = [key_order(decode(row).key) for row in rows]
    return [(-score, key) for score, key in sorted((-s, k) for s, k in zip(scores, keys, strict=True))][: op.limit]


def asked(rng: random.Random, clock: ManualClock, exact: bool = False) -> Nearest:
    where, scope = rng.choice(FILTERS), rng.choice(SCOPES)
    raw = vector_bytes(some_vector(rng))
    assert raw is not None
    return Nearest(
        vector=raw,
        embedder=None,
        limit=rng.choice([1, 5, 30]),
        now=clock(),
        where=None if where is None else parse(where),
        scope=scope,
        exact=exact,
    )


async def same_as_fallback(store: SqliteStore, op: Nearest) -> None:
    found = best(await store._nearest(op), op)
    assert found == best(await fallbacks.nearest(store, op), op)


@pytest.mark.parametrize("held", [20_000, -1], ids=["held in memory", "by code"])
async def test_the_exact_nearest_are_those_of_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(entries, "WIDE", 16 if held > 0 else 0)
    monkeypatch.setattr(entries, "TAIL", 1_024 if held > 0 else 8)
    rng, clock = random.Random(5), ManualClock()
    async with SqliteStore(tmp_path / "m.db", clock=clock, index=["metadata.n"], sweep_interval=None) as store:
        store._vectors.exact = held
        for _ in range(6):
            await write_some(store, rng, clock, 160)
            for _ in range(12):
                await same_as_fallback(store, asked(rng, clock, exact=True))
        assert (await store.verify()).ok


async def test_a_search_sees_what_another_store_has_just_written(tmp_path: Path) -> None:
    rng, clock = random.Random(6), ManualClock()
    async with (
        SqliteStore(tmp_path / "m.db", clock=clock) as store,
        SqliteStore(tmp_path / "m.db", clock=clock) as other,
        SqliteStore(tmp_path / "m.db", clock=clock) as coded,
    ):
        coded._vectors.exact = -1
        for step in range(30):
            writer = store if step % 2 else other
            await write_some(writer, rng, clock, 40)
            mark = np.array([rng.gauss(0, 1) for _ in range(DIMENSION)], dtype=np.float32)
            await writer.put(MemoryItem(id=f"new{step}", content="new", embedding=mark))
            await writer.put(MemoryItem(id="moving", content="moving", embedding=-mark))
            for reader in (store, other, coded):
                assert [hit.item.id for hit in await reader.search(vector=mark, limit=1)] == [f"new{step}"]
                assert [hit.item.id for hit in await reader.search(vector=-mark, limit=1)] == ["moving"]
            await writer.delete(f"new{step}")
            for reader in (store, other, coded):
                page = await reader.search(vector=mark, limit=3)
                assert f"new{step}" not in [hit.item.id for hit in page]
                assert len(page) == 3 or step < 3


def clustered(count: int, seed: int = 1, dimension: int = 64) -> Any:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((60, dimension))
    found = centres[rng.integers(0, 60, count)] + 0.7 * rng.standard_normal((count, dimension))
    return found.astype(np.float32)


async def recall(store: SqliteStore, **how: Any) -> float:
    shares = []
    for vector in clustered(12, seed=2):
        limit = how.get("limit", 10)
        true = [hit.item.id for hit in await store.search(vector=vector, exact=True, **{"limit": limit, **how})]
        found = [hit.item.id for hit in await store.search(vector=vector, **{"limit": limit, **how})]
        assert len(found) == len(true)
        shares.append(len(set(true) & set(found)) / max(1, len(true)))
    return float(np.mean(shares))


async def test_codes_find_nearly_all_of_the_nearest(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", synchronous="off", index=["metadata.n"]) as store:
        vectors = clustered(30_000)
        for start in range(0, len(vectors), 3_000):
            items = [
                MemoryItem(id=f"{i}", content=i, metadata={"n": i % 10, "m": i % 3}, user_id=f"u{i % 300}", embedding=v)
                for i, v in enumerate(vectors[start : start + 3_000], start)
            ]
            await store.put_many(items)
        state = await store._read_in(read_state)
        assert (state.vectors, state.coded, state.waiting) == (30_000, 30_000, 0)
        assert store._vectors.exact < state.vectors
        assert await recall(store) >= 0.98
        assert await recall(store, limit=100) >= 0.98
        assert await recall(store, where={"metadata.n": 3}) >= 0.99
        assert await recall(store, where={"metadata.m": 1}) >= 0.99
        assert await recall(store, where={"user_id": "u7"}) == 1.0

        # A search that is given up leaves nothing behind.
        for wait in (0.0, 0.002, 0.01, 0.03):
            task = asyncio.create_task(store.search(vector=vectors[0], exact=True))
            await asyncio.sleep(wait)
            task.cancel()
            await asyncio.wait([task])
        assert [hit.item.id for hit in await store.search(vector=vectors[5], limit=1)] == ["5"]
        assert not store._vectors.lock.locked()

        # The codes are on disk: whoever opens the file next reads no vectors to have them.
        async with SqliteStore(tmp_path / "m.db", synchronous="off") as other:
            assert [hit.item.id for hit in await other.search(vector=vectors[5], limit=1)] == ["5"]


async def test_codes_find_them_too_where_the_nearest_are_hardly_nearer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "BITS", (100, 3))  # of 3,000 vectors the share that is picked of 30,000
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((3_020, 64)).astype(np.float32)
    async with SqliteStore(tmp_path / "m.db", synchronous="off") as store:
        store._vectors.exact = -1
        await store.put_many([MemoryItem(id=f"{i}", content=i, embedding=v) for i, v in enumerate(vectors[:3_000])])

        async def found() -> float:
            shares = []
            for vector in vectors[3_000:]:
                true = {hit.item.id for hit in await store.search(vector=vector, exact=True)}
                shares.append(len(true & {hit.item.id for hit in await store.search(vector=vector)}) / 10)
            return float(np.mean(shares))

        assert await found() >= 0.98
        monkeypatch.setattr(picking, "SURE", -np.inf)
        assert await found() < 0.95, "a fixed number of candidates misses some"


async def small_coded(path: Path, count: int = 900) -> SqliteStore:
    store = SqliteStore(path, index=["metadata.n"])
    await store.open()
    store._vectors.exact = -1
    await store.put_many(
        [
            MemoryItem(id=f"{i}", content=f"number {i}", metadata={"n": i % 9}, embedding=v)
            for i, v in enumerate(clustered(count, seed=3))
        ]
    )
    return store


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE codes SET bits = zeroblob(length(bits)) WHERE seq = 1",
        "UPDATE codes SET fine = zeroblob(length(fine)) WHERE seq = 1",
        "UPDATE codes SET ords = zeroblob(length(ords)) WHERE seq = 1",
        "UPDATE codes SET bits = x'00' WHERE seq = 1",
        "DELETE FROM codes WHERE seq = 1",
        "DELETE FROM meta WHERE name = 'centre'",
        "UPDATE meta SET value = zeroblob(length(value)) WHERE name = 'centre'",
        "UPDATE moves SET ords = zeroblob(length(ords))",
        "DELETE FROM moves",
        "UPDATE counter SET vectors = vectors - 1",
    ],
)
async def test_damaged_codes_give_no_wrong_answer_and_are_found_and_mended(tmp_path: Path, damage: str) -> None:
    store = await small_coded(tmp_path / "m.db")
    vectors = clustered(900, seed=3)
    await store.put(MemoryItem(id="late", content="late", embedding=-vectors[0]))
    await store.close()
    db = apsw.Connection(str(tmp_path / "m.db"))
    db.execute(damage)
    assert db.changes() == 1
    db.close()
    async with SqliteStore(tmp_path / "m.db", index=["metadata.n"]) as store:
        store._vectors.exact = -1
        for i in (0, 100, 899):
            assert [hit.item.id for hit in await store.search(vector=vectors[i], limit=1)] == [f"{i}"]
        assert [hit.item.id for hit in await store.search(vector=-vectors[0], limit=1)] == ["late"]
        assert not (await store.verify()).ok
        await store.repair()
        assert (await store.verify()).ok
        assert [hit.item.id for hit in await store.search(vector=-vectors[0], limit=1)] == ["late"]


async def test_a_lost_space_is_damage_and_not_an_empty_answer(tmp_path: Path) -> None:
    store = await small_coded(tmp_path / "m.db", 300)
    mark = clustered(300, seed=3)[7]
    db = apsw.Connection(str(tmp_path / "m.db"))
    db.execute("UPDATE counter SET dimension = NULL")
    db.close()
    with pytest.raises(CorruptData):
        await store.search(vector=mark)
    with pytest.raises(CorruptData):
        await store.put(MemoryItem(content="x", embedding=mark))
    assert not (await store.verify()).ok
    await store.repair()
    assert (await store.verify()).ok
    assert [hit.item.id for hit in await store.search(vector=mark, limit=1)] == ["7"]
    await store.close()


async def test_single_writes_become_chunks_and_stale_ones_are_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces, "WORTH", 20)
    monkeypatch.setattr(spaces, "STALE", 30)
    monkeypatch.setattr(vectorlog, "DIRECT", 50)
    async with SqliteStore(tmp_path / "m.db", synchronous="off") as store:
        store._vectors.exact = -1
        async with SqliteStore(tmp_path / "m.db", synchronous="off") as other:
            other._vectors.exact = -1
            for round in range(6):
                vectors = clustered(60, seed=round)
                for i, vector in enumerate(vectors):
                    await store.put(MemoryItem(id=f"{i}", content="x", embedding=vector))
                for reader in (store, other):
                    for i in range(0, 60, 7):
                        assert [hit.item.id for hit in await reader.search(vector=vectors[i], limit=1)] == [f"{i}"]
            await store._run(store._writing().worker, lambda db: None)  # behind what was queued
            state = await store._read_in(read_state)
            assert state.waiting < 20
            assert state.coded <= 60 * 5 // 4 + 30
            assert state.era > 0
        assert (await store.verify()).ok


async def test_filters_hold_after_another_program_has_rewritten_the_file(tmp_path: Path) -> None:
    store = await small_coded(tmp_path / "m.db")
    vectors = clustered(900, seed=3)
    for i in range(0, 900, 3):
        await store.delete(f"{i}")

    async def right() -> None:
        for i in (1, 400, 898):
            hits = await store.search(vector=vectors[i], where={"metadata.n": i % 9}, limit=1)
            assert [hit.item.id for hit in hits] == [f"{i}"]

    await right()
    db = apsw.Connection(str(tmp_path / "m.db"))
    db.execute("VACUUM")
    db.close()
    await right()
    await store.put(MemoryItem(id="1", content="again", metadata={"n": 5}, embedding=vectors[1]))
    assert [h.item.id for h in await store.search(vector=vectors[1], where={"metadata.n": 5}, limit=1)] == ["1"]
    await store.close()


@pytest.mark.parametrize("patient", [False, True])
async def test_a_filter_that_lets_too_many_through_is_left_out_and_remembered(tmp_path: Path, patient: bool) -> None:
    async with SqliteStore(tmp_path / "memory.db", index=("metadata.n",), sweep_interval=None) as store:
        await store.put_many([MemoryItem(id=f"{i:03}", content="x", metadata={"n": i}) for i in range(300)])
        db, wide = apsw.Connection(str(tmp_path / "memory.db")), set[str]()

        def passing(least: int, **scope: Any) -> int | None:
            op = Nearest(
                vector=b"", embedder=None, limit=3, now=0, where=parse({"metadata.n": {"$gte": least}}), **scope
            )
            fields = store._current_fields()
            asked = survivors.indexed(op, conditions(op, fields).filtered, fields)
            found = survivors.survivors(db, asked, 50, wide, patient=patient)
            return None if found is None else len(found)

        assert passing(251) == 49
        assert not wide
        assert passing(250) == 50
        assert passing(249) is None
        assert len(wide) == 1
        assert passing(0) is None
        assert passing(290) == 10
        assert not wide
        assert passing(249, scope=Scope(user_id="nobody")) == 0
        db.close()


async def test_many_equal_vectors_are_cut_by_key(tmp_path: Path) -> None:
    same = np.ones(8, dtype=np.float32)
    async with SqliteStore(tmp_path / "m.db", synchronous="off") as store:
        await store.put_many([MemoryItem(id=f"{i:04}", content="x", embedding=same) for i in range(1_500)])
        assert [hit.item.id for hit in await store.search(vector=same, limit=3)] == ["0000", "0001", "0002"]
        op = Nearest(vector=same.tobytes(), embedder=None, limit=3, now=store._clock())
        assert len(await store._nearest(op)) < 100


def test_products_are_those_of_one_product() -> None:
    rng = np.random.default_rng(4)
    for dimension in (1, 3, 64, 384, 10_000):
        for count in (0, 1, 7, 60):
            rows = rng.standard_normal((count, dimension)).astype(np.float32)
            wanted = rng.standard_normal(dimension).astype(np.float32)
            np.testing.assert_allclose(products(rows, wanted), rows @ wanted, rtol=1e-4, atol=1e-3)


def test_rough_cosines_are_near_the_true_ones_however_long_vectors_are() -> None:
    rng = np.random.default_rng(6)
    for dimension in (1, 3, 64, 384, 10_000):
        for powers in ([-44], [-30, 0, 38], [0], range(-45, 39), [38]):
            rows = rng.uniform(-3, 3, (90, dimension)) * 10.0 ** rng.choice(list(powers), (90, 1))
            rows[::7, 1:] = 0
            rows[::11] = 0
            rows = rows.astype(np.float32)
            query = rows[4] if rng.random() < 0.5 else rng.standard_normal(dimension).astype(np.float32)
            true, wanted = cosines(query.tobytes(), rows), unit(query.tobytes())
            assert np.abs(rough_cosines(rows, wanted) - true).max() <= slack(dimension), (dimension, powers)
            assert np.array_equal(rough_cosines(rows, wanted, inverse_lengths(rows)), rough_cosines(rows, wanted))
    assert inverse_lengths(np.zeros((0, 4), dtype=np.float32)).tolist() == []
    assert len(rough_cosines(np.zeros((0, 4), dtype=np.float32), np.ones(4, dtype=np.float32))) == 0


@pytest.mark.parametrize("held", [20_000, -1], ids=["held in memory", "by code"])
async def test_the_nearest_are_found_among_vectors_of_any_length(tmp_path: Path, held: int) -> None:
    async with SqliteStore(tmp_path / "m.db", synchronous="off", index=["metadata.n"], sweep_interval=None) as store:
        store._vectors.exact = held
        vectors = clustered(1_200) * np.float32(10) ** np.arange(-36, 36, 3, dtype=np.float32).repeat(50)[:, None]
        items = [MemoryItem(id=f"{i}", content=i, metadata={"n": i % 10}, embedding=v) for i, v in enumerate(vectors)]
        await store.put_many(items)
        await store.delete_many([f"{i}" for i in range(0, 1_200, 41)])
        for i, vector in enumerate(vectors[5::60]):
            asked: dict[str, Any] = {"vector": vector.tobytes(), "embedder": None, "limit": 10, "now": store._clock()}
            for where in (None, parse({"metadata.n": i % 10})):
                await same_as_fallback(store, Nearest(where=where, exact=True, **asked))
            if held < 0:
                true = [hit.item.id for hit in await store.search(vector=vector, exact=True)]
                near = [hit.item.id for hit in await store.search(vector=vector)]
                assert len(set(true) & set(near)) >= 9


def test_codes_survive_being_stored_and_are_close_to_their_vectors() -> None:
    for dimension in (1, 5, 64, 100):
        rows = clustered(700, dimension=dimension)
        rows[3] = 0
        centre = centre_of(rows)
        codes = pack(rows, centre)
        bits, fine = codes.blobs()
        again = codes_of(700, dimension, bits, fine)
        assert again is not None
        assert all(np.array_equal(a, b) for a, b in zip(codes, again, strict=True))
        assert codes_of(699, dimension, bits, fine) is None
        damaged = bytearray(fine)
        damaged[77] ^= 4
        assert digest(bits, fine) != digest(bits, bytes(damaged))
        units = rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-9)[:, None]
        if dimension >= 64:
            turned = rotated_vector(units[0])
            about = fine_products(codes.fine, codes.step, turned) + centre @ turned
            assert np.abs(about - units @ units[0]).max() < 0.08
        assert isinstance(codes, Codes)
        columns = np.ascontiguousarray(codes.bits.T)
        differing = (np.unpackbits((codes.bits ^ codes.bits[5]).view(np.uint8), axis=1)).sum(axis=1)
        assert distances(codes.bits[5], columns).tolist() == differing.tolist()


def test_the_closest_are_the_smallest_distances() -> None:
    rng = np.random.default_rng(8)
    for size, limit in ((0, 3), (5, 9), (500, 20), (5_000, 10), (5_000, 4_000), (40_000, 700)):
        found = rng.integers(0, 60, size).astype(np.uint16)
        places = closest(found, limit)
        assert len(places) == len(set(places.tolist())) == min(limit, size)
        assert sorted(found[places].tolist()) == sorted(found.tolist())[:limit]
