"""Broken stores of vectors: the space they lie in, who made them, who owes one, and the change to another embedder."""

from __future__ import annotations

from typing import Any

from memory.backends.in_memory import InMemoryStore
from memory.backends.in_memory import vectors as in_memory_vectors
from memory.errors import EmbeddingFailed
from memory.model import key_order
from memory.ops import Put, Space, Touch
from memory.store import embedding, reembedding, searching, transfer, writes
from mutants.catalogue import Ops, caught, patched, replace


def bare(ops: Ops) -> list[Any]:
    """The operations without their vectors."""
    return [replace(op, embedding=None, embedder=None) if type(op) is Put else op for op in ops]


# --- one space -----------------------------------------------------------------------------------


def admits_all(self: Space, embedder: str | None, dimension: int) -> bool:
    return True


def admits_by_size(self: Space, embedder: str | None, dimension: int) -> bool:
    return dimension == self.dimension


def nothing(*_: Any, **__: Any) -> None:
    return None


@caught(
    "test_two_first_vectors_at_once_do_not_mix", "the engine takes any vector: only what was known before is checked"
)
class TakesAnyVector(InMemoryStore):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        space, self._space = self._space, None
        result = super()._put(op, key, old)
        self._space = space or self._space
        return result


patched(
    "test_the_first_vector_decides_the_dimension",
    "vectors of any dimension are mixed in",
    (Space, "admits", admits_all),
)
patched(
    "test_vectors_of_one_batch_have_one_dimension",
    "a batch is checked one vector at a time, while it is written",
    (writes, "check_dimension", nothing),
)
patched(
    "test_a_vector_of_another_dimension_is_refused",
    "the dimension of a vector is checked by the engine",
    (writes, "check_space", nothing),
)
patched(
    "test_the_old_embedder_is_refused_though_its_dimension_fits",
    "another embedder of the same dimension would do",
    (Space, "admits", admits_by_size),
    (embedding, "check_embedder", nothing),
    (searching, "check_embedder", nothing),
)
patched(
    "test_an_import_makes_vectors_and_refuses_those_of_another_embedder",
    "an import mixes in another embedder's vectors",
    (transfer, "check_maker", nothing),
    (transfer, "mismatch", lambda space, embedder, dimension: EmbeddingFailed("unused")),
    (Space, "admits", admits_by_size),
)


# --- a vector stays with its item ----------------------------------------------------------------


