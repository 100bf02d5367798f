"""A conversation kept in Firestore, its errors handled.

FIRESTORE_EMULATOR_HOST=localhost:8080 GOOGLE_CLOUD_PROJECT=demo python examples/firestore.py
"""

from __future__ import annotations

import asyncio
import sys

from memory import BackendUnavailable, DeadlineExceeded, MemoryItem, MemoryManager, MemoryStoreError, UnknownOutcome


async def main() -> int:
    """1 when the database cannot be used."""
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
            return 0
    except (BackendUnavailable, DeadlineExceeded) as error:
        print(f"no memory now: {error}", file=sys.stderr)
    except MemoryStoreError as error:  # no project is named, and whatever else: the message says what to do
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
