"""Pages of a scan, counts and namespaces: the ways that `reading` names, tried in the order of their cost."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.compiling import Fields, Sql, tag_condition
from memory.backends.sqlite.entries import TooLongError
from memory.backends.sqlite.reading import (
    FEW,
    LIVE,
    Driver,
    Said,
    all_of,
    conditions,
    drivers,
    key_condition,
    owner_conditions,
    tag_drivers,
    to_page,
    unindexed,
)
from memory.backends.sqlite.records import BARE_SQL, FULL_SQL, to_row_within
from memory.backends.sqlite.statements import fetch, scalar
from memory.errors import CorruptData
from memory.keys import encode_key, key_range
from memory.model import path_bytes
from memory.ops import Around, Count, Page, Row, Scan

Found = list[tuple[Any, ...]]
_COLUMNS = {"created_at": "created", "updated_at": "updated", "accessed_at": "accessed", "importance": "importance"}
SHORT_PAGE = 16
"""So many records are read on the loop however long they are;"""
INLINE_BYTES = 256 * 1024
"""of more, so many bytes of bodies: as many as one record may have."""
ANCHORS = 50
"""So many are looked around by one statement."""
_PLACE = {"created_at": 3, "updated_at": 4, "accessed_at": 5, "importance": 12}


class _Ask(msgspec.Struct):
    """A scan, what it selects, and what has to hold of each record."""

    op: Scan
    columns: str
    residual: tuple[Sql, ...]
    patient: bool


def scan(db: apsw.Connection, op: Scan, fields: Fields, said: Said, patient: bool = True) -> Page:
    """One page; ``said`` is `conditions` of it. Raises TooLongError unless patient, CorruptData."""
    if said.impossible:
        return Page([], exact=True, more=False)
    choices = drivers(op.scope, said.filtered, fields)
    tags = tag_drivers(op.where)
    ask = _Ask(op, FULL_SQL if op.vectors else BARE_SQL, said.parts, patient)
    if op.order.field == "key":
        found = _by_key(db, ask, choices, tags)
    else:
        found = _by_value(db, ask, choices, tags)
    return to_page(found, op, fields, exact=said.exact)


def scan_soon(db: apsw.Connection, op: Scan, fields: Fields, said: Said) -> Page | None:
    """The same on the loop; None where its records are long."""
    try:
        return scan(db, op, fields, said, patient=False)
    except TooLongError:
        return None


def _rows(db: apsw.Connection, ask: _Ask, text: str, params: tuple[Any, ...]) -> Found:
    """The rows of a page, with their bodies first. SQLite's own steps do not tell how long those are."""
    if ask.patient or ask.op.limit <= SHORT_PAGE:
        return fetch(db, text, params)
    found: Found = []
    weight = 0
    for row in db.execute(text, params):
        found.append(row)
        weight += len(row[0]) if type(row[0]) is bytes else 0
        if weight > INLINE_BYTES:
            raise TooLongError
    return found


def _select(
    db: apsw.Connection, ask: _Ask, index: str, parts: list[Sql | None], order: str, limit: int | None = None
) -> Found:
    condition = all_of([*parts, *ask.residual])
    columns = ask.columns
    return _rows(
        db,
        ask,
        f"SELECT {columns} FROM items INDEXED BY {index} WHERE {condition.text} ORDER BY {order} LIMIT ?",  # noqa: S608 - templates; all values bound
        (*condition.params, ask.op.limit if limit is None else limit),
    )


def _by_key(db: apsw.Connection, ask: _Ask, choices: list[Driver], tags: list[str]) -> Found:
    after = None if ask.op.after is None else encode_key((ask.op.after.namespace, ask.op.after.id))
    span = key_range(ask.op.scope)
    narrow = key_condition(span, after, descending=ask.op.order.descending)
    order = "items.key DESC" if ask.op.order.descending else "items.key"
    if len(choices) + len(tags) > 1 or any(not choice.sorted_by_key for choice in choices):
        best, few = _fewest(db, choices, tags, span)
        if not few:
            # Too many for sorting: go along an index that is in key order.
            ordered = [choice for choice in choices if choice.sorted_by_key]
            best = tags[0] if tags else ordered[0] if ordered else None
    else:
        best = choices[0] if choices else tags[0] if tags else None
    if isinstance(best, str):
        entries = "tags.entry DESC" if ask.op.order.descending else "tags.entry"
        return _tagged(db, ask, best, None, after=after, order=entries)
    if best is None:
        return _select(db, ask, "items_key", [narrow], order)
    if best.sorted_by_key:
        return _select(db, ask, best.index, [best.condition, narrow], order)
    return _select(db, ask, best.index, [best.condition, unindexed(narrow)], order)


