"""The constructor's keywords of the managers that came before: what each means here, or what replaces it.

| keyword | here |
|---|---|
| ``memory_backend_type`` | ``backend_type`` |
| ``embedding_dimension`` | ``dimension``: without ``embedder`` callers bring vectors of their own |
| ``cleanup_interval`` | ``sweep_interval``, seconds |
| ``namespace`` | the manager stays in this namespace and what lies below it |
| ``log_level`` | also as a number of ``logging`` |
| ``cache_ttl`` | how old a read may be, in seconds: no cache is put before the engine that was chosen |

A ``tiered`` composite, which reads from a cache, is chosen as the backend and has a bound of its own (``staleness``). One that is
larger than ``cache_ttl`` is refused, and never changed in silence.
The rest, in REFUSED, is refused with its replacement, unless the chosen backend has an option of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.errors import InvalidSetting

if TYPE_CHECKING:
    from memory.store import MemoryStore

RENAMED = {
    "memory_backend_type": "backend_type",
    "embedding_dimension": "dimension",
    "cleanup_interval": "sweep_interval",
}
"""Another name for the same thing: old -> ours."""

_FIRESTORE = (
    "this is an option of the backends firestore_v1 and firestore_v2 alone; choose one of them, or leave it out"
)
_REDIS = (
    "no cache is put before the engine that was chosen; Redis as the store itself is chosen by its address "
    "(redis_url=, or the backend redis://host), as a cache by the backend composite (tiered). Leave it out"
)
_VERTEX = "vector search is the store's own: search(vector=...), semantic_search(...). Leave it out"
_TIERS = "one store holds every tier: MemoryManager(store), with ttl= for what is kept for a short term"

REFUSED: dict[str, str] = {
    **dict.fromkeys(("project_id", "credentials_json", "credentials_path"), _FIRESTORE),
    **dict.fromkeys(("redis_host", "redis_port", "redis_password"), _REDIS),
    **dict.fromkeys(
        ("use_vertex_vector_search", "vertex_location", "vertex_index_endpoint_id", "vertex_index_id"), _VERTEX
    ),
    **dict.fromkeys(("short_term", "medium_term", "long_term"), _TIERS),
    "connection_pool_size": "an embedded engine has no pool; that of a server is an option of its backend. Leave it out",
    "use_resilient_adapter": "a write that fails raises here and is never made up; deadline= bounds each operation",
    "enable_monitoring": "slow_seconds= logs slow operations, log_format= writes events, health_check() is always there",
    "reindex_interval": "indexes are kept in step with every write; repair() rebuilds them. Leave it out",
    "batch_size": "put_many groups its writes itself. Leave it out",
    "max_errors_before_unhealthy": "health_check() asks the engine and counts no errors. Leave it out",
}
"""Keyword -> what replaces it."""


def translated(
    backend_type: str | type[MemoryStore] | MemoryStore | None, options: dict[str, Any]
) -> tuple[str | type[MemoryStore] | MemoryStore | None, dict[str, Any]]:
    """The backend and the options by the names of today. Raises InvalidSetting for a thing said twice."""
    given = {"backend_type": backend_type, **options} if backend_type is not None else dict(options)
    for old, new in RENAMED.items():
        if old not in given:
            continue
        if new in given:
            raise InvalidSetting(f"{old} and {new} say the same; leave {old} out", setting=old)
        given[new] = given.pop(old)
    if "cache_ttl" in given:
        _check_cache_ttl(given.pop("cache_ttl"))
    if type(given.get("log_level")) is int:
        given["log_level"] = _level(given["log_level"])
    return given.pop("backend_type", None), given


def _check_cache_ttl(seconds: Any) -> None:
    if type(seconds) not in (int, float) or not seconds >= 0:
        raise InvalidSetting(
            "cache_ttl must be seconds, 0 or more (no cache is put before the engine that was chosen)",
            setting="cache_ttl",
        )


def check_cache_ttl(store: MemoryStore, seconds: float | None) -> None:
    """That no read of this store may be older. Raises InvalidSetting."""
    staleness = store.capabilities.staleness
    if seconds is None or staleness <= seconds:
        return
    bound = f"staleness = {seconds:g} for its tiered store, or " if seconds else ""
    raise InvalidSetting(
        f"cache_ttl says that a read is at most {seconds:g} s old; one of {store.name} may be {staleness:g} s old. "
        f"Set {bound}cache_ttl to {staleness:g} or more, or leave it out",
        setting="cache_ttl",
    )


def _level(number: int) -> str:
    """The least of our levels that lets through what a level of ``logging`` lets through."""
    return "debug" if number <= 10 else "info" if number <= 20 else "warning" if number <= 30 else "error"
