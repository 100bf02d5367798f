"""From what a person writes to an embedder."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from inspect import getattr_static
from typing import Any, NamedTuple

from memory.errors import BackendUnavailable, InvalidSetting
from memory.search.embedders.base import Embedder

KNOWN = "none, hashing, hashing:512, sentence-transformers:NAME, https://host/v1?model=NAME or package.module:attribute"


class _Kind(NamedTuple):
    """Embedders that are made by a name: where the class lives, and its options."""

    target: str
    options: tuple[str, ...]


_HASHING = _Kind("memory.search.embedders.hashing:HashingEmbedder", ("dimensions",))
_MODEL = _Kind(
    "memory.search.embedders.sentence_transformers:SentenceTransformerEmbedder", ("device", "dtype", "batch_size")
)
_HTTP = _Kind(
    "memory.search.embedders.http:HttpEmbedder",
    ("model", "dimensions", "key", "batch_size", "timeout", "deadline", "retries"),
)
_FUNCTION = _Kind("memory.search.embedders.callables:CallableEmbedder", ("name", "semantic", "dimensions"))
_ABSENT = object()
_NAMES = ("none", "hashing", "sentence-transformers")
_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def embedder_of(spec: Embedder | Callable[..., Any] | str | None, **options: Any) -> Embedder | None:
    """The embedder that a specification stands for; None for None and ``none``.

    A specification is ``hashing`` or ``hashing:512`` (dimensions); ``sentence-transformers:`` and the name or folder of
    a model; the address of an OpenAI-compatible endpoint, ``https://host/v1?model=name``, optionally ``&dimensions=512``;
    ``package.module:attribute``, which is imported; a function (see `CallableEmbedder`); or an Embedder, taken as it is.

    Options, each for its kind: ``dimensions`` (hashing, endpoint, function), ``device``, ``dtype``, ``batch_size``
    (sentence-transformers; endpoint: ``batch_size``), ``key``, ``model``, ``timeout``, ``deadline``, ``retries``
    (endpoint), ``name``, ``semantic`` (function).

    Raises InvalidSetting: nothing of the kind, or an option that it does not take. No model is loaded, no server asked.
    """
    if spec is None or isinstance(spec, str):
        return _named("none" if spec is None else spec.strip(), options)
    if isinstance(spec, type):
        raise InvalidSetting(
            f"the embedder is the class {spec.__qualname__}; give an instance of it", setting="embedder"
        )
    if hasattr(spec, "embed"):
        return _as_it_is(spec, options)
    if callable(spec):
        return _made(_FUNCTION, (spec,), options)
    raise InvalidSetting(
        f"an embedder is a name, an address, a function or an Embedder, not {type(spec).__name__}", setting="embedder"
    )


def options_taken(spec: str) -> Collection[str]:
    """The options that an embedder of this specification takes; () where there is no such embedder."""
    kind = _kind(spec.strip())
    return kind.options if kind is not None else ()


def _kind(spec: str) -> _Kind | None:
    name = _name(spec)
    if "://" in spec:
        return _HTTP
    if name in ("hashing", "sentence-transformers"):
        return _HASHING if name == "hashing" else _MODEL
    return _FUNCTION if _ATTRIBUTE.fullmatch(spec) else None


def _name(spec: str) -> str:
    return spec.partition(":")[0].strip().lower().replace("_", "-")


def _named(spec: str, options: Mapping[str, Any]) -> Embedder | None:
    name, argument = _name(spec), spec.partition(":")[2].strip()
    if name == "none" and ":" not in spec:
        if options:
            raise InvalidSetting(
                f"without an embedder there is nothing to take {next(iter(options))!r}", setting="embedder"
            )
        return None
    kind = _kind(spec)
    if kind is None:
        close = get_close_matches(name, _NAMES, 1, 0.6)
        hint = f"; did you mean {(close[0] + (f':{argument}' if argument else ''))!r}?" if close else ""
        raise InvalidSetting(f"there is no embedder {spec!r}{hint}; known: {KNOWN}", setting="embedder")
    if kind is _HTTP:
        return _made(kind, (spec,), options)
    if kind is _HASHING:
        return _made(kind, (), _with_dimensions(spec, argument, options))
    if kind is _FUNCTION:
        return _imported(spec, options)
    if not argument:
        raise InvalidSetting(
            "sentence-transformers needs a model: sentence-transformers:all-MiniLM-L6-v2, or a folder",
            setting="embedder",
        )
    return _made(kind, (argument,), options)


def _with_dimensions(spec: str, argument: str, options: Mapping[str, Any]) -> dict[str, Any]:
    if ":" not in spec:
        return dict(options)
    if not argument.isascii() or not argument.isdigit():
        raise InvalidSetting(f"after hashing: comes the number of dimensions, not {argument!r}", setting="embedder")
    if options.get("dimensions") is not None:
        raise InvalidSetting("the dimensions are given twice, in the name and as an option", setting="embedder")
    return {**options, "dimensions": int(argument[:9])}


def _imported(spec: str, options: Mapping[str, Any]) -> Embedder:
    module, _, attribute = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or "?"
        if module == missing or module.startswith(missing + "."):
            raise InvalidSetting(
                f"there is no module {missing!r} to load the embedder {spec!r} from; is it installed?",
                setting="embedder",
            ) from None
        how = f"pip install {missing.partition('.')[0]}"
        raise BackendUnavailable(
            f"the embedder {spec!r} needs {missing!r}, which is not installed: {how}", command=how
        ) from None
    except ImportError as error:
        raise BackendUnavailable(f"the embedder {spec!r} cannot be loaded: {error}") from error
    except AttributeError:
        raise InvalidSetting(f"{module} has no {attribute!r}", setting="embedder") from None
    if isinstance(found, type):
        found = found()
    if hasattr(found, "embed"):
        return _as_it_is(found, options)
    if not callable(found):
        raise InvalidSetting(f"{spec} is neither an Embedder nor a function", setting="embedder")
    return _made(_FUNCTION, (found,), {"name": spec, **options})


def _made(kind: _Kind, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Embedder:
    _, _, label = kind.target.rpartition(":")
    for name in options:
        if name not in kind.options:
            close = get_close_matches(name, kind.options, 1, 0.6)
            hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(kind.options)}"
            raise InvalidSetting(f"{label} takes no option {name!r}; {hint}", setting="embedder")
    module, _, cls = kind.target.partition(":")
    given = {name: value for name, value in options.items() if value is not None}
    if kind in (_HASHING, _FUNCTION) and "dimensions" in given:
        given["dimension"] = given.pop("dimensions")
    made: Embedder = getattr(importlib.import_module(module), cls)(*arguments, **given)
    return made


def _as_it_is(found: Any, options: Mapping[str, Any]) -> Embedder:
    kind = type(found).__qualname__
    if options:
        raise InvalidSetting(
            f"{kind} is an Embedder and taken as it is, without the option {next(iter(options))!r}", setting="embedder"
        )
    # Looked up without being called: a name may be found out by reading files, which is the service's to do.
    missing = [one for one in ("name", "dimension", "semantic") if getattr_static(found, one, _ABSENT) is _ABSENT]
    if missing or not callable(found.embed):
        raise InvalidSetting(
            f"{kind} is no Embedder: it lacks {', '.join(missing) or 'an embed that is a function'}", setting="embedder"
        )
    embedder: Embedder = found
    return embedder
