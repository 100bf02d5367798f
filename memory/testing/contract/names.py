"""Sentences about hostile names and payloads: nothing leaks by a prefix, nothing becomes query text, a path or code."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from memory.filters import F
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, exact, home, ids, item, needs, possible, walk

NAMES = [
    *("foo", "foobar", "foo.bar", "foo/bar", "foo:bar", "f%", "f_o", "f?o", "*", "**", "%", "_", "..", ".", "../..", "/", "//", "a/b", "a:b", "a\\b"),
    *("é", "e\u0301", "K", "\u212a", "k", "Foo", "FOO", "ß", "ss", "İ", "i", "ﬁ", "fi", "Ω", "Ω"),
    *("'", '"', "'; DROP TABLE records; --", "' OR '1'='1", "1 UNION SELECT 1", "`", "$", "${x}", "{}", "{0}", "%s", "%00", "\\", "\\0"),
    *("__id__", "__proto__", "__class__", "null", "None", "true", "0", "-1", "1e5", " ", "  ", "a ", " a", "a", "A", "\t", "\n", "a\nb", "\x01", "\x7f"),
    *("\u200b", "\u202eabc", "\ufeff", "\U0001f600", "\U0010ffff", "\uffff", "con", "nul", "~", "#", "?x=1", "k-", "k45", "k", "[a]", "(a)", "a|b", "@", "!"),
]  # fmt: skip
LONG = ["x" * 512, "x" * 511 + "y", "é" * 256, "\U0001f600" * 128, "/" * 512]

PAYLOADS: list[Any] = [
    "'; DROP TABLE items; --", "\" OR 1=1 --", "NUL \0 inside", "\0", "%s %d %n {0} {x} ${y}", "<script>alert(1)</script>", "../../etc/passwd",
    {"lc": 1, "type": "constructor", "id": ["os", "system"]}, {"__class__": "os.system", "__reduce__": ["x"]}, {"py/object": "os.system"},
    {"$gt": 1, "$where": "1"}, {"$set": {"a": 1}}, {"": "empty key", " ": "blank", "a.b": 1, "$": 2, "\0": 3, "é": 4, "e\u0301": 5},
    "\ud7ff\ue000\uffff\U0010ffff", "\u202e reversed \u200b", "e\u0301 é", "line\r\nbreaks\u2028\u2029", "\x00\x01\x02\x7f\x80", "{\"json\": [1, 2]}",
    [], {}, "", None, True, False, 0, -0.0, 1e18, 1e-320, 2**63 - 1, -(2**63), 2**53 + 1, 0.1 + 0.2, [[[[]]]], {"a": {"a": {"a": {}}}}, "a" * 10_000,
]  # fmt: skip


class Names(Suite):
    """Namespaces, ids, owners and tags of every kind."""

    async def test_no_namespace_is_mistaken_for_another(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        names = list(dict.fromkeys([*NAMES, *LONG]))
        await store.put_many([item("id", name, namespace=(name,)) for name in names])
        assert await store.count() == len(names)
        for name in names:
            assert [one.content for one in await walk(store, namespace=(name,))] == [name], repr(name)
            assert [one.content for one in await walk(store, under=(name,))] == [name], repr(name)
            found = await store.get("id", namespace=(name,))
            assert found is not None
            assert (found.content, found.namespace) == (name, (name,))
        assert sorted(await store.namespaces()) == sorted((name,) for name in names)

    async def test_no_id_is_mistaken_for_another(self, store: MemoryStore) -> None:
        names = possible(store, [*NAMES, *LONG])
        await store.put_many([item(name, name) for name in names])
        found = await store.get_many(names)
        assert [one and (one.id, one.content) for one in found] == [(name, name) for name in names]
        assert await ids(store) == sorted(names, key=str.encode)
        for name in names[::3]:
            assert await store.delete(name)
        left = [name for i, name in enumerate(names) if i % 3]
        assert await ids(store, limit=7) == sorted(left, key=str.encode)

    async def test_no_segment_boundary_is_mistaken_for_another(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        paths = [
            ("a", "b"), ("a/b",), ("a:b",), ("a.b",), ("ab",), ("a|b",), ("a", "b", "c"), ("a", "bc"), ("a\x01b",), ("a,b",),
            ("a", "b/c"), ("a/b", "c"), ("a", "b", "c", "d"), ("1", "a", "1", "b"), ("2a1b",), ("a\\", "b"), ("a", "\\b"), ("a\\b",),
        ]  # fmt: skip
        await store.put_many([item("id", list(path), namespace=path) for path in paths])
        assert await store.count() == len(paths)
        for path in paths:
            assert [one.content for one in await walk(store, namespace=path)] == [list(path)]
            below = sorted(list(other) for other in paths if other[: len(path)] == path)
            assert sorted(one.content for one in await walk(store, under=path)) == below

    async def test_namespace_and_id_are_not_run_together(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        keys = [
            (("a",), "b:c"),
            (("a", "b"), "c"),
            (("a:b",), "c"),
            (("a",), "b/c"),
            (("a/b",), "c"),
            (("a",), "bc"),
            (("ab",), "c"),
        ]
        await store.put_many([item(id, [list(path), id], namespace=path) for path, id in keys])
        for path, id in keys:
            found = await store.get(id, namespace=path)
            assert found is not None
            assert found.content == [list(path), id]
        assert await store.count() == len(keys)

    async def test_no_owner_is_mistaken_for_another(self, store: MemoryStore) -> None:
        names = list(dict.fromkeys(NAMES))
        for i, name in enumerate(names):
            await store.put(item(str(i), "marmot", user_id=name, session_id=names[-1 - i]))
        for i, name in enumerate(names):
            view = store.scoped(user_id=name)
            assert await ids(view) == [str(i)], repr(name)
            assert await view.count() == 1
            assert [hit.item.id for hit in await view.search("marmot")] == [str(i)], repr(name)
            assert await ids(store, {"user_id": name}) == [str(i)]
            assert await ids(store.scoped(session_id=name)) == [str(names.index(names[len(names) - 1 - i]))]

    async def test_tags_and_kinds_are_taken_literally(self, store: MemoryStore) -> None:
        names = list(dict.fromkeys(NAMES))
        await store.put_many([item(f"{i:03}", kind=name, tags=(name, "all")) for i, name in enumerate(names)])
        for i, name in enumerate(names):
            assert await ids(store, {"kind": name}) == [f"{i:03}"], repr(name)
            assert await ids(store, {"tags": {"$contains": name}}) == [f"{i:03}"], repr(name)
        assert await store.count({"tags": {"$contains": "all"}}) == len(names)

    async def test_filters_are_values_never_query_text(self, store: MemoryStore) -> None:
        await store.put_many([item(str(i), metadata={name: name}) for i, name in enumerate(NAMES[:60])])
        for i, name in enumerate(NAMES[:60]):
            if NAMES.index(name) != i:
                continue
            found = await ids(store, F.metadata[name] == name)
            assert str(i) in found, repr(name)
            assert await ids(store, F.metadata[name + "'"] == name) == []
            assert len(await ids(store, F.metadata[name].startswith(name))) == len(found)

    async def test_the_store_is_whole_after_every_hostile_name(self, make: Make) -> None:
        store = await make().open()
        before = await store.put(item("witness"))
        for name in possible(store, NAMES):
            await store.put(item(name, name, namespace=home(store, name), kind=name, user_id=name, tags=(name,)))
            await store.search(name, namespace=home(store, name))
            await store.count({"content": name}, under=home(store, name))
            await store.delete_where({"content": name, "kind": name}, namespace=home(store, name))
        assert await store.get("witness") == before
        assert await store.count() == 1
        assert (await store.verify()).ok

    async def test_nothing_is_written_outside_the_stores_place(self, make: Make, place: Path) -> None:
        outside = place.parent
        before = await asyncio.to_thread(lambda: sorted(path.name for path in outside.iterdir()))
        store = await make().open()
        for name in possible(store, ("../escape", "/tmp/escape", "..", "a/../../escape", "\\..\\escape")):
            await store.put(item(name, namespace=home(store, name)))
        assert await asyncio.to_thread(lambda: sorted(path.name for path in outside.iterdir())) == before

    async def test_hostile_names_survive_close_and_open(self, make: Make) -> None:
        store = await make().open()
        needs(store, "persistent")
        names = possible(store, [*NAMES, *LONG])
        await store.put_many([item(name, name, namespace=home(store, name)) for name in names])
        await store.close()
        store = await make().open()
        for name in names:
            found = await store.get(name, namespace=home(store, name))
            assert found is not None
            assert found.content == name


class Payloads(Suite):
    """Content, metadata and text of every kind."""

    async def test_every_payload_comes_back_verbatim(self, store: MemoryStore) -> None:
        for i, payload in enumerate(PAYLOADS):
            said = MemoryItem(id=str(i), content=payload, metadata={"p": payload, "k": {"p": [payload]}})
            stored = await store.put(said)
            found = await store.get(str(i))
            assert found == stored
            assert found is not None
            assert exact(found.content) == exact(payload)
            assert exact(found.metadata["k"]["p"][0]) == exact(payload)
        listed = {one.id: one for one in await walk(store)}
        assert [exact(listed[str(i)].content) for i in range(len(PAYLOADS))] == [exact(payload) for payload in PAYLOADS]

    async def test_payloads_survive_close_and_open(self, make: Make) -> None:
        store = await make().open()
        needs(store, "persistent")
        stored = await store.put_many([item(f"{i:03}", p, metadata={"p": p}) for i, p in enumerate(PAYLOADS)])
        await store.close()
        store = await make().open()
        assert await walk(store) == stored
        assert [exact(one.content) for one in await walk(store)] == [exact(p) for p in PAYLOADS]

    async def test_payloads_are_found_by_their_value(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:03}", p) for i, p in enumerate(PAYLOADS)])
        for i, payload in enumerate(PAYLOADS):
            assert f"{i:03}" in await ids(store, {"content": {"$eq": payload}}), exact(payload)

    async def test_twenty_levels_of_json_are_stored_and_found(self, store: MemoryStore) -> None:
        deep: Any = "bottom"
        for _ in range(20):
            deep = {"d": deep}
        await store.put(item(content=deep, metadata=deep))
        found = await store.get("a")
        assert found is not None
        assert found.content == found.metadata == deep
        assert await ids(store, {"metadata" + ".d" * 20: "bottom"}) == ["a"]

    async def test_a_text_of_any_characters_is_searched_without_harm(self, store: MemoryStore) -> None:
        strange = [
            "\0",
            "\u202e",
            "a\0b",
            "\ufeffword",
            "Z" + "\u0300" * 50,
            "\U000e0001",
            "\ufdfa" * 20,
            "'" * 100,
            "a" * 5_000,
            "🏳️‍🌈",
            "́",
        ]
        await store.put_many([item(f"{i:02}", text + " marmot") for i, text in enumerate(strange)])
        assert len((await store.search("marmot", limit=50)).hits) == len(strange)
        for text in strange:
            await store.search(text)
        assert (await store.search("marmot\0")).hits

    async def test_the_sources_words_are_data(self, make: Make) -> None:
        hostile = {"by": "'; DROP TABLE x; --", "trust": 0.5, "n": {"a.b": "\0"}}
        store = await make(source=hostile).open()
        await store.put(item())
        found = await store.get("a")
        assert found is not None
        assert found.source == hostile
        assert await ids(store, F.source["n"]["a.b"] == "\0") == ["a"]
        assert await ids(store, {"source.by": "x"}) == []
