"""Which backends there are, and how a name, a URL or a class becomes a store.

A backend is said in one of four ways, wherever one can be said (``MEMORY_BACKEND_TYPE``, ``MemoryManager``,
``create_store``, ``memory --backend``):

- a name: one in BACKENDS (``sqlite`` is the default), or one that an installed package offers in the entry-point group
  ``memory.backends``;
- a URL with one of the schemes in BACKENDS, such as ``sqlite:///relative.db``, ``sqlite:////absolute/path.db``,
  ``memory://``, ``redis://host:6379``, ``postgresql://user@host/database`` or ``composite:///memory.toml`` (see
  memory.composing). Its query gives options of the store: ``sqlite:///agent.db?synchronous=normal&feed=true``. Special
  characters are percent-encoded;
- ``package.module:Class``, a subclass of MemoryStore;
- in Python, the class itself.

``sqlite://:memory:`` is refused: several connections share a store's file, and ``in_memory`` is what is meant.
Nothing of a backend is imported before it is chosen.
"""

from __future__ import annotations

import importlib
import inspect
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from memory.errors import BackendUnavailable, InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from memory.store import MemoryStore

ENTRY_POINTS = "memory.backends"
DEFAULT_PATH = "memory.db"
COMPOSITE_FILE = "memory.toml"
"""What says of which stores a composite is made, where nothing else is named."""


class Backend(NamedTuple):
    """Where a backend lives, the extra that installs its driver (None: the core does), and its URL schemes."""

    target: str
    extra: str | None
    schemes: tuple[str, ...]


BACKENDS: dict[str, Backend] = {
    "sqlite": Backend("memory.backends.sqlite:SqliteStore", None, ("sqlite",)),
    "in_memory": Backend("memory.backends.in_memory:InMemoryStore", None, ("memory",)),
    "faiss": Backend("memory.backends.faiss:FaissStore", "faiss", ("faiss",)),
    "redis": Backend(
        "memory.backends.redis:RedisStore", "redis", ("redis", "rediss", "redis+cluster", "rediss+cluster")
    ),
    "postgres": Backend(
        "memory.backends.postgres:PostgresStore", "postgres", ("postgresql", "postgresql+asyncpg", "postgres")
    ),
    "firestore_v1": Backend("memory.backends.firestore.v1:FirestoreV1Store", "firestore", ("firestore+v1",)),
    "firestore_v2": Backend("memory.backends.firestore.v2:FirestoreV2Store", "firestore", ("firestore",)),
    "composite": Backend("memory.backends.composite:CompositeStore", None, ("composite",)),
}
"""The built-in backends: one line each. Settings, help and documentation take their lists from here."""

LATER: dict[str, str] = {
    "file": "this kind of store",
}
"""Names and schemes that earlier managers know and that come later -> what they stand for."""

ALIASES = {"vector": "faiss"}
"""Names that earlier managers know."""

WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}
"""What a value of each kind has to be."""

_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_BOOLS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def create_store(spec: str | type[MemoryStore] = "sqlite", **options: Any) -> MemoryStore:
    """A store, not yet open, of the backend that a name, a URL, ``module:Class`` or a class says.

    ``options`` are the backend's own; they win over those in a URL's query. Raises InvalidSetting (unknown backend or
    option, with the nearest known one; malformed URL), BackendUnavailable (its driver is not installed).
    """
    cls, told = resolve(spec)
    if "path" in told and "path" in options:
        raise InvalidSetting("the file is named twice, by the URL and by path; leave one out", setting="path")
    given = check_options(cls, {**told, **options})
    if "path" in accepted(cls):
        given["path"] = _file(given.get("path", DEFAULT_PATH))
    return cls(**given)


def resolve(spec: str | type[MemoryStore]) -> tuple[type[MemoryStore], dict[str, Any]]:
    """The class that a backend's name, URL or ``module:Class`` stands for, and the options that a URL gives."""
    if isinstance(spec, type):
        return _store_class(spec, spec.__qualname__), {}
    spec = str(spec).strip()
    if not spec:
        raise InvalidSetting(
            f"the backend must be a name, a URL or module:Class; known: {', '.join(names())}",
            setting="backend_type",
        )
    if "://" in spec:
        return _from_url(spec)
    if _CLASS.fullmatch(spec):
        return _load(spec, spec, None), {}
    return _composed(COMPOSITE_FILE) if spec.lower() == "composite" else (named(spec), {})


def _composed(path: str) -> tuple[type[MemoryStore], dict[str, Any]]:
    from memory.composing import composed

    return composed(path)


def names() -> list[str]:
    """The backends that can be named: the built-in ones, then those of entry points."""
    return [*BACKENDS, *sorted(name for name in _offered() if name not in BACKENDS)]


