"""Opening a database: make our schema if it is new, and see that it suits this store."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from memory.backends.postgres import applying, putting
from memory.backends.postgres.layout import INDEXES, LAYOUT, TABLES, VECTOR_COLUMN, VECTOR_STORAGE
from memory.errors import BackendUnavailable, InvalidSetting
from memory.ops import Space

if TYPE_CHECKING:
    from memory.backends.postgres.names import Names

MAKING = 7_046_029_254_386_353
"""The advisory lock under which schemas are made, so that two processes may open a new one at once."""


class Opened(msgspec.Struct):
    """What a store learns when it opens."""

    vector: str | None
    """The schema of pgvector's type, where the vectors of this store are kept as it; None: as bytes."""
    newest: int
    """The highest version issued so far."""
    space: Space | None
    durable: bool
    """A commit is on disk before it is acknowledged."""
    replicated: bool
    """And on a replica's disk."""


def lock_of(names: Names, purpose: str) -> int:
    """The number of an advisory lock for this store alone, as far as 64 bits tell stores apart."""
    text = f"{names.schema}.{names.prefix}.{purpose}".encode()
    return (zlib.crc32(text) << 31) | (zlib.crc32(text[::-1]) >> 1)


async def prepare(connection: Any, names: Names, *, analyser: str, feed: bool, shown: str) -> Opened:
    """Make or check the schema, on a connection of asyncpg's. Raises BackendUnavailable, InvalidSetting."""
    if not await _exists(connection, names):
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({MAKING})")
            if not await _exists(connection, names):
                await _make(connection, names, analyser)
    state = await connection.fetchrow(names.fill(_STATE), f"{names.schema}.{names.prefix}vectors")
    _judge(state["layout"], shown)
    if state["layout"] < LAYOUT and not state["read_only"]:
        await _upgrade(connection, names, state["vector"])
    if state["analyser"] != analyser:
        raise InvalidSetting(
            f"the store in {shown} was indexed by the analyser {state['analyser']!r}, this one uses {analyser!r}. Open it "
            "with the same language, or export it and import it into another schema",
            setting="language",
            expected=state["analyser"],
            actual=analyser,
        )
    if feed and not state["feed"]:
        await connection.execute(names.fill(_FEED_ON))
    if state["last_event"] is not None and not state["read_only"]:
        # A cluster restored from a dump counts its transactions anew; events must go on rising.
        await connection.execute(names.fill(_RAISE_BASE))
    dimension = state["dimension"]
    commit = state["synchronous_commit"]
    return Opened(
        vector=state["vector"],
        newest=state["newest"],
        space=None if dimension is None else Space(state["embedder"], dimension),
        durable=state["fsync"] == "on" and commit != "off",
        replicated=commit in ("on", "remote_apply", "remote_write") and bool(state["standbys"]),
    )


def _judge(layout: int, shown: str) -> None:
    if layout > LAYOUT:
        raise BackendUnavailable(
            f"the store in {shown} has layout {layout}, this version knows up to {LAYOUT}; upgrade agent-memory-backends",
            found=layout,
            known=LAYOUT,
        )


async def _exists(connection: Any, names: Names) -> bool:
    # By the catalogue's rows: to_regclass answers from a cache that a wait for a lock does not refresh.
    found = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = $2)",
        names.schema,
        f"{names.prefix}state",
    )
    return bool(found)


async def _make(connection: Any, names: Names, analyser: str) -> None:
    """The whole schema in one script: one round trip."""
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", names.schema):
        await connection.execute(names.fill("CREATE SCHEMA $schema"))
    vector = await _vector_schema(connection)
    typed = None if vector is None else f'"{vector}".vector'
    column = VECTOR_COLUMN.replace("$vector", typed) if typed else ""
    script = TABLES.replace("$vector_column", column) + INDEXES + (VECTOR_STORAGE if typed else "")
    await connection.execute(names.fill(script) + _functions(names, vector))
    await connection.execute(names.fill("INSERT INTO $state (layout, analyser) VALUES ($1, $2)"), LAYOUT, analyser)
    await connection.execute(names.fill(_COUNTED))


async def _upgrade(connection: Any, names: Names, vector: str | None) -> None:
    """Bring an older schema up: by the functions of this layout. Programs of an older one go on calling theirs."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({MAKING})")
        await connection.execute(_functions(names, vector))
        await connection.execute(names.fill("UPDATE $state SET layout = $1 WHERE layout < $1"), LAYOUT)
        await connection.execute(names.fill(_COUNTED))


def _functions(names: Names, vector: str | None) -> str:
    """The statements that make the functions of writes. ``vector``: the schema of pgvector's type."""
    typed = None if vector is None else f'"{vector}".vector'
    return names.fill(
        applying.function(typed) + putting.function(typed),
        lock_of_space=str(lock_of(names, "space")),
        lock_of_feed=str(lock_of(names, "feed") >> 32),
    )


async def _vector_schema(connection: Any) -> str | None:
    """The schema in which pgvector is, installed now if that is possible; None where there is none."""
    found = await connection.fetchval(_EXTENSION)
    if found is None and await connection.fetchval(_CAN_INSTALL):
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        found = await connection.fetchval(_EXTENSION)
    return None if found is None else str(found)


_EXTENSION = (
    "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
    "WHERE extname = 'vector' AND string_to_array(extversion, '.')::int[] >= '{0,8}'"
)
_CAN_INSTALL = (
    "SELECT EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'vector' "
    "AND string_to_array(version, '.')::int[] >= '{0,8}' AND (trusted OR NOT superuser OR "
    "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)) "
    "AND has_database_privilege(current_database(), 'CREATE') AND has_schema_privilege('public', 'CREATE'))"
)
_STATE = """
SELECT s.layout, s.analyser, s.feed, s.embedder, s.dimension,
       (SELECT last_value FROM $versions) AS newest,
       (SELECT max(seq) FROM $feed) AS last_event,
       (SELECT n.nspname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
          JOIN pg_namespace n ON n.oid = t.typnamespace
         WHERE a.attrelid = to_regclass($1) AND a.attname = 'v' AND NOT a.attisdropped) AS vector,
       current_setting('transaction_read_only') = 'on' AS read_only,
       current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('synchronous_standby_names') AS standbys
  FROM $state s
"""
_COUNTED = "ANALYZE $state"
"""It has one row, and changes too seldom for the server to count it by itself: it would take 50 for granted, and join them to
each record that is read (a tenth of what a read costs)."""
_FEED_ON = """
UPDATE $state SET feed = true, feed_floor = (pg_snapshot_xmin(pg_current_snapshot())::text::int8 + feed_base) << 20
 WHERE NOT feed
"""
_RAISE_BASE = """
UPDATE $state SET feed_base = (SELECT max(seq) >> 20 FROM $feed) + 1
 WHERE (SELECT max(seq) >> 20 FROM $feed) > pg_snapshot_xmax(pg_current_snapshot())::text::int8 + feed_base
"""
