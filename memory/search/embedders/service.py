"""From an embedder to vectors one may rely on: batched, cached, checked, off the loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import sys
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memory.errors import (
    Closed,
    EmbeddingFailed,
    EmbeddingMismatch,
    InvalidItem,
    InvalidSetting,
    MemoryStoreError,
    WrongLoop,
)
from memory.search.embedders.base import Embedder, checked_vector
from memory.search.embedders.worker import Worker
from memory.turns import is_due, pause

if TYPE_CHECKING:
    import numpy as np

WINDOW = 256
"""Most texts of one call that wait at once, so that a call of any size is prepared in short steps."""
CACHED_CHARACTERS = 2_048
"""Longer texts are not cached: queries come again, and they are short."""
_CLOSED = "the embedder was closed with its store; open the store again"
_WRONG_LOOP = "an embedding service belongs to the event loop that used it first; make one for each loop"


class _Text:
    """A text on its way, and the calls that wait for it."""

    __slots__ = ("begun", "calls", "outcome", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.begun = False
        self.calls: set[_Call] = set()
        self.outcome: Any = None
        """The vector, or the error."""


class _Call:
    """One caller: what it still waits for, and what of that no batch has taken yet."""

    __slots__ = ("future", "missing", "waiting")

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future
        self.missing = 0
        self.waiting: deque[_Text] = deque()


class EmbeddingService:
    """Embeds texts with one embedder, for one event loop.

    Concurrent calls of one turn of the loop, and all that wait while a batch runs, become one call of the embedder with
    at most ``max_batch`` texts; callers take turns, so a long list does not keep a query waiting. Equal texts are
    embedded once; the last ``cached_texts`` are remembered. The embedder's failure is the failure of that batch's
    callers; the next batch is tried anew. A caller that is cancelled leaves the batch to the others.
    """

    def __init__(self, embedder: Embedder, *, max_batch: int = 64, cached_texts: int = 2_048) -> None:
        if max_batch < 1 or cached_texts < 0:
            raise InvalidSetting("max_batch must be 1 or more, cached_texts 0 or more", setting="embedder")
        self.embedder = embedder
        self._max_batch = max_batch
        self._cached_texts = cached_texts
        self._dimension: int | None = None
        self._cache: dict[str, np.ndarray] = {}  # least recently used first
        self._texts: dict[str, _Text] = {}
        self._queue: deque[_Call] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._worker = Worker()
        self._home: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._prepared: asyncio.Task[None] | None = None
        self._closed = False
        self._on_loop = bool(getattr(embedder, "on_loop", False))
        self._async = inspect.iscoroutinefunction(embedder.embed)

    @property
    def name(self) -> str:
        """The embedder's identity. Some read files to know it: `prepare` first, on a loop."""
        return self.embedder.name

    @property
    def semantic(self) -> bool:
        """Whether nearness means likeness of meaning."""
        return self.embedder.semantic

    @property
    def dimension(self) -> int | None:
        """Components of each vector; None until the embedder says or shows it."""
        return self._dimension if self._dimension is not None else self.embedder.dimension

    async def prepare(self) -> None:
        """Let the embedder find out its name and refuse what cannot work, without loading a model.

        Called by `embed` too. Raises what `embed` raises, and InvalidSetting for a model that is not there.
        """
        self._enter()
        if self._prepared is None or (self._prepared.done() and _failed(self._prepared)):
            self._prepared = _task(self._prepare())
        preparing = self._prepared
        await asyncio.wait({preparing})  # which leaves the task to the others when this caller is cancelled
        if preparing.cancelled():
            raise Closed(_CLOSED)
        if error := preparing.exception():
            raise _again(error) if isinstance(error, MemoryStoreError) else error

    async def embed(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One read-only vector (dimension,), float32, for each text.

        Raises EmbeddingFailed (the embedder raised, or answered with what is no vector), EmbeddingMismatch (with
        another dimension than before), BackendUnavailable (it cannot be used here), WrongLoop, Closed.
        """
        self._enter()
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InvalidItem("texts must be a sequence of str", field="texts")
        if self._prepared is None or not self._prepared.done() or _failed(self._prepared):
            await self.prepare()
        embed = self._embed_here if self._on_loop else self._embed_batched
        if len(texts) <= WINDOW:
            return await embed(texts)
        vectors: list[np.ndarray] = []
        for start in range(0, len(texts), WINDOW):
            vectors += await embed(texts[start : start + WINDOW])
            await asyncio.sleep(0)
        return vectors

    async def close(self) -> None:
        """End the thread and let go of connections; callers that still wait get Closed. Any number of times."""
        if self._closed:
            return
        home = self._home[0] if self._home is not None else asyncio.get_running_loop()
        if home is not asyncio.get_running_loop() and not home.is_closed():
            raise WrongLoop(_WRONG_LOOP)
        self._closed = True
        self._worker.stop()
        if home.is_closed():
            return
        tasks = [task for task in (self._runner, self._prepared) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._cache.clear()
        release = getattr(self.embedder, "release", None)
        if release is not None:
            await release()

    def _enter(self) -> None:
        if self._closed:
            raise Closed(_CLOSED)
        here = (asyncio.get_running_loop(), os.getpid())
        if self._home is None:
            self._home = here
        elif self._home != here:
            raise WrongLoop(_WRONG_LOOP)

    async def _prepare(self) -> None:
        if "numpy" not in sys.modules:
            await self._worker.run(__import__, "numpy")
        prepare = getattr(self.embedder, "prepare", None)
        if prepare is not None:
            try:
                await self._worker.run(prepare)
            except MemoryStoreError:
                raise
            except Exception as error:
                raise self._failure(error) from error

    # --- on the loop -------------------------------------------------------------------------------

    async def _embed_here(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = {text: self._cached(text) for text in texts}
        new = [text for text, vector in found.items() if vector is None]
        if new:
            steps = self.embedder.steps(new)  # type: ignore[attr-defined]  # promised by on_loop
            lone = len(new) == 1 and len(new[0]) <= CACHED_CHARACTERS  # that takes microseconds
            try:
                while True:
                    next(steps)
                    if not lone and is_due():
                        await pause()
            except StopIteration as done:
                answer = done.value
            except Exception as error:
                raise self._failure(error) from error
            for text, outcome in zip(new, await self._check(answer, len(new)), strict=True):
                if isinstance(outcome, MemoryStoreError):
                    raise outcome
                self._remember(text, outcome)
                found[text] = outcome
        return [found[text] for text in texts]  # type: ignore[misc]  # none is None any more

    # --- in batches --------------------------------------------------------------------------------

    async def _embed_batched(self, texts: Sequence[str]) -> list[np.ndarray]:
        found: dict[str, Any] = {}
        coming: dict[str, _Text] = {}
        call: _Call | None = None
        for text in texts:
            if text in found or text in coming:
                continue
            vector = self._cached(text)
            if vector is not None:
                found[text] = vector
                continue
            if call is None:
                call = _Call(asyncio.get_running_loop().create_future())
            one = self._texts.get(text)
            if one is None:
                one = self._texts[text] = _Text(text)
            one.calls.add(call)
            coming[text] = one
            call.missing += 1
            if not one.begun:
                call.waiting.append(one)
        if call is not None:
            await self._wait(call, coming)
            for text, one in coming.items():
                if isinstance(one.outcome, MemoryStoreError):
                    raise _again(one.outcome)
                found[text] = one.outcome
        return [found[text] for text in texts]

    async def _wait(self, call: _Call, coming: dict[str, _Text]) -> None:
        if call.waiting:
            self._queue.append(call)
            if self._runner is None:
                self._runner = _task(self._run())
        try:
            await call.future
        finally:
            if call.missing:  # cancelled: what nobody else wants, and no batch has taken, is dropped
                for text, one in coming.items():
                    one.calls.discard(call)
                    if not one.calls and not one.begun and self._texts.get(text) is one:
                        del self._texts[text]

    def _take(self) -> list[_Text]:
        """The next batch: one text of each waiting call in turn."""
        batch: list[_Text] = []
        while self._queue and len(batch) < self._max_batch:
            call = self._queue.popleft()
            if call.future.done():
                continue
            while call.waiting:
                one = call.waiting.popleft()
                if not one.begun:
                    one.begun = True
                    batch.append(one)
                    break
            if call.waiting:
                self._queue.append(call)
        return batch

    async def _run(self) -> None:
        batch: list[_Text] = []
        try:
            while batch := self._take():
                outcomes = await self._outcomes([one.text for one in batch])
                for one, outcome in zip(batch, outcomes, strict=True):
                    self._finish(one, outcome)
                # An embedder that had nothing to wait for would keep the loop, batch after batch.
                await asyncio.sleep(0)
        finally:
            self._runner = None
            for one in list(self._texts.values()):  # after a cancellation: nobody is left waiting
                self._finish(one, Closed(_CLOSED))
            self._queue.clear()

    def _finish(self, one: _Text, outcome: Any) -> None:
        if self._texts.get(one.text) is one:
            del self._texts[one.text]
        one.outcome = outcome
        if not isinstance(outcome, MemoryStoreError):
            self._remember(one.text, outcome)
        for call in one.calls:
            call.missing -= 1
            if not call.missing and not call.future.done():
                call.future.set_result(None)

    async def _outcomes(self, texts: list[str]) -> Sequence[Any]:
        """A vector or an error for each text of a batch."""
        try:
            answer = await self._answer(texts)
            return await self._check(answer, len(texts))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return [self._failure(error)] * len(texts)  # something within the embedder was cancelled, not we
        except MemoryStoreError as error:
            return [error] * len(texts)
        except Exception as error:  # noqa: BLE001 - whatever a stranger's embedder raises belongs to this batch
            return [self._failure(error)] * len(texts)

    async def _answer(self, texts: list[str]) -> Any:
        if self._async:
            return await self.embedder.embed(texts)  # type: ignore[misc]  # a coroutine function
        answer = await self._worker.run(self.embedder.embed, texts)
        return await answer if inspect.isawaitable(answer) else answer

    async def _check(self, answer: Any, texts: int) -> list[Any]:
        """A vector or an error for each row of the embedder's answer, in slices."""
        try:
            count = len(answer)
        except TypeError:
            raise EmbeddingFailed(
                f"the embedder {self.name!r} answered with {type(answer).__name__}, not with a vector for each text",
                embedder=self.name,
            ) from None
        if count != texts:
            raise EmbeddingFailed(
                f"the embedder {self.name!r} answered {texts} texts with {count} vectors", embedder=self.name
            )
        outcomes: list[Any] = []
        for row in answer:
            try:
                outcomes.append(self._of_one_dimension(checked_vector(row, self.name)))
            except MemoryStoreError as error:
                outcomes.append(error)
            if count > 1 and is_due():
                await pause()
        return outcomes

    def _of_one_dimension(self, vector: np.ndarray) -> np.ndarray:
        expected = self.dimension
        if expected is None:
            expected = self._dimension = len(vector)
        if len(vector) != expected:
            raise EmbeddingMismatch(
                f"the embedder {self.name!r} answered with a vector of {len(vector)} numbers, and gives {expected}; "
                "is it another model by now?",
                expected=expected,
                actual=len(vector),
            )
        return vector

    def _failure(self, cause: BaseException) -> MemoryStoreError:
        # Not the cause's own words: they may quote what was to be remembered.
        message = f"the embedder {self.name!r} failed with {type(cause).__name__}; this error's __cause__ says more"
        error = EmbeddingFailed(message, embedder=self.name)
        error.__cause__ = cause
        return error

    # --- cache -------------------------------------------------------------------------------------

    def _cached(self, text: str) -> np.ndarray | None:
        vector = self._cache.pop(text, None)
        if vector is not None:
            self._cache[text] = vector
        return vector

    def _remember(self, text: str, vector: np.ndarray) -> None:
        if len(text) <= CACHED_CHARACTERS and self._cached_texts:
            self._cache[text] = vector
            if len(self._cache) > self._cached_texts:
                del self._cache[next(iter(self._cache))]


def _task(coroutine: Any) -> asyncio.Task[None]:
    """A task that outlives its caller, outside the caller's context: a batch belongs to nobody in particular."""
    return asyncio.get_running_loop().create_task(coroutine, context=contextvars.Context())


def _failed(task: asyncio.Task[None]) -> bool:
    return task.cancelled() or task.exception() is not None


def _again(error: MemoryStoreError) -> MemoryStoreError:
    """The same error for one more caller: raising one instance in several tasks would mix their tracebacks."""
    copy = type(error)(error.message, **{name: fact for name, fact in vars(error).items() if name != "message"})
    copy.__cause__ = error.__cause__
    return copy
