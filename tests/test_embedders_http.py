"""The OpenAI-compatible endpoint, against a real server on this machine that answers as a test wants."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import struct
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from memory.errors import Closed, EmbeddingFailed, EmbeddingMismatch
from memory.search.embedders import EmbeddingService, embedder_of

KEY = "sk-hunter2-not-to-be-seen"
Answer = Callable[["Handler", dict[str, Any]], None]


def numbers(text: str, dimensions: int = 3) -> list[float]:
    return [float(len(text)), 0.5, *[1.0] * (dimensions - 2)]


def embeddings(texts: list[str], dimensions: int = 3, form: str = "float") -> dict[str, Any]:
    """OpenAI's answer, its rows in another order than the texts."""
    rows = []
    for index, text in enumerate(texts):
        row: Any = numbers(text, dimensions)
        if form == "base64":
            row = base64.b64encode(struct.pack(f"<{dimensions}f", *row)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": row})
    return {"object": "list", "data": rows[::-1], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def well(handler: Handler, request: dict[str, Any]) -> None:
    answer = embeddings(request["input"], request.get("dimensions", 3), request["encoding_format"])
    handler.send(200, json.dumps(answer).encode())


def status(code: int, body: bytes = b"{}", **headers: str) -> Answer:
    return lambda handler, _request: handler.send(code, body, {k.replace("_", "-"): v for k, v in headers.items()})


def says(answer: Any) -> Answer:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return status(200, body)


def hang_up(handler: Handler, _request: dict[str, Any]) -> None:
    handler.close_connection = True
    handler.connection.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), request))
        answer = self.server.answers.popleft() if self.server.answers else well
        answer(self, request)

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: deque[Answer] = deque()
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.stopping = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def slow(self, handler: Handler, _request: dict[str, Any]) -> None:
        """Answers nothing until the test ends."""
        self.stopping.wait(60)
        handler.close_connection = True

    def handle_error(self, *_: Any) -> None:
        pass  # a client that gave up


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.stopping.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


async def asked(server: Server, *texts: str, **options: Any) -> list[list[float]]:
    """What an endpoint embedder with these options makes of the texts."""
    service = EmbeddingService(embedder_of(f"{server.address}?model=m", **options))  # type: ignore[arg-type]
    try:
        return [vector.tolist() for vector in await service.embed(list(texts))]
    finally:
        await service.close()


async def failure(server: Server, *texts: str, **options: Any) -> EmbeddingFailed:
    with pytest.raises(EmbeddingFailed) as caught:
        await asked(server, *(texts or ("a",)), **options)
    return caught.value


async def test_texts_go_to_the_endpoint_and_vectors_come_back_in_their_order(server: Server) -> None:
    assert await asked(server, "a", "bbb", key=KEY) == [numbers("a"), numbers("bbb")]
    ((path, headers, request),) = server.requests
    assert path == "/v1/embeddings"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert request == {"model": "m", "encoding_format": "base64", "input": ["a", "bbb"]}


async def test_an_endpoint_that_answers_with_numbers_as_text_is_understood_too(server: Server) -> None:
    server.answers.append(says(embeddings(["a", "bbb"])))
    assert await asked(server, "a", "bbb") == [numbers("a"), numbers("bbb")]
    assert "Authorization" not in server.requests[0][1]


async def test_dimensions_are_asked_for_and_are_part_of_the_identity(server: Server) -> None:
    embedder = embedder_of(f"{server.address}/embeddings?model=text-embedding-3-small&dimensions=5")
    assert embedder is not None
    assert (embedder.name, embedder.dimension) == ("openai:text-embedding-3-small:5", 5)
    service = EmbeddingService(embedder)
    assert (await service.embed(["a"]))[0].tolist() == numbers("a", 5)
    assert server.requests[0][0] == "/v1/embeddings"
    assert server.requests[0][2]["dimensions"] == 5
    server.answers.append(says(embeddings(["b"], 4)))
    with pytest.raises(EmbeddingMismatch):
        await service.embed(["b"])
    await service.close()


async def test_no_request_holds_more_texts_than_the_server_takes(server: Server) -> None:
    texts = ["x" * i for i in range(1, 8)]
    assert await asked(server, *texts, batch_size=3) == [numbers(text) for text in texts]
    assert [len(request["input"]) for _, _, request in server.requests] == [3, 3, 1]


@pytest.mark.parametrize("passing", [status(429), status(500), status(503, Retry_After="0"), hang_up, status(529)])
async def test_what_may_pass_is_tried_again(server: Server, passing: Answer) -> None:
    server.answers += [passing, passing]
    assert await asked(server, "a") == [numbers("a")]
    assert len(server.requests) == 3


async def test_what_stays_is_given_up_after_the_retries(server: Server) -> None:
    server.answers += [status(500)] * 9
    error = await failure(server, retries=2)
    assert len(server.requests) == 3
    assert error.status == 500  # type: ignore[attr-defined]
    assert "500 Internal Server Error" in str(error)


async def test_a_retry_comes_not_before_the_server_says_and_not_after_the_deadline(server: Server) -> None:
    server.answers += [status(429, Retry_After="1"), status(429, Retry_After="3600")]
    began = time.monotonic()
    error = await failure(server)
    assert time.monotonic() - began >= 1.0
    assert len(server.requests) == 2
    assert "429 Too Many Requests" in str(error)
    server.requests.clear()
    server.answers += [status(503, Retry_After=formatdate(time.time() + 3_600, usegmt=True))]
    assert "503" in str(await failure(server))
    server.answers += [status(503, Retry_After="soon"), status(503, Retry_After=formatdate(0, usegmt=True))]
    assert await asked(server, "a") == [numbers("a")]


