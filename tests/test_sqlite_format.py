"""Each layout of the file, kept for ever: whatever changes, these files open and say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_fixtures import FIRST, SECOND, THIRD, dump, rebuild

from memory import F, ManualClock
from memory.backends.sqlite import SqliteStore
from memory.backends.sqlite.layout import SCHEMA_VERSION
from memory.backends.sqlite.spaces import read_state
from memory.ops import Space
from memory.testing.embedder import WordEmbedder


@pytest.mark.parametrize("fixture", [FIRST, SECOND, THIRD], ids=["first", "second", "third"])
def test_a_file_made_of_its_dump_is_dumped_as_the_same(tmp_path: Path, fixture: Path) -> None:
    rebuild(fixture, tmp_path / "m.db")
    assert [one.name for one in tmp_path.iterdir()] == ["m.db"]
    assert "\n".join(dump(tmp_path / "m.db")) + "\n" == fixture.read_text(encoding="utf-8")


async def test_a_file_of_the_first_layout_opens_and_says_what_was_written(tmp_path: Path) -> None:
    rebuild(FIRST, tmp_path / "m.db")
    clock = ManualClock()
    clock.advance(2)
    async with SqliteStore(tmp_path / "m.db", clock=clock, feed=True) as store:
        assert (await store.verify()).ok
        assert await store.count() == 11
        assert await store.namespaces() == [("default",), ("team", "agent0"), ("team", "agent1")]
        third = await store.get("item-3", namespace=("team", "agent1"))
        assert third is not None
        assert third.content == "The marmot number 3 whistles in the mountains"
        assert third.tags == ("alps",)
        assert third.metadata == {"score": 3, "deep": {"a.b": [1, None, True, -0.0]}}
        assert third.embedding.tolist() == [3, 1, 2, 3]
        assert third.created_at == third.updated_at
        odd = await store.get("é\u0301😀")
        assert odd is not None
        assert odd.content == {"text": "naïve café", "n": 2**53 + 1, "nul": "a\0b"}
        assert [item.id for item in await store.list(F.metadata.score >= 7)] == ["item-8", "item-7"]
        assert [hit.item.id for hit in await store.search("sleeping marmot", limit=1)] == ["item-1"]
        assert [item.id for item in await store.list(F.tags.contains("alps"))] == ["item-0", "item-6", "item-3"]
        touched = await store.get("item-2", namespace=("team", "agent0"))
        assert touched is not None
        assert touched.access_count == 1
        clock.advance(60)
        assert await store.get("short-lived") is None
        assert await store.sweep() == 1
        stored = await store.put(third)
        assert stored.version > third.version
        assert (await store.verify()).ok


@pytest.mark.parametrize("file", [SECOND, THIRD], ids=["second", "third"])
async def test_a_file_of_a_later_layout_opens_and_finds_by_vector(tmp_path: Path, file: Path) -> None:
    rebuild(file, tmp_path / "m.db")
    clock, words = ManualClock(), WordEmbedder("words", 8)
    clock.advance(2)
    async with SqliteStore(tmp_path / "m.db", clock=clock, embedder=words, index=["metadata.score"]) as store:
        store._vectors.exact = -1  # by the codes of the file
        state = await store._read_in(read_state)
        assert (state.coded, state.waiting) == ((0, 25) if file == SECOND else (25, 1))
        assert (await store.verify()).ok  # which makes the codes once more, to the bit
        details = (await store.health()).details
        assert (details["layout"], details["vectors"], details["vectors_owed"]) == (SCHEMA_VERSION, 25, 1)
        hits = await store.search("The marmot number 7 whistles word7", mode="vector", limit=2)
        assert [hit.item.id for hit in hits][:1] == ["item-7"]
        assert hits.hits[0].score == 1.0
        assert await store.count({"metadata.score": {"$gte": 20}}) == 3
        aside = await store._unattached(Space("others", 6), None, 100)
        assert len(aside) == await store.count() - 9
        clock.advance(60)
        assert await store.sweep() == 1
        assert (await store.reembed()).embedded == 1
        assert (await store.verify()).ok
