"""search, list, count."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory.cli.command import At, Under, WhereJson, command, parse_where, segments
from memory.cli.output import console, note, print_hits, print_items, print_json, safe

if TYPE_CHECKING:
    from memory.store import Hit, MemoryStore, SearchPage, View

PANEL = "Memories"
Cursor = Annotated[str | None, typer.Option("--cursor", help="Go on after a page: what the page before it printed")]


@command(
    "search",
    "memory search 'what may Ana not eat?' --user ana",
    """memory search dentist --where '{"created_at": {"$gte": "2026-03-01T00:00:00Z"}}'""",
    "memory search 'how old is Biscuit' --neighbours 1 --json",
    panel=PANEL,
)
async def search(
    at: At,
    query: Annotated[str, typer.Argument(help="A question, or just words")],
    where: WhereJson = None,
    under: Under = None,
    limit: Annotated[int, typer.Option("--limit", "-l", help="The best so many")] = 10,
    cursor: Cursor = None,
    min_text: Annotated[
        float | None,
        typer.Option("--min-text", help="Drop what matches less than this share (0 to 1) of the query's words"),
    ] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Drop what scores less")] = None,
    neighbours: Annotated[
        int, typer.Option("--neighbours", help="Let what was said before and after (0 to 5 items) lend its score")
    ] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each word of the query adds")] = False,
) -> None:
    """Find what was remembered by its words, best first."""
    filter = parse_where(where)
    scope: dict[str, Any] = {"namespace": at.segments, "under": segments(under)}
    async with at.open(reads=True) as store:
        view = at.view(store)
        page = await view.search(
            query,
            where=filter,
            **scope,
            limit=limit,
            cursor=cursor,
            min_text=min_text,
            min_score=min_score,
            neighbours=neighbours,
            explain=explain,
        )
        advice = await _remedy(at, view, filter, scope, min_text, min_score, neighbours) if not page.hits else None
    if at.json:
        hits = [{"score": hit.score, "components": hit.components, "item": hit.item} for hit in page]
        print_json({"hits": hits, "cursor": page.cursor, "complete": page.complete})
    elif advice is not None:
        note(f"nothing found{' on this page' if cursor else ''}. {advice}")
    else:
        print_hits(page.hits)
        if explain:
            _explain(page.hits, neighbours)
        _more(page)


async def _remedy(
    at: At,
    view: MemoryStore | View,
    where: dict[str, Any] | None,
    scope: dict[str, Any],
    min_text: float | None,
    min_score: float | None,
    neighbours: int,
) -> str:
    """What to try when nothing was found, from what there is to find."""
    everything = await view.count(**scope)
    if not everything and not at.scoped and not any(scope.values()):
        return f"Nothing is remembered yet{at.hint}"
    if not everything:
        return "There are no memories in this scope at all: check --user, --namespace and `memory config`"
    there = await view.count(where, **scope) if where else everything
    if not there:
        return f"None of the {everything} memories in this scope satisfies --where: loosen it"
    tries = ["other words for the same thing (words are matched, in any of their forms; meaning is not)"]
    if min_text or min_score:
        tries.insert(0, "a lower --min-text or --min-score")
    if not neighbours:
        tries.append("--neighbours 1, which also finds what was said next to a match")
    return f"{there} memories were searched. Try {', or '.join(tries)}"


def _explain(hits: list[Hit], neighbours: int) -> None:
    """How each score came about: what each word adds, and what was said before and after lends."""
    out = console()
    for hit in hits:
        words = " + ".join(
            f"{safe(part['term'])} {part['contribution']:.2f} ({part['tf']}x, in {part['df']})"
            for part in hit.components["terms"]
            if part["tf"]
        )
        own = words or "no word of its own"
        if neighbours:
            own = f"({own}) / {1 + 0.6 * neighbours:g} + {hit.components['neighbours']:.2f} lent"
        out.print(f"{safe(hit.item.id)}  {hit.score:.2f} = {own}")


def _more(page: SearchPage) -> None:
    if page.cursor is not None:
        note(f"more: repeat with --cursor {page.cursor}")
    elif not page.complete:
        note("more may match beyond these pages: ask with a higher --limit")


@command(
    "list",
    "memory list --user ana --order -created_at",
    """memory list --where '{"tags": {"$contains": "health"}}' --limit 50""",
    "memory list --under agents --json",
    panel=PANEL,
)
async def list_items(
    at: At,
    where: WhereJson = None,
    under: Under = None,
    order: Annotated[
        str,
        typer.Option(
            "--order", "-o", help="key, created_at, updated_at, accessed_at, importance; - before it descends"
        ),
    ] = "key",
    limit: Annotated[int, typer.Option("--limit", "-l", help="At most so many")] = 20,
    cursor: Cursor = None,
) -> None:
    """List memories, a page at a time."""
    filter = parse_where(where)
    async with at.open(reads=True) as store:
        page = await at.view(store).list(
            filter, namespace=at.segments, under=segments(under), order=order, limit=limit, cursor=cursor
        )
    if at.json:
        print_json({"items": page.items, "cursor": page.cursor})
    elif not page.items:
        note(f"there are no memories here{at.hint}")
    else:
        print_items(page.items)
        if page.cursor is not None:
            note(f"more: repeat with --cursor {shlex.quote(page.cursor)}")


@command("count", "memory count", """memory count --user ana --where '{"kind": "conversation"}'""", panel=PANEL)
async def count(at: At, where: WhereJson = None, under: Under = None) -> None:
    """How many memories there are."""
    filter = parse_where(where)
    async with at.open(reads=True) as store:
        found = await at.view(store).count(filter, namespace=at.segments, under=segments(under))
    print_json({"count": found}) if at.json else print(found)
