"""config, backends, completions: what is set, what there is to choose from, and what the shell may complete."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from memory.cli.command import At, command, file_of
from memory.cli.output import note, print_json, print_table, safe

PANEL = "About"


@command(
    "config",
    "memory config",
    "MEMORY_PATH=~/agent.db memory config --json",
    "memory config --indexes > firestore.indexes.json",
    panel=PANEL,
    scope=False,
)
async def config(
    at: At,
    indexes: Annotated[
        bool, typer.Option("--indexes", help="Print the index definitions that a server needs to be given (Firestore)")
    ] = False,
) -> None:
    """What is set, from where, and which file is in use.

    Passwords and other secrets are hidden. Nothing is opened.
    """
    from memory.settings import unknown_variables

    manager = at.manager()
    if indexes:
        print_json(manager.store.index_definitions())
        return
    assert manager.settings is not None  # it was not given ready-made
    told = manager.settings.told()
    path = file_of(manager.store)
    exists = None if path is None else path.exists()
    strangers = unknown_variables()
    if at.json:
        print_json(
            {
                "backend": manager.store.name,
                "path": None if path is None else str(path),
                "exists": exists,
                "durability": manager.store.durability,
                "settings": {
                    one.name: {"value": one.value, "from": one.origin, "variable": one.variable} for one in told
                },
                "unknown_variables": strangers,
            }
        )
        return
    print_table(
        ("Setting", "Value", "From", "Meaning"),
        [
            (one.variable, _shown(one.value), one.origin if one.origin != "default" else "", one.description)
            for one in told
        ],
    )
    there = " (not there yet: the first `memory add` makes it)" if exists is False else ""
    print(f"backend     {manager.store.name}")
    if path is not None:
        print(f"path        {safe(str(path))}{there}")
    print(f"durability  {manager.store.durability}")
    if strangers:
        note(f"not settings of ours, ignored: {', '.join(strangers)}")


@command("backends", "memory backends", "memory backends --json", panel=PANEL, scope=False, opens=False)
async def backends(at: At) -> None:
    """The backends there are, and what each can do."""
    from memory import registry
    from memory.errors import BackendUnavailable, InvalidSetting

    found: list[dict[str, Any]] = []
    for name in registry.names():
        known = registry.BACKENDS.get(name)
        facts: dict[str, Any] = {
            "name": name,
            "urls": [f"{one}://" for one in known.schemes] if known else [f"{name}://"],
        }
        try:
            cls = registry.named(name)
        except (BackendUnavailable, InvalidSetting) as error:
            facts |= {"available": False, "reason": error.message}
        else:
            capabilities = cls.capabilities
            facts |= {
                "available": True,
                "capabilities": {field: getattr(capabilities, field) for field in capabilities.__struct_fields__},
            }
        found.append(facts)
    if at.json:
        print_json({"backends": found})
        return
    print_table(
        ("Backend", "Address", "What it can do"),
        [
            (
                one["name"],
                ", ".join(one["urls"]),
                ", ".join(filter(None, (_ability(*able) for able in one["capabilities"].items()))) or "nothing more"
                if one["available"]
                else f"not available: {one['reason']}",
            )
            for one in found
        ],
    )
    print("Choose one with MEMORY_BACKEND_TYPE or --backend; module:Class names a class of your own.")


@command(
    "completions",
    "memory completions bash > ~/.local/share/bash-completion/completions/memory",
    "memory completions zsh > ~/.zfunc/_memory",
    "memory completions fish > ~/.config/fish/completions/memory.fish",
    panel=PANEL,
    scope=False,
    opens=False,
)
async def completions(
    at: At,
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell that reads it")],
) -> None:
    """Print the script with which a shell completes commands and options.

    Write it to a file as in the examples and start a new shell. bash reads that folder where the package bash-completion is
    installed; else put `eval "$(memory completions bash)"` into ~/.bashrc. zsh needs `fpath+=~/.zfunc; autoload -Uz compinit;
    compinit` in ~/.zshrc. fish needs nothing more.
    """
    import importlib

    from memory.cli.app import COMPLETE

    completion: Any = importlib.import_module("typer.completion")  # which does not say that it exports what it does
    script = completion.get_completion_script(prog_name="memory", complete_var=COMPLETE, shell=shell)
    print_json({"shell": shell, "script": script}) if at.json else print(script)


def _ability(name: str, value: bool | float | str) -> str | None:
    """A capability in words, with its number if it has one. None: there is none, or it is what goes without saying."""
    if not value or isinstance(value, str) or (name, value) == ("recall", 1.0):
        return None
    words = name.replace("_", " ")
    return words if value is True else f"{words} {value}"


def _shown(value: Any) -> str:
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
