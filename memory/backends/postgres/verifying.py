"""verify and repair: every record against its checksum, everything derived against the records."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from memory.backends.postgres.faults import CALL_ERRORS, translate
from memory.backends.postgres.records import document
from memory.backends.postgres.writing import terms_text
from memory.codec import content_hash, decode
from memory.errors import CorruptData
from memory.keys import decode_key, encode_key
from memory.model import Key, MemoryItem, path_bytes
from memory.ops import Problem, Row
from memory.store.types import RepairReport

if TYPE_CHECKING:
    from memory.backends.postgres.calling import Caller
    from memory.store import MemoryStore

STEP = 200
MOST_PROBLEMS = 1_000

_PAGE = """
SELECT r.key, r.body, r.crc, r.version, r.created, r.updated, r.accessed, r.count, r.expires, r.path, r.kind, r.user_id,
       r.agent_id, r.session_id, r.importance, r.digest, r.length, array_to_string(r.terms, ' ') AS terms,
       r.counts::text AS counts, x.raw@typed
  FROM $records r CROSS JOIN $state s LEFT JOIN $vectors x ON x.key = r.key AND x.space = s.space
 WHERE r.body IS NOT NULL AND r.key > $1 ORDER BY r.key LIMIT $2
"""
_OTHER_DOCUMENTS = """
SELECT r.key FROM unnest($1::bytea[], $2::text[]) g(key, doc) JOIN $records r USING (key)
 WHERE r.doc IS DISTINCT FROM g.doc::jsonb
"""
_WHOLE = """
SELECT (SELECT count(*) FROM $vectors x LEFT JOIN $records r ON r.key = x.key AND r.body IS NOT NULL
         WHERE r.key IS NULL) AS orphans,
       (SELECT count(*) FROM $vectors x CROSS JOIN $state s WHERE x.space = s.space
           AND octet_length(x.raw) IS DISTINCT FROM 4 * s.dimension) AS unfit,
       (SELECT max(version) FROM $records) > (SELECT last_value FROM $versions) AS behind
"""
_DERIVE = """
UPDATE $records SET path = $2, kind = $3, user_id = $4, agent_id = $5, session_id = $6, importance = $7, digest = $8,
       length = $9, terms = string_to_array($10::text, ' '), counts = $11::text::int4[], doc = $12::text::jsonb
 WHERE key = $1
"""
_BURY = """
UPDATE $records SET version = nextval('$versions'), updated = $2, expires = NULL, kind = NULL, user_id = NULL,
       agent_id = NULL, session_id = NULL, importance = NULL, owed = NULL, crc = NULL, digest = NULL, length = NULL,
       terms = NULL, counts = NULL, doc = NULL, body = NULL
 WHERE key = $1
"""
_ORPHANS = """
DELETE FROM $vectors x WHERE NOT EXISTS (SELECT FROM $records r WHERE r.key = x.key AND r.body IS NOT NULL)
    OR (x.space = (SELECT space FROM $state) AND octet_length(x.raw) IS DISTINCT FROM 4 * (SELECT dimension FROM $state))
