"""From settings, an address and options to a store: which backend it is, and what it is made with."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from memory.errors import InvalidSetting
from memory.layers import Layer, deadline, observe
from memory.registry import accepted, check_options, create_store, did_you_mean, resolve
from memory.search.fusion import Weights
from memory.settings import PREFIX, Settings, embedder_from
from memory.telemetry.slow import SlowOperations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from memory.store import MemoryStore


def store_of(
    backend_type: str | type[MemoryStore] | None,
    settings: Settings | None,
    options: dict[str, Any],
    replaced: Mapping[str, str] | None = None,
) -> tuple[Settings, MemoryStore]:
    """The settings in force and the store they name, from the most particular: options, URL, settings.

    ``replaced``: unknown option -> what to use instead.
    """
    fields = Settings.model_fields
    # An embedder or weights that are no text or JSON are options of the store; the settings only know their names.
    made = {
        name
        for name, plain in (("embedder", str), ("weights", dict))
        if not isinstance(options.get(name, plain()), plain)
    }
    given = {
        name: value
        for name, value in options.items()
        if name in fields and name not in made and not (name == "path" and value is None)
    }
    own = {name: value for name, value in options.items() if name not in fields or name in made}
    if isinstance(backend_type, str):
        given["backend_type"] = backend_type
    if settings is None:
        settings = Settings(**given)
    elif given:
        settings = settings.changed(**given)
    spec = settings.backend_type if backend_type is None or isinstance(backend_type, str) else backend_type
    if isinstance(spec, str) and spec.strip().lower() == "composite":
        spec = f"composite:///{quote(str(settings.composite_file))}"
    cls, told = resolve(spec)
    if "path" in told and "path" in given:
        raise InvalidSetting("the file is named twice, by the URL and by path; leave one out", setting="path")
    known = accepted(cls)
    unknown = [name for name in own if name not in known]
    for name in unknown:
        if replaced and name in replaced:
            raise InvalidSetting(f"{name}: {replaced[name]}", setting=name)
    if unknown:
        raise _unknown_keyword(unknown[0], {*fields, *known})
    layers = [*_layers(settings, cls), *own.pop("layers", ())]
    from_settings = settings.store_options(getattr(cls, "name", ""), known) | _of_search(settings, cls, told, known)
    from_arguments = {name: from_settings[name] for name in from_settings if name in given}
    chosen = check_options(cls, {**from_settings, **told, **from_arguments, **own})
    return settings, create_store(cls, **chosen, **({"layers": layers} if layers else {}))


def _of_search(
    settings: Settings, cls: type[MemoryStore], told: Mapping[str, Any], known: Iterable[str]
) -> dict[str, Any]:
    """The options that say how to search by meaning, made of their settings.

    Who names a dimension and no embedder brings vectors of their own, which the default embedder would not fit. A
    backend may have a default of its own.
    """
    options: dict[str, Any] = {}
    unsaid = "embedder" not in settings._origins
    if "embedder" in known and "embedder" not in told and not (unsaid and cls._default_embedder() is not None):
        options["embedder"] = None if unsaid and settings.dimension is not None else embedder_from(settings)
    if "weights" in known:
        try:
            options["weights"] = Weights(**settings.weights)
        except TypeError:
            unknown = next(name for name in settings.weights if name not in Weights.__struct_fields__)
            raise InvalidSetting(
                f"{PREFIX}WEIGHTS: there is no weight {unknown!r}{did_you_mean(unknown, Weights.__struct_fields__)}",
                setting="weights",
            ) from None
    return options


def _unknown_keyword(name: str, known: set[str]) -> InvalidSetting:
    close = get_close_matches(name, sorted(known), 1, 0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known))}"
    return InvalidSetting(f"neither a setting nor an option of the backend is called {name!r}; {hint}", setting=name)


def _layers(settings: Settings, cls: type[MemoryStore]) -> list[Layer]:
    """What the settings put around every operation, outermost first; nothing when they ask for nothing."""
    layers: list[Layer] = []
    if settings.slow_seconds is not None:
        layers.append(observe(SlowOperations(settings.slow_seconds, cls.name)))
    if settings.deadline is not None:
        layers.append(deadline(settings.deadline))
    return layers
