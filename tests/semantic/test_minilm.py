"""A real sentence-transformers model behind the embedder and its service."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory.errors import BackendUnavailable
from memory.search.embedders import EmbeddingService, HashingEmbedder, embedder_of
from memory.search.embedders.sentence_transformers import SentenceTransformerEmbedder
from memory.testing.heartbeat import Heartbeat, assert_calm

pytestmark = pytest.mark.semantic


def service_of(spec: str, **options: Any) -> EmbeddingService:
    embedder = embedder_of(spec, device="cpu", **options)
    assert embedder is not None
    return EmbeddingService(embedder)


@pytest.fixture(scope="module")
def shared(minilm: str) -> Iterator[SentenceTransformerEmbedder]:
    """One process with the model for most of the tests."""
    embedder = SentenceTransformerEmbedder(minilm.partition(":")[2], device="cpu")
    yield embedder
    asyncio.run(embedder.release())


@pytest.fixture
def service(shared: SentenceTransformerEmbedder) -> EmbeddingService:
    return EmbeddingService(shared)  # not closed, which would end the process; its thread goes with it


async def test_vectors_are_of_unit_length_and_near_where_the_meaning_is(service: EmbeddingService) -> None:
    question, answer, other = await service.embed(
        ["Which food must she avoid?", "Maya is allergic to peanuts", "The ferry to Lisbon leaves at nine"]
    )
    assert (service.name.split("-")[:2], service.semantic, service.dimension) == (
        ["sentence", "transformers:model"],
        True,
        384,
    )
    assert np.linalg.norm(answer) == pytest.approx(1.0, abs=1e-5)
    assert float(question @ answer) > 0.2 > float(question @ other)
    lexical = HashingEmbedder().embed(["Which food must she avoid?", "Maya is allergic to peanuts"])
    assert abs(float(lexical[0] @ lexical[1])) < 0.1  # no word in common


async def test_a_text_gets_the_same_vector_alone_and_in_company(service: EmbeddingService) -> None:
    texts = ["short", "a sentence of middling length about boats", "word " * 600, ""]
    together = await service.embed(texts)
    alone = EmbeddingService(service.embedder, cached_texts=0)
    for text, vector in zip(texts, together, strict=True):
        (single,) = await alone.embed([text])
        assert float(vector @ single) == pytest.approx(1.0, abs=1e-5)


async def test_bfloat16_gives_nearly_the_same_vectors_under_the_same_name(
    minilm: str, service: EmbeddingService
) -> None:
    small = service_of(minilm, dtype="bfloat16", batch_size=4)
    texts = [f"note {i} about a lighthouse and {i} boats" for i in range(20)]
    for one, other in zip(await service.embed(texts), await small.embed(texts), strict=True):
        assert other.dtype == np.float32
        assert float(one @ other) > 0.995
    assert small.name == service.name
    await small.close()


async def test_concurrent_callers_share_batches_and_neither_loading_nor_computing_holds_the_loop(minilm: str) -> None:
    service = service_of(minilm)
    await service.prepare()
    async with Heartbeat() as heart:
        await service.embed(["warm"])
    # A thread that imported torch would hold it for hundreds of milliseconds.
    assert heart.worst < 0.1
    sizes: list[int] = []
    embed = service.embedder.embed
    service.embedder.embed = lambda texts: (sizes.append(len(texts)), embed(texts))[1]  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        for i in range(100):
            group.create_task(service.embed([f"query {i}"]))
    assert sizes == [64, 36]
    count = iter(range(1_000_000))
    await assert_calm(lambda: service.embed([f"text {next(count)} of a batch" for _ in range(128)]))
    await service.close()


async def test_a_moved_model_keeps_its_name_and_a_damaged_one_is_told(minilm: str, tmp_path: Path) -> None:
    here = Path(minilm.partition(":")[2])
    moved = shutil.copytree(here, tmp_path / "elsewhere" / here.name)
    kept, first = service_of(f"sentence-transformers:{moved}"), service_of(minilm)
    await kept.prepare()
    await first.prepare()
    assert kept.name == first.name
    (moved / "model.safetensors").write_bytes(b"damaged")
    broken = service_of(f"sentence-transformers:{moved}")
    with pytest.raises(BackendUnavailable, match="cannot be loaded") as caught:
        await broken.embed(["a"])
    assert "SafetensorError" in str(caught.value)
    assert broken.name != first.name
    for one in (kept, first, broken):
        await one.close()


async def test_a_model_of_the_hub_is_not_asked_for_while_offline() -> None:
    service = service_of("sentence-transformers:nobody/has-such-a-model")
    with pytest.raises(BackendUnavailable, match="cannot be loaded"):
        await service.embed(["a"])
    await service.close()


def test_loading_says_nothing_and_the_interpreter_exits_while_the_model_works(minilm: str) -> None:
    code = f"""
import asyncio
from memory.search.embedders import EmbeddingService, embedder_of

async def main():
    service = EmbeddingService(embedder_of({minilm!r}, device="cpu"))
    print(len((await service.embed(["a"]))[0]))
    try:
        async with asyncio.timeout(0.3):
            await service.embed(["many words " * 200 + str(i) for i in range(2_000)])
    except TimeoutError:
        print("left")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout, done.stderr) == (0, "384\nleft\n", "")
