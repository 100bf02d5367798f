"""The program that computes with a sentence-transformers model: run as a file by `SentenceTransformerEmbedder`.

The first message on stdin says which model; each one after that is a list of texts, answered on stdout with a message
and the bytes of an array of float32. A message is JSON, and 8 bytes before it, as before the bytes, say how long it is.
The end of stdin ends the program, so it never outlives who started it.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any


def main() -> None:
    """Answer until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for who started this
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    told = receive(sys.stdin.buffer)
    if told is None:
        return
    sys.path[:] = told["path"]
    model: Any = None
    while (texts := receive(sys.stdin.buffer)) is not None:
        try:
            if model is None:
                model = load(told["model"], told["local"], told["device"], told["dtype"])
        except Exception as error:  # noqa: BLE001 - told to who asked
            send(answers, {"step": "load", "error": type(error).__name__, "said": str(error)[:2_000]})
            continue
        try:
            vectors = encode(model, texts, told["batch_size"])
        except Exception as error:  # noqa: BLE001 - told to who asked
            send(answers, {"step": "encode", "error": type(error).__name__, "said": str(error)[:2_000]})
            continue
        send(answers, {"shape": vectors.shape}, vectors.tobytes())


def load(model: str, local: bool, device: str | None, dtype: str | None) -> Any:
    """The model, on its device. Imports torch."""
    package, torch = import_module("sentence_transformers"), import_module("torch")
    with without_bars():
        loaded = package.SentenceTransformer(model, device=device, local_files_only=local)
    return loaded.to(getattr(torch, dtype)) if dtype is not None else loaded


def encode(model: Any, texts: list[str], batch_size: int) -> Any:
    """Unit vectors of the texts as a float32 array (n, dimension)."""
    vectors = model.encode(
        texts, batch_size=batch_size, show_progress_bar=False, normalize_embeddings=True, convert_to_tensor=True
    )
    return vectors.float().cpu().numpy()  # numpy has no bfloat16


@contextmanager
def without_bars() -> Iterator[None]:
    """Without the bar that transformers draws on stderr over each loading of weights."""
    logging = import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def send(stream: IO[bytes], message: Any, data: bytes | None = None) -> None:
    """Write a message, and the bytes that belong to it."""
    for part in (json.dumps(message).encode(), data):
        if part is not None:
            stream.write(struct.pack("<Q", len(part)))
            stream.write(part)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """The next message; None when there is no other."""
    part = receive_bytes(stream)
    return json.loads(part) if part is not None else None


def receive_bytes(stream: IO[bytes]) -> bytes | None:
    """What follows a length; None when the stream ends before it is whole."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    part = stream.read(length)
    return part if len(part) == length else None


if __name__ == "__main__":
    main()
