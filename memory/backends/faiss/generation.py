"""The index on disk: one file of arrays for each generation, and a manifest that names the one in force.

Beside ``memory.db`` lie ``memory.db-faiss``, the manifest, and ``memory.db-faiss-N``, the arrays of `Layout`, one after
another, little-endian. A generation is never written again once it has its name; a new one gets a new file, and a rename of
the manifest puts it in force. What does not have the length and the SHA-256 that the manifest says is not looked at any
further.

The bit of every number is taken into memory as FAISS looks through it. Fine codes, unless they are few, stay on disk and are read
one by one: a search looks up some hundred. What else is mapped is given back once it was used: the system keeps its cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from memory.backends.faiss.codes import fine_width
from memory.backends.faiss.scan import Scan
from memory.backends.sqlite.codes import Bytes, Ints, Words, words_of
from memory.errors import BackendUnavailable, CorruptData
from memory.search.vectors import Matrix
from memory.store.drivers import DISTRIBUTION

FORMAT = 5
"""1 and 2 had codes of vectors that were not turned, 3 and 4 two bits a number."""
_LONGEST = 65_536
"""Bytes of a manifest."""
PIECE = 2**25
"""Bytes of which a sum is made, so that two threads can look through a large file: half of what a first search takes."""
_READ = 2**17
"""Bytes read in one step."""
_COPIED = 65_536
"""Numbers copied in one step."""
_TOGETHER = 1_024
"""Fine codes read in one step."""
IN_MEMORY = 24 * 2**20
"""So many bytes of fine codes are held in memory: those of 120,000 vectors of 384 numbers."""


class DoubtfulError(Exception):
    """These files are not what the manifest says, or there are none."""


class _AnyManifest(msgspec.Struct):
    format: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a generation is."""

    format: int
    generation: int
    """Its number, in the name of its file."""
    faiss: str
    """Versions of what wrote it."""
    package: str
    dimension: int
    count: int
    era: int
    seq: int
    """It covers the log of changed vectors up to this chunk, of this digest."""
    digest: int
    schema: int
    """SQLite's schema cookie, by which row numbers hold."""
    size: int
    sha256: tuple[str, ...]
    """Of each piece of the file, which is as long as ``PIECE`` but for the last."""
    lists: int = 0
    """Lists that the places are sorted by; 0: they are not."""
    probes: tuple[int, ...] = ()
    """Of how many lists a search looks through (`memory.backends.faiss.lists.Lists`)."""


def _narrowest(most: int) -> str:
    return "<u4" if most < 2**32 else "<u8"


class Layout:
    """Where the arrays of so many codes, and so many lists, lie in their file."""

    def __init__(self, count: int, dimension: int, lists: int) -> None:
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "ords": ("<i8", (count,)),
            "rows": ("<i8", (count,)),
            "bits": ("<u8", (count, words_of(dimension))),
            "starts": ("<i8", (lists,)),
            "heads": ("<f4", (lists, dimension)),
            "centre": ("<f4", (dimension,)),
            "scale": ("|u1", (count,)),
            "fine": ("|u1", (count, fine_width(dimension))),
        }
        self.parts: dict[str, tuple[int, str, tuple[int, ...]]] = {}
        self.size = 0
        for name, (kind, shape) in shapes.items():
            self.parts[name] = (self.size, kind, shape)
            self.size += np.dtype(kind).itemsize * int(np.prod(shape))

    def arrays(self, content: mmap.mmap) -> dict[str, Any]:
        """Each array, as it lies in the file."""
        return {
            name: np.frombuffer(content, dtype=kind, count=int(np.prod(shape)), offset=offset).reshape(shape)
            for name, (offset, kind, shape) in self.parts.items()
        }


