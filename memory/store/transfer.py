"""Export and import as JSON lines, one item a line in the envelope of ``MemoryItem.to_dict``."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from memory.clock import to_micros
from memory.codec import from_dict, to_dict
from memory.errors import InvalidItem, InvalidSetting, MemoryStoreError, StorageFull
from memory.filters import parse
from memory.model import MAX_DISTINCT_TERMS, MAX_JSON_DEPTH, UNSTAMPED, MemoryItem
from memory.ops import ANY, WHOLE, Kept, Position, Put, Scan
from memory.store.bound import Namespace
from memory.store.embedding import add_vectors, check_maker, mismatch
from memory.store.settle import BATCH, apply_all
from memory.store.types import ImportReport, Progress
from memory.store.updating import Updates
from memory.sync import blocking

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.store.base import MemoryStore

T = TypeVar("T")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_LINE_BYTES = 4 * 1024 * 1024


class Transfers(Updates):
    """The export and import part of a store or view."""

    async def export_jsonl(
        self,
        path: str | os.PathLike[str],
        where: Where = None,
        *,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write all live items that satisfy the filter to a file, in key order; returns how many.

        The file appears whole (written beside, fsynced, renamed) or not at all. Raises InvalidFilter, InvalidSetting (the
        store's own file), InvalidItem (no file can be put there), StorageFull, OSError.
        """
        own = self._enter()
        filter, target = parse(where), check_file(path)
        scope = self._narrow(namespace, under)
        await asyncio.to_thread(check_apart, own, target)
        total, after = 0, None
        async with whole_file(target) as file:
            while scope is not None:
                store = self._enter()
                pairs = await store._filled(
                    Scan(now=store._clock(), scope=scope, where=filter, after=after, limit=BATCH)
                )
                lines: list[bytes] = []
                async for batch in store._slices(pairs, weigh=lambda pair: len(pair[0].body)):
                    lines += [msgspec.json.encode(to_dict(item, row.embedder)) + b"\n" for row, item in batch]
                await to_the_end(file.write, b"".join(lines))
                total += len(pairs)
                if progress is not None:
                    progress(total)
                if len(pairs) < BATCH:
                    break
                after = Position(*pairs[-1][1].key)
        return total

    async def import_jsonl(
        self,
        path: str | os.PathLike[str],
        *,
        on_error: Literal["abort", "skip"] = "abort",
        vectors: Literal["keep", "drop"] = "keep",
        progress: Progress | None = None,
    ) -> ImportReport:
        """Write every item of a file, keeping its times and counts; an item with the same key is replaced.

        Vectors are kept, those of another embedder than the store's refused; ``vectors="drop"`` leaves them all out.
        Where the store has an embedder, items without a vector get one.
        Every line is checked first. With ``on_error="abort"`` one bad line means nothing is written and
        InvalidItem names it (``lines``: number -> reason); with ``"skip"`` the rest is imported and the report
        names it. On a view, items outside its scope are bad lines, and ``source`` is the view's own.
        """
        store = self._enter()
        if on_error not in ("abort", "skip"):
            raise InvalidItem(f'on_error must be "abort" or "skip", not {on_error!r}', field="on_error")
        if vectors not in ("keep", "drop"):
            raise InvalidItem(f'vectors must be "keep" or "drop", not {vectors!r}', field="vectors")
        refused: dict[int, str] = {}
        file = check_file(path)
        if on_error == "abort":
            async for _ in self._read_lines(store, file, refused, vectors):
                if refused:
                    break
            if refused:
                line, reason = next(iter(refused.items()))
                raise InvalidItem(f"line {line}: {reason}. Nothing was imported", lines=refused)
        imported = 0
        async for ops in self._read_lines(store, file, refused, vectors):
            await add_vectors(store, [op for _, op in ops], True)
            outcomes = await apply_all(store, [op for _, op in ops])
            for (line, _), outcome in zip(ops, outcomes, strict=True):
                if isinstance(outcome, MemoryStoreError):
                    refused[line] = str(outcome)
                else:
                    imported += 1
            if progress is not None:
                progress(imported)
        return ImportReport(imported, dict(sorted(refused.items())))

    export_jsonl_sync = blocking(export_jsonl)
    import_jsonl_sync = blocking(import_jsonl)

    async def _read_lines(
        self, store: MemoryStore, path: Path, refused: dict[int, str], vectors: Literal["keep", "drop", "any"]
    ) -> AsyncIterator[list[tuple[int, Put]]]:
        """Checked writes with their line numbers, a batch at a time; bad lines go to ``refused``.

        ``vectors="any"``: also of another embedder than the store was opened with.
        """
        opened: list[IO[bytes]] = []
        try:
            await to_the_end(_open, path, "rb", opened)
            number = 0
            while lines := await to_the_end(_some_lines, opened[0]):
                ops: list[tuple[int, Put]] = []
                if any(b'"embedding"' in line for line in lines):
                    await store._vectors_ready()
                async for batch in store._slices(lines, weigh=len):
                    for line in batch:
                        number += 1
                        if not line.strip():
                            continue
                        try:
                            item, embedder = _parse_line(line)
                            if vectors == "drop":
                                item, embedder = msgspec.structs.replace(item, embedding=None), None
                            elif vectors == "keep" and item.embedding is not None:
                                check_maker(store, embedder, len(item.embedding))
                            ops.append((number, self._privileged(store, item, embedder)))
                        except MemoryStoreError as error:
                            refused[number] = error.message
                for place, op in list(ops):
                    if len(op.body) > MAX_DISTINCT_TERMS:
                        try:
                            await store._check_terms(op.item)
                        except InvalidItem as error:
                            refused[place] = error.message
                            ops.remove((place, op))
                yield ops
        finally:
            for file in opened:
                file.close()

    def _privileged(self, store: MemoryStore, item: MemoryItem, embedder: str | None) -> Put:
        """A write that keeps every time and count of the item, and on the whole store its source too."""
        checked, body = self._check(item, keep_source=self._scope is WHOLE, keeps_vector=True)
        op = self._operation(store, checked, body, ANY, False, None, None)
        kept = Kept(
            updated=op.now if item.updated_at == UNSTAMPED else to_micros(item.updated_at),
            accessed=op.now if item.accessed_at == UNSTAMPED else to_micros(item.accessed_at),
            count=item.access_count,
        )
        size, space = len(op.embedding or b"") // 4, store._space
        if size and space is not None and not space.admits(embedder, size):
            raise mismatch(space, embedder, size)
        return msgspec.structs.replace(op, keep=kept, embedder=embedder)


