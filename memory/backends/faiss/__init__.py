"""``faiss``: SQLite holds records and vectors, FAISS finds the nearest among a hundred thousand and more."""

from __future__ import annotations

from memory.store.drivers import driver

with driver("faiss", "faiss"):
    from memory.backends.faiss.store import FaissStore

__all__ = ["FaissStore"]
