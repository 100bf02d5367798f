"""The old import paths: a finder that is asked last, so that whatever is really installed wins."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from memory.compat import backends
from memory.compat.names import MODULES, NEW, ROOTS, names_of, split

_PARENTS = frozenset({root.rsplit(".", number)[0] for root in ROOTS for number in range(1, root.count(".") + 1)})
"""Packages above the old ones, made empty where there are none."""
_changing = threading.RLock()
_asked_for: set[str] = set()
"""Modules that are being loaded since an attribute of the package above was asked for, which is told of by itself."""


def install(backend: str | None = None) -> None:
    """From now on `capabilities.memory` and `pepperpy.capabilities.memory` can be imported in this process.

    What is really installed under these names wins, module by module; the packages above them are made, empty, where there
    are none. ``backend`` (a name or URL as for `create_store`): all old storages that are started from now on work on this
    one store, each in a namespace of its own, whatever they are configured for. None: on what they are configured for.
    Again is harmless; `uninstall` undoes it.
    """
    with _changing:
        backends.instead = backend
        if not any(isinstance(finder, OldPaths) for finder in sys.meta_path):
            sys.meta_path.append(OldPaths())


def uninstall() -> None:
    """Take the old import paths away again, and the modules that they led to. Whoever holds such a module keeps it."""
    from memory.compat.deprecation import forget

    with _changing:
        backends.instead = None
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, OldPaths)]
        for name, module in list(sys.modules.items()):
            if isinstance(module, _Package):
                del sys.modules[name]
                parent, _, leaf = name.rpartition(".")
                if vars(sys.modules.get(parent, module)).get(leaf) is module:
                    delattr(sys.modules[parent], leaf)
        forget()
        importlib.invalidate_caches()


class OldPaths(MetaPathFinder):
    """Finds the old modules, and the packages above them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an old module, or of a package above one; None for any other name."""
        old = split(fullname)
        if old is None and fullname not in _PARENTS:
            return None
        package = old is None or not old[1] or any(name.startswith(old[1] + ".") for name in MODULES)
        return _Spec(fullname, OldModule(), origin=NEW, is_package=package)


class _Spec(ModuleSpec):
    """The spec of an old module. An ``import`` of a module that is there already asks its spec whether it is still being
    loaded, and nothing else: so lines that only import it again are told here."""

    _loading: bool = False

    @property
    def _initializing(self) -> bool:
        if not self._loading and split(self.name) is not None and self.name not in _asked_for:
            from memory.compat.deprecation import loaded

            loaded(self.name)
        return self._loading

    @_initializing.setter
    def _initializing(self, loading: bool) -> None:
        self._loading = loading


class OldModule(Loader):
    """Fills an old module: its names are looked up in `memory.compat` when they are used."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that does not keep the modules below it, so that each line which takes one can be told."""
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Make the module what it was. A reload does the same again."""
        from memory.compat.deprecation import loaded

        old = split(module.__name__)
        names = () if old is None else names_of(old[1])
        module.__dict__.update(names_in(module.__name__, names))
        if old is not None:
            module.__doc__ = f"The old `{module.__name__}`: its names are in `{NEW}` now."
            if module.__name__ not in _asked_for:
                loaded(module.__name__)


class _Package(ModuleType):
    """An old module, or a package above one."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, _Package):
            super().__setattr__(name, value)


def names_in(module: str, names: Sequence[str]) -> dict[str, Any]:
    """What a module holds that looks names up, and warns about the lines that use them: ``__getattr__`` and its like."""

    def look_up(name: str) -> Any:
        from memory.compat import deprecation

        below = _below(f"{module}.{name}")
        if below is not None:
            deprecation.taken(below.__name__)
            return below
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(NEW), name)
        deprecation.used(module, name)
        return deprecation.seen(value)

    return {"__getattr__": look_up, "__dir__": lambda: sorted(names), "__all__": list(names)}


def _below(name: str) -> ModuleType | None:
    """A module below an old one, which the old packages had loaded themselves; None where there is none of this name."""
    if name in sys.modules or split(name) is None:
        return sys.modules.get(name)
    _asked_for.add(name)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None  # the paths are not installed any more
    finally:
        _asked_for.discard(name)
