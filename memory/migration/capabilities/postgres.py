"""Entries in a table of Postgres: ``content`` as JSONB or ``value`` as TEXT, with whatever columns it has besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import msgspec

from memory.backends.postgres.address import Address
from memory.backends.postgres.connecting import Connecting
from memory.backends.postgres.faults import CONNECTION_ERRORS, translate
from memory.backends.postgres.names import checked
from memory.errors import InvalidSetting
from memory.migration.capabilities.source import MAX_BYTES, Record

_COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2"


class PostgresReader:
    """The entries of a table. ``url`` is that of the backend ``postgres``; ``schema`` and ``table`` are plain names.

    Raises InvalidSetting, also when the table is not there or has no column of a key or of a value.
    """

    embedder = None

    def __init__(self, url: str, schema: str = "public", table: str = "memory", *, timeout: float = 30.0) -> None:
        self._place = Address(url, None)
        self._connecting = Connecting(self._place, timeout=timeout, pgbouncer=False)
        self._name = f'"{checked(schema, "schema")}"."{checked(table, "table")}"'
        self._schema, self._table = schema, table
        self._timeout = timeout
        self.address = self._place.url.update_query_dict({"schema": schema, "table": table}).render_as_string()
        self._connection: Any = None
        self._value = "value"

    async def __aenter__(self) -> Self:
        try:
            self._connection = await self._connecting.connect()
        except CONNECTION_ERRORS as error:
            raise translate(error, self._place.shown) from error
        try:
            columns = {row[0] for row in await self._all(_COLUMNS, self._schema, self._table)}
            if "key" not in columns or not columns & {"value", "content"}:
                raise InvalidSetting(
                    f"{self._place.shown} has no table {self._name} with the columns key and content, or key and value; "
                    "name it in the address: ?schema=public&table=memory",
                    setting="source",
                )
            self._value = "content" if "content" in columns else "value"
        except BaseException:
            self._connection.terminate()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._connection.close(timeout=self._timeout)
        except CONNECTION_ERRORS:
            self._connection.terminate()

    async def keys(self) -> tuple[list[str], list[tuple[str, str]]]:
        """All keys."""
        rows = await self._all(f"SELECT key::text FROM {self._name} WHERE key IS NOT NULL")  # noqa: S608 - checked names
        return [row[0] for row in rows], []

    async def fetch(self, keys: Sequence[str]) -> list[Record | None]:
        """What the rows of these keys hold."""
        # The server writes a row as JSON: whatever the types of its columns are, nothing of it is lost.
        rows = f"SELECT key::text AS key, row_to_json(t)::text AS told FROM {self._name} AS t WHERE key::text = ANY($1)"  # noqa: S608
        asked = f"SELECT key, CASE WHEN octet_length(told) <= {MAX_BYTES} THEN told END FROM ({rows}) AS rows"  # noqa: S608
        told = {row[0]: row[1] for row in await self._all(asked, list(keys))}
        return [None if key not in told else self._record(told[key]) for key in keys]

    def _record(self, raw: str | None) -> Record:
        if raw is None:
            return Record(wrong=f"its row is larger than {MAX_BYTES:,} bytes")
        try:
            fields: dict[str, Any] = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            return Record(wrong=f"its row cannot be read as JSON: {error}")
        value = fields.pop(self._value)
        fields["value"] = _parsed(value) if isinstance(value, str) and self._value == "value" else value
        return Record(fields)

    async def _all(self, query: str, *arguments: Any) -> list[Any]:
        try:
            rows: list[Any] = await self._connection.fetch(query, *arguments, timeout=self._timeout)
        except CONNECTION_ERRORS as error:
            raise translate(error, self._place.shown) from error
        return rows


def _parsed(text: str) -> Any:
    """A value kept as text: the object or list that it says in JSON, else the text itself."""
    try:
        value: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text
    return value if isinstance(value, dict | list) else text
