"""The command as a whole: its commands in order, --version, and what happens to mistakes in the command line."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from memory.cli.command import app

__all__ = ["COMPLETE", "app", "run"]

COMPLETE = "_MEMORY_COMPLETE"
"""The variable by which a shell asks for completions; the name follows from the program's."""

_UsageError: Any = typer.BadParameter.__bases__[0]
for _module in ("items", "finding", "state", "transfer", "migrating", "upkeep", "about"):  # in the order of the help
    importlib.import_module(f"memory.cli.{_module}")


def _version(wanted: bool) -> None:
    if wanted:
        from memory import __version__

        print(f"memory {__version__}")
        raise typer.Exit


@app.callback(
    epilog="[bold]Start here[/bold]\n\n"
    "[cyan]$ memory add 'Ana is allergic to nuts' --user ana[/cyan]\n\n"
    "[cyan]$ memory search 'what about nuts?' --user ana[/cyan]\n\n"
    "The memory is ./memory.db unless --path, MEMORY_PATH or MEMORY_BACKEND_TYPE say otherwise: see `memory config`. "
    "Exit codes: 0 done, 1 not found or a problem found, 2 bad usage or input, 3 backend unavailable, 4 conflict, "
    "5 damaged data, 6 unknown outcome."
)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    """A memory for AI agents: remember, recall and look after it."""


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    from memory.cli.failures import OutputLost, UsageProblem, report
    from memory.cli.output import Output

    if sys.stdin is None:  # closed by who started this; a file that is opened must not come in its place
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - for the life of the process
    if sys.stdout is None:
        return report(UsageProblem("standard output is closed; nothing was done"), "--json" in arguments)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    as_json = "--json" in arguments
    if COMPLETE in os.environ:
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()  # makes typer's shells known; the options it returns are not wanted
    stdout = sys.stdout
    sys.stdout = cast("TextIO", Output(stdout))
    try:
        code = typer.main.get_command(app).main(arguments or ["--help"], prog_name="memory", standalone_mode=False)
        sys.stdout.flush()
    except _UsageError as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "memory"
        said = error.format_message().replace("Value error, ", "")
        said = said if said.endswith((".", "?")) else f"{said}."
        return report(UsageProblem(f"{said} See `{where} --help`"), as_json)
    except (typer.Abort, KeyboardInterrupt):
        return report(KeyboardInterrupt(), as_json)
    except OutputLost as error:
        return report(error, as_json)
    finally:
        sys.stdout = stdout
    return code if isinstance(code, int) else 0
