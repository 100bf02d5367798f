"""What things are called: collections as in V2 programs, documents by id where an id may be one, keys as bytes."""

from __future__ import annotations

import base64
import hashlib
import os
import re

from memory.backends.firestore.document import UNNAMED
from memory.backends.firestore.store import Collections
from memory.errors import InvalidSetting
from memory.keys import encode_key
from memory.model import DEFAULT_NAMESPACE, Key

HASHED = "~"
"""Begins the name of a document that is a hash of its key."""
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def collections(namespace: str, privacy: str, environment: str | None) -> Collections:
    """The collections of a store, named as V2 names its own (see ``collection``). Raises InvalidSetting."""
    bases = ("memory_items", "memory_tombstones", "memory_locks", "memory_store")
    return Collections(*(collection(base, namespace, privacy, environment) for base in bases))


def collection(base: str, namespace: str, privacy: str, environment: str | None) -> str:
    """The name that V2 gives: ``{namespace}_{base}_{privacy}[_{environment}]``, the base replaced by the variable
    ``ORCHESTRA_STORAGE_<BASE>``. Raises InvalidSetting."""
    for setting, part in (("namespace", namespace), ("privacy", privacy), ("environment", environment)):
        if part is not None and not _PART.fullmatch(part):
            raise InvalidSetting(
                f"{setting} is part of the names of collections: letters, digits, _ . and -, at most 100; not {part!r}",
                setting=setting,
            )
    variable = f"ORCHESTRA_STORAGE_{base.upper()}"
    base = os.environ.get(variable) or base
    if not _PART.fullmatch(base):
        raise InvalidSetting(f"{variable} is no name of a collection: {base!r}", setting=variable)
    return "_".join([namespace, base, privacy] + ([environment] if environment else []))


def document_id(key: Key) -> str:
    """The name of a key's document. An id of the default namespace names its document, as in V2 programs, where
    Firestore allows it; for other keys it is a hash, and whoever reads the document compares the whole key."""
    namespace, id = key
    if namespace == DEFAULT_NAMESPACE and id[0] != HASHED and not UNNAMED.fullmatch(id):
        return id
    digest = hashlib.blake2b(encode_key(key), digest_size=32).digest()
    return HASHED + base64.urlsafe_b64encode(digest).decode().rstrip("=")
