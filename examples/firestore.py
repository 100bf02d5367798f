"""A conversation kept in Firestore, its errors handled.

FIRESTORE_EMULATOR_HOST=localhost:8080 GOOGLE_CLOUD_PROJECT=demo python examples/firestore.py
"""

from __future__ import annotations

import asyncio

from memory import BackendUnavailable, DeadlineExceeded, MemoryItem, MemoryManager, UnknownOutcome


async def main() -> None:
    try:
        async with MemoryManager("firestore_v2", max_reads=5_000) as memory:
            store = memory.store
            ann = store.scoped(namespace="support", user_id="ann")
            try:
                await ann.put(MemoryItem(id="pet", content="Ann keeps two marmots", kind="semantic"), dedup="content")
            except UnknownOutcome as error:
                await error.retry()  # it may have happened: this finishes it once
            for hit in await ann.search("marmots", limit=3):
                print(f"{hit.score:.2f}  {hit.item.content}")
            print(f"{await ann.count()} memories, kept {store.durability}")
    except (BackendUnavailable, DeadlineExceeded) as error:
        print(f"no memory now: {error}")


if __name__ == "__main__":
    asyncio.run(main())