@caught("test_what_is_no_change_of_the_text_leaves_the_vector", "touch drops the vector")
class TouchDrops(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        result = super()._apply(op)
        if type(op) is Touch and result.row is not None:
            result.row.embedding = None
            self._note(key_order(op.key), result.row)
        return result


@caught("test_what_is_no_change_of_the_text_leaves_the_vector", "a change of metadata drops the vector")
class UpdateDrops(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write(bare(ops) if len(ops) == 1 and getattr(ops[0], "expect", 0) > 0 else ops, atomic)


@caught("test_vectors_and_their_embedder_travel", "an import drops vectors")
class ImportDrops(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write(bare(ops) if any(getattr(op, "keep", None) for op in ops) else ops, atomic)


@caught("test_a_put_without_a_vector_removes_it", "a put without a vector keeps that of the old text")
class PutKeepsTheOld(InMemoryStore):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        if old is not None and op.embedding is None:
            op = replace(op, embedding=old.row.embedding)
        return super()._put(op, key, old)


# --- made within the write, or later -------------------------------------------------------------


async def best_effort(store: Any, ops: Ops, now: bool, add: Any = embedding.add_vectors) -> None:
    try:
        await add(store, ops, now)
    except EmbeddingFailed:
        pass


async def only_new_keys(store: Any, ops: Ops, now: bool, add: Any = embedding.add_vectors) -> None:
    await add(store, [op for op in ops if op.expect <= 0], now)


async def every_time(self: Any, store: Any, item: Any, prepare: Any = writes.Writes._prepare, **how: Any) -> Any:
    if how.get("keeps_vector"):
        item = replace(item, embedding=None)
    return await prepare(self, store, item, **{**how, "embed": how.get("embed") or "now"})


patched(
    "test_a_failing_embedder_fails_the_write_and_nothing_is_lost",
    "a failing embedder stores items without a vector",
    (writes, "add_vectors", best_effort),
)
patched(
    "test_an_update_of_the_text_makes_another_vector",
    "an update of the text makes no vector",
    (writes, "add_vectors", only_new_keys),
)
patched(
    "test_an_update_of_the_text_makes_another_vector",
    "every update embeds anew",
    (writes.Writes, "_prepare", every_time),
)


@caught("test_later_stores_without_and_reembed_makes_what_is_owed", "the mark of an owed vector is lost")
class ForgetsWhoOwes(InMemoryStore):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        return super()._put(replace(op, embedder=None) if op.embedding is None else op, key, old)


@caught("test_a_vector_made_later_is_not_given_to_another_text", "a vector made late is given to a newer text")
class AttachesToAnyVersion(InMemoryStore):
    async def _attach(self, space: Any, ops: Ops) -> int:
        held = [(op, self._records.get(key_order(op.key))) for op in ops]
        return await super()._attach(
            space, [replace(op, version=record.row.version) for op, record in held if record is not None]
        )


@caught("test_a_vector_made_later_is_not_given_to_another_text", "a vector made late brings a deleted item back")
class AttachRevives(InMemoryStore):
    async def _unattached(self, space: Any, after: Any, limit: int) -> Any:
        rows = await super()._unattached(space, after, limit)
        self.__dict__.setdefault("_read", {}).update({row.version: row for row in rows})
        return rows

    async def _attach(self, space: Any, ops: Ops) -> int:
        done = await super()._attach(space, ops)
        for op in ops:
            if key_order(op.key) not in self._records:
                row = replace(self.__dict__["_read"][op.version], embedding=op.embedding)
                self._place(key_order(op.key), in_memory_vectors.Record(row, (None, None, None), b"", b""))
        return done


@caught("test_a_vector_made_later_leaves_the_times_of_its_item", "a vector made late is an update of its item")
class AttachUpdates(InMemoryStore):
    async def _attach(self, space: Any, ops: Ops) -> int:
        done = await super()._attach(space, ops)
        for op in ops:
            self._records[key_order(op.key)].row.updated = self._clock()
        return done


# --- from one embedder to another ----------------------------------------------------------------


@caught("test_old_vectors_serve_until_the_switch", "new vectors are found before the switch")
class AsideIsFound(InMemoryStore):
    async def _attach(self, space: Any, ops: Ops) -> int:
        done = await super()._attach(space, ops)
        for op in ops if space == self._aside_space else ():
            record = self._records[key_order(op.key)]
            self._records[key_order(op.key)] = in_memory_vectors._with_vector(record, op.embedding, space)
        return done


@caught("test_nothing_written_during_a_switch_is_lost", "a switch undoes what was written meanwhile")
class SwitchUndoes(InMemoryStore):
    def _note(self, key: Any, row: Any) -> None:
        changed, self._changed = self._changed, None
        super()._note(key, row)
        self._changed = changed


@caught("test_nothing_written_during_a_switch_is_lost", "a switch leaves what was written meanwhile without a vector")
class SwitchLeavesOut(InMemoryStore):
    async def _switch(self, space: Any, without: int) -> bool:
        while not await super()._switch(space, without):
            records = self._records.items()
            without = sum(self._aside_for(key, record, space) is None for key, record in records)
        return True


@caught("test_after_a_switch_only_the_new_vectors_are_found", "a switch keeps the old index")
class SwitchKeepsTheIndex(InMemoryStore):
    async def _switch(self, space: Any, without: int) -> bool:
        index = self._vectors
        await index.refresh(self._records)
        done = await super()._switch(space, without)
        self._vectors = index
        return done


@caught("test_after_a_switch_only_the_new_vectors_are_found", "a switch misses some rows")
class SwitchKeepsSome(InMemoryStore):
    async def _switch(self, space: Any, without: int) -> bool:
        old = {key: record.row.embedding for key, record in self._records.items()}
        done = await super()._switch(space, without)
        for key, record in self._records.items() if done else ():
            if key[1] in (b"3", b"4"):
                record.row.embedding = old[key]
        return done


@caught("test_an_interrupted_reembed_goes_on_where_it_stopped", "an interrupted reembed begins again")
class BeginsAgain(InMemoryStore):
    async def _unattached(self, space: Any, after: Any, limit: int) -> Any:
        if after is None:
            self._aside = {}
        return await super()._unattached(space, after, limit)


@caught("test_a_second_embedder_replaces_what_the_first_left_aside", "vectors aside of two embedders are mixed")
class MixesAside(InMemoryStore):
    async def _attach(self, space: Any, ops: Ops) -> int:
        if self._aside:
            self._aside_space = space
        return await super()._attach(space, ops)


patched(
    "test_a_vector_without_a_text_is_never_lost_by_a_switch",
    "a switch drops vectors that no text can replace",
    (reembedding, "UnsupportedOperation", type("Never", (Exception,), {"__init__": nothing})),
    (reembedding, "is_text", lambda item: True),
)