async def test_a_slow_answer_is_given_up_and_asked_for_again(server: Server) -> None:
    server.answers += [server.slow]
    assert await asked(server, "a", timeout=0.3) == [numbers("a")]
    server.answers += [server.slow] * 5
    error = await failure(server, timeout=0.2, retries=1)
    assert "did not answer within" in str(error)


async def test_nobody_listening_is_told_with_the_address_after_the_deadline() -> None:
    service = EmbeddingService(embedder_of("http://127.0.0.1:9/v1?model=m", deadline=0.5))  # type: ignore[arg-type]
    with pytest.raises(EmbeddingFailed, match=r"http://127\.0\.0\.1:9/v1/embeddings could not be reached"):
        await service.embed(["a"])
    await service.close()


async def test_a_last_moment_that_is_too_short_does_not_hide_what_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    service = EmbeddingService(embedder_of("http://127.0.0.1:9/v1?model=m", deadline=0.5))  # type: ignore[arg-type]
    with pytest.raises(EmbeddingFailed, match="could not be reached"):
        await service.embed(["a"])  # loads what is loaded once
    started = time.monotonic()

    def until_nearly_the_end(_least: float, _most: float) -> float:
        return (started + 0.4997 - time.monotonic()) / 0.25  # of the first pause

    monkeypatch.setattr("memory.search.embedders.http.random.uniform", until_nearly_the_end)
    with pytest.raises(EmbeddingFailed, match="could not be reached"):
        await service.embed(["b"])
    await service.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says(b"<html>busy</html>"), "no list of embeddings"),
        (says(b'{"data": [{"index": 0, "embed'), "no list of embeddings"),
        (says(b"\xff\xfe"), "no list of embeddings"),
        (says({"error": "no"}), "no list of embeddings"),
        (says({"data": [{"embedding": [1.0]}]}), "no list of embeddings"),
        (says(embeddings(["a", "b"])), "1 texts with 2 embeddings"),
        (says({"data": []}), "1 texts with 0 embeddings"),
        (says({"data": [{"index": 1, "embedding": [1.0]}]}), "indexes"),
        (says({"data": [{"index": 0, "embedding": {"a": 1}}]}), "no list of numbers"),
        (says({"data": [{"index": 0, "embedding": "no base64!"}]}), "no list of numbers"),
        (says({"data": [{"index": 0, "embedding": "AAA="}]}), "no list of numbers"),
        (says({"data": [{"index": 0, "embedding": [None]}]}), "no list of numbers"),
        (says({"data": [{"index": 0, "embedding": [1e300]}]}), "NaN or Infinity"),
        (says({"data": [{"index": 0, "embedding": []}]}), "shape"),
        (status(200, b"not zipped", Content_Encoding="gzip"), "cannot be read"),
        (
            status(400, b'{"error": {"code": "context_length_exceeded"}}'),
            r"400 Bad Request \(context_length_exceeded\)",
        ),
        (status(401, b'{"error": {"type": "invalid_request_error"}}'), r"401 .*is the key \(embedder_key\) right"),
        (status(404, b"[]"), "404 Not Found; are the address and the model right"),
        (status(307, Location="http://127.0.0.1:9/elsewhere"), "307"),
        (status(799), "799"),
    ],
)
async def test_what_will_not_pass_fails_at_once_and_says_why(server: Server, answer: Answer, words: str) -> None:
    server.answers.append(answer)
    with pytest.raises(EmbeddingFailed, match=words):
        await asked(server, "a", retries=0 if "799" in words else 4)
    assert len(server.requests) == 1


async def test_the_key_and_the_texts_are_in_no_error_no_log_and_no_repr(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": {"message": f"bad key {KEY}", "code": f"bad {KEY}"}}).encode()
    seen = ""
    for answer in (status(401, echo), status(500, echo), hang_up, says(b"{")):
        server.answers.append(answer)
        error = await failure(server, "what Maya said", key=KEY, retries=0)
        seen += "".join(traceback.format_exception(error)) + repr(vars(error))
    embedder = embedder_of(f"{server.address}?model=m", key=KEY)
    seen += repr(embedder) + str(embedder) + caplog.text
    assert "401" in seen
    assert KEY not in seen
    assert "what Maya said" not in caplog.text + "".join(str(error))


async def test_closing_while_the_server_is_silent_ends_at_once(server: Server) -> None:
    server.answers.append(server.slow)
    service = EmbeddingService(embedder_of(f"{server.address}?model=m"))  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(service.embed(["a"]))
    while not server.requests:
        await asyncio.sleep(0.01)
    await service.close()
    with pytest.raises(Closed):
        await waiting


def test_one_embedder_serves_several_loops_each_with_connections_of_its_own(server: Server) -> None:
    embedder = embedder_of(f"{server.address}?model=m")
    assert embedder is not None

    async def use() -> list[float]:
        service = EmbeddingService(embedder)
        try:
            return (await service.embed(["abc"]))[0].tolist()
        finally:
            await service.close()

    assert asyncio.run(use()) == asyncio.run(use()) == numbers("abc")
    assert embedder._clients == {}  # type: ignore[attr-defined]
