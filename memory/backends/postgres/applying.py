"""The function that applies writes: a batch is one call, so one round trip and one transaction. `putting` has another for one put.

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

FIELDS = (
    *("n int4", "what int4", "now int8", "expect int8", "floor int8", "in_user text", "in_agent text"),
    *("in_session text", "expires int8", "sets_expiry bool", "accesses int8", "created int8", "kept_updated int8"),
    *("kept_accessed int8", "kept_count int8", "kind text", "user_id text", "agent_id text", "session_id text"),
    *("importance float8", "embedder text", "crc int8", "dedup bool", "length int4", "terms text", "counts text"),
    *("doc text", "vectors bool", "dimension int4"),
    # Where its key (with the path in front), token, digest, body and vector lie in the bytes that come along.
    *("at int4", "key_size int4", "path_size int4", "body_size int4", "raw_size int4"),
)
"""What a write brings, as the JSON of a batch names it; what is absent is NULL. As an array for each of these, or for each
type, asyncpg took longer to send a write than the server to apply it."""

RESULTS = (
    *("o_n int4", "o_said int2", "o_version int8", "o_created int8", "o_updated int8", "o_accessed int8"),
    *("o_count int8", "o_expires int8", "o_owed text", "o_body bytea", "o_raw bytea"),
)
"""What is said of a write."""


def function(vector: str | None) -> str:
    """The template of the function. ``vector``: pgvector's type, None where there is none."""
    template = (
        _FUNCTION.replace("@v_argument", f", a_v {vector}[]" if vector else "")
        .replace("@fields", ", ".join(FIELDS))
        .replace("@results", ", ".join(RESULTS))
    )
    return with_parts(template, vector="a_v[row_number]" if vector else None)


def with_parts(template: str, *, vector: str | None) -> str:
    """A function with the parts that several have. ``vector``: where it has the vector of pgvector's type."""
    return (
        template.replace("@most", _MOST)
        .replace("@fits", _FITS)
        .replace("@kept", _KEPT)
        .replace("@live", _LIVE)
        .replace("@v_column", ", v" if vector else "")
        .replace("@v_value", f", {vector}" if vector else "")
        .replace("@v_set", ", v = excluded.v" if vector else "")
    )


def call(vectors: str | None) -> str:
    """The template of the statement that calls it: atomic, the locks of dedup, how long to wait for a lock, the batch.

    ``vectors`` says how vectors of pgvector's type come: none, one, many; None where there is no such type.
    """
    last = {None: "", "none": ", NULL", "one": ", ARRAY[$6::$vector]", "many": ", $6"}[vectors]
    return f"SELECT * FROM $write($1, $2, $3, $4, $5{last})"  # noqa: S608 - our own names


_LIVE = "(r.body IS NOT NULL AND (r.expires IS NULL OR r.expires > op.now))"

# The vector, if a put brings one, belongs to the space there is.
_FITS = """(NOT op.vectors OR (op.dimension = own_dimension
                               AND (op.embedder IS NULL OR op.embedder IS NOT DISTINCT FROM own_embedder)))"""

# A put for which nothing has to be known of what is there, so that one statement decides.
_MOST = """\
      INSERT INTO $records AS r VALUES (
        op_key, substr(op_key, 1, op.path_size), nextval('$versions'), coalesce(op.created, op.now), op.now, op.now, 0,
        op.expires, op.kind, op.user_id, op.agent_id, op.session_id, op.importance,
        CASE WHEN NOT op.vectors THEN op.embedder END, op.crc, op_token, op_digest, op.length,
        string_to_array(op.terms, ' '), op.counts::int4[], op.doc::jsonb, op_body
      ) ON CONFLICT (key) DO UPDATE SET
        version = nextval('$versions'), updated = excluded.updated, expires = excluded.expires,
        created = CASE WHEN @live THEN r.created ELSE excluded.created END,
        accessed = CASE WHEN @live THEN r.accessed ELSE excluded.accessed END,
        count = CASE WHEN @live THEN r.count ELSE 0 END,
        kind = excluded.kind, user_id = excluded.user_id, agent_id = excluded.agent_id, session_id = excluded.session_id,
        importance = excluded.importance, owed = excluded.owed, crc = excluded.crc, token = excluded.token,
        digest = excluded.digest, length = excluded.length, terms = excluded.terms, counts = excluded.counts,
        doc = excluded.doc, body = excluded.body
        WHERE NOT @live OR (op.expect = -1 AND coalesce(op.in_user = r.user_id, op.in_user IS NULL)
                            AND coalesce(op.in_agent = r.agent_id, op.in_agent IS NULL)
                            AND coalesce(op.in_session = r.session_id, op.in_session IS NULL))
      RETURNING r.version, r.created, r.updated, r.accessed, r.count, r.expires, r.owed
        INTO o_version, o_created, o_updated, o_accessed, o_count, o_expires, o_owed;
"""

