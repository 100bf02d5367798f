"""The figures of a run as pictures: one SVG for each benchmark, bars beside their floor and target.

    python -m benchmarks.plot FIGURES.json -o DIRECTORY

FIGURES.json is what ``python -m benchmarks --json`` wrote. A bar is the figure's value, the thin line over it its least
and greatest round, the upright stroke its target. What was done by hand is grey, under what the store does. Each unit
has a scale of its own, logarithmic where its values span more than a decade and a half.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.figures import shown

WIDTH, LABELS, RIGHT, ROW, TOP = 980, 330, 150, 17, 64
BAR = 11
SPAN = 30.0
"""A scale is logarithmic when its greatest value is so many times its least."""
COLOURS = {"sqlite": "#2a6f97", "in_memory": "#d98e04"}
OTHER, HAND, MET, MISSED, INK, FAINT = "#6d597a", "#a8b0b9", "#2d8a4e", "#c1121f", "#22303c", "#d7dce1"
BY_HAND = ("by hand", "bare command", "numpy", "faiss")
"""What a floor's name begins with, behind the colon."""
UNITS = {"": "share", "×": "times", "/s": "a second"}
_RANK = {"ms": 0, "µs": 0, "s": 0, "/s": 1, "": 2, "MB": 3, "×": 9}

