"""What can be said of a sentence-transformers model without loading one: its identity, and what is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memory.errors import InvalidSetting
from memory.search.embedders import EmbeddingService, embedder_of
from memory.search.embedders.sentence_transformers import SentenceTransformerEmbedder


def model(folder: Path, weights: bytes = b"w" * 3_000_000, config: str = '{"hidden_size": 8}') -> Path:
    """A folder that looks like a saved model."""
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text(config)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "README.md").write_text("words")
    return folder


def name(folder: Path | str) -> str:
    return SentenceTransformerEmbedder(folder).name


def test_the_identity_of_a_folder_stays_when_it_is_moved_and_shows_its_name(tmp_path: Path) -> None:
    here = model(tmp_path / "a" / "model")
    told = name(here)
    assert told.startswith("sentence-transformers:model-")
    shutil.copytree(here, tmp_path / "b" / "model")
    (tmp_path / "b" / "model" / "README.md").write_text("other words")
    assert name(tmp_path / "b" / "model") == told
    (tmp_path / "link").symlink_to(here)
    assert name(tmp_path / "link") == told


def test_other_weights_or_another_configuration_in_a_folder_of_the_same_name_are_another_model(tmp_path: Path) -> None:
    changed = {
        "first byte": b"x" + b"w" * 2_999_999,
        "last byte": b"w" * 2_999_999 + b"x",
        "size": b"w" * 3_000_001,
        "same": b"w" * 3_000_000,
    }
    names = {what: name(model(tmp_path / what / "model", weights)) for what, weights in changed.items()}
    assert len(set(names.values())) == 4
    other = model(tmp_path / "config" / "model", config='{"hidden_size": 9}')
    pooling = model(tmp_path / "pooling" / "model")
    (pooling / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert len({name(other), name(pooling), *names.values()}) == 6
    old = model(tmp_path / "old" / "model")
    (old / "model.safetensors").rename(old / "pytorch_model.bin")
    assert name(old) not in names.values()


def test_a_folder_without_a_model_and_a_path_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"no config\.json"):
        _ = name(tmp_path)
    for path in (str(tmp_path / "absent"), "./absent", "a/b/c", "~/absent/model", "-x"):
        with pytest.raises(InvalidSetting, match="there is no folder"):
            _ = name(path)
    for nothing in ("", "  ", "a\0b"):
        with pytest.raises(InvalidSetting, match="name of one on the hub"):
            SentenceTransformerEmbedder(nothing)


async def test_reading_the_files_for_a_name_is_done_in_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package itself is not needed for the name; where it is not installed, something of its name will do.
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sentence_transformers.py").write_text("")
    service = EmbeddingService(embedder_of(f"sentence-transformers:{model(tmp_path / 'model')}"))  # type: ignore[arg-type]
    await service.prepare()  # on the loop the suite's guard would raise
    assert service.name.startswith("sentence-transformers:model-")
    await service.close()


@pytest.mark.parametrize(
    ("spec", "package", "command"),
    [
        ("sentence-transformers:m", "sentence_transformers", "pip install 'agent-memory-backends[semantic]'"),
        ("https://host/v1?model=m", "httpx", "pip install 'agent-memory-backends[http]'"),
    ],
)
def test_a_missing_package_is_told_with_the_command_before_the_first_text(
    spec: str, package: str, command: str
) -> None:
    code = f"""
import asyncio, sys
from importlib.machinery import PathFinder
from memory.errors import BackendUnavailable
from memory.search.embedders import EmbeddingService, embedder_of

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == {package!r} else super().find_spec(name, path, target)

sys.meta_path[:] = [Hiding if one is PathFinder else one for one in sys.meta_path]

async def main():
    service = EmbeddingService(embedder_of({spec!r}))
    for call in (service.prepare(), service.embed(["a"])):
        try:
            await call
        except BackendUnavailable as error:
            print(error.command, error)
    await service.close()

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(command) and line.count(command) == 2 for line in lines)
    assert ("CPU build of torch" in lines[0]) == (package != "httpx")
