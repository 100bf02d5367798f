"""The tables of the file, layout 3. ``items`` holds one row a record; everything else is derived from it or says what happened.

- ``items.key`` is path, two NULs, id: it sorts like the key, so one column serves look-ups, ranges of namespaces and
  the tie-break of every order. (Integer codes for namespaces, tried first, save 14 % of a bulk load but do not sort:
  a page across namespaces in key order then needs a sort or a seek for each namespace.)
- ``items.doc`` names the record to the text index: see `memory.backends.sqlite.docs`.
- ``items`` has no INTEGER PRIMARY KEY on purpose: with one, SQLite journals every page that a multi-row INSERT
  changes (12 of 28 µs a record), because the statement may fail halfway.
- ``updated``, ``accessed`` and ``importance`` are indexed only where they differ from what a fresh record has.
- A tag is one entry, tag, NUL, key: one column takes a whole batch in one call, and sorts by key within the tag.
- ``texts`` keeps what the text index got for each record (it gives nothing back); ``pending`` names those it has not got yet.
- A declared metadata field is a column ``f<n>`` with a partial index; ``fields`` says which path has which number.
- A vector lies under its record's number (``doc >> 10``), its checksum in the record. ``counter`` says in which space
  the vectors lie. ``moves`` and ``codes`` are the log of changed vectors, one sequence of numbers over both: see
  `memory.backends.sqlite.vectorlog`. ``aside`` holds vectors of another space until the store switches to it.
"""

from __future__ import annotations

APPLICATION_ID = 0x4D454D31
"""'MEM1' in the file's header: what makes it ours."""
SCHEMA_VERSION = 3
"""In user_version. An older file is upgraded when it is opened, a newer one refused."""

TABLES = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE counter(version INTEGER NOT NULL, layout INTEGER NOT NULL, feed INTEGER, floor INTEGER NOT NULL);
CREATE TABLE items(
    key BLOB NOT NULL, path BLOB NOT NULL, doc INTEGER NOT NULL,
    version INTEGER NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, accessed INTEGER NOT NULL,
    count INTEGER NOT NULL, expires INTEGER,
    kind TEXT NOT NULL, user TEXT, agent TEXT, session TEXT, importance REAL NOT NULL, embedder TEXT,
    length INTEGER NOT NULL, digest BLOB NOT NULL, token BLOB NOT NULL, tags TEXT,
    crc INTEGER NOT NULL, vcrc INTEGER, seal INTEGER NOT NULL, fseal INTEGER,
    body BLOB NOT NULL);
CREATE UNIQUE INDEX items_key ON items(key);
CREATE UNIQUE INDEX items_doc ON items(doc);
CREATE INDEX items_kind ON items(kind, key);
CREATE INDEX items_user ON items(user, key) WHERE user IS NOT NULL;
CREATE INDEX items_agent ON items(agent, key) WHERE agent IS NOT NULL;
CREATE INDEX items_session ON items(session, path, created, key);
CREATE INDEX items_created ON items(created DESC, key);
CREATE INDEX items_updated ON items(updated DESC, key) WHERE updated <> created;
CREATE INDEX items_accessed ON items(accessed DESC, key) WHERE accessed <> created;
CREATE INDEX items_importance ON items(importance DESC, key) WHERE importance <> 0.5;
CREATE INDEX items_expires ON items(expires, key) WHERE expires IS NOT NULL;
CREATE INDEX items_digest ON items(digest);
CREATE TABLE tags(entry BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE fields(number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE vectors(ord INTEGER PRIMARY KEY, v BLOB NOT NULL);
CREATE TABLE graves(
    key BLOB PRIMARY KEY, version INTEGER NOT NULL, token BLOB NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE feed(
    seq INTEGER PRIMARY KEY, key BLOB NOT NULL, at INTEGER NOT NULL, removed INTEGER NOT NULL,
    owner TEXT, was TEXT);
CREATE TABLE quarantine(key BLOB, at INTEGER NOT NULL, why TEXT NOT NULL, body BLOB);
CREATE TABLE texts(ord INTEGER PRIMARY KEY, terms TEXT NOT NULL);
CREATE TABLE pending(doc INTEGER PRIMARY KEY);
CREATE TABLE mixed(bucket INTEGER PRIMARY KEY);
"""
"""Layout 1."""
VECTOR_TABLES = """
ALTER TABLE counter ADD COLUMN vectors INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN coded INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN era INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN embedder TEXT;
ALTER TABLE counter ADD COLUMN dimension INTEGER;
ALTER TABLE counter ADD COLUMN next_embedder TEXT;
ALTER TABLE counter ADD COLUMN next_dimension INTEGER;
CREATE TABLE moves(seq INTEGER PRIMARY KEY, ords BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE codes(
    seq INTEGER PRIMARY KEY, upto INTEGER NOT NULL, ords BLOB NOT NULL, crc INTEGER NOT NULL,
    bits BLOB NOT NULL, fine BLOB NOT NULL, digest INTEGER NOT NULL);
CREATE TABLE aside(ord INTEGER PRIMARY KEY, v BLOB NOT NULL);
CREATE TABLE asides(ord INTEGER PRIMARY KEY, crc INTEGER NOT NULL);
CREATE INDEX items_owed ON items(key) WHERE embedder IS NOT NULL AND vcrc IS NULL;
"""
"""What layout 2 adds to it. Layout 3 has other codes in the same tables: of vectors in a rotation."""
TEXT_INDEX = (
    "CREATE VIRTUAL TABLE words USING fts5(terms, content='', contentless_delete=1, detail=none, "
    "tokenize=\"ascii tokenchars '_~:'\")"
)
"""detail=none: occurrences beyond the first are terms of their own (`docs.term_text`), a third smaller than positions."""