def _fewest(
    db: apsw.Connection, choices: list[Driver], tags: list[str], span: tuple[bytes, bytes] | None
) -> tuple[Driver | str | None, bool]:
    """The choice with the fewest entries, and whether these are few."""
    best: Driver | str | None = None
    least = FEW + 1
    for choice in [*choices, *([Driver("items_key", Sql("1"), True)] if span is not None else [])]:
        parts = [choice.condition, key_condition(span) if choice.sorted_by_key else None]
        condition = all_of([part for part in parts if part is not None])
        count = scalar(
            db,
            f"SELECT count(*) FROM (SELECT 1 FROM items INDEXED BY {choice.index} WHERE {condition.text} LIMIT ?)",  # noqa: S608 - templates
            (*condition.params, least),
        )
        if count < least:
            best, least = choice, count
    for tag in tags:
        low, high = tag_span(tag, span)
        count = scalar(
            db, "SELECT count(*) FROM (SELECT 1 FROM tags WHERE entry >= ? AND entry < ? LIMIT ?)", (low, high, least)
        )
        if count < least:
            best, least = tag, count
    return best, best is not None


def tag_span(tag: str, span: tuple[bytes, bytes] | None) -> tuple[bytes, bytes]:
    """The entries of a tag, in a range of keys."""
    name = tag.encode()
    if span is None:
        return name + b"\0", name + b"\1"
    return name + b"\0" + span[0], name + b"\0" + span[1]


def _tagged(db: apsw.Connection, ask: _Ask, tag: str, beyond: Sql | None, *, after: bytes | None, order: str) -> Found:
    low, high = tag_span(tag, key_range(ask.op.scope))
    name = tag.encode() + b"\0"
    above = ">="
    if after is not None and ask.op.order.descending and name + after < high:
        high = name + after
    elif after is not None and not ask.op.order.descending and name + after >= low:
        low, above = name + after, ">"
    told = tag_condition(tag)
    condition = all_of([beyond, *(part for part in ask.residual if part != told)])
    columns = ask.columns
    return _rows(
        db,
        ask,
        f"SELECT {columns} FROM tags CROSS JOIN items INDEXED BY items_key ON items.key = substr(tags.entry, ?) "  # noqa: S608 - templates
        f"WHERE tags.entry {above} ? AND tags.entry < ? AND {condition.text} ORDER BY {order} LIMIT ?",
        (len(name) + 1, low, high, *condition.params, ask.op.limit),
    )


# --- other orders ------------------------------------------------------------------------------


def _by_value(db: apsw.Connection, ask: _Ask, choices: list[Driver], tags: list[str]) -> Found:
    column = _COLUMNS[ask.op.order.field]
    span = key_condition(key_range(ask.op.scope))
    beyond = "<" if ask.op.order.descending else ">"
    order = f"items.{column}{' DESC' if ask.op.order.descending else ''}, items.key"
    best, few = _fewest(db, choices, tags, key_range(ask.op.scope)) if choices or tags or span else (None, False)
    if few and best is not None:
        after = None
        if ask.op.after is not None:
            key = encode_key((ask.op.after.namespace, ask.op.after.id))
            after = Sql(
                f"(+items.{column} {beyond} ? OR (+items.{column} = ? AND +items.key > ?))",
                (ask.op.after.value, ask.op.after.value, key),
            )
        if isinstance(best, str):
            return _tagged(db, ask, best, after, after=None, order=order)
        narrow = span if best.sorted_by_key else unindexed(span)
        return _select(db, ask, best.index, [best.condition, narrow, after], order)
    parts = [unindexed(span)]
    if ask.op.after is None:
        return _beyond(db, ask, parts, None, ask.op.limit)
    # First the rest of those with the same value, then those beyond it: two seeks, no skipping.
    key = encode_key((ask.op.after.namespace, ask.op.after.id))
    found = _tied(db, ask, parts, ask.op.after.value, key)
    if len(found) < ask.op.limit:
        found += _beyond(db, ask, parts, ask.op.after.value, ask.op.limit - len(found))
    return found


