"""``firestore_v1``. ``backend``: the store; ``documents``, ``natives``: what a document holds; ``deciding``: writes;
``scanning``, ``walking``, ``twins``: finding; ``upkeep``: health and verify."""

from memory.backends.firestore.v1.backend import FirestoreV1Store

__all__ = ["FirestoreV1Store"]
