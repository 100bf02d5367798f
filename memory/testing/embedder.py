"""An embedder for tests: no model, no network, the same vectors everywhere, and it fails when it is told to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np


class WordEmbedder:
    """The sum of a fixed random vector for each word. Texts are near that share words, or words called alike.

    ``alike``: word -> another word whose vector it takes, which is all the meaning there is. ``calls`` holds the texts
    of each call; ``broken`` makes every call raise.
    """

    def __init__(
        self,
        name: str = "words",
        dimension: int = 16,
        *,
        semantic: bool = True,
        alike: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.dimension = dimension
        self.semantic = semantic
        self.alike = alike or {}
        self.calls: list[list[str]] = []
        self.broken = False

    def embed(self, texts: Sequence[str]) -> Any:
        """Vectors (n, dimension), float32."""
        self.calls.append(list(texts))
        if self.broken:
            raise RuntimeError("the embedder is broken")
        return np.array([self.vector(text) for text in texts], dtype=np.float32)

    def vector(self, text: str) -> Any:
        """The vector of one text, without counting as a call: zeros for a text without words."""
        total = np.zeros(self.dimension)
        for word in re.findall(r"\w+", text.lower()):
            known = self.alike.get(word, word)
            noise = hashlib.shake_128(f"{self.name}:{known}".encode()).digest(self.dimension)
            total += np.frombuffer(noise, dtype=np.int8)
        return (total / 64).astype(np.float32)
