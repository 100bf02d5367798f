"""``firestore_v2``. ``backend``: the store and its options; ``documents``, ``legacy``: what a document holds; ``writing``:
reading, deciding, committing; ``scanning``, ``matching``, ``nearest``: finding; ``connection``: every call, bounded."""

from memory.backends.firestore.v2.backend import FirestoreV2Store

__all__ = ["FirestoreV2Store"]
