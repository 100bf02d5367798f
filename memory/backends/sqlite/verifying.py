"""verify: every record against its seal, everything derived against the records."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.changing import tag_entries
from memory.backends.sqlite.docs import LENGTH_BITS, term_text, with_length
from memory.backends.sqlite.faults import ENGINE_ERRORS, UNEXPECTED
from memory.backends.sqlite.records import FULL_SQL, field_seal, to_row
from memory.backends.sqlite.schema import column_value, declared
from memory.backends.sqlite.statements import blobs, fetch, scalar
from memory.backends.sqlite.vectorcheck import verify_vectors
from memory.backends.sqlite.workers import Breather
from memory.codec import content_hash, decode
from memory.errors import CorruptData
from memory.keys import decode_key, encode_key
from memory.model import Key, MemoryItem, path_bytes
from memory.ops import Problem
from memory.search.analysis import Analyser

STEP = 200
MOST_PROBLEMS = 1_000
_ONE = 1 << 64
OUT_OF_ORDER = (
    "SELECT DISTINCT doc >> 28 FROM (SELECT doc, created, key, lag(doc) OVER w AS d, lag(created) OVER w AS c, "
    "lag(key) OVER w AS k FROM items WHERE doc >= 0 WINDOW w AS (ORDER BY doc)) "
    "WHERE doc >> 28 = d >> 28 AND (c > created OR (c = created AND k < key))"
)
"""The buckets of doc numbers whose records are not numbered in the order of the candidate rule."""
_EXTRA = (
    "items.rowid, items.doc, items.length, items.digest, items.tags, items.path, "
    "(SELECT terms FROM texts WHERE ord = items.doc >> 10), items.fseal"
)


def verify(db: apsw.Connection, language: str) -> tuple[int, list[Problem]]:
    """(records checked, problems), over one snapshot. In a thread; Python work in slices."""
    problems: list[Problem] = []
    # Temporary, yet a write to SQLite.
    db.execute(
        "PRAGMA query_only = off; CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab('main', 'words', 'instance')"
    )
    db.execute("PRAGMA query_only = on")
    db.execute("BEGIN")
    try:
        checked = _verify(db, Analyser(language), problems)
    except ENGINE_ERRORS as error:
        if isinstance(error, apsw.InterruptError):
            raise
        # The walk ends here, so what it has seen of the records is not all: nothing counts as checked. Where the mistake may be
        # ours the file is not blamed, and not called whole either.
        detail = f"{type(error).__name__}: {error}"
        if isinstance(error, UNEXPECTED):
            problems.append(Problem("not checked", detail=detail))
        else:
            advice = "repair takes out what can be read, and keeps the damaged file"
            problems.append(Problem("damaged file", detail=f"{detail}; {advice}"))
        checked = 0
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    return checked, problems[:MOST_PROBLEMS]


def _verify(db: apsw.Connection, analyser: Analyser, problems: list[Problem]) -> int:
    for (line,) in fetch(db, f"PRAGMA integrity_check({MOST_PROBLEMS})"):
        if line != "ok":
            problems.append(Problem("damaged file", detail=str(line)))
    fields = declared(db)
    expected: dict[str, int] = {}
    checked = tags = vectors = newest = 0
    breather = Breather()
    after = -(2**63)
    columns = "".join(f", items.f{number}" for number in fields.values())
    while True:
        rows = fetch(
            db,
            f"SELECT {FULL_SQL}, {_EXTRA}{columns} FROM items NOT INDEXED WHERE items.rowid > ? ORDER BY items.rowid LIMIT ?",  # noqa: S608 - our own column names
            (after, STEP),
        )
        if not rows:
            break
        if not rises(after, rows):
            problems.append(Problem("damaged file", detail="the table of records does not end"))
            break
        after = rows[-1][18]
        entries: list[bytes] = []
        for row in rows:
            breather.breathe()
            checked += 1
            item = _check(row, fields, problems)
            if item is None:
                continue
            newest = max(newest, row[2])
            vectors += row[15] is not None
            entries += tag_entries(row[1], row[22])
            _expect(row, item, analyser, expected, problems)
        tags += len(set(entries))
        if entries:
            found = scalar(
                db, "SELECT count(*) FROM carray(?) c CROSS JOIN tags ON tags.entry = c.value", (blobs(set(entries)),)
            )
            if found != len(set(entries)):
                problems.append(Problem("tag index", detail=f"{len(set(entries)) - found} entries are missing"))
    if scalar(db, "SELECT count(*) FROM tags") > tags:
        problems.append(Problem("tag index", detail="it holds entries of no record"))
    verify_vectors(db, vectors, problems, breather)
    if scalar(db, f"SELECT 1 FROM ({OUT_OF_ORDER} EXCEPT SELECT bucket FROM mixed) LIMIT 1") is not None:  # noqa: S608 - our own text
        problems.append(Problem("text index", detail="records are numbered out of order"))
    if (scalar(db, "SELECT version FROM counter") or 0) < newest:
        problems.append(Problem("version counter", detail="it is behind the records"))
    _compare_terms(db, expected, problems, breather)
    return checked


def rises(after: int, rows: list[tuple[Any, ...]]) -> bool:
    """Whether row numbers grow, as they do in a sound table: through a damaged one a walk may go in circles."""
    for row in rows:
        if not isinstance(row[18], int) or row[18] <= after:
            return False
        after = row[18]
    return True


def known_key(raw: Any) -> Key | None:
    """The key that these bytes tell, if they tell one."""
    try:
        return decode_key(raw)
    except (CorruptData, AttributeError):
        return None


def _check(row: tuple[Any, ...], fields: dict[tuple[str, ...], int], problems: list[Problem]) -> MemoryItem | None:
    """The record's item when it is whole; what is derived from it within its own row is compared."""
    key = known_key(row[1])
    try:
        item = decode(to_row(row[:18]))
    except CorruptData as error:
        problems.append(Problem("damaged record", key, str(error)))
        return None
    wanted = (encode_key(item.key), item.kind, item.user_id, item.agent_id, item.session_id, item.importance)
    tags = msgspec.json.encode(item.tags).decode() if item.tags else None
    derived = [column_value(item.metadata, parts[1:]) for parts in fields]
    if (
        wanted != (row[1], row[8], row[9], row[10], row[11], row[12])
        or (path_bytes(item.namespace), tags, content_hash(item)) != (row[23], row[22], row[21])
        or row[25] != field_seal(row[1], derived)
        or derived != list(row[26:])
        or row[19] != with_length(row[19] >> LENGTH_BITS, row[20])
    ):
        problems.append(Problem("derived columns", key, "they disagree with the record"))
    return item


