"""A local model through the package sentence-transformers (extra ``semantic``), in a process of its own.

In a process, because in a thread it holds the event loop whatever one does: importing torch and loading a model keep the
GIL for hundreds of milliseconds at a time, and a thread of native code that is still busy when the interpreter ends
aborts it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from memory.errors import BackendUnavailable, EmbeddingFailed, InvalidSetting
from memory.search.embedders.model_process import receive, receive_bytes, send

if TYPE_CHECKING:
    import numpy as np

Dtype = Literal["float32", "float16", "bfloat16"]

_PIP = "pip install 'agent-memory-backends[semantic]'"
_HINT = "on Linux without a GPU install a CPU build of torch before it, or it brings gigabytes of CUDA"
_ORGANIZATION = "sentence-transformers/"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_MIB = 1 << 20


class SentenceTransformerEmbedder:
    """Unit vectors of a model of the Hugging Face hub, by name, or of a folder that holds one.

    The hub is asked as the package itself does it: HF_HUB_OFFLINE, HF_HOME and their like are respected; for a folder
    it is not asked. ``device`` is torch's (``cpu``, ``cuda:0``; None: the best there is), ``dtype`` that of the weights
    (None: as they were saved; vectors are float32 anyway), ``batch_size`` the texts that the model takes at once.

    Its ``name`` is that of the hub, the same with and without ``sentence-transformers/`` before it. That of a folder
    is the folder's last name and a hash over its config.json files and the size, the first and the last MiB of its
    weights: it stays when the folder is moved, and differs for another model in a folder of the same name.

    Raises InvalidSetting: no name of a model, an unknown dtype, a batch below 1.
    """

    semantic = True

    def __init__(
        self, model: str | Path, *, device: str | None = None, dtype: Dtype | None = None, batch_size: int = 32
    ) -> None:
        self.model = str(model).strip()
        if not self.model or "\0" in self.model:
            raise _invalid("a model is the name of one on the hub, such as all-MiniLM-L6-v2, or a folder")
        if device is not None and not re.fullmatch(r"[a-z]+(:\d+)?", str(device)):
            raise _invalid(f"device must be one of torch, such as cpu, cuda or cuda:0, not {device!r}")
        if dtype is not None and dtype not in get_args(Dtype):
            raise _invalid(f"dtype must be one of {', '.join(get_args(Dtype))}, not {dtype!r}")
        if type(batch_size) is not int or batch_size < 1:
            raise _invalid(f"batch_size must be a whole number above 0, not {batch_size!r}")
        self.dimension: int | None = None
        self._device, self._dtype, self._batch_size = device, dtype, batch_size
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._retired = False

    def __repr__(self) -> str:
        return f"SentenceTransformerEmbedder({self.model!r})"

    @cached_property
    def name(self) -> str:
        """Identity, see the class. Reads some MiB of a folder's files the first time."""
        folder = self._folder
        known = self.model.removeprefix(_ORGANIZATION) if folder is None else f"{folder.name}-{_digest(folder)}"
        return f"sentence-transformers:{known}"

    def prepare(self) -> None:
        """Find out the name. Raises BackendUnavailable (with the command that installs the package), InvalidSetting."""
        if find_spec("sentence_transformers") is None:
            raise BackendUnavailable(
                f"the embedder {self.model!r} needs 'sentence-transformers', which is not installed: {_PIP} ({_HINT})",
                command=_PIP,
            )
        _ = self.name

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of the texts, shape (n, dimension), float32. The first call starts the process: seconds.

        Raises BackendUnavailable when the model cannot be loaded, EmbeddingFailed when it cannot do it, or its process
        ends; the next call starts another.
        """
        with self._turn:
            if self._process is not None and self._process.poll() is not None:
                self._end()  # it ended while nobody asked
            process = self._process or self._start()
            answer, data = self._ask(process, list(texts))
            if self._retired or answer is None:
                self._end()
        if answer is None:
            raise EmbeddingFailed(
                f"the process of the model {self.model!r} ended (exit code {process.returncode}) while it computed; "
                "is there enough memory?",
                embedder=self.name,
            )
        if answer.get("step") == "load":
            raise BackendUnavailable(
                f"the model {self.model!r} cannot be loaded ({answer['error']}: {answer['said'].strip()[:200]}); "
                "is the name right, the hub reachable or the model in its cache, the device there?"
            )
        if answer.get("step") == "encode":
            raise EmbeddingFailed(f"the model {self.model!r} failed: {answer['error']}", embedder=self.name)

        import numpy as np

        return np.frombuffer(data or b"", np.float32).reshape(answer["shape"])

    async def release(self) -> None:
        """End the process, once it has answered what others may still wait for; the next use starts another."""
        if self._process is None:
            return
        if self._turn.acquire(blocking=False):
            try:
                await asyncio.to_thread(self._end)
            finally:
                self._turn.release()
        else:
            self._retired = True

    @cached_property
    def _folder(self) -> Path | None:
        """The model's folder; None for one of the hub. A folder that is there wins, as in the package."""
        path = Path(self.model).expanduser()
        if path.is_dir():
            return path.resolve()
        if not _HUB_NAME.fullmatch(self.model):
            raise _invalid(f"there is no folder {self.model!r} with a model, and the hub has no such names")
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name("model_process.py")
        process = subprocess.Popen([sys.executable, "-P", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        weakref.finalize(self, _kill, process, os.getpid())
        self._process, self._retired = process, False
        folder = self._folder
        told = {
            "path": sys.path,
            "model": str(folder) if folder is not None else self.model,
            "local": folder is not None,
            "device": self._device,
            "dtype": self._dtype,
            "batch_size": self._batch_size,
        }
        with suppress(BrokenPipeError):  # told when the answer is missing
            send(process.stdin, told)  # type: ignore[arg-type]  # both are pipes
        return process

    @staticmethod
    def _ask(process: subprocess.Popen[bytes], texts: list[str]) -> tuple[dict[str, Any] | None, bytes | None]:
        """The process's answer and its bytes; None when it has ended."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            send(process.stdin, texts)
            answer = receive(process.stdout)
            data = receive_bytes(process.stdout) if answer is not None and "shape" in answer else None
        except BrokenPipeError:
            return None, None
        return answer, data

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _kill(process, os.getpid())


def _kill(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork of the process that started it
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what was not yet sent
            pipe.close()  # type: ignore[union-attr]


def _digest(folder: Path) -> str:
    """Ten hex digits over what makes the model of a folder: its modules' config.json and its weights."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    configs = [path for path in files if path.name == "config.json"]
    if not configs:
        raise _invalid(f"the folder {str(folder)!r} holds no model: there is no config.json in it")
    weights = [path for path in files if path.suffix == ".safetensors"] or [
        path for path in files if path.suffix == ".bin"
    ]
    told = hashlib.blake2b(digest_size=5)
    for path in configs:
        told.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        told.update(path.read_bytes())
    for path in weights:
        size = path.stat().st_size
        told.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            told.update(file.read(_MIB))
            file.seek(max(0, size - _MIB))
            told.update(file.read(_MIB))
    return told.hexdigest()


def _invalid(message: str) -> InvalidSetting:
    return InvalidSetting(message, setting="embedder")
