"""Embeddings from an OpenAI-compatible endpoint: POST .../embeddings with a model and a list of texts.

The request and its answer are those of OpenAI's "Create embeddings"
(platform.openai.com/docs/api-reference/embeddings); Ollama, vLLM, llama.cpp, LiteLLM and others offer the same.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import random
import re
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from memory.errors import BackendUnavailable, EmbeddingFailed, InvalidSetting

if TYPE_CHECKING:
    import httpx
    import numpy as np

MAX_TEXTS = 2_048
"""What OpenAI takes in one request."""
_PIP = "pip install 'agent-memory-backends[http]'"
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0
_SHORTEST_ATTEMPT = 0.05
"""Seconds: with less of the deadline left, what went wrong before says more than another attempt would."""
_CODE = re.compile(r"[\w.-]{1,64}")
_IN_QUERY = ("model", "dimensions")


class HttpEmbedder:
    """Asks the endpoint at ``url``: ``https://host/v1?model=name`` is asked at ``https://host/v1/embeddings``.

    ``model`` and ``dimensions`` may be said in the URL or as options. ``key`` is sent as a bearer token and shown
    nowhere. At most ``batch_size`` texts go into a request. An attempt may take ``timeout`` seconds; what may pass
    (429, 5xx, no connection, no answer) is tried again up to ``retries`` times, after growing pauses or when the
    server's Retry-After says, while ``deadline`` seconds for the whole request are not over.

    Raises InvalidSetting: the URL is malformed, or holds a secret; a number is out of range.
    """

    semantic = True

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        dimensions: int | None = None,
        key: str | None = None,
        batch_size: int = 64,
        timeout: float = 30.0,
        deadline: float = 60.0,
        retries: int = 4,
    ) -> None:
        self.url, told = _parsed(url)
        if ("model" in told and model is not None) or ("dimensions" in told and dimensions is not None):
            raise _invalid("model or dimensions are given twice, in the address and as an option")
        model = told.get("model", model)
        if not isinstance(model, str) or not model.strip() or len(model) > 200:
            raise _invalid("the endpoint's address must name a model: https://host/v1?model=name")
        if "dimensions" in told:
            digits = told["dimensions"]
            dimensions = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 7 else 0
        self.dimension = _whole("dimensions", dimensions, 1, 100_000) if dimensions is not None else None
        self.name = f"openai:{model}" + (f":{self.dimension}" if self.dimension else "")
        self._key = _checked_key(key)
        self._request: dict[str, Any] = {"model": model, "encoding_format": "base64"}
        if self.dimension:
            self._request["dimensions"] = self.dimension
        self._batch_size = _whole("batch_size", batch_size, 1, MAX_TEXTS)
        self._retries = _whole("retries", retries, 0, 100)
        self._timeout, self._deadline = _seconds("timeout", timeout), _seconds("deadline", deadline)
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    def __repr__(self) -> str:
        return f"HttpEmbedder({self.url!r}, {self.name!r})"

    def prepare(self) -> None:
        """Raises BackendUnavailable, with the command that helps, when httpx is not installed."""
        if find_spec("httpx") is None:
            raise BackendUnavailable(
                f"the embedder {self.name!r} needs 'httpx', which is not installed: {_PIP}", command=_PIP
            )

    async def embed(self, texts: Sequence[str]) -> list[np.ndarray]:
        """A vector for each text, as the endpoint gives it, float32.

        Raises EmbeddingFailed: it refused, could not be reached in time, or answered with something else.
        """
        vectors: list[np.ndarray] = []
        for start in range(0, len(texts), self._batch_size):
            part = texts[start : start + self._batch_size]
            answer = await self._post(msgspec.json.encode({**self._request, "input": part}))
            vectors += await self._vectors(answer, len(part))
        return vectors

    async def release(self) -> None:
        """Close the connections of the running loop; the next use opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    # --- asking ------------------------------------------------------------------------------------

    async def _client(self) -> httpx.AsyncClient:
        """This loop's client; connections cannot be shared across loops."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients = {home: client for home, client in self._clients.items() if not home.is_closed()}
            # In a thread: the import and the reading of certificates take a tenth of a second.
            made = await asyncio.to_thread(self._connect)
            self._clients.setdefault(loop, made)
        return self._clients[loop]

    def _connect(self) -> httpx.AsyncClient:
        import httpx

        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return httpx.AsyncClient(headers=headers, timeout=None)  # noqa: S113 - each attempt has a deadline of its own

    async def _post(self, body: bytes) -> bytes:
        client = await self._client()
        end = time.monotonic() + self._deadline
        pause = _FIRST_PAUSE
        failure: EmbeddingFailed | None = None
        for attempt in range(self._retries + 1):
            left = end - time.monotonic()
            if failure is not None and left < _SHORTEST_ATTEMPT:
                raise failure
            answer, failure, wait = await self._attempt(client, body, min(self._timeout, left))
            if failure is None:
                return answer
            if wait is None:
                raise failure
            wait = max(wait, pause * random.uniform(0.5, 1.0))
            if attempt == self._retries or time.monotonic() + wait >= end:
                raise failure
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("unreachable")

    async def _attempt(
        self, client: httpx.AsyncClient, body: bytes, seconds: float
    ) -> tuple[bytes, EmbeddingFailed | None, float | None]:
        """The answer; or what went wrong and how long to wait at least before another try, None: do not try."""
        import httpx

        try:
            async with asyncio.timeout(seconds):
                response = await client.post(self.url, content=body)
        except TimeoutError:
            return b"", self._failed(f"did not answer within {seconds:.3g} s"), 0.0
        except httpx.TransportError as error:
            failure = self._failed(f"could not be reached ({type(error).__name__})")
            failure.__cause__ = error
            return b"", failure, 0.0
        except httpx.HTTPError as error:  # what came is no proper answer: a damaged encoding
            failure = self._failed(f"gave an answer that cannot be read ({type(error).__name__})")
            failure.__cause__ = error
            return b"", failure, None
        status = response.status_code
        if status == HTTPStatus.OK:
            return response.content, None, None
        failure = self._failed(f"answered {_status(status)}{_code(response.content)}{_advice(status)}", status=status)
        passing = status >= 500 or status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)
        return b"", failure, _retry_after(response.headers.get("Retry-After")) if passing else None

    # --- understanding -----------------------------------------------------------------------------

    async def _vectors(self, answer: bytes, texts: int) -> list[np.ndarray]:
        """The answer's vectors in the order of the texts."""
        try:
            data = _decode_answer(answer).data
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._failed("answered with something that is no list of embeddings") from None
        if len(data) != texts:
            raise self._failed(f"answered {texts} texts with {len(data)} embeddings")
        if sorted(one.index for one in data) != list(range(texts)):
            raise self._failed("answered with indexes that do not number the texts")
        vectors: list[Any] = [None] * texts
        pause = time.perf_counter() + 0.001
        for one in data:
            vectors[one.index] = self._vector(one.embedding)
            if time.perf_counter() > pause:  # numbers as text take 50 µs a thousand
                await asyncio.sleep(0)
                pause = time.perf_counter() + 0.001
        return vectors

    def _vector(self, raw: msgspec.Raw) -> np.ndarray:
        import numpy as np

        try:
            value = _decode_vector(raw)
            if isinstance(value, str):
                return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
            return np.array(value, np.float64)
        except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
            raise self._failed("answered with an embedding that is no list of numbers") from None

    def _failed(self, what: str, **facts: Any) -> EmbeddingFailed:
        return EmbeddingFailed(f"the embedding endpoint {self.url} {what}", embedder=self.name, **facts)


