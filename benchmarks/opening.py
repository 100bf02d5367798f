"""Opening a file that is there, and the first search in it."""

from __future__ import annotations

import time

from benchmarks import workload
from benchmarks.session import Session

NAME = "opening"


async def run(session: Session) -> None:
    options = session.options
    if "sqlite" not in options.backends:
        return
    paths = {size: await session.file(size) for size in options.records}
    opened: dict[int, list[float]] = {size: [] for size in paths}
    searched: dict[int, list[float]] = {size: [] for size in paths}
    closed: dict[int, list[float]] = {size: [] for size in paths}
    for _ in range(3 * options.rounds + 1):
        for size, path in paths.items():
            store = session.store("sqlite", path)
            question = workload.questions(1, size)[0]
            start = time.perf_counter()
            await store.open()
            middle = time.perf_counter()
            await store.search(question)
            end = time.perf_counter()
            await store.close()
            opened[size].append((middle - start) * 1e3)
            searched[size].append((end - middle) * 1e3)
            closed[size].append((time.perf_counter() - end) * 1e3)
    for what, spent in (("open", opened), ("first text search", searched), ("close", closed)):
        for size in paths:
            # The very first opening of a run imports the backend.
            session.add(NAME, what, "sqlite", "ms", spent[size][1:], records=size)
    session.add_growth(NAME, "open", "sqlite", {size: values[1:] for size, values in opened.items()})
