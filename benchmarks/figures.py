"""One measured figure: its values round by round, the target beside it, and whether that is met."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A limit: at most, or at least."""

    limit: float
    least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {shown(self.limit)}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``values`` holds one value for each round; the median is what counts."""

    benchmark: str
    what: str
    backend: str
    unit: str
    values: tuple[float, ...]
    records: int | None = None
    durability: str = ""
    """Of a write: "none", "normal" (survives the process) or "full" (survives power loss)."""
    target: Target | None = None
    note: str = ""
    others: float | None = None
    """Processor cores that other processes kept busy meanwhile."""

    worst: bool = False
    """Judged by its largest value, not by the median."""
    floor: float | None = None
    """What the same work written by hand took in the same run, in the same unit: the median of its rounds."""

    @property
    def value(self) -> float:
        return max(self.values) if self.worst else median(self.values)

    @property
    def met(self) -> bool | None:
        """None where there is no target."""
        return None if self.target is None else self.target.met(self.value)

    @property
    def verdict(self) -> str:
        """met, missed, or missed with the floor above: by hand it was missed too, in the same run. "" without a target."""
        if self.target is None:
            return ""
        if self.target.met(self.value):
            return "met"
        return "missed" if self.floor is None or self.target.met(self.floor) else "missed, floor above"

    def to_dict(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "what": self.what,
            "backend": self.backend,
            "records": self.records,
            "durability": self.durability,
            "unit": self.unit,
            "value": self.value,
            "value_is": "max" if self.worst else "median",
            "min": min(self.values),
            "max": max(self.values),
            "rounds": len(self.values),
            "target": None if self.target is None else str(self.target),
            "met": self.met,
            "floor": self.floor,
            "verdict": self.verdict,
            "note": self.note,
            "others": self.others,
        }


def shown(value: float) -> str:
    """A number with three significant digits, thousands apart."""
    if value and abs(value) < 0.01:
        return f"{value:.1e}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def percentile(values: list[float], share: float) -> float:
    """The value below which this share (0 to 1) of the values lies, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
