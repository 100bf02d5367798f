"""Old imports in source code turned into new ones: formatting, comments and aliases stay, and nothing else is touched.

What cannot be decided by the text alone is left as it is and told.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, NamedTuple

import libcst as cst
from libcst.helpers import get_full_name_for_node
from libcst.metadata import MetadataWrapper, PositionProvider

from memory.compat.names import ADVICE, NEW, ROOTS, names_of, split

BY_NAME = ("import_module", "find_spec", "importorskip")
"""Functions whose first argument is the name of a module."""
_COMPAT = "memory_compat"
"""What `memory.compat` is called in a file where ``memory`` is something else."""
_MIXED = "it imports old names and others, with comments between them; take them apart, then rewrite again"


class Note(NamedTuple):
    """Something about one line."""

    line: int
    text: str


class Rewritten(NamedTuple):
    """A file's new source; what a person must decide; and what keeps its old form, with what new code writes."""

    source: bytes
    open: list[Note]
    later: list[Note]


def rewrite(source: bytes) -> Rewritten:
    """Turn old imports into new ones. Raises SyntaxError for what is no Python."""
    if b"memory" not in source:
        return Rewritten(source, [], [])
    try:
        wrapper = MetadataWrapper(cst.parse_module(source), unsafe_skip_copy=True)
    except cst.ParserSyntaxError as error:
        raise SyntaxError(f"line {error.raw_line}: {error.message}") from None
    rewriter = _Rewriter(_binds_memory(source), _roots(source))
    module = wrapper.visit(rewriter)
    return Rewritten(module.bytes, sorted(rewriter.open), sorted(set(rewriter.later)))


