"""Entries in a folder of vectors: ``<key>.json`` each, ``embeddings.npy`` with a row a vector, ``keys.json`` with their keys.

Names are taken from the folder itself. What ``keys.json`` says is compared with them, and opens no file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from memory.errors import InvalidSetting
from memory.migration.capabilities.source import MAX_BYTES, Record
from memory.store.transfer import to_the_end

KEYS, VECTORS = "keys.json", "embeddings.npy"
MODEL = "all-MiniLM-L6-v2"
"""The model that the old system took when none was named."""


class FolderReader:
    """The entries of a folder. ``model``: the sentence-transformers model that made the vectors.

    Raises InvalidSetting for what is no such folder, or whose vectors are no table of numbers.
    """

    def __init__(self, path: str | os.PathLike[str], model: str = MODEL) -> None:
        self._path = Path(path)
        self.address = f"file://{self._path.absolute()}"
        self.embedder: str | None = f"sentence-transformers:{model.removeprefix('sentence-transformers/')}"
        self._rows: dict[str, int] = {}
        self._vectors: Any = None

    async def __aenter__(self) -> Self:
        await to_the_end(self._open)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._vectors = None

    async def keys(self) -> tuple[list[str], list[tuple[str, str]]]:
        """The names of all entries' files; and what ``keys.json`` names without a file in this folder."""
        return await to_the_end(self._keys)

    async def fetch(self, keys: Sequence[str]) -> list[Record | None]:
        """What the files of these keys hold, with their vectors."""
        return await to_the_end(lambda: [self._record(key) for key in keys])

    def _open(self) -> None:
        import numpy as np

        if not self._path.is_dir():
            raise InvalidSetting(f"there is no folder {self._path} to import from", setting="source")
        place = self._path / KEYS
        if not place.exists():
            return
        try:
            keys = msgspec.json.decode(place.read_bytes(), type=list[str])
            if (self._path / VECTORS).exists():
                self._vectors = np.load(self._path / VECTORS, mmap_mode="r", allow_pickle=False)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidSetting(f"{place} is no list of keys: {error}", setting="source") from None
        except (ValueError, EOFError, OSError) as error:
            raise InvalidSetting(f"{self._path / VECTORS} holds no vectors: {error}", setting="source") from None
        if self._vectors is not None and (self._vectors.ndim != 2 or self._vectors.dtype.kind != "f"):
            raise InvalidSetting(f"{self._path / VECTORS} is no table of numbers", setting="source")
        for row, key in enumerate(keys):
            self._rows.setdefault(key, row)  # of a key named twice the first row was the one kept up to date

    def _keys(self) -> tuple[list[str], list[tuple[str, str]]]:
        found: list[str] = []
        strange: list[tuple[str, str]] = []
        with os.scandir(self._path) as files:
            for file in files:
                if file.name in (KEYS, VECTORS):
                    continue
                name, dot, ending = file.name.rpartition(".")
                if dot and ending == "json" and file.is_file(follow_symlinks=False):
                    found.append(name)
                else:
                    strange.append((file.name, "it is no file of an entry, which is <key>.json"))
        known = set(found)
        missing = f"{KEYS} names it, and this folder holds no entry of that name"
        strange += [(key, missing) for key in self._rows if key not in known]
        return found, strange

    def _record(self, key: str) -> Record | None:
        try:
            handle = os.open(self._path / f"{key}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            return Record(wrong=f"its file cannot be opened: {error.strerror}")
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return Record(wrong="it is no plain file")
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            return Record(wrong=f"it is larger than {MAX_BYTES:,} bytes")
        try:
            fields = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Record(wrong=f"it is not JSON: {error}")
        vector, aside = self._vector(key)
        return Record(fields, embedding=vector, aside=aside)

    def _vector(self, key: str) -> tuple[Any, str | None]:
        """The vector of a key, and what is wrong with it, so that the entry is moved without."""
        import numpy as np

        row = self._rows.get(key)
        if row is None or self._vectors is None:
            return None, None
        if row >= len(self._vectors):
            return None, f"{VECTORS} ends before its vector; the entry is moved without one"
        vector = np.asarray(self._vectors[row], dtype=np.float32)
        if not np.isfinite(vector).all():
            return None, "its vector holds what is no number; the entry is moved without one"
        return vector, None
