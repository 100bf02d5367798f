"""Search by meaning through the store, with a real model, on every embedded backend."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memory import EmbeddingMismatch, MemoryItem, MemoryManager
from memory.backends.faiss import FaissStore
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.errors import BackendUnavailable

pytestmark = pytest.mark.semantic
ROOT = Path(__file__).parents[2]

SAID = {
    "nuts": "Maya is allergic to peanuts",
    "bike": "Somebody stole her bicycle in front of the library",
    "tea": "She has given up coffee and drinks peppermint tea now",
    "flat": "The new apartment has two rooms and a balcony",
    "run": "She is training for a half marathon in May",
}


async def told(store: Any) -> Any:
    await store.put_many([MemoryItem(id=id, content=text, user_id="maya") for id, text in SAID.items()])
    await store.put(MemoryItem(id="other", content="Noah cannot eat hazelnuts", user_id="noah"))
    return store


async def test_what_was_said_in_other_words_is_found_alike_on_both_engines(minilm: str, tmp_path: Path) -> None:
    pages = []
    for store in (InMemoryStore(embedder=minilm), SqliteStore(tmp_path / "m.db", embedder=minilm)):
        async with store:
            view = (await told(store)).scoped(user_id="maya")
            assert not await view.search("Which food is dangerous for me?", mode="text", min_text=0.5)
            for query, expected in (
                ("Which food is dangerous for me?", "nuts"),
                ("my cycle was nicked", "bike"),
                ("Which beverage did I quit?", "tea"),
                ("where do I live", "flat"),
                ("sports this spring", "run"),
            ):
                near = await view.search(query, mode="vector", limit=3)
                assert near.hits[0].item.id == expected, query
                mixed = await view.search(query)  # hybrid, since this embedder knows meaning
                assert set(mixed.hits[0].components) == {"text", "matched", "vector"}
                pages += [[(hit.item.id, round(hit.score, 4)) for hit in page] for page in (near, mixed)]
            assert not await view.search("quarterly revenue forecast", mode="vector", min_vector=0.4)
    half = len(pages) // 2
    assert pages[:half] == pages[half:]


async def test_a_store_moves_from_hashing_to_a_model(minilm: str, tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "m.db", embedder="hashing") as store:
        await told(store)
        report = await store.reembed(minilm)
        assert (report.switched, report.embedded) == (True, 6)
        with pytest.raises(EmbeddingMismatch):
            await store.search("food", mode="vector")
    async with MemoryManager("sqlite", path=tmp_path / "m.db", embedder=minilm) as memory:
        page = await memory.search("Which food is dangerous for me?", user_id="maya", mode="vector", limit=1)
        assert page.hits[0].item.id == "nuts"


def test_the_demo_answers_by_meaning_what_words_miss() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        env={**os.environ, "EMBEDDER": "minilm"}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "asked again by meaning" in done.stdout
    assert "All 13 questions went as expected" in done.stdout


def test_faiss_takes_the_model_where_no_embedder_is_named_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FaissStore(tmp_path / "m.db", dimension=3).embedder is None
    assert FaissStore(tmp_path / "m.db", embedder=None).embedder is None
    with MemoryManager("faiss", path=tmp_path / "m.db", embedder="hashing") as memory:
        assert memory.store.embedder.name.startswith("hashing")
    made = MemoryManager("faiss", path=tmp_path / "n.db").store.embedder
    assert made is not None
    assert "all-MiniLM-L6-v2" in made.name
    store = FaissStore(tmp_path / "o.db")
    caplog.set_level("INFO")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # what is told is told before it is loaded
    with contextlib.suppress(BackendUnavailable), store:
        pass
    assert "no embedder is named" in caplog.text
