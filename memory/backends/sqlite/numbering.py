"""Doc numbers for new records."""

from __future__ import annotations

from typing import Any

import apsw

from memory.backends.sqlite.docs import BUCKET_SHIFT, LENGTH_BITS, SEQUENCE_BITS, bucket_of, with_length
from memory.backends.sqlite.planning import Record
from memory.backends.sqlite.statements import fetch, first, numbers, scalar
from memory.keys import damaged

_WITHIN = (1 << BUCKET_SHIFT) - 1
"""The bits of a doc number below its bucket. A bucket is asked for up to its own last number, which is always an integer of
SQLite's: the number after the last bucket's is not."""


def doc_of(record: Record) -> int:
    """The doc number of a numbered record."""
    assert record.order is not None
    return with_length(record.order, record.length)


def _last_of_each(db: apsw.Connection, buckets: list[int]) -> list[tuple[Any, ...]]:
    """(bucket, doc, created, key) of the highest number in each bucket, with Nones where it is empty."""
    if len(buckets) == 1:
        found = first(
            db,
            "SELECT doc, created, key FROM items INDEXED BY items_doc WHERE doc >= ? AND doc <= ? ORDER BY doc DESC LIMIT 1",
            (buckets[0] << BUCKET_SHIFT, buckets[0] << BUCKET_SHIFT | _WITHIN),
        )
        return [(buckets[0], *(found or (None, None, None)))]
    return fetch(
        db,
        "SELECT c.value, last.doc, last.created, last.key FROM carray(?1) c LEFT JOIN items last INDEXED BY items_doc "
        "ON last.doc = (SELECT max(doc) FROM items WHERE doc >= c.value << ?2 AND doc <= (c.value << ?2 | ?3))",
        (numbers(buckets), BUCKET_SHIFT, _WITHIN),
    )


def number_records(db: apsw.Connection, new: list[Record]) -> None:
    """Give each record that has none the next free numbers of its bucket, in the order of the candidate rule."""
    buckets: dict[int, list[Record]] = {}
    for record in new:
        if record.order is None:
            buckets.setdefault(bucket_of(record.created), []).append(record)
    if not buckets:
        return
    last_of_each = _last_of_each(db, list(buckets))
    mixed: list[int] = []
    spilled = None
    for bucket, doc, created, key in last_of_each:
        records = buckets[bucket]
        records.sort(key=lambda record: record.key, reverse=True)
        records.sort(key=lambda record: record.created)
        if doc is not None and type(created) is not int:
            raise damaged(key if isinstance(key, bytes) else b"")
        if doc is not None and (
            created > records[0].created or (created == records[0].created and key < records[0].key)
        ):
            mixed.append(bucket)
        following = (bucket << SEQUENCE_BITS) if doc is None else (doc >> LENGTH_BITS) + 1
        end = (bucket + 1) << SEQUENCE_BITS
        for record in records:
            if following < end:
                record.order = following
                following += 1
                continue
            if spilled is None:
                spilled = min(0, (scalar(db, "SELECT min(doc) FROM items") or 0) >> LENGTH_BITS)
            spilled -= 1
            record.order = spilled
    if mixed:
        db.execute("INSERT OR IGNORE INTO mixed SELECT value FROM carray(?)", (numbers(mixed),))
