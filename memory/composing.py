"""Composites from a TOML file: the stores by name, and which of them is the whole.

    store = "memory"

    [stores.memory]
    shape = "tiered"
    fast = "cache"
    truth = "records"

    [stores.cache]
    backend = "redis://localhost:6379"
    prefix = "cache"

    [stores.records]
    backend = "postgresql://localhost/memory"

A table with a ``backend`` is one store; its further keys are options of the backend. One with a ``shape`` (tiered, mirrored,
routed) is made of others, which may be composites themselves; its further keys are options of the shape. What makes no sense
is refused with the line to fix, before anything is opened.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from memory.errors import InvalidFilter, InvalidItem, InvalidSetting, UnsupportedOperation
from memory.registry import accepted, check_options, create_store, did_you_mean

if TYPE_CHECKING:
    from memory.store import MemoryStore

MADE_HERE = ("backend", "shape")


def composed(path: str | Path) -> tuple[type[MemoryStore], dict[str, Any]]:
    """The class and the options of the composite that a file describes; its members are made, not opened.

    Raises InvalidSetting (``line`` says where), BackendUnavailable.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        told = tomllib.loads(text)
    except OSError as error:
        raise InvalidSetting(
            f"{file} cannot be read: {error.strerror or error}. It says what a composite is made of (docs/composite.md); "
            "MEMORY_COMPOSITE_FILE names another",
            setting="composite_file",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{file} is not TOML: {error}", setting="composite_file") from None
    return _Composing(file, text, told).whole()


class _Composing:
    def __init__(self, file: Path, text: str, told: dict[str, Any]) -> None:
        self.file, self.lines, self.told = file, text.splitlines(), told
        self.stores: dict[str, Any] = told.get("stores", {})
        self.used: dict[str, str] = {}
        """Which store each one is a member of."""

    def whole(self) -> tuple[type[MemoryStore], dict[str, Any]]:
        """The store that is named as the whole."""
        for key in self.told:
            if key not in ("store", "stores"):
                self.refuse(f"there is nothing called {key!r} here; write store = and [stores.NAME]", "", key)
        name: Any = self.told.get("store")
        if not isinstance(name, str):
            self.refuse("say which store is the whole: store = NAME", "", "store")
        table = self.table(name, "", "store")
        if "shape" not in table:
            self.refuse(
                f"the store {name!r} is not made of others; name its backend as MEMORY_BACKEND_TYPE instead",
                "",
                "store",
            )
        self.used[name] = ""
        made = self.shape(name, table, (name,))
        for other in self.stores:
            if other not in self.used:
                self.refuse(f"nothing uses the store {other!r}; name it somewhere, or leave it out", f"stores.{other}")
        return made

    def member(self, name: Any, owner: str, key: str, above: tuple[str, ...]) -> MemoryStore:
        """The store of this name, made for its owner. Each store has one owner and lies below none of its own members."""
        place = f"stores.{owner}"
        if not isinstance(name, str):
            self.refuse(f"{key} must name one store, not {name!r}", place, key)
        table = self.table(name, place, key)
        if name in above:
            self.refuse(f"a cycle: {' > '.join((*above, name))}", place, key)
        if name in self.used:
            self.refuse(
                f"the store {name!r} is a member of {self.used[name] or 'the whole'!r} already; each needs a store of its own",
                place,
                key,
            )
        self.used[name] = owner
        if "shape" in table:
            cls, options = self.shape(name, table, (*above, name))
            return self.built(lambda: cls(**check_options(cls, options)), name)
        backend = table.get("backend")
        if not isinstance(backend, str) or "shape" in table:
            self.refuse(f"say what the store {name!r} is: a backend, or a shape", f"stores.{name}")
        if backend.partition(":")[0].lower() == "composite":
            self.refuse(
                "a composite in a composite is said by its shape, in the same file", f"stores.{name}", "backend"
            )
        options = {option: value for option, value in table.items() if option != "backend"}
        return self.built(lambda: create_store(backend, **options), name)

    def shape(
        self, name: str, table: dict[str, Any], above: tuple[str, ...]
    ) -> tuple[type[MemoryStore], dict[str, Any]]:
        """The class and the options of a store that is made of others."""
        from memory.backends.composite import MirroredStore, RoutedStore, TieredStore

        shapes: dict[Any, type[MemoryStore]] = {"tiered": TieredStore, "mirrored": MirroredStore, "routed": RoutedStore}
        place, cls = f"stores.{name}", shapes.get(table["shape"])
        if cls is None:
            self.refuse(f"there is no shape {table['shape']!r}; there are: {', '.join(shapes)}", place, "shape")
        if "backend" in table:
            self.refuse(f"the store {name!r} has a shape and a backend; leave one out", place, "backend")
        known = accepted(cls)
        options = {key: value for key, value in table.items() if key != "shape"}
        for key in options:
            if key not in known or key in ("clock", "layers", "embedder"):
                self.refuse(f"{table['shape']} has no {key!r}{did_you_mean(key, known)}", place, key)
        needed = [
            key for key in ("fast", "truth", "primary", "mirrors", "routes") if key in known and key not in options
        ]
        if needed:
            self.refuse(f"{table['shape']} needs {needed[0]}", place, "shape")
        for key in ("fast", "truth", "primary", "journal", "queue"):
            if key in options:
                options[key] = self.member(options[key], name, key, above)
        if "mirrors" in options:
            mirrors = options["mirrors"]
            if not isinstance(mirrors, list):
                self.refuse("mirrors must be a list of stores", place, "mirrors")
            options["mirrors"] = {one: self.member(one, name, "mirrors", above) for one in mirrors}
        if "routes" in options:
            options["routes"] = self.routes(name, options["routes"], above)
        # What the parts say about each other is refused here, not when the whole is made.
        if len(above) == 1:
            self.built(lambda: cls(**check_options(cls, options)), name)
        return cls, options

    def routes(self, name: str, tables: Any, above: tuple[str, ...]) -> dict[str, Any]:
        """The routes of a routed store, by the names of their stores."""
        from memory.backends.composite import Promotion, Route
        from memory.backends.composite.routes import by_capability

        place = f"stores.{name}.routes"
        if isinstance(tables, list) and tables and all(isinstance(table, str) for table in tables):
            stores = {one: self.member(one, name, "routes", above) for one in tables}
            try:
                return by_capability(stores)
            except InvalidSetting as error:
                self.refuse(error.message, f"stores.{name}", "routes")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.refuse(
                f"write each route as a table, [[{place}]], or name the stores whose capabilities say what goes where",
                f"stores.{name}",
                "routes",
            )
        found: dict[str, Any] = {}
        for number, table in enumerate(tables):
            rule = dict(table)
            member = rule.pop("store", None)
            store = self.member(member, f"{name}.routes", "store", above)
            known = ("namespace", "under", "kind", "tag", "larger_than", "holds", "where", "order", "promote")
            for key in rule:
                if key not in known:
                    self.refuse(f"a route has no {key!r}{did_you_mean(key, known)}", place, key, number)
            if isinstance(rule.get("promote"), dict):
                try:
                    rule["promote"] = Promotion(**rule["promote"])
                except TypeError:
                    self.refuse("promote takes importance, accesses and age", place, "promote", number)
            for key in ("namespace", "under"):
                if isinstance(rule.get(key), list):
                    rule[key] = tuple(rule[key])
            try:
                found[member] = Route(store, **rule)
            except (InvalidSetting, InvalidItem, InvalidFilter) as error:
                key = getattr(error, "setting", None) or getattr(error, "field", None) or "where"
                self.refuse(error.message, place, key, number)
        return found

    # --- refusing ------------------------------------------------------------------------------

    def table(self, name: str, place: str, key: str) -> dict[str, Any]:
        """The table of a store."""
        table = self.stores.get(name)
        if not isinstance(table, dict):
            self.refuse(f"there is no store {name!r}{did_you_mean(name, self.stores)}", place, key)
        return dict(table)

    def built(self, make: Any, name: str) -> MemoryStore:
        """What ``make`` makes; what it refuses is told with the line."""
        try:
            made: MemoryStore = make()
        except (InvalidSetting, InvalidItem, UnsupportedOperation) as error:
            told = str(getattr(error, "setting", None) or getattr(error, "field", None) or "").split(".")
            self.refuse(error.message, f"stores.{name}", told[-1], member=told[1] if len(told) > 2 else told[0])
        return made

    def refuse(self, why: str, place: str, key: str = "", number: int = 0, member: str = "") -> NoReturn:
        """InvalidSetting with the line of a key in a table, or of the table, or of whatever names a member."""
        line = self._line(place, key, number) or self._naming(place, member) or self._line(place, "", 0) or 1
        raise InvalidSetting(f"{self.file}, line {line}: {why}", setting=key or place, line=line)

    def _line(self, place: str, key: str, number: int) -> int:
        """The line of a key in the table of this name (the ``number``-th of a list); of its header without a key; or 0."""
        seen, inside = -1, not place
        for at, line in enumerate(self.lines, 1):
            header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line)
            if header:
                seen += header[2] == place
                inside = header[2] == place and (header[1] == "[" or seen == number)
                if inside and not key:
                    return at
            elif inside and key and re.match(rf"\s*\"?{re.escape(key)}\"?\s*[=.]", line):
                return at
        return 0

    def _naming(self, place: str, member: str) -> int:
        """The line, in a table or those below it, on which a member is named; or 0."""
        inside = False
        for at, line in enumerate(self.lines, 1):
            header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
            if header:
                inside = header[1] == place or header[1].startswith(f"{place}.")
            elif inside and member and f'"{member}"' in line:
                return at
        return 0