def _tied(db: apsw.Connection, ask: _Ask, parts: list[Sql | None], value: Any, key: bytes) -> Found:
    """The records of one value after a key, in key order."""
    column = _COLUMNS[ask.op.order.field]
    same = Sql(f"items.{column} = ? AND items.key > ?", (value, key))
    order = "items.key"
    if column == "created":
        return _select(db, ask, "items_created", [same, *parts], order)
    if column == "importance":
        if value == 0.5:
            default = Sql("items.importance = 0.5 AND items.key > ?", (key,))
            return _select(db, ask, "items_key", [default, *parts], order)
        return _select(db, ask, "items_importance", [Sql("items.importance <> 0.5"), same, *parts], order)
    apart = _select(db, ask, f"items_{column}", [Sql(f"items.{column} <> items.created"), same, *parts], order)
    fresh = Sql(f"items.{column} = items.created AND items.created = ? AND items.key > ?", (value, key))
    together = _select(db, ask, "items_created", [fresh, *parts], order)
    return sorted(apart + together, key=lambda row: row[1])[: ask.op.limit]


def _beyond(db: apsw.Connection, ask: _Ask, parts: list[Sql | None], value: Any, limit: int) -> Found:
    """The records beyond a value (all, when it is None), in order."""
    column, descending = _COLUMNS[ask.op.order.field], ask.op.order.descending
    beyond, direction = ("<", " DESC") if descending else (">", "")
    order = f"items.{column}{direction}, items.key"

    def past(name: str) -> Sql | None:
        return None if value is None else Sql(f"items.{name} {beyond} ?", (value,))

    if column == "created":
        return _select(db, ask, "items_created", [past(column), *parts], order, limit)
    if column == "importance":
        return _by_importance(db, ask, parts, value, limit)
    # A record that is as it was created is not in the index of this column, but in that of `created`.
    apart = _select(
        db, ask, f"items_{column}", [Sql(f"items.{column} <> items.created"), past(column), *parts], order, limit
    )
    fresh = Sql(f"items.{column} = items.created")
    together = _select(
        db, ask, "items_created", [fresh, past("created"), *parts], f"items.created{direction}, items.key", limit
    )
    place, sign = _PLACE[ask.op.order.field], -1 if descending else 1
    return sorted(apart + together, key=lambda row: (sign * row[place], row[1]))[:limit]


def _by_importance(db: apsw.Connection, ask: _Ask, parts: list[Sql | None], value: Any, limit: int) -> Found:
    """Three stretches: above the default, the default (which its index leaves out) by key, below it."""
    descending = ask.op.order.descending
    beyond = "<" if descending else ">"
    past = None if value is None else Sql(f"items.importance {beyond} ?", (value,))
    order = f"items.importance{' DESC' if descending else ''}, items.key"
    stretches = [">", "=", "<"] if descending else ["<", "=", ">"]
    found: Found = []
    for stretch in stretches:
        if len(found) >= limit:
            break
        if value is not None and _is_behind(stretch, value, descending=descending):
            continue
        if stretch == "=":
            default = Sql("items.importance = 0.5")
            found += _select(db, ask, "items_key", [default, *parts], "items.key", limit - len(found))
        else:
            side = Sql(f"items.importance <> 0.5 AND items.importance {stretch} 0.5")
            found += _select(db, ask, "items_importance", [side, past, *parts], order, limit - len(found))
    return found


def _is_behind(stretch: str, value: float, *, descending: bool) -> bool:
    """Whether a walk that is past ``value`` has nothing left to find in a stretch."""
    if stretch == "=":
        return value <= 0.5 if descending else value >= 0.5
    if (stretch == ">") == descending:  # the first stretch
        return value <= 0.5 if descending else value >= 0.5
    return False


# --- counts, namespaces, neighbours ------------------------------------------------------------


