"""The function that applies one put alone, where nothing has to be known of what is there: most puts by far.

`applying`'s takes any batch, told in JSON in a loop; taking one put's columns as they are spares the server a third of its
work beyond storing them. What it leaves undecided is `applying`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.postgres import applying
from memory.ops import ANY, Put

if TYPE_CHECKING:
    from memory.backends.postgres.writing import Prepared

_TOLD = (
    *("now int8", "expect int8", "in_user text", "in_agent text", "in_session text", "expires int8", "created int8"),
    *("kind text", "user_id text", "agent_id text", "session_id text", "importance float8", "embedder text"),
    *("crc int8", "length int4", "terms text", "counts text", "doc text", "vectors bool", "dimension int4"),
    "path_size int4",
)
"""Of applying.FIELDS what such a put brings."""
_NAMES = [field.split()[0] for field in _TOLD]
_GIVEN = (*_TOLD, "key bytea", "token bytea", "digest bytea", "body bytea", "raw bytea")


def function(vector: str | None) -> str:
    """The template of the function. ``vector``: pgvector's type, None where there is none."""
    given = ", ".join(f"op_{one}" for one in (*_GIVEN, *((f"v {vector}",) if vector else ())))
    results = ", ".join(f"OUT {one}" for one in applying.RESULTS)
    template = _FUNCTION.replace("@given", given).replace("@results", results)
    return applying.with_parts(template, vector="op_v" if vector else None).replace("op.", "op_")


def _call(given: int) -> str:
    return f"SELECT * FROM $put({', '.join(f'${number}' for number in range(1, given + 1))})"  # noqa: S608 - our own names


CALL = _call(len(_GIVEN) + 1)
"""The template of the statement that calls it."""
TYPED_CALL = _call(len(_GIVEN) + 2)
"""The same where the store has pgvector's type."""


def suits(one: Prepared) -> bool:
    """Whether it may decide a write."""
    op = one.op
    return type(op) is Put and op.expect == ANY and op.floor is None and op.keep is None and not op.dedup


def arguments(one: Prepared, *, patience: str | None, typed: bool) -> list[Any]:
    """The arguments of the call."""
    op, told = one.op, one.told
    assert type(op) is Put
    given = [patience, *[told.get(name) for name in _NAMES], one.key, op.token, op.digest, op.body, op.embedding]
    if typed:
        given.append(one.direction)
    return given


_FUNCTION = """
CREATE OR REPLACE FUNCTION $put(a_patience text, @given, @results)
LANGUAGE plpgsql AS $$
DECLARE
  feeds boolean;
  own_space int4;
  own_dimension int4;
  own_embedder text;
  aside_space int4;
BEGIN
  IF a_patience IS NOT NULL THEN
    PERFORM set_config('lock_timeout', a_patience, true);
  END IF;
  -- Held off while the vectors of another space take the place of these.
  PERFORM pg_advisory_xact_lock_shared($lock_of_space);
  SELECT s.feed, s.space, s.dimension, s.embedder, s.aside
    INTO feeds, own_space, own_dimension, own_embedder, aside_space FROM $state s;
  o_n := 0;
  IF NOT feeds AND @fits THEN
@most    IF FOUND THEN
      o_said := 0;
@kept    END IF;
  END IF;
END
$$;
"""
