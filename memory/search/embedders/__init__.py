"""Embedders: what turns texts into vectors, and the service that batches, caches and checks what they answer.

Nothing heavy is imported before an embedder's first use, and then in its thread.
"""

from memory.search.embedders.base import Embedder, SteppedEmbedder
from memory.search.embedders.callables import CallableEmbedder
from memory.search.embedders.hashing import HashingEmbedder
from memory.search.embedders.service import EmbeddingService
from memory.search.embedders.spec import embedder_of, options_taken

__all__ = [
    "CallableEmbedder",
    "Embedder",
    "EmbeddingService",
    "HashingEmbedder",
    "SteppedEmbedder",
    "embedder_of",
    "options_taken",
]