Data = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """Values to places on the x axis."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: Iterable[float], unit: str) -> Scale:
        """One that holds all values; those of a logarithmic one are above 0."""
        held = [value for value in values if math.isfinite(value)]
        high = max(held, default=1.0) or 1.0
        above = [value for value in held if value > 0]
        low = min(above, default=high)
        if unit != "" and min(held, default=0.0) >= 0 and high / low > SPAN:
            return cls(10.0 ** math.floor(math.log10(low) - 0.05), 10.0 ** math.ceil(math.log10(high)), log=True)
        return cls(min(0.0, *held, 0.0), 1.0 if unit == "" and high <= 1 else _rounded(high), log=False)

    def x(self, value: float) -> float:
        """Where a value lies."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return LABELS + max(0.0, min(1.0, share)) * (WIDTH - LABELS - RIGHT)

    def ticks(self) -> list[float]:
        """Values that get a line."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        return [self.low + (self.high - self.low) * i / 4 for i in range(5)]


def _rounded(value: float) -> float:
    """The next 1, 2, 4, 6, 8 or 10 of its decade."""
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 4, 6, 8, 10) if step * unit >= value)


def chart(name: str, figures: Sequence[Data], machine: Data) -> str:
    """The SVG of one benchmark."""
    body: list[str] = []
    y = TOP
    units = sorted({figure["unit"] for figure in figures}, key=lambda unit: (_RANK.get(unit, 5), unit))
    for unit in units:
        y = _panel([figure for figure in figures if figure["unit"] == unit], unit, body, y) + 34
    height = y - 4
    facts = f"{machine.get('date', '')}  {machine.get('processor', '')} × {machine.get('cores', '')}"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(16, 24, name, size=17, weight="bold"),
        _text(WIDTH - 16, 24, f"{facts}, Python {machine.get('python', '')}", anchor="end", fill="#5c6770"),
        *_legend(figures),
    ]
    return "\n".join([*head, *body, "</svg>", ""])


def _legend(figures: Sequence[Data]) -> list[str]:
    backends = list(dict.fromkeys(figure["backend"] for figure in figures))
    marks = [(COLOURS.get(backend, OTHER), backend) for backend in backends]
    if any(_is_floor(figure) for figure in figures):
        marks.append((HAND, "by hand"))
    drawn, x = [], 16.0
    for colour, label in marks:
        drawn += [_rect(x, 36, 11, 11, colour), _text(x + 16, 46, label)]
        x += 34 + 6.6 * len(label)
    if any(figure["target"] for figure in figures):
        for colour, label in ((MET, "target, met"), (MISSED, "target, missed")):
            drawn += [_line(x + 5, 34, x + 5, 49, colour, 2.5), _text(x + 14, 46, label)]
            x += 32 + 6.6 * len(label)
    return drawn


def _panel(figures: Sequence[Data], unit: str, body: list[str], top: int) -> int:
    """Draw the figures of one unit below ``top``; where they end."""
    limits = [limit for figure in figures if (limit := _limit(figure)) is not None]
    values = [figure[which] for figure in figures for which in ("value", "min", "max")]
    scale = Scale.of([*values, *limits], unit)
    rows: list[str] = []
    y = top + 26
    ordered = sorted(figures, key=lambda figure: (_first(figures, _group(figure)), _order(figure)))
    for group, members in groupby(ordered, _group):
        rows.append(_text(16, y + 11, group, weight="bold"))
        y += ROW
        for figure in members:
            rows += _bar(figure, scale, y)
            y += ROW
        y += 5
    label = UNITS.get(unit, unit) + (", logarithmic scale" if scale.log else "")
    body.append(_text((LABELS + WIDTH - RIGHT) / 2, top + 8, label, anchor="middle", fill="#5c6770"))
    for tick in scale.ticks():
        x = scale.x(tick)
        body += [_line(x, top + 26, x, y, FAINT, 1), _text(x, top + 22, shown(tick), "middle", "#5c6770", size=10)]
    if unit == "×" and scale.low < 1 < scale.high:
        body.append(_line(scale.x(1), top + 26, scale.x(1), y, "#7b8794", 1.5))
    body += rows
    return y


def _bar(figure: Data, scale: Scale, y: int) -> list[str]:
    colour = HAND if _is_floor(figure) else COLOURS.get(figure["backend"], OTHER)
    start = scale.x(scale.low if scale.log else 0.0)
    end = scale.x(figure["value"])
    drawn = [
        _text(LABELS - 8, y + 10, _label(figure), anchor="end"),
        _rect(min(start, end), y + 1, max(1.0, abs(end - start)), BAR, colour),
    ]
    if figure["rounds"] > 1:
        middle = y + 1 + BAR / 2
        drawn.append(_line(scale.x(figure["min"]), middle, scale.x(figure["max"]), middle, INK, 1.2))
    limit = _limit(figure)
    if limit is not None:
        x = scale.x(limit)
        drawn.append(_line(x, y - 1, x, y + BAR + 3, MET if figure["met"] else MISSED, 2.5))
    beyond = max(end, scale.x(figure["max"]), end if limit is None else scale.x(limit))
    told = shown(figure["value"]) + ("" if figure["target"] is None else f"  ({figure['target']})")
    drawn.append(_text(beyond + 7, y + 10, told, size=11))
    return drawn


# --- what a figure is --------------------------------------------------------------------------


def _limit(figure: Data) -> float | None:
    return None if figure["target"] is None else float(figure["target"][1:].replace(",", ""))


def _parts(figure: Data) -> tuple[str, str]:
    """("put, new key", "p50") of "put p50, new key": what is measured, and which number of it."""
    what, _, rest = figure["what"].partition(": ")
    which = re.search(r",? (p\d+)\b", what)
    if which is None:
        return what, rest
    return what.replace(which[0], "", 1), " ".join(filter(None, (rest, which[1])))


def _group(figure: Data) -> str:
    return _parts(figure)[0]


def _first(figures: Sequence[Data], group: str) -> int:
    return next(i for i, figure in enumerate(figures) if _group(figure) == group)


def _order(figure: Data) -> tuple[Any, ...]:
    """Of one group: the sizes apart, at each the store before what was done by hand."""
    return figure["durability"], figure["backend"], figure["records"] or 0, _is_floor(figure)


def _is_floor(figure: Data) -> bool:
    return _parts(figure)[1].startswith(BY_HAND)


def _label(figure: Data) -> str:
    size = None if figure["records"] is None else f"{figure['records']:,}"
    which = _parts(figure)[1]
    return " · ".join(filter(None, (which, figure["backend"], figure["durability"], size)))


# --- SVG ---------------------------------------------------------------------------------------


def _text(
    x: float, y: float, text: str, anchor: str = "start", fill: str = INK, *, size: int = 12, weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def main(given: Sequence[str] | None = None) -> int:
    """Draw the benchmarks of a file; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description="Draws figures as SVG.")
    parser.add_argument("figures", type=Path, metavar="FIGURES.json", help="what python -m benchmarks --json wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path(), metavar="DIRECTORY", help="where pictures go")
    told = parser.parse_args(given)
    data = json.loads(told.figures.read_text(encoding="utf-8"))
    told.output.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(figure["benchmark"] for figure in data["figures"]):
        figures = [figure for figure in data["figures"] if figure["benchmark"] == name]
        path = told.output / f"{name}.svg"
        path.write_text(chart(name, figures, data["machine"]), encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