# The vectors of a put that is done.
_KEPT = """\
      IF own_dimension IS NOT NULL AND (aside_space IS NOT NULL OR NOT op.vectors) THEN
        DELETE FROM $vectors WHERE key = op_key AND (NOT op.vectors OR space <> own_space);
      END IF;
      IF op.vectors THEN
        INSERT INTO $vectors (key, space, version, raw@v_column)
        VALUES (op_key, own_space, o_version, op_raw@v_value)
        ON CONFLICT (key, space) DO UPDATE SET version = excluded.version, raw = excluded.raw@v_set;
      END IF;
"""

_FUNCTION = """
CREATE OR REPLACE FUNCTION $write(
  a_atomic boolean, a_locks int8[], a_patience text, a_batch text, a_bytes bytea@v_argument
)
RETURNS TABLE (@results)
LANGUAGE plpgsql AS $$
DECLARE
  op record;
  op_key bytea;
  op_token bytea;
  op_digest bytea;
  op_body bytea;
  op_raw bytea;
  at int4;
  row_number int4 := 0;
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
  IF feeds THEN
    -- Before this transaction has a number, by which the feed is ordered: else one that waits for a row with its number
    -- drawn already would be told before the writes that it waited for.
    PERFORM pg_advisory_xact_lock($lock_of_feed, stripe) FROM (
      SELECT DISTINCT get_byte(sha256(substr(a_bytes, given.at + 1, given.key_size)), 0) AS stripe
        FROM json_to_recordset(a_batch::json) AS given(at int4, key_size int4) ORDER BY stripe
    ) stripes;
  END IF;
  FOR op IN SELECT * FROM json_to_recordset(a_batch::json) AS given(@fields) LOOP
    row_number := row_number + 1;
    op_key := substr(a_bytes, op.at + 1, op.key_size);
    op_token := substr(a_bytes, op.at + op.key_size + 1, 16);
    at := op.at + op.key_size + 16;
    op_digest := substr(a_bytes, at + 1, 16);
    op_body := substr(a_bytes, at + 17, op.body_size);
    o_n := op.n; o_said := NULL; o_body := NULL; o_raw := NULL;
    IF op.what = 0 AND op.expect <= 0 AND op.floor IS NULL AND op.kept_updated IS NULL AND NOT (op.dedup OR feeds)
       AND @fits THEN
      -- Most puts: nothing has to be known of what is there, so one statement decides. What it leaves is looked at below.
@most      IF FOUND THEN
        o_said := 0;
      END IF;
    END IF;
    WHILE o_said IS NULL LOOP
      SELECT r.version, r.created, r.updated, r.accessed, r.count, r.expires, r.user_id, r.agent_id, r.session_id,
             r.token, r.owed, r.body IS NOT NULL AS alive
        INTO old FROM $records r WHERE r.key = op_key FOR UPDATE;
      there := FOUND;
      o_version := old.version; o_created := old.created; o_updated := old.updated; o_accessed := old.accessed;
      o_count := old.count; o_expires := old.expires; o_owed := old.owed;
      live := there AND old.alive AND (old.expires IS NULL OR old.expires > op.now OR op.what = 3);
      IF there AND old.token = op_token THEN
        -- Applied before; its answer was lost.
        o_said := 7;
        EXIT;
      ELSIF there AND op.floor IS NOT NULL AND old.version > op.floor THEN
        o_said := 5;
        EXIT;
      END IF;
      IF NOT live THEN
        IF op.expect > 0 OR op.what <> 0 THEN
          o_said := 3;
          EXIT;
        END IF;
      ELSIF (op.in_user IS NOT NULL AND op.in_user IS DISTINCT FROM old.user_id)
         OR (op.in_agent IS NOT NULL AND op.in_agent IS DISTINCT FROM old.agent_id)
         OR (op.in_session IS NOT NULL AND op.in_session IS DISTINCT FROM old.session_id) THEN
        o_said := CASE WHEN op.what = 0 THEN 2 ELSE 3 END;
        EXIT;
      ELSIF op.expect = 0 THEN
        o_said := 2;
        EXIT;
      ELSIF op.expect <> -1 AND op.expect <> old.version THEN
        o_said := 4;
        EXIT;
      END IF;
      IF op.what = 2 THEN
        o_version := nextval('$versions');
        IF op.accesses > 0 THEN
          o_accessed := op.now;
          o_count := o_count + LEAST(op.accesses, 9223372036854775807 - o_count);
        END IF;
        IF op.sets_expiry THEN
          o_expires := op.expires;
        END IF;
        UPDATE $records SET version = o_version, accessed = o_accessed, count = o_count, expires = o_expires,
               token = op_token WHERE key = op_key;
        o_said := 0;
        EXIT;
      ELSIF op.what <> 0 THEN
        o_version := nextval('$versions');
        UPDATE $records SET version = o_version, updated = op.now, expires = NULL, token = op_token, kind = NULL,
               user_id = NULL, agent_id = NULL, session_id = NULL, importance = NULL, owed = NULL, crc = NULL,
               digest = NULL, length = NULL, terms = NULL, counts = NULL, doc = NULL, body = NULL
         WHERE key = op_key;
        IF own_dimension IS NOT NULL THEN
          DELETE FROM $vectors WHERE key = op_key;
        END IF;
        o_said := 0;
        EXIT;
      END IF;
      IF op.dedup THEN
        SELECT r.key, r.version, r.created, r.updated, r.accessed, r.count, r.expires, r.owed, r.body
          INTO twin FROM $records r
         WHERE r.digest = op_digest AND r.body IS NOT NULL AND (r.expires IS NULL OR r.expires > op.now)
         ORDER BY r.key LIMIT 1;
        IF FOUND THEN
          o_version := twin.version; o_created := twin.created; o_updated := twin.updated;
          o_accessed := twin.accessed; o_count := twin.count; o_expires := twin.expires; o_owed := twin.owed;
          o_body := twin.body;
          IF own_dimension IS NOT NULL THEN
            -- Here and not by another statement: a later write of the batch may be about to replace it.
            SELECT x.raw INTO o_raw FROM $vectors x WHERE x.key = twin.key AND x.space = own_space;
            IF FOUND THEN
              o_owed := own_embedder;
            END IF;
          END IF;
          o_said := 1;
          EXIT;
        END IF;
      END IF;
      IF op.vectors THEN
        IF own_dimension IS NULL THEN
          UPDATE $state SET embedder = op.embedder, dimension = op.dimension WHERE dimension IS NULL;
          SELECT s.space, s.dimension, s.embedder, s.aside
            INTO own_space, own_dimension, own_embedder, aside_space FROM $state s;
        END IF;
        IF op.dimension <> own_dimension OR (op.embedder IS NOT NULL AND op.embedder IS DISTINCT FROM own_embedder) THEN
          o_said := 6;
          EXIT;
        END IF;
      END IF;
      o_version := nextval('$versions');
      IF op.kept_updated IS NOT NULL THEN
        o_created := coalesce(op.created, op.now); o_updated := op.kept_updated; o_accessed := op.kept_accessed;
        o_count := op.kept_count;
      ELSE
        o_updated := op.now;
        IF NOT live THEN
          o_created := coalesce(op.created, op.now); o_accessed := op.now; o_count := 0;
        END IF;
      END IF;
      o_expires := op.expires;
      o_owed := CASE WHEN NOT op.vectors THEN op.embedder END;
      IF there THEN
        UPDATE $records SET version = o_version, created = o_created, updated = o_updated, accessed = o_accessed,
               count = o_count, expires = o_expires, kind = op.kind, user_id = op.user_id, agent_id = op.agent_id,
               session_id = op.session_id, importance = op.importance, owed = o_owed, crc = op.crc,
               token = op_token, digest = op_digest, length = op.length, terms = string_to_array(op.terms, ' '),
               counts = op.counts::int4[], doc = op.doc::jsonb, body = op_body
         WHERE key = op_key;
      ELSE
        INSERT INTO $records VALUES (
          op_key, substr(op_key, 1, op.path_size), o_version, o_created, o_updated, o_accessed, o_count, o_expires, op.kind, op.user_id,
          op.agent_id, op.session_id, op.importance, o_owed, op.crc, op_token, op_digest, op.length,
          string_to_array(op.terms, ' '), op.counts::int4[], op.doc::jsonb, op_body
        ) ON CONFLICT DO NOTHING;
        -- Somebody else made this record just now: look at it.
        CONTINUE WHEN NOT FOUND;
      END IF;
      o_said := 0;
    END LOOP;
    IF o_said = 0 AND op.what = 0 THEN
      IF op.vectors THEN
        op_raw := substr(a_bytes, at + 17 + op.body_size, op.raw_size);
      END IF;
@kept    END IF;
    IF o_said = 0 AND feeds THEN
      IF event_key IS NULL THEN
        event_key := (pg_current_xact_id()::text::int8 + base) << 20;
      END IF;
      INSERT INTO $feed VALUES (
        event_key + op.n, op_key, o_version, op.now, op.what IN (1, 3),
        CASE op.what WHEN 0 THEN ARRAY[op.user_id, op.agent_id, op.session_id]
                     WHEN 2 THEN ARRAY[old.user_id, old.agent_id, old.session_id] END,
        CASE WHEN live THEN ARRAY[old.user_id, old.agent_id, old.session_id] END
      );
    END IF;
    IF a_atomic THEN
      failed := failed OR o_said BETWEEN 2 AND 6;
      verdicts := verdicts || op.n || ' ' || o_said || ' ' || coalesce(o_version, 0) || ' ';
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
