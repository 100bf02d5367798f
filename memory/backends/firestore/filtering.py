"""Filters taken apart: what all of an answer has to satisfy."""

from __future__ import annotations

from memory.filters import And, Filter
from memory.filters.compiling import nnf


def conjuncts(where: Filter | None) -> list[Filter]:
    """The parts of a filter that have to hold together."""
    if where is None:
        return []
    tree = nnf(where)
    return list(tree.parts) if isinstance(tree, And) else [tree]
