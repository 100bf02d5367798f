"""The project's targets, in one table. They judge a figure; they never fail a test."""

from __future__ import annotations

from benchmarks.figures import Target

SMALL, LARGE = 10_000, 100_000

# What a figure is called -> backend -> its limit at up to 10,000, at up to 100,000 and at more records, where there is one.
_LIMITS: dict[str, dict[str, tuple[Target | None, Target | None, Target | None]]] = {}


def _set(
    what: str,
    backends: str,
    small: float | None = None,
    large: float | None = None,
    million: float | None = None,
    *,
    least: bool = False,
) -> None:
    """``large`` is ``small`` where it is left out."""
    sizes = (small, small if large is None else large, million)
    limits = tuple(None if limit is None else Target(limit, least) for limit in sizes)
    _LIMITS.setdefault(what, {}).update(dict.fromkeys(backends.split(), (limits[0], limits[1], limits[2])))


def _always(what: str, backends: str, limit: float, *, least: bool = False) -> None:
    """The same at every size."""
    _set(what, backends, limit, limit, limit, least=least)


_BOTH = "in_memory sqlite"
_SERVED = "redis redis_stack postgres postgres_plain"
_ALL = f"{_BOTH} {_SERVED}"
_RETRIEVING = f"{_ALL} faiss redis_cluster pgbouncer"
_set("get over the hook", _BOTH, 5)
_set("put over the hook", _BOTH, 5)
_set("get over the hook, layers on", _BOTH, 15)
_set("put over the hook, layers on", _BOTH, 15)
_set("routing a get", "in_memory", 2)
_set("routing a write", "in_memory", 2)
_set("a hit of the fast tier", "in_memory", 5)
_set("get p50", "in_memory", 5)
_set("get p50", "sqlite", 25)
for _put in ("put p50, new key", "put p50, live key"):
    _set(_put, "in_memory", 12)
    _set(_put + " normal", "sqlite", 150)
    _set(_put + " full", "sqlite", 450)
_set("bulk", "sqlite", 20_000, 18_000, least=True)
_set("text top-10, p50", "sqlite", 0.5, 2)
_set("indexed filter, first 10, p50", "sqlite", 0.1, 0.15)
_set("64 callers, 90/10 get/put", "sqlite", 40_000, 35_000, least=True)
_set("open", "sqlite", 10)
_set("memory grown", "sqlite", 60)
_set("longest hold of the loop", _BOTH, 10)
_set("get p99", _BOTH, 10)
for _name in ("get", "put", "delete", "indexed filter"):
    _set(f"growth of {_name}", f"sqlite {_SERVED}", 1.3)
_set("growth of text", f"sqlite {_SERVED}", 5)
_set("growth of open", "sqlite", 1.5)
_set("growth of bulk per record", "sqlite", 1.4)
_set("recall@10, text", _RETRIEVING, 0.57, least=True)
_set("recall@10, text, neighbours=1", _RETRIEVING, 0.63, least=True)
_set("vector top-10, p50", "sqlite", 0.5, 3)
for _name in ("of 10 %", "of 1 %", "in one namespace"):
    _set(f"vector top-10 {_name}, p50", "sqlite", 0.5, 2)
    _set(f"recall, vector top-10 {_name}", _ALL, 0.99, least=True)
_set("recall, vector top-10", _ALL, 0.98, least=True)
_set("first vector search", "sqlite", 30, 60)
_set("growth of vector", "sqlite redis postgres_plain", 12)  # every vector is looked at, in one form or another
_set("growth of vector", "redis_stack postgres", 3)  # by a graph
# Most of faiss's are for a million, the size that it is made for.
_set("bulk", "faiss", million=15_000, least=True)
_always("longest hold of the loop", "faiss", 10)
_set("open", "faiss", million=20)
_set("first vector search", "faiss", million=300)
_set("memory grown", "faiss", million=120)
_set("vector top-10, p50", "faiss", large=1, million=5)
for _name in ("of 10 %", "of 1 %", "in one namespace"):
    _set(f"vector top-10 {_name}, p50", "faiss", million=8)
    _always(f"recall, vector top-10 {_name}", "faiss", 0.99, least=True)
_always("recall, vector top-10", "faiss", 0.98, least=True)
_set("growth of vector", "faiss", 3)
_set("recall@10, vector", _RETRIEVING, 0.50, least=True)
_set("recall@10, hybrid", _RETRIEVING, 0.63, least=True)
_set("recall@10, hybrid, neighbours=1", _RETRIEVING, 0.69, least=True)
_set("recall@10, hybrid, neighbours=2", _RETRIEVING, 0.71, least=True)
_set("least recall of hybrid over text", _RETRIEVING, 0, least=True)
_set("get: ÷ by hand", "redis", 1.3)
_set("put: ÷ by hand", "redis", 1.3)
_set("bulk: ÷ by hand", "redis", 0.85, least=True)
_set("64 callers, get: ÷ uncoalesced", "redis", 3, least=True)
_set("64 callers, put: ÷ uncoalesced", "redis", 3, least=True)
_set("get: ÷ by hand", "postgres", 1.2)
_set("put: ÷ by hand", "postgres", 1.25)
_set("bulk: ÷ by hand", "postgres", 0.8, least=True)
_set("64 callers, get: ÷ uncoalesced", "postgres", 4, least=True)
_set("64 callers, put: ÷ uncoalesced", "postgres", 3, least=True)
_set("largest difference of a recall", "all", 0.01)


def target(what: str, backend: str, records: int | None = None, durability: str = "") -> Target | None:
    """The limit of a figure, if there is one for this backend, durability and size."""
    limits = _LIMITS.get(f"{what} {durability}".rstrip(), _LIMITS.get(what, {})).get(backend)
    if limits is None:
        return None
    size = records or 0
    return limits[0] if size <= SMALL else limits[1] if size <= LARGE else limits[2]
