"""Broken backends: order, paging, search, payloads, feed."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from memory.backends.in_memory import InMemoryStore
from memory.codec import decode
from memory.filters import evaluate
from memory.model import MemoryItem, key_order, path_bytes
from memory.ops import Candidate, Events, Matched, Order, Page
from mutants.catalogue import Naive, Ops, Rows, caught, everything, mapped, replace

# --- order and paging ----------------------------------------------------------------------------


@caught("test_the_default_order_is_by_the_bytes_of_the_key", "keys sort caselessly")
class CaselessOrder(Naive):
    def place(self, item: MemoryItem) -> Any:
        return (path_bytes(item.namespace).lower(), item.id.lower().encode(), item.id.encode())


@caught("test_the_default_order_is_by_the_bytes_of_the_key", "keys sort by UTF-16 units")
class Utf16Order(Naive):
    def place(self, item: MemoryItem) -> Any:
        return (path_bytes(item.namespace), item.id.encode("utf-16-be"))


@caught("test_namespaces_order_segment_by_segment", "keys sort by id first")
class IdFirst(Naive):
    def place(self, item: MemoryItem) -> Any:
        return (item.id.encode(), path_bytes(item.namespace))


@caught("test_ties_go_by_key_also_when_descending", "wrong tie-break: descending orders reverse their ties")
class ReversedTies(Naive):
    def rank(self, op: Any, place: Any, value: Any) -> Any:
        return super().rank(op, place, value)

    def ranked(self, op: Any, rows: Rows) -> Rows:
        ranked = super().ranked(op, rows)
        if op.order.field == "key" or not op.order.descending:
            return ranked
        return sorted(rows, key=lambda pair: (self.value(op, pair), key_order(pair[1].key)), reverse=True)


@caught("test_every_order_sorts_by_its_field_with_ties_by_key", "orders ignore their direction")
class AlwaysAscending(InMemoryStore):
    async def _scan(self, op: Any) -> Any:
        return await super()._scan(replace(op, order=Order(op.order.field)))


@caught("test_key_order_descends_too", "key order never descends")
class KeyOrderAscends(InMemoryStore):
    async def _scan(self, op: Any) -> Any:
        return await super()._scan(replace(op, order=Order("key")) if op.order.field == "key" else op)


@caught("test_page_sizes_do_not_change_what_is_listed", "a page begins with the last item of the page before")
class InclusiveCursor(Naive):
    def following(self, op: Any, rows: Rows) -> Rows:
        after = super().following(op, rows)
        start = len(rows) - len(after)
        return rows[max(0, start - 1) :] if op.after is not None else rows


@caught("test_paging_by_key_gives_each_item_once_whatever_is_written", "OFFSET paging")
class OffsetPaging(Naive):
    """Remembers where a page ended by its position in the list, as OFFSET does."""

    async def _scan(self, op: Any) -> Any:
        rows = self.ranked(op, await self.chosen(op))
        places = self.__dict__.setdefault("_places", {})
        start = 0 if op.after is None else places.get((op.after.namespace, op.after.id), 0)
        page = rows[start : start + op.limit]
        # The base asks for one more than a page holds, to see whether there is a next.
        for number, (_, item) in enumerate(page):
            places[item.namespace, item.id] = start + number + 1
        return Page([row for row, _ in page], exact=True, more=len(rows) > start + op.limit)


@caught("test_a_cursor_survives_the_deletion_of_the_item_it_points_at", "a cursor needs its item")
class CursorNeedsItsItem(Naive):
    def following(self, op: Any, rows: Rows) -> Rows:
        if op.after is None:
            return rows
        keys = [item.key for _, item in rows]
        key = (op.after.namespace, op.after.id)
        return rows[keys.index(key) + 1 :] if key in keys else []


@caught("test_paging_by_creation_gives_each_item_once_whatever_is_written", "creation order follows updates")
class CreationFollowsUpdates(InMemoryStore):
    async def _scan(self, op: Any) -> Any:
        wrong = op.order.field == "created_at"
        return await super()._scan(replace(op, order=Order("updated_at", op.order.descending)) if wrong else op)


# --- search --------------------------------------------------------------------------------------


class _Matching(InMemoryStore):
    def change(self, candidate: Candidate) -> Candidate:
        return candidate

    async def _match(self, op: Any) -> Any:
        matched = await super()._match(op)
        return Matched(matched.df, [self.change(candidate) for candidate in matched.candidates])


@caught("test_scores_equal_the_reference_to_the_bit", "occurrences count once")
class OccurrencesOnce(_Matching):
    def change(self, candidate: Candidate) -> Candidate:
        return Candidate(candidate.row, tuple(min(1, count) for count in candidate.counts), candidate.length)


@caught("test_scores_equal_the_reference_to_the_bit", "lengths are off by one")
class LengthsOffByOne(_Matching):
    def change(self, candidate: Candidate) -> Candidate:
        return Candidate(candidate.row, candidate.counts, candidate.length + 1)


@caught("test_the_filter_comes_before_the_best_hits_are_chosen", "search filters after top-k")
class FilterAfterTopK(InMemoryStore):
    async def _match(self, op: Any) -> Any:
        matched = await super()._match(replace(op, where=None))
        return Matched(matched.df, [c for c in matched.candidates if evaluate(op.where, decode(c.row))])


@caught("test_only_the_thousand_newest_matches_of_a_term_are_candidates", "df is not capped and all are candidates")
class NoCap(InMemoryStore):
    async def _match(self, op: Any) -> Any:
        found = []
        for row, item in await everything(self, op.now):
            counts, length = self.analyser.counts(item.searchable)
            if op.scope.covers(item) and evaluate(op.where, item) and any(term in counts for term in op.terms):
                found.append(Candidate(row, tuple(counts.get(term, 0) for term in op.terms), length))
        return Matched(tuple(sum(c.counts[i] > 0 for c in found) for i in range(len(op.terms))), found)


@caught("test_scores_follow_every_kind_of_write", "the text index misses updates")
class StaleTexts(InMemoryStore):
    def _place(self, key: Any, record: Any) -> None:
        known = key in self._terms.numbers
        super()._place(key, record)
        if known and record is not None:
            self._terms.stale.discard(key)


@caught("test_neighbours_stay_within_their_session_and_namespace", "neighbours cross sessions")
class NeighboursCrossSessions(InMemoryStore):
    async def _around(self, op: Any) -> Any:
        sides = []
        for (path, id), _, created in op.anchors:
            line = [
                (row, item)
                for row, item in await everything(self, op.now)
                if item.namespace == path and op.scope.covers(item)
            ]
            line.sort(key=lambda pair: (pair[0].created, pair[1].id.encode()))
            place = (created, id.encode())
            before = [row for row, item in line if (row.created, item.id.encode()) < place]
            after = [row for row, item in line if (row.created, item.id.encode()) > place]
            sides.append((before[::-1][: op.n], after[: op.n]))
        return sides


# --- payloads ------------------------------------------------------------------------------------


class _Body(InMemoryStore):
    """Reads a projection of the record instead of its bytes."""

    def seen(self, value: Any) -> Any:
        return value

    async def _write(self, ops: Ops, atomic: bool) -> Any:
        changed = []
        for op in ops:
            body = getattr(op, "body", None)
            if body is not None:
                data = mapped(json.loads(body), self.seen)
                op = replace(op, body=json.dumps(data, ensure_ascii=False).encode())
            changed.append(op)
        return await super()._write(changed, atomic)


@caught("test_floats_ints_and_booleans_keep_their_types", "JSONB: whole floats become ints, -0.0 becomes 0")
class Jsonb(_Body):
    def seen(self, value: Any) -> Any:
        return int(value) if isinstance(value, float) and value.is_integer() else value


@caught("test_every_payload_comes_back_verbatim", "NUL is dropped from strings")
class DropsNul(_Body):
    def seen(self, value: Any) -> Any:
        return value.replace("\0", "") if isinstance(value, str) else value


@caught("test_every_payload_comes_back_verbatim", "strings are normalised to NFC")
class NormalisesStrings(_Body):
    def seen(self, value: Any) -> Any:
        return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


@caught("test_a_vector_is_stored_verbatim", "vectors are kept in half precision")
class HalfPrecision(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        import numpy as np

        with np.errstate(all="ignore"):
            ops = [
                replace(op, embedding=np.frombuffer(op.embedding, "<f4").astype("<f2").astype("<f4").tobytes())
                if getattr(op, "embedding", None)
                else op
                for op in ops
            ]
        return await super()._write(ops, atomic)


# --- the feed ------------------------------------------------------------------------------------


class _Feeding(InMemoryStore):
    def change(self, events: list[Any]) -> list[Any]:
        return events

    async def _feed(self, op: Any) -> Any:
        found = await super()._feed(op)
        return Events(self.change(found.events), found.head, found.oldest)


@caught("test_every_write_is_an_event_in_order_deletes_included", "the feed has no deletes")
class FeedWithoutDeletes(_Feeding):
    def change(self, events: list[Any]) -> list[Any]:
        return [event for event in events if not event.removed]


@caught("test_every_write_is_an_event_in_order_deletes_included", "the feed shows the last event of a key only")
class CompactedFeed(_Feeding):
    def change(self, events: list[Any]) -> list[Any]:
        return sorted({event.key: event for event in events}.values(), key=lambda event: event.seq)


@caught("test_an_item_that_leaves_the_scope_appears_as_a_delete", "the feed forgets who owned an item")
class FeedForgetsOwners(_Feeding):
    def change(self, events: list[Any]) -> list[Any]:
        return [replace(event, was=event.owner) for event in events]


@caught("test_a_view_watches_only_its_own", "a view watches everybody")
class FeedOfAll(_Feeding):
    def change(self, events: list[Any]) -> list[Any]:
        return [replace(event, was=("ann", None, None)) for event in events]


@caught("test_a_token_too_old_is_refused_as_expired", "a token too old resumes silently")
class SilentResume(_Feeding):
    async def _feed(self, op: Any) -> Any:
        found = await super()._feed(op)
        return Events(found.events, found.head, 0)


@caught("test_an_atomic_batch_that_failed_is_no_event_and_hides_none", "events of a rolled-back batch stay")
class RolledBackEvents(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        before, last = list(self._events), self._last_event
        results = await super()._write(ops, atomic)
        if atomic and self._last_event == last and len(self._events) == len(before):
            for op in ops:
                self._version += 1
                self._log(op, removed=True, owner=(None, None, None), was=None)
        return results
