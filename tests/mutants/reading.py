"""Broken backends: names, scopes, filters."""

from __future__ import annotations

import fnmatch
import unicodedata
from typing import Any

from memory.backends.in_memory import InMemoryStore
from memory.filters import And, Compare, Filter, Not, Or, evaluate
from memory.model import MemoryItem
from memory.ops import WHOLE, Matched, Page
from mutants.catalogue import Naive, Ops, caught, everything, mapped, replace

# --- names ---------------------------------------------------------------------------------------


@caught("test_under_means_it_and_everything_below_at_segment_boundaries", "prefix leak: under is a string prefix")
class PrefixLeak(Naive):
    def inside(self, op: Any, item: MemoryItem) -> bool:
        path = item.namespace
        owned = op.scope.covers_owner(item.user_id, item.agent_id, item.session_id)
        return owned and (
            "/".join(path).startswith("/".join(op.scope.path)) if op.scope.below else path == op.scope.path
        )


@caught("test_no_namespace_is_mistaken_for_another", "LIKE: % and _ in a namespace are wildcards")
class LikeNamespaces(Naive):
    def inside(self, op: Any, item: MemoryItem) -> bool:
        scope, path = op.scope, item.namespace
        pattern = [
            "*" if part == "%" else part.replace("[", "[[]").replace("%", "*").replace("_", "?") for part in scope.path
        ]
        head = path[: len(pattern)]
        same = len(head) == len(pattern) and all(map(fnmatch.fnmatchcase, head, pattern))
        return same and (scope.below or len(path) == len(pattern))


@caught("test_no_namespace_is_mistaken_for_another", "namespaces ignore case")
class CaselessNamespaces(Naive):
    def inside(self, op: Any, item: MemoryItem) -> bool:
        return super().inside(op, replace(item, namespace=tuple(map(str.lower, item.namespace)))) or super().inside(
            op, item
        )


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
        return Matched(
            (await super()._match(replace(op, scope=WHOLE, where=None))).df, (await super()._match(op)).candidates
        )


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
            pattern = (
                tree.value.replace("[", "[[]")
                .replace("*", "[*]")
                .replace("?", "[?]")
                .replace("%", "*")
                .replace("_", "?")
            )
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
