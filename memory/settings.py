"""Settings: what a MemoryManager and the command run on, from arguments, MEMORY_ variables, .env and defaults.

The first of these that says something wins. An empty variable says nothing. Importing this module imports pydantic.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from memory.errors import InvalidSetting
from memory.registry import BACKENDS, COMPOSITE_FILE, WORDS, did_you_mean
from memory.search.embedders import embedder_of, options_taken
from memory.telemetry.redaction import hide_secrets, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from memory.search.embedders import Embedder

PREFIX = "MEMORY_"
TESTS_PREFIX = "MEMORY_TEST_"
"""Variables for test suites; never ours."""

Origin = Literal["argument", "environment", ".env file", "default"]


class Told(NamedTuple):
    """One setting as ``memory config`` shows it: secrets are hidden in ``value``."""

    name: str
    variable: str
    value: Any
    origin: Origin
    description: str


class Settings(BaseSettings):
    """All settings. Each is the variable ``MEMORY_`` + its name in capitals, in the environment or a ``.env`` file.

    ``env_file`` is the .env file to read (None: none). Raises InvalidSetting for a value that does not fit, an
    unknown keyword, or an unknown MEMORY_ variable that looks like a known one mistyped.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    backend_type: str = Field(
        "sqlite",
        description=f"The backend: a name ({', '.join(BACKENDS)}), a URL (sqlite:///file.db, redis://host, "
        "postgresql://host/db) or package.module:Class",
    )
    path: Path = Field(Path("memory.db"), description="The file of a backend that lives in one")
    sqlite_synchronous: Literal["off", "normal", "full", "extra"] = Field(
        "full", description="What SQLite waits for: full survives power loss, normal the death of the process"
    )
    faiss_synchronous: Literal["off", "normal", "full", "extra"] = Field(
        "full", description="The same of the backend faiss, which is SQLite too"
    )
    faiss_exact: int = Field(
        20_000, ge=0, description="Up to so many vectors faiss holds in memory and compares one by one"
    )
    faiss_ivf: bool = Field(
        False, description="Train lists of vectors near each other, and look through the lists near a query only"
    )
    faiss_similarity_threshold: float | None = Field(
        None, ge=-1, le=1, description="A search by vector finds nothing less near: a cosine from -1 to 1"
    )
    redis_url: str = Field(
        "redis://localhost:6379",
        description="The address of Redis: redis://user:password@host:port, rediss:// for TLS, redis+cluster:// for a cluster",
    )
    redis_prefix: str = Field("memory", description="What the name of every key in Redis begins with")
    postgres_dsn: str | None = Field(
        None, description="Where the Postgres server is: postgresql://user:password@host:5432/database"
    )
    postgres_schema: str = Field("memory", description="The schema that holds the tables")
    postgres_prefix: str = Field("", description="What the names of tables begin with")
    postgres_pool: int = Field(10, gt=0, description="The greatest number of connections of a store")
    postgres_timeout: float = Field(30.0, gt=0, description="Seconds that an operation may take")
    postgres_pgbouncer: bool = Field(False, description="PgBouncer in transaction mode is in between")
    composite_file: Path = Field(
        Path(COMPOSITE_FILE), description="The TOML file that says of which stores the backend composite is made"
    )
    feed: bool = Field(False, description="Keep a change feed, which watch needs")
    feed_retention: float = Field(7 * 86_400.0, gt=0, description="Seconds that the change feed reaches back")
    language: str = Field("english", description="The language whose word forms text search treats as one")
    dimension: int | None = Field(None, description="The number of components of every vector")
    embedder: str = Field(
        "hashing",
        description="What makes vectors of texts: none, hashing (shared words), sentence-transformers:NAME, the URL of an "
        "OpenAI-compatible endpoint (https://host/v1?model=NAME), or package.module:attribute",
    )
    embedder_key: SecretStr | None = Field(None, description="The key that an embedding endpoint asks for")
    embedder_dimensions: int | None = Field(
        None, gt=0, description="Components of the vectors of hashing or an endpoint"
    )
    embedder_device: str | None = Field(
        None, description="Where a sentence-transformers model runs: cpu, cuda, cuda:0; none: the best there is"
    )
    embedder_dtype: Literal["float32", "float16", "bfloat16"] | None = Field(
        None, description="The numbers that a sentence-transformers model computes with; none: as it was saved"
    )
    embedder_batch_size: int | None = Field(
        None, gt=0, description="Texts that a sentence-transformers model or an endpoint takes at once"
    )
    weights: dict[str, float] = Field(
        {},
        description="How scores are mixed (a JSON object): text and vector of a hybrid search; relevance, recency and "
        "importance of the composite order, and half_life in seconds",
    )
    index: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Metadata fields worth an index, separated by commas: metadata.score,metadata.topic"
    )
    source: dict[str, Any] = Field({}, description="Who writes, stamped on every item (a JSON object)")
    track_access: bool = Field(False, description="Count every read as an access of the item")
    sweep_interval: float | None = Field(
        300.0, gt=0, description="Seconds between sweeps that free the space of expired items; none: only when asked"
    )
    deadline: float | None = Field(None, gt=0, description="Seconds after which any operation is given up")
    slow_seconds: float | None = Field(None, ge=0, description="Log operations that take at least this many seconds")
    log_format: Literal["console", "json"] | None = Field(
        None,
        description="Write the library's events to stderr in this form; none: leave it to the application's logging",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level of the events that log_format writes"
    )

    _origins: dict[str, Origin]

    def __init__(self, *, env_file: str | Path | None = ".env", **given: Any) -> None:
        fields = type(self).model_fields
        for name in given:
            if name not in fields:
                raise InvalidSetting(f"there is no setting {name!r}{did_you_mean(name, fields)}", setting=name)
        given = {name: value for name, value in given.items() if not (name == "path" and value is None)}
        environment = EnvSettingsSource(type(self))
        _refuse_mistyped(os.environ, fields)
        try:
            dotenv = DotEnvSettingsSource(type(self), env_file=env_file)
            _refuse_mistyped(dotenv.env_vars, fields, f" in {env_file}")
            super().__init__(_env_file=env_file, **given)
            origins: dict[str, Origin] = {}
            for found, origin in ((dotenv(), ".env file"), (environment(), "environment"), (given, "argument")):
                origins.update(dict.fromkeys((name for name in found if name in fields), origin))  # type: ignore[arg-type]
        except ValidationError as error:
            raise _invalid(error, given, env_file) from None
        except SettingsError as error:
            raise _not_json(error, env_file) from None
        except UnicodeDecodeError:
            raise InvalidSetting(f"{env_file} is not a text file in UTF-8", setting="env_file") from None
        self._origins = origins

    @field_validator("index", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator(
        *("sweep_interval", "deadline", "slow_seconds", "dimension", "log_format", "embedder_dimensions"),
        *("embedder_key", "embedder_device", "embedder_dtype", "embedder_batch_size", "faiss_similarity_threshold"),
        mode="before",
    )
    @classmethod
    def _none(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.strip().lower() in ("none", "null") else value

    @field_validator(
        "sqlite_synchronous", "faiss_synchronous", "log_format", "log_level", "embedder_dtype", mode="before"
    )
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    def changed(self, **given: Any) -> Settings:
        """These settings with some replaced; the environment is not read again. Raises InvalidSetting."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        new = type(self)(env_file=None, **{**kept, **given})
        new._origins = {**self._origins, **dict.fromkeys(given, "argument")}
        return new

    def store_options(self, backend: str, known: Iterable[str]) -> dict[str, Any]:
        """The settings that are options of a backend and differ from the default.

        ``<backend>_<option>`` is the option of that backend alone: ``sqlite_synchronous``; ``<backend>_dsn`` is its url.
        """
        fields = type(self).model_fields
        options: dict[str, Any] = {}
        for option in known:
            for name in (option, f"{backend}_{option}", f"{backend}_dsn" if option == "url" else ""):
                if name in fields and getattr(self, name) != fields[name].default:
                    options[option] = getattr(self, name)
        return options

    def told(self) -> list[Told]:
        """Every setting: its value, where that came from, and what it means. Passwords and secrets are hidden."""
        return [
            Told(
                name,
                PREFIX + name.upper(),
                shown(name, getattr(self, name)),
                self._origins.get(name, "default"),
                field.description or "",
            )
            for name, field in type(self).model_fields.items()
        ]

    def __repr__(self) -> str:
        said = ", ".join(f"{one.name}={one.value!r}" for one in self.told() if one.origin != "default")
        return f"Settings({said})"

    __str__ = __repr__


def embedder_from(settings: Settings) -> Embedder | None:
    """The embedder that settings name; None when they name none.

    An option that the embedder does not take (``embedder_device`` beside an endpoint) says nothing to it: one ``.env``
    may serve several embedders. Raises InvalidSetting, BackendUnavailable as `embedder_of` does.
    """
    told = {
        "key": settings.embedder_key.get_secret_value() if settings.embedder_key is not None else None,
        "dimensions": settings.embedder_dimensions,
        "device": settings.embedder_device,
        "dtype": settings.embedder_dtype,
        "batch_size": settings.embedder_batch_size,
    }
    taken = options_taken(settings.embedder)
    return embedder_of(
        settings.embedder, **{name: value for name, value in told.items() if value is not None and name in taken}
    )


def shown(name: str, value: Any) -> Any:
    """A setting's value as it may be printed."""
    if isinstance(value, SecretStr) or (is_secret(name) and value is not None):
        return "***"
    if isinstance(value, str | Path):
        return hide_secrets(str(value))
    if isinstance(value, dict):
        return {part: shown(part, inner) for part, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def unknown_variables() -> list[str]:
    """Variables of the environment that begin with MEMORY_ and are not ours, by name."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(
        name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known and not _test(name)
    )


def _test(name: str) -> bool:
    return name.upper().startswith(TESTS_PREFIX)


def _refuse_mistyped(variables: Iterable[str], fields: Iterable[str], where: str = "") -> None:
    """A MEMORY_ variable that is nearly ours is a mistake; one that is quite different belongs to somebody else."""
    known = [field.upper() for field in fields]
    for variable in variables:
        name = variable.upper().removeprefix(PREFIX)
        if not variable.upper().startswith(PREFIX) or name in known or _test(variable):
            continue
        meant = [one for one in known if one.startswith(name + "_")] or get_close_matches(name, known, 1, 0.75)
        backend, _, option = name.partition("_")
        if not meant and option and backend.lower() in BACKENDS:
            meant = [option] if option in known else [one for one in known if one.startswith(backend + "_")]
        if meant:
            raise InvalidSetting(
                f"there is no setting {variable.upper()}{where}; did you mean {PREFIX}{meant[0]}?",
                setting=variable.upper(),
            )


def _variable(name: str, env_file: str | Path | None) -> str:
    """The variable that said a setting, and in which file where that is not the environment. An empty one says nothing."""
    variable = f"{PREFIX}{name.upper()}"
    if env_file is None or any(value and one.upper() == variable for one, value in os.environ.items()):
        return variable
    return f"{variable} in {env_file}"


def _invalid(error: ValidationError, given: Mapping[str, Any], env_file: str | Path | None) -> InvalidSetting:
    """The first complaint in our words; the value itself is shown only where it cannot be a secret."""
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    value = first.get("input")
    said = "" if is_secret(name) or isinstance(value, dict | list) else f", not {hide_secrets(repr(value))}"
    label = name if name in given else _variable(name, env_file)
    kind = first["type"].partition("_")[0]
    reason = first["msg"][:1].lower() + first["msg"][1:]
    if kind in WORDS and first["type"].endswith(("_parsing", "_type")):
        reason = f"must be {WORDS[kind]}"  # as an address is told
    return InvalidSetting(f"{label}: {reason.removeprefix('value error, ')}{said}", setting=name)


def _not_json(error: SettingsError, env_file: str | Path | None) -> InvalidSetting:
    """A value that should be JSON and is not; the value itself is not shown."""
    field = re.search(r'field "(\w+)"', str(error))
    name = field[1] if field else "settings"
    variable = _variable(name, env_file)
    return InvalidSetting(f'{variable}: it must be JSON, such as {{"name": "value"}}', setting=name)
