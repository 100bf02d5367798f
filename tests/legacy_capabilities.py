"""Old data of `capabilities.memory`, laid out as its own programs left it: fixtures/capabilities, put where it belongs.

Nothing of this library is used here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import redis

FIXTURES = Path(__file__).parent / "fixtures" / "capabilities"
PROGRAM = FIXTURES / "program"


def fill_redis(url: str, prefix: str) -> None:
    """The keys of redis.json, under a prefix in place of ``memory``."""
    told = json.loads((FIXTURES / "redis.json").read_text().replace('"memory', f'"{prefix}'))
    with redis.Redis.from_url(url) as client:
        for name, one in told["strings"].items():
            client.set(name, one["value"], pxat=one["expires_ms"])
        for name, fields in told["hashes"].items():
            client.hset(name, mapping=fields)


async def fill_postgres(dsn: str, shape: str, schema: str) -> None:
    """The table of postgres_<shape>.sql, in a schema of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE SCHEMA {schema}; SET search_path TO {schema}")
        await connection.execute((FIXTURES / f"postgres_{shape}.sql").read_text())
    finally:
        await connection.close()


def fill_folder(place: Path) -> Path:
    """The folder of vectors, with a file outside it that one of its keys leads to."""
    folder = place / "vector_store"
    shutil.copytree(FIXTURES / "vector_store", folder)
    rows: Any = json.loads((folder / "embeddings.json").read_text())
    np.save(folder / "embeddings.npy", np.array(rows, dtype=np.float32))
    (folder / "embeddings.json").unlink()
    shutil.copy(FIXTURES / "outside.json", place)
    return folder