class _Datum(msgspec.Struct):
    index: int
    embedding: msgspec.Raw
    """Decoded one by one, so that a large answer does not hold the loop."""


class _Answer(msgspec.Struct):
    data: list[_Datum]


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_vector = msgspec.json.Decoder(str | list[float]).decode


def _parsed(url: str) -> tuple[str, dict[str, str]]:
    """The address to post to, and what the query says. No message shows the address: it may hold a secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), errors="strict")
    except ValueError:
        raise _invalid("the endpoint's address cannot be understood; write https://host/v1?model=name") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise _invalid("an embedding endpoint is an http or https address: https://host/v1?model=name")
    if re.search(r"[\s\x00-\x1f\x7f]", url) or parts.fragment:
        raise _invalid("the endpoint's address holds a space or a #; percent-encode it")
    if "@" in parts.netloc:
        raise _invalid("the endpoint's address holds a user or password; give the key as an option (embedder_key)")
    told = dict(query)
    if len(told) != len(query):
        raise _invalid("the endpoint's address says something twice")
    for name in told:
        if name not in _IN_QUERY:
            raise _invalid(
                f"the endpoint's address may say model and dimensions, not {name!r}; "
                "a key is given as an option (embedder_key)"
            )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/")
    address = f"{parts.scheme.lower()}://{host}" + (f":{port}" if port is not None else "")
    return address + (path if path.endswith("/embeddings") else f"{path}/embeddings"), told


def _checked_key(key: Any) -> str | None:
    """Anything else would be refused by the HTTP library in a message that shows it."""
    if key is None:
        return None
    if not isinstance(key, str) or not re.fullmatch(r"[\x21-\x7e]+", key.strip()):
        raise _invalid("the endpoint's key must be a text of visible ASCII characters without spaces")
    return key.strip()


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _invalid(f"{name} must be a whole number from {least} to {most:,}")
    return value


def _seconds(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 86_400:
        raise _invalid(f"{name} must be a number of seconds above 0")
    return float(value)


def _invalid(message: str) -> InvalidSetting:
    return InvalidSetting(message, setting="embedder")


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _code(body: bytes) -> str:
    """The error's code, if there is one; never its message, which may quote the key or the texts."""
    try:
        error = msgspec.json.decode(body)["error"]
        code = error.get("code") or error.get("type")
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return ""
    return f" ({code})" if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _advice(status: int) -> str:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "; is the key (embedder_key) right?"
    if status == HTTPStatus.NOT_FOUND:
        return "; are the address and the model right?"
    return ""


def _retry_after(header: str | None) -> float:
    """Seconds that the server asks for: it may say a number or a date (RFC 9110, 10.2.3); 0.0 if it says nothing."""
    if not header:
        return 0.0
    if re.fullmatch(r"\s*\d{1,9}(\.\d+)?\s*", header):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
