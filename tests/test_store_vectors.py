"""Corners of search by vector: nothing stored yet, no vectors to tell apart, numpy not loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from memory.backends.in_memory import InMemoryStore
from memory.model import MemoryItem
from memory.testing.__main__ import maker

BACKENDS = pytest.mark.parametrize("backend", ["in_memory", "sqlite"])


@BACKENDS
async def test_diversity_without_vectors_is_the_plain_order(backend: str, tmp_path: Path) -> None:
    async with maker(backend)(tmp_path) as store:
        await store.put_many([MemoryItem(id=f"{i}", content="marmot " * (i + 1)) for i in range(9)])
        plain = [hit.item.id for hit in await store.search("marmot", limit=5)]
        for share in (0.0, 0.5, 1.0):
            page = await store.search("marmot", limit=5, mmr=share)
            picked = [hit.item.id for hit in page]
            assert page.cursor is None
            assert len(set(picked)) == 5
            assert share == 0.0 or picked == plain
        await store.put(MemoryItem(id="v", content="marmot", embedding=[1.0, 0.0]))
        assert len(await store.search("marmot", limit=20, mmr=0.5)) == 10


@BACKENDS
async def test_every_mode_finds_nothing_in_an_empty_store(backend: str, tmp_path: Path) -> None:
    async with maker(backend)(tmp_path) as store:
        asks: list[dict[str, Any]] = [{"query": "marmot"}, {"vector": [1.0]}, {"query": "marmot", "vector": [1.0, 2.0]}]
        for asked in asks:
            for how in ({}, {"order": "composite"}, {"neighbours": 2}, {"mmr": 0.5}, {"exact": True}):
                page = await store.search(**asked, **how)
                assert (page.hits, page.cursor, page.complete) == ([], None, True)


WITHOUT_NUMPY = """
import asyncio, sys
from memory.model import MemoryItem
from memory.testing.__main__ import maker

async def main():
    async with maker(sys.argv[1])(__import__("pathlib").Path(sys.argv[2])) as store:
        await store.put(MemoryItem(id="a", content="marmot"))
        assert [hit.item.id for hit in await store.search("marmot", neighbours=1)] == ["a"]
        await store.update("a", metadata={"n": 1})
        print("numpy" in sys.modules)
        await store.put_many([MemoryItem(id=f"v{i}", content="fox", embedding=[1.0, i]) for i in range(3)])
        print([hit.item.id for hit in await store.search("fox", vector=[1.0, 0.0])])

asyncio.run(main())
"""


@BACKENDS
def test_numpy_is_loaded_with_the_first_vector(backend: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY, backend, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[1] == "['v0', 'v1', 'v2']"
    if backend == "in_memory":
        assert done.stdout.splitlines()[0] == "False"


def test_an_item_is_told_with_the_length_of_its_vector() -> None:
    bare = MemoryItem(content="x", id="a", namespace=("n",))
    told = "MemoryItem(content='x', id='a', namespace=('n',), kind='note', text=None, "
    assert repr(bare).startswith(told)
    assert "embedding=None, " in repr(bare)
    for vector in (np.arange(256, dtype="<f4"), [0.5] * 256, (0.5,) * 256):
        item = msgspec.structs.replace(bare, embedding=vector)
        assert repr(item) == repr(bare).replace("embedding=None", "embedding=<256 numbers>")
        assert item != bare
    with InMemoryStore() as store:
        stored = store.put_sync(msgspec.structs.replace(bare, embedding=[0.5] * 256))
        assert "embedding=<256 numbers>" in repr(stored)
        assert MemoryItem.from_dict(stored.to_dict()) == stored
