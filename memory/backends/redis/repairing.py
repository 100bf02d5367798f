"""Repair: indexes made anew from the records; what is damaged is set aside, under a name of its own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from memory.backends.redis.reading import parts_of, walk
from memory.backends.redis.scanning import PAGE
from memory.backends.redis.scripts import MEND
from memory.backends.redis.verifying import STEP, examine, known, strays_in
from memory.store.types import RepairReport

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore


async def repair(store: RedisStore) -> RepairReport:
    """See MemoryStore._repair."""
    report = RepairReport()
    mended = records = strays = 0
    tags: dict[bytes, None] = dict.fromkeys(await store.tags.all())
    async for tag, keys in _records(store):
        if tag not in tags:
            tags[tag] = None
            await store.servers.call(store.names.tags, "SADD", store.names.tags, tag)
        for start in range(0, len(keys), STEP):
            some = keys[start : start + STEP]
            records += len(some)
            mended += await mend(store, tag, some, report)
    for tag in tags:
        for name in (store.names.index(tag), store.names.terms(tag), store.names.keys(tag)):
            found = (
                await _without_record(store, tag)
                if name == store.names.keys(tag)
                else await strays_in(store, tag, name)
            )
            strays += len(found)
            for start in range(0, len(found), PAGE):
                await store.servers.call(name, "ZREM", name, *found[start : start + PAGE])
    await store.spaces.drop_unused()
    report.actions.append(f"{records} records were looked at, and the index entries of {mended} written anew")
    if strays:
        report.actions.append(f"{strays} index entries without a record were removed")
    if report.quarantined:
        report.actions.append(f"{len(report.quarantined)} damaged records were set aside")
    return report


async def _records(store: RedisStore) -> AsyncIterator[tuple[bytes, list[bytes]]]:
    """Every record by its name in the server, in no order, by tag; what an index says is not relied upon."""
    pattern = re.compile(re.escape(store.names.prefix) + rb":\{([0-9a-f]+)\}:r:(.*)", re.DOTALL)
    for node in store.servers.nodes:
        cursor = b"0"
        while True:
            cursor, names = await store.servers.ask(
                node, "SCAN", cursor, "MATCH", store.names.prefix + b":{*}:r:*", "COUNT", PAGE, "TYPE", "hash"
            )
            by_tag: dict[bytes, list[bytes]] = {}
            for name in names:
                found = pattern.fullmatch(name)
                if found is not None:
                    by_tag.setdefault(found[1], []).append(found[2])
            for pair in by_tag.items():
                yield pair
            if cursor == b"0":
                break


async def mend(store: RedisStore, tag: bytes, keys: list[bytes], report: RepairReport) -> int:
    """Write the entries of some records anew and set damaged ones aside; how many were written."""
    names = store.names
    number = await store.spaces.refresh()
    told: list[bytes] = []
    records: list[bytes] = []
    for one in await examine(store, tag, keys):
        record = names.record(tag, one.key)
        if one.wrong == "damaged record":
            await store.servers.call(record, "RENAME", record, names.base(tag) + b"damaged:" + one.key)
            await store.servers.call(names.keys(tag), "ZREM", names.keys(tag), one.key)
            report.quarantined.append(_name(one.key))
        elif one.header is not None:
            records.append(record)
            told += [one.key, one.header.raw, one.heads]
    if not records:
        return 0
    keys_of = [names.keys(tag), names.index(tag), names.terms(tag), *records]
    mended: int = await store.servers.run(MEND, keys_of, number, *told)
    return mended


def _name(key: bytes) -> str:
    found = known(key)
    return repr(key) if found is None else f"{'/'.join(found[0])}: {found[1]}"


async def _without_record(store: RedisStore, tag: bytes) -> list[bytes]:
    """Keys that no record has."""
    found: list[bytes] = []
    start = b"["
    while True:
        keys = await walk(store, store.names.keys(tag), start, b"(\xff", PAGE)
        _, parts = await parts_of(store, tag, keys, "h")
        found += [key for key, header in zip(keys, parts, strict=True) if header is None]
        if len(keys) < PAGE:
            return found
        start = b"(" + keys[-1]
