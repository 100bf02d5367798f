"""What commands print: JSON for programs, tables for people. Stored text is shown, never obeyed."""

from __future__ import annotations

import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from memory.cli.failures import OutputLost, tell

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console
    from rich.table import Table

    from memory.model import MemoryItem
    from memory.store import Hit

_ROOM = 56
"""Where other columns leave less for the text, date, owner and id stand beneath it."""
_WIDEST_ID = 36
_SHORT = 240
_NUMBERS = ("Score", "Match", "Cosine", "Memories")
_NO_WRAP = ("Date", "Setting", "Backend", *_NUMBERS)


class Output:
    """Standard output for the time of a command. What goes wrong with it is an OutputLost, and so told from what goes wrong
    with other files."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """As a text stream does."""
        with written():
            return self.stream.write(text)

    def flush(self) -> None:
        """As a text stream does."""
        with written():
            self.stream.flush()


@contextmanager
def written(*, done: bool = True) -> Iterator[None]:
    """Around what writes to standard output. ``done``: after the work, not as the work. Raises OutputLost."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise OutputLost(error, done=done) from None


def print_json(value: Any) -> None:
    """A value as indented JSON on stdout; items by their envelope."""
    import msgspec

    from memory.model import MemoryItem

    def plain(thing: Any) -> Any:
        if isinstance(thing, MemoryItem):
            return thing.to_dict()
        if isinstance(thing, dict):
            return {name: plain(part) for name, part in thing.items()}
        return [plain(part) for part in thing] if isinstance(thing, list | tuple) else thing

    print(msgspec.json.format(msgspec.json.encode(plain(value)), indent=2).decode())


def note(text: str) -> None:
    """A remark for people on stderr, which leaves the output clean: one line, broken between words at a terminal only."""
    text = f"memory: {text}"
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    tell(text)


def safe(text: str) -> str:
    """Text in which nothing can steer a terminal: control, format and bidirectional characters become visible."""
    return "".join(
        character
        if character in "\n\t"
        or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        # Joiners are part of words and emoji, and harmless.
        or character in "\u200c\u200d"
        else f"\\u{ord(character):04x}"
        for character in text
    )


def one_line(text: str, most: int = _SHORT) -> str:
    """Text on one line, cut to a length."""
    line = safe(" ".join(text[: most * 4].split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def when(moment: datetime) -> str:
    """A time as people read it, in the local zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def who(item: MemoryItem) -> str:
    """Whose memory it is, and who spoke: user, agent, and the role of a message."""
    spoke = item.metadata.get("role") or item.metadata.get("speaker")
    parts = [item.user_id, item.agent_id, spoke if isinstance(spoke, str) else None]
    return safe("/".join(dict.fromkeys(part for part in parts if part)))


def said(item: MemoryItem) -> str:
    """The content as text: itself when it is a text, else as JSON."""
    if isinstance(item.content, str):
        return item.content
    import msgspec

    return msgspec.json.encode(item.content).decode()


def console() -> Console:
    """stdout for tables: as wide as the terminal, or 120 columns in a pipe."""
    import os

    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    return Console(width=width, highlight=False, markup=False, emoji=False)


def print_items(items: Sequence[MemoryItem]) -> None:
    """Items as a table: date, whose, kind, text, id."""
    _print_found(("Date", "Who", "Kind"), [(when(item.created_at), who(item), item.kind, item) for item in items])


def print_hits(hits: Sequence[Hit]) -> None:
    """Search results as a table: score, how much of the query matched, how near they are, date, whose, text, id."""
    rows = [
        (
            f"{hit.score:.2f}",
            f"{hit.components['matched']:.0%}" if "matched" in hit.components else "",
            f"{hit.components['vector']:.2f}" if hit.components.get("vector") is not None else "",
            when(hit.item.created_at),
            who(hit.item),
            hit.item,
        )
        for hit in hits
    ]
    _print_found(("Score", "Match", "Cosine", "Date", "Who"), rows)


def _print_found(head: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Rows of cells that end with an item, whose text fills the line; where that is short, what is no number stands below."""
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    out = console()
    items: list[MemoryItem] = [row[-1] for row in rows]
    spaces = ["/".join(item.namespace) if item.namespace != ("default",) else "" for item in items]
    cells = [[safe(cell) for cell in row[:-1]] for row in rows]
    filled = [place for place in range(len(head)) if any(row[place] for row in cells)]
    others = [max(map(cell_len, (head[place], *(row[place] for row in cells)))) for place in filled]
    ids = max(cell_len(safe(name)) for name in (*spaces, *(item.id for item in items)))
    narrow = out.width - sum(others) - min(ids, _WIDEST_ID) - 3 * (len(filled) + 2) < _ROOM
    columns = [place for place in filled if not narrow or head[place] in _NUMBERS]
    apart = 0 if columns else 1  # without a number at its left an item needs a blank line to set it off
    table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True, header_style="bold", leading=apart)
    for place in columns:
        _add_column(table, head[place])
    table.add_column("Text", ratio=1, overflow="fold")
    if not narrow:
        table.add_column("Id", overflow="fold", style="dim", max_width=_WIDEST_ID)
    for item, space, row in zip(items, spaces, cells, strict=True):
        text = Text(one_line(said(item) if item.text is None else item.text))
        below = [row[place] for place in filled if place not in columns]
        label = Text(safe("  ".join(part for part in (*below, space, item.id) if part)), style="dim")
        shown = [Text(row[place]) for place in columns]
        table.add_row(*shown, *([Text("\n").join((text, label))] if narrow else [text, label]))
    out.print(table)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Rows of texts under their heads."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in head:
        _add_column(table, name)
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    console().print(table)


def _add_column(table: Table, name: str) -> None:
    """A column; numbers stand to the right."""
    table.add_column(name, no_wrap=name in _NO_WRAP, overflow="fold", justify="right" if name in _NUMBERS else "left")


def print_facts(facts: Sequence[tuple[str, Any]]) -> None:
    """Names and values, a line each; those that say nothing are left out."""
    facts = [(name, value) for name, value in facts if value not in (None, "", (), [], {})]
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        first, *rest = safe(str(value)).split("\n")
        print(f"{name:>{width}}  {first}")
        for line in rest:
            print(f"{'':>{width}}  {line}")


def print_item(item: MemoryItem) -> None:
    """One item, whole."""
    import msgspec

    def as_json(value: dict[str, Any]) -> str:
        return msgspec.json.encode(value).decode() if value else ""

    print_facts(
        (
            ("id", item.id),
            ("namespace", " / ".join(item.namespace) if item.namespace != ("default",) else None),
            ("kind", item.kind),
            ("content", said(item)),
            ("text", item.text),
            ("user", item.user_id),
            ("agent", item.agent_id),
            ("session", item.session_id),
            ("tags", ", ".join(item.tags)),
            ("metadata", as_json(item.metadata)),
            ("source", as_json(item.source)),
            ("importance", f"{item.importance:g}"),
            ("created", when(item.created_at)),
            ("updated", when(item.updated_at) if item.updated_at != item.created_at else None),
            ("expires", when(item.expires_at) if item.expires_at else None),
            ("accessed", f"{item.access_count} times, last {when(item.accessed_at)}" if item.access_count else None),
            ("vector", f"{len(item.embedding)} numbers" if item.embedding is not None else None),
            ("version", item.version),
        )
    )


@contextmanager
def progress(what: str, total: int | None, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A progress bar on stderr while long work runs, and what to call with the number of records done.

    None where nobody would see it: not a terminal, or ``quiet``.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
