"""The process that computes with a model: a real process, with a small package in the place of gigabytes of torch."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memory.errors import BackendUnavailable, EmbeddingFailed
from memory.search.embedders import EmbeddingService
from memory.search.embedders.sentence_transformers import SentenceTransformerEmbedder

PACKAGE = {
    "torch.py": "float16 = 'half'\n",
    "transformers/__init__.py": "",
    "transformers/utils/__init__.py": "",
    "transformers/utils/logging.py": (
        "shown = True\n"
        "def is_progress_bar_enabled(): return shown\n"
        "def disable_progress_bar(): global shown; shown = False\n"
        "def enable_progress_bar(): global shown; shown = True\n"
    ),
    "sentence_transformers/__init__.py": """
import os, time
import numpy
from transformers.utils import logging

class Tensor:
    def __init__(self, rows): self.rows = rows
    def float(self): return self
    def cpu(self): return self
    def numpy(self): return numpy.array(self.rows, numpy.float32)

class SentenceTransformer:
    def __init__(self, model, device, local_files_only):
        print("loading", "with a bar" if logging.shown else "quietly")
        if model == "absent/model":
            raise OSError("no such model")
        self.kind = float(len(device or "")), float(local_files_only)
    def to(self, dtype):
        self.kind += (float(len(dtype)),)
        return self
    def encode(self, texts, batch_size, show_progress_bar, normalize_embeddings, convert_to_tensor):
        print("encoding")
        assert normalize_embeddings and convert_to_tensor and not show_progress_bar
        if "die" in texts: os._exit(7)
        if "fail" in texts: raise ValueError("what Maya said")
        if "slow" in texts: time.sleep(0.5)
        return Tensor([[len(text), batch_size, os.getpid() % 1000, *self.kind] for text in texts])
""",
}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands before everything on the path; only the model's process imports it."""
    for name, code in PACKAGE.items():
        file = tmp_path / "packages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "packages")


def embedder_of_hub(**options: object) -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder("org/model", **options)  # type: ignore[arg-type]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(embedder: SentenceTransformerEmbedder) -> int:
    assert embedder._process is not None
    return embedder._process.pid


async def test_texts_go_to_the_process_with_the_options_and_vectors_come_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    embedder = embedder_of_hub(device="cpu", dtype="float16", batch_size=5)
    service = EmbeddingService(embedder)
    first, second = await service.embed(["a", "é" * 1_000 + "\ud800"])
    pid = pid_of(embedder)
    assert first.tolist() == [1.0, 5.0, pid % 1000, 3.0, 0.0, 4.0]
    assert second[0] == 1_001.0
    await service.close()
    assert not running(pid)
    said = capfd.readouterr()
    assert said.out == ""  # what the package prints is no answer, and no output of the application
    assert said.err.startswith("loading quietly\nencoding\n")


async def test_a_model_that_cannot_be_loaded_or_fails_is_told_and_the_next_text_is_tried(tmp_path: Path) -> None:
    absent = EmbeddingService(SentenceTransformerEmbedder("absent/model"))
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match=r"cannot be loaded \(OSError: no such model\)"):
            await absent.embed(["a"])
    await absent.close()
    service = EmbeddingService(embedder_of_hub())
    with pytest.raises(EmbeddingFailed, match="failed: ValueError") as caught:
        await service.embed(["fail"])
    assert "Maya" not in str(caught.value)
    assert len(await service.embed(["a"])) == 1
    await service.close()


async def test_a_process_that_dies_is_told_to_who_waited_and_replaced() -> None:
    embedder = embedder_of_hub()
    service = EmbeddingService(embedder)
    with pytest.raises(EmbeddingFailed, match="exit code 7"):
        await service.embed(["die"])
    assert len(await service.embed(["a"])) == 1
    process = embedder._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    assert len(await service.embed(["b"])) == 1  # it died while nobody asked: nobody is told
    assert embedder._process is not process
    await service.close()


async def test_a_store_that_closes_does_not_take_the_process_from_another_that_waits() -> None:
    embedder = embedder_of_hub()
    one, other = EmbeddingService(embedder), EmbeddingService(embedder)
    await one.embed(["a"])
    pid = pid_of(embedder)
    waiting = asyncio.ensure_future(other.embed(["slow"]))
    while not embedder._turn.locked():
        await asyncio.sleep(0.01)
    await one.close()
    assert len(await waiting) == 1
    assert not running(pid)  # released, once it had answered
    assert len(await other.embed(["b"])) == 1
    await other.close()


def test_a_forgotten_embedder_takes_its_process_along() -> None:
    embedder = embedder_of_hub()
    assert embedder.embed(["a"]).shape == (1, 5)
    pid = pid_of(embedder)
    del embedder
    assert not running(pid)


def test_threads_take_turns() -> None:
    embedder = embedder_of_hub()
    found: dict[int, float] = {}

    def ask(i: int) -> None:
        for _ in range(20):
            found[i] = float(embedder.embed(["x" * i])[0, 0])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {i: float(i) for i in range(1, 6)}
    asyncio.run(embedder.release())
    assert embedder._process is None
    asyncio.run(embedder.release())


@pytest.mark.parametrize("how", ["returns", "is killed"])
def test_the_process_ends_with_the_one_that_started_it(how: str) -> None:
    code = f"""
import os, signal, sys
sys.path[:] = {sys.path!r}
from memory.search.embedders.sentence_transformers import SentenceTransformerEmbedder

embedder = SentenceTransformerEmbedder("org/model")
embedder.embed(["a"])
print(embedder._process.pid, flush=True)
if {how!r} == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    for _ in range(500):
        if not running(pid):
            break
        threading.Event().wait(0.02)
    assert not running(pid)
    assert "Warning" not in done.stderr
