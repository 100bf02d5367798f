from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx


@pytest.fixture(autouse=True, scope="session")
def nothing_blocks_a_loop() -> Iterator[BlockBuster]:
    """Any blocking call made by `memory` on a running loop is an error; the suite itself and its tools may block."""
    with blockbuster_ctx("memory", excluded_modules=["memory.testing"]) as guard:
        yield guard
