"""The function that applies writes: a batch is one call, so one round trip and one transaction.

It decides what `MemoryStore._write` says, a write at a time, each under the lock of its record's row. A version is
drawn while that lock is held, so versions of a key rise in the order of its commits. Callers give writes in the order of
keys, so that two batches never wait for each other (but for writes that dedup, which keep their order).
"""

from __future__ import annotations

PUT, REMOVE, TOUCH, SWEEP = range(4)
DONE, DUPLICATE, EXISTS, MISSING, CONFLICT, UNKNOWN, MISMATCH, REPEATED = range(8)
"""What the function says of a write."""
NOT_APPLIED = "MS001"
"""The error code of an atomic batch of which a write could not be applied."""

INTS = (
    *("n", "what", "now", "expect", "floor", "expires", "sets_expiry", "accesses", "created", "kept_updated"),
    *("kept_accessed", "kept_count", "crc", "dedup", "length", "vectors", "dimension"),
)
TEXTS = (
    *("in_user", "in_agent", "in_session", "kind", "user_id", "agent_id", "session_id", "embedder", "terms", "counts"),
    "doc",
)
BYTES = ("key", "token", "path", "digest", "body", "raw")
"""What a write brings: those of a type lie in one array, write after write. A function of an array for each of these took
150 µs longer. Beside them are importances and, where there is pgvector, vectors."""
_TRUTHS = ("sets_expiry", "dedup", "vectors")

RESULTS = (
    "o_n int4, o_said int2, o_version int8, o_created int8, o_updated int8, o_accessed int8, o_count int8, "
    "o_expires int8, o_owed text, o_body bytea, o_key bytea"
)


def function(vector: str | None) -> str:
    """The template of the function. ``vector``: pgvector's type, None where there is none."""
    fields = [(name, "boolean" if name in _TRUTHS else "int8", _element(name, INTS, "ints")) for name in INTS]
    fields += [(name, "text", _element(name, TEXTS, "texts")) for name in TEXTS]
    fields += [(name, "bytea", _element(name, BYTES, "bytes")) for name in BYTES]
    fields.append(("importance", "float8", "a_importance[i]"))
    if vector:
        fields.append(("v", vector, "a_v[i]"))
    return (
        _FUNCTION.replace("@v_argument", f", a_v {vector}[]" if vector else "")
        .replace("@variables", "\n".join(f"  p_{name} {kind};" for name, kind, _ in fields))
        .replace("@assigned", " ".join(f"p_{name} := {value};" for name, _, value in fields))
        .replace("@results", RESULTS)
        .replace("@v_column", ", v" if vector else "")
        .replace("@v_value", ", p_v" if vector else "")
        .replace("@v_set", ", v = excluded.v" if vector else "")
    )


def _element(name: str, names: tuple[str, ...], kind: str) -> str:
    value = f"a_{kind}[{len(names)} * i - {len(names) - 1 - names.index(name)}]"
    return f"{value} = 1" if name in _TRUTHS else value


def call(vectors: str | None) -> str:
    """The template of the statement that calls it: atomic, the locks of dedup, how long to wait for a lock, arrays.

    ``vectors`` says how vectors of pgvector's type come: none, one, many; None where there is no such type.
    """
    last = {None: "", "none": ", NULL", "one": ", ARRAY[$8::$vector]", "many": ", $8"}[vectors]
    return f"SELECT * FROM $apply($1, $2, $3, $4, $5, $6, $7{last})"  # noqa: S608 - our own names