class Generation:
    """The arrays of a generation, as they lie in their file; ``scan`` and ``scale`` in memory."""

    bits: Words
    ords: Ints
    rows: Ints
    starts: Ints
    centre: Matrix
    heads: Matrix
    fine: Bytes
    scale: Bytes

    def __init__(self, manifest: Manifest, handle: int) -> None:
        self.manifest = manifest
        self.count = manifest.count
        self._content = mmap.mmap(handle, manifest.size, prot=mmap.PROT_READ)
        self._handle = os.dup(handle)
        weakref.finalize(self, os.close, self._handle)
        layout = Layout(manifest.count, manifest.dimension, manifest.lists)
        for name, array in layout.arrays(self._content).items():
            setattr(self, name, array)
        self._fine = layout.parts["fine"][0]
        self._held = self.fine.copy() if self.fine.nbytes <= IN_MEMORY else None
        self.scale = self.scale.copy()
        self._least = int(self.ords.min())
        self._beyond = np.empty(self.count, dtype=_narrowest(int(self.ords.max()) - self._least))
        for begin in range(0, self.count, _COPIED):
            self._beyond[begin : begin + _COPIED] = self.ords[begin : begin + _COPIED] - self._least
        self.scan = Scan(self.bits, self.give_back)

    def ords_at(self, places: Ints) -> Ints:
        """The numbers of the records at these places, which every search asks for: so they are kept, in half the memory."""
        return self._beyond[places].astype(np.int64) + self._least

    def fine_at(self, places: Ints) -> Bytes:
        """The fine codes at these places. Read and not mapped: each page that is touched would bring 15 others into memory.

        Raises CorruptData, BackendUnavailable.
        """
        if self._held is not None:
            return self._held[places]
        width, read, first = self.fine.shape[1], os.pread, self._fine
        found = np.empty((len(places), width), dtype=np.uint8)
        for start in range(0, len(places), _TOGETHER):
            part = places[start : start + _TOGETHER].tolist()
            try:
                codes = b"".join([read(self._handle, width, first + width * place) for place in part])
            except OSError as error:
                raise BackendUnavailable(f"the index cannot be read: {error.strerror}") from error
            if len(codes) != width * len(part):
                raise CorruptData(
                    "the index was cut off while it was in use. Open the store again: it is made anew then"
                )
            found[start : start + _TOGETHER] = np.frombuffer(codes, dtype=np.uint8).reshape(-1, width)
        return found

    def give_back(self) -> None:
        """Give back the memory of what is mapped."""
        self._content.madvise(mmap.MADV_DONTNEED)


def manifest_path(path: str) -> Path:
    """The manifest of the store at this path."""
    return Path(f"{path}-faiss")


def data_path(path: str, generation: int) -> Path:
    """The arrays of a generation."""
    return Path(f"{path}-faiss-{generation}")


def read_manifest(path: str) -> Manifest:
    """The manifest in force. Raises DoubtfulError."""
    try:
        with manifest_path(path).open("rb") as stream:
            content = stream.read(_LONGEST)
        found = msgspec.json.decode(content, type=_AnyManifest).format
        manifest = msgspec.json.decode(content, type=Manifest) if found == FORMAT else None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DoubtfulError(f"no manifest: {error}") from None
    if manifest is None:
        raise DoubtfulError(f"a manifest of format {found}, which is not one of ours")
    known = 0 < manifest.dimension < 2**20 and 0 < manifest.count < 2**40 and manifest.generation > 0
    known = known and 0 <= manifest.lists <= manifest.count and all(number > 0 for number in manifest.probes)
    if not known or manifest.size != Layout(manifest.count, manifest.dimension, manifest.lists).size:
        raise DoubtfulError("a manifest that is not one of ours")
    return manifest


