"""A document as it was read, whatever its fields mean."""

from __future__ import annotations

import re

import msgspec

from memory.backends.firestore.values import Fields

UNNAMED = re.compile(r"(?s:.*/.*|\.{1,2}|__.*__)")
"""What Firestore takes for no document's name."""


class Document(msgspec.Struct, gc=False):
    """``version`` is its update_time in microseconds."""

    id: str
    fields: Fields
    version: int
    collection: str = ""