def _expect(
    row: tuple[Any, ...],
    item: MemoryItem,
    analyser: Analyser,
    expected: dict[str, int],
    problems: list[Problem],
) -> None:
    """Add a record's tokens to what the text index should hold: by token, the sum of its documents' marks."""
    counts, length = analyser.counts(item.searchable)
    if length != row[20]:
        problems.append(Problem("derived columns", item.key, "the length of its text is wrong"))
    text = term_text(counts, item.namespace, item.user_id, item.agent_id, item.session_id) if counts else None
    # As sets: in which order the words of a dict's values were said, the body does not know.
    if (text is None) != (row[24] is None) or (
        text is not None and sorted(text.split(" ")) != sorted(str(row[24]).split(" "))
    ):
        problems.append(Problem("stored terms", item.key, "they disagree with the text"))
    if text is None:
        return
    mark = _mark(row[19])
    for token in text.split(" "):
        expected[token] = expected.get(token, 0) + mark


def _mark(doc: int) -> int:
    """A document in a sum that also counts: one number a token, because verify holds one for every word of the store."""
    return _ONE | (doc >> LENGTH_BITS) & 0xFFFFF


def _compare_terms(db: apsw.Connection, expected: dict[str, int], problems: list[Problem], breather: Breather) -> None:
    waiting = fetch(db, "SELECT doc, terms FROM pending CROSS JOIN texts ON ord = doc >> 10")
    for doc, terms in waiting:
        for token in str(terms or "").split(" "):
            expected[token] = expected.get(token, 0) - _mark(doc)
    wrong = 0
    found = db.execute("SELECT term, count(*), sum((doc >> 10) & 1048575) FROM vocabulary GROUP BY term")
    for term, documents, total in found:
        breather.breathe()
        wrong += expected.pop(term, 0) != documents * _ONE + total
    # Let go a few at a time as well: freeing all of them at once would keep the interpreter to this thread.
    while expected:
        breather.breathe()
        wrong += expected.popitem()[1] != 0
    if wrong:
        problems.append(Problem("text index", detail=f"{wrong} terms disagree with the records"))
