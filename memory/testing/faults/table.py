"""The result of a proof: counts, violations, how to run it again."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import msgspec

Print = Callable[[str], None]
SHOWN = 20
"""Violations printed in full; the rest are counted."""


def out(line: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Outcome(msgspec.Struct):
    """Counts in the order they are shown, and what went wrong. ``failures`` empty: the proof holds."""

    title: str
    counts: dict[str, int] = msgspec.field(default_factory=Counter)
    failures: list[str] = []
    seconds: float = 0.0
    repeat: str = ""
    """The command that runs this again."""

    @property
    def ok(self) -> bool:
        """Nothing was broken."""
        return not self.failures

    def table(self) -> str:
        """The counts as aligned text, then the failures."""
        width = max([len(name) for name in self.counts] + [10])
        lines = [self.title, "-" * max(len(self.title), width + 10)]
        lines += [f"{name:<{width}}  {number:>8,}" for name, number in self.counts.items()]
        lines.append(f"{'seconds':<{width}}  {self.seconds:>8,.1f}")
        for failure in self.failures[:SHOWN]:
            lines.append(f"VIOLATION {failure}")
        if len(self.failures) > SHOWN:
            lines.append(f"... and {len(self.failures) - SHOWN} more")
        lines.append("OK" if self.ok else f"FAILED: {len(self.failures)} violations")
        if self.repeat:
            lines.append(f"again: {self.repeat}")
        return "\n".join(lines)
