"""Broken backends: names, scopes, filters, order, paging, search, feed."""

from __future__ import annotations

import fnmatch
import json
import unicodedata
from typing import Any

from memory.backends.in_memory import InMemoryStore
from memory.filters import And, Compare, Filter, Not, Or, evaluate
from memory.model import MemoryItem, key_order, path_bytes
from memory.ops import WHOLE, Candidate, Events, Matched, Order, Page
from mutants.catalogue import Naive, Ops, Rows, caught, everything, replace

# --- names ---------------------------------------------------------------------------------------


@caught("test_under_means_it_and_everything_below_at_segment_boundaries", "prefix leak: under is a string prefix")
class PrefixLeak(Naive):
    def inside(self, op: Any, item: MemoryItem) -> bool:
        path = item.namespace
        owned = op.scope.covers_owner(item.user_id, item.agent_id, item.session_id)
        return owned and ("/".join(path).startswith("/".join(op.scope.path)) if op.scope.below else path == op.scope.path)


@caught("test_no_namespace_is_mistaken_for_another", "LIKE: % and _ in a namespace are wildcards")
class LikeNamespaces(Naive):
    def inside(self, op: Any, item: MemoryItem) -> bool:
        scope, path = op.scope, item.namespace
        pattern = ["*" if part == "%" else part.replace("[", "[[]").replace("%", "*").replace("_", "?") for part in scope.path]
        head = path[: len(pattern)]
        same = len(head) == len(pattern) and all(map(fnmatch.fnmatchcase, head, pattern))
        return same and (scope.below or len(path) == len(pattern))


@caught("test_no_namespace_is_mistaken_for_another", "namespaces ignore case")
class CaselessNamespaces(Naive):
    def inside(self, op: Any, item: MemoryItem) -> bool:
        return super().inside(op, replace(item, namespace=tuple(map(str.lower, item.namespace)))) or super().inside(op, item)


class _Renamed(InMemoryStore):
    """Keys pass through an encoding that is not injective."""

    def rename(self, key: Any) -> Any:
        raise NotImplementedError

    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write([replace(op, key=self.rename(op.key)) for op in ops], atomic)

    async def _read(self, op: Any) -> Any:
        return await super()._read(replace(op, keys=tuple(map(self.rename, op.keys))))


@caught("test_no_id_is_mistaken_for_another", "ids are normalised to NFC")
class NormalisedIds(_Renamed):
    def rename(self, key: Any) -> Any:
        return (key[0], unicodedata.normalize("NFC", key[1]))


@caught("test_no_id_is_mistaken_for_another", "ids ignore case")
class CaselessIds(_Renamed):
    def rename(self, key: Any) -> Any:
        return (key[0], key[1].lower())


@caught("test_no_id_is_mistaken_for_another", "long ids are cut")
class CutIds(_Renamed):
    def rename(self, key: Any) -> Any:
        return (key[0], key[1].encode()[:500].decode(errors="ignore"))


@caught("test_no_segment_boundary_is_mistaken_for_another", "segments are joined by a slash")
class JoinedBySlash(_Renamed):
    def rename(self, key: Any) -> Any:
        return (("/".join(key[0]),), key[1])


@caught("test_namespace_and_id_are_not_run_together", "namespace and id are joined by a colon")
class JoinedByColon(_Renamed):
    def rename(self, key: Any) -> Any:
        return (("all",), ":".join((*key[0], key[1])))


# --- scopes --------------------------------------------------------------------------------------


def ownerless(op: Any) -> Any:
    return replace(op, scope=replace(op.scope, user_id=None, agent_id=None, session_id=None))


@caught("test_what_lies_outside_is_absent_to_update_touch_and_delete", "get ignores the owner")
class GetIgnoresOwner(InMemoryStore):
    async def _read(self, op: Any) -> Any:
        return await super()._read(ownerless(op))


@caught("test_a_view_lists_counts_and_streams_only_its_own", "list ignores the owner")
class ListIgnoresOwner(InMemoryStore):
    async def _scan(self, op: Any) -> Any:
        return await super()._scan(ownerless(op))


@caught("test_a_view_lists_counts_and_streams_only_its_own", "count ignores the owner")
class CountIgnoresOwner(InMemoryStore):
    async def _count(self, op: Any) -> Any:
        return await super()._count(ownerless(op))


