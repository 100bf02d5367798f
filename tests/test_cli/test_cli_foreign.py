"""The command: importing what is no export of ours, chats and records with a map."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory.cli.foreign import Chat, Mapped, Owner
from memory.codec import encode
from memory.errors import InvalidItem
from memory.model import check_item

Memory = Callable[..., Any]

CHAT = [
    {"role": "user", "content": "Which flights leave Bristol on Sunday?", "timestamp": 1740000000},
    {"role": "assistant", "content": "Two: 07:10 and 18:45.", "timestamp": 1740000000000},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Book the first"}],
        "created_at": "2025-02-19T22:30:00+01:00",
    },
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]},
]


def write(file: Path, records: list[Any]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def items(memory: Memory, *options: str) -> list[Any]:
    found: list[Any] = memory("list", "--order", "created_at", "--json", *options).json["items"]
    return found


# --- chats -------------------------------------------------------------------------------------


def test_a_chat_becomes_one_session_in_order_with_its_times(memory: Memory, empty: Path) -> None:
    write(empty / "trip.jsonl", CHAT)
    done = memory("import", "trip.jsonl", "--user", "ana")
    assert (done.code, done.out, done.err) == (0, "4 imported (a chat, session trip)\n", "")
    found = items(memory)
    assert [item["content"] for item in found] == [message["content"] for message in CHAT]
    assert [item["created_at"] for item in found] == [
        "2025-02-19T21:20:00.000000Z",
        "2025-02-19T21:20:00.000001Z",  # the same moment, in order all the same
        "2025-02-19T21:30:00.000000Z",
        "2025-02-19T21:30:00.000001Z",  # without a time: just after the one before
    ]
    assert {(item["user_id"], item["session_id"], item["kind"]) for item in found} == {("ana", "trip", "conversation")}
    assert found[3]["metadata"] == {"role": "assistant", "tool_calls": [{"id": "c1"}]}
    hit = memory("search", "book first", "--json").json["hits"][0]
    assert hit["item"]["id"] == found[2]["id"]
    assert "Book the first" in memory("list").out, "the words are shown, not the parts they came in"


def test_the_same_chat_again_changes_nothing_and_one_that_has_grown_adds_the_rest(memory: Memory, empty: Path) -> None:
    write(empty / "trip.jsonl", CHAT[:2])
    memory("import", "trip.jsonl")
    memory("update", items(memory)[0]["id"], "--tag", "mine")
    before = items(memory)
    again = memory("import", "trip.jsonl", "--json").json
    assert again == {"form": "chat", "session": "trip", "imported": 0, "unchanged": 2, "refused": {}}
    assert items(memory) == before
    write(empty / "trip.jsonl", CHAT)
    assert memory("import", "trip.jsonl").out == "2 imported, 2 there already (a chat, session trip)\n"
    assert items(memory)[:2] == before


def test_equal_messages_stay_apart_and_so_do_users_sessions_and_namespaces(memory: Memory, empty: Path) -> None:
    write(empty / "c.jsonl", [{"role": "user", "content": "yes"}] * 3)
    for options in ([], ["--user", "ana"], ["--session", "other"], ["--agent", "juno"], ["-n", "team"]):
        assert memory("import", "c.jsonl", *options, "--json").json["imported"] == 3, options
    assert memory("count").out == "15\n"


def test_a_chat_is_read_from_an_array_and_from_standard_input(memory: Memory, empty: Path) -> None:
    (empty / "c.json").write_text("\ufeff" + json.dumps(CHAT, indent=2))
    assert memory("import", "c.json", "--json").json["imported"] == 4
    lines = "\n".join(map(json.dumps, CHAT))
    unsure = memory("import", "-", stdin=lines)
    assert (unsure.code, "--session" in unsure.err) == (2, True)
    assert memory("import", "-", "--session", "c", "--json", stdin=lines).json["unchanged"] == 4


def test_a_bad_message_is_named_and_nothing_or_the_rest_is_imported(memory: Memory, empty: Path) -> None:
    bad = [
        CHAT[0],
        {"role": "user"},
        {"role": "", "content": "x"},
        7,
        {"role": "user", "content": "x", "timestamp": "?"},
    ]
    write(
        empty / "c.jsonl", [*bad, CHAT[1], {"role": "user", "content": 1}, {"role": "user", "content": "x" * 300_000}]
    )
    with (empty / "c.jsonl").open("a") as file:
        file.write("\n{broken\n")
    refused = memory("import", "c.jsonl")
    assert (refused.code, refused.err) == (2, "memory: line 2: this has no content. Nothing was imported\n")
    assert memory("count").out == "0\n"
    done = memory("import", "c.jsonl", "--skip-bad", "--json")
    assert (done.code, done.json["imported"]) == (1, 2)
    reasons = done.json["refused"]
    assert list(reasons) == ["2", "3", "4", "5", "7", "8", "10"]
    for line, words in {"3": "role", "4": "must be a dict", "5": "no time", "8": "the limit", "10": "not JSON"}.items():
        assert words in reasons[line], line
    shown = memory("import", "c.jsonl", "--skip-bad")
    assert shown.out == "0 imported, 2 there already, 7 refused (a chat, session c)\n"
    assert "line 2: this has no content" in shown.err


def test_in_an_array_a_bad_message_is_named_by_its_place(memory: Memory, empty: Path) -> None:
    (empty / "c.json").write_text(json.dumps([CHAT[0], {"role": "user"}]))
    assert "element 2: this has no content" in memory("import", "c.json").err
    assert "element 2: this has no content" in memory("import", "c.json", "--skip-bad").err


def test_a_message_with_too_many_words_is_found_before_anything_is_written(memory: Memory, empty: Path) -> None:
    long = " ".join(f"word{number}" for number in range(5_001))
    write(empty / "c.jsonl", [{"role": "user", "content": "short"}, {"role": "user", "content": long}])
    done = memory("import", "c.jsonl")
    assert (done.code, "line 2" in done.err, "distinct terms" in done.err) == (2, True, True)
    assert memory("count").out == "0\n"


def test_a_chat_may_begin_with_a_message_that_says_nothing(memory: Memory, empty: Path) -> None:
    write(empty / "c.jsonl", [{"role": "assistant", "tool_calls": [{"id": "c1"}]}, *CHAT])
    assert memory("import", "c.jsonl", "--json").json["imported"] == 5


def test_an_export_is_known_by_its_lines_though_chats_are_in_it(memory: Memory, empty: Path) -> None:
    write(empty / "c.jsonl", CHAT)
    memory("import", "c.jsonl")
    memory("export", "all.jsonl")
    assert memory("import", "all.jsonl", "--path", "new.db").out == "4 imported (an export of memories)\n"
    assert [item["id"] for item in items(memory, "--path", "new.db")] == [item["id"] for item in items(memory)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"note": "x", "by": "ana"}', "say which of their fields is what, such as --map content=FIELD"),
        ('{"note": "x", "by": "ana"}', "Their fields: by, note"),
        ('{"role": "user", "text": "x"}', "Their fields: role, text"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "jq -c '.messages[]'"),
        ('[{"content": "x"}]', "jq -c '.[]'"),
        ('[{"role": "user", "content": "x"},', "begins as a JSON array, but is none"),
        ("not json", "line 1: this is not JSON"),
    ],
)
def test_a_file_of_another_make_is_refused_with_what_to_do(memory: Memory, empty: Path, text: str, words: str) -> None:
    (empty / "f").write_text(text)
    done = memory("import", "f")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert words in done.err
    assert not (empty / "memory.db").exists() or memory("count").out == "0\n"


# --- records with a map ------------------------------------------------------------------------

MAILS = [
    {
        "id": 7,
        "body": {"text": "The boiler is fixed"},
        "from": "ana",
        "ts": 1740000000123,
        "labels": ["home"],
        "x": [1, {"y": 2}],
    },
    {"id": 8, "body": {"text": "Rent is due"}, "from": "bob", "ts": "2025-03-01", "labels": [], "note": None},
]
MAP = (
    "--map",
    "content=body.text",
    "--map",
    "user_id=from",
    "--map",
    "created_at=ts",
    "--map",
    "metadata.topic=labels",
)


@pytest.mark.parametrize("array", [False, True])
def test_records_of_any_form_come_in_by_a_map(memory: Memory, empty: Path, array: bool) -> None:
    file = empty / "mail"
    if array:
        file.write_text(json.dumps(MAILS))
    else:
        write(file, MAILS)
    more = ("--map", "tags=labels", "--map", "metadata.deep.y=x.1.y", "--map", "kind=note")
    assert memory("import", "mail", *MAP, *more).out == "2 imported (records, by --map)\n"
    first, second = items(memory)
    assert (first["content"], first["user_id"], first["tags"]) == ("The boiler is fixed", "ana", ["home"])
    assert first["created_at"] == "2025-02-19T21:20:00.123000Z"
    assert first["metadata"] == {"topic": ["home"], "deep": {"y": 2}}
    assert (second["kind"], second["metadata"], second["created_at"]) == (
        "note",
        {"topic": []},
        "2025-03-01T00:00:00.000000Z",
    )
    assert memory("import", "mail", *MAP, *more, "--json").json["unchanged"] == 2


def test_records_with_ids_of_their_own_are_replaced_where_they_differ(memory: Memory, empty: Path) -> None:
    write(empty / "mail", MAILS)
    line = ("import", "mail", *MAP, "--map", "id=id")
    memory(*line)
    before = items(memory)
    assert sorted(item["id"] for item in before) == ["7", "8"]
    write(empty / "mail", [MAILS[0], {**MAILS[1], "body": {"text": "Rent is paid"}}])
    assert memory(*line).out == "1 imported, 1 there already (records, by --map)\n"
    after = items(memory)
    assert after[0] == before[0]
    assert (after[1]["content"], after[1]["created_at"]) == ("Rent is paid", before[1]["created_at"])


def test_a_whole_record_can_be_the_content_and_another_the_metadata(memory: Memory, empty: Path) -> None:
    write(empty / "r", [{"a.b": "x", "m": {"k": 1}, "space": ["team", "red"]}])
    line = ("--map", "content=.", "--map", r"text=a\.b", "--map", "metadata=m", "--map", "metadata.z=m.k")
    assert memory("import", "r", *line, "--map", "namespace=space").code == 0
    (item,) = items(memory, "-n", "team", "-n", "red")
    assert (item["text"], item["metadata"], item["content"]["a.b"]) == ("x", {"k": 1, "z": 1}, "x")


def test_what_a_record_lacks_or_has_wrong_is_named_by_line(memory: Memory, empty: Path) -> None:
    write(
        empty / "r",
        [
            {"t": "good"},
            {"u": 1},
            "text",
            {"t": "x", "m": 5},
            {"t": "x", "at": "soon"},
            {"t": "x", "tags": [{}]},
            {"t": "x", "m": {"k": 1}, "z": 2},
            {"t": "x", "u": "bob"},
        ],
    )
    pairs = ("content=t", "metadata=m", "metadata.k.z=z", "created_at=at", "tags=tags", "user_id=u")
    line = ("import", "r", "--user", "ana", *(word for pair in pairs for word in ("--map", pair)))
    assert "line 2: there is nothing at t to remember. Nothing was imported" in memory(*line).err
    told = memory(*line, "--skip-bad", "--json")
    assert (told.code, told.json["imported"]) == (1, 1)
    words = {"2": "nothing at t", "3": "nothing at t", "4": "object", "5": "no time", "6": "tag", "7": "no object"}
    assert list(told.json["refused"]) == [*words, "8"]
    for number, part in {**words, "8": "pinned"}.items():
        assert part in told.json["refused"][number], number


def test_an_id_that_belongs_to_somebody_else_is_refused_and_theirs_stays(memory: Memory, empty: Path) -> None:
    memory("add", "mine", "--id", "7", "--user", "bob")
    write(empty / "r", [{"id": 7, "t": "stolen"}, {"id": 9, "t": "fine"}])
    done = memory("import", "r", "--user", "ana", "--map", "content=t", "--map", "id=id", "--json")
    assert (done.code, done.json["imported"], list(done.json["refused"])) == (1, 1, ["1"])
    assert "taken" in done.json["refused"]["1"]
    assert memory("get", "7", "--json").json["content"] == "mine"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abm"), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["role", "content", "timestamp", "created_at", "a", "m", "tags", "id"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(fields, values, max_size=6) | values)
def test_a_record_of_any_shape_is_an_item_or_refused_in_words(record: Any) -> None:
    pairs = ["text=a", "metadata=m", "metadata.x.y=a", "id=id", "tags=tags", "namespace=a", "importance=a"]
    pairs += ["content=content", "created_at=timestamp", "user_id=a", "kind=m.a"]
    for form in (Chat(Owner("ana")), Mapped(pairs, Owner(session_id="s"))):
        with contextlib.suppress(InvalidItem):  # anything else is a fault
            encode(check_item(form.item(record, 1)))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (("content",), "FIELD=PATH"),
        (("content=",), "FIELD=PATH"),
        (("=x",), "FIELD=PATH"),
        (("colour=x",), "fields content, text"),
        (("content=a..b",), "fields content, text"),
        (("content.x=a",), "below metadata"),
        ((r"content=a\b",), "backslash"),
        (("text=x",), "--map content=FIELD"),
        (("content=x", "content=y"), "twice"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused_before_anything_is_made(
    memory: Memory, empty: Path, pairs: tuple[str, ...], words: str
) -> None:
    write(empty / "r", [{"x": 1}])
    done = memory("import", "r", *(word for pair in pairs for word in ("--map", pair)))
    assert (done.code, done.out, words in done.err) == (2, "", True), done.err
    assert not (empty / "memory.db").exists()
