"""Searches by text, by vector and by both: what is asked for, and candidates."""

from __future__ import annotations

import msgspec

from memory.filters import Filter
from memory.model import Key
from memory.ops.rows import WHOLE, Row, Scope


class Match(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Text candidates: see memory.search.text for the rule that makes the answer the same everywhere."""

    terms: tuple[str, ...]
    """Distinct terms of the query."""
    limit: int
    """The caller needs the best ``limit`` by the text score (ties by key); more may be returned."""
    now: int
    scope: Scope = WHOLE
    where: Filter | None = None
    vectors: bool = False
    """The caller needs the candidates' embeddings."""


class Candidate(msgspec.Struct, gc=False):
    """One live row in scope that satisfies the filter and holds at least one query term."""

    row: Row
    counts: tuple[int, ...]
    """Occurrences of each query term, in the order of ``Match.terms``."""
    length: int
    """Number of terms in the row's text, repetitions included."""


class Matched(msgspec.Struct, gc=False):
    """Result of a match: live matches of each term (capped at 1,000), and candidates."""

    df: tuple[int, ...]
    candidates: list[Candidate]


class Nearest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Vector candidates. Result: rows with their embeddings, in any order, at least the best ``limit`` by cosine
    (memory.search.vectors; ties by key) of those that are live, in scope, satisfy the filter and have a vector.

    Without ``exact`` a backend that declares a ``recall`` below 1 may miss some. Raises EmbeddingMismatch when the
    store's space, in the snapshot that is read, does not admit the query.
    """

    vector: bytes
    """float32, little-endian, as embeddings are stored."""
    embedder: str | None
    """Who made the query's vector; None: the store's space says."""
    limit: int
    now: int
    scope: Scope = WHOLE
    where: Filter | None = None
    exact: bool = False


class Hybrid(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Both halves of a hybrid search at once, in one snapshot: Mixed."""

    match: Match
    nearest: Nearest
    weights: tuple[float, float]
    """Of text and of vector (`memory.search.fusion.hybrid`)."""
    best: int
    """So many of the best by the mix are needed."""


class Mixed(msgspec.Struct, gc=False):
    """Result of a hybrid: of the best by text and the nearest together (as many of each as their limits say, ties by key)
    at least the best by the mix, ties with the last as well."""

    df: tuple[int, ...]
    """As in ``Matched``."""
    best_text: float
    """The best text score."""
    found: int
    """How many there are together."""
    candidates: list[Candidate]
    """With embeddings; counts are empty where only its vector brought one."""


class Around(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The ``n`` live rows in scope before and after each anchor in its namespace and session, by (created, id).

    Result: for each anchor (before, after), both nearest first.
    """

    anchors: tuple[tuple[Key, str | None, int], ...]
    """(key, session_id, created) of each anchor."""
    n: int
    now: int
    scope: Scope = WHOLE
    vectors: bool = False
    """The caller needs the rows' embeddings."""
