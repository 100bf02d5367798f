"""Old data into a store: the engine of every migration, with old entries as its source."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode

from memory.errors import InvalidSetting
from memory.migration.capabilities.source import EntrySource, Reader
from memory.migration.migrating import Run, Told
from memory.migration.options import Options
from memory.migration.output import check_places, write_list
from memory.migration.places import address_of, opened
from memory.migration.records import differing, expected
from memory.migration.report import Finding, MigrationReport, Plan
from memory.migration.sources import pages
from memory.model import DEFAULT_NAMESPACE, check_namespace
from memory.ops import Read
from memory.registry import BACKENDS, named
from memory.sync import Home

if TYPE_CHECKING:
    from memory.migration.records import Vectors
    from memory.migration.report import OnConflict
    from memory.ops import Row
    from memory.store import MemoryStore
    from memory.store.bound import Namespace

_MISSING = "it is not in the target"


async def import_capabilities(
    source: str | os.PathLike[str],
    target: MemoryStore | str,
    *,
    namespace: Namespace = DEFAULT_NAMESPACE,
    vectors: Vectors = "copy",
    model: str | None = None,
    on_conflict: OnConflict = "refuse",
    batch_size: int = 500,
    throttle: float | None = None,
    dry_run: bool = False,
    verify_only: bool = False,
    state: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    progress: Told | None = None,
) -> MigrationReport:
    """Move all live entries of `capabilities.memory` into a namespace of a store, and prove that they arrived.

    ``source`` is where they lie: ``redis://host:6379/0?prefix=memory``, ``postgresql://host/database?schema=public&table=memory``,
    or the folder of the vector store. ``model`` made the vectors of a folder. Keys become ids, types kinds; see
    memory.migration.capabilities.entries. Everything else is as for ``memory.migration.migrate``: nothing is written while
    the target holds something else under a key, a second run changes nothing, ``state`` resumes and undoes.

    What is no entry stays behind and is told (``unlisted``), as is what has expired (``expired``). ``verify_only`` writes
    nothing and compares all of the source with the target; ``dry_run`` tells the plan.

    Raises what the target raises; InvalidSetting, BackendUnavailable (the source); CorruptData, AlreadyExists (the journal).
    """
    options = Options(
        vectors=vectors, on_conflict=on_conflict, skip_refused=True, batch_size=batch_size, throttle=throttle
    )
    options.check()
    path = check_namespace(namespace)
    if dry_run and verify_only:
        raise InvalidSetting("give dry_run or verify_only, not both", setting="verify_only")
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(await asyncio.to_thread(_reader_of, source, model))
        into = await stack.enter_async_context(opened(target, reads=verify_only))
        entries = EntrySource(reader, path)
        question = {**options.question(), "system": "capabilities", "into": list(path)}
        run = Run(entries, into, (reader.address, address_of(into)), options, question, progress)
        if not verify_only:
            return await run.conduct(state, output, dry_run=dry_run)
        if output is not None:
            await asyncio.to_thread(check_places, [into], None, Path(output))
        report = await _verified(run, entries)
        if output is not None:
            await write_list(Path(output), report)
        return report


def import_capabilities_sync(
    source: str | os.PathLike[str], target: MemoryStore | str, **options: Any
) -> MigrationReport:
    """Synchronous twin of ``import_capabilities``; name the target, or give a store that is not open."""
    return Home().run(partial(import_capabilities, source, target, **options), "import_capabilities_sync")


async def _verified(run: Run, entries: EntrySource) -> MigrationReport:
    """All of the source beside the target."""
    vectors, embedder = run.options.vectors, run.putting.embedder
    found: list[Finding] = []
    told = Plan()
    async with aclosing(pages(entries, None, run.options.size)) as stream:
        async for pairs in stream:
            keys = tuple(item.key for _, item in pairs)
            rows: list[Row | None] = await run.into._do_read(Read(keys=keys, now=run.into._clock()))
            async for part in run.into._slices(list(zip(keys, pairs, rows, strict=True))):
                for key, pair, row in part:
                    fields = () if row is None else differing(expected(pair, vectors, embedder), row, vectors)
                    if row is None or fields:
                        why = _MISSING if row is None else "the target holds it differently"
                        found.append(Finding(kind="difference", key=key, why=why, fields=fields))
            told.items += len(pairs)
            told.unchanged = told.items - len(found)
            run.tell("comparing", told.items, None)
    behind = await entries.unlisted()
    told.unlisted = sum(one.kind == "unlisted" for one in behind)
    return MigrationReport(
        source=run.source,
        target=run.target,
        state=None,
        dry_run=False,
        resumed=False,
        plan=told,
        validation="full",
        compared=told.items,
        differences=len(found),
        unlisted=told.unlisted,
        expired=len(behind) - told.unlisted,
        findings=[*behind, *found],
    )


def _reader_of(source: str | os.PathLike[str], model: str | None) -> Any:
    """The reader of a source, not yet open. Raises InvalidSetting, BackendUnavailable (its driver is missing)."""
    text = os.fspath(source)
    scheme, found, _ = text.partition("://")
    if not found or scheme == "file":
        from memory.migration.capabilities.folder import MODEL, FolderReader

        return FolderReader(unquote(text.removeprefix("file://")) if found else text, model or MODEL)
    if model is not None:
        raise InvalidSetting("model= is for a folder of vectors; there are none here", setting="model")
    if scheme in BACKENDS["redis"].schemes:
        named("redis")
        from memory.migration.capabilities.redis import RedisReader

        return _with_options(RedisReader, text, ("prefix",))
    if scheme in BACKENDS["postgres"].schemes:
        named("postgres")
        from memory.migration.capabilities.postgres import PostgresReader

        return _with_options(PostgresReader, text, ("schema", "table"))
    raise InvalidSetting(
        f"old entries lie in Redis (redis://), in Postgres (postgresql://) or in a folder, not at {scheme}://",
        setting="source",
    )


def _with_options(kind: Any, url: str, names: tuple[str, ...]) -> Reader:
    """A reader made of an address, some of whose query is for the reader and the rest for the driver."""
    place, _, query = url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    own = {name: value for name, value in pairs if name in names}
    rest = urlencode([pair for pair in pairs if pair[0] not in names])
    reader: Reader = kind(f"{place}?{rest}" if rest else place, **own)
    return reader
