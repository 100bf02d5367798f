"""Old queries, answered by today's search.

An old score is absolute, from 0 to 1: the cosine where vectors are compared (the semantic index, on a store whose embedder
is semantic), else the share of the query's weight that an entry matched. What scores 0 is no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.compat.values import MemoryIndex, MemoryQuery
from memory.errors import InvalidItem, NotFound, UnsupportedOperation
from memory.migration.capabilities.entries import SCOPE, word
from memory.store.searching import MAX_SEARCH_LIMIT

if TYPE_CHECKING:
    from memory.model import MemoryItem
    from memory.store import MemoryStore, View

Scored = list[tuple["MemoryItem", float]]
_TIMES = ("created_at", "updated_at", "expires_at")
_ORDERS = {"key": "id", "type": "kind", **{name: name for name in _TIMES}}
"""Fields of an entry by which results may be ordered -> those of an item."""


async def found(view: MemoryStore | View, query: MemoryQuery) -> Scored:
    """The items that answer an old query, best first or as it says."""
    parts = _conditions(query)
    wanted = query.offset + query.limit
    keys = query.keys or ([] if query.key is None else [query.key])
    if keys:
        page = [item async for part in view.stream({"$and": [*parts, {"id": {"$in": keys}}]}) for item in part]
        place = {key: number for number, key in enumerate(keys)}
        results = [(item, 1.0) for item in sorted(page, key=lambda item: place[item.id])]
    else:
        asked: dict[str, Any] = {"query": query.query, "where": {"$and": parts} if parts else None}
        maker = view._store.embedding
        semantic = query.index_type == MemoryIndex.SEMANTIC and maker is not None and maker.semantic
        needed = wanted if query.order_by is None else None  # by another order all of them may be among the first
        results = await _ranked(view, asked, query.min_score, needed, vectors=semantic)
    if query.order_by is not None:
        field = _ORDERS.get(query.order_by)
        if field is None:
            raise InvalidItem(f"order_by must be one of {', '.join(_ORDERS)}, not {query.order_by!r}", field="order_by")
        there = [one for one in results if getattr(one[0], field) is not None]
        there.sort(key=lambda one: getattr(one[0], field), reverse=query.order == "DESC")
        results = there + [one for one in results if getattr(one[0], field) is None]
    return results[query.offset : wanted]


async def like(view: MemoryStore | View, key: str, limit: int, min_score: float) -> Scored:
    """The items that are like one, best first: by its vector, or by its words where it has none. Raises NotFound."""
    if type(limit) is not int or limit < 1:
        raise InvalidItem(f"limit must be an int from 1, not {limit!r}", field="limit")
    item = await view.get(key)
    if item is None:
        raise NotFound(f"there is no entry {key!r}", key=(("default",), key))
    asked: dict[str, Any] = {"where": {"id": {"$ne": key}}}
    asked |= {"query": item.searchable} if item.embedding is None else {"vector": item.embedding}
    return (await _ranked(view, asked, min_score, limit, vectors=item.embedding is not None))[:limit]


async def _ranked(
    view: MemoryStore | View, asked: dict[str, Any], least: float, wanted: int | None, *, vectors: bool
) -> Scored:
    """Hits with their old scores, as many as are wanted, or all. Raises UnsupportedOperation beyond what a search ranks."""
    asked |= {"mode": "vector", "min_vector": least} if vectors else {"mode": "text", "min_text": least}
    asked["limit"] = MAX_SEARCH_LIMIT if wanted is None else min(wanted, MAX_SEARCH_LIMIT)
    results: Scored = []
    cursor = None
    while wanted is None or len(results) < wanted:
        page = await view.search(**asked, cursor=cursor)
        for hit in page:
            score = hit.components["vector" if vectors else "matched"]
            if score is not None and score > 0:
                results.append((hit.item, min(1.0, score)))
        cursor = page.cursor
        if cursor is None:
            if not page.complete and (wanted is None or len(results) < wanted):
                raise UnsupportedOperation(
                    f"a search ranks the best {4 * MAX_SEARCH_LIMIT} at most; ask for fewer, or read all with store.stream()"
                )
            break
    results.sort(key=lambda one: -one[1])
    return results


def _conditions(query: MemoryQuery) -> list[dict[str, Any]]:
    """What an old query asks of entries besides its words: its filters and its metadata."""
    parts: list[dict[str, Any]] = []
    for name, value in query.filters.items():
        if name == "type":
            parts.append({"kind": word(value, name, "")})
        elif name == "scope":
            parts.append({"tags": {"$contains": SCOPE + word(value, name, "")}})
        elif name == "key":
            parts.append({"id": value})
        else:
            parts.append({name if name in _TIMES else f"content.{_escaped(name)}": {"$eq": value}})
    parts += [{f"metadata.{_escaped(name)}": {"$eq": value}} for name, value in query.metadata.items()]
    return parts


def _escaped(name: str) -> str:
    """A name as one step of a path."""
    return name.replace("\\", "\\\\").replace(".", "\\.")
