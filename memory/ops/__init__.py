"""Operations as values: what the base hands to a backend's hooks, and the plain results it gets back.

All times are integer microseconds since the epoch. ``now`` travels with every operation: an item whose
``expires <= now`` is absent to every hook.
"""

from __future__ import annotations

from memory.ops.reads import Count, Event, Events, FeedRead, Order, OrderField, Page, Position, Read, Scan
from memory.ops.rows import WHOLE, Owner, Problem, Row, Scope, Space
from memory.ops.searches import Around, Candidate, Hybrid, Match, Matched, Mixed, Nearest
from memory.ops.writes import ABSENT, ANY, Attach, Kept, Put, Remove, Result, Status, Touch, Write, counted, refusal

__all__ = [
    "ABSENT",
    "ANY",
    "WHOLE",
    "Around",
    "Attach",
    "Candidate",
    "Count",
    "Event",
    "Events",
    "FeedRead",
    "Hybrid",
    "Kept",
    "Match",
    "Matched",
    "Mixed",
    "Nearest",
    "Order",
    "OrderField",
    "Owner",
    "Page",
    "Position",
    "Problem",
    "Put",
    "Read",
    "Remove",
    "Result",
    "Row",
    "Scan",
    "Scope",
    "Space",
    "Status",
    "Touch",
    "Write",
    "counted",
    "refusal",
]
