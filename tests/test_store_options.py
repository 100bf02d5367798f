"""Options that make no sense are refused when a store is made, by the name of the option."""

from __future__ import annotations

from typing import Any

import pytest

from memory import InvalidItem, MemoryItem, MemoryStore
from memory.backends.firestore.v2 import FirestoreV2Store
from memory.backends.in_memory import InMemoryStore
from memory.backends.postgres import PostgresStore
from memory.backends.redis import RedisStore
from memory.errors import InvalidSetting

WHERE: dict[type[MemoryStore], str] = {
    RedisStore: "redis://nowhere",
    PostgresStore: "postgresql://me@nowhere/db",
    FirestoreV2Store: "firestore://nowhere",
}
COUNTS = {
    RedisStore: ["pool", "waiting"],
    PostgresStore: ["pool", "waiting"],
    FirestoreV2Store: ["max_reads", "breaker_failures"],
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in COUNTS.items() for name in names])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, "8"])
def test_a_number_of_things_is_whole_and_at_least_one(kind: Any, name: str, value: Any) -> None:
    with pytest.raises(InvalidSetting, match=f"{name} must be a whole number from 1") as caught:
        kind(WHERE[kind], **{name: value})
    assert caught.value.setting == name  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", list(WHERE))
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "5"])
def test_a_timeout_is_a_positive_number_of_seconds(kind: Any, value: Any) -> None:
    with pytest.raises(InvalidSetting, match="timeout must be a positive number of seconds"):
        kind(WHERE[kind], timeout=value)


def test_a_time_that_is_too_long_is_told_the_longest() -> None:
    with pytest.raises(InvalidSetting, match="seconds, at most 1,000,000, not 2000000"):
        RedisStore(timeout=2_000_000)
    with InMemoryStore() as store, pytest.raises(InvalidItem, match="at most 10,000,000,000"):
        store.put_sync(MemoryItem(content="x"), ttl=8.64e15)


def test_a_cache_may_hold_nothing_and_not_less() -> None:
    assert RedisStore(vector_cache=0).name == "redis"
    with pytest.raises(InvalidSetting, match="vector_cache must be a whole number from 0"):
        RedisStore(vector_cache=-1)
