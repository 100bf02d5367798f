"""Memory grown over the same imports: a fresh process imports, opens, works, and says how much it grew."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

from benchmarks import workload
from benchmarks.machine import forget_peak, memory
from benchmarks.session import Options, Session

NAME = "footprint"
CALLS = 300


async def run(session: Session) -> None:
    for backend in session.options.backends:
        for size in session.options.records:
            for phase in ("use", "load") if backend == "sqlite" else ("load",):
                rounds = [await grown(session, backend, size, phase) for _ in range(1 if session.options.quick else 2)]
                what = {"use": "memory grown", "load": "memory grown by loading and using"}[phase]
                session.add(
                    NAME, what, backend, "MB", rounds, records=size,
                    target="memory grown" if backend == "sqlite" else None,
                    note=f"peak; {max(rounds) * 1024 * 1024 / size:,.0f} bytes a record",
                )  # fmt: skip


async def grown(session: Session, backend: str, size: int, phase: str) -> float:
    """MB by which a fresh process grows: "use" and "vectors" search a file that is there, "load" fills it first."""
    path = session.path("grown") if phase == "load" else await session.file(size)
    told = json.dumps([backend, size, phase, str(path), session.options.vectors])
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.footprint", told, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()
    if child.returncode:
        raise RuntimeError(f"the process that measures memory ended with {child.returncode}")
    return float(output)


async def _grow(backend: str, size: int, phase: str, path: str, vectors: bool) -> float:
    options = Options(Path(path).parent, vectors=vectors)
    session = Session(options)
    # Everything that the work below imports and caches on the benchmark's side comes before the base line.
    async with session.store("in_memory") as warm:
        await warm.put_many(workload.records(0, 50, vectors))
        await warm.search(workload.questions(1, 50)[0])
        await warm.search(vector=workload.wanted(1)[0])
    asked = workload.questions(CALLS // 3, size)
    wanted = workload.wanted(len(asked) if phase == "vectors" else 0)
    async with session.store(backend, Path(path + ".warm")):
        pass
    forget_peak()
    base, _ = memory()
    async with session.store(backend, Path(path)) as store:
        if phase == "load":
            for items in workload.batches(0, size, vectors, 1_000):
                await store.put_many(items)
        for number, (vector, question) in enumerate(zip(wanted, asked, strict=False)):
            await store.search(vector=vector)
            await store.search(vector=vector, where={"metadata.score": {"$gte": 899.5 + number / 1_000}})
            await store.search(question, vector=vector)
        rng = random.Random(1)
        for question in asked:
            await store.search(question)
            path_of, id = workload.key(rng.randrange(size))
            await store.get(id, namespace=path_of)
            await store.list({"metadata.topic": f"topic{rng.randrange(workload.TOPICS)}"}, limit=10)
        _, peak = memory()
    return peak - base


if __name__ == "__main__":
    print(asyncio.run(_grow(*json.loads(sys.argv[1]))))
