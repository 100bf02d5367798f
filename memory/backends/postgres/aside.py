"""Vectors given to records after they are written: in the store's own space, or aside until it switches to another.

A space has a number. The vectors of a record are rows of ``vectors``, one for each number; those of the number in
``state`` are the records' own, so a switch changes that number and drops the rest. A vector aside is good for the version
it was made for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memory.backends.postgres.records import JOINED, ROW, VECTOR, to_row
from memory.backends.postgres.schema import lock_of
from memory.backends.postgres.writing import MAX_VECTOR
from memory.keys import encode_key
from memory.model import Key
from memory.ops import Attach, Row, Space

if TYPE_CHECKING:
    from memory.backends.postgres.calling import Caller

_STATE = "SELECT space, embedder, dimension, aside, aside_embedder, aside_dimension FROM $state"
_ATTACH = """
WITH given AS (
  SELECT * FROM unnest($1::bytea[], $2::int8[], $3::bytea[]@arrays) AS g(key, version, raw@columns)
), held AS (
  SELECT r.key FROM $records r JOIN given g ON g.key = r.key AND g.version = r.version
   WHERE r.body IS NOT NULL ORDER BY r.key FOR UPDATE OF r
), put AS (
  INSERT INTO $vectors (key, space, version, raw@columns)
  SELECT g.key, $4::int4, g.version, g.raw@values FROM given g JOIN held USING (key)
  ON CONFLICT (key, space) DO UPDATE SET version = excluded.version, raw = excluded.raw@sets
  RETURNING 1
)
SELECT count(*) FROM put
"""
_OWED = "UPDATE $records SET owed = NULL WHERE key = ANY($1::bytea[]) AND owed IS NOT NULL"
_LACKING = f"""
SELECT {ROW}{VECTOR} FROM $state s CROSS JOIN $records r{JOINED}
 WHERE r.body IS NOT NULL AND r.key > $1
   AND NOT EXISTS (SELECT FROM $vectors y WHERE y.key = r.key AND y.space = $2::int4
                      AND (y.space = s.space OR y.version = r.version))
 ORDER BY r.key LIMIT $3
"""  # noqa: S608 - our own names
_SETTLED = """
SELECT (SELECT count(*) FROM $records WHERE body IS NOT NULL)
     - (SELECT count(*) FROM $vectors x JOIN $records r ON r.key = x.key AND r.version = x.version
         WHERE r.body IS NOT NULL AND x.space = $1)
"""


def _attaching(typed: bool) -> str:
    parts = {"@arrays": ", $5::$vector[]", "@columns": ", v", "@values": ", g.v", "@sets": ", v = excluded.v"}
    statement = _ATTACH
    for mark, part in parts.items():
        statement = statement.replace(mark, part if typed else "")
    return statement


async def attach(caller: Caller, space: Space, ops: Sequence[Attach], *, typed: bool) -> tuple[int, bool]:
    """Give records vectors of a space: how many still had their version, and whether the space is the store's own."""
    ordered = sorted(ops, key=lambda op: encode_key(op.key))
    keys = [encode_key(op.key) for op in ordered]
    values: list[Any] = [keys, [op.version for op in ordered], [op.embedding for op in ordered]]
    units: list[list[bytes | None]] = []
    if typed:
        from memory.search.vectors import unit

        fits = space.dimension <= MAX_VECTOR
        units = [[unit(op.embedding).tobytes() if fits else None for op in ordered]]
    async with caller.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", lock_of(caller.names, "space"))
        # Others may make the first space or begin another one aside: one at a time.
        state = await connection.fetchrow(caller.fill(_STATE + " FOR UPDATE"))
        own = state["dimension"] is None or space == Space(state["embedder"], state["dimension"])
        number = state["space"]
        if state["dimension"] is None:
            await connection.execute(
                caller.fill("UPDATE $state SET embedder = $1, dimension = $2"), space.embedder, space.dimension
            )
        elif not own:
            number = await _beside(connection, caller, state, space)
        count = await connection.fetchval(caller.fill(_attaching(typed)), *values, number, *units)
        if own:
            await connection.execute(caller.fill(_OWED), keys)
    return int(count), own


async def _beside(connection: Any, caller: Caller, state: Any, space: Space) -> int:
    """The number of the space kept aside, in place of any other."""
    if state["aside"] is not None:
        if space == Space(state["aside_embedder"], state["aside_dimension"]):
            return int(state["aside"])
        await connection.execute(caller.fill("DELETE FROM $vectors WHERE space <> $1"), state["space"])
    number: int = max(state["space"], state["aside"] or 0) + 1
    await connection.execute(
        caller.fill("UPDATE $state SET aside = $1, aside_embedder = $2, aside_dimension = $3"),
        number, space.embedder, space.dimension,
    )  # fmt: skip
    return number


async def unattached(caller: Caller, space: Space, after: Key | None, limit: int) -> list[Row]:
    """Rows in key order, expired ones too, that have no vector in this space, own or aside. Raises CorruptData."""
    (state,) = await caller.fetch(_STATE, ())
    number = 0  # of no space: every row lacks one
    if state["dimension"] is None or space == Space(state["embedder"], state["dimension"]):
        number = state["space"]
    elif state["aside"] is not None and space == Space(state["aside_embedder"], state["aside_dimension"]):
        number = state["aside"]
    start = b"" if after is None else encode_key(after)
    return [to_row(found, vector=True) for found in await caller.fetch_apart(_LACKING, (start, number, limit))]


async def switch(caller: Caller, space: Space, without: int) -> bool:
    """Let the vectors aside be those of the records, if all records but this many have one: one transaction."""
    async with caller.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_of(caller.names, "space"))
        state = await connection.fetchrow(caller.fill(_STATE + " FOR UPDATE"))
        number = None
        if state["aside"] is not None and space == Space(state["aside_embedder"], state["aside_dimension"]):
            number = state["aside"]
        lacking = await connection.fetchval(caller.fill(_SETTLED), number)
        if lacking != without:
            return False
        await connection.execute(
            caller.fill(
                "UPDATE $state SET space = coalesce(aside, space + 1), embedder = $1, dimension = $2, aside = NULL, "
                "aside_embedder = NULL, aside_dimension = NULL"
            ),
            space.embedder,
            space.dimension,
        )
        await connection.execute(caller.fill("DELETE FROM $vectors WHERE space <> (SELECT space FROM $state)"))
        await connection.execute(
            caller.fill("DELETE FROM $vectors x USING $records r WHERE r.key = x.key AND r.body IS NULL")
        )
        await connection.execute(caller.fill("UPDATE $records SET owed = NULL WHERE owed IS NOT NULL"))
    return True
