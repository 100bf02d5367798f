"""The command: searching by vector and by both, order, diversity, and giving memories their vectors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import MemoryItem, MemoryManager

Memory = Callable[..., Any]

FRUIT = '''
import numpy as np

class Meaning:
    """Knows three meanings by heart: fruit, animals and weather."""

    name, dimension, semantic = "meaning", 3, True
    words = {"apple": 0, "pear": 0, "fruit": 0, "cat": 1, "dog": 1, "animal": 1, "rain": 2, "snow": 2, "weather": 2}

    def embed(self, texts):
        vectors = np.full((len(texts), 3), 0.01, dtype=np.float32)
        for row, text in zip(vectors, texts):
            for word in text.lower().split():
                if word in self.words:
                    row[self.words[word]] = 1.0
        return vectors

meaning = Meaning()

class Slow(Meaning):
    """Says that it works, and takes its time."""

    name = "slow"

    def embed(self, texts):
        import pathlib, time
        if len(texts) > 1:
            with pathlib.Path("calls").open("a") as calls:
                calls.write(f"{len(texts)}\\n")
            time.sleep(0.2)
        return super().embed(texts)

slow = Slow()

class Broken(Meaning):
    name = "broken"

    def embed(self, texts):
        raise RuntimeError("out of order")

broken = Broken()
'''


@pytest.fixture
def fruit(memory: Memory, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Runs a command line on a memory whose embedder knows a few meanings."""
    (empty / "fruit_embedder.py").write_text(FRUIT)
    monkeypatch.syspath_prepend(str(empty))
    monkeypatch.setenv("PYTHONPATH", f"{empty}{os.pathsep}{os.environ['PYTHONPATH']}")  # for children
    monkeypatch.setenv("MEMORY_EMBEDDER", "fruit_embedder:meaning")
    for text, id in (("a ripe pear", "pear"), ("a black cat", "cat"), ("a tall dog", "dog"), ("heavy rain", "rain")):
        assert memory("add", text, "--id", id).code == 0
    return memory


def ids(done: Any) -> list[str]:
    return [hit["item"]["id"] for hit in done.json["hits"]]


# --- search ------------------------------------------------------------------------------------


def test_auto_finds_by_meaning_when_the_embedder_knows_it(fruit: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    best = fruit("search", "apple", "--json").json["hits"][0]
    assert (best["item"]["id"], best["components"]["matched"]) == ("pear", 0)
    assert best["components"]["vector"] > 0.99
    assert fruit("search", "apple", "--mode", "text", "--json").json["hits"] == []
    assert ids(fruit("search", "animal", "--mode", "vector", "--min-vector", "0.9", "--json")) == ["cat", "dog"]
    assert ids(fruit("search", "animal", "--mode", "vector", "--exact", "--json"))[:2] == ["cat", "dog"]
    monkeypatch.setenv("MEMORY_EMBEDDER", "none")
    assert fruit("search", "apple", "--json").json["hits"] == [], "by words where there is no embedder"


def test_the_table_shows_how_near_and_how_much_matched(fruit: Memory) -> None:
    head = next(line for line in fruit("search", "cat").out.splitlines() if "Score" in line)
    assert head.split() == ["Score", "Match", "Cosine", "Date", "Text", "Id"]
    head = next(line for line in fruit("search", "cat", "--mode", "vector").out.splitlines() if "Score" in line)
    assert head.split() == ["Score", "Cosine", "Date", "Text", "Id"]


def test_the_composite_order_counts_recency_and_importance(fruit: Memory) -> None:
    fruit("add", "an old cat", "--id", "old", "--importance", "1")
    assert ids(fruit("search", "cat", "--mode", "text", "--json"))[0] == "cat"
    composite = fruit("search", "cat", "--mode", "text", "--order", "composite", "--json").json["hits"]
    assert composite[0]["item"]["id"] == "old"
    assert set(composite[0]["components"]) >= {"relevance", "recency", "importance"}


def test_mmr_shows_something_else_before_more_of_the_same(fruit: Memory) -> None:
    fruit("add", "a black cat", "--id", "cat2")
    same = fruit("search", "black cat rain", "--limit", "2", "--json")
    other = fruit("search", "black cat rain", "--limit", "2", "--mmr", "0.3", "--json")
    assert ids(same) == ["cat", "cat2"]
    assert ids(other) == ["cat", "rain"]


def test_explain_tells_words_cosine_and_what_the_order_adds(fruit: Memory) -> None:
    shown = " ".join(fruit("search", "cat", "--explain").out.split())
    assert "(cat " in shown
    assert "averaged with cosine 1.00" in shown
    shown = " ".join(fruit("search", "cat", "--mode", "vector", "--explain", "--order", "composite").out.split())
    assert "0.4 x relevance 1.00 + 0.3 x recency" in shown
    assert "relevance from cosine 1.00" in shown
    fruit("add", "no vector yet: cat", "--embed", "later", "--id", "owed")
    assert "averaged with no vector" in " ".join(fruit("search", "cat", "--explain").out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rain cat", "--mode", "vector", "--min-vector", "1"), "searched by vector. Try a lower --min-vector"),
        (("zebra", "--mode", "text"), "searched by words (text)"),
        (("zebra", "--mode", "text"), "--mode hybrid, which also searches by meaning"),
        (("zebra", "--min-vector", "1"), "searched by words and vector (hybrid)"),
        (("zebra", "--min-vector", "1"), "`memory reembed`, since 1 of the store's memories"),
    ],
)
def test_a_search_that_finds_nothing_names_its_mode_and_a_remedy(
    fruit: Memory, arguments: tuple[str, ...], words: str
) -> None:
    fruit("add", "heavy snow", "--embed", "later")
    done = fruit("search", *arguments)
    assert (done.code, done.out) == (0, "")
    assert words in done.err


