"""An item's vector: what it may be, and its bytes as they are stored. How near two are: memory.search.vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from memory.errors import InvalidItem

if TYPE_CHECKING:
    import numpy as np

MAX_DIMENSION = 65_536


def check_embedding(value: Any) -> np.ndarray:
    """A finite 1-d float32 array. Raises InvalidItem."""
    import numpy as np

    try:
        if type(value) is np.ndarray and value.dtype == np.float32:
            array = value
        else:
            given = np.asarray(value)
            if given.dtype.kind not in "biufO" or (given.dtype.kind == "O" and not all(map(_is_plain, given.flat))):
                raise TypeError  # a text is no number, and of a complex one half would be lost
            with np.errstate(over="ignore"):  # what is too large becomes Infinity, which is refused below
                array = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InvalidItem("embedding must be a 1-d array of numbers", field="embedding") from None
    if array.ndim != 1 or not 0 < array.size <= MAX_DIMENSION:
        raise InvalidItem(
            f"embedding must be 1-d with 1 to {MAX_DIMENSION} numbers, not shape {array.shape}", field="embedding"
        )
    # A finite square sum proves all of them finite, at a third of the cost; an overflow proves nothing (dot warns of one).
    if not math.isfinite(np.vdot(array, array)) and not np.isfinite(array).all():
        raise InvalidItem("embedding holds NaN or Infinity (as float32)", field="embedding")
    return array


def _is_plain(number: Any) -> bool:
    """Whether a part of a vector may be taken for a number, which is then tried."""
    import numpy as np

    return not isinstance(number, str | bytes | complex | np.complexfloating)


def vector_bytes(embedding: Any) -> bytes | None:
    """The little-endian float32 bytes of a checked embedding, as every backend stores them."""
    if embedding is None:
        return None
    array, float32 = _float32()
    raw: bytes = array(embedding, float32).tobytes()
    return raw


def vector(raw: bytes) -> np.ndarray:
    """The inverse of ``vector_bytes``: a read-only array over the bytes."""
    frombuffer, float32 = _from_bytes()
    return frombuffer(raw, float32)


@cache
def _float32() -> tuple[Callable[..., np.ndarray], Any]:
    import numpy as np

    return np.asarray, np.dtype("<f4")


@cache
def _from_bytes() -> tuple[Callable[..., np.ndarray], Any]:
    import numpy as np

    return np.frombuffer, np.dtype("<f4")
