"""The table that people read and the JSON that programs read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, shown


def table(figures: Sequence[Figure], facts: dict[str, Any]) -> Table:
    """All figures, with the target beside each."""
    title = f"{facts['date']}, {facts['processor']} × {facts['cores']}, Python {facts['python']}"
    grid = Table(title=title, title_justify="left", header_style="bold")
    for name in ("benchmark", "what", "backend", "records", "writes"):
        grid.add_column(name, justify="right" if name == "records" else "left")
    for name in ("value", "min - max", "unit", "target", "", "others"):
        grid.add_column(name, justify="right" if name not in ("unit", "") else "left")
    grid.add_column("note", overflow="fold")
    before = ""
    for figure in figures:
        if before and figure.benchmark != before:
            grid.add_section()
        before = figure.benchmark
        grid.add_row(
            figure.benchmark,
            figure.what,
            figure.backend,
            "" if figure.records is None else f"{figure.records:,}",
            figure.durability,
            shown(figure.value),
            f"{shown(min(figure.values))} - {shown(max(figure.values))}" if len(figure.values) > 1 else "",
            figure.unit,
            "" if figure.target is None else str(figure.target),
            _verdict(figure),
            "" if figure.others is None else f"{figure.others:.1f}",
            figure.note,
        )
    return grid


def _verdict(figure: Figure) -> str:
    return figure.verdict and f"[{'green' if figure.met else 'red'}]{figure.verdict}[/]"


def show(figures: Sequence[Figure], facts: dict[str, Any], console: Console) -> None:
    """Print the table and how many targets were met."""
    console.print(table(figures, facts))
    judged = [figure for figure in figures if figure.met is not None]
    met = sum(1 for figure in judged if figure.met)
    console.print(
        f"{met} of {len(judged)} targets met. value: the median of the rounds, of a longest hold the longest. others: "
        "cores that other processes kept busy meanwhile. floor above: the same work by hand missed the target too."
    )


def write(figures: Sequence[Figure], facts: dict[str, Any], path: Path) -> None:
    """All figures and the machine as JSON."""
    data = {"machine": facts, "figures": [figure.to_dict() for figure in figures]}
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
