"""A local model through the package sentence-transformers (extra ``semantic``), imported at first use."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from memory.errors import BackendUnavailable, InvalidSetting

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
        self._loaded: Any = None

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
        """Unit vectors of the texts, shape (n, dimension), float32. The first call loads the model: seconds.

        Raises BackendUnavailable when the model cannot be loaded.
        """
        model = self._load()
        vectors = model.encode(
            list(texts),
            batch_size=self._batch_size,
            show_progress_bar=False,
            normalize_embeddings=True,
            convert_to_tensor=True,
        )
        array: np.ndarray = vectors.float().cpu().numpy()  # numpy has no bfloat16
        return array

    @cached_property
    def _folder(self) -> Path | None:
        """The model's folder; None for one of the hub. A folder that is there wins, as in the package."""
        path = Path(self.model).expanduser()
        if path.is_dir():
            return path.resolve()
        if not _HUB_NAME.fullmatch(self.model):
            raise _invalid(f"there is no folder {self.model!r} with a model, and the hub has no such names")
        return None

    def _load(self) -> Any:
        if self._loaded is None:
            folder = self._folder
            try:
                # By name: type checkers need not have gigabytes installed.
                package, torch = import_module("sentence_transformers"), import_module("torch")
                with _without_bars():
                    loaded = package.SentenceTransformer(
                        str(folder) if folder is not None else self.model,
                        device=self._device,
                        local_files_only=folder is not None,
                    )
                if self._dtype is not None:
                    loaded = loaded.to(getattr(torch, self._dtype))
            except Exception as error:
                raise BackendUnavailable(
                    f"the model {self.model!r} cannot be loaded ({type(error).__name__}: {_first_line(error)}); "
                    "is the name right, the hub reachable or the model in its cache, the device there?"
                ) from error
            self._loaded = loaded
        return self._loaded


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the bar that transformers draws on stderr over each loading of weights."""
    logging = import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


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


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _invalid(message: str) -> InvalidSetting:
    return InvalidSetting(message, setting="embedder")
