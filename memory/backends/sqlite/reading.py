"""Reading: point reads, and pages of a scan by whichever index makes them short.

A scan has an order and conditions. Two ways lead to a page. *Gather*: an index finds the few records that satisfy one
condition, they are sorted. *Walk*: go along the order's own index and test each record. A walk along ``(value, key)``
answers an equality in key order without testing at all. Which way is shorter is told by counting, at most `FEW`
entries, what each usable index would yield.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.compiling import NEVER, Fields, Sql, compile_filter
from memory.backends.sqlite.records import FULL_SQL, field_seal, to_row, to_rows_within
from memory.backends.sqlite.statements import first
from memory.filters import And, Compare, Filter
from memory.filters import fields as filter_paths
from memory.keys import encode_key
from memory.model import Key
from memory.ops import Count, Nearest, Page, Read, Row, Scan, Scope

FEW = 512
"""Up to so many records are gathered and sorted; beyond it the page is found by walking."""
Filtered = tuple[tuple[Filter, Sql | None], ...]
"""The parts of a filter that all have to hold, and how SQL says each; None where it cannot."""
LIVE = "(items.expires IS NULL OR items.expires > ?)"


class Driver(msgspec.Struct, frozen=True):
    """An index range that holds every record that satisfies one condition."""

    index: str
    condition: Sql
    sorted_by_key: bool = False
    """Within the condition its entries come in key order, so that a range of keys can narrow it."""


def read_rows(db: apsw.Connection, op: Read) -> list[Row | None]:
    """The live rows within the scope, in the order of the keys. Raises CorruptData."""
    return [_read_row(db, key, op) for key in op.keys]


_READ = f"SELECT {FULL_SQL} FROM items INDEXED BY items_key WHERE key = ?"  # noqa: S608 - our own column names


def _read_row(db: apsw.Connection, key: Key, op: Read) -> Row | None:
    scope = op.scope
    if not scope.covers_namespace(key[0]):
        return None
    raw = encode_key(key)
    found = first(db, _READ, (raw,))
    if found is None:
        return None
    if type(found[7]) is int and found[7] <= op.now:  # of another type: the seal below says that it is damaged
        return None
    if not scope.covers_owner(found[9], found[10], found[11]):
        return None
    row = to_row(found)
    if found[1] != raw:
        return to_row((None, *found[1:]))  # the index led to another record: damaged
    return row


def conjuncts(where: Filter | None) -> list[Filter]:
    """The parts that all have to hold."""
    if where is None:
        return []
    return list(where.parts) if isinstance(where, And) else [where]


def owner_conditions(scope: Scope) -> list[Sql]:
    """Whose a record must be to lie in the scope."""
    return [
        Sql(f"items.{column} = ?", (value,))
        for column, value in (("user", scope.user_id), ("agent", scope.agent_id), ("session", scope.session_id))
        if value is not None
    ]


def drivers(scope: Scope, filtered: Filtered, fields: Fields) -> list[Driver]:
    """The index ranges that a scan of this scope and filter could use."""
    found: list[Driver] = []
    if scope.session_id is not None:
        found.append(Driver("items_session", Sql("items.session = ?", (scope.session_id,))))
    if scope.user_id is not None:
        found.append(Driver("items_user", Sql("items.user = ?", (scope.user_id,)), True))
    if scope.agent_id is not None:
        found.append(Driver("items_agent", Sql("items.agent = ?", (scope.agent_id,)), True))
    for part, said in filtered:
        if not isinstance(part, Compare):
            continue
        root, value = part.path[0], part.value
        if len(part.path) == 1 and part.op == "eq" and isinstance(value, str):
            if root in ("kind", "user_id", "agent_id", "session_id"):
                column = root.removesuffix("_id")
                found.append(Driver(f"items_{column}", Sql(f"items.{column} = ?", (value,)), column != "session"))
        elif part.path in fields and part.op in ("eq", "in", "gt", "gte", "lt", "lte", "startswith"):
            column = f"items.f{fields[part.path]}"
            if said is not None and column in said.text and "items.body" not in said.text:
                found.append(Driver(f"items_f{fields[part.path]}", said, said.text == f"{column} = ?"))
        elif len(part.path) == 1 and part.op in ("eq", "gt", "gte", "lt", "lte"):
            found += _ranged(part, said)
    return found


def _ranged(part: Compare, said: Sql | None) -> list[Driver]:
    """Ranges of time and importance. The partial indexes hold only what differs from a fresh record."""
    root = part.path[0]
    if said is None or said is NEVER or part.value is None:
        return []
    if root == "created_at":
        return [Driver("items_created", said)]
    if root == "expires_at":
        return [Driver("items_expires", said)]
    if root == "importance" and isinstance(part.value, int | float):
        value = float(part.value)
        beside_default = {
            "eq": value != 0.5,
            "gt": value >= 0.5,
            "gte": value > 0.5,
            "lt": value <= 0.5,
            "lte": value < 0.5,
        }
        if beside_default[part.op]:
            return [Driver("items_importance", Sql(f"items.importance <> 0.5 AND {said.text}", said.params))]
    return []


def tag_drivers(where: Filter | None) -> list[str]:
    """Tags that every match must carry."""
    return [
        part.value
        for part in conjuncts(where)
        if isinstance(part, Compare)
        and part.path == ("tags",)
        and part.op == "contains"
        and isinstance(part.value, str)
        and "\0" not in part.value
    ]


class Said(msgspec.Struct, frozen=True):
    """Conditions that all have to hold, and whether they are the whole question."""

    parts: tuple[Sql, ...]
    exact: bool
    filtered: Filtered

    @property
    def impossible(self) -> bool:
        """Whether nothing can satisfy them."""
        return NEVER in self.parts

    @property
    def reads_bodies(self) -> bool:
        """Whether a record's body has to be taken apart to tell."""
        return any("items.body" in part.text for part in self.parts)


