"""Embedders that the tests of the embedding service watch at work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np


def vector(text: str) -> list[float]:
    return [float(len(text)), float(ord(text[0])) if text else 0.0, 1.0]


class Plain:
    """A plain embedder that records its calls and the thread they came on."""

    name = "plain"
    dimension = None
    semantic = True

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.threads: set[threading.Thread] = set()

    def embed(self, texts: Sequence[str]) -> Any:
        self.calls.append(list(texts))
        self.threads.add(threading.current_thread())
        return [vector(text) for text in texts]


class Gated:
    """An async embedder whose calls wait for the gate."""

    name = "gated"
    dimension = 3
    semantic = True

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> Any:
        self.calls.append(list(texts))
        await self.gate.wait()
        return np.array([vector(text) for text in texts], np.float32)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
