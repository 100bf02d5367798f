"""The shipped contract over Postgres: 18 with pgvector (plain, twins, view), Debian's without, and behind PgBouncer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import pytest
import servers

from memory.backends.postgres import PostgresStore
from memory.store import MemoryStore
from memory.testing.contract import StoreContract, TwinsContract, ViewContract
from memory.testing.contract.batches import Batches
from memory.testing.contract.dedup import Dedup
from memory.testing.contract.lifecycle import Lifecycle
from memory.testing.contract.nearness import Nearness
from memory.testing.contract.retrying import Retrying
from memory.testing.contract.transfer import Transfer
from memory.testing.contract.updating import Updating
from memory.testing.contract.versions import Versions
from memory.testing.contract.writing import Writing


def schema_of(place: Path) -> str:
    """A schema for this place alone."""
    return "t_" + hashlib.sha256(str(place).encode()).hexdigest()[:24]


class Postgres:
    server = "postgres"
    options: ClassVar[dict[str, Any]] = {}

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return PostgresStore(servers.server(self.server).url, schema=schema_of(place), **self.options, **options)

    async def discard(self, place: Path) -> None:
        connection = await asyncpg.connect(servers.server(self.server).url, statement_cache_size=0)
        try:
            await connection.execute(f'DROP SCHEMA IF EXISTS "{schema_of(place)}" CASCADE')
        finally:
            await connection.close()


class TestPostgres(Postgres, StoreContract):
    calm = True


@pytest.mark.full  # twins are the base's: every run has them over the embedded stores
class TestPostgresThroughTwins(Postgres, TwinsContract):
    pass


@pytest.mark.full  # views are the base's: every run has them over the embedded stores
class TestPostgresThroughAView(Postgres, ViewContract):
    pass


class TestPostgresWithoutPgvector(Postgres, StoreContract):
    server = "postgres_plain"


class BehindPgBouncer(Postgres):
    server = "pgbouncer"
    options: ClassVar[dict[str, Any]] = {"pgbouncer": True}


class TestPostgresBehindPgBouncer(
    BehindPgBouncer, Writing, Batches, Versions, Updating, Dedup, Nearness, Transfer, Retrying, Lifecycle
):
    pass


@pytest.mark.full  # what statements say does not depend on how they get to the server
class TestPostgresBehindPgBouncerWhole(BehindPgBouncer, StoreContract):
    pass
