"""add, get, update, delete: single memories (delete: by filter too)."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from memory.cli.command import At, Embed, Under, WhereJson, command, segments
from memory.cli.failures import MISSING, UsageProblem
from memory.cli.output import note, print_item, print_json
from memory.cli.typed import confirm, interruptible, parse_duration, parse_json, parse_where, utf8

PANEL = "Memories"

Content = Annotated[str | None, typer.Argument(metavar="TEXT", help="What to remember; - reads it from standard input")]
ContentJson = Annotated[
    str | None, typer.Option("--content-json", metavar="JSON", help="Any JSON value as the content")
]
Text = Annotated[str | None, typer.Option("--text", help="What is searched, where that is not the content")]
Kind = Annotated[str | None, typer.Option("--kind", "-k", help="note, episodic, semantic, procedural, conversation...")]
Metadata = Annotated[str | None, typer.Option("--metadata", "-m", metavar="JSON", help="Your own fields")]
Tags = Annotated[list[str] | None, typer.Option("--tag", "-t", help="A tag; repeat for more")]
Importance = Annotated[float | None, typer.Option("--importance", help="From 0 to 1")]
Ttl = Annotated[str | None, typer.Option("--ttl", metavar="TIME", help="Forget it after this time: 90, 30m, 12h, 7d")]
IfVersion = Annotated[int | None, typer.Option("--if-version", help="Only if it still has this version")]
Id = Annotated[str, typer.Argument(help="The id of the memory")]


@command(
    "add",
    "memory add 'Ana is allergic to nuts' --user ana --tag health",
    "memory add 'The code is 4711' --ttl 15m",
    "git log -1 --format=%B | memory add - --kind episodic",
    panel=PANEL,
)
async def add(
    at: At,
    content: Content = None,
    content_json: ContentJson = None,
    text: Text = None,
    kind: Kind = None,
    metadata: Metadata = None,
    tags: Tags = None,
    importance: Importance = None,
    ttl: Ttl = None,
    id: Annotated[str | None, typer.Option("--id", help="An id of your own; refused when it is taken")] = None,
    dedup: Annotated[bool, typer.Option("--dedup", help="Return an equal memory instead of adding another")] = False,
    embed: Embed = "now",
) -> None:
    """Remember something new; prints its id."""
    from memory.model import MemoryItem

    if (content is None) == (content_json is None):
        both = "; not both" if content is not None else ""
        raise UsageProblem(f"say what to remember, as TEXT or with --content-json{both}")
    if content is not None:
        content = _read() if content == "-" else utf8(content, "TEXT")
        if not content.strip():
            raise UsageProblem("there is nothing to remember: the text is empty")
    fields = {
        **_fields(text, kind, metadata, tags, importance),
        **({} if id is None else {"id": id}),
        **({} if at.segments is None else {"namespace": at.segments}),
    }
    value = content if content_json is None else parse_json(content_json, "--content-json")
    item = MemoryItem(content=value, user_id=at.user, agent_id=at.agent, session_id=at.session, **fields)
    async with at.open() as store:
        stored = await store.add(item, ttl=parse_duration(ttl), dedup="content" if dedup else None, embed=embed)
    if at.json:
        print_json(stored)
    else:
        print(stored.id)


@command(
    "get",
    "memory get 01a1f900-31f6-7235-bd90-40bbfae36ab7",
    "memory get settings -n agents -n juno --json",
    panel=PANEL,
)
async def get(at: At, id: Id) -> int | None:
    """Show one memory whole."""
    async with at.open(reads=True) as store:
        item = await at.view(store).get(id, namespace=at.segments)
    if item is None:
        raise _missing(at, id)
    print_json(item) if at.json else print_item(item)
    return None


@command(
    "update",
    "memory update 01a1f900-31f6-7235-bd90-40bbfae36ab7 --content 'Ana may eat almonds'",
    """memory update note-1 --metadata '{"checked": true, "draft": null}'""",
    panel=PANEL,
)
async def update(
    at: At,
    id: Id,
    content: Annotated[str | None, typer.Option("--content", "-c", help="A new text as the content")] = None,
    content_json: Annotated[
        str | None,
        typer.Option("--content-json", metavar="JSON", help="Merged into an object (null removes), else replaces"),
    ] = None,
    text: Text = None,
    kind: Kind = None,
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", "-m", metavar="JSON", help="Merged into the metadata; null removes a field"),
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", "-t", help="The tags from now on; repeat for more")] = None,
    importance: Importance = None,
    ttl: Ttl = None,
    if_version: IfVersion = None,
    embed: Embed = "now",
) -> None:
    """Change some fields of a memory."""
    changes = _fields(text, kind, metadata, tags, importance)
    if content is not None and content_json is not None:
        raise UsageProblem("give --content or --content-json, not both")
    if content is not None:
        changes["content"] = utf8(content, "--content")
    if content_json is not None:
        changes["content"] = parse_json(content_json, "--content-json")
    if not changes and ttl is None:
        raise UsageProblem("say what to change; `memory update --help` lists the fields")
    async with at.open(reads=True) as store:
        item = await at.view(store).update(
            id, namespace=at.segments, if_version=if_version, ttl=parse_duration(ttl), embed=embed, **changes
        )
    print_json(item) if at.json else print_item(item)


@command(
    "delete",
    "memory delete 01a1f900-31f6-7235-bd90-40bbfae36ab7",
    """memory delete --user ana --where '{"kind": "working"}'""",
    "memory delete --all --session s17 --yes",
    panel=PANEL,
)
async def delete(
    at: At,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of the memories to forget")] = None,
    where: WhereJson = None,
    under: Under = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All memories of the scope; without a scope: all there are")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
    if_version: IfVersion = None,
) -> int | None:
    """Forget memories, by id or by filter."""
    if sum((bool(ids), where is not None, everything)) != 1:
        raise UsageProblem("say what to forget: ids, or --where, or --all")
    if ids:
        if under:
            raise UsageProblem("an id is looked for in one --namespace; --under goes with --where and --all")
        if if_version is not None and len(ids) > 1:
            raise UsageProblem("--if-version goes with one id")
        return await _delete_ids(at, ids, if_version)
    filter = parse_where(where)
    if where is not None and not filter:
        raise UsageProblem("an empty filter is everything; if that is meant, say --all")
    async with at.open(reads=True) as store:
        view = at.view(store)
        scope: dict[str, Any] = {"namespace": at.segments, "under": segments(under)}
        found = await view.count(filter, **scope)
        if found and not yes:
            confirm(f"Forget {found} {'memory' if found == 1 else 'memories'} for good?", "nothing was deleted")
        if scope["namespace"] is None and scope["under"] is None:
            scope["under"] = ()  # everything: the store wants to hear it said
        deleted = await view.delete_where(filter, **scope) if found else 0
    print_json({"deleted": deleted}) if at.json else print(f"{deleted} deleted")
    return None


async def _delete_ids(at: At, ids: list[str], if_version: int | None) -> int | None:
    async with at.open(reads=True) as store:
        view = at.view(store)
        if if_version is not None:
            outcomes = [await view.delete(ids[0], namespace=at.segments, if_version=if_version)]
        else:
            outcomes = await view.delete_many(ids, namespace=at.segments)
    missing = [id for id, there in zip(ids, outcomes, strict=True) if not there]
    if at.json:
        print_json({"deleted": sum(outcomes), "missing": missing})
    else:
        print(f"{sum(outcomes)} deleted")
        for id in missing:
            note(f"there is no memory {id!r} here")
    return MISSING if missing else None


def _read() -> str:
    """Standard input as a text. Raises UsageProblem."""
    try:
        with interruptible():
            text = sys.stdin.read()
    except UnicodeDecodeError:
        raise UsageProblem("standard input is not UTF-8") from None
    return utf8(text.rstrip("\n"), "standard input")


def _missing(at: At, id: str) -> Exception:
    from memory.errors import NotFound
    from memory.model import DEFAULT_NAMESPACE

    path = at.segments or DEFAULT_NAMESPACE
    whose = " that these options may see" if at.scoped else ""
    elsewhere = "" if at.segments else "; --namespace looks in another"
    return NotFound(f"there is no memory {id!r} in namespace {' / '.join(path)}{whose}{elsewhere}", key=(path, id))


def _fields(
    text: str | None, kind: str | None, metadata: str | None, tags: list[str] | None, importance: float | None
) -> dict[str, Any]:
    """The fields that are given."""
    given = {
        "text": text,
        "kind": kind,
        "metadata": None if metadata is None else parse_json(metadata, "--metadata"),
        "tags": tuple(tags) if tags else None,
        "importance": importance,
    }
    return {name: value for name, value in given.items() if value is not None}
