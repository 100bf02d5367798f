"""Sentences about limits and bad input: one typed error each, before any I/O; long texts; vectors."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory.clock import ManualClock
from memory.codec import encode
from memory.errors import EmbeddingMismatch, InvalidItem, InvalidSetting, MemoryStoreError
from memory.model import MAX_RECORD_BYTES, MemoryItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, Tap, home, ids, item, possible, whole

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - what must be refused
LATE = datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-5)))
EARLY = datetime(1, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=5)))
"""Times of the years 1 to 9999 where they are, but not in UTC."""


def nested(depth: int) -> Any:
    """A list in a list..., so many levels."""
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def deep(depth: int) -> dict[str, Any]:
    """An object in an object..., so many levels."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def endless() -> dict[str, Any]:
    """An object that holds itself."""
    value: dict[str, Any] = {}
    value["a"] = value
    return value


def of_size(size: int) -> MemoryItem:
    """An item whose encoded record has exactly this many bytes."""
    empty = len(encode(item("a", "", text="x")))
    return item("a", "y" * (size - empty), text="x")


BAD_ITEMS: list[Any] = [
    {"id": ""}, {"id": "x" * 513}, {"id": "é" * 257}, {"id": "a\0b"}, {"id": "\ud800"}, {"id": 5}, {"id": None}, {"id": b"a"},
    {"namespace": ()}, {"namespace": ("",)}, {"namespace": ("a", "")}, {"namespace": ("a",) * 17}, {"namespace": ("x" * 300, "y" * 300)},
    {"namespace": ("a\0",)}, {"namespace": (1,)}, {"namespace": 5}, {"namespace": ("\udfff",)}, {"namespace": None},
    {"kind": ""}, {"kind": None}, {"kind": "x" * 257}, {"kind": "\0"}, {"kind": 1}, {"user_id": ""}, {"user_id": "u" * 257}, {"user_id": 1},
    {"agent_id": "\0"}, {"session_id": "\ud800"}, {"session_id": ["s"]},
    {"tags": "tag"}, {"tags": ("",)}, {"tags": ("x" * 257,)}, {"tags": (1,)}, {"tags": tuple(map(str, range(65)))}, {"tags": {"a"}},
    {"importance": -0.1}, {"importance": 1.1}, {"importance": float("nan")}, {"importance": "0.5"}, {"importance": True}, {"importance": None},
    {"content": float("nan")}, {"content": float("inf")}, {"content": [float("-inf")]}, {"content": 2**63}, {"content": -(2**63) - 1},
    {"content": {1: "x"}}, {"content": {"a": (1,)}}, {"content": b"bytes"}, {"content": {1, 2}}, {"content": object()}, {"content": nested(21)},
    {"content": "\ud800"}, {"content": {"\ud800": 1}}, {"content": ["\udfff"]}, {"content": NAIVE}, {"content": {"a": NAIVE}}, {"content": 1j},
    {"metadata": None}, {"metadata": []}, {"metadata": "x"}, {"metadata": {1: 2}}, {"metadata": {"x": {"y": float("nan")}}},
    {"metadata": {"a": nested(20)}}, {"metadata": {"x": "\ud800"}}, {"metadata": {None: 1}}, {"source": None}, {"source": {"a": object()}},
    {"text": 5}, {"text": ["x"]}, {"text": "\ud800"}, {"content": "x" * 262_144}, {"metadata": {"x": ["y" * 1000] * 270}},
    {"created_at": NAIVE}, {"created_at": "2026-01-01"}, {"expires_at": NAIVE}, {"expires_at": 5}, {"updated_at": NAIVE},
    {"access_count": -1}, {"access_count": 1.5}, {"access_count": True},
    {"embedding": []}, {"embedding": [float("nan")]}, {"embedding": [1e39]}, {"embedding": [[1.0]]}, {"embedding": "x"}, {"embedding": {}},
    {"embedding": ["a"]}, {"embedding": [None]}, {"embedding": 5.0}, {"embedding": np.array([1j, 2])}, {"embedding": ["1", "2"]}, {"embedding": [1.0, "2"]}, {"embedding": [b"1"]},
    {"embedding": np.array(["1", "2"])}, {"embedding": [np.complex64(1j)]}, {"embedding": np.array(["1", 2.0], dtype=object)},
    {"embedding": np.array(["2026-01-01"], dtype="M8[s]")}, {"embedding": np.zeros((2, 2))}, {"embedding": np.zeros(65_537)},
    {"content": " ".join(f"w{i}" for i in range(5_001))}, {"text": " ".join(f"w{i}" for i in range(5_001))},
    {"importance": 10**400}, {"embedding": [10**400]}, {"expires_at": LATE}, {"created_at": EARLY}, {"updated_at": LATE}, {"accessed_at": EARLY},
]  # fmt: skip


