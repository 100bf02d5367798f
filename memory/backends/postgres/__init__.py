"""``postgres``: a schema of a Postgres database. ``store``: the class; ``layout``, ``applying``, ``putting``: what it makes there."""

from memory.store.drivers import driver

with driver("postgres", "postgres"):
    from memory.backends.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