def read_generation(path: str, manifest: Manifest) -> Generation:
    """The arrays that a manifest names, of which length and SHA-256 are right. Raises DoubtfulError."""
    try:
        handle = os.open(data_path(path, manifest.generation), os.O_RDONLY)
        try:
            if os.fstat(handle).st_size != manifest.size:
                raise DoubtfulError("the codes have another length than the manifest says")
            if _sums(handle, manifest.size) != manifest.sha256:
                raise DoubtfulError("the codes are not those that were written")
            generation = Generation(manifest, handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise DoubtfulError(f"no codes: {error.strerror}") from None
    bounds = np.concatenate([[0], generation.starts, [manifest.count]])
    if (np.diff(bounds) < 0).any():
        raise DoubtfulError("the lists are not one after the other")
    return generation


def _sums(handle: int, size: int) -> tuple[str, ...]:
    """The SHA-256 of each piece of a file, made by two threads. Read and not mapped: what is mapped is memory."""
    pieces, made = range(0, size, PIECE), partial(_sha256, handle)
    if len(pieces) > 1:
        # An interpreter that is about to end starts no threads any more.
        with contextlib.suppress(RuntimeError), ThreadPoolExecutor(2, "faiss-sums") as threads:
            return tuple(threads.map(made, pieces))
    return tuple(map(made, pieces))


def _sha256(handle: int, start: int) -> str:
    found, end = hashlib.sha256(), start + PIECE
    while start < end and (part := os.pread(handle, min(_READ, end - start), start)):
        found.update(part)
        start += len(part)
    return found.hexdigest()


class Writing:
    """A generation in the making: its file is filled, then put in force, or taken away again."""

    def __init__(self, path: str, count: int, dimension: int, lists: int = 0) -> None:
        self.path = path
        self.count = count
        self.dimension = dimension
        self.lists = lists
        self.layout = Layout(count, dimension, lists)
        self.number, self._handle = _create(path)
        self._filled = dict.fromkeys(self.layout.parts, 0)
        try:
            os.posix_fallocate(self._handle, 0, self.layout.size)
        except BaseException:
            self.give_up()
            raise

    def add(self, name: str, array: Any) -> None:
        """The next part of an array. Raises OSError."""
        offset, kind, _ = self.layout.parts[name]
        rest = np.ascontiguousarray(array, dtype=kind).reshape(-1).view(np.uint8).data
        at = offset + self._filled[name]
        self._filled[name] += len(rest)
        while rest:
            written = os.pwrite(self._handle, rest, at)  # short where the disk is full, and the next one says so
            at, rest = at + written, rest[written:]

    def commit(self, **facts: Any) -> Manifest:
        """On disk, and in force. Raises OSError."""
        import faiss

        assert sum(self._filled.values()) == self.layout.size
        os.fsync(self._handle)
        sums = _sums(self._handle, self.layout.size)
        os.close(self._handle)
        self._handle = -1
        manifest = Manifest(
            format=FORMAT, generation=self.number, faiss=str(faiss.__version__), package=_package(), dimension=self.dimension,
            count=self.count, lists=self.lists, size=self.layout.size, sha256=sums, **facts,
        )  # fmt: skip
        final = manifest_path(self.path)
        new = Path(f"{final}-new")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(handle, msgspec.json.encode(manifest))
            os.fsync(handle)
        finally:
            os.close(handle)
        new.replace(final)
        _sync_directory(final.parent)
        remove_others(self.path, self.number)
        return manifest

    def arrays(self) -> dict[str, Any]:
        """What was written."""
        return self.layout.arrays(mmap.mmap(self._handle, self.layout.size, prot=mmap.PROT_READ))

    def give_up(self) -> None:
        """Take away what was written."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        with contextlib.suppress(OSError):
            data_path(self.path, self.number).unlink()


@cache
def _package() -> str:
    return version(DISTRIBUTION)  # some milliseconds of Python


def _create(path: str) -> tuple[int, int]:
    """The number of a new generation, and its file, open."""
    number = max(_numbers(path), default=0)
    while True:
        number += 1
        with contextlib.suppress(FileExistsError):
            return number, os.open(data_path(path, number), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)


def _numbers(path: str) -> Iterator[int]:
    prefix = f"{Path(path).name}-faiss-"
    for entry in os.scandir(Path(path).parent):
        number = entry.name.removeprefix(prefix)
        if entry.name.startswith(prefix) and number.isascii() and number.isdigit():
            yield int(number)


def remove_others(path: str, number: int) -> None:
    """Take away the files of all generations but one. Whoever has one open keeps it."""
    for other in list(_numbers(path)):
        if other != number:
            with contextlib.suppress(OSError):
                data_path(path, other).unlink()


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