def named(name: str) -> type[MemoryStore]:
    """The class of the backend of this name. Raises InvalidSetting, BackendUnavailable."""
    known = name.lower().replace("-", "_")
    known = ALIASES.get(known, known)
    if known in BACKENDS:
        return _load(BACKENDS[known].target, known, BACKENDS[known].extra)
    offered = _offered()
    if name in offered:
        return _load(offered[name], name, None)
    if re.search(r"[/\\:]|\.\w+$", name):
        advice = "; a file is named by path= (MEMORY_PATH) or as an address: sqlite:///file.db"
    elif known in LATER:
        advice = _later(known)
    else:
        advice = f"{did_you_mean(known, (*BACKENDS, *offered))}; known: {', '.join(names())}"
    raise InvalidSetting(f"there is no backend {name!r}{advice}", setting="backend_type")


def _offered() -> dict[str, str]:
    """Backends that installed packages offer: name -> module:Class."""
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS)}


def _load(target: str, name: str, extra: str | None) -> type[MemoryStore]:
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or "?"
        if module == missing or module.startswith(missing + "."):
            raise InvalidSetting(
                f"there is no module {missing!r} to load the backend {name!r} from; is it installed?",
                setting="backend_type",
            ) from None
        if target.startswith("memory."):
            from memory.store.drivers import not_installed

            message, how = not_installed(name, missing, extra)
        else:
            how = f"pip install {missing.partition('.')[0]}"
            message = f"the backend {name!r} needs {missing!r}, which is not installed: {how}"
        raise BackendUnavailable(message, backend=name, command=how) from None
    except ImportError as error:
        raise BackendUnavailable(f"the backend {name!r} cannot be loaded: {error}", backend=name) from error
    except AttributeError:
        raise InvalidSetting(f"{module} has no {attribute!r}", setting="backend_type") from None
    return _store_class(found, target)


def _store_class(found: Any, said: str) -> type[MemoryStore]:
    from memory.store import MemoryStore

    if not (isinstance(found, type) and issubclass(found, MemoryStore)):
        raise InvalidSetting(f"{said} is not a subclass of memory.MemoryStore", setting="backend_type")
    if inspect.isabstract(found):
        raise InvalidSetting(f"{said} lacks the hooks of a backend: name one of its subclasses", setting="backend_type")
    return found


# --- URLs --------------------------------------------------------------------------------------


def _from_url(url: str) -> tuple[type[MemoryStore], dict[str, Any]]:
    scheme, _, rest = url.partition("://")
    schemes = {scheme: name for name, backend in BACKENDS.items() for scheme in (*backend.schemes, name)}
    if scheme.lower() in schemes:
        cls = named(schemes[scheme.lower()])
    elif scheme in _offered():
        cls = named(scheme)
    else:
        name = scheme.lower()
        listed = ", ".join(f"{one}://" for one in schemes)
        advice = _later(name) if name in LATER else f"{did_you_mean(name, schemes)}; known: {listed}"
        raise InvalidSetting(f"no backend has URLs that begin with {scheme}://{advice}", setting="backend_type")
    place, _, query = rest.partition("?")
    made: dict[str, Any] = {}
    if scheme.lower() == "composite":
        cls, made = _composed(_path_of(url, scheme, place))
    known = accepted(cls)
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        raise _malformed(url, "its query must be name=value&name=value") from None
    if "url" in known:
        # A server's address: what the store does not know is for the driver and stays in the address.
        own = {name for name, _ in pairs if name in known}
        passed_on = _passed_on(cls)
        for name, _ in pairs:
            if passed_on is not None and name not in known and all(name not in one for one in passed_on.values()):
                raise _unknown_option(cls, name, {*known, *passed_on.get(scheme.lower(), ())})
        kept = "&".join(part for part in query.split("&") if part.partition("=")[0] not in own)
        pairs = [(name, value) for name, value in pairs if name in own]
        options: dict[str, Any] = {"url": f"{scheme}://{place}" + (f"?{kept}" if kept else "")}
    elif made:
        options = made
    elif "path" in known:
        options = {"path": _path_of(url, scheme, place)}
    else:
        if place.strip("/"):
            raise _malformed(url, f"{scheme}:// has no address; write {scheme}://")
        options = {}
    for name, value in pairs:
        if name in options:
            raise _malformed(url, f"{name} is given twice")
        if name not in known:
            raise _unknown_option(cls, name, known)
        options[name] = _parsed(cls, name, value, _kind(known[name]))
    return cls, options


def _passed_on(cls: type[MemoryStore]) -> Mapping[str, Sequence[str]] | None:
    """Scheme -> what the query of a server's address may say beside the store's own options; None: that is not known."""
    found: Mapping[str, Sequence[str]] | None = getattr(cls, "address_options", None)
    return found


