"""Ten thousand memories and their vectors found by FAISS: python examples/on_faiss.py [file.db]

Without a file it uses a temporary one. The vectors are made up here; an embedder makes them of texts (docs/embedders.md).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import numpy as np

from memory import MemoryItem
from memory.backends.faiss import FaissStore
from memory.errors import MemoryStoreError, StorageFull

TOPICS = ("travel", "food", "work", "music")
COUNT = 10_000


async def main(path: Path) -> int:
    rng = np.random.default_rng(7)
    topics = rng.standard_normal((len(TOPICS), 128)).astype(np.float32)

    def vector(topic: int) -> list[float]:
        made: list[float] = (topics[topic] + rng.standard_normal(128, dtype=np.float32)).tolist()
        return made

    try:
        # exact=1_000, so that an example of this size has an index; leave it out for your own.
        async with FaissStore(path, embedder=None, exact=1_000, index=["metadata.topic"]) as store:
            items = [
                MemoryItem(
                    id=f"m{i}",
                    content=f"memory {i} about {TOPICS[i % 4]}",
                    metadata={"topic": TOPICS[i % 4]},
                    embedding=vector(i % 4),
                )
                for i in range(COUNT)
            ]
            await store.put_many(items)

            wanted = items[42].embedding
            print(f"nearest to m42: {[hit.item.id for hit in await store.search(vector=wanted, limit=1)]}")
            page = await store.search(vector=wanted, where={"metadata.topic": "food"}, limit=5)
            print(f"about food: {len(page)} of {len(page)} are { ({hit.item.metadata['topic'] for hit in page}) }")

            await store.update("m42", embedding=-np.asarray(wanted))
            await store.delete("m43")
            print(
                f"after a change: m42 is found {(await store.search(vector=wanted, limit=1)).hits[0].item.id == 'm42'}"
            )

            true = [hit.item.id for hit in await store.search(vector=topics[0], limit=10, exact=True)]
            found = [hit.item.id for hit in await store.search(vector=topics[0], limit=10)]
            print(f"of the true ten {len(set(true) & set(found))} are found")
            index = (await store.health()).details["index"]
            print(f"index: generation {index['generation']}, {index['vectors'] + index['since']} codes")
            return 0
    except StorageFull as full:
        print(f"no room: {full}", file=sys.stderr)  # reads and deletes still work
    except MemoryStoreError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # says where, and what to do
    return 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(asyncio.run(main(Path(sys.argv[1]))))
    with tempfile.TemporaryDirectory(prefix="memory-example-") as folder:
        sys.exit(asyncio.run(main(Path(folder) / "example.db")))
