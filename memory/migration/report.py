"""What a migration says of itself: the plan before, the report after. Keys and field names, never content."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from memory.model import Key

SHOWN = 1_000
"""So many findings of each kind are held in memory; the file that ``output`` names, and the journal, have all."""

OnConflict = Literal["refuse", "skip", "newer", "replace"]
"""What is done about an item that the target holds differently: nothing at all is written; it is left as it is; the one
with the later ``updated_at`` stays; the source's stays."""


class Plan(msgspec.Struct, kw_only=True, tag="plan", tag_field="t"):
    """What a migration would do, found by going through the source once."""

    items: int = 0
    """Live items of the source in scope."""
    size: int = 0
    """Bytes of their bodies and vectors."""
    create: int = 0
    update: int = 0
    """Items that an earlier run of this migration wrote, and that have changed at the source since."""
    replace: int = 0
    unchanged: int = 0
    """Equal on both sides already."""
    kept: int = 0
    """Later in the target (``on_conflict="newer"``)."""
    conflicts: int = 0
    refused: int = 0
    """What the target cannot hold."""
    unlisted: int = 0
    """What lies at the source and is no item of it, so that it stays behind."""
    read_seconds: float = 0.0
    """What going through the source and looking them up in the target took."""
    estimate: float = 0.0
    """Seconds that moving and comparing will take, guessed from the plan's own speed."""
    stopped: Literal["refused", "conflicts"] | None = None
    """Why nothing will be written."""

    @property
    def writes(self) -> int:
        """Items to be written."""
        return self.create + self.update + self.replace


class Finding(msgspec.Struct, frozen=True, kw_only=True, tag="finding", tag_field="t"):
    """Something about one item. ``fields``: the names of those that differ."""

    kind: Literal["unlisted", "expired", "refused", "conflict", "difference"]
    key: Key
    why: str
    fields: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As the report lists it."""
        told: dict[str, Any] = {"namespace": list(self.key[0]), "id": self.key[1], "why": self.why}
        return {**told, "fields": list(self.fields)} if self.fields else told


class MigrationReport(msgspec.Struct, kw_only=True):
    """How a migration went. ``ok`` is the truth: everything planned is there, and equal as far as was looked."""

    source: str
    target: str
    """Addresses, without passwords."""
    state: str | None
    """The journal, which resumes and undoes the migration; None for a dry run."""
    dry_run: bool
    resumed: bool
    plan: Plan
    created: int = 0
    updated: int = 0
    replaced: int = 0
    removed: int = 0
    """Taken back, since they were deleted at the source meanwhile."""
    validation: Literal["full", "sample", "none"] = "none"
    compared: int = 0
    """Items compared after moving."""
    others: int | None = None
    """Items in the target's part that the source does not have and this migration did not write (full comparison)."""
    meanwhile: int = 0
    """Items found changed at the source while they were moved, and moved again or taken back."""
    unlisted: int = 0
    expired: int = 0
    """Met in data of an older system and left behind: their time was over."""
    refused: int = 0
    conflicts: int = 0
    differences: int = 0
    seconds: float = 0.0
    findings: list[Finding] = []
    """The first of each kind."""

    @property
    def stopped(self) -> str | None:
        """Why nothing was written: "refused", "conflicts"; None: it went on."""
        return self.plan.stopped

    @property
    def ok(self) -> bool:
        """Whether everything planned is there; of a dry run: whether it would begin."""
        if self.dry_run:
            return self.stopped is None
        return self.stopped is None and not (self.unlisted or self.refused or self.conflicts or self.differences)

    @property
    def written(self) -> int:
        """Items written, all runs of this round together."""
        return self.created + self.updated + self.replaced

    def plain(self) -> dict[str, Any]:
        """All but the findings, as JSON values."""
        told = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("findings", "plan")}
        plan = {name: getattr(self.plan, name) for name in self.plan.__struct_fields__}
        return {"ok": self.ok, **told, "plan": {**plan, "writes": self.plan.writes}}


class RollbackReport(msgspec.Struct, kw_only=True):
    """How an undo went: what was new is deleted, what was replaced is back; what somebody wrote since is not touched."""

    target: str
    state: str
    deleted: int = 0
    restored: int = 0
    already: int = 0
    """As before the migration already."""
    conflicts: int = 0
    """Changed or deleted in the target since, and left as they are."""
    findings: list[Finding] = []

    @property
    def ok(self) -> bool:
        """Whether everything that was written is undone."""
        return not self.conflicts

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        told = {name: getattr(self, name) for name in self.__struct_fields__ if name != "findings"}
        return {"ok": self.ok, **told, "left": [one.plain() for one in self.findings]}
