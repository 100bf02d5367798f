"""The rules about vectors: searches by them, their making afterwards, another embedder."""

from __future__ import annotations

from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition

from memory.errors import UnsupportedOperation
from memory.model import MemoryItem
from memory.testing.embedder import WordEmbedder
from memory.testing.machine import reference, strategies
from memory.testing.machine.model import Pins, Refused, agree, numbers, searchable
from memory.testing.machine.placing import rule
from memory.testing.machine.reference import Asked
from memory.testing.machine.rules import StoreMachine

words = st.lists(st.sampled_from(strategies.WORDS), min_size=1, max_size=3).map(" ".join)


class VectorMachine(StoreMachine):
    """A program that also searches by vector and changes who makes them."""

    asked = 0

    @rule(
        pins=strategies.views,
        where=strategies.filters,
        query=st.one_of(st.none(), st.none(), words),
        vector=strategies.vectors,
        neighbours=st.sampled_from([0, 0, 0, 0, 1, 2]),
        order=st.sampled_from(["relevance", "relevance", "relevance", "composite"]),
        min_vector=st.sampled_from([None, None, None, -1.0, 0.0, 0.5]),
        limit=st.sampled_from([1, 1, 2, 3, 5, 15]),
        exact=st.booleans(),
    )
    def search_near(
        self,
        pins: Pins,
        where: Any,
        query: str | None,
        vector: Any,
        neighbours: int,
        order: str,
        min_vector: float | None,
        limit: int,
        exact: bool,
    ) -> None:
        """By vector and hybrid, page by page: scores, order and neighbours, to the bit."""
        kept: dict[str, Any] = {"neighbours": neighbours, "order": order, "min_vector": min_vector}
        expected = reference.search(
            self.model, Asked(pins=pins, where=where, query=query, vector=numbers(vector), **kept)
        )
        note(f"expected {expected}")
        found: list[Any] = []
        cursor = None
        while True:
            page = self.run(
                self.view(pins).search(
                    query, vector=vector, where=where, limit=limit, cursor=cursor, exact=exact, **kept
                )
            )
            found += page.hits
            cursor = page.cursor
            if cursor is None:
                break
            assert len(page) == limit
        assert [(hit.item.key, hit.score) for hit in found] == expected
        for hit in found:
            agree(hit.item, self.model.records[hit.item.key], hit=True)

    @rule(
        pins=strategies.views,
        query=st.one_of(st.none(), words),
        vector=strategies.vectors,
        limit=st.integers(1, 15),
        mmr=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    )
    def search_diverse(self, pins: Pins, query: str | None, vector: Any, limit: int, mmr: float) -> None:
        """The picks of maximal marginal relevance, in their order."""
        ranked = reference.search(self.model, Asked(pins=pins, where=None, query=query, vector=numbers(vector)))
        page = self.run(self.view(pins).search(query, vector=vector, limit=limit, mmr=mmr))
        assert [(hit.item.key, hit.score) for hit in page] == reference.diverse(self.model, ranked, limit, mmr)
        assert page.cursor is None

    @precondition(lambda self: self.model.space)
    @rule(item=strategies.items(), vector=strategies.vectors)
    def mix(self, item: MemoryItem, vector: list[float]) -> None:
        """A vector of another dimension is refused by writes and searches."""
        if self.model.live(item.key):
            call = self.store.update(item.id, namespace=item.namespace, embedding=vector[:3])
            self.refused(Refused("EmbeddingMismatch"), call)
        self.refused(Refused("EmbeddingMismatch"), self.store.search(vector=[*vector, 1.0]))

    @rule(name=st.sampled_from(["one", "one", "two"]), batch=st.sampled_from([1, 3, 256]))
    def reembed(self, name: str, batch: int) -> None:
        """Vectors for what has none, or for everything by another embedder, where the backend can."""
        own = self.model.embedder
        if own is not None and name != own.name and not self.store.capabilities.persistent:
            name = own.name  # a store that ends with its embedder could not be opened with another
        maker = WordEmbedder(name, strategies.DIMENSION, semantic=False)
        anew = self.model.space not in (None, (name,))
        live = self.model.seen(Pins())
        bare = [one for one in live if one["embedding"] is not None and not searchable(one).strip()]
        call = self.store.reembed(maker if own is None or name != own.name else None, batch=batch)
        if anew and (bare or not self.store.capabilities.reembeds):
            self.refused(Refused(UnsupportedOperation.__name__), call)
            return
        report = self.run(call)
        assert (report.switched, report.embedder) == (anew, name)
        due = [one for one in live if (anew or one["embedding"] is None) and searchable(one).strip()]
        # A change that was refused halfway has left vectors aside, which need not be made again.
        assert anew or report.embedded >= len(due)
        for record in due:
            found = self.run(self.store.get(record["id"], namespace=record["namespace"]))
            assert found is not None
            assert found.version >= record["version"]
            key = (record["namespace"], record["id"])
            self.model.highest[key] = found.version
            self.model.records[key] = {
                **record,
                "embedding": numbers(maker.vector(searchable(record))),
                "version": found.version,
            }
        if anew or due:
            self.model.space = (name,)
        for record in self.model.seen(Pins()):
            found = self.run(self.store.get(record["id"], namespace=record["namespace"]))
            assert found is not None
            agree(found, record)
        if own is not None and name != own.name:
            self.refused(Refused("EmbeddingMismatch"), self.store.put(MemoryItem(content="marmot", id="refused")))
            self.run(self.store.close())
            self.open(name)

    @invariant()
    def the_nearest_are_the_models(self) -> None:
        """After every step the nearest few are looked for, each time by another vector."""
        self.asked += 1
        vector = numbers(strategies.VECTORS[self.asked % len(strategies.VECTORS)])
        limit = 1 + self.asked % 4
        expected = reference.search(self.model, Asked(pins=Pins(), where=None, vector=vector))
        page = self.run(self.store.search(vector=vector, limit=limit))
        assert [(hit.item.key, hit.score) for hit in page] == expected[:limit]
        assert (page.cursor is None) == (len(expected) <= limit)
