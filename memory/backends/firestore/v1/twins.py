"""Dedup: live items of equal content, those of V1 programs too, which carry no digest.

Their texts are asked for as V1 asks (equal ``text_content``); of a text that is longer than what an index keeps, by how it
begins. Contents of agent data may be anything, so an agent's data of one kind are read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from memory.backends.firestore import values
from memory.backends.firestore.locks import Twin
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import NAME, Condition, Query
from memory.backends.firestore.records import item_of
from memory.backends.firestore.v1.documents import Found
from memory.backends.firestore.v1.narrowing import Conditions, narrow
from memory.backends.firestore.v1.natives import AGENTS, ITEMS, collection_of
from memory.backends.firestore.v1.scanning import row
from memory.backends.firestore.v1.walking import PAGE, Walk
from memory.codec import content_hash
from memory.errors import CorruptData
from memory.filters import And, Compare
from memory.ops import Put, Scope

if TYPE_CHECKING:
    from memory.backends.firestore.v1.backend import FirestoreV1Store

TEXT = "text_content"
TOGETHER = 30
"""Values that one ``in`` may list."""
INDEXED = 1_400
"""Bytes of a text that are asked for at once; an index keeps 1,500."""


async def find_twins(store: FirestoreV1Store, ops: Sequence[Put], meter: Meter) -> dict[bytes, Twin]:
    """Digest -> the live item of this content with the lowest key. Digests without one are left out."""
    wanted, now = {op.digest for op in ops}, ops[0].now
    best: dict[bytes, Found] = {}
    async for documents in _candidates(store, ops, meter):
        async for one in singly(documents):
            digest = _digest(store, one) if one.live(now) else b""
            if digest in wanted and (digest not in best or one.id.encode() < best[digest].id.encode()):
                best[digest] = one
    return {digest: (one.id, row(store, one)) for digest, one in best.items()}


async def _candidates(store: FirestoreV1Store, ops: Sequence[Put], meter: Meter) -> AsyncIterator[list[Found]]:
    texts: dict[str | None, set[str]] = defaultdict(set)
    agents: set[tuple[str, str]] = set()
    for op in ops:
        if collection_of(op.item) == AGENTS:
            agents.add((op.item.agent_id or "", op.item.kind))
        elif op.item.agent_id is None and isinstance(op.item.content, str):
            texts[op.item.user_id].add(op.item.content)
    for asked in (*_digests(ops), *_texts(texts), *_kinds(agents)):
        walk = Walk(store, asked, meter)
        while documents := await walk.next():
            yield documents
    for text in {text for said in texts.values() for text in said if len(text.encode()) > INDEXED}:
        async for documents in _beginning(store, text, meter):
            yield documents


def _digests(ops: Sequence[Put]) -> Iterator[dict[str, Conditions]]:
    digests = list(dict.fromkeys(op.digest for op in ops))
    for start in range(0, len(digests), TOGETHER):
        condition = (Condition("memory.digest", "in", values.blobs(digests[start : start + TOGETHER])),)
        yield {ITEMS: condition, AGENTS: condition}


def _texts(texts: dict[str | None, set[str]]) -> Iterator[dict[str, Conditions]]:
    for user, said in texts.items():
        owner = () if user is None else (Condition("user_id", "==", values.text(user)),)
        short = sorted(text for text in said if len(text.encode()) <= INDEXED)
        for start in range(0, len(short), TOGETHER):
            yield {ITEMS: (*owner, Condition(TEXT, "in", values.texts(short[start : start + TOGETHER])))}


def _kinds(agents: set[tuple[str, str]]) -> Iterator[dict[str, Conditions]]:
    for agent, kind in sorted(agents):
        where = And((Compare(("agent_id",), "eq", agent), Compare(("kind",), "eq", kind)))
        yield {AGENTS: narrow(Scope(), where)[AGENTS]}


async def _beginning(store: FirestoreV1Store, text: str, meter: Meter) -> AsyncIterator[list[Found]]:
    """Items whose texts begin as a long one does."""
    begins = text.encode()[:INDEXED].decode(errors="ignore")
    conditions = (
        Condition(TEXT, ">=", values.text(begins)),
        Condition(TEXT, "<=", values.text(begins + "\U0010ffff")),
    )
    after: tuple[Any, ...] = ()
    while True:
        query = Query(
            collection=ITEMS, conditions=conditions, orders=((TEXT, False), (NAME, False)), after=after, limit=PAGE
        )
        found = await store._connected().query(query, meter)
        yield found
        if len(found) < PAGE:
            return
        name = store._connected().name(ITEMS, found[-1].id)
        after = (found[-1].fields[TEXT], values.Value(reference_value=name))


def _digest(store: FirestoreV1Store, found: Found) -> bytes:
    if not found.changed:
        return found.part("digest")
    try:
        return content_hash(item_of(found))
    except CorruptData as error:
        store._unreadable(found, error)
        return b""
