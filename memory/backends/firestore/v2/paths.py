"""The fields of a document that queries name."""

from __future__ import annotations

KEY = "memory.key"
PATH = "memory.path"
AGENT = "memory.agent"
TAGS = "memory.tags"
TERMS = "memory.terms"
DIGEST = "memory.digest"
USER, SESSION, KIND = "user_id", "session_id", "item_type"
CREATED, EXPIRES = "timestamp", "expiration"
ORDERS = {
    "key": KEY,
    "created_at": CREATED,
    "updated_at": "memory.updated",
    "accessed_at": "memory.accessed",
    "importance": "memory.importance",
}
"""Each order's field."""
