"""``firestore_v2``. ``backend``: the store and its options; ``documents``, ``legacy``: what a document holds; ``deciding``:
writes; ``scanning``, ``matching``, ``nearest``, ``twins``: finding; ``adopting``: what V2 programs wrote; ``indexes``."""

from memory.store.drivers import driver

with driver("firestore_v2", "firestore"):
    from memory.backends.firestore.v2.backend import FirestoreV2Store

__all__ = ["FirestoreV2Store"]