def test_an_embedder_of_words_is_named_with_what_knows_meaning(memory: Memory) -> None:
    memory("add", "nuts")
    done = memory("search", "zebra", "--mode", "text")
    assert "search by meaning, which hashing:256 cannot: " in done.err
    assert "MEMORY_EMBEDDER=sentence-transformers:" in done.err


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["search", "x", "--mode", "telepathy"], 2, "'auto', 'text', 'vector', 'hybrid'"),
        (["search", "x", "--mode", "text", "--min-vector", "0.5"], 2, "--min-vector needs"),
        (["search", "x", "--mode", "vector", "--min-text", "0.5"], 2, "--min-text needs"),
        (["search", "x", "--mmr", "7"], 2, "mmr must be"),
        (["add", "x", "--embed", "never"], 2, "'now', 'later'"),
        (["reembed", "--batch", "0"], 2, "--batch must be"),
        (["reembed", "--to", "nonsense"], 2, "no embedder 'nonsense'"),
        (["reembed", "--to", "none"], 2, "--to names an embedder"),
        (["reembed", "--path", "other.db"], 3, "there is no memory at"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(nuts: Memory, line: list[str], code: int, words: str) -> None:
    done = nuts(*line)
    assert (done.code, done.out, len(done.err.splitlines())) == (code, "", 1)
    assert words in done.err


def test_without_an_embedder_a_vector_is_asked_for_in_vain(nuts: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDER", "none")
    assert "set MEMORY_EMBEDDER" in nuts("search", "x", "--mode", "hybrid").err
    assert "--to, or set MEMORY_EMBEDDER" in nuts("reembed").err


def test_an_embedder_that_fails_fails_the_write_and_has_a_code(fruit: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDER", "fruit_embedder:broken")
    done = fruit("add", "x", "--path", "new.db")
    assert (done.code, "out of order" in done.err, len(done.err.splitlines())) == (3, True, 1)
    assert fruit("count", "--path", "new.db").out == "0\n"
    assert fruit("add", "x", "--path", "new.db", "--embed", "later").code == 0


# --- reembed -----------------------------------------------------------------------------------


def test_what_was_added_for_later_gets_its_vector(fruit: Memory, empty: Path) -> None:
    fruit("add", "a ripe apple", "--id", "apple", "--embed", "later")
    (empty / "c.jsonl").write_text(json.dumps({"role": "user", "content": "snow"}))
    assert fruit("import", "c.jsonl", "--embed", "later", "--json").json["imported"] == 1
    told = fruit("stats", "--json").json["details"]
    assert (told["vectors"], told["vectors_owed"], told["embedder"]) == (4, 2, "meaning")
    assert "2 more are owed: `memory reembed` makes them" in fruit("stats").out
    done = fruit("reembed")
    assert (done.code, done.out, done.err) == (0, "2 embedded, 4 had their vector (embedder meaning)\n", "")
    assert set(ids(fruit("search", "fruit", "--mode", "vector", "--min-vector", "0.9", "--json"))) == {"apple", "pear"}
    assert fruit("reembed", "--json").json["embedded"] == 0
    fruit("add", "--content-json", "7")
    assert "1 have no text" in fruit("reembed").out


def test_another_embedder_takes_over_after_a_question_and_is_to_be_set(
    fruit: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsure = fruit("reembed", "--to", "hashing:64")
    assert (
        unsure.code,
        "Replace the vectors of 4 memories, made by meaning, by those of hashing:64?" in unsure.err,
    ) == (2, True)
    done = fruit("reembed", "--to", "hashing:64", "--yes")
    assert (done.code, done.out) == (0, "4 embedded, 0 had their vector (embedder hashing:64)\n")
    assert "set MEMORY_EMBEDDER=hashing:64" in done.err
    assert "MEMORY_EMBEDDER is meaning: set it to the one" in fruit("stats").err
    old = fruit("search", "cat", "--mode", "vector")
    assert (old.code, "set MEMORY_EMBEDDER to that one" in old.err, "memory reembed --to" in old.err) == (2, True, True)
    monkeypatch.setenv("MEMORY_EMBEDDER", "hashing:64")
    assert ids(fruit("search", "black cat", "--mode", "vector", "--json"))[0] == "cat"
    back = fruit("reembed", "--to", "fruit_embedder:meaning", "--yes", "--json")
    assert back.json == {"embedded": 4, "kept": 0, "without_text": 0, "embedder": "meaning", "switched": True}


def test_an_export_comes_in_without_its_vectors_where_another_embedder_is_used(
    fruit: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fruit("export", "all.jsonl")
    monkeypatch.setenv("MEMORY_EMBEDDER", "hashing")
    assert fruit("import", "all.jsonl", "--path", "new.db").code == 2
    assert fruit("import", "all.jsonl", "--path", "new.db", "--drop-vectors").code == 0
    told = fruit("stats", "--path", "new.db", "--json").json["details"]
    assert (told["embedder"], told["vectors"]) == ("hashing:256", 4)


def test_options_of_an_export_and_of_a_chat_are_not_mixed_up(fruit: Memory, empty: Path) -> None:
    fruit("export", "all.jsonl")
    assert "--embed later is for chats" in fruit("import", "all.jsonl", "--embed", "later").err
    (empty / "c.jsonl").write_text(json.dumps({"role": "user", "content": "snow"}))
    assert "--drop-vectors is for exports" in fruit("import", "c.jsonl", "--drop-vectors").err


@pytest.mark.usefixtures("fruit")
def test_a_reembed_that_was_stopped_goes_on_where_it_was(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MemoryManager() as manager:
        manager.store.put_many_sync([MemoryItem(content=f"text {number}") for number in range(96)])
    line = [sys.executable, "-m", "memory", "reembed", "--to", "fruit_embedder:slow", "--batch", "10", "--yes"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        calls, deadline = empty / "calls", time.monotonic() + 60
        while not calls.exists() or len(calls.read_text().splitlines()) < 3:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "")
    assert "the same command goes on where this one was" in err
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    embedded = int(done.stdout.split()[0])
    assert 0 < embedded <= 80, "at least two batches were kept"
    assert "(embedder slow)" in done.stdout
