"""What a store is, kept in one key: the version of its layout, its analyser, and its declared fields.

Fields only come. A record is indexed by every field that was ever declared, by every process: one that does not know all of
them is refused by the script, and asks again. A field leads searches once the records from before it are indexed too.
A feed is kept from the first store on that was opened with one, of whatever any process writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from memory.backends.redis.reading import walk
from memory.backends.redis.repairing import mend
from memory.backends.redis.scripts import DECLARE, PREPARE
from memory.backends.redis.verifying import STEP
from memory.errors import BackendUnavailable, InvalidSetting
from memory.store.types import RepairReport

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

LAYOUT = 1


async def prepare(store: RedisStore) -> None:
    """Read what the store is, making it when it is new, and index what newly declared fields need. Raises
    BackendUnavailable for a newer layout, InvalidSetting for another analyser."""
    await learn(store)
    if store.feed:
        await _keep_feed(store)
    wanted = [path for path in store.fields if path not in store.leads]
    if not wanted:
        return
    for tag in await store.tags.all():
        await store.servers.run(DECLARE, [store.names.state(tag)], len(store.fields))
        await _index(store, tag)
    ready: list[bytes] = []
    for path in wanted:
        ready += [b"r%d" % store.fields[path], b"1"]
    await store.servers.call(store.names.format, "HSET", store.names.format, *ready)
    store.leads = dict(store.fields)


async def learn(store: RedisStore) -> None:
    """Read what the store is."""
    wanted = [msgspec.json.encode(list(path)) for path in store.index]
    layout, analyser, _, *fields = await store.servers.run(
        PREPARE, [store.names.format], LAYOUT, store.analyser.identity, *wanted
    )
    if int(layout) > LAYOUT:
        raise BackendUnavailable(
            f"the store at {store.servers.place} under this prefix has layout {int(layout)}; this version knows {LAYOUT}. "
            "Upgrade agent-memory-backends"
        )
    if analyser.decode() != store.analyser.identity:
        raise InvalidSetting(
            f"the store was indexed by the analyser {analyser.decode()!r}, this one uses {store.analyser.identity!r}. Open it "
            "with the same language, or export it and import it under a new prefix",
            setting="language",
            expected=analyser.decode(),
            actual=store.analyser.identity,
        )
    known = [
        (tuple(msgspec.json.decode(path, type=list[str])), int(number), ready == b"1")
        for path, number, ready in zip(fields[::3], fields[1::3], fields[2::3], strict=True)
    ]
    store.fields = {path: number for path, number, _ in known}
    store.leads = {path: number for path, number, ready in known if ready}


async def _keep_feed(store: RedisStore) -> None:
    """Let every writer keep the feed: those of tags to come learn of it from the format, those of tags there are from their state."""
    names = store.names
    if await store.servers.call(names.format, "HGET", names.format, "fed") == b"1":
        return
    await store.servers.call(names.format, "HSET", names.format, "feed", b"1")
    for tag in await store.tags.all():
        await store.servers.call(names.state(tag), "HSET", names.state(tag), "feed", b"1")
    await store.servers.call(names.format, "HSET", names.format, "fed", b"1")


async def _index(store: RedisStore, tag: bytes) -> None:
    """Index every record of a tag anew."""
    start = b"["
    while True:
        keys = await walk(store, store.names.keys(tag), start, b"(\xff", STEP)
        await mend(store, tag, keys, RepairReport())
        if len(keys) < STEP:
            return
        start = b"(" + keys[-1]