@caught("test_namespaces_of_a_view_are_those_with_its_own_items", "namespaces of everybody are listed")
class NamespacesOfAll(InMemoryStore):
    async def _namespaces(self, op: Any) -> Any:
        return await super()._namespaces(ownerless(op))


@caught("test_search_scores_do_not_depend_on_what_lies_outside", "df of the whole store")
class DfOfTheStore(InMemoryStore):
    async def _match(self, op: Any) -> Any:
        return Matched((await super()._match(replace(op, scope=WHOLE, where=None))).df, (await super()._match(op)).candidates)


@caught("test_neighbours_outside_the_view_lend_nothing", "neighbours ignore the owner")
class NeighboursOfAll(InMemoryStore):
    async def _around(self, op: Any) -> Any:
        return await super()._around(ownerless(op))


# --- filters -------------------------------------------------------------------------------------


def transformed(tree: Filter | None, leaf: Any) -> Filter | None:
    """The tree with its comparisons replaced."""
    if isinstance(tree, And | Or):
        return type(tree)(tuple(transformed(part, leaf) for part in tree.parts))  # type: ignore[misc]
    if isinstance(tree, Not):
        return Not(transformed(tree.part, leaf))  # type: ignore[arg-type]
    return None if tree is None else leaf(tree)


def mapped(value: Any, change: Any) -> Any:
    """JSON with its scalars changed."""
    if isinstance(value, dict):
        return {name: mapped(part, change) for name, part in value.items()}
    return [mapped(part, change) for part in value] if isinstance(value, list) else change(value)


class _Seeing(Naive):
    """Filters see items through a projection."""

    def seen(self, value: Any) -> Any:
        return value

    def leaf(self, leaf: Compare) -> Filter:
        return leaf

    def accepts(self, op: Any, item: MemoryItem) -> bool:
        item = replace(item, metadata=mapped(item.metadata, self.seen), content=mapped(item.content, self.seen))
        return evaluate(transformed(op.where, self.leaf), item)


@caught("test_a_missing_field_satisfies_ne", "SQL's logic: a missing field does not satisfy ne")
class ThreeValued(_Seeing):
    def leaf(self, leaf: Compare) -> Filter:
        return And((Compare(leaf.path, "exists", True), leaf)) if leaf.op == "ne" else leaf


@caught("test_not_of_an_order_comparison_is_true_of_what_has_no_order", "NOT of a comparison drops what has no order")
class NotDropsRows(_Seeing):
    def leaf(self, leaf: Compare) -> Filter:
        return leaf

    def accepts(self, op: Any, item: MemoryItem) -> bool:
        tree = op.where
        if isinstance(tree, Not) and isinstance(tree.part, Compare) and tree.part.op in ("gt", "gte", "lt", "lte"):
            opposite = {"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"}[tree.part.op]
            return evaluate(Compare(tree.part.path, opposite, tree.part.value), item)
        return super().accepts(op, item)


@caught("test_equal_to_none_matches_missing_and_null", "eq None means null only")
class NoneIsNull(_Seeing):
    def leaf(self, leaf: Compare) -> Filter:
        return And((Compare(leaf.path, "exists", True), leaf)) if leaf.op == "eq" and leaf.value is None else leaf


@caught("test_exists_counts_null_as_present", "null counts as missing")
class NullIsMissing(_Seeing):
    def leaf(self, leaf: Compare) -> Filter:
        return Compare(leaf.path, "ne" if leaf.value else "eq", None) if leaf.op == "exists" else leaf


@caught("test_a_bool_is_not_a_number", "booleans are 0 and 1")
class BooleansAreNumbers(_Seeing):
    def seen(self, value: Any) -> Any:
        return int(value) if isinstance(value, bool) else value


@caught("test_large_integers_compare_exactly", "numbers are doubles")
class NumbersAreDoubles(_Seeing):
    def seen(self, value: Any) -> Any:
        return float(value) if type(value) is int else value


@caught("test_numbers_are_not_compared_as_text", "numbers compare as text")
class NumbersAreText(_Seeing):
    def seen(self, value: Any) -> Any:
        return str(value) if type(value) in (int, float) else value

    def leaf(self, leaf: Compare) -> Filter:
        return Compare(leaf.path, leaf.op, self.seen(leaf.value))