class Limits(Suite):
    """What is refused, everywhere the same, before any I/O."""

    async def test_a_bad_item_is_refused_before_any_io(self, make: Make) -> None:
        tap = Tap()
        store: Any = await make(layers=(tap,)).open()
        for fields in BAD_ITEMS:
            bad = MemoryItem(**{"id": "a", "content": "x", **fields})
            for call in (store.put, store.add):
                with pytest.raises(InvalidItem) as caught:
                    await call(bad)
                assert str(caught.value), fields
            with pytest.raises(InvalidItem) as caught:
                await store.put_many([item("ok"), bad])
            assert getattr(caught.value, "index", 1) == 1
            await asyncio.sleep(0)  # what is refused before I/O awaits nothing
        for nothing in (None, "text", {"content": 1}, 5, MemoryItem):
            with pytest.raises(InvalidItem):
                await store.put(nothing)
            with pytest.raises(InvalidItem):
                await store.put_many([nothing])
        assert tap.calls == []

    async def test_what_is_just_within_the_limits_is_stored(self, store: MemoryStore) -> None:
        for fields in (
            {"id": "x" * 512}, {"id": "é" * 256}, {"namespace": ("a",) * 16}, {"namespace": ("x" * 512,)}, {"kind": "k" * 256},
            {"user_id": "u" * 256, "session_id": "s" * 256}, {"tags": tuple(f"{i:0256}" for i in range(64))},
            {"importance": 0}, {"importance": 1}, {"content": nested(20)}, {"metadata": {"a": nested(19)}}, {"content": 2**63 - 1},
            {"content": -(2**63)}, {"embedding": [3.4e38]}, {"content": " ".join(f"w{i}" for i in range(5_000))}, {"text": ""},
            {"namespace": ("x" * 255, "y" * 256)},
        ):  # fmt: skip
            said = MemoryItem(**{"id": "a", "content": "x", **fields})
            if home(store, *said.namespace) != said.namespace:
                continue
            stored = await store.put(said)
            assert await store.get(said.id, namespace=said.namespace) == stored, fields

    async def test_zero_has_no_sign_as_an_importance(self, store: MemoryStore) -> None:
        await store.put(item("a", importance=-0.0))
        await store.put(item("b"))
        await store.update("b", importance=-0.0)
        for found in (await store.list({"importance": 0})).items:
            assert str(found.importance) == "0.0", found.id
            assert await store.touch(found.id)
        assert await ids(store) == ["a", "b"]
        assert (await store.verify()).ok
        assert (await store.put(item("a", "again", importance=0.0))).importance == 0.0
        assert await store.delete_many(["a", "b"]) == [True, True]

    async def test_what_a_backend_declares_it_cannot_hold_is_refused_before_any_io_and_absent(
        self, make: Make, place: Path
    ) -> None:
        tap = Tap()
        store = await make(layers=(tap,)).open()
        limits = store.capabilities
        bad = [item(id) for id in ("a/b", "..", "__x__") if limits.forbidden_ids and id not in possible(store, [id])]
        if not limits.namespaces:
            bad += [item(namespace=("other",)), item(namespace=("default", "below"))]
        if not bad:
            pytest.skip(f"{store.name} holds every namespace and id")
        for one in bad:
            for call in (store.put, store.add):
                with pytest.raises(InvalidItem, match=store.name):
                    await call(one)
            with pytest.raises(InvalidItem, match=store.name) as caught:
                await store.put_many([item("ok"), one])
            assert getattr(caught.value, "index", None) == 1
        lines = "".join(json.dumps(one.to_dict()) + "\n" for one in bad)
        await asyncio.to_thread((place / "bad.jsonl").write_text, lines, "utf-8")
        report = await store.import_jsonl(place / "bad.jsonl", on_error="skip")
        assert (report.imported, len(report.refused)) == (0, len(bad))
        assert tap.calls == []
        for one in bad:
            assert await store.get(one.id, namespace=one.namespace) is None
            assert not await store.touch(one.id, namespace=one.namespace)
            assert not await store.delete(one.id, namespace=one.namespace)
            assert await store.count({"id": one.id}, namespace=one.namespace) == 0
        assert await store.namespaces() == []

    async def test_a_record_of_256_kib_is_stored_and_one_byte_more_refused(self, store: MemoryStore) -> None:
        base = of_size(MAX_RECORD_BYTES - 4_096)
        stored = await store.put(base)
        assert await store.get("a") == stored
        largest = of_size(MAX_RECORD_BYTES - 100)
        await store.put(largest)
        with pytest.raises(InvalidItem, match="limit"):
            await store.put(of_size(MAX_RECORD_BYTES + 1))
        found = await store.get("a")
        assert found is not None
        assert found.content == largest.content

    async def test_bad_arguments_are_refused_before_any_io(self, make: Make) -> None:
        tap = Tap()
        store: Any = await make(layers=(tap,)).open()
        calls: list[Callable[[], Any]] = [
            lambda: store.get(""), lambda: store.get("\0"), lambda: store.get(5), lambda: store.get("x" * 513), lambda: store.get(None),
            lambda: store.get("a", namespace=()), lambda: store.get("a", namespace=("",)), lambda: store.get("a", namespace=5),
            lambda: store.get_many(["a", ""]), lambda: store.get_many([1]), lambda: store.exists("\ud800"),
            lambda: store.delete(""), lambda: store.delete("a", if_version=0), lambda: store.delete("a", if_version=-1),
            lambda: store.delete("a", if_version="1"), lambda: store.delete("a", if_version=True), lambda: store.delete_many([""]),
            lambda: store.put(item(), ttl=0), lambda: store.put(item(), ttl=-1), lambda: store.put(item(), ttl="5"),
            lambda: store.put(item(), ttl=float("nan")), lambda: store.put(item(), ttl=float("inf")), lambda: store.put(item(), ttl=True),
            lambda: store.put(item(), if_version=0), lambda: store.put(item(), if_version=1.5), lambda: store.put(item(), if_version=2**63),
            lambda: store.touch(""), lambda: store.touch("a", ttl=-1), lambda: store.touch("a", if_version=0), lambda: store.touch("a", expires_at=NAIVE),
            lambda: store.update("", content=1), lambda: store.update("a", metadata=5), lambda: store.update("a", if_version=0),
            lambda: store.update("a", metadata=deep(3_000)), lambda: store.update("a", content=deep(3_000)), lambda: store.update("a", content=nested(3_000)),
            lambda: store.update("a", content=endless()), lambda: store.update("a", metadata=endless()), lambda: store.update("a", metadata={"x": [object()]}),
            lambda: store.update("a", kind=5), lambda: store.update("a", importance=2), lambda: store.update("a", tags="x"), lambda: store.update("a", ttl=0),
            lambda: store.update("a", embedding=[1j]), lambda: store.update("a", text=5), lambda: store.update("a", expires_at=NAIVE),
            lambda: store.put(item(content=endless())), lambda: store.put(item(metadata=deep(3_000))),
            lambda: store.list(limit=0), lambda: store.list(limit=1_001), lambda: store.list(limit="5"), lambda: store.list(limit=True),
            lambda: store.list(order="name"), lambda: store.list(order="--key"), lambda: store.list(order=""), lambda: store.list(order=5),
            lambda: store.list(order=[]), lambda: store.list(order={}), lambda: store.list(order=None), lambda: store.list(order=("key",)),
            lambda: store.search("x", exact="\ud800"), lambda: store.search("x", exact=object()), lambda: store.search("x", exact=1),
            lambda: store.search("x", exact=None), lambda: store.search("x", explain="yes"), lambda: store.search(vector=["1", "2"]),
            lambda: store.search(vector=np.array([1j, 2])), lambda: store.export_jsonl("a\0b"), lambda: store.import_jsonl("a\0b"),
            lambda: store.backup("a\0b"), lambda: store.restore("a\0b"), lambda: store.export_jsonl(5), lambda: store.import_jsonl(None),
            lambda: store.backup(b"x"), lambda: store.restore(5), lambda: store.backup("\ud800"), lambda: store.restore("x", replace="no"),
            lambda: store.list(namespace=()), lambda: store.list(under=("",)), lambda: store.list(under=("a",) * 17), lambda: store.list(under="\0"),
            lambda: store.count(namespace=5), lambda: store.namespaces(under=("\0",)), lambda: store.put_many([item()], ttl=-1),
            lambda: store.put(item(), ttl=10**400), lambda: store.touch("a", ttl=1.1e10), lambda: store.touch("a", expires_at=LATE),
            lambda: store.search(vector=[10**400]),
            lambda: store.put_many([item()], dedup="x"), lambda: anext(store.stream(batch_size=0)), lambda: anext(store.stream(under=5)),
            lambda: store.delete_where(None), lambda: store.delete_where({}), lambda: store.delete_where({"kind": "x"}, namespace=()),
        ]  # fmt: skip
        for number, call in enumerate(calls):
            try:
                result = await call()
            except MemoryStoreError as error:
                assert str(error)
            except Exception as error:
                raise AssertionError(f"call {number} raised {error!r}, which is no typed error") from error
            else:
                raise AssertionError(f"call {number} was accepted and returned {result!r}")
        assert tap.calls == []

    async def test_bad_options_are_refused_when_the_store_is_made(self, make: Make) -> None:
        options: dict[str, Any]
        for options in (
            {"dimension": 0}, {"dimension": "5"}, {"dimension": 10**9}, {"source": {"a": object()}}, {"index": ("kind",)}, {"index": ("metadata",)},
            {"index": ("metadata.a\\x",)}, {"index": (5,)}, {"index": (None,)}, {"index": 5}, {"index": "metadata.a"}, {"index": ("metadata.\ud800",)},
            {"language": 5}, {"language": ""}, {"language": None}, {"language": "englsh"}, {"source": [1]}, {"source": "x"}, {"source": 5}, {"source": []},
            {"source": {"x": "\ud800"}}, {"source": {1: 2}},
        ):  # fmt: skip
            with pytest.raises(MemoryStoreError):
                make(**options)
        with pytest.raises(TypeError):
            make(nonsense=1)

    async def test_spans_of_time_are_seconds_that_can_be_counted(self, make: Make) -> None:
        for name in ("feed_retention", "sweep_interval"):
            for value in (
                0,
                -1,
                -0.5,
                float("inf"),
                float("nan"),
                1e300,
                10**30,
                1e11,
                "60",
                True,
                timedelta(1),
                b"1",
                [1],
            ):
                with pytest.raises(InvalidSetting, match=f"{name} must be a positive number of seconds") as caught:
                    make(**{name: value})
                assert caught.value.setting == name
        with pytest.raises(InvalidSetting, match="feed_retention"):
            make(feed_retention=None)
        for seconds in (100 * 365 * 86_400, 1e-6):
            store: Any = await make(feed_retention=seconds, sweep_interval=max(seconds, 1.0)).open()
            await store.put(item())
            await store.sweep()
            assert await ids(store) == ["a"]
            await store.close()

    async def test_an_unknown_language_is_refused(self, make: Make) -> None:
        with pytest.raises(InvalidSetting, match="english"):
            store = await make(language="englsh").open()
            await store.put(item())
            await store.search("text")

    async def test_bad_scopes_are_refused(self, store: Any) -> None:
        pins: dict[str, Any]
        for pins in (
            {"namespace": ()}, {"namespace": ("",)}, {"user_id": ""}, {"user_id": 5}, {"session_id": "\0"}, {"agent_id": "x" * 257},
            {"under": ("a\0",)}, {"source": {"x": object()}}, {"namespace": 5}, {"source": [1]}, {"source": "x"}, {"source": 5}, {"source": []}, {"source": {"x": "\ud800"}},
            {"source": endless()}, {"source": {1: 2}},
        ):  # fmt: skip
            with pytest.raises(InvalidItem):
                store.scoped(**pins)

    async def test_a_refused_call_leaves_the_store_usable(self, store: MemoryStore) -> None:
        for bad in (item("\0"), item(importance=5), item(content="x" * 300_000)):
            with pytest.raises(InvalidItem):
                await store.put(bad)
        stored = await store.put(item())
        assert await store.get("a") == stored


