"""``in_memory``: everything in this process. ``store``: the records; ``terms``: the text index, made lazily."""

from memory.backends.in_memory.store import InMemoryStore

__all__ = ["InMemoryStore"]