"""


class Verifier:
    """Looks through the whole store. ``typed``: it has pgvector's type."""

    def __init__(self, store: MemoryStore, caller: Caller, *, typed: bool) -> None:
        self.store = store
        self.caller = caller
        self.typed = typed
        self.page = caller.fill(_PAGE.replace("@typed", ", x.v" if typed else ""))

    async def verify(self) -> tuple[int, list[Problem]]:
        """(records checked, problems), over one snapshot."""
        await self.store._vectors_ready()
        problems: list[Problem] = []
        checked, after = 0, b""
        async with self.caller.transaction(isolation="repeatable_read", readonly=True) as connection:
            while found := await connection.fetch(self.page, after, STEP):
                after = found[-1]["key"]
                documents: dict[bytes, str | None] = {}
                async for part in self.store._slices(found):
                    for row in part:
                        checked += 1
                        await self._check(row, problems, documents)
                other = await connection.fetch(
                    self.caller.fill(_OTHER_DOCUMENTS), list(documents), list(documents.values())
                )
                problems += [Problem("filter document", _key_of(key)) for (key,) in other]
            whole = await connection.fetchrow(self.caller.fill(_WHOLE))
        if whole["orphans"]:
            problems.append(Problem("vectors", detail=f"{whole['orphans']} belong to no record"))
        if whole["unfit"]:
            problems.append(Problem("vectors", detail=f"{whole['unfit']} are not of the store's dimension"))
        if whole["behind"]:
            problems.append(Problem("version counter", detail="it is behind the records"))
        return checked, problems[:MOST_PROBLEMS]

    async def _check(self, row: Any, problems: list[Problem], documents: dict[bytes, str | None]) -> None:
        item, why = _item_of(row)
        key = _key_of(row["key"])
        if item is None:
            problems.append(Problem("damaged record", key, why))
            return
        documents[row["key"]] = document(item)
        derived = await self._derived(item)
        if derived[:7] != _columns(row)[:7]:
            problems.append(Problem("columns", key, "they disagree with the record"))
        if _occurrences(*derived[7:]) != _occurrences(*_columns(row)[7:]):
            problems.append(Problem("text index", key, "its terms disagree with the record"))
        if self.typed and row["v"] is not None and row["raw"] is not None and row["v"] != _direction(row["raw"]):
            problems.append(Problem("vector index", key, "it disagrees with the record's vector"))

    async def _derived(self, item: MemoryItem) -> tuple[Any, ...]:
        """The columns that follow from an item, in the order of _columns."""
        counts, length = await self.store._counts(item.searchable)
        return (
            *(path_bytes(item.namespace), item.kind, item.user_id, item.agent_id, item.session_id, item.importance),
            *(content_hash(item), length, *terms_text(counts, length)),
        )

    # --- repair --------------------------------------------------------------------------------

    async def repair(self) -> RepairReport:
        """Set damaged records aside and build everything derived anew, each page in a transaction of its own."""
        await self.store._vectors_ready()
        quarantined: list[str] = []
        after = b""
        while found := await self._repaired_page(after, quarantined):
            after = found
        actions = ["built what filters and text search look at anew from the records"]
        if quarantined:
            actions.insert(0, f"set {len(quarantined)} damaged records aside in the table quarantine")
        async with self.caller.transaction() as connection:
            await connection.execute(self.caller.fill(_ORPHANS))
            await connection.execute(
                self.caller.fill(
                    "SELECT setval('$versions', greatest((SELECT last_value FROM $versions), "
                    "(SELECT coalesce(max(version), 1) FROM $records)) + 1)"
                )
            )
        connection = await self.caller.pool.acquire()
        broken = True
        try:
            # Outside of a transaction, and without holding anybody up.
            for table in ("$records", "$vectors", "$feed"):
                await connection.execute(self.caller.fill(f"REINDEX TABLE CONCURRENTLY {table}"))
            broken = False
        except CALL_ERRORS as error:
            raise translate(error, self.caller.shown) from error
        finally:
            self.caller.pool.release(connection, broken=broken)
        return RepairReport([*actions, "built the indexes anew"], quarantined)

    async def _repaired_page(self, after: bytes, quarantined: list[str]) -> bytes | None:
        """The last key of the page; None behind the last page."""
        async with self.caller.transaction() as connection:
            found = await connection.fetch(f"{self.page} FOR UPDATE OF r", after, STEP)
            async for part in self.store._slices(found):
                for row in part:
                    item, why = _item_of(row)
                    if item is None:
                        key = _key_of(row["key"])
                        quarantined.append("a record whose key is lost" if key is None else "/".join((*key[0], key[1])))
                        await connection.execute(
                            self.caller.fill("INSERT INTO $quarantine VALUES ($1, $2, $3, $4)"),
                            row["key"], self.store._clock(), why, row["body"],
                        )  # fmt: skip
                        await connection.execute(self.caller.fill(_BURY), row["key"], self.store._clock())
                        continue
                    derived = await self._derived(item)
                    documents = [row["key"]], [document(item)]
                    if derived != _columns(row) or await connection.fetch(
                        self.caller.fill(_OTHER_DOCUMENTS), *documents
                    ):
                        await connection.execute(self.caller.fill(_DERIVE), row["key"], *derived, document(item))
                    if self.typed and row["v"] is not None and row["v"] != _direction(row["raw"]):
                        await connection.execute(
                            self.caller.fill(
                                "UPDATE $vectors SET v = $2 WHERE key = $1 AND space = (SELECT space FROM $state)"
                            ),
                            row["key"],
                            _direction(row["raw"]),
                        )
        return found[-1]["key"] if found else None


def _columns(row: Any) -> tuple[Any, ...]:
    names = ("path", "kind", "user_id", "agent_id", "session_id", "importance", "digest", "length", "terms", "counts")
    return tuple([row[name] for name in names])


def _occurrences(length: Any, terms: str | None, counts: str | None) -> tuple[Any, dict[str, str]]:
    """Terms and how often each is there. Their order says nothing: it is that of the content's names when it was written."""
    names = terms.split(" ") if terms else []
    return length, dict(zip(names, counts[1:-1].split(",") if counts else ["1"] * len(names), strict=False))


def _direction(raw: bytes) -> bytes:
    from memory.search.vectors import unit

    return unit(raw).tobytes()


def _key_of(raw: bytes) -> Key | None:
    try:
        return decode_key(raw)
    except CorruptData:
        return None


def _item_of(row: Any) -> tuple[MemoryItem | None, str]:
    """The item of a record, or why there is none."""
    if zlib.crc32(row["body"]) != row["crc"]:
        return None, "checksum"
    try:
        item = decode(
            Row(body=row["body"], version=row["version"], created=row["created"], updated=row["updated"],
                accessed=row["accessed"], count=row["count"], expires=row["expires"])
        )  # fmt: skip
    except (CorruptData, msgspec.MsgspecError, OverflowError):
        return None, "undecodable"
    if encode_key(item.key) != row["key"]:
        return None, "filed under another key"
    return item, ""