_FUNCTION = """
CREATE FUNCTION $apply(
  a_atomic boolean, a_locks int8[], a_patience text, a_ints int8[], a_texts text[], a_bytes bytea[],
  a_importance float8[]@v_argument
)
RETURNS TABLE (@results)
LANGUAGE plpgsql AS $$
DECLARE
@variables
  old record;
  twin record;
  there boolean;
  live boolean;
  feeds boolean;
  base int8;
  own_space int4;
  own_dimension int4;
  own_embedder text;
  aside_space int4;
  failed boolean := false;
  verdicts text := '';
  event_key int8;
BEGIN
  IF a_patience IS NOT NULL THEN
    PERFORM set_config('lock_timeout', a_patience, true);
  END IF;
  IF a_locks IS NOT NULL THEN
    PERFORM pg_advisory_xact_lock(lock) FROM unnest(a_locks) lock;
  END IF;
  -- Held off while the vectors of another space take the place of these.
  PERFORM pg_advisory_xact_lock_shared($lock_of_space);
  SELECT s.feed, s.feed_base, s.space, s.dimension, s.embedder, s.aside
    INTO feeds, base, own_space, own_dimension, own_embedder, aside_space FROM $state s;
  FOR i IN 1..cardinality(a_importance) LOOP
    -- One by one: a query over these arrays would look for each element from the start.
    @assigned
    o_n := p_n; o_body := NULL; o_key := NULL;
    LOOP
      SELECT r.version, r.created, r.updated, r.accessed, r.count, r.expires, r.user_id, r.agent_id, r.session_id,
             r.token, r.owed, r.body IS NOT NULL AS alive
        INTO old FROM $records r WHERE r.key = p_key FOR UPDATE;
      there := FOUND;
      o_version := old.version; o_created := old.created; o_updated := old.updated; o_accessed := old.accessed;
      o_count := old.count; o_expires := old.expires; o_owed := old.owed;
      live := there AND old.alive AND (old.expires IS NULL OR old.expires > p_now OR p_what = 3);
      IF there AND old.token = p_token THEN
        -- Applied before; its answer was lost.
        o_said := 7;
        EXIT;
      ELSIF there AND p_floor IS NOT NULL AND old.version > p_floor THEN
        o_said := 5;
        EXIT;
      END IF;
      IF NOT live THEN
        IF p_expect > 0 OR p_what <> 0 THEN
          o_said := 3;
          EXIT;
        END IF;
      ELSIF (p_in_user IS NOT NULL AND p_in_user IS DISTINCT FROM old.user_id)
         OR (p_in_agent IS NOT NULL AND p_in_agent IS DISTINCT FROM old.agent_id)
         OR (p_in_session IS NOT NULL AND p_in_session IS DISTINCT FROM old.session_id) THEN
        o_said := CASE WHEN p_what = 0 THEN 2 ELSE 3 END;
        EXIT;
      ELSIF p_expect = 0 THEN
        o_said := 2;
        EXIT;
      ELSIF p_expect <> -1 AND p_expect <> old.version THEN
        o_said := 4;
        EXIT;
      END IF;
      IF p_what = 2 THEN
        o_version := nextval('$versions');
        IF p_accesses > 0 THEN
          o_accessed := p_now;
          o_count := o_count + p_accesses;
        END IF;
        IF p_sets_expiry THEN
          o_expires := p_expires;
        END IF;
        UPDATE $records SET version = o_version, accessed = o_accessed, count = o_count, expires = o_expires,
               token = p_token WHERE key = p_key;
        o_said := 0;
        EXIT;
      ELSIF p_what <> 0 THEN
        o_version := nextval('$versions');
        UPDATE $records SET version = o_version, updated = p_now, expires = NULL, token = p_token, kind = NULL,
               user_id = NULL, agent_id = NULL, session_id = NULL, importance = NULL, owed = NULL, crc = NULL,
               digest = NULL, length = NULL, terms = NULL, counts = NULL, doc = NULL, body = NULL
         WHERE key = p_key;
        IF own_dimension IS NOT NULL THEN
          DELETE FROM $vectors WHERE key = p_key;
        END IF;
        o_said := 0;
        EXIT;
      END IF;
      IF p_dedup THEN
        SELECT r.key, r.version, r.created, r.updated, r.accessed, r.count, r.expires, r.owed, r.body
          INTO twin FROM $records r
         WHERE r.digest = p_digest AND r.body IS NOT NULL AND (r.expires IS NULL OR r.expires > p_now)
         ORDER BY r.key LIMIT 1;
        IF FOUND THEN
          o_key := twin.key; o_version := twin.version; o_created := twin.created; o_updated := twin.updated;
          o_accessed := twin.accessed; o_count := twin.count; o_expires := twin.expires; o_owed := twin.owed;
          o_body := twin.body;
          o_said := 1;
          EXIT;
        END IF;
      END IF;
      IF p_vectors THEN
        IF own_dimension IS NULL THEN
          UPDATE $state SET embedder = p_embedder, dimension = p_dimension WHERE dimension IS NULL;
          SELECT s.space, s.dimension, s.embedder, s.aside
            INTO own_space, own_dimension, own_embedder, aside_space FROM $state s;
        END IF;
        IF p_dimension <> own_dimension OR (p_embedder IS NOT NULL AND p_embedder IS DISTINCT FROM own_embedder) THEN
          o_said := 6;
          EXIT;
        END IF;
      END IF;
      o_version := nextval('$versions');
      IF p_kept_updated IS NOT NULL THEN
        o_created := coalesce(p_created, p_now); o_updated := p_kept_updated; o_accessed := p_kept_accessed;
        o_count := p_kept_count;
      ELSE
        o_updated := p_now;
        IF NOT live THEN
          o_created := coalesce(p_created, p_now); o_accessed := p_now; o_count := 0;
        END IF;
      END IF;
      o_expires := p_expires;
      o_owed := CASE WHEN NOT p_vectors THEN p_embedder END;
      IF there THEN
        UPDATE $records SET version = o_version, created = o_created, updated = o_updated, accessed = o_accessed,
               count = o_count, expires = o_expires, kind = p_kind, user_id = p_user_id, agent_id = p_agent_id,
               session_id = p_session_id, importance = p_importance, owed = o_owed, crc = p_crc,
               token = p_token, digest = p_digest, length = p_length, terms = string_to_array(p_terms, ' '),
               counts = p_counts::int4[], doc = p_doc::jsonb, body = p_body
         WHERE key = p_key;
      ELSE
        INSERT INTO $records VALUES (
          p_key, p_path, o_version, o_created, o_updated, o_accessed, o_count, o_expires, p_kind, p_user_id,
          p_agent_id, p_session_id, p_importance, o_owed, p_crc, p_token, p_digest, p_length,
          string_to_array(p_terms, ' '), p_counts::int4[], p_doc::jsonb, p_body
        ) ON CONFLICT DO NOTHING;
        -- Somebody else made this record just now: look at it.
        CONTINUE WHEN NOT FOUND;
      END IF;
      IF there AND own_dimension IS NOT NULL AND (aside_space IS NOT NULL OR NOT p_vectors) THEN
        DELETE FROM $vectors WHERE key = p_key AND (NOT p_vectors OR space <> own_space);
      END IF;
      IF p_vectors THEN
        INSERT INTO $vectors (key, space, version, raw@v_column)
        VALUES (p_key, own_space, o_version, p_raw@v_value)
        ON CONFLICT (key, space) DO UPDATE SET version = excluded.version, raw = excluded.raw@v_set;
      END IF;
      o_said := 0;
      EXIT;
    END LOOP;
    IF o_said = 0 AND feeds THEN
      IF event_key IS NULL THEN
        event_key := (pg_current_xact_id()::text::int8 + base) << 20;
      END IF;
      INSERT INTO $feed VALUES (
        event_key + p_n, p_key, o_version, p_now, p_what IN (1, 3),
        CASE p_what WHEN 0 THEN ARRAY[p_user_id, p_agent_id, p_session_id]
                     WHEN 2 THEN ARRAY[old.user_id, old.agent_id, old.session_id] END,
        CASE WHEN live THEN ARRAY[old.user_id, old.agent_id, old.session_id] END
      );
    END IF;
    IF a_atomic THEN
      failed := failed OR o_said BETWEEN 2 AND 6;
      verdicts := verdicts || p_n || ' ' || o_said || ' ' || coalesce(o_version, 0) || ' ';
    END IF;
    RETURN NEXT;
  END LOOP;
  IF failed THEN
    -- The whole statement is undone; what each write met with travels in the error.
    RAISE EXCEPTION 'an atomic batch cannot be applied' USING ERRCODE = 'MS001', DETAIL = verdicts;
  END IF;
END
$$;
"""