class LongTexts(Suite):
    """Texts up to the limits."""

    async def test_a_long_text_is_found_by_its_first_and_last_words(self, store: MemoryStore) -> None:
        middle = "grass and stone " * 12_000
        await store.put(item(content=f"marmot {middle} eagle"))
        for word in ("marmot", "eagle", "stone"):
            assert [hit.item.id for hit in await store.search(word)] == ["a"], word

    async def test_five_thousand_terms_are_searched(self, store: MemoryStore) -> None:
        await store.put(item(content=" ".join(f"w{i}" for i in range(5_000))))
        await store.put(item("b", content=" ".join(f"v{i}" for i in range(5_000)), text="w17"))
        assert [hit.item.id for hit in await store.search("w17")] == ["b", "a"]
        assert [hit.item.id for hit in await store.search("w4999")] == ["a"]
        await store.delete("a")
        assert (await store.search("w4999")).hits == []

    async def test_a_text_with_too_many_terms_is_refused_in_an_update_too(self, store: MemoryStore) -> None:
        first = await store.put(item())
        with pytest.raises(InvalidItem, match="5,000"):
            await store.update("a", text=" ".join(f"w{i}" for i in range(5_001)))
        assert await store.get("a") == first


class Vectors(Suite):
    """Vectors are kept; searching by them is another part's."""

    async def test_a_vector_is_stored_verbatim(self, store: MemoryStore) -> None:
        values = [0.1, -0.0, 1e-45, 3.4028234e38, -1.5, 2**-126, 0.0]
        for said in (
            values,
            np.array(values, dtype=np.float64),
            np.array(values, dtype="<f4"),
            np.array(values, dtype=">f4"),
        ):
            await store.put(item(embedding=said))
            found = await store.get("a")
            assert found is not None
            assert found.embedding.dtype == np.float32
            assert found.embedding.tobytes() == np.asarray(values, dtype="<f4").tobytes()
        (listed,) = (await store.list()).items
        assert listed.embedding.tobytes() == np.asarray(values, dtype="<f4").tobytes()

    async def test_a_caller_who_changes_its_vector_changes_nothing(self, store: MemoryStore) -> None:
        vector = np.array([1, 2, 3], dtype=np.float32)
        await store.put(item(embedding=vector))
        vector[0] = 99
        found = await store.get("a")
        assert found is not None
        assert found.embedding.tolist() == [1, 2, 3]

    async def test_a_put_without_a_vector_removes_it(self, store: MemoryStore) -> None:
        await store.put(item(embedding=[1.0]))
        await store.put(item())
        found = await store.get("a")
        assert found is not None
        assert found.embedding is None

    async def test_a_large_vector_is_stored(self, store: MemoryStore, clock: ManualClock) -> None:
        most = whole(store).capabilities.max_dimension
        vector = np.random.default_rng(1).normal(size=most).astype("<f4")
        await store.put(item(embedding=vector))
        found = await store.get("a")
        assert found is not None
        assert found.embedding.tobytes() == vector.tobytes()

    async def test_a_vector_beyond_the_declared_dimension_is_refused_before_any_io(self, make: Make) -> None:
        tap = Tap()
        store = await make(layers=(tap,)).open()
        size = whole(store).capabilities.max_dimension + 1
        for call in (
            lambda: store.put(item(embedding=np.ones(size, dtype=np.float32))),
            lambda: store.put_many([item("b"), item(embedding=np.ones(size, dtype=np.float32))]),
        ):
            with pytest.raises(InvalidItem, match="embedding"):
                await call()
        with pytest.raises(InvalidItem):
            make(dimension=size)
        assert tap.calls == []

    async def test_a_vector_of_another_dimension_is_refused(self, make: Make) -> None:
        tap = Tap()
        store = await make(dimension=3, layers=(tap,)).open()
        with pytest.raises(EmbeddingMismatch):
            await store.put(item(embedding=[1.0, 2.0]))
        with pytest.raises(EmbeddingMismatch):
            await store.put_many([item("ok", embedding=[1.0, 2.0, 3.0]), item(embedding=[1.0])])
        assert tap.calls == []
        await store.put(item(embedding=[1.0, 2.0, 3.0]))
        await store.put(item("b"))
        with pytest.raises(EmbeddingMismatch):
            await store.update("b", embedding=[1.0])
        assert await ids(store) == ["a", "b"]