def count(db: apsw.Connection, op: Count, fields: Fields) -> int | None:
    """How many live records; None when SQL cannot say the whole filter."""
    said = conditions(op, fields)
    if said.impossible:
        return 0
    if not said.exact:
        return None
    span = key_condition(key_range(op.scope))
    if op.where is None and not owner_conditions(op.scope):
        # No record has to be read: all, less those that have expired and are not swept yet.
        where = "" if span is None else f" WHERE {span.text}"
        params = () if span is None else span.params
        whole = scalar(db, f"SELECT count(*) FROM items INDEXED BY items_key{where}", params)  # noqa: S608 - templates
        condition = all_of([Sql("items.expires <= ?", (op.now,)), span])
        expired = scalar(
            db,
            f"SELECT count(*) FROM items INDEXED BY items_expires WHERE {condition.text}",  # noqa: S608 - templates
            condition.params,
        )
        return int(whole - expired)
    condition = all_of([span, *said.parts])
    ordered = [choice for choice in drivers(op.scope, said.filtered, fields) if choice.sorted_by_key]
    index = ordered[0].index if ordered else "items_key"
    total = scalar(db, f"SELECT count(*) FROM items INDEXED BY {index} WHERE {condition.text}", condition.params)  # noqa: S608 - templates
    return int(total)


def namespaces(db: apsw.Connection, op: Count, fields: Fields) -> list[tuple[str, ...]] | None:
    """Namespaces with live records, in order, by one seek each; None when SQL cannot say the whole filter."""
    said = conditions(op, fields)
    if said.impossible:
        return []
    if not said.exact:
        return None
    residual = all_of(said.parts)
    low, high = key_range(op.scope) or (b"", b"\xff")
    found = fetch(
        db,
        "WITH RECURSIVE n(p) AS ("  # noqa: S608 - templates
        " SELECT (SELECT path FROM items INDEXED BY items_key WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1)"
        " UNION SELECT (SELECT path FROM items INDEXED BY items_key"
        "  WHERE key >= CAST(n.p || x'0001' AS BLOB) AND key < ?2 ORDER BY key LIMIT 1) FROM n WHERE n.p IS NOT NULL) "
        "SELECT p FROM n WHERE p IS NOT NULL AND EXISTS (SELECT 1 FROM items INDEXED BY items_key"
        " WHERE key >= CAST(p || x'0000' AS BLOB) AND key < CAST(p || x'0001' AS BLOB) "
        f"AND {residual.text})",
        (low, high, *residual.params),
    )
    try:
        return [tuple(path.decode().split("\0")) for (path,) in found]
    except (UnicodeDecodeError, AttributeError):
        raise CorruptData("a namespace is damaged. Run 'memory verify', then 'memory repair'") from None


def around(db: apsw.Connection, op: Around) -> list[tuple[list[Row], list[Row]]]:
    """For each anchor the rows before and after it in its namespace and session, nearest first."""
    sides: list[tuple[list[Row], list[Row]]] = [([], []) for _ in op.anchors]
    asked: list[Any] = []
    for number, ((namespace, id), session, created) in enumerate(op.anchors):
        if op.scope.covers_namespace(namespace):
            asked += (number, session, path_bytes(namespace), created, encode_key((namespace, id)))
    for start in range(0, len(asked), 5 * ANCHORS):
        _sides(db, op, asked[start : start + 5 * ANCHORS], sides)
    return sides


def _sides(db: apsw.Connection, op: Around, asked: list[Any], sides: list[tuple[list[Row], list[Row]]]) -> None:
    """Both sides of some anchors, each by one statement: fifty small ones would cost twice as much."""
    residual = all_of([Sql(LIVE, (op.now,)), *owner_conditions(op.scope)])
    values = ", ".join(["(?, ?, ?, ?, ?)"] * (len(asked) // 5))
    for side, beyond, direction in ((0, "<", " DESC"), (1, ">", "")):
        found = fetch(
            db,
            f"WITH anchors(number, session, path, created, key) AS (VALUES {values}) "  # noqa: S608 - templates
            f"SELECT {FULL_SQL if op.vectors else BARE_SQL}, anchors.number FROM anchors CROSS JOIN items "
            "ON items.rowid IN (SELECT items.rowid FROM items INDEXED BY items_session "
            "WHERE items.session IS anchors.session AND items.path = anchors.path "
            f"AND (items.created, items.key) {beyond} (anchors.created, anchors.key) AND {residual.text} "
            f"ORDER BY items.created{direction}, items.key{direction} LIMIT ?)",
            (*asked, *residual.params, op.n),
        )
        found.sort(key=lambda row: (row[3], row[1]), reverse=bool(direction))
        for row in found:
            sides[row[18]][side].append(to_row_within(row, op.scope))
