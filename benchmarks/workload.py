"""What is measured with: records and questions, the same on every machine.

A record has about 200 characters of text, 6 metadata fields and a 384-dimension unit vector (clustered), in one of
100 namespaces. Words follow Zipf's law as in English (rank r is said in proportion to 1 / (r + 2.7)): the 120 most
frequent are English function words, the rest is made up of syllables. Questions have 3 to 6 words: one to three of
the rarer words of one record, and words as questions have them ("what did ... about ..."), which most records hold.

Record ``i`` is the same whatever else is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from memory import MemoryItem

SEED = 20_250_801
NAMESPACES = 100
DIMENSION = 384
CLUSTERS = 200
VOCABULARY = 30_000
CHUNK = 1_000
SESSION = 20
"""Records that follow each other in one session of one namespace."""
EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
INDEXED = ("metadata.topic", "metadata.score")
"""The metadata fields that stores are told to index."""
TOPICS = 200

FUNCTION_WORDS = (  # noqa: SIM905 - reads better than a list
    "the be to of and a in that have i it for not on with he as you do at this but his by from they we say her she or "
    "an will my one all would there their what so up out if about who get which go me when make can like time no just "
    "him know take people into year your good some could them see other than then now look only come its over think "
    "also back after use two how our work first well way even new want because any these give day most us was is are "
    "did had were been has said more very where does why again here"
).split()
QUESTION_WORDS = "what when where who how why did does was is the about my we you in".split()  # noqa: SIM905


@cache
def vocabulary() -> tuple[str, ...]:
    """Words by falling frequency."""
    rng = np.random.default_rng(SEED)
    syllables = [a + b + c for a in "bcdfghjklmnprstvwz" for b in "aeiou" for c in ("", "", "n", "r", "l", "m", "t")]
    words = dict.fromkeys(FUNCTION_WORDS)
    while len(words) < VOCABULARY:
        size = 2 if len(words) < 3_000 else 3
        words["".join(syllables[i] for i in rng.integers(0, len(syllables), size))] = None
    return tuple(words)


@cache
def _odds() -> npt.NDArray[np.float64]:
    odds: npt.NDArray[np.float64] = np.cumsum(1.0 / (np.arange(VOCABULARY) + 2.7))
    odds /= odds[-1]
    return odds


@cache
def _centres() -> npt.NDArray[np.float32]:
    return np.random.default_rng(SEED + 1).standard_normal((CLUSTERS, DIMENSION)).astype(np.float32)


def namespace(i: int) -> tuple[str, str]:
    """The namespace of record ``i``."""
    number = i % NAMESPACES
    return (f"team{number // 10}", f"agent{number:02}")


def key(i: int) -> tuple[tuple[str, str], str]:
    """(namespace, id) of record ``i``."""
    return namespace(i), f"memory-{i:08}"


@cache
def keys(size: int) -> list[tuple[tuple[str, str], str]]:
    """`key` of the first ``size`` records, made before anything is timed."""
    return [key(i) for i in range(size)]


def _sentences(words: list[str]) -> str:
    """About 200 characters of them."""
    ends = list(itertools.accumulate(len(word) + 1 for word in words))
    count = next((i for i, end in enumerate(ends) if end > 195), len(words) - 1) + 1
    parts = [" ".join(words[start : min(start + 11, count)]) for start in range(0, count, 11)]
    return ". ".join(part.capitalize() for part in parts) + "."


def _chunk(number: int, vectors: bool) -> Iterator[MemoryItem]:
    rng = np.random.default_rng((SEED, number))
    said = np.searchsorted(_odds(), rng.random((CHUNK, 60)))
    numbers: Any = rng.random((CHUNK, 6)).tolist()
    noise = 0.7 * rng.standard_normal((CHUNK, DIMENSION), dtype=np.float32) if vectors else None
    words = vocabulary()
    for row, (a, b, c, d, e, f) in enumerate(numbers):
        i = number * CHUNK + row
        embedding = None
        if noise is not None:
            embedding = _centres()[int(a * CLUSTERS)] + noise[row]
            embedding /= np.linalg.norm(embedding)
        path, id = key(i)
        yield MemoryItem(
            id=id,
            namespace=path,
            kind="episodic" if b < 0.6 else "semantic" if b < 0.9 else "procedural",
            content=_sentences([words[w] for w in said[row]]),
            metadata={
                "topic": f"topic{int(a * TOPICS)}",
                "score": int(c * 1_000),
                "rating": round(5 * d, 2),
                "channel": ("mail", "chat", "phone", "desk", "web")[int(e * 5)],
                "resolved": f < 0.5,
                "place": {"city": f"city{int(f * 80)}", "floor": int(d * 12)},
            },
            tags=(f"tag{int(d * 40)}", f"tag{40 + int(f * 20)}"),
            user_id=f"user{int(e * 1_000)}",
            agent_id=path[1],
            session_id=f"{path[1]}-{i // NAMESPACES // SESSION}",
            importance=round(b, 3),
            created_at=EPOCH + timedelta(seconds=i),
            embedding=embedding,
        )


def records(start: int, stop: int, vectors: bool = True) -> list[MemoryItem]:
    """Records from ``start`` up to ``stop``."""
    found: list[MemoryItem] = []
    for number in range(start // CHUNK, -(-stop // CHUNK)):
        first = number * CHUNK
        found += itertools.islice(_chunk(number, vectors), max(0, start - first), min(CHUNK, stop - first))
    return found


def rewritten(items: list[MemoryItem]) -> list[MemoryItem]:
    """The same keys and owners with another text, score and vector: what an overwrite usually changes."""
    others = [*items[1:], items[0]]
    return [
        msgspec.structs.replace(
            item,
            content=f"Since then: {other.content}",
            metadata={**item.metadata, "score": other.metadata["score"]},
            embedding=other.embedding,
        )
        for item, other in zip(items, others, strict=True)
    ]


def batches(start: int, stop: int, vectors: bool = True, size: int = 5_000) -> Iterator[list[MemoryItem]]:
    """The same records a batch at a time, so that a big workload never lies in memory whole."""
    for first in range(start, stop, size):
        yield records(first, min(stop, first + size), vectors)


def questions(count: int, size: int) -> list[str]:
    """Questions about records of a store of this size."""
    rng = np.random.default_rng(SEED + 2)
    common = set(vocabulary()[:150])
    asked: list[str] = []
    while len(asked) < count:
        start = int(rng.integers(0, max(1, size - 10)))
        for item in records(start, min(size, start + 10), vectors=False):
            rare = [word for word in item.content.lower().replace(".", "").split() if word not in common]
            length, about = int(rng.integers(3, 7)), int(rng.integers(1, 4))
            chosen = [str(word) for word in rng.permutation(rare)[: min(about, length)]]
            framing = [str(word) for word in rng.permutation(QUESTION_WORDS)[: length - len(chosen)]]
            asked.append(" ".join(framing[:2] + chosen + framing[2:]))
    return asked[:count]


def wanted(count: int) -> npt.NDArray[np.float32]:
    """Vectors to search by, (count, 384): of the records' clusters, and no record's own."""
    rng = np.random.default_rng(SEED + 3)
    noise = 0.7 * rng.standard_normal((count, DIMENSION), dtype=np.float32)
    vectors: npt.NDArray[np.float32] = _centres()[rng.integers(0, CLUSTERS, count)] + noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
