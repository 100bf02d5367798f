"""The contract as tests: what every backend has to keep, a sentence each.

An author of a backend writes one class::

    from memory.testing.contract import StoreContract

    class TestMine(StoreContract):
        def make_store(self, place, **options):
            return MyStore(place / "data", **options)

and pytest (with pytest-asyncio, both in the extra ``test``) runs every sentence over it. What a backend declares in
its ``capabilities`` decides which sentences apply; none asks for a backend's name. Time is a clock in the test's hand,
so nothing sleeps. Two more classes run the sentences in another way: ``TwinsContract`` through the ``_sync`` twins,
``ViewContract`` through a scoped view that covers all that the sentences write.
"""

from __future__ import annotations

from typing import cast

from memory.store import MemoryStore
from memory.testing.contract.agreeing import Agreeing
from memory.testing.contract.batches import Batches
from memory.testing.contract.cancelling import Calm, Cancelling
from memory.testing.contract.dedup import Dedup
from memory.testing.contract.embedding import Embedding
from memory.testing.contract.expiry import Expiring, Sweeping
from memory.testing.contract.feed import Feed
from memory.testing.contract.filtering import Filtering
from memory.testing.contract.hostile import Hostile
from memory.testing.contract.lifecycle import Lifecycle
from memory.testing.contract.limits import Limits, LongTexts, Vectors
from memory.testing.contract.mixing import Mixing
from memory.testing.contract.names import Names, Payloads
from memory.testing.contract.nearness import Nearness
from memory.testing.contract.neighbouring import Neighbouring
from memory.testing.contract.ordering import Ordering
from memory.testing.contract.reading import Reading
from memory.testing.contract.reembedding import Reembedding
from memory.testing.contract.retrying import Retrying
from memory.testing.contract.searching import Searching
from memory.testing.contract.suite import Bench, Make, Suite, Tap, needs, sentences
from memory.testing.contract.switching import Spaces, Switching
from memory.testing.contract.transfer import Keeping, Transfer
from memory.testing.contract.updating import Updating
from memory.testing.contract.versions import Versions
from memory.testing.contract.views import Views
from memory.testing.contract.writing import Writing
from memory.testing.twins import Twins


class OperationsContract(
    Writing,
    Batches,
    Reading,
    Filtering,
    Agreeing,
    Ordering,
    Expiring,
    Versions,
    Updating,
    Dedup,
    Searching,
    Neighbouring,
    Nearness,
    Mixing,
    Names,
    Payloads,
    Vectors,
    LongTexts,
    Transfer,
):
    """What holds for a store and for a view of it."""


class StoreContract(
    OperationsContract,
    Embedding,
    Reembedding,
    Spaces,
    Switching,
    Views,
    Hostile,
    Feed,
    Retrying,
    Limits,
    Sweeping,
    Keeping,
    Lifecycle,
    Cancelling,
    Calm,
):
    """Every sentence. Subclass it and define ``make_store``."""


class TwinsContract(OperationsContract, Embedding, Spaces, Views, Feed, Retrying, Limits, Sweeping, Keeping):
    """The sentences through the synchronous twins of a store that lives on its private loop."""

    def wrap(self, store: MemoryStore) -> MemoryStore:
        """The store's twins, as coroutines."""
        return cast("MemoryStore", Twins(store))


class ViewContract(OperationsContract):
    """The sentences about operations through a view that pins an agent: nothing else may differ."""

    def seen(self, store: MemoryStore) -> MemoryStore:
        """A view of the store."""
        return cast("MemoryStore", store.scoped(agent_id="suite"))


__all__ = [
    "Bench",
    "Make",
    "OperationsContract",
    "StoreContract",
    "Suite",
    "Tap",
    "TwinsContract",
    "ViewContract",
    "needs",
    "sentences",
]
