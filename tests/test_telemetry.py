"""Events: where they go, what they say, and what they never say."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from memory import MemoryItem, MemoryManager
from memory.backends.in_memory import InMemoryStore
from memory.layers import observe
from memory.telemetry import SlowOperations, configure, context, events, get_logger, ready
from memory.telemetry.redaction import HIDDEN, hide_secrets, is_secret, plain


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """The memory logger as it was before, and proof that nothing else was configured."""
    logger, root = logging.getLogger("memory"), logging.getLogger()
    before = (logger.level, logger.propagate, list(logger.handlers))
    others = (root.level, list(root.handlers), structlog.get_config())
    yield
    assert (root.level, list(root.handlers), structlog.get_config()) == others
    logger.level, logger.propagate, logger.handlers = before
    logging.getLogger("memory")._cache.clear()  # type: ignore[attr-defined]
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("memory."):
            logging.getLogger(name)._cache.clear()  # type: ignore[attr-defined]


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure("json", "debug", stream)
    return stream


def told(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


# --- where they go -----------------------------------------------------------------------------


def test_when_nobody_listens_nothing_is_written_or_imported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(events, "_structured", lambda name: pytest.fail("structlog was asked for"))
    get_logger("x").error("a fault", path="x.db")
    logging.getLogger("memory").addHandler(logging.NullHandler())
    get_logger("x").error("a fault", path="x.db")
    assert capsys.readouterr() == ("", "")


def test_events_reach_the_applications_own_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "memory"):
        get_logger("sqlite").info("open", path="x.db", feed=True)
        get_logger("sqlite").debug("too fine")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("memory.sqlite", "INFO")
    assert record.getMessage() == "open path='x.db' feed=True"
    assert record.memory_facts == {"event": "open", "path": "x.db", "feed": True}  # type: ignore[attr-defined]


async def test_a_sweep_that_fails_by_mistake_tells_where_and_not_what(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mistaken(now: int) -> int:
        raise OverflowError("of a secret marmot")

    store = InMemoryStore(sweep_interval=0.01)
    monkeypatch.setattr(store, "_sweep", mistaken)
    with caplog.at_level(logging.ERROR, "memory"):
        async with store, asyncio.timeout(10):
            while len(caplog.records) < 2:
                await asyncio.sleep(0.01)
    (facts, *_) = [record.memory_facts for record in caplog.records]  # type: ignore[attr-defined]
    assert (facts["event"], facts["error"]) == ("sweep failed", "OverflowError")
    assert facts["traceback"][-1].endswith(" mistaken")
    assert "marmot" not in caplog.text


def test_json_lines_hold_event_level_logger_time_and_facts(lines: io.StringIO) -> None:
    get_logger().warning("slow operation", milliseconds=1500.5)
    (line,) = told(lines)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "slow operation", "level": "warning", "logger": "memory", "milliseconds": 1500.5}


def test_the_console_form_is_for_people() -> None:
    stream = io.StringIO()
    configure("console", "info", stream)
    get_logger("sqlite").info("open", path="x.db")
    assert "open" in stream.getvalue()
    assert "path=x.db" in stream.getvalue().replace("'", "")
    assert "\x1b" not in stream.getvalue(), "no colours where there is no terminal"


def test_events_of_plain_logging_below_our_logger_are_written_too(lines: io.StringIO) -> None:
    logging.getLogger("memory.other").info("%s things", 3)
    assert told(lines)[0]["event"] == "3 things"


def test_configuring_again_replaces_and_the_level_holds(lines: io.StringIO) -> None:
    other = io.StringIO()
    configure("json", "error", other)
    get_logger().warning("not this")
    get_logger().error("this")
    assert (lines.getvalue(), [line["event"] for line in told(other)]) == ("", ["this"])


def test_without_a_stream_events_go_to_what_stderr_is_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    configure("json", "info")
    later = io.StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    get_logger().info("now")
    assert told(later)[0]["event"] == "now"


async def test_structlog_is_loaded_before_the_first_event_needs_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(events, "_structured", asked.append)
    monkeypatch.delitem(sys.modules, "structlog")
    with caplog.at_level(logging.CRITICAL, "memory"):
        await ready()
    assert asked == [], "nobody wants events of this level"
    with caplog.at_level(logging.INFO, "memory"):
        await ready()
    assert asked == ["memory"]


# --- context -----------------------------------------------------------------------------------


async def test_context_is_in_every_event_of_its_task_and_in_no_other(lines: io.StringIO) -> None:
    async def request(number: int) -> None:
        with context(request=number):
            await asyncio.sleep(0)
            get_logger().info("seen")

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(request(number))
    get_logger().info("after")
    assert [line.get("request") for line in told(lines)] == [0, 1, 2, None]


def test_context_nests_and_what_the_application_bound_is_seen_too(lines: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(trace="t1"), context(request=1, step="a"):
        with context(step="b"):
            get_logger().info("inner")
        get_logger().info("outer", request="said here")
    inner, outer = told(lines)
    assert (inner["trace"], inner["request"], inner["step"]) == ("t1", 1, "b")
    assert (outer["trace"], outer["request"], outer["step"]) == ("t1", "said here", "a")


def test_context_passes_through_the_twins(lines: io.StringIO) -> None:
    with MemoryManager("in_memory", slow_seconds=0) as memory, context(request=7):
        memory.add_sync("x")
    slow = [line for line in told(lines) if line["event"] == "slow operation"]
    assert slow
    assert {line["request"] for line in slow} == {7}


# --- what they say -----------------------------------------------------------------------------


async def test_opening_and_closing_are_told(lines: io.StringIO) -> None:
    async with MemoryManager("in_memory"):
        pass
    assert [(line["event"], line["backend"]) for line in told(lines)] == [("open", "in_memory"), ("close", "in_memory")]


async def test_slow_operations_are_told_with_their_error_and_fast_ones_are_not(lines: io.StringIO) -> None:
    async def hook(*_args: Any) -> None:
        await asyncio.sleep(0.02)
        raise ValueError("Ana is allergic to nuts")

    with pytest.raises(ValueError, match="nuts"):
        await observe(SlowOperations(0.01, "sqlite"))("read", hook)()
    with pytest.raises(ValueError, match="nuts"):
        await observe(SlowOperations(9, "sqlite"))("read", hook)()
    (line,) = told(lines)
    assert (line["operation"], line["backend"], line["error"]) == ("read", "sqlite", "ValueError")
    assert line["milliseconds"] >= 10
    assert "nuts" not in lines.getvalue()


async def test_the_settings_of_a_manager_turn_the_log_on(capfd: pytest.CaptureFixture[str]) -> None:
    async with MemoryManager("in_memory", log_format="json", log_level="warning", slow_seconds=0) as memory:
        await memory.add("Ana is allergic to nuts", metadata={"secret": "hunter2"})
        await memory.search("nuts")
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {line["operation"] for line in said} >= {"write", "match"}
    assert {line["level"] for line in said} == {"warning"}


# --- what they never say -----------------------------------------------------------------------

SECRET = "Ana is allergic to nuts"


@pytest.mark.parametrize(
    "facts",
    [
        {"content": SECRET},
        {"Text": SECRET},
        {"metadata": {"x": SECRET}},
        {"query": SECRET},
        {"password": SECRET},
        {"api_key": SECRET},
        {"refresh_token": SECRET},
        {"item": MemoryItem(content=SECRET)},
        {"anything": MemoryItem(content=SECRET)},
        {"anything": {"nested": SECRET}},
        {"anything": [MemoryItem(content=SECRET)]},
        {"error": ValueError(SECRET)},
        {"exc_info": ValueError(SECRET)},
        {"exc_info": (ValueError, ValueError(SECRET), None)},
        {"address": f"postgresql://me:{SECRET.replace(' ', '-')}@host/db"},
        {"address": f"redis://host?password={SECRET.replace(' ', '-')}"},
    ],
)
def test_no_content_and_no_secret_is_ever_logged(lines: io.StringIO, facts: dict[str, Any]) -> None:
    get_logger().error("event", **facts)
    with context(**{name: value for name, value in facts.items() if name != "exc_info"}):
        get_logger().error("event")
    assert len(told(lines)) == 2
    assert "nuts" not in lines.getvalue()


def test_an_error_is_told_by_its_type(lines: io.StringIO) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        get_logger().error("event", exc_info=error)
    assert told(lines)[0]["error"] == "ValueError"


def test_plain_facts_stay_plain_and_long_ones_are_cut() -> None:
    assert plain("n", [1, 2.5, True, None, "x"]) == [1, 2.5, True, None, "x"]
    assert len(plain("path", "x" * 1_000)) == 301
    assert len(plain("paths", ["x"] * 100)) == 20
    assert plain("content", "x") == HIDDEN
    assert plain("thing", object()) == "[object]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:hunter2@host:1/0", "redis://me:***@host:1/0"),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("postgresql://me:p@ss:w@rd@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p/w?d#@host/db", "postgresql://me:***@host/db"),
        ("x://host?password=hunter2&ssl=1&token=a", "x://host?password=***&ssl=1&token=***"),
        ("two: a://u:p@h and b://u:q@h", "two: a://u:***@h and b://u:***@h"),
        ("sqlite:///memory.db?synchronous=full", "sqlite:///memory.db?synchronous=full"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("sqlite:////home/me@work/a:b@c.db", "sqlite:////home/me@work/a:b@c.db"),
        ("me:hunter2@host is no address", "me:hunter2@host is no address"),
    ],
)
def test_the_secrets_of_an_address_are_hidden(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


@pytest.mark.parametrize(
    "name", ["password", "redis_password", "DB_PASSWD", "secret", "client_secret", "token", "apikey"]
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["path", "backend_type", "compass", "language", "deadline", "key"])
def test_other_names_are_not_secrets(name: str) -> None:
    assert not is_secret(name)