def _path_of(url: str, scheme: str, place: str) -> str:
    host, slash, path = place.partition("/")
    if unquote(host) == ":memory:" or unquote(path) == ":memory:":
        raise InvalidSetting(
            "a store needs a file that several connections can share; for a memory that is gone when the process "
            "ends, choose the backend in_memory",
            setting="backend_type",
        )
    if host or not slash or not path:
        raise _malformed(
            url,
            f"a file's address has three slashes: {scheme}:///{host or 'relative.db'}, "
            f"or four for an absolute path: {scheme}:////data/memory.db",
        )
    if "#" in path:
        raise _malformed(url, "write a # in a file name as %23")
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise _malformed(url, "its percent-encoding is not UTF-8") from None


def _malformed(url: str, why: str) -> InvalidSetting:
    from memory.telemetry.redaction import hide_secrets

    return InvalidSetting(f"the address {hide_secrets(url)!r} cannot be understood: {why}", setting="backend_type")


def _file(path: Any) -> Path:
    if not isinstance(path, str | Path) or not str(path).strip() or "\0" in str(path):
        raise InvalidSetting(f"path must name a file, not {path!r}", setting="path")
    if str(path) == ":memory:":
        raise InvalidSetting("a store needs a file; without one, choose the backend in_memory", setting="path")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InvalidSetting(f"there is no home directory for {str(path)!r}", setting="path") from None


# --- options -----------------------------------------------------------------------------------


def accepted(cls: type[MemoryStore]) -> Mapping[str, inspect.Parameter]:
    """The options of a backend by name, those it passes on to its base classes included."""
    found: dict[str, inspect.Parameter] = {}
    for owner in cls.__mro__:
        init = owner.__dict__.get("__init__")
        if init is None:
            continue
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def check_options(cls: type[MemoryStore], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, if the backend has them all and plain values are of the right type. Raises InvalidSetting."""
    known = accepted(cls)
    for name, value in options.items():
        if name not in known:
            raise _unknown_option(cls, name, known)
        _check(cls, name, value, _kind(known[name]))
    return dict(options)


def _unknown_option(cls: type[MemoryStore], name: str, known: Iterable[str]) -> InvalidSetting:
    known = list(known)
    return InvalidSetting(
        f"the backend {_label(cls)} has no option {name!r}{did_you_mean(name, known)}; it has: {', '.join(sorted(known))}",
        setting=name,
    )


def _label(cls: type[MemoryStore]) -> str:
    return repr(getattr(cls, "name", cls.__qualname__))


def _kind(parameter: inspect.Parameter) -> str:
    """The type of an option as it is written, without None: bool, int, float, str, tuple, or something else."""
    annotation = parameter.annotation
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    parts = [part.strip() for part in written.split("|")]
    kinds = [part for part in parts if part != "None"]
    if kinds and all(part == "str" or part.startswith("Literal[") or "Path" in part for part in kinds):
        return "str"
    if len(kinds) == 1 and re.match(r"(collections\.abc\.)?(Sequence|tuple|Iterable)\[str\b", kinds[0]):
        return "tuple"
    return kinds[0] if len(kinds) == 1 and kinds[0] in ("bool", "int", "float") else "other"


def _parsed(cls: type[MemoryStore], name: str, text: str, kind: str) -> Any:
    """An option said in a URL's query."""
    try:
        if kind == "bool":
            return _BOOLS[text.lower()]
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except (KeyError, ValueError):
        raise _wrong_type(cls, name, text, kind) from None
    if kind == "tuple":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == "str":
        return text
    raise InvalidSetting(
        f"the option {name!r} of {_label(cls)} cannot be said in a URL; give it in Python", setting=name
    )


def _check(cls: type[MemoryStore], name: str, value: Any, kind: str) -> None:
    right = {
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "str": isinstance(value, str | Path),
    }.get(kind, True)
    if not right and value is not None:
        raise _wrong_type(cls, name, value, kind)


def _wrong_type(cls: type[MemoryStore], name: str, value: Any, kind: str) -> InvalidSetting:
    from memory.telemetry.redaction import hide_secrets, is_secret

    said = "this" if is_secret(name) else hide_secrets(repr(value))
    return InvalidSetting(f"the option {name!r} of {_label(cls)} must be {WORDS[kind]}, not {said}", setting=name)


def _later(known: str) -> str:
    return (
        f" in this version: {LATER[known]} comes later. Choose sqlite (one file, the default) or in_memory; what is stored "
        "moves with export and import"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a refusal: the known name that this one is nearly, if there is one."""
    close = get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
