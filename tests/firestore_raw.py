"""A V2 program as it is in the field: Google's own client, V2's collections and fields, nothing of `memory`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

ITEMS = "default_memory_items_standard"


@contextmanager
def raw_client(project: str, host: str) -> Iterator[Any]:
    """Google's synchronous client of the emulator."""
    before = os.environ.get("FIRESTORE_EMULATOR_HOST")
    os.environ["FIRESTORE_EMULATOR_HOST"] = host
    try:
        client = firestore.Client(project=project, credentials=AnonymousCredentials())
    finally:
        if before is None:
            del os.environ["FIRESTORE_EMULATOR_HOST"]
        else:
            os.environ["FIRESTORE_EMULATOR_HOST"] = before
    try:
        yield client
    finally:
        client.close()


def v2_item(id: str, text: str | None, **fields: Any) -> dict[str, Any]:
    """The document that V2 writes for an item: optional fields only when they say something."""
    said = {
        "id": id,
        "user_id": "ann",
        "item_type": "conversation",
        "timestamp": datetime(2025, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC),
        "metadata": {},
        **fields,
    }
    if text:
        said["text_content"] = text
        said["metadata"] = {**said["metadata"], "content_hash": hashlib.sha256(text.encode()).hexdigest()}
    return said