class _Rewriter(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, taken: bool, bound: set[str]) -> None:
        self.open: list[Note] = []
        self.later: list[Note] = []
        self._taken = taken
        """``memory`` is something else in this file."""
        self._bound = bound
        self._marked: dict[cst.CSTNode, cst.BaseExpression] = {}
        self._known: set[cst.CSTNode] = set()

    def _line(self, node: cst.CSTNode) -> int:
        place: Any = self.get_metadata(PositionProvider, node)
        return int(place.start.line)

    def _ask(self, node: cst.CSTNode, text: str) -> None:
        self.open.append(Note(self._line(node), text))

    # --- import a.b.c ---------------------------------------------------------------------------

    def visit_Import(self, node: cst.Import) -> bool:  # noqa: N802
        return False  # its dotted names are no uses of a module

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import) -> cst.Import:  # noqa: N802
        names: list[cst.ImportAlias] = []
        changed = False
        for alias in updated_node.names:
            old = get_full_name_for_node(alias.name) or ""
            if split(old) is None:
                self._ask_unknown(original_node, old)
                names.append(alias)
                continue
            new = _dotted(NEW)
            if alias.asname is None and self._taken:
                alias = alias.with_changes(asname=cst.AsName(cst.Name(_COMPAT)))
            changed = True
            alias = alias.with_changes(name=new)
            if all(_same(alias, one) is False for one in names):
                names.append(alias)
        if not changed:
            return updated_node
        names[-1] = names[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        return updated_node.with_changes(names=names)

    def visit_Attribute(self, node: cst.Attribute) -> bool:  # noqa: N802
        whole = get_full_name_for_node(node) or ""
        head, _, name = whole.rpartition(".")
        inside = split(head)
        if split(whole) is None and (inside is None or name not in names_of(inside[1])):
            return True
        if whole.partition(".")[0] not in self._bound:
            self._ask(node, f"{whole} is used, and imported by another file: write {NEW} here, and import it")
            return False
        new = _COMPAT if self._taken else NEW
        self._marked[node] = _expression(new if split(whole) is not None else f"{new}.{name}")
        self._advise(node, name)
        return False

    def leave_Attribute(  # noqa: N802
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        new = self._marked.get(original_node)
        if new is None:
            return updated_node
        return new.with_changes(lpar=updated_node.lpar, rpar=updated_node.rpar)

    # --- from a.b import c ----------------------------------------------------------------------

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:  # noqa: N802
        return False  # its dotted name is no use of a module

    def leave_SimpleStatementLine(  # noqa: N802
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.FlattenSentinel[cst.SimpleStatementLine]:
        body = list(updated_node.body)
        for place, (statement, before) in enumerate(zip(body, original_node.body, strict=True)):
            if not isinstance(statement, cst.ImportFrom) or not isinstance(before, cst.ImportFrom):
                continue
            parts = self._parts(before, statement)
            if len(parts) > 1 and len(body) > 1:
                self._ask(before, "it imports old names and others, on a line with other statements; take them apart")
            elif len(parts) > 1:
                first, *more = [updated_node.with_changes(body=[part]) for part in parts]
                plain = [
                    line.with_changes(leading_lines=(), trailing_whitespace=cst.TrailingWhitespace()) for line in more
                ]
                return cst.FlattenSentinel([first, *plain])
            else:
                body[place] = parts[0]
        return updated_node.with_changes(body=body)

    def _parts(self, before: cst.ImportFrom, statement: cst.ImportFrom) -> list[cst.ImportFrom]:
        """The statements that take the place of one; the one itself where nothing is old in it."""
        base = "" if statement.module is None else get_full_name_for_node(statement.module) or ""
        if statement.relative:
            if any(split(f"{above}{base}") is not None for above in ("", "capabilities.")):
                self._ask(before, f"a relative import; if it means the old package, write: from {NEW} import ...")
            return [statement]
        old = split(base)
        if isinstance(statement.names, cst.ImportStar):
            if old is None:
                self._ask_unknown(before, base)
                return [statement]
            return [statement.with_changes(module=_dotted(NEW))]
        kept: list[cst.ImportAlias] = []
        moved: list[cst.ImportAlias] = []
        modules: list[cst.ImportAlias] = []
        for alias in statement.names:
            name = get_full_name_for_node(alias.name) or ""
            if split(f"{base}.{name}") is not None:
                asname = alias.asname or cst.AsName(cst.Name(name))
                modules.append(alias.with_changes(name=cst.Name("compat"), asname=asname))
            elif old is not None and name in names_of(old[1]):
                moved.append(alias)
                self._advise(before, name)
            else:
                kept.append(alias)
                self._ask_unknown(before, f"{base}.{name}")
        if not moved and not modules:
            return [statement]
        groups = [(statement.module, kept), (_dotted(NEW), moved), (cst.Name("memory"), modules)]
        groups = [(module, names) for module, names in groups if names]
        if len(groups) == 1:
            module, names = groups[0]
            return [statement.with_changes(module=module, names=names)]
        if "#" in cst.Module([]).code_for_node(statement):
            self._ask(before, _MIXED)
            return [statement]
        return [
            statement.with_changes(module=module, names=_apart(names), lpar=None, rpar=None) for module, names in groups
        ]

    # --- names of modules in strings --------------------------------------------------------------

    def visit_Call(self, node: cst.Call) -> None:  # noqa: N802
        name = (get_full_name_for_node(node.func) or "").rpartition(".")[2]
        first = node.args[0].value if node.args else None
        if name in BY_NAME and isinstance(first, cst.SimpleString) and split(str(first.evaluated_value)) is not None:
            self._known.add(first)

    def leave_SimpleString(  # noqa: N802
        self, original_node: cst.SimpleString, updated_node: cst.SimpleString
    ) -> cst.SimpleString:
        if original_node in self._known:
            quoted = f"{updated_node.prefix}{updated_node.quote}{NEW}{updated_node.quote}"
            return updated_node.with_changes(value=quoted)
        value = updated_node.evaluated_value
        if isinstance(value, str) and value.startswith(ROOTS) and not any(one.isspace() for one in value):
            self._ask(original_node, f"a string names {value}; what it is for decides whether it means {NEW} now")
        return updated_node

    def _ask_unknown(self, node: cst.CSTNode, old: str) -> None:
        """Tell of a name below an old package that is none of the old names."""
        if old.startswith(tuple(f"{root}." for root in ROOTS)):
            self._ask(node, f"{old} is none of the old names, and is left as it is")

    def _advise(self, node: cst.CSTNode, name: str) -> None:
        if name in ADVICE:
            self.later.append(Note(self._line(node), f"{name}: new code writes {ADVICE[name]}"))


def _dotted(name: str) -> cst.Attribute | cst.Name:
    made = _expression(name)
    assert isinstance(made, cst.Attribute | cst.Name)
    return made


def _expression(name: str) -> cst.BaseExpression:
    return cst.parse_expression(name)


def _same(one: cst.ImportAlias, other: cst.ImportAlias) -> bool:
    """Whether two parts of an import bind the same."""
    bare = cst.MaybeSentinel.DEFAULT
    return one.with_changes(comma=bare).deep_equals(other.with_changes(comma=bare))


def _apart(names: Sequence[cst.ImportAlias]) -> list[cst.ImportAlias]:
    """Names of an import on one line."""
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    return [
        alias.with_changes(comma=comma if place < len(names) - 1 else cst.MaybeSentinel.DEFAULT)
        for place, alias in enumerate(names)
    ]


def _roots(source: bytes) -> set[str]:
    """The first names that plain imports of old modules bind: ``capabilities``, ``pepperpy``."""
    return {
        alias.name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.asname is None and split(alias.name) is not None
    }


def _binds_memory(source: bytes) -> bool:
    """Whether a file calls something of its own ``memory``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case (
                ast.Name(id="memory", ctx=ast.Store())
                | ast.arg(arg="memory")
                | ast.FunctionDef(name="memory")
                | ast.AsyncFunctionDef(name="memory")
                | ast.ClassDef(name="memory")
                | ast.ExceptHandler(name="memory")
                | ast.alias(asname="memory")
            ):
                return True
            case ast.ImportFrom(names=names) if any(one.name == "memory" and one.asname is None for one in names):
                return True
    return False
