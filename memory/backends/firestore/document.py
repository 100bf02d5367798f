"""A document as it was read, whatever its fields mean."""

from __future__ import annotations

import msgspec

from memory.backends.firestore.values import Fields


class Document(msgspec.Struct, gc=False):
    """``version`` is its update_time in microseconds."""

    id: str
    fields: Fields
    version: int
