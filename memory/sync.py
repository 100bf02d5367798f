"""Synchronous twins: one guard, one private loop, one descriptor; every coroutine method gets its twin in one line.

``get_sync = blocking(get)`` keeps the parameters and the result type. A twin called from another thread runs on
the owner's home loop; an owner opened by a twin gets a private daemon thread that owns a loop.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from memory.errors import Closed, WrongLoop

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="LoopOwner")


WATCH_SECONDS = 0.5
"""How often a waiting twin looks whether its loop still exists."""


TO_OPEN = "'async with' or 'await {0}.open()', or without an event loop 'with' or '{0}.open_sync()'"
"""How what has twins is opened."""


class LoopOwner(Protocol):
    """What a twin needs: an object that knows which loop it lives on."""

    @property
    def _home(self) -> Home: ...


class Home:
    """Where an owner lives: the loop it was opened on, or a private loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._private: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def settle(self) -> None:
        """Make the running loop the home; called by the owner's open."""
        self.loop = asyncio.get_running_loop()

    def leave(self) -> None:
        """Forget the loop; called by the owner's close. A private loop stops once the twin has returned."""
        self.loop = None

    def forked(self) -> None:
        """In the child of a fork: neither the loop nor its thread came along, and the lock may be held for ever."""
        self.loop = self._thread = None
        self._lock = threading.Lock()

    @property
    def private(self) -> bool:
        """Whether a private thread owns the loop."""
        return self._thread is not None

    def run(self, start: Callable[[], Coroutine[Any, Any, R]], name: str) -> R:
        """Run a coroutine on the home loop and wait for it. Raises WrongLoop on a running loop, Closed if it is gone."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise WrongLoop(
                f"{name} was called on a running event loop, which it would block; use 'await {name.removesuffix('_sync')}(...)'"
            )
        # Under the lock, so that a private loop cannot end between the choice and the start.
        with self._lock:
            loop = self.loop or self._private_loop()
            if loop.is_closed() or not loop.is_running():
                raise _gone(name)
            future = asyncio.run_coroutine_threadsafe(start(), loop)
        try:
            return self._wait(future, loop, name)
        except BaseException:
            future.cancel()
            raise
        finally:
            if self.loop is None:
                self._stop_private()

    @staticmethod
    def _wait(future: Future[R], loop: asyncio.AbstractEventLoop, name: str) -> R:
        while True:
            try:
                return future.result(WATCH_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
                if loop.is_closed():
                    raise _gone(name) from None
            except CancelledError:
                raise _gone(name) from None

    def _private_loop(self) -> asyncio.AbstractEventLoop:
        if self._private is not None:
            return self._private
        loop = self._private = asyncio.new_event_loop()
        ready = threading.Event()

        def own() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(ready.set)
            loop.run_forever()
            with self._lock:
                # What other threads started meanwhile is cancelled, so that none of them waits for ever.
                while tasks := asyncio.all_tasks(loop):
                    for task in tasks:
                        task.cancel()
                    loop.run_until_complete(asyncio.wait(tasks))
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()

        self._thread = threading.Thread(target=own, name="memory-loop", daemon=True)
        self._thread.start()
        ready.wait()
        return loop

    def _stop_private(self) -> None:
        with self._lock:
            loop, thread = self._private, self._thread
            self._private = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _gone(name: str) -> Closed:
    return Closed(f"the event loop that owns this store is not running any more, so {name} cannot run there")


class _Twin(Generic[S, P]):
    """What both kinds of twins are: a descriptor that reads like the method it is the twin of, and binds like a function.

    Its name, text and signature are its own attributes, which a bound method shows too: so binding makes nothing but that.
    """

    def __init__(self, method: Callable[Concatenate[S, P], Any]) -> None:
        self._method = method
        # Looked up by name so that a subclass's override of the coroutine is what its twin runs.
        self._runs = method.__name__
        self.__doc__ = f"Synchronous twin of ``{self._runs}``." + (
            f"\n\n{inspect.cleandoc(method.__doc__)}" if method.__doc__ else ""
        )

    def __set_name__(self, owner: type, name: str) -> None:
        self.__name__ = name
        self.__qualname__ = f"{owner.__qualname__}.{name}"
        self.__module__ = owner.__module__

    @property
    def __signature__(self) -> inspect.Signature:
        """Made when somebody asks. No ``__wrapped__``: who follows it would take the twin for a coroutine."""
        found = inspect.signature(self._method)
        said = str(found.return_annotation)
        return found.replace(return_annotation=said.replace("Async", "", 1)) if "AsyncIterator" in said else found


class blocking(_Twin[S, P], Generic[S, P, R]):  # noqa: N801 - used like a decorator
    """The synchronous twin of a coroutine method, typed by its parameters and result.

    Raises WrongLoop at once on a running loop, Closed when the home loop has ended.
    """

    def __init__(self, method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]]) -> None:
        super().__init__(method)

    @overload
    def __get__(self, obj: None, owner: type) -> blocking[S, P, R]: ...
    @overload
    def __get__(self, obj: S, owner: type) -> Callable[P, R]: ...
    def __get__(self, obj: Any, owner: type) -> Any:
        return self if obj is None else MethodType(self, obj)

    def __call__(self, obj: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The twin of an object, as a function of its class."""
        owner: Any = obj
        method = getattr(owner, self._runs)
        result: R = owner._home.run(lambda: method(*args, **kwargs), self.__name__)
        return result


class blocking_iterator(_Twin[S, P], Generic[S, P, R]):  # noqa: N801 - used like a decorator
    """The synchronous twin of a method that returns an async iterator: an iterator that fetches step by step."""

    def __init__(self, method: Callable[Concatenate[S, P], AsyncIterator[R]]) -> None:
        super().__init__(method)

    @overload
    def __get__(self, obj: None, owner: type) -> blocking_iterator[S, P, R]: ...
    @overload
    def __get__(self, obj: S, owner: type) -> Callable[P, Iterator[R]]: ...
    def __get__(self, obj: Any, owner: type) -> Any:
        return self if obj is None else MethodType(self, obj)

    def __call__(self, obj: S, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        """The twin of an object, as a function of its class."""
        owner: Any = obj
        return _iterate(owner._home, getattr(owner, self._runs)(*args, **kwargs), self.__name__)


_END: Any = object()


def _iterate(home: Home, source: AsyncIterator[R], name: str) -> Iterator[R]:
    async def step() -> R:
        return await anext(source, _END)

    async def finish() -> None:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()

    try:
        while (value := home.run(step, name)) is not _END:
            yield value
    finally:
        home.run(finish, name)


class Opens(ABC):
    """What is opened and closed, by ``async with`` on a running loop, by ``with`` without one."""

    @property
    @abstractmethod
    def _home(self) -> Home:
        """Which loop it lives on."""

    @abstractmethod
    async def open(self) -> Self:
        """Open it on the running loop."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything; again is harmless."""

    def open_sync(self) -> Self:
        """Synchronous twin of ``open``: a private thread owns the loop until ``close_sync``."""
        return self._home.run(self.open, "open_sync")

    close_sync = blocking(close)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __enter__(self) -> Self:
        self.open_sync()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_sync()
