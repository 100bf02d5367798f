"""How many texts a second become vectors: one by one, from 64 callers, in one call, and when they are known already.

All through the service that batches, caches and checks; "the embedder alone" is the same texts given to it directly, in
one call. Texts are those of the workload, about 200 characters each, each asked for once.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from benchmarks import workload
from benchmarks.embedders import MINILM, embedder, is_installed
from benchmarks.measure import ratios
from benchmarks.session import Session
from memory.search.embedders import Embedder, EmbeddingService

NAME = "embedding"
CALLERS = 64
LONG = 1_000
ROUNDS = 3


async def run(session: Session) -> None:
    options = session.options
    names = ["hashing"] if options.quick else ["hashing", MINILM]
    for name in [options.embedder] if options.embedder is not None else names:
        if is_installed(name):
            await _embedder(session, name)
        else:
            print(f"embedding: {name} left out (pip install 'agent-memory-backends[semantic]')", file=sys.stderr)


async def _embedder(session: Session, name: str) -> None:
    long, callers = (100, 16) if session.options.quick else (LONG, CALLERS)
    maker = embedder(name)
    service = EmbeddingService(maker, cached_texts=2 * long)
    texts = _texts()
    text = next(texts)
    start = time.perf_counter()
    await service.embed([text])
    first = time.perf_counter() - start
    rates: dict[str, list[float]] = {
        "one by one": [], f"{callers} callers at once": [], f"one call of {long:,}": [], "cached": [],
        "the embedder alone": [],
    }  # fmt: skip
    one, many, whole, cached, alone = rates.values()
    for _ in range(min(session.options.rounds, ROUNDS)):
        one.append(await _one_by_one(service, list(islice(texts, callers))))
        many.append(await _at_once(service, [list(islice(texts, 4)) for _ in range(callers)]))
        fresh = list(islice(texts, long))
        start = time.perf_counter()
        await service.embed(fresh)
        whole.append(long / (time.perf_counter() - start))
        cached.append(await _one_by_one(service, fresh))
        alone.append(await _alone(maker, list(islice(texts, long))))
    await service.close()
    session.add(NAME, "first text", name, "ms", [first * 1e3], note="imports and loads what it needs")
    for what, values in rates.items():
        session.add(NAME, f"texts, {what}", name, "/s", values)
    session.add(NAME, f"{callers} callers: ÷ one by one", name, "×", ratios(many, one))
    session.add(NAME, f"one call of {long:,}: ÷ the embedder alone", name, "×", ratios(whole, alone))


def _texts() -> Iterator[str]:
    """Different ones without end."""
    start = 0
    while True:
        yield from [item.searchable for item in workload.records(start, start + workload.CHUNK, vectors=False)]
        start += workload.CHUNK


async def _one_by_one(service: EmbeddingService, texts: Sequence[str]) -> float:
    start = time.perf_counter()
    for text in texts:
        await service.embed([text])
    return len(texts) / (time.perf_counter() - start)


async def _at_once(service: EmbeddingService, shares: Sequence[Sequence[str]]) -> float:
    async def caller(texts: Sequence[str]) -> None:
        for text in texts:
            await service.embed([text])

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for share in shares:
            group.create_task(caller(share))
    return sum(map(len, shares)) / (time.perf_counter() - start)


async def _alone(maker: Embedder, texts: list[str]) -> float:
    start = time.perf_counter()
    answer: Any = maker.embed(texts)
    if inspect.isawaitable(answer):
        await answer
    return len(texts) / (time.perf_counter() - start)
