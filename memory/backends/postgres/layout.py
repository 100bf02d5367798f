"""What the store makes in a database: tables, indexes, and the sequence that versions come from."""

from __future__ import annotations

LAYOUT = 3
"""The version of this layout, kept in ``state``: 2 is 1 with another function that applies writes, 3 has two of other names,
beside which that of older programs stays."""

TABLES = """
CREATE SEQUENCE $versions;
CREATE TABLE $state (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  layout integer NOT NULL,
  analyser text NOT NULL,
  -- Events are kept; once on, by every process.
  feed boolean NOT NULL DEFAULT false,
  -- Added to transaction ids, so that events go on rising in a cluster that was restored from a dump.
  feed_base bigint NOT NULL DEFAULT 0,
  feed_floor bigint NOT NULL DEFAULT 1,
  -- The space of the vectors (NULL: none yet), and the one of those kept aside.
  space integer NOT NULL DEFAULT 1, embedder text, dimension integer,
  aside integer, aside_embedder text, aside_dimension integer
) WITH (fillfactor = 10);
-- A deleted record stays for a day without its body: its version must not come again.
CREATE TABLE $records (
  key bytea PRIMARY KEY,
  path bytea NOT NULL,
  version bigint NOT NULL,
  created bigint NOT NULL,
  updated bigint NOT NULL,
  accessed bigint NOT NULL,
  count bigint NOT NULL,
  expires bigint,
  kind text COLLATE "C",
  user_id text COLLATE "C",
  agent_id text COLLATE "C",
  session_id text COLLATE "C",
  importance double precision,
  owed text,
  crc bigint,
  token bytea NOT NULL,
  digest bytea,
  length integer,
  terms text[] COLLATE "C",
  counts integer[],
  doc jsonb,
  body bytea
) WITH (fillfactor = 90);
ALTER TABLE $records ALTER COLUMN terms SET STORAGE MAIN, ALTER COLUMN doc SET STORAGE MAIN;
-- Apart, because a row beyond 2 kB would be moved out of line; whole pages of vectors are read fast.
CREATE TABLE $vectors (
  key bytea NOT NULL,
  space integer NOT NULL,
  version bigint NOT NULL,
  raw bytea NOT NULL,
  -- Divided by its length, so that an inner product is a cosine and zeros need no care.
  $vector_column
  PRIMARY KEY (key, space)
) WITH (toast_tuple_target = 8160);
ALTER TABLE $vectors ALTER COLUMN raw SET STORAGE EXTERNAL;
-- What repair could not read.
CREATE TABLE $quarantine (key bytea, at bigint NOT NULL, why text NOT NULL, body bytea);
CREATE TABLE $feed (
  seq bigint PRIMARY KEY,
  key bytea NOT NULL,
  version bigint NOT NULL,
  at bigint NOT NULL,
  removed boolean NOT NULL,
  owner text[],
  was text[]
);
"""

VECTOR_COLUMN = "v $vector,"
VECTOR_STORAGE = "ALTER TABLE $vectors ALTER COLUMN v SET STORAGE EXTERNAL;"

INDEXES = """
CREATE INDEX ON $records (created, key) WHERE body IS NOT NULL;
CREATE INDEX ON $records (updated, key) WHERE body IS NOT NULL;
CREATE INDEX ON $records (path, coalesce(session_id, ''), created, key) WHERE body IS NOT NULL;
CREATE INDEX ON $records (kind, key) WHERE body IS NOT NULL;
CREATE INDEX ON $records (user_id, key) WHERE body IS NOT NULL AND user_id IS NOT NULL;
CREATE INDEX ON $records (agent_id, key) WHERE body IS NOT NULL AND agent_id IS NOT NULL;
CREATE INDEX ON $records (session_id, key) WHERE body IS NOT NULL AND session_id IS NOT NULL;
CREATE INDEX ON $records (digest) WHERE body IS NOT NULL;
CREATE INDEX ON $records (expires) WHERE body IS NOT NULL AND expires IS NOT NULL;
CREATE INDEX ON $records (updated) WHERE body IS NULL;
CREATE INDEX ON $records (owed) WHERE body IS NOT NULL AND owed IS NOT NULL;
CREATE INDEX ON $records USING gin (doc jsonb_path_ops) WHERE body IS NOT NULL;
CREATE INDEX ON $records USING gin (terms) WHERE body IS NOT NULL;
"""
