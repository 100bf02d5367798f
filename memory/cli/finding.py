"""search, list, count."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memory.cli.command import At, Under, WhereJson, command, segments
from memory.cli.explaining import explained, remedy
from memory.cli.output import console, note, print_hits, print_items, print_json, safe
from memory.cli.typed import parse_where, utf8

if TYPE_CHECKING:
    from memory.store import SearchPage

PANEL = "Memories"
Cursor = Annotated[str | None, typer.Option("--cursor", help="Go on after a page: what the page before it printed")]


@command(
    "search",
    "memory search 'what may Ana not eat?' --user ana",
    """memory search dentist --where '{"created_at": {"$gte": "2026-03-01T00:00:00Z"}}'""",
    "memory search 'how old is Biscuit' --neighbours 1 --json",
    "memory search 'food she avoids' --mode vector --min-vector 0.3",
    "memory search plans --order composite --mmr 0.5",
    panel=PANEL,
)
async def search(
    at: At,
    query: Annotated[str, typer.Argument(help="A question, or just words")],
    mode: Annotated[
        Literal["auto", "text", "vector", "hybrid"],
        typer.Option("--mode", "-m", help="By words, by meaning or by both; auto: both if the embedder knows meaning"),
    ] = "auto",
    where: WhereJson = None,
    under: Under = None,
    limit: Annotated[int, typer.Option("--limit", "-l", help="The best so many")] = 10,
    cursor: Cursor = None,
    min_text: Annotated[
        float | None,
        typer.Option("--min-text", help="Drop what matches less than this share (0 to 1) of the query's words"),
    ] = None,
    min_vector: Annotated[
        float | None, typer.Option("--min-vector", help="Drop what is less near in meaning (cosine, -1 to 1)")
    ] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Drop what scores less")] = None,
    neighbours: Annotated[
        int, typer.Option("--neighbours", help="Let what was said before and after (0 to 5 items) lend its score")
    ] = 0,
    order: Annotated[
        Literal["relevance", "composite"],
        typer.Option("--order", "-o", help="Best first; composite: the recent and the important count too"),
    ] = "relevance",
    mmr: Annotated[
        float | None, typer.Option("--mmr", help="From 1 (best only) to 0: repeat each other less; one page")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector; no approximate index")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show how each score came about")] = False,
) -> None:
    """Find what was remembered, by its words or its meaning, best first.

    Match is the share of the query's words that were found (the rare ones weigh more), Cosine how near the meaning is: both
    compare across searches, the score within one only.
    """
    filter = parse_where(where)
    scope: dict[str, Any] = {"namespace": at.segments, "under": segments(under)}
    async with at.open(reads=True) as store:
        view = at.view(store)
        page = await view.search(
            utf8(query, "QUERY"),
            mode=mode,
            where=filter,
            **scope,
            limit=limit,
            cursor=cursor,
            min_text=min_text,
            min_vector=min_vector,
            min_score=min_score,
            neighbours=neighbours,
            order=order,
            mmr=mmr,
            exact=exact,
            explain=explain,
        )
        advice = None
        if not page.hits:
            cuts = {"--min-text": min_text, "--min-vector": min_vector, "--min-score": min_score}
            advice = await remedy(at, store, filter, scope, mode, cuts, neighbours)
            if not any(character.isalnum() for character in query):
                advice = "The query holds no word to look for"
    if at.json:
        hits = [{"score": hit.score, "components": hit.components, "item": hit.item} for hit in page]
        print_json({"hits": hits, "cursor": page.cursor, "complete": page.complete})
    elif advice is not None:
        note(f"nothing found{' on this page' if cursor else ''}. {advice}")
    else:
        print_hits(page.hits)
        if explain:
            for hit in page.hits:
                console().print(f"{safe(hit.item.id)}  {hit.score:.2f} = {explained(hit, store.weights, neighbours)}")
        _more(page)


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
        view = at.view(store)
        page = await view.list(
            filter, namespace=at.segments, under=segments(under), order=order, limit=limit, cursor=cursor
        )
        narrow = {"--where": filter, "--under": under, "--cursor": cursor}
        nothing = "" if page.items else await at.nothing(view, *(option for option, given in narrow.items() if given))
    if at.json:
        print_json({"items": page.items, "cursor": page.cursor})
    elif not page.items:
        note(nothing)
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
