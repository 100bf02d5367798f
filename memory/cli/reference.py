"""The page docs/command.md, made from the command itself: ``python -m memory.cli.reference > docs/command.md``."""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from typer.models import ArgumentInfo, CommandInfo

from memory.cli import app as whole
from memory.cli import failures
from memory.cli.command import EXAMPLES, OF_SCOPE

_INTRO = """\
# The `memory` command

Made from the command itself (`python -m memory.cli.reference > docs/command.md`); a test keeps it so.

The memory is `./memory.db` unless `--path`, `MEMORY_PATH` or `MEMORY_BACKEND_TYPE` say otherwise: `memory config` tells which
it is and what else is set. Answers are tables for people, and with `--json` JSON on stdout for programs. What went wrong is one
line on stderr (with `--json` an object, `{"error": {"type": ..., "message": ..., "exit_code": ...}}`) and an exit code.
`memory completions --help` tells how a shell comes to complete all of this.
"""
_WORDS = {str: "TEXT", int: "N", float: "NUMBER", Path: "FILE"}


def page() -> str:
    """The reference as Markdown: exit codes, the options that commands share, and each command by panel."""
    commands = [info for info in whole.app.registered_commands if info.callback is not None]
    parts = [_INTRO, "## Exit codes\n", _table(("Code", "Meaning"), _exit_codes())]
    parts += ["## Common options\n", _table(("Option", "Meaning"), _common(commands))]
    for panel, of_panel in groupby(commands, key=lambda info: info.rich_help_panel):
        parts.append(f"## {panel}\n")
        parts += [part for info in of_panel for part in _command(info)]
    return "\n".join(parts)


def _exit_codes() -> list[tuple[str, ...]]:
    """The table that heads memory.cli.failures."""
    return [(f"`{code}`", told) for code, told in re.findall(r"^(\d+) +(.+)$", failures.__doc__ or "", re.MULTILINE)]


def _parameters(info: CommandInfo) -> Iterator[tuple[str, Any, Any, Any]]:
    """Name, type, what typer is told, and default of each parameter."""
    body: Callable[..., Any] = typing.cast("Callable[..., Any]", info.callback)
    for parameter in inspect.signature(body).parameters.values():
        kind, told = typing.get_args(parameter.annotation)
        kinds = [one for one in typing.get_args(kind) if one is not type(None)]
        optional = type(None) in typing.get_args(kind)
        yield parameter.name, kinds[0] if optional else kind, told, parameter.default


def _common(commands: list[CommandInfo]) -> list[tuple[str, ...]]:
    """The options that say where the memory is and whose, and --json, as the first command that has them tells them."""
    seen: dict[str, tuple[str, ...]] = {}
    for info in commands:
        for name, kind, told, default in _parameters(info):
            if _is_common(name):
                seen.setdefault(name, (_spelled(name, kind, told), _meaning(told, default)))
    return list(seen.values())


def _is_common(name: str) -> bool:
    return name in OF_SCOPE or name in ("backend", "path", "json")


def _command(info: CommandInfo) -> Iterator[str]:
    assert info.name is not None
    assert info.callback is not None
    yield f"### `memory {info.name}`\n"
    for paragraph in (inspect.getdoc(info.callback) or "").split("\n\n"):
        yield textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False) + "\n"
    own = [one for one in _parameters(info) if not _is_common(one[0])]
    if own:
        rows = [(_spelled(name, kind, told), _meaning(told, default)) for name, kind, told, default in own]
        yield _table(("Argument or option", "Meaning"), rows)
    shared = [name for name, *_ in _parameters(info) if _is_common(name)]
    yield f"Common options: {', '.join(f'`--{name}`' for name in shared)}\n"
    examples = "\n".join(f"$ {example}" for example in EXAMPLES[info.name])
    yield f"```console\n{examples}\n```\n"


def _spelled(name: str, kind: Any, told: Any) -> str:
    """How a parameter is typed: all its names, and what stands after them."""
    if typing.get_origin(kind) is list:
        (kind,) = typing.get_args(kind)
    values = typing.get_args(kind)
    word = told.metavar or ("|".join(values) if values else _WORDS.get(kind, ""))
    if isinstance(told, ArgumentInfo):
        return f"`{told.metavar or ('|'.join(values) if values else name.upper())}`"
    names = (told.default, *(told.param_decls or ()))  # in an annotation typer's first positional is the first name
    return ", ".join(f"`{one} {word}`" if word else f"`{one}`" for one in names)


def _meaning(told: Any, default: Any) -> str:
    plain = default not in (None, False, inspect.Parameter.empty)
    shown = f"{default:g}" if isinstance(default, float) else default
    return (told.help or "") + (f" (default `{shown}`)" if plain else "")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


if __name__ == "__main__":
    print(page(), end="")
