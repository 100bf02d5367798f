"""Settings: where each comes from, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memory import InvalidSetting, Settings
from memory.settings import unknown_variables


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without .env, an environment without our variables."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("MEMORY_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def origins(settings: Settings) -> dict[str, str]:
    return {one.name: one.origin for one in settings.told() if one.origin != "default"}


def test_without_anything_set_it_is_sqlite_in_memory_db() -> None:
    settings = Settings()
    assert (settings.backend_type, settings.path, settings.sqlite_synchronous) == ("sqlite", Path("memory.db"), "full")
    assert origins(settings) == {}


def test_an_argument_wins_over_the_environment_and_that_over_the_env_file(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / ".env").write_text("MEMORY_PATH=from-file.db\nMEMORY_LANGUAGE=german\nMEMORY_FEED=true\nOTHER=1\n")
    monkeypatch.setenv("MEMORY_PATH", "from-environment.db")
    monkeypatch.setenv("memory_language", "french")
    settings = Settings(path="argument.db")
    assert (settings.path, settings.language, settings.feed) == (Path("argument.db"), "french", True)
    assert origins(settings) == {"path": "argument", "language": "environment", "feed": ".env file"}


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_DIMENSION", "")
    assert Settings().dimension is None
    assert origins(Settings()) == {}


def test_lists_json_and_none_can_be_said_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_INDEX", "metadata.score, metadata.topic,")
    monkeypatch.setenv("MEMORY_SOURCE", '{"writer": "agent-7"}')
    monkeypatch.setenv("MEMORY_SWEEP_INTERVAL", "none")
    monkeypatch.setenv("MEMORY_SQLITE_SYNCHRONOUS", "NORMAL")
    settings = Settings()
    assert settings.index == ("metadata.score", "metadata.topic")
    assert settings.source == {"writer": "agent-7"}
    assert settings.sweep_interval is None
    assert settings.sqlite_synchronous == "normal"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MEMORY_FEED", "maybe", "MEMORY_FEED: must be true or false, not 'maybe'"),
        ("MEMORY_DIMENSION", "many", "MEMORY_DIMENSION: must be a whole number, not 'many'"),
        ("MEMORY_DEADLINE", "soon", "MEMORY_DEADLINE: must be a number, not 'soon'"),
        ("MEMORY_SQLITE_SYNCHRONOUS", "ful", "'off', 'normal', 'full'"),
        ("MEMORY_DEADLINE", "-1", "greater than 0"),
        ("MEMORY_LOG_FORMAT", "xml", "'console' or 'json'"),
        ("MEMORY_SOURCE", "{not json", "MEMORY_SOURCE: it must be JSON"),
        ("MEMORY_BACKEND", "redis", "did you mean MEMORY_BACKEND_TYPE?"),
        ("MEMORY_BAKEND_TYPE", "redis", "did you mean MEMORY_BACKEND_TYPE?"),
        ("MEMORY_SQLITE_PATH", "x", "did you mean MEMORY_PATH?"),
        ("MEMORY_SQLITE_SYNC", "x", "did you mean MEMORY_SQLITE_SYNCHRONOUS?"),
        ("MEMORY_PATHS", "x", "did you mean MEMORY_PATH?"),
    ],
)
def test_a_variable_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting) as caught:
        Settings()
    assert words in str(caught.value)


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_LIMIT_MB", "512")
    monkeypatch.setenv("MEMORY_TEST_PATH", "x")
    Settings()
    assert unknown_variables() == ["MEMORY_LIMIT_MB"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pth": "x"}, "did you mean 'path'?"),
        ({"colour": "blue"}, "there is no setting 'colour'"),
        ({"deadline": 0}, "deadline"),
        ({"index": 3}, "index"),
        ({"source": "me"}, "source"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings(**given)
    assert words in str(caught.value)


def test_a_mistake_in_the_env_file_names_the_file(empty: Path) -> None:
    (empty / "agent.env").write_text("MEMORY_PTH=x.db\n")
    with pytest.raises(InvalidSetting, match=r"MEMORY_PTH in agent\.env; did you mean MEMORY_PATH"):
        Settings(env_file="agent.env")


@pytest.mark.parametrize("line", ["MEMORY_FEED=maybe", "MEMORY_SOURCE={not json", "MEMORY_DEADLINE=-1"])
def test_a_value_in_the_env_file_that_does_not_fit_names_the_file(
    empty: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    variable, _, value = line.partition("=")
    (empty / ".env").write_text(f"{line}\n")
    with pytest.raises(InvalidSetting, match=rf"^{variable} in \.env: "):
        Settings()
    monkeypatch.setenv(variable, "")
    with pytest.raises(InvalidSetting, match=rf"^{variable} in \.env: "):
        Settings()
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting, match=rf"^{variable}: "):
        Settings()


def test_an_env_file_that_is_no_text_is_refused(empty: Path) -> None:
    (empty / ".env").write_bytes(b"MEMORY_PATH=\xff\xfe\n")
    with pytest.raises(InvalidSetting, match="UTF-8"):
        Settings()


def test_settings_do_not_change_and_a_changed_copy_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(path="a.db")
    with pytest.raises(Exception, match="frozen"):
        settings.path = Path("b.db")  # type: ignore[misc]
    monkeypatch.setenv("MEMORY_LANGUAGE", "french")
    changed = settings.changed(deadline=3)
    assert (changed.path, changed.language, changed.deadline) == (Path("a.db"), "english", 3.0)
    assert origins(changed) == {"path": "argument", "deadline": "argument"}


def test_no_password_is_shown() -> None:
    settings = Settings(backend_type="redis://me:hunter2@host/0?password=hunter2", source={"api_key": "hunter2"})
    assert "hunter2" not in repr(settings) + str(settings) + repr(settings.told())
    assert "redis://me:***@host/0" in repr(settings)


def test_every_setting_is_described() -> None:
    for one in Settings().told():
        assert one.variable == f"MEMORY_{one.name.upper()}"
        assert len(one.description) > 10