def conditions(op: Scan | Count | Nearest, fields: Fields) -> Said:
    """Owner scope, life and as much of the filter as SQL can say, part by part."""
    parts, exact = [Sql(LIVE, (op.now,)), *owner_conditions(op.scope)], True
    filtered: list[tuple[Filter, Sql | None]] = []
    for part in conjuncts(op.where):
        translated = compile_filter(part, fields)
        exact = exact and translated.exact
        filtered.append((part, translated.predicate))
        if translated.predicate is not None:
            parts.append(translated.predicate)
    return Said(tuple(parts), exact, tuple(filtered))


def all_of(parts: Iterable[Sql | None]) -> Sql:
    """The conjunction of conditions, each once (what an index range tells need not be asked of each record again);
    there is at least one."""
    each = [part for part in dict.fromkeys(parts) if part is not None]
    return Sql(
        " AND ".join([f"({part.text})" for part in each]), tuple([param for part in each for param in part.params])
    )


def key_condition(
    span: tuple[bytes, bytes] | None, after: bytes | None = None, *, descending: bool = False
) -> Sql | None:
    """A range of keys, beyond one of them: at most one bound on each side, so that an index seeks to both."""
    low, high = span or (None, None)
    parts: list[Sql] = []
    if after is not None and descending and (high is None or after < high):
        high = after
    elif after is not None and not descending and (low is None or after >= low):
        low = None
        parts.append(Sql("items.key > ?", (after,)))
    if low is not None:
        parts.append(Sql("items.key >= ?", (low,)))
    if high is not None:
        parts.append(Sql("items.key < ?", (high,)))
    return all_of(parts) if parts else None


def unindexed(condition: Sql | None) -> Sql | None:
    """The same, but not for the planner to build a path on."""
    return None if condition is None else Sql(condition.text.replace("items.key", "+items.key"), condition.params)


def filter_columns(where: Filter | None, fields: Fields) -> str:
    """What to select behind a record where the filter asks for a declared field: their seal, then they."""
    if not fields or where is None or filter_paths(where).isdisjoint(fields):
        return ""
    return ", items.fseal" + "".join(f", items.f{number}" for number in fields.values())


def held_to_seal(found: Iterable[tuple[Any, ...]], at: int = 18) -> bool:
    """Whether the declared fields selected behind records, from this place on, are those that were written."""
    for row in found:  # a generator would cost as much as a seal
        if len(row) > at and field_seal(row[1], row[at + 1 :]) != row[at]:
            return False
    return True


def to_page(found: Sequence[tuple[Any, ...]], op: Scan, fields: Fields, *, exact: bool) -> Page:
    """The rows of a page. Exact only where what the condition was asked of is sealed with the record: SQLite reads a
    column from the index where it can, so a damaged entry does not agree with its record's seal. Tags are apart, and
    so are declared fields: to ask a decoded item costs less than to read their columns and seal."""
    rows = to_rows_within(found, op.scope)
    if exact and op.where is not None:
        paths = filter_paths(op.where)
        exact = ("tags",) not in paths and paths.isdisjoint(fields)
    return Page(rows, exact=exact, more=len(rows) >= op.limit)
