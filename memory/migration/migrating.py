"""``migrate``: plan, move, follow, compare, report."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory.errors import InvalidSetting, UnsupportedOperation
from memory.migration.comparing import Comparison
from memory.migration.journal import Done, End, Header, Journal, Moving, Round
from memory.migration.moving import Batch, Entry, Mover, Throttle, resolve
from memory.migration.options import Options, default_state
from memory.migration.output import check_places, write_report
from memory.migration.places import addresses_apart, opened
from memory.migration.planning import plan
from memory.migration.putting import Putting
from memory.migration.report import MigrationReport, Plan
from memory.migration.sources import Source, StoreSource, abandoned, pages
from memory.migration.state import State, load
from memory.ops import Position
from memory.store import View
from memory.store.transfer import to_the_end
from memory.sync import Home
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.migration.records import Pair, Vectors
    from memory.migration.report import OnConflict
    from memory.model import Key
    from memory.store import MemoryStore
    from memory.store.bound import Namespace

Told = Callable[[str, int, int | None], None]
"""Called now and then with the phase (planning, moving, comparing), the items done in it, and how many there are."""
_log = get_logger("migration")


async def migrate(
    source: MemoryStore | View | str,
    target: MemoryStore | str,
    *,
    namespace: Namespace | None = None,
    under: Namespace | None = None,
    where: Where = None,
    vectors: Vectors = "copy",
    on_conflict: OnConflict = "refuse",
    skip_refused: bool = False,
    batch_size: int = 500,
    throttle: float | None = None,
    validate: bool = True,
    sample_size: int | None = None,
    dry_run: bool = False,
    state: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    progress: Told | None = None,
) -> MigrationReport:
    """Move all live items of a store, or a part of them, into another one, and prove that they arrived.

    Source and target are stores (open, or opened and closed here) or what ``create_store`` takes. Ids, times, expiry,
    access counts and sources are kept; the target issues its own versions. ``vectors``: "copy" (refused where the target
    is for vectors of another embedder), "reembed" (made anew by the target's embedder) or "drop".

    First all is planned, and nothing is written if the target cannot hold an item (``skip_refused``: the rest is moved) or
    holds something else under its key: ``on_conflict`` "refuse"; "skip" leaves the target's, "newer" writes where
    the source's ``updated_at`` is later, "replace" always. Nothing is overwritten that somebody writes meanwhile.

    At the end what changed at the source meanwhile is followed, and all of both sides is compared (``sample_size``:
    so many items at random; ``validate=False``: none). ``state`` is the journal: with it the same call goes on after a
    crash, and ``rollback`` undoes everything; by default a file in the working directory. ``output``: a file for the
    report with all findings, as JSON; of the files that are there it replaces an earlier report only. ``throttle``: items a second. The same call again moves what has changed.

    Raises what the stores raise; InvalidSetting; CorruptData (the journal); AlreadyExists (another run is under way, or
    another file is in the way of ``output``).
    """
    options = Options(
        namespace=namespace,
        under=under,
        where=where,
        vectors=vectors,
        on_conflict=on_conflict,
        skip_refused=skip_refused,
        batch_size=batch_size,
        throttle=throttle,
        validate=validate,
        sample_size=sample_size,
    )
    options.check()
    if isinstance(target, View):
        raise UnsupportedOperation(
            "a migration goes into a whole store, not into a view; keep to a part by under= or where="
        )
    async with AsyncExitStack() as stack:
        whole = await stack.enter_async_context(
            opened(source._store if isinstance(source, View) else source, reads=True)
        )
        into = await stack.enter_async_context(opened(target))
        ends = addresses_apart(whole, into)
        bound = source if isinstance(source, View) else whole
        reader = StoreSource(bound, namespace=namespace, under=under, where=where)
        question = options.question()
        if isinstance(bound, View):
            scope = bound._scope
            question["view"] = [list(scope.path), scope.below, scope.user_id, scope.agent_id, scope.session_id]
        run = Run(reader, into, ends, options, question, progress)
        return await run.conduct(state, output, dry_run=dry_run)


def migrate_sync(source: MemoryStore | View | str, target: MemoryStore | str, **options: Any) -> MigrationReport:
    """Synchronous twin of ``migrate``. Stores that are open already live on loops of their own: name them, or give
    closed ones. Raises WrongLoop."""
    return Home().run(partial(migrate, source, target, **options), "migrate_sync")


class Run:
    """One call of ``migrate``."""

    def __init__(
        self,
        reader: Source,
        into: MemoryStore,
        addresses: tuple[str, str],
        options: Options,
        question: dict[str, Any],
        progress: Told | None,
    ) -> None:
        self.reader, self.into, self.options, self.question = reader, into, options, question
        self.source, self.target = addresses
        self.tell = progress or (lambda phase, done, total: None)
        self.putting = Putting(into, options.vectors)

    async def conduct(
        self, state: str | os.PathLike[str] | None, output: str | os.PathLike[str] | None, *, dry_run: bool
    ) -> MigrationReport:
        """All of it, or the plan; the journal is at ``state``."""
        path = default_state(self.source, self.target, self.question) if state is None else Path(state)
        path = await asyncio.to_thread(path.absolute)
        stores = [self.into, *([self.reader.whole] if isinstance(self.reader, StoreSource) else [])]
        await asyncio.to_thread(check_places, stores, path, None if output is None else Path(output))
        if not dry_run:
            return await self.go(path, output)
        folder = Path(await to_the_end(partial(tempfile.mkdtemp, prefix="memory-migration-")))
        try:
            return await self.rehearse(path, folder / "plan.jsonl", output)
        finally:
            await to_the_end(shutil.rmtree, folder)

    async def rehearse(self, path: Path, scratch: Path, output: str | os.PathLike[str] | None) -> MigrationReport:
        """A dry run: the plan, from what the journal remembers, told to a journal that is thrown away."""
        state = State()
        if await asyncio.to_thread(path.exists):
            state, _ = await load(path)
            self._check(state, path)
        async with Journal(scratch) as journal:
            mover = self._mover(journal, state)
            mover.note(Round(at=self.into._clock(), options=self.options.policy()))
            state.place = state.moving = state.comparing = 0
            told = await self._plan(mover)
            report = self._report(state, told, None, resumed=False)
            if output is not None:
                await journal.sync()
                await write_report(Path(output), report, scratch, state)
        return report

    async def go(self, path: Path, output: str | os.PathLike[str] | None) -> MigrationReport:
        """Plan or resume, move, compare."""
        started = time.monotonic()
        async with Journal(path) as journal:
            state, size = await load(path)
            self._check(state, path)
            await journal.cut(size)
            if state.header is None:
                header = Header(source=self.source, target=self.target, question=self.question)
                state.take(journal.hold(header), header)
            await resolve(self.into, journal, state, self.options.vectors)
            mover = self._mover(journal, state)
            resumed = self._goes_on(state)
            if not resumed:
                await self._begin(mover)
            told = state.plan
            assert told is not None  # resumed, or just made
            comparison = Comparison(self.reader, mover, self.options.size, partial(self._told, "comparing", told.items))
            if told.stopped is None:
                if told.writes and state.comparing <= state.moving:
                    await self._move(mover, told)
                await self._compare(mover, comparison)
            report = self._report(state, told, path, resumed=resumed)
            report.compared, report.meanwhile = comparison.compared, comparison.meanwhile
            if self._validation == "full" and told.stopped is None:
                report.others = comparison.others
            report.seconds = round(time.monotonic() - started, 3)
            await journal.sync()
            if output is not None:
                await write_report(Path(output), report, path, state)
            ended = End(ok=report.ok)
            state.take(journal.hold(ended), ended)
            await journal.sync()
        _log.info(
            "migrated", backend=self.into.name, ok=report.ok, items=report.written, differences=report.differences
        )
        return report

    def _goes_on(self, state: State) -> bool:
        """Whether an earlier run was under way that was asked for the same."""
        round, told = state.round, state.plan
        return (
            round is not None and told is not None and told.stopped is None and round.options == self.options.policy()
        )

    @property
    def _validation(self) -> str:
        if not self.options.validate:
            return "none"
        return "full" if self.options.sample_size is None else "sample"

    def _told(self, phase: str, total: int | None, done: int) -> None:
        self.tell(phase, done, total)

    def _mover(self, journal: Journal, state: State) -> Mover:
        throttle = Throttle(self.options.throttle)
        return Mover(self.into, journal, state, self.putting, self.options.on_conflict, throttle)

    def _check(self, state: State, path: Path) -> None:
        """Raises InvalidSetting for the journal of another migration."""
        header = state.header
        if header is None:
            return
        for name, ours in (("source", self.source), ("target", self.target), ("question", self.question)):
            if getattr(header, name) != ours:
                what = "another part, or other vectors" if name == "question" else f"another {name}"
                raise InvalidSetting(
                    f"the journal {path} belongs to a migration of {what}; name another file", setting="state"
                )

    async def _begin(self, mover: Mover) -> None:
        """A new round: where the feed stands, then the plan."""
        head = await self.reader.feed_head()
        mover.note(Round(at=self.into._clock(), options=self.options.policy(), feed=head))
        told = await self._plan(mover)
        await mover.journal.sync()
        mover.note(told)
        await mover.journal.sync()

    async def _plan(self, mover: Mover) -> Plan:
        total = await self.reader.count()
        options = self.options
        return await plan(
            self.reader,
            mover,
            policy=options.on_conflict,
            skip_refused=options.skip_refused,
            size=options.batch_size,
            throttle=options.throttle,
            progress=partial(self._told, "planning", total),
        )

    async def _move(self, mover: Mover, told: Plan) -> None:
        """Write everything, in key order, from where an earlier run stopped."""
        state, journal = mover.state, mover.journal
        if state.position is None:
            mover.note(Moving())
        mover.fresh = state.index.empty
        done = sum(state.done.values())  # by earlier runs; what was there already they did not count

        async def write(batch: Batch, last: Key, count: int) -> None:
            nonlocal done
            _, left = await mover.write(batch)
            for one in left:
                mover.find(one.kind, one.entry.key, one.why)
            mover.note(Done(at=Position(*last)))
            if left:
                await journal.sync()
            done += count
            self.tell("moving", done, told.items)

        # Where nothing of the plan was in the target, what is written is not looked up first: it is only written if absent.
        empty = told.create + told.refused == told.items
        writing: asyncio.Task[None] | None = None
        try:
            async with aclosing(pages(self.reader, state.position, self.options.size)) as stream:
                async for pairs in stream:
                    entries = await self._entries(mover, pairs, empty)
                    batch = await mover.prepare(entries)  # while the batch before is written
                    if writing is not None:
                        await writing
                    writing = asyncio.create_task(write(batch, entries[-1].key, len(entries)))
            if writing is not None:
                await writing
        finally:
            mover.fresh = False
            if writing is not None:
                await abandoned(writing)

    async def _entries(self, mover: Mover, pairs: list[Pair], empty: bool) -> list[Entry]:
        """What both sides hold under the keys of a page."""
        keys = [item.key for _, item in pairs]
        known = keys
        if empty:
            known = [] if mover.fresh else [key for key in keys if mover.state.index.find(key) is not None]
        held = dict(zip(known, await mover.held(known), strict=True))
        return [Entry(key, pair, held.get(key)) for key, pair in zip(keys, pairs, strict=True)]

    async def _compare(self, mover: Mover, comparison: Comparison) -> None:
        """Follow the source, and compare."""
        round, how = mover.state.round, self._validation
        feed = None if round is None else round.feed
        covered = how == "full"
        if feed is not None:
            feed = await comparison.replay(feed, covered=covered)
        if how == "full":
            await comparison.full(self.reader.counterpart(self.into))
        elif self.options.sample_size is not None:
            await comparison.sample(self.options.sample_size)
        if feed is not None:
            await comparison.replay(feed, covered=covered)

    def _report(self, state: State, told: Plan, path: Path | None, *, resumed: bool) -> MigrationReport:
        report = MigrationReport(
            source=self.source,
            target=self.target,
            state=None if path is None else str(path),
            dry_run=path is None,
            resumed=resumed,
            plan=told,
            created=state.done["create"],
            updated=state.done["update"],
            replaced=state.done["replace"],
            removed=state.done["remove"],
            unlisted=state.found["unlisted"],
            expired=state.found["expired"],
            refused=state.found["refused"],
            conflicts=state.found["conflict"],
            differences=state.found["difference"],
            findings=list(state.findings),
        )
        if path is not None and told.stopped is None:
            report.validation = self._validation  # type: ignore[assignment]
        return report
