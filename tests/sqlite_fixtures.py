"""Files of earlier layouts as text: fixtures/sqlite-v*.sql, and how each becomes a file again.

A dump says everything of a file that its layout is made of: page size, encoding, user_version, application_id, WAL or
not, the entries of sqlite_schema in their order, the tables of the word index as they were stored (not the words made
once more by the SQLite of today), and every row with its rowid. Only which page holds what is left to SQLite.

    python tests/sqlite_fixtures.py FILE > tests/fixtures/sqlite-vN.sql
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import apsw

FIXTURES = Path(__file__).parent / "fixtures"
FIRST, SECOND, THIRD = (FIXTURES / f"sqlite-v{number}.sql" for number in (1, 2, 3))


def rebuild(fixture: Path, path: Path) -> None:
    """Makes the file that a fixture is a dump of. The file must not be there yet."""
    assert not path.exists()
    connection = apsw.Connection(str(path))
    try:
        connection.execute("PRAGMA synchronous = off")  # it is a test's file: nothing is lost with it
        connection.execute(fixture.read_text(encoding="utf-8"))
    finally:
        connection.close()


def dump(path: Path) -> Iterator[str]:
    """A file, which is only read, as lines of SQL."""
    # Without locks: a file that somebody else writes is no fixture, and one in WAL mode would get a -wal file.
    connection = apsw.Connection(
        f"{path.resolve().as_uri()}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )
    try:
        yield f"-- Layout {connection.pragma('user_version')} of the backend sqlite, as tests/sqlite_fixtures.py dumps it."
        for name in ("page_size", "encoding", "auto_vacuum"):
            yield f"PRAGMA {name} = {quoted(connection.pragma(name))};"
        yield "BEGIN;"
        yield from _schema(connection)
        for name in _tables(connection):
            yield from _rows(connection, name)
        for name in ("application_id", "user_version"):
            yield f"PRAGMA {name} = {connection.pragma(name)};"
        yield "COMMIT;"
    finally:
        connection.close()
    if path.read_bytes()[18:20] == b"\2\2":  # an immutable file does not say so itself
        yield "PRAGMA journal_mode = wal;"


def quoted(value: None | float | str | bytes) -> str:
    """A value as SQL has it, exactly: blobs as hex, NULs in texts as blobs put between."""
    return apsw.format_sql_value(value)


def name_of(name: str) -> str:
    """The name of a table or a column, quoted."""
    return '"' + name.replace('"', '""') + '"'


def _schema(connection: apsw.Connection) -> Iterator[str]:
    # A virtual table is entered, not made: making it would also make its own tables, which are here as they were.
    for kind, name, table, sql in connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid"
    ):
        if sql.startswith("CREATE VIRTUAL TABLE"):
            values = ", ".join(map(quoted, (kind, name, table, 0, sql)))
            yield "PRAGMA writable_schema = on;"
            yield f"INSERT INTO sqlite_schema VALUES({values});"
            yield "PRAGMA writable_schema = off;"
        else:
            yield f"{sql};"


def _tables(connection: apsw.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY rowid")
    return [name for (name,) in found]


def _rows(connection: apsw.Connection, table: str) -> Iterator[str]:
    columns = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (table,)).fetchall()
    ((without_rowid,),) = connection.execute("SELECT wr FROM pragma_table_list(?)", (table,))
    keys = [(place, name_of(name), kind) for name, kind, place in columns if place]
    named = [name_of(name) for name, _, _ in columns]
    if not without_rowid and [kind for _, _, kind in keys] != ["INTEGER"]:  # which would be the rowid
        named.insert(0, "rowid")
    order = ", ".join(name for _, name, _ in sorted(keys)) if without_rowid else "rowid"
    rows = connection.execute(f"SELECT {', '.join(named)} FROM {name_of(table)} ORDER BY {order}").fetchall()
    if rows:
        yield f"INSERT INTO {name_of(table)}({', '.join(named)}) VALUES"
        yield ",\n".join(f"({', '.join(map(quoted, row))})" for row in rows) + ";"


if __name__ == "__main__":
    print("\n".join(dump(Path(sys.argv[1]))))
