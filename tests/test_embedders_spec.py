"""From what a person writes to an embedder, and what is said of a mistake."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memory import InvalidSetting, Settings
from memory.errors import BackendUnavailable
from memory.search.embedders import CallableEmbedder, EmbeddingService, HashingEmbedder, embedder_of, options_taken
from memory.settings import embedder_from

KEY = "sk-hunter2-not-to-be-seen"


def lengths(texts: Sequence[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


async def lengths_later(texts: Sequence[str]) -> list[list[float]]:
    return lengths(texts)


class Counting:
    """An embedder that is named by its module; also callable as a class without arguments."""

    name = "counting"
    dimension = 2
    semantic = False

    def embed(self, texts: Sequence[str]) -> Any:
        return lengths(texts)

    async def later(self, texts: Sequence[str]) -> Any:
        return lengths(texts)


class Asks:
    async def __call__(self, texts: Sequence[str]) -> Any:
        return lengths(texts)


instance = Counting()
number = 5


@pytest.mark.parametrize("spec", [None, "none", " None "])
def test_none_is_no_embedder(spec: str | None) -> None:
    assert embedder_of(spec) is None


@pytest.mark.parametrize(
    ("spec", "options", "name", "dimension", "semantic"),
    [
        ("hashing", {}, "hashing:256", 256, False),
        (" Hashing:512 ", {}, "hashing:512", 512, False),
        ("hashing", {"dimensions": 64}, "hashing:64", 64, False),
        ("sentence-transformers:all-MiniLM-L6-v2", {}, "sentence-transformers:all-MiniLM-L6-v2", None, True),
        (
            "sentence_transformers:sentence-transformers/all-MiniLM-L6-v2",
            {"device": "cpu", "dtype": "bfloat16", "batch_size": 8},
            "sentence-transformers:all-MiniLM-L6-v2",
            None,
            True,
        ),
        ("sentence-transformers:intfloat/e5-small", {}, "sentence-transformers:intfloat/e5-small", None, True),
        ("https://host/v1?model=m", {}, "openai:m", None, True),
        ("http://host:8080/v1/?model=org%2Fm&dimensions=64", {"key": KEY}, "openai:org/m:64", 64, True),
        ("https://[::1]/v1", {"model": "m", "dimensions": 5, "timeout": 3}, "openai:m:5", 5, True),
        (f"{__name__}:lengths", {}, f"{__name__}:lengths", None, True),
        (f"{__name__}:lengths", {"name": "mine", "semantic": False, "dimensions": 2}, "mine", 2, False),
        (f"{__name__}:Counting", {}, "counting", 2, False),
        (f"{__name__}:instance", {}, "counting", 2, False),
        (lengths, {}, f"{__name__}:lengths", None, True),
        (lengths_later, {"dimensions": 2}, f"{__name__}:lengths_later", 2, True),
        (lambda texts: [[1.0]] * len(texts), {"name": "lambda"}, "lambda", None, True),
        (Asks(), {"name": "asks"}, "asks", None, True),
    ],
)
def test_a_specification_becomes_its_embedder(
    spec: Any, options: dict[str, Any], name: str, dimension: int | None, semantic: bool
) -> None:
    embedder = embedder_of(spec, **options)
    assert embedder is not None
    assert (embedder.name, embedder.dimension, embedder.semantic) == (name, dimension, semantic)
    assert name in repr(embedder) or type(embedder).__name__ in repr(embedder)
    assert KEY not in repr(embedder)


@pytest.mark.parametrize(
    "spec",
    [lengths, lengths_later, Asks(), functools.partial(lengths_later), Counting().later, f"{__name__}:lengths_later"],
)
async def test_functions_of_every_make_embed(spec: Any) -> None:
    embedder = embedder_of(spec, name="x")
    assert embedder is not None
    service = EmbeddingService(embedder)
    assert (await service.embed(["abc"]))[0].tolist() == [3.0, 1.0]
    await service.close()


def test_an_embedder_is_taken_as_it_is_and_its_name_is_not_asked() -> None:
    class Reading(Counting):
        @property
        def name(self) -> str:  # type: ignore[override]
            raise AssertionError("a name may be found out by reading files")

    embedder = Reading()
    assert embedder_of(embedder) is embedder


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "there is no embedder ''"),
        ("hashin", "did you mean 'hashing'?"),
        ("hashin:512", "did you mean 'hashing:512'?"),
        ("sentence-transformer:x", "did you mean 'sentence-transformers:x'?"),
        ("openai", "known: none, hashing"),
        ("hashing:", "the number of dimensions, not ''"),
        ("hashing:many", "the number of dimensions, not 'many'"),
        ("hashing:-5", "the number of dimensions"),
        ("hashing:5", "8 to 16,384"),
        ("hashing:99999999999999999999", "8 to 16,384"),
        ("sentence-transformers", "needs a model"),
        ("sentence-transformers:", "needs a model"),
        ("ftp://host?model=m", "http or https"),
        ("https://?model=m", "http or https"),
        ("https://host:port/v1?model=m", "cannot be understood"),
        ("https://host/v1", "must name a model"),
        ("https://host/v1?model=", "must name a model"),
        ("https://host/v1?model=m&model=n", "twice"),
        ("https://host/v1?model=m&dimensions=many", "dimensions must be a whole number"),
        ("https://host/v1?model=m&dimensions=0", "dimensions must be a whole number"),
        (f"https://host/v1?model=m&api_key={KEY}", "not 'api_key'.*embedder_key"),
        (f"https://me:{KEY}@host/v1?model=m", "user or password"),
        ("https://host/v1?model=m#part", "percent-encode"),
        ("https://host/v 1?model=m", "percent-encode"),
        ("no.such.module:attribute", "no module 'no"),
        (f"{__name__}:nothing", "has no 'nothing'"),
        (f"{__name__}:number", "neither an Embedder nor a function"),
        (5, "not int"),
        (Counting, "give an instance"),
        (object(), "not object"),
        (lambda texts: texts, "give it one: name="),
        (functools.partial(lengths), "give it one: name="),
        (Counting().later, "give it one: name="),
        (type("Half", (), {"embed": lengths, "name": "x"})(), "lacks dimension, semantic"),
        (type("Odd", (), {"embed": 5, "name": "x", "dimension": 1, "semantic": True})(), "lacks an embed"),
    ],
)
def test_what_is_no_embedder_is_refused_with_advice(spec: Any, words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught:
        embedder_of(spec)
    assert caught.value.setting == "embedder"
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        ("none", {"dimensions": 5}, "nothing to take 'dimensions'"),
        ("hashing", {"dimension": 5}, "did you mean 'dimensions'?"),
        ("hashing", {"device": "cpu"}, "takes no option 'device'"),
        ("hashing:64", {"dimensions": 64}, "given twice"),
        ("sentence-transformers:m", {"dtype": "int8"}, "dtype must be one of"),
        ("sentence-transformers:m", {"device": "the gpu"}, "device must be one of torch"),
        ("sentence-transformers:m", {"batch_size": 0}, "batch_size must be"),
        ("sentence-transformers:m", {"key": KEY}, "takes no option 'key'"),
        ("https://host/v1?model=m", {"model": "n"}, "given twice"),
        ("https://host/v1?model=m&dimensions=3", {"dimensions": 3}, "given twice"),
        ("https://host/v1?model=m", {"key": f"{KEY}\n{KEY}"}, "visible ASCII"),
        ("https://host/v1?model=m", {"key": ""}, "visible ASCII"),
        ("https://host/v1?model=m", {"key": 5}, "visible ASCII"),
        ("https://host/v1?model=m", {"timeout": 0}, "timeout must be"),
        ("https://host/v1?model=m", {"deadline": "soon"}, "deadline must be"),
        ("https://host/v1?model=m", {"retries": -1}, "retries must be"),
        ("https://host/v1?model=m", {"batch_size": 2_049}, "batch_size must be"),
        (lengths, {"name": ""}, "1 to 256 characters"),
        (lengths, {"name": "a\0b"}, "1 to 256 characters"),
        (lengths, {"semantic": "yes"}, "True or False"),
        (lengths, {"dimensions": 0}, "1 or more"),
        (instance, {"name": "x"}, "taken as it is"),
        (f"{__name__}:Counting", {"name": "x"}, "taken as it is"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(spec: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught:
        embedder_of(spec, **options)
    assert KEY not in str(caught.value)


def test_a_function_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="must be callable"):
        CallableEmbedder(5, name="x")  # type: ignore[arg-type]


def test_a_module_that_lacks_a_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wants_more.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "wants_other.py").write_text("from json import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendUnavailable, match="pip install nowhere_to_be_found"):
        embedder_of("wants_more:embed")
    with pytest.raises(BackendUnavailable, match="cannot be loaded"):
        embedder_of("wants_other:embed")


def test_making_an_embedder_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from memory.search.embedders import EmbeddingService, embedder_of\n"
        "for spec in ('hashing', 'sentence-transformers:m', 'https://host/v1?model=m'):\n"
        "    EmbeddingService(embedder_of(spec)).name\n"
        "print([name for name in ('numpy', 'torch', 'httpx', 'sentence_transformers', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


# --- settings --------------------------------------------------------------------------------------


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A directory without .env, an environment without our variables."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("MEMORY_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_settings_make_the_embedder_that_they_name(clean: pytest.MonkeyPatch) -> None:
    default = embedder_from(Settings())
    assert isinstance(default, HashingEmbedder)
    assert default.name == "hashing:256"
    assert embedder_from(Settings(embedder="none")) is None
    clean.setenv("MEMORY_EMBEDDER", "https://host/v1?model=m")
    clean.setenv("MEMORY_EMBEDDER_KEY", KEY)
    clean.setenv("MEMORY_EMBEDDER_DIMENSIONS", "64")
    clean.setenv("MEMORY_EMBEDDER_DTYPE", "none")
    settings = Settings()
    embedder = embedder_from(settings)
    assert embedder is not None
    assert embedder.name == "openai:m:64"
    assert embedder._key == KEY  # type: ignore[attr-defined]
    assert KEY not in repr(settings) + str(settings) + repr(settings.told()) + repr(embedder)


def test_an_option_for_another_embedder_says_nothing_to_this_one(clean: pytest.MonkeyPatch) -> None:
    settings = Settings(
        embedder="sentence-transformers:m",
        embedder_device="cuda:0",
        embedder_dtype="BFLOAT16",
        embedder_batch_size=8,
        embedder_key=KEY,
        embedder_dimensions=64,
    )
    embedder = embedder_from(settings)
    assert (embedder._device, embedder._dtype, embedder._batch_size) == ("cuda:0", "bfloat16", 8)  # type: ignore[union-attr]
    assert embedder_from(settings.changed(embedder="none")) is None
    small = embedder_from(settings.changed(embedder="hashing"))
    assert small is not None
    assert small.name == "hashing:64"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MEMORY_EMBEDDER_DTYPE", "int8", "'float32', 'float16' or 'bfloat16'"),
        ("MEMORY_EMBEDDER_DIMENSIONS", "0", "greater than 0"),
        ("MEMORY_EMBEDDER_BATCH_SIZE", "many", "MEMORY_EMBEDDER_BATCH_SIZE"),
        ("MEMORY_EMBEDER", "none", "did you mean MEMORY_EMBEDDER?"),
        ("MEMORY_EMBEDDER_KEYS", KEY, "did you mean MEMORY_EMBEDDER_KEY?"),
    ],
)
def test_a_setting_of_an_embedder_that_does_not_fit_is_refused(
    clean: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    clean.setenv(name, value)
    with pytest.raises(InvalidSetting) as caught:
        Settings()
    assert words in str(caught.value)
    assert KEY not in str(caught.value)


def test_every_option_that_is_taken_can_be_found_by_name() -> None:
    assert "key" in options_taken("https://host?model=m")
    assert set(options_taken(" hashing:5 ")) == {"dimensions"}
    assert options_taken("nothing of the kind") == ()
