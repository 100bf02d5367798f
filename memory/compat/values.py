"""The old values: types, scopes and indices, entries, queries and what a search gives."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from memory.migration.capabilities.entries import DEFAULT_SCOPE, DEFAULT_TYPE, INDEX, SCOPE, word

if TYPE_CHECKING:
    from memory.model import MemoryItem

V = TypeVar("V", bound=dict[str, Any])
NAIVE = "expires:naive"
"""The tag of an entry whose ``expires_at`` was given without a zone: it is UTC, and comes back as it was given."""


class MemoryType(StrEnum):
    """How long an entry is meant to last."""

    SHORT_TERM = "short_term"
    MEDIUM_TERM = "medium_term"
    LONG_TERM = "long_term"
    WORKING = "working"


class MemoryScope(StrEnum):
    """Whom an entry concerns."""

    SESSION = "session"
    AGENT = "agent"
    GLOBAL = "global"


class MemoryIndex(StrEnum):
    """By what an entry is found."""

    SEMANTIC = "semantic"
    TEMPORAL = "temporal"
    SPATIAL = "spatial"
    CAUSAL = "causal"
    CONTEXTUAL = "contextual"


class MemoryEntry(BaseModel, Generic[V]):
    """One entry. ``type`` and ``scope`` are strings in small letters, whichever way they were given."""

    key: str
    value: V
    type: str = DEFAULT_TYPE
    scope: str = DEFAULT_SCOPE
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    expires_at: datetime | None = None
    indices: set[str] = Field(default_factory=set)

    @field_validator("type", "scope", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return word(value, "type or scope", "") if isinstance(value, str) else value

    @field_validator("metadata", "indices", mode="before")
    @classmethod
    def _empty(cls, value: Any, field: ValidationInfo) -> Any:
        if value is None:
            return {} if field.field_name == "metadata" else set()
        return value

    @field_validator("indices", mode="after")
    @classmethod
    def _words(cls, value: set[str]) -> set[str]:
        return {word(one, "indices", "") for one in value}


class MemorySearchResult(BaseModel, Generic[V]):
    """What a search found: an entry, and how well it answers, from 0 to 1."""

    entry: MemoryEntry[V]
    score: float = Field(ge=0.0, le=1.0)
    highlights: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)


class MemoryResult(BaseModel, Generic[V]):
    """An older form of a search's result."""

    key: str
    entry: V
    similarity: float = Field(default=0.0, ge=0.0, le=1.0)
    metadata: dict[str, Any] = Field(default_factory=dict)


class MemoryQuery(BaseModel):
    """A question to a storage. ``filters``: ``type``, ``scope``, fields of the entry, or of its value."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1)
    index_type: MemoryIndex = MemoryIndex.SEMANTIC
    filters: dict[str, Any] = Field(default_factory=dict)
    limit: int = Field(default=10, ge=1)
    offset: int = Field(default=0, ge=0)
    min_score: float = Field(default=0.0, ge=0.0, le=1.0)
    key: str | None = None
    keys: list[str] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    order_by: str | None = None
    order: str | None = None

    @field_validator("query")
    @classmethod
    def _said(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the query must not be blank")
        return value.strip()

    @field_validator("order")
    @classmethod
    def _direction(cls, value: str | None) -> str | None:
        if value is not None and value.upper() not in ("ASC", "DESC"):
            raise ValueError("order must be ASC or DESC")
        return None if value is None else value.upper()


def entry_of(item: MemoryItem) -> MemoryEntry[Any]:
    """The entry that an item is. A content that is no object, of another writer, is the value's ``content``."""
    scopes = [tag.removeprefix(SCOPE) for tag in item.tags if tag.startswith(SCOPE)]
    expires = item.expires_at
    if expires is not None and NAIVE in item.tags:
        expires = expires.replace(tzinfo=None)
    return MemoryEntry[Any](
        key=item.id,
        value=item.content if isinstance(item.content, dict) else {"content": item.content},
        type=item.kind,
        scope=scopes[0] if scopes else DEFAULT_SCOPE,
        metadata=item.metadata,
        created_at=item.created_at,
        updated_at=item.updated_at,
        expires_at=expires,
        indices={tag.removeprefix(INDEX) for tag in item.tags if tag.startswith(INDEX)},
    )
