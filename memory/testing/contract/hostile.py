"""Sentences about hostile callers: what published attacks put into names, filters and queries, and what is made up of them.

A filter may come from a language model that has read the attacker's text. Whatever stands in it: no row of another tenant
comes back, nothing is changed, and no error but this package's own gets out.
"""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from memory.errors import InvalidCursor, InvalidFilter, InvalidItem, MemoryStoreError
from memory.filters import F
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Suite, ids, item, walk

PUBLISHED = [
    # Filter keys and values that became SQL or a JSON path.
    *("x' OR '1'='1", "x') OR 1=1 --", "a') = '1' OR 1=1 --", "$.x') IS NOT NULL OR ('1'='1", "x\" OR \"1\"=\"1", "'; DROP TABLE items; --"),
    *("x') UNION SELECT body FROM items --", "metadata->>'a' = 'b' OR TRUE --", "'||(SELECT pg_sleep(9))||'", "1; SELECT pg_sleep(9)", "\\' OR 1=1 --"),
    *("$1", "$$", ":1", ":name", "%s", "%(name)s", "?", "??", "/**/", "--", "E'\\047'", "x::text", "1=1) OR (1=1", "' || user_id || '", "{a,b}", "{\"a\"}"),
    *("$", "$.*", "$..*", "$[*]", "$.a.b", "a.b", "a\\.b", "[\"a\"]", "#>", "@>", "->>", "x' #>> '{a}", "a[0]", "$.\"a\"", "\"", "'", "\\", "\\\\", "`"),
    # Prefixes in which % and _ were wild, names that were the same after folding, paths that left their folder.
    *("%", "_", "foo%", "f_o", "*", "?*", "[a-z]*", "^a", "a\\*", "..", "../../etc/passwd", "%2e%2e%2f", "a/b", "__x__", "\u212a", "\u017f", "é", "e\u0301"),
    # Query languages of search engines: braces, bars, ranges and operators that were not escaped.
    *("*}|@user_id:{*", "a} | @user_id:{b}", "a}) (@user_id:{b}", "(@user_id:{b})", "a|b", "a\\|b", "-@user_id:{a}", "@x:[-inf +inf]", "=>[KNN 9 @vector $v]"),
    *("a} => { $weight: 9 }", "~a", "\"a b\"", "(a", "[a", "+", "-", "a,b", "a;b", "a b", " ", "{a}", "a{b}c", "{}", "}{", "@", ":", "|", "=", "!", "/"),
    # Protocols, scripts, expressions that were evaluated.
    *("\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "redis.call('FLUSHALL')", "]] return 1 --", "\" .. KEYS[1] .. \"", "\nreturn 1", "\x1b[2J", "\x01\x02"),
    *("__import__('os').abort()", "lambda: True", "T(java.lang.Runtime).getRuntime().exec('x')", "{{7*7}}", "${7*7}", "#{7*7}", "$where", "$expr", "$function", "$ne"),
    *("null", "None", "true", "NaN", "-0", "1e999", "0x10", "9007199254740993", "[object Object]", "__proto__", "constructor", "__class__", "lc"),
]  # fmt: skip
PARTS = [
    *("'", '"', "\\", "`", ";", "--", "/*", "*/", "(", ")", "{", "}", "[", "]", "|", "@", ":", "%", "_", "*", "$", "$1", "#", "?", "=", "!=", "<", ">"),
    *(" OR ", " AND ", " UNION SELECT ", " LIKE ", "1=1", "user_id", "metadata", "body", "x", "b", "SECRET", ".", "..", "/", ",", " ", "\n", "\r\n", "\t", "\x00"),
    *("é", "\u0301", "\u212a", "\u2028", "\U0001f600", "\ud7ff", "\uffff", "$where", "$ne", "\\u0027", "%27", "&#39;", "-inf", "~", "=>", "->>", "::text"),
]  # fmt: skip
GENERATED = 100
TOGETHER = 20
Call = Callable[[], Awaitable[Any]]
SECRET = "TOPSECRET"


def generated(count: int = GENERATED) -> list[str]:
    """Strings made of what is special somewhere; the same ones each time."""
    chance = random.Random(7)
    return ["".join(chance.choices(PARTS, k=chance.randint(1, 6))) for _ in range(count)]


