"""Text to terms: the one analyser. Every backend indexes its terms, so what matches is the same everywhere.

Words are runs of letters, digits and combining marks of any script; everything else separates, `_` included, so
that ``connect_timeout`` is found by either word. Then:

- **Folding** is NFKC, case folding, NFKC again (Unicode's compatibility caseless match). NFC alone would keep
  full-width digits, ligatures and half-width kana apart from the letters people type.
- **Ignored** inside a word: soft hyphens, joiners, variation selectors, enclosing marks. U+200B separates.
- **Apostrophes** belong to a word between two letters where the language's stemmer knows what to do with them
  (``Caroline's`` -> ``carolin``, French ``l'homme`` -> ``homm``), and separate elsewhere. One that is left after
  stemming becomes `_`, so ``she'll`` never meets ``shell``.
- **Scripts written without spaces** (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese) give each character and
  each overlapping pair: pairs are precise, characters let a one-character query match. A character carries its marks.
- **Emoji** are terms of their own, one each; skin tone is ignored.
- **Stemming** is Snowball (snowballstem.org, through PyStemmer), in one language for a store.
- A term has at most 64 UTF-8 bytes, cut at a character. There is no stop-word list: idf weighs common words down.

ASCII in a term is only ``a-z0-9_``, and a term is never empty, so SQLite's FTS5 tokenizer
``ascii tokenchars '_'`` returns each as it is.

Text is analysed in slices of at most 1,024 characters, cut where a space, line break or comma stands, so that no
step holds an event loop. Only a longer run without any of these is cut within a word; `terms`, `counts` and the
iterators all cut at the same places and so agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from unicodedata import category, normalize

from memory.errors import InvalidSetting

MAX_TERM_BYTES = 64
SLICE = 1_024
"""Most characters analysed in one step: 20 µs of English, 300 µs of Chinese, 2 ms of the worst that can be made up
(ligatures that normalise to eighteen characters each)."""

_VERSION = 1
"""Part of the identity: raise it whenever the same text would give other terms."""

_OPEN, _CLOSE = "\0", "\1"
"""Brackets around one character. Both are separators in text, so that no word holds them otherwise."""

_CACHED_WORDS = 32_768
_CACHED_CHARACTERS = 16_384

_APOSTROPHE_LANGUAGES = frozenset({"danish", "dutch", "english", "french", "irish", "italian", "turkish"})
"""Languages whose Snowball algorithm removes what an apostrophe sets off (possessive, article, case ending)."""

# First and last code points: Thai and Lao, Burmese, Hangul letters, Khmer, Han marks, kana, Bopomofo, kana, Han, Hangul
# letters, Burmese, Hangul syllables and letters, Han, old kana, rarer Han.
_SPACELESS = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3021, 0x3029)),
    *((0x3040, 0x30FF), (0x3100, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA960, 0xA97F)),
    *((0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F), (0x20000, 0x323AF)),
)

_TYPOGRAPHIC = (("’", "'"), ("—", " "), ("–", " "), ("“", " "), ("”", " "), ("…", " "))
"""What makes most English prose not ASCII; replaced first, because the way for ASCII is twice as fast."""


class Analyser:
    """Turns text into terms in one language. Not for use by several threads at once.

    Raises InvalidSetting for a language that Snowball has no algorithm for.
    """

    def __init__(self, language: str = "english") -> None:
        import Stemmer  # a C extension, a millisecond to load: not wanted by those who only read and write

        self.language = language.strip().lower()
        known = Stemmer.algorithms()
        if self.language not in known:
            close = get_close_matches(self.language, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            message = f"No stemmer for the language {language!r}.{hint} Supported: {', '.join(known)}."
            raise InvalidSetting(message, setting="language", supported=tuple(known))
        # Algorithms change between Snowball releases, not within one.
        release = ".".join(Stemmer.version().split(".")[:2])
        self.identity = f"words-{_VERSION} {self.language} snowball-{release}"
        """What a store keeps beside the terms: another identity may give other terms for the same text."""
        joins = self.language in _APOSTROPHE_LANGUAGES
        self._turkish = self.language == "turkish"
        self._characters = _Characters("'" if joins else " ")
        ascii_characters = [self._characters[ord(chr(i).lower())] for i in range(128)]
        if self._turkish:
            ascii_characters[ord("I")] = "ı"
        self._ascii = "".join(ascii_characters)
        # Our own cache is a plain dict look-up; the stemmer's would only hold the words a second time.
        self._stem = _Stems(Stemmer.Stemmer(self.language, 0).stemWord).__getitem__

    def terms(self, text: str) -> list[str]:
        """Terms of a text, in order, repetitions included. For long text on an event loop see `iter_terms`."""
        if len(text) <= SLICE:
            return self._slice_terms(text)
        return [term for part in self.iter_terms(text) for term in part]

    def counts(self, text: str) -> tuple[dict[str, int], int]:
        """(term -> occurrences, number of terms repetitions included). For long text see `iter_counts`."""
        terms = self.terms(text)
        counts: dict[str, int] = {}
        for term in terms:
            counts[term] = counts.get(term, 0) + 1
        return counts, len(terms)

    def iter_terms(self, text: str) -> Iterator[list[str]]:
        """The terms of one slice after another; joined they are `terms`. See `SLICE` for what a step costs."""
        start, end = 0, len(text)
        while end - start > SLICE:
            stop = start + SLICE
            # In the last quarter, so that a cut costs no more than a third again in slices.
            cut = max(text.rfind(mark, stop - SLICE // 4, stop) for mark in " \n,、。，")
            stop = cut if cut > start else stop
            yield self._slice_terms(text[start:stop])
            start = stop
        yield self._slice_terms(text[start:])

    def iter_counts(self, text: str) -> Iterator[tuple[dict[str, int], int]]:
        """`counts` so far after each slice, at least once; the last pair is the result. One dict, growing."""
        counts: dict[str, int] = {}
        length = 0
        for terms in self.iter_terms(text):
            for term in terms:
                counts[term] = counts.get(term, 0) + 1
            length += len(terms)
            yield counts, length

    def _slice_terms(self, text: str) -> list[str]:
        if not text.isascii():
            for mark, plain in _TYPOGRAPHIC:
                text = text.replace(mark, plain)
        if text.isascii():
            return list(filter(None, map(self._stem, text.translate(self._ascii).split())))
        text = normalize("NFKC", text)
        if self._turkish:
            text = text.replace("I", "ı").replace("İ", "i")
        text = normalize("NFKC", text.casefold()).translate(self._characters)
        words = text.split(" ")
        if _OPEN not in text:
            return list(filter(None, map(self._stem, words)))
        terms: list[str] = []
        for word in words:
            self._add_mixed(word, terms)
        return terms

    def _add_mixed(self, word: str, terms: list[str]) -> None:
        """Terms of a word that may hold characters of scripts written without spaces, each between brackets."""
        before, *parts = word.split(_OPEN)
        if term := self._stem(before):
            terms.append(term)
        previous = ""
        for part in parts:
            character, rest = part[0], part[2:]
            if rest:
                marks = _leading_marks(rest)
                character, rest = _capped(character + rest[:marks]), rest[marks:]
            if previous:
                terms.append(_capped(previous + character))
            terms.append(character)
            previous = character
            if rest:
                previous = ""
                if term := self._stem(rest):
                    terms.append(term)


class _Characters(dict[int, str]):
    """Code point -> what `str.translate` puts there: the character, a space, or nothing. Filled as met.

    A character of a script written without spaces comes between brackets.
    """

    def __init__(self, apostrophe: str) -> None:
        super().__init__()
        self._apostrophe = apostrophe

    def __missing__(self, point: int) -> str:
        if len(self) >= _CACHED_CHARACTERS:
            self.clear()
        shown = self[point] = self._shown(point)
        return shown

    def _shown(self, point: int) -> str:
        character = chr(point)
        kind = category(character)
        if character == "'":
            return self._apostrophe
        if 0xFE00 <= point <= 0xFE0F or 0xE0100 <= point <= 0xE01EF or 0x1F3FB <= point <= 0x1F3FF:
            return ""  # variation selectors, skin tones
        if 0x2600 <= point <= 0x27BF or 0x1F300 <= point <= 0x1FAFF:
            return f" {character} "  # emoji, by block: Python has no property for them
        if kind in {"Mn", "Mc"}:
            return character
        if kind[0] in "LN":
            spaceless = any(first <= point <= last for first, last in _SPACELESS)
            return f"{_OPEN}{character}{_CLOSE}" if spaceless else character
        if kind in {"Cf", "Me"} and point != 0x200B:
            return ""
        return " "


class _Stems(dict[str, str]):
    """Word -> term, "" for what is no word after all. Filled as met; emptied when full."""

    def __init__(self, stem: Callable[[str], str]) -> None:
        super().__init__()
        self._stem = stem

    def __missing__(self, word: str) -> str:
        if len(self) >= _CACHED_WORDS:
            self.clear()
        bare = word.strip("'")
        while marks := _leading_marks(bare):  # without a letter to stand on
            bare = bare[marks:].lstrip("'")
        bare = _capped(bare)
        term = _capped((self._stem(bare) or bare).replace("'", "_"))
        if len(word) <= MAX_TERM_BYTES:  # longer ones seldom come back, and would make the cache large
            self[word] = term
        return term


def _leading_marks(text: str) -> int:
    """How many combining marks a text starts with."""
    for i, character in enumerate(text):
        if category(character)[0] != "M":
            return i
    return len(text)


def _capped(term: str) -> str:
    """At most 64 UTF-8 bytes, cut at a character."""
    if len(term) * 4 <= MAX_TERM_BYTES:
        return term
    encoded = term.encode()
    return term if len(encoded) <= MAX_TERM_BYTES else encoded[:MAX_TERM_BYTES].decode(errors="ignore")
