"""For an old tree that keeps its files: this line is the whole of ``capabilities/memory/__init__.py``::

    from memory.compat.in_place import *

The old modules below it then need no files; one that is to be seen by type checkers consists of the same line. At run time
each use warns, as after `memory.compat.install`, which this calls; type checkers see the names with their types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory.compat import *  # noqa: F403 - all of them, for type checkers
else:
    from memory.compat import backends
    from memory.compat.installing import install, names_in
    from memory.compat.names import NAMES

    install(backends.instead)
    _held = names_in("capabilities.memory", NAMES)
    __getattr__, __dir__ = _held["__getattr__"], _held["__dir__"]
    __all__ = ["__dir__", "__getattr__"]