class Hostile(Suite):
    """Tenant A says what an attacker would; tenant B's memory is there."""

    async def test_published_attacks_are_names_values_and_words(self, store: MemoryStore) -> None:
        await attacked(store, PUBLISHED)

    async def test_generated_attacks_are_names_values_and_words(self, store: MemoryStore) -> None:
        await attacked(store, generated())


async def attacked(store: MemoryStore, payloads: Sequence[str]) -> None:
    """Each payload in every place where a caller can put a text; a few at a time, since most filters read everything."""
    a, b = store.scoped(user_id="a"), store.scoped(user_id="b")
    theirs = await b.put_many(
        [item(f"b{i}", f"{SECRET} {i}", metadata={"x": SECRET}, tags=(SECRET,)) for i in range(3)]
    )
    texts = list(dict.fromkeys(payloads))
    for start in range(0, len(texts), TOGETHER):
        part = texts[start : start + TOGETHER]
        await found_by_value(a, [text for text in part if "\0" not in text])
        for i, text in enumerate(part):
            for call in attempts(a, text)[i % 3 :: 3]:  # every third for each: the places are the same
                await silent(call)
            await refused(a, text)
        await a.delete_where(None, under=())
    assert await walk(b) == theirs, "nothing of B's was changed"
    assert (await store.verify()).ok


async def found_by_value(view: Any, texts: Sequence[str]) -> None:
    """A text is found by its value, and nothing else is."""
    await view.put_many(
        [
            item(f"{i:02}", text, metadata={text: text, "v": [text]}, tags=(text,), kind=text)
            for i, text in enumerate(texts)
        ]
    )
    for i, text in enumerate(texts):
        for where in (
            F.metadata[text] == text, F.kind == text, F.tags.contains(text), F.content == text, F.metadata["v"].contains(text),
            (F.metadata[text].startswith(text)) & (F.id == f"{i:02}"), ~(F.metadata[text] != text),
        )[i % 3 :: 3]:  # every third for each: the places are the same  # fmt: skip
            assert await ids(view, where) == [f"{i:02}"], (text, where)


def attempts(view: Any, text: str) -> list[Call]:
    """Calls in which the text stands where it should find nothing of anybody else, or be refused."""
    nobody = f"{text}{SECRET}"
    return [
        lambda: view.list({f"metadata.{text}": SECRET}),
        lambda: view.list({"metadata": {text: SECRET}}),
        lambda: view.list({"metadata.x": {"$in": [text, nobody]}}),
        lambda: view.list({"$or": [{"user_id": text}, {"session_id": text}, {"metadata.x": {"$startswith": nobody}}]}),
        lambda: view.count(F.metadata[nobody] >= text),
        lambda: view.search(text or "x", mode="text", where={"tags": {"$contains": nobody}}),
        lambda: view.search(f"{text} {SECRET}", mode="text"),
        lambda: view.get(text or "x", namespace=(text,)),
        lambda: view.list(under=("default", text)),
        lambda: view.delete_where(F.metadata[nobody] == text),
        lambda: view.delete(nobody, namespace=("default", text)),
    ]


async def silent(call: Call) -> None:
    """The call ends, with rows of its own tenant or an error of this package."""
    try:
        found = await call()
    except MemoryStoreError:
        return
    for one in found if hasattr(found, "__iter__") else [found]:
        found_item = getattr(one, "item", one)
        if isinstance(found_item, MemoryItem):
            assert found_item.user_id == "a", found_item
            assert SECRET not in str(found_item.content), found_item
        else:
            assert not found, found


async def refused(view: Any, text: str) -> None:
    """Where only known words are accepted, everything else is refused before any I/O."""
    calls: list[tuple[Call, type[MemoryStoreError]]] = [
        (lambda: view.list({f"x{text}": "y"}), InvalidFilter),
        (lambda: view.list({"metadata.x": {f"${text}": 1}}), InvalidFilter),
        (lambda: view.list(order=f"{text}!"), InvalidItem),
        (lambda: view.list(cursor=f"{text}!"), InvalidCursor),
    ]
    for call, error in calls:
        try:
            await call()
        except error:
            continue
        except MemoryStoreError as other:
            raise AssertionError(f"{text!r} was refused with {other!r}") from None
        raise AssertionError(f"{text!r} was accepted where only known words are")
