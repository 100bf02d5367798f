"""``faiss``: the sqlite store with another index of its vectors, which FAISS looks through."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import faiss  # noqa: F401 - here, so that a missing driver is told when the backend is chosen

from memory.backends.faiss.cache import FaissCache
from memory.backends.faiss.index import FaissIndex
from memory.backends.sqlite.backend import SqliteStore
from memory.backends.sqlite.faults import ENGINE_ERRORS
from memory.backends.sqlite.spaces import VectorState
from memory.backends.sqlite.vectorcache import EXACT, VectorCache
from memory.backends.sqlite.workers import Worker
from memory.errors import InvalidSetting
from memory.ops import Hybrid, Mixed, Nearest, Row
from memory.search.vectors import cosines, matrix
from memory.store import Capabilities
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.search.embedders.base import Embedder

_log = get_logger("faiss")
MODEL = "sentence-transformers:all-MiniLM-L6-v2"
"""Makes the vectors where the extra ``semantic`` is installed and no embedder is named."""


class FaissStore(SqliteStore):
    """Memories in one SQLite file, their vectors found by FAISS: for a hundred thousand of them and more.

    The file is that of ``sqlite``, and either store opens it. Beside it lies the index, a cache that is made anew whenever it
    is missing, damaged or of another time. ``exact``: up to so many vectors are held in memory and compared one by one.
    ``embedder``: without one, and without ``dimension``, a sentence-transformers model where that is installed.
    ``ivf``: train lists of vectors that are near each other, and look through the lists that are near what is searched for.
    ``similarity_threshold``: a search by vector finds nothing less near (a cosine from -1 to 1). Further options as in SqliteStore.
    """

    name = "faiss"
    capabilities: ClassVar[Capabilities] = SqliteStore.capabilities
    page_cache_kib: ClassVar[int] = 8_192
    """Codes of a million take the rest of what is promised."""

    def __init__(
        self,
        path: str | os.PathLike[str] = "memory.db",
        *,
        exact: int = EXACT,
        ivf: bool = False,
        similarity_threshold: float | None = None,
        embedder: Embedder | str | Callable[..., Any] | None = "default",
        **options: Any,
    ) -> None:
        if type(exact) is not int or exact < 0:
            raise InvalidSetting(f"exact must be a number of vectors, not {exact!r}", setting="exact")
        if type(ivf) is not bool:
            raise InvalidSetting(f"ivf must be true or false, not {ivf!r}", setting="ivf")
        known = similarity_threshold is None or type(similarity_threshold) in (int, float)
        if not known or (similarity_threshold is not None and not -1 <= similarity_threshold <= 1):
            raise InvalidSetting(
                f"similarity_threshold must be a cosine from -1 to 1, not {similarity_threshold!r}",
                setting="similarity_threshold",
            )
        self.exact = exact
        self.ivf = ivf
        self.similarity_threshold = similarity_threshold
        self._merger: Worker | None = None
        self._by_default = embedder == "default"
        if self._by_default:
            embedder = self._default_embedder() if options.get("dimension") is None else None
        super().__init__(path, embedder=embedder, **options)

    @classmethod
    def _default_embedder(cls) -> str | None:
        """A sentence-transformers model where the extra ``semantic`` is installed."""
        return MODEL if find_spec("sentence_transformers") is not None else None

    def _cache(self) -> FaissCache:
        return FaissCache(lambda: self._file, self.exact, self.ivf, self._ask_merger)

    async def _open(self) -> None:
        if self._by_default and self.embedder is not None:
            _log.info("no embedder is named: this one makes the vectors", embedder=MODEL)
        await super()._open()

    def _notice(self, state: VectorState) -> None:
        super()._notice(state)
        if isinstance(self._vectors, FaissCache):
            self._vectors.noticed(state)

    async def _nearest(self, op: Nearest) -> list[Row]:
        rows = await super()._nearest(op)
        least = self.similarity_threshold
        if least is None or not rows:
            return rows
        scores = cosines(op.vector, matrix([row.embedding or b"" for row in rows], len(op.vector) // 4))
        return [row for row, score in zip(rows, scores.tolist(), strict=True) if score >= least]

    async def _hybrid(self, op: Hybrid) -> Mixed | None:
        return await super()._hybrid(op) if self.similarity_threshold is None else None

    def _lives_in(self, path: Path) -> bool:
        place = path.resolve()
        own = Path(self._file).resolve()
        return super()._lives_in(path) or (place.parent == own.parent and place.name.startswith(f"{own.name}-faiss"))

    async def _health(self) -> dict[str, Any]:
        index = self._vectors.known
        facts = None
        if isinstance(index, FaissIndex):
            generation = index.generation
            facts = {
                "generation": generation.manifest.generation,
                "vectors": generation.count,
                "lists": generation.manifest.lists,
                "since": index.tail.count,
            }
        return {**await super()._health(), "index": facts}

    # --- merging -------------------------------------------------------------------------------

    def _ask_merger(self) -> None:
        """From any thread: merge when the merger's thread gets to it."""
        if self._writer is None:
            return
        if self._merger is None:
            self._merger = Worker("faiss-merger", self._connect_reader)
        self._merger.post(partial(self._merge, self._merger, self._vectors))

    def _merge(self, worker: Worker, vectors: VectorCache) -> None:
        assert isinstance(vectors, FaissCache)
        try:
            vectors.merge(worker.connected(), lambda: worker.stopping)
        except ENGINE_ERRORS as error:
            _log.warning("index not merged", path=self.path, error=error)

    async def _close(self) -> None:
        if isinstance(self._vectors, FaissCache) and self._vectors.changed:
            self._ask_merger()  # so that the next open finds an index
        merger, self._merger = self._merger, None
        try:
            if merger is not None:
                merger.stop()
                await merger.stopped()
        finally:
            await super()._close()
