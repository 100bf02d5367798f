"""Writes docs/configuration.md from the settings: ``python docs/configuration.py``. A test keeps the page up to date."""

from __future__ import annotations

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr

from memory.settings import PREFIX, Settings, shown

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Configuration

<!-- Made from memory/settings.py by `python docs/configuration.py`; change it there. -->

Each setting is an argument of `MemoryManager` or `Settings`, a variable of the environment, or a line of a `.env` file in
the working directory; the first of these that says something wins, and an empty variable says nothing. A name that looks
like one of these mistyped is refused, with the one that was probably meant. `memory config` prints what is in force and
where it comes from, secrets hidden.

| Argument | Variable | Values | Default | Meaning |
|---|---|---|---|---|
"""
TAIL = """
An option that belongs to one backend has its name
before it: `sqlite_synchronous`. In an address options follow a question mark, without that name:
`MEMORY_BACKEND_TYPE=sqlite:///agent.db?synchronous=normal&feed=true`.
"""
WORDS = {
    str: "a text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "`true`, `false`",
    dict: "a JSON object",
    tuple: "names, separated by commas",
    SecretStr: "a secret text",
    NoneType: "`none`",
}


def page() -> str:
    """The page as it should be."""
    rows = [
        f"| `{name}` | `{PREFIX}{name.upper()}` | {_values(field.annotation)} | {_value(name, field.default)} | "
        f"{_cell(field.description or '')} |"
        for name, field in Settings.model_fields.items()
    ]
    return HEAD + "\n".join(rows) + "\n" + TAIL


def _values(annotation: Any) -> str:
    """What a setting takes, in words."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    said = [
        ", ".join(f"`{choice}`" for choice in get_args(part))
        if get_origin(part) is Literal
        else WORDS[get_origin(part) or part]
        for part in parts
    ]
    return ", ".join(said)


def _value(name: str, default: Any) -> str:
    if default is None or default in ((), {}):
        return "none"
    value = shown(name, default)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
