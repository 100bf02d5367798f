"""namespaces, stats, health: what there is and how it fares."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory.cli.command import At, Under, command, segments
from memory.cli.failures import DAMAGED, DONE, FAULT, MISSING, UNAVAILABLE, code_of, message_of
from memory.cli.output import note, print_facts, print_json, print_table, safe

if TYPE_CHECKING:
    from memory.store import MemoryStore

PANEL = "State"
_MOST_KINDS = 20
_SHOWN = 10


@command(
    "namespaces",
    "memory namespaces",
    "memory namespaces --under agents --json",
    "memory namespaces --user ana",
    panel=PANEL,
)
async def namespaces(at: At, under: Under = None) -> None:
    """The namespaces that hold memories, and how many each."""
    below = segments(under)
    async with at.open(reads=True) as store:
        view = at.view(store) if at.segments is None else at.view(store).scoped(at.segments)
        counts = [(path, await view.count(namespace=path)) for path in await view.namespaces(under=below)]
        nothing = await at.nothing(at.view(store), *["--under"] * bool(below)) if not counts else ""
    if at.json:
        print_json({"namespaces": [{"namespace": list(path), "items": items} for path, items in counts]})
    elif not counts:
        note(nothing)
    else:
        print_table(("Namespace", "Memories"), [(" / ".join(path), f"{items:,}") for path, items in counts])


@command("stats", "memory stats", "memory stats --json", panel=PANEL, scope=False)
async def stats(at: At) -> None:
    """How much there is: memories by kind and namespace, vectors, and the space they take."""
    async with at.open(reads=True) as store:
        found = await store.stats()
        kinds = await _kinds(store, found.items)
        spaces = [(path, await store.count(namespace=path)) for path in await store.namespaces()]
        durability = store.durability
        own = None if store.embedding is None else store.embedding.name
    details = found.details
    if at.json:
        print_json(
            {
                "backend": store.name,
                "durability": durability,
                "items": found.items,
                "kinds": kinds,
                "namespaces": [{"namespace": list(path), "items": items} for path, items in spaces],
                "details": details,
            }
        )
        return
    print_facts(
        (
            ("memories", f"{found.items:,}"),
            ("namespaces", f"{found.namespaces:,}"),
            ("vectors", _vectors(details)),
            ("embedder", details.get("embedder")),
            ("backend", store.name),
            ("durability", durability),
            ("file", details.get("path")),
            ("size", _size(details)),
        )
    )
    if own is not None and details.get("embedder") not in (None, own):
        note(f"MEMORY_EMBEDDER is {own}: set it to the one that made these vectors, or run `memory reembed`")
    if not found.items:
        note("nothing is remembered yet: `memory add` remembers something, `memory import` a file")
        return
    print_table(("Kind", "Memories"), [(kind, f"{items:,}") for kind, items in kinds.items()])
    if len(spaces) > 1:
        spaces.sort(key=lambda one: (-one[1], one[0]))
        print_table(("Namespace", "Memories"), [(" / ".join(path), f"{items:,}") for path, items in spaces[:_SHOWN]])
        if len(spaces) > _SHOWN:
            note(f"and {len(spaces) - _SHOWN} smaller ones; `memory namespaces` lists them all")


async def _kinds(store: MemoryStore, total: int) -> dict[str, int]:
    """Memories by kind, most first. Kinds are an open set: each is found as the kind of an item of none known so far."""
    kinds: dict[str, int] = {}
    while sum(kinds.values()) < total and len(kinds) < _MOST_KINDS:
        page = await store.list({"kind": {"$nin": list(kinds)}} if kinds else None, limit=1)
        if not page.items:
            break
        kind = page.items[0].kind
        kinds[kind] = await store.count({"kind": kind})
    if (others := total - sum(kinds.values())) > 0 and len(kinds) == _MOST_KINDS:
        kinds["(others)"] = others
    return dict(sorted(kinds.items(), key=lambda one: (-one[1], one[0])))


def _vectors(details: dict[str, Any]) -> str | None:
    if "vectors" not in details:
        return None
    owed = details.get("vectors_owed")
    return f"{details['vectors']:,}" + (f", {owed:,} more are owed: `memory reembed` makes them" if owed else "")


def _size(details: dict[str, Any]) -> str | None:
    if "bytes" not in details:
        return None
    more = [
        f"{told} {human_size(details[name])}"
        for name, told in (("free_bytes", "free"), ("log_bytes", "log"))
        if details.get(name)
    ]
    return human_size(details["bytes"]) + (f" ({', '.join(more)})" if more else "")


def human_size(size: float) -> str:
    """A number of bytes as people say it, in decimal units."""
    if size < 1_000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size /= 1_000
        if size < 1_000:
            return f"{size:.1f} {unit}"
    return f"{size / 1_000:.1f} TB"


@command(
    "health",
    "memory health",
    "memory health --json --timeout 2",
    "memory health > /dev/null || echo 'not well'",
    panel=PANEL,
    scope=False,
)
async def health(
    at: At,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds to wait for an answer")] = 10.0,
) -> int:
    """Whether the memory answers: one line and an exit code, for probes.

    0 healthy, 1 degraded, 3 unhealthy or not there, 5 damaged. With --json the answer is on stdout whatever it is.
    """
    from memory.errors import InvalidSetting

    facts: dict[str, Any]
    try:
        async with asyncio.timeout(timeout), at.open(reads=True) as store:
            found = await store.health()
        facts = {"status": found.status, "backend": found.backend, "durability": found.durability}
        facts["details"] = found.details
        code = {"healthy": DONE, "degraded": MISSING}.get(found.status, UNAVAILABLE)
    except InvalidSetting:
        raise
    except TimeoutError:
        facts = {"status": "unhealthy", "details": {"error": f"no answer within {timeout:g} s"}}
        code = UNAVAILABLE
    except Exception as error:  # noqa: BLE001 - a probe gets an answer, whatever fails
        facts = {"status": "unhealthy", "details": {"error": message_of(error)}}
        code = told if (told := code_of(error)) in (DAMAGED, FAULT) else UNAVAILABLE
    if at.json:
        print_json({**facts, "exit_code": code})
    else:
        print(safe(_line(facts)))
    return code


def _line(facts: dict[str, Any]) -> str:
    details = facts["details"]
    why = str(details["error"]) if "error" in details else "; ".join(map(str, details.get("warnings", ())))
    where = f" ({facts['backend']}, durability {facts['durability']})" if "backend" in facts else ""
    return f"{facts['status']}{where}" + (f": {why}" if why else "")
