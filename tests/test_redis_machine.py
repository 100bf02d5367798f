"""Random programs against the model, over every kind of Redis, the same ones each time."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from servers import server

from memory.backends.redis import RedisStore
from memory.testing.machine import check

FLAVOURS = ["redis", "redis_stack", "redis_cluster"]
EXAMPLES = 12
"""Programs in every run: what is the base's, and not the commands', 50 programs over the embedded stores try (test_machine)."""


def make_on(flavour: str) -> Any:
    url = server(flavour).url

    def make(place: Path, **options: Any) -> RedisStore:
        prefix = "m" + hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest()
        return RedisStore(url, prefix=prefix, **options)

    return make


@pytest.mark.timeout(900)  # a failure is made shorter for up to five minutes
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_random_programs_agree_with_the_model(flavour: str, tmp_path: Path) -> None:
    check(make_on(flavour), tmp_path, examples=EXAMPLES)


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_five_hundred_random_programs_agree_with_the_model(flavour: str, tmp_path: Path) -> None:
    check(make_on(flavour), tmp_path, examples=500)
