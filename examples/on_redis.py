"""An agent's memory in Redis, with what can go wrong handled: python examples/on_redis.py [redis://host:6379]

Without an address it uses MEMORY_REDIS_URL. Any Redis 7 or Valkey will do; rediss:// is TLS, redis+cluster:// a cluster.
"""

from __future__ import annotations

import asyncio
import os
import sys

from memory import MemoryItem
from memory.backends.redis import RedisStore
from memory.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    MemoryStoreError,
    Overloaded,
    StorageFull,
    UnknownOutcome,
    VersionConflict,
)


async def remember(store: RedisStore, item: MemoryItem) -> MemoryItem:
    """Put an item, trying again where that is safe: a write whose outcome is not known is finished, never doubled."""
    for attempt in range(5):
        try:
            return await store.put(item)
        except UnknownOutcome as unknown:
            # The connection broke after the write was sent. retry() finds out whether it happened and does it if not.
            try:
                stored: MemoryItem = await unknown.retry()
                return stored
            except (BackendUnavailable, DeadlineExceeded, UnknownOutcome):
                pass  # still not reachable, or somebody has written the same item since: look again
        except (BackendUnavailable, DeadlineExceeded, Overloaded):
            pass  # certainly not written
        await asyncio.sleep(0.1 * 2**attempt)
    raise BackendUnavailable(f"gave up writing {item.id!r}")


async def main(url: str) -> int:
    try:
        async with RedisStore(url, prefix="example", index=["metadata.city"], timeout=2.0) as store:
            print(f"open: {store.durability} survives here; {(await store.health()).details['server']}")
            maya = store.scoped(namespace=("team", "travel"), user_id="maya")

            first = await remember(
                store,
                MemoryItem(id="m1", content="Maya likes window seats", namespace=("team", "travel"), user_id="maya"),
            )
            await maya.put(MemoryItem(id="m2", content="Maya flies to Lisbon in May", metadata={"city": "Lisbon"}))
            await maya.put(MemoryItem(id="code", content="the one-time code is 1234"), ttl=30)

            for hit in await maya.search("which seat does she like?"):
                print(f"found: {hit.item.content} (score {hit.score:.2f})")
            page = await maya.list({"metadata.city": "Lisbon"})
            print(f"in Lisbon: {[item.id for item in page]}")

            changed = await maya.update("m1", content="Maya likes aisle seats")
            try:
                await maya.put(first, if_version=first.version)
            except VersionConflict as conflict:
                print(f"not overwritten: it was changed meanwhile ({conflict.actual == changed.version})")

            report = await store.verify()
            print(f"verified: {report.checked} records, {len(report.problems)} problems")
            await store.delete_where(None, under=())
            return 0
    except StorageFull as full:
        print(f"no room: {full}", file=sys.stderr)  # reads and deletes still work
    except MemoryStoreError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # says where, and what to do; never a password
    return 1


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("MEMORY_REDIS_URL", "redis://localhost:6379")
    sys.exit(asyncio.run(main(address)))
