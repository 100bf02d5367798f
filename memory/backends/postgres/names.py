"""The names of the store's tables and functions: a schema and a prefix that a user chose, checked and quoted once."""

from __future__ import annotations

import re

from memory.errors import InvalidSetting

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_NAME = re.compile(r"\$([a-z_]+)\b")
LONGEST = 63
"""Postgres cuts longer identifiers off, so two of ours could become one."""
_OURS = ("records", "vectors", "feed", "state", "quarantine", "versions", "write", "put", "vectors_hnsw_99999")


def checked(name: str, setting: str) -> str:
    """A name that may stand in a statement. Raises InvalidSetting."""
    if type(name) is not str or not _IDENTIFIER.fullmatch(name):
        raise InvalidSetting(
            f"{setting} must be a name of small letters, digits and underscores, at most {LONGEST}, not {name!r}",
            setting=setting,
        )
    return name


class Names:
    """Fills the templates of statements: ``$records`` becomes ``"schema"."prefix_records"``."""

    def __init__(self, schema: str, prefix: str) -> None:
        self.schema = checked(schema, "schema")
        self.prefix = checked(prefix, "prefix") if prefix else ""
        if len(prefix) + max(map(len, _OURS)) > LONGEST:
            raise InvalidSetting(f"prefix {prefix!r} is too long: with it, a table's name is cut off", setting="prefix")
        self._known = {name: f'"{schema}"."{prefix}{name}"' for name in _OURS}
        self._known |= {"schema": f'"{schema}"', "prefix": self.prefix}

    def with_vectors(self, schema: str) -> None:
        """From now on ``$vector`` is pgvector's type and ``$near`` its negative inner product, in this schema."""
        quoted = schema.replace('"', '""')
        self._known |= {"vector": f'"{quoted}".vector', "near": f'OPERATOR("{quoted}".<#>)'}
        self._known["by_product"] = f'"{quoted}".vector_ip_ops'

    def fill(self, template: str, **more: str) -> str:
        """The statement. Only names of ours are filled in; ``$1`` and ``$$`` stay as they are."""
        known = {**self._known, **more}
        return _NAME.sub(lambda found: known.get(found[1], found[0]), template)