@caught("test_one_equals_one_point_zero", "1 and 1.0 differ")
class TypedNumbers(_Seeing):
    def seen(self, value: Any) -> Any:
        return f"int {value}" if type(value) is int else value

    def leaf(self, leaf: Compare) -> Filter:
        return Compare(leaf.path, leaf.op, mapped(leaf.value, self.seen)) if leaf.op == "eq" else leaf


@caught("test_strings_equal_only_code_point_by_code_point", "strings compare caselessly")
class CaselessStrings(_Seeing):
    def seen(self, value: Any) -> Any:
        return value.lower() if type(value) is str else value


@caught("test_strings_equal_only_code_point_by_code_point", "strings end at NUL in filters")
class StringsEndAtNul(_Seeing):
    def seen(self, value: Any) -> Any:
        return value.split("\0")[0] if type(value) is str else value


@caught("test_startswith_takes_its_prefix_literally", "startswith is LIKE")
class StartswithIsLike(_Seeing):
    def accepts(self, op: Any, item: MemoryItem) -> bool:
        tree = op.where
        if isinstance(tree, Compare) and tree.op == "startswith":
            pattern = tree.value.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]").replace("%", "*").replace("_", "?")
            value = item.metadata.get(tree.path[-1])
            return isinstance(value, str) and fnmatch.fnmatchcase(value, pattern + "*")
        return super().accepts(op, item)


@caught("test_a_list_equals_only_an_equal_list", "a list equals each of its elements")
class ListsAreSets(_Seeing):
    def leaf(self, leaf: Compare) -> Filter:
        return Or((leaf, Compare(leaf.path, "contains", leaf.value))) if leaf.op == "eq" else leaf


@caught("test_contains_is_membership_of_a_list", "contains finds substrings")
class ContainsSubstrings(_Seeing):
    def accepts(self, op: Any, item: MemoryItem) -> bool:
        tree = op.where
        if isinstance(tree, Compare) and tree.op == "contains" and isinstance(tree.value, str):
            return tree.value in str(item.metadata.get(tree.path[-1], ""))
        return super().accepts(op, item)


@caught("test_a_dotted_name_is_a_path_and_an_escaped_dot_a_dot", "an escaped dot is a path")
class EscapesIgnored(_Seeing):
    def leaf(self, leaf: Compare) -> Filter:
        return Compare(tuple(".".join(leaf.path).split(".")), leaf.op, leaf.value)


@caught("test_every_field_can_be_asked_for", "a superset is passed off as exact")
class SupersetAsExact(Naive):
    def accepts(self, op: Any, item: MemoryItem) -> bool:
        return True


@caught("test_and_or_and_not_nest", "the complement of a superset loses rows")
class ComplementOfASuperset(Naive):
    def accepts(self, op: Any, item: MemoryItem) -> bool:
        return self.loose(op.where, item)

    def loose(self, tree: Any, item: MemoryItem) -> bool:
        if isinstance(tree, Not):
            return not self.loose(tree.part, item)
        if isinstance(tree, And):
            return all(self.loose(part, item) for part in tree.parts)
        return True if isinstance(tree, Or) else evaluate(tree, item)


@caught("test_the_filter_comes_before_the_limit", "filter after limit: pages underfill")
class FilterAfterLimit(Naive):
    async def _scan(self, op: Any) -> Any:
        page = await InMemoryStore._scan(self, replace(op, where=None))
        rows = [(row, item) for row, item in await everything(self, op.now) if any(row is one for one in page.rows)]
        kept = {id(row) for row, item in rows if self.accepts(op, item)}
        return Page([row for row in page.rows if id(row) in kept], exact=True, more=False)


@caught("test_count_agrees_with_list_for_every_filter", "count ignores the filter")
class CountIgnoresFilter(InMemoryStore):
    async def _count(self, op: Any) -> Any:
        return await super()._count(replace(op, where=None))


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
        from memory.codec import decode

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
        known = key in self._terms.counts
        super()._place(key, record)
        if known and record is not None:
            self._terms.stale.discard(key)


@caught("test_neighbours_stay_within_their_session_and_namespace", "neighbours cross sessions")
class NeighboursCrossSessions(InMemoryStore):
    async def _around(self, op: Any) -> Any:
        sides = []
        for (path, id), _, created in op.anchors:
            line = [(row, item) for row, item in await everything(self, op.now) if item.namespace == path and op.scope.covers(item)]
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
