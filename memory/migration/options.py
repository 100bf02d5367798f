"""What a migration is asked to do, checked before anything is opened."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from memory.errors import InvalidSetting
from memory.filters import digest_form, parse
from memory.migration.records import Vectors
from memory.migration.report import OnConflict
from memory.model import check_namespace

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.store.bound import Namespace

MAX_BATCH = 1_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The keywords of ``migrate``, which tells what they mean."""

    namespace: Namespace | None = None
    under: Namespace | None = None
    where: Where = None
    vectors: Vectors = "copy"
    on_conflict: OnConflict = "refuse"
    skip_refused: bool = False
    batch_size: int = 500
    throttle: float | None = None
    validate: bool = True
    sample_size: int | None = None

    def check(self) -> None:
        """Raises InvalidSetting, InvalidItem (namespaces), InvalidFilter."""
        for name, form in (("vectors", Vectors), ("on_conflict", OnConflict)):
            known = get_args(form)
            if getattr(self, name) not in known:
                raise InvalidSetting(f"{name} must be one of {', '.join(known)}", setting=name)
        _check_count("batch_size", self.batch_size, MAX_BATCH)
        if self.sample_size is not None:
            _check_count("sample_size", self.sample_size, 1_000_000)
            if not self.validate:
                raise InvalidSetting("give sample_size or validate=False, not both", setting="sample_size")
        rate = self.throttle
        if rate is not None and (type(rate) not in (int, float) or not math.isfinite(rate) or rate <= 0):
            raise InvalidSetting(f"throttle must be a number of items a second, not {rate!r}", setting="throttle")
        self.question()

    @property
    def size(self) -> int:
        """Items in a batch: no more than may be written in a second."""
        return self.batch_size if self.throttle is None else min(self.batch_size, max(1, int(self.throttle)))

    def question(self) -> dict[str, Any]:
        """What is moved and how: a journal belongs to one such question."""
        filter = parse(self.where)
        return {
            "namespace": None if self.namespace is None else list(check_namespace(self.namespace)),
            "under": None if self.under is None else list(check_namespace(self.under, "under", allow_root=True)),
            "where": None if filter is None else hashlib.blake2b(digest_form(filter), digest_size=9).hexdigest(),
            "vectors": self.vectors,
        }

    def policy(self) -> dict[str, Any]:
        """How what is in the way is dealt with: a plan belongs to one such policy."""
        return {"on_conflict": self.on_conflict, "skip_refused": self.skip_refused}


def default_state(source: str, target: str, question: dict[str, Any]) -> Path:
    """The journal's name where none is given: the same for the same migration, in the working directory."""
    told = msgspec.json.encode([source, target, question], order="deterministic")
    return Path(f"memory-migration-{hashlib.blake2b(told, digest_size=6).hexdigest()}.jsonl")


def _check_count(name: str, value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidSetting(f"{name} must be an int from 1 to {most:,}, not {value!r}", setting=name)
