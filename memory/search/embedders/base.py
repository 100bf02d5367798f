"""What an embedder is: a name, a dimension, and texts to vectors."""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from memory.errors import EmbeddingFailed

if TYPE_CHECKING:
    import numpy as np


class Embedder(Protocol):
    """Turns texts into vectors. Any object with these four will do.

    An embedder may have more, each optional:

    - ``prepare()``: find out ``name``, and refuse what cannot work, without loading a model; called once, in the worker
      thread, before the first texts;
    - ``release()``, a coroutine function: let go of connections. The embedder stays usable, so one that several stores
      share may be released by each;
    - ``on_loop = True`` with ``steps`` (see `SteppedEmbedder`): cheap Python, run on the event loop.
    """

    @property
    def name(self) -> str:
        """Identity, kept with each vector: two embedders of one name give comparable vectors."""
        ...

    @property
    def dimension(self) -> int | None:
        """Components of each vector; None while that is unknown."""
        ...

    @property
    def semantic(self) -> bool:
        """Whether nearness means likeness of meaning; False when it only means shared words."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray | Awaitable[np.ndarray]:
        """Vectors of the texts, in their order: shape (n, dimension), float32.

        A plain function runs in a worker thread, one call at a time; a coroutine function on the event loop.
        """
        ...


class SteppedEmbedder(Embedder, Protocol):
    """An embedder in pure Python: in a thread it would only compete with the loop, so it runs there, in steps."""

    on_loop: bool

    def steps(self, texts: Sequence[str]) -> Generator[None, None, np.ndarray]:
        """As ``embed``, pausing after every piece of work; a piece takes half a millisecond at most."""
        ...


def checked_vector(row: Any, embedder: str) -> np.ndarray:
    """A row of an embedder's answer as a read-only float32 vector of its own.

    Raises EmbeddingFailed for what is no vector, and for NaN and Infinity (as float32).
    """
    import numpy as np

    try:
        if isinstance(row, np.ndarray) and row.dtype == np.float32:
            vector = row.copy()
        else:
            with np.errstate(over="ignore"):  # an overflow is Infinity, refused below
                vector = np.array(row, np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EmbeddingFailed(
            f"the embedder {embedder!r} answered with {type(row).__name__} where a vector of numbers was due",
            embedder=embedder,
        ) from error
    if vector.ndim != 1 or not vector.size:
        raise EmbeddingFailed(
            f"the embedder {embedder!r} answered with an array of shape {vector.shape} where a vector was due; "
            "it must return one vector for each text",
            embedder=embedder,
        )
    if not np.isfinite(vector).all():
        raise EmbeddingFailed(
            f"the embedder {embedder!r} answered with NaN or Infinity (as float32)", embedder=embedder
        )
    vector.flags.writeable = False
    return vector
