"""An agent's memory in Postgres, with every error handled that a server brings.

MEMORY_POSTGRES_DSN=postgresql://me:secret@localhost/app python examples/postgres.py
"""

from __future__ import annotations

import asyncio
import os
import sys

from memory import F, MemoryItem
from memory.backends.postgres import PostgresStore
from memory.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    MemoryStoreError,
    Overloaded,
    StorageFull,
    UnknownOutcome,
    VersionConflict,
)


async def remember(store: PostgresStore) -> MemoryItem:
    """Write one memory, whatever happens to its reply."""
    item = MemoryItem(
        id="marmots",
        namespace=("agents", "ranger"),
        content="Marmots whistle when an eagle is near",
        metadata={"place": {"valley": 7}},
        user_id="ann",
    )
    try:
        return await store.put(item)
    except UnknownOutcome as unknown:
        # The reply was lost: finish it under its first token. It is never written twice.
        stored: MemoryItem = await unknown.retry()
        return stored


async def correct(store: PostgresStore, item: MemoryItem) -> MemoryItem:
    """Change a memory only if nobody else has meanwhile."""
    try:
        return await store.update(
            item.id, namespace=item.namespace, metadata={"checked": True}, if_version=item.version
        )
    except VersionConflict as conflict:
        print(f"somebody was faster: it is at version {conflict.actual}")
        raise


async def main() -> int:
    """The tour; 1 when the server cannot be used."""
    address = os.environ.get("MEMORY_POSTGRES_DSN", "postgresql://postgres@localhost/postgres")
    try:
        async with PostgresStore(address, schema="example_memory", timeout=10) as store:
            stored = await correct(store, await remember(store))
            print("stored:", stored.content)
            found = await store.search("whistling eagle", where=F.metadata.place.valley >= 5, limit=3)
            print("found:", found.hits[0].item.id)
            print("durability:", store.durability)
            await store.delete(stored.id, namespace=stored.namespace)
    except BackendUnavailable as error:  # down, refused, wrong password, no privilege: the message says what to do
        print(f"the memory cannot be used: {error}", file=sys.stderr)
        return 1
    except (Overloaded, DeadlineExceeded) as error:  # nothing was written; later it may work
        print(f"try again later: {error}", file=sys.stderr)
        return 1
    except StorageFull as error:
        print(f"free some space: {error}", file=sys.stderr)
        return 1
    except MemoryStoreError as error:  # an address that cannot be understood, and whatever else: it says what to do
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
