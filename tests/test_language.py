"""The language: records, limits, canonical bytes, the envelope, its JSON schema, pydantic, errors, clocks."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from memory import clock, codec, errors, model
from memory.clock import ManualClock, from_micros, system_clock, to_micros
from memory.codec import content_hash, decode, encode
from memory.errors import BatchError, CorruptData, InvalidItem, MemoryStoreError, UnknownOutcome
from memory.model import MemoryItem, check_item, key_order, new_id, path_bytes
from memory.ops import Row
from memory.vectors import check_embedding, vector_bytes

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    ),
    max_leaves=12,
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
TIMES = st.datetimes(timezones=st.just(UTC))


@st.composite
def items(draw: Any) -> MemoryItem:
    return MemoryItem(
        content=draw(JSON),
        id=draw(NAMES),
        namespace=tuple(draw(st.lists(NAMES, min_size=1, max_size=3))),
        kind=draw(NAMES),
        text=draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]))),
        metadata=draw(st.dictionaries(NAMES, JSON, max_size=3)),
        tags=tuple(draw(st.lists(NAMES, max_size=3))),
        user_id=draw(st.none() | NAMES),
        importance=draw(st.floats(0, 1)),
        embedding=draw(
            st.none() | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=4)
        ),
        created_at=draw(TIMES),
        expires_at=draw(st.none() | TIMES),
        access_count=draw(st.integers(0, 2**63 - 1)),
        source=draw(st.dictionaries(NAMES, JSON, max_size=2)),
    )


def row_of(item: MemoryItem) -> Row:
    at = to_micros(item.created_at)
    return Row(
        body=encode(item),
        version=item.version,
        created=at,
        updated=to_micros(item.updated_at),
        accessed=to_micros(item.accessed_at),
        count=item.access_count,
        expires=None if item.expires_at is None else to_micros(item.expires_at),
        embedding=vector_bytes(item.embedding),
    )


# --- records -------------------------------------------------------------------------------------


def test_ids_are_uuid7_and_sort_by_age() -> None:
    import uuid

    ids = [new_id() for _ in range(2_000)]
    assert len(set(ids)) == 2_000
    for id in ids[:50]:
        parsed = uuid.UUID(id)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert [id[:8] for id in ids] == sorted(id[:8] for id in ids)


def test_an_item_is_immutable_keyword_only_and_equal_by_value() -> None:
    item = MemoryItem(content={"a": 1}, id="x", embedding=[1.0, 2.0])
    with pytest.raises(AttributeError):
        item.id = "y"  # type: ignore[misc]
    with pytest.raises(TypeError):
        MemoryItem("content")  # type: ignore[misc]
    with pytest.raises(TypeError):
        hash(item)
    assert item == MemoryItem(content={"a": 1}, id="x", embedding=np.array([1, 2], dtype=np.float32))
    assert item != MemoryItem(content={"a": 1}, id="x", embedding=[1.0, 2.5])
    assert item != MemoryItem(content={"a": 1}, id="x")
    assert item != {"content": {"a": 1}}
    assert item.key == (("default",), "x")


def test_defaults_are_not_shared_between_items() -> None:
    one, other = MemoryItem(content=1), MemoryItem(content=1)
    one.metadata["x"] = 1
    assert other.metadata == {}
    assert one.id != other.id


def test_what_is_searched_is_the_text_else_the_content_else_its_string_leaves() -> None:
    assert MemoryItem(content="c", text="t").searchable == "t"
    assert MemoryItem(content="c", text="").searchable == ""
    assert MemoryItem(content="c").searchable == "c"
    assert MemoryItem(content={"a": ["x", {"b": "y", "c": 1}], "d": None}).searchable == "x\ny"
    assert MemoryItem(content=5).searchable == ""


def test_names_that_are_str_subclasses_become_plain() -> None:
    class Kind(StrEnum):
        FACT = "fact"

    item = check_item(
        MemoryItem(content=1, id=Kind.FACT, kind=Kind.FACT, tags=[Kind.FACT], namespace=[Kind.FACT], user_id=Kind.FACT)
    )
    for value in (item.id, item.kind, item.tags[0], item.namespace[0], item.user_id):
        assert type(value) is str
        assert value == "fact"
    assert type(item.tags) is type(item.namespace) is tuple


def test_a_checked_item_is_the_same_object_when_nothing_changes() -> None:
    item = MemoryItem(content="x", namespace=model.DEFAULT_NAMESPACE)
    assert check_item(item) is item


@given(JSON)
def test_a_checked_item_shares_nothing_that_can_be_changed(value: Any) -> None:
    given = MemoryItem(content=value, metadata={"a": value, "b": [value]}, source={"c": {"d": value}})
    checked = check_item(given)
    assert checked == given
    assert not _containers([checked.content, checked.metadata, checked.source]) & _containers(
        [given.content, given.metadata, given.source]
    )


def _containers(parts: Any) -> set[int]:
    """Which dicts and lists these are and hold."""
    found: set[int] = set()
    for part in parts:
        if type(part) in (dict, list):
            found |= {id(part)} | _containers(part.values() if type(part) is dict else part)
    return found


@pytest.mark.parametrize("names", [("t" * 256,) * 3, ("t",) * 64, ("t" * 256, "ä" * 128)])
def test_names_may_be_long_together(names: tuple[str, ...]) -> None:
    assert check_item(MemoryItem(content=1, id="i" * 256, kind="k" * 256, tags=names)).tags == names
    for bad in ("t" * 257, "", "a\0b", "\ud800", "ä" * 129, 5):
        with pytest.raises(InvalidItem) as caught:
            check_item(MemoryItem(content=1, tags=(*names[:3], bad)))  # type: ignore[arg-type]
        assert caught.value.field == "tag", bad


@given(st.lists(NAMES, min_size=1, max_size=4), st.lists(NAMES, min_size=1, max_size=4))
def test_path_bytes_sort_and_nest_like_their_segments(a: list[str], b: list[str]) -> None:
    one, other = tuple(a), tuple(b)
    by_segment = [s.encode() for s in one] < [s.encode() for s in other]
    assert (path_bytes(one) < path_bytes(other)) == by_segment
    below = other[: len(one)] == one
    assert (path_bytes(other) == path_bytes(one) or path_bytes(other).startswith(path_bytes(one) + b"\0")) == below
    assert (key_order((one, "x")) == key_order((other, "x"))) == (one == other)


# --- canonical bytes -----------------------------------------------------------------------------


@given(items())
def test_an_item_survives_its_bytes(item: MemoryItem) -> None:
    item = check_item(item)
    item = msgspec.structs.replace(item, updated_at=item.created_at, accessed_at=item.created_at)
    row = row_of(item)
    back = decode(row)
    assert back == item
    assert encode(back) == row.body
    assert json.loads(row.body)["v"] == codec.FORMAT


def test_the_same_content_has_the_same_bytes_whatever_the_order_of_its_keys() -> None:
    one = MemoryItem(id="a", content={"x": 1, "a": {"c": 1, "b": 2}}, metadata={"z": 1, "y": 2})
    other = MemoryItem(id="a", content={"a": {"b": 2, "c": 1}, "x": 1}, metadata={"y": 2, "z": 1})
    assert encode(one) == encode(other)


def test_a_body_is_small_json_that_other_tools_read() -> None:
    body = encode(MemoryItem(id="a", content="é\0\n"))
    assert (
        body
        == b'{"v":1,"id":"a","namespace":["default"],"kind":"note","content":"\xc3\xa9\\u0000\\n","importance":0.5}'
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"v": 1}',
        b"\xff",
        b'{"v": 2, "id": "a", "namespace": ["n"], "kind": "k", "content": 1, "importance": 0.5}',
    ],
)
def test_bytes_that_are_no_body_of_this_version_are_corrupt(body: bytes) -> None:
    with pytest.raises(CorruptData):
        decode(Row(body=body, version=1, created=0, updated=0, accessed=0))


@given(JSON)
def test_the_content_hash_takes_equal_numbers_for_the_same(content: Any) -> None:
    def doubled(value: Any) -> Any:
        if type(value) is int and abs(value) < 2**53:
            return float(value)
        if isinstance(value, list):
            return [doubled(part) for part in value]
        if isinstance(value, dict):
            return {name: doubled(part) for name, part in value.items()}
        return value

    one, other = MemoryItem(content=content), MemoryItem(content=doubled(content))
    assert content_hash(one) == content_hash(other)
    assert content_hash(one) != content_hash(MemoryItem(content=[content]))
    assert content_hash(one) != content_hash(msgspec.structs.replace(one, user_id="u"))
    assert len(content_hash(one)) == 16


# --- the envelope --------------------------------------------------------------------------------


@given(items())
def test_an_item_survives_its_envelope_as_json(item: MemoryItem) -> None:
    item = check_item(item)
    data = item.to_dict()
    assert MemoryItem.from_dict(json.loads(json.dumps(data))) == item
    assert MemoryItem.from_dict(data) == item
    assert data["v"] == 1


def test_unset_times_are_left_out_and_set_ones_are_iso_with_microseconds() -> None:
    data = MemoryItem(content=1).to_dict()
    assert "created_at" not in data
    assert data["expires_at"] is None
    there = datetime(2026, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert MemoryItem(content=1, created_at=there).to_dict()["created_at"] == "2026-01-01T00:00:00.000000Z"


def test_an_envelope_says_who_made_its_vector() -> None:
    item = MemoryItem(content=1, embedding=[1.5, -2.0])
    data = codec.to_dict(item, "some-model")
    assert data["embedder"] == "some-model"
    assert MemoryItem.from_dict(data).embedding.tolist() == [1.5, -2.0]
    assert MemoryItem.from_dict({"content": 1, "embedding": [1, 2.5]}).embedding.tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"content": 1, "kidn": "x"}, "kind"),
        ({"content": 1, "mine": 1}, "metadata"),
        ({}, "content"),
        ({"content": 1, "v": 2}, "Upgrade"),
        ({"content": 1, "tags": [1]}, "tags"),
        ({"content": 1, "importance": 7}, "importance"),
        ({"content": 1, "embedding": "!"}, "base64"),
        ({"content": 1, "embedding": "AAA="}, "base64"),
        ({"content": 1, "created_at": "soon"}, "created_at"),
        ({"content": 1, "created_at": "2026-01-01T00:00:00"}, "aware"),
        ({"content": 1, "id": ""}, "id"),
        ({"content": 1, "namespace": []}, "namespace"),
        ([], "object"),
        ("x", "object"),
        (None, "object"),
    ],
)
def test_a_bad_envelope_is_refused_with_advice(data: Any, says: str) -> None:
    with pytest.raises(InvalidItem, match=says):
        MemoryItem.from_dict(data)


def test_the_json_schema_describes_every_field_of_the_envelope() -> None:
    schema = MemoryItem.json_schema()
    data = codec.to_dict(MemoryItem(content=1, created_at=datetime.now(UTC), embedding=[1.0]), "m")
    assert set(schema["properties"]) >= set(data)
    assert schema["required"] == ["content"]
    assert schema["additionalProperties"] is False
    assert schema["title"] == "MemoryItem"
    assert "2020-12" in schema["$schema"]
    json.dumps(schema)


def test_an_item_can_be_a_field_of_a_pydantic_model() -> None:
    class Reply(BaseModel):
        item: MemoryItem
        more: list[MemoryItem] = []

    item = MemoryItem(content={"a": 1}, tags=("t",), embedding=[1.0], created_at=datetime(2026, 1, 1, tzinfo=UTC))
    reply = Reply(item=item, more=[{"content": "x", "id": "b"}])  # type: ignore[list-item]
    assert reply.item == item
    assert reply.more[0].id == "b"
    assert Reply.model_validate_json(reply.model_dump_json()) == reply
    assert reply.model_dump()["item"] == item.to_dict()
    with pytest.raises(ValidationError, match="kind"):
        Reply.model_validate({"item": {"content": 1, "kidn": "x"}})
    with pytest.raises(ValidationError):
        Reply.model_validate({"item": 5})
    schema = Reply.model_json_schema()
    assert "content" in json.dumps(schema)
    assert TypeAdapter(MemoryItem).validate_python({"content": 5}).content == 5


# --- limits --------------------------------------------------------------------------------------


def test_every_refusal_names_the_field() -> None:
    for field, value in (
        ("id", ""), ("namespace", ()), ("kind", ""), ("user_id", ""), ("importance", 2), ("metadata", 1), ("source", 1),
        ("text", 1), ("content", math.nan), ("embedding", []), ("tags", 5), ("access_count", -1), ("expires_at", 5),
    ):  # fmt: skip
        with pytest.raises(InvalidItem) as caught:
            check_item(MemoryItem(**{"content": 1, field: value}))
        assert (caught.value.field or "").startswith(field), field


def test_a_number_is_checked_as_float32() -> None:
    assert check_embedding([0.1]).tolist() == [np.float32(0.1)]
    for bad in ([1e39], [math.inf], [], [[1.0]], "x", None, [None], ["a"], np.zeros(65_537)):
        with pytest.raises(InvalidItem):
            check_embedding(bad)


def test_a_cycle_is_too_deep() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidItem, match="20"):
        check_item(MemoryItem(content=loop))


# --- errors and clocks ---------------------------------------------------------------------------


def test_every_error_is_in_the_tree_and_documented_and_shadows_no_builtin() -> None:
    import builtins

    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    for error in found:
        assert issubclass(error, MemoryStoreError)
        assert error.__doc__
        assert not hasattr(builtins, error.__name__)
    named = {
        *(
            "InvalidItem",
            "InvalidFilter",
            "InvalidCursor",
            "NotFound",
            "AlreadyExists",
            "VersionConflict",
            "EmbeddingFailed",
            "EmbeddingMismatch",
        ),
        *(
            "UnsupportedOperation",
            "BackendUnavailable",
            "Overloaded",
            "DeadlineExceeded",
            "UnknownOutcome",
            "StorageFull",
        ),
        *("CorruptData", "ResumeExpired", "WrongLoop", "Closed"),
    }
    assert named <= {error.__name__ for error in found}


def test_facts_are_attributes() -> None:
    error = errors.VersionConflict("changed", key=(("n",), "a"), expected=1, actual=2)
    assert (str(error), error.key, error.expected, error.actual) == ("changed", (("n",), "a"), 1, 2)
    batch = BatchError("some", results=[1, error, 3])
    assert batch.errors == {1: error}


async def test_an_unknown_outcome_without_a_way_to_retry_raises_itself() -> None:
    error = UnknownOutcome("lost")
    with pytest.raises(UnknownOutcome) as caught:
        await error.retry()
    assert caught.value is error
    import copy

    assert str(copy.copy(UnknownOutcome("lost", retry=lambda: asyncio.sleep(0)))) == "lost"


@given(TIMES)
def test_times_survive_their_microseconds(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment
    assert from_micros(to_micros(moment)).tzinfo is UTC


def test_naive_times_are_refused() -> None:
    for bad in (datetime(2026, 1, 1), "2026", 5, None):  # noqa: DTZ001
        with pytest.raises(InvalidItem):
            to_micros(bad)  # type: ignore[arg-type]


def test_clocks_tell_microseconds() -> None:
    assert abs(system_clock() / 1e6 - datetime.now(UTC).timestamp()) < 5
    manual = ManualClock()
    assert from_micros(manual()) == datetime(2026, 1, 1, tzinfo=UTC)
    manual.advance(0.000001)
    assert manual() % 10 == 1
    manual.advance(-1)
    assert from_micros(manual()) < datetime(2026, 1, 1, tzinfo=UTC)
    assert clock.EPOCH.tzinfo is UTC


def test_the_language_imports_nothing_heavy() -> None:
    code = "import sys, memory.model, memory.codec, memory.ops, memory.filters; print([m for m in ('numpy', 'pydantic', 'apsw', 'Stemmer', 'rich') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
