"""The comparison finds every kind of difference: each field, losses, leftovers. One broken target for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from migrations import LOCAL, around_write, every_kind, fill, made, plain, records

from memory import MemoryItem
from memory.codec import BODY_FIELDS, encode
from memory.migration import migrate
from memory.migration.comparing import merged
from memory.migration.sources import StoreSource
from memory.ops import Put, Remove
from memory.vectors import vector_bytes

replace = msgspec.structs.replace
VICTIM = (("team",), "victim")
ITEM = MemoryItem(
    id="victim",
    namespace=("team",),
    content={"n": 1},
    text="the text",
    metadata={"score": 1},
    tags=("red",),
    user_id="ana",
    agent_id="a1",
    session_id="s1",
    kind="semantic",
    importance=0.25,
    source={"who": "importer"},
    embedding=[1.0, 2.0, 3.0],
)


def in_body(**fields: Any) -> Callable[[Put], Put]:
    """A target that keeps another value of a field."""

    def change(op: Put) -> Put:
        item = replace(op.item, **fields)
        return replace(op, item=item, body=encode(item))

    return change


def in_stamp(**fields: Any) -> Callable[[Put], Put]:
    def change(op: Put) -> Put:
        assert op.keep is not None
        kept = {name: value for name, value in fields.items() if name in ("updated", "accessed", "count")}
        beside = {name: value for name, value in fields.items() if name not in kept}
        return replace(op, keep=replace(op.keep, **kept), **beside)

    return change


MUTANTS: dict[str, Callable[[Put], Put]] = {
    "content": in_body(content={"n": 1.0}),
    "kind": in_body(kind="note"),
    "text": in_body(text="The text"),
    "metadata": in_body(metadata={"score": True}),
    "tags": in_body(tags=("red", "blue")),
    "user_id": in_body(user_id="bob"),
    "agent_id": in_body(agent_id=None),
    "session_id": in_body(session_id="s2"),
    "importance": in_body(importance=0.5),
    "source": in_body(source={}),
    "created_at": in_stamp(created=1),
    "updated_at": in_stamp(updated=1),
    "accessed_at": in_stamp(accessed=1),
    "access_count": in_stamp(count=7),
    "expires_at": in_stamp(expires=2**52),
    "embedding": lambda op: replace(op, embedding=vector_bytes([1.0, 2.0, 3.0000002])),
}


def test_there_is_a_mutant_for_every_field() -> None:
    keyed = {"id", "namespace", "version"}
    assert set(MUTANTS) == set(MemoryItem.__struct_fields__) - keyed
    assert set(BODY_FIELDS) - keyed <= set(MUTANTS)


def broken(change: Callable[[Put], Put | None]) -> Any:
    """A layer under which the victim is stored changed, or (None) acknowledged and not stored."""

    async def write(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        changed = [change(op) if type(op) is Put and op.key == VICTIM else op for op in ops]
        results = await hook([op for op in changed if op is not None], atomic)
        for place, op in enumerate(changed):
            if op is None:
                results.insert(place, results[0])
        return results

    return around_write(write)


@pytest.mark.parametrize("target", LOCAL)
@pytest.mark.parametrize("field", MUTANTS)
async def test_a_field_that_arrives_changed_is_told_by_name(field: str, target: str, tmp_path: Path) -> None:
    source, into = made(f"in_memory-{target}", tmp_path, layers=[broken(MUTANTS[field])])
    async with source, into:
        await source.put_many(plain(20))
        await fill(source, [ITEM])
        report = await migrate(source, into, state=tmp_path / "j.jsonl", batch_size=10)
        assert (report.ok, report.differences, report.created) == (False, 1, 21)
        assert [(one.key, one.fields) for one in report.findings] == [(VICTIM, (field,))]
        assert "neither was written" in report.findings[0].why
        sampled = await migrate(source, into, state=tmp_path / "k.jsonl", on_conflict="skip", sample_size=21)
        assert sampled.differences == 1


async def test_another_maker_of_a_vector_is_a_difference(tmp_path: Path) -> None:
    source, target = made("sqlite-in_memory", tmp_path)
    async with source, target:
        await fill(source, [ITEM], "somebody")
        assert (await migrate(source, target, state=tmp_path / "j.jsonl")).ok
        (record,) = target._records.values()  # type: ignore[attr-defined]
        record.row.embedder = "somebody else"
        report = await migrate(source, target, state=tmp_path / "j.jsonl", on_conflict="skip")
        assert [one.fields for one in report.findings if one.kind == "difference"] == [("embedder",)]


@pytest.mark.parametrize("target", LOCAL)
async def test_an_item_that_was_acknowledged_and_is_not_there_is_told(target: str, tmp_path: Path) -> None:
    source, into = made(f"in_memory-{target}", tmp_path, layers=[broken(lambda op: None)])
    async with source, into:
        await source.put_many(plain(20))
        await fill(source, [ITEM])
        report = await migrate(source, into, state=tmp_path / "j.jsonl")
        assert (report.ok, report.differences) == (False, 1)
        assert [(one.key, one.fields) for one in report.findings] == [(VICTIM, ())]
        assert "deleted in the target" in report.findings[0].why


@pytest.mark.parametrize("target", LOCAL)
async def test_a_deletion_that_does_not_reach_the_target_is_told(target: str, tmp_path: Path) -> None:
    """What the source deleted on the way is taken back; a target that acknowledges this and keeps the item is found out."""

    async def write(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        if number == 1:
            results = await hook(ops, atomic)
            await source.delete("i00003")
            return results
        kept = [op for op in ops if type(op) is not Remove]
        return await hook(kept, atomic) if kept else [first[0] for _ in ops]

    source, into = made(f"in_memory-{target}", tmp_path, layers=[around_write(write)])
    async with source, into:
        first = await into._write([into._privileged(into, MemoryItem(id="before", content="x"), None)], False)
        await source.put_many(plain(20))
        report = await migrate(source, into, state=tmp_path / "j.jsonl")
        assert (report.ok, report.differences) == (False, 1)
        assert report.findings[0].key[1] == "i00003"


@pytest.mark.parametrize("target", LOCAL)
async def test_an_item_under_another_key_is_a_loss_and_a_stranger(target: str, tmp_path: Path) -> None:
    def moved(op: Put) -> Put:
        item = replace(op.item, id="elsewhere")
        return replace(op, item=item, body=encode(item), key=item.key)

    source, into = made(f"in_memory-{target}", tmp_path, layers=[broken(moved)])
    async with source, into:
        await source.put_many(plain(20))
        await fill(source, [ITEM])
        report = await migrate(source, into, state=tmp_path / "j.jsonl")
        assert (report.ok, report.differences, report.others) == (False, 1, 1)


async def test_both_sides_are_merged_in_key_order_whatever_the_size_of_a_page(tmp_path: Path) -> None:
    one, other = made("in_memory-sqlite", tmp_path)
    async with one, other:
        items = every_kind(50)
        await fill(one, items[:35])
        await fill(other, items[15:])
        for size in (1, 2, 7, 35, 500):
            entries = [entry async for part in merged(StoreSource(one), StoreSource(other), size) for entry in part]
            assert sorted(entry.key for entry in entries) == sorted(item.key for item in items)
            assert [entry.key for entry in entries if entry.pair] == list(await records(one))
            assert [entry.key for entry in entries if entry.held] == list(await records(other))
