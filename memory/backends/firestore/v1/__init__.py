"""``firestore_v1``. ``backend``: the store; ``documents``, ``natives``: what a document holds; ``deciding``: writes;
``scanning``, ``walking``, ``twins``: finding; ``upkeep``: health and verify."""

from memory.store.drivers import driver

with driver("firestore_v1", "firestore"):
    from memory.backends.firestore.v1.backend import FirestoreV1Store

__all__ = ["FirestoreV1Store"]