def _some_lines(file: IO[bytes]) -> list[bytes]:
    """Up to a batch of lines; a line beyond 4 MiB comes cut, and so is refused as bad JSON, in pieces."""
    lines: list[bytes] = []
    size = 0
    while len(lines) < BATCH and size < MAX_LINE_BYTES:
        line = file.readline(MAX_LINE_BYTES)
        if not line:
            break
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        lines.append(line)
        size += len(line)
    return lines


def _parse_line(line: bytes) -> tuple[MemoryItem, str | None]:
    try:
        data: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidItem(f"this is not JSON: {error}") from None
    except RecursionError:
        raise InvalidItem(f"the record is nested deeper than {MAX_JSON_DEPTH} levels") from None
    item = from_dict(data)
    return item, data.get("embedder")


def check_file(path: Any) -> Path:
    """A path that the system can be asked about. Raises InvalidItem."""
    try:
        file = Path(path)
        if b"\0" not in os.fsencode(file):
            return file
    except (TypeError, UnicodeEncodeError):
        pass
    raise InvalidItem(f"path must be the name of a file, not {path!r}", field="path")


async def to_the_end(call: Callable[..., T], *arguments: Any) -> T:
    """Run a blocking call in a thread and wait until it has ended, also when cancelled: nothing is left half open."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _open(path: Path, mode: str, opened: list[IO[bytes]]) -> None:
    """Open a file into a list, where it is found and closed even if the task that asked was cancelled."""
    try:
        opened.append(path.open(mode))
    except OSError as error:
        raise InvalidItem(f"{path} cannot be opened: {error.strerror or error}", field="path") from None


@asynccontextmanager
async def whole_file(path: Path) -> AsyncIterator[IO[bytes]]:
    """A file that appears under its name only when complete: written beside it, fsynced, renamed, directory fsynced.

    Raises InvalidItem where no file can be put there, StorageFull.
    """
    await to_the_end(check_place, path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    opened: list[IO[bytes]] = []
    try:
        await to_the_end(_open_new, path, beside, opened)
        yield opened[0]
        await to_the_end(publish, opened[0], beside, path)
    except BaseException as error:
        await to_the_end(_discard, opened, beside)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise StorageFull(f"there is no room left for {path}; free some space", path=str(path)) from error
        raise


def check_place(path: Path) -> None:
    """Raises InvalidItem where no file can be put: its directory is not there, or what is there is no regular file."""
    if not path.parent.is_dir():
        raise InvalidItem(f"the directory {path.parent} does not exist", field="path")
    if path.exists() and not path.is_file():
        raise InvalidItem(f"{path} is not a file that can be replaced", field="path")


def check_apart(store: MemoryStore, path: Path) -> None:
    """Raises InvalidSetting for a file that the store lives in: whatever is written there would be its end."""
    try:
        lives_there = store._lives_in(path)
    except OSError:
        return  # there can be no such file, as whoever opens it is told
    if lives_there:
        raise InvalidSetting(f"{path} is a file of the memory itself; choose another name", setting="path")


def _open_new(path: Path, beside: Path, opened: list[IO[bytes]]) -> None:
    try:
        opened.append(beside.open("xb"))
    except OSError as error:
        place = beside if isinstance(error, FileExistsError) else path.parent
        raise InvalidItem(f"{path} cannot be written: {place}: {error.strerror or error}", field="path") from None


def _discard(opened: list[IO[bytes]], beside: Path) -> None:
    for file in opened:
        with suppress(OSError):  # what is still buffered has no room
            file.close()
        beside.unlink(missing_ok=True)


def publish(file: IO[bytes], beside: Path, path: Path) -> None:
    """fsync and close a file, rename it into place, fsync the directory. Blocking."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    check_place(path)  # again: a rename would put a file in place of a device or a pipe
    beside.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make a rename in this directory survive power loss. Blocking."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
