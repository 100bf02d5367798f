"""`hashing`: vectors from the words and letters of a text, without a model.

Feature hashing (Weinberger, Dasgupta, Langford, Smola and Attenberg: Feature Hashing for Large Scale Multitask
Learning, ICML 2009): each feature of a text is hashed to a bucket and a sign, and the signs are added up in the
buckets, so that collisions cancel out on average. Features are the text's distinct words and their runs of three
characters, the ends of the word among them (two characters as well in words that are not ASCII, for scripts written
without spaces). So it finds shared words and their other forms, never a likeness of meaning.

Buckets come from CRC-32, arithmetic is on integers until the last division: the same text gives the same bits in every
process and on every machine.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING
from unicodedata import normalize
from zlib import crc32

from memory.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy as np

DIMENSION = 256
MAX_DIMENSION = 16_384
SLICE = 1_024
"""Most characters taken in one step, 300 µs when every word is new."""

_WORD_WEIGHT = 3
"""A whole word counts as much as three of its runs."""
_CACHED_WORDS = 16_384
_CACHED_LENGTH = 32
_ASCII = "".join(chr(i).lower() if chr(i).isalnum() else " " for i in range(128))
_words = re.compile(r"[^\W_]+").findall
_slices = re.compile(r".{1,1023}(?:\s|\Z)|.{1,1024}", re.DOTALL).finditer
"""Cuts where a space stands, if one does."""


class HashingEmbedder:
    """The lexical embedder, deterministic and without a model. Unit length; a text without words gives zeros.

    ``dimension`` is the number of buckets, 8 to 16,384. Raises InvalidSetting for another.
    """

    semantic = False
    on_loop = True

    def __init__(self, dimension: int = DIMENSION) -> None:
        if type(dimension) is not int or not 8 <= dimension <= MAX_DIMENSION:
            raise InvalidSetting(
                f"the hashing embedder has 8 to {MAX_DIMENSION:,} dimensions, not {dimension!r}", setting="embedder"
            )
        self.dimension = dimension
        self.name = f"hashing:{dimension}"
        self._buckets = _Buckets(2 * dimension)

    def __repr__(self) -> str:
        return f"HashingEmbedder({self.dimension})"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of the texts, shape (n, dimension), float32."""
        steps = self.steps(texts)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                vectors: np.ndarray = done.value
                return vectors

    def steps(self, texts: Sequence[str]) -> Generator[None, None, np.ndarray]:
        """As ``embed``, pausing after each text and after each 1,024 characters of one."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            if len(text) <= SLICE:
                sums = self._sums(_distinct(text))
            else:
                sums, seen = np.zeros(self.dimension, np.int64), set[str]()
                for part in _slices(text):
                    words = _distinct(part[0]) - seen
                    seen |= words
                    sums += self._sums(words)
                    yield
            squares = int(sums @ sums)
            if squares:
                np.divide(sums, squares**0.5, out=vectors[row], casting="same_kind")
            yield
        return vectors

    def _sums(self, words: set[str]) -> np.ndarray:
        """Signed sums of the words' features in each bucket."""
        import numpy as np

        buckets = np.frombuffer(b"".join(map(self._buckets.__getitem__, words)), np.uint16)
        counts = np.bincount(buckets, minlength=2 * self.dimension)
        return counts[: self.dimension] - counts[self.dimension :]


def _distinct(text: str) -> set[str]:
    if text.isascii():
        return set(text.translate(_ASCII).split())  # three times as fast, the same words
    return set(_words(normalize("NFKC", normalize("NFKC", text).casefold())))


class _Buckets(dict[str, bytes]):
    """Word -> the buckets of its features as 16-bit numbers; those with a minus sign come after all with a plus.

    Filled as met; emptied when full.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __missing__(self, word: str) -> bytes:
        ends = f"<{word}>"
        features = [ends] * _WORD_WEIGHT
        features += [ends[i : i + 3] for i in range(len(ends) - 2)]
        if not word.isascii():
            features += [word[i : i + 2] for i in range(len(word) - 1)]
        # CRC is linear: without a multiplication (Knuth's), bucket and sign would depend on each other.
        hashes = [crc32(feature.encode(errors="replace")) * 2_654_435_761 & 0xFFFF_FFFF for feature in features]
        found = array("H", [mixed * self._size >> 32 for mixed in hashes]).tobytes()
        if len(word) <= _CACHED_LENGTH:  # longer ones seldom come back
            if len(self) >= _CACHED_WORDS:
                self.clear()
            self[word] = found
        return found
