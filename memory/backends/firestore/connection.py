"""Every call to Firestore: bounded by our own deadline, never retried by the driver, its errors translated, its reads
counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

import grpc
from google.cloud.firestore_v1.types import firestore as messages
from google.cloud.firestore_v1.types import query as queries
from google.cloud.firestore_v1.types import write as writes

from memory.backends.firestore import values
from memory.backends.firestore.connecting import Place, channel_of
from memory.backends.firestore.document import Document
from memory.backends.firestore.faults import CALL_ERRORS, Code, code_of, counts_against, is_refusal, translate
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import Query, message
from memory.errors import Closed
from memory.store.breaker import Breaker

T = TypeVar("T")
D = TypeVar("D", bound=Document)
Write: Any = writes.Write.pb()
_Commit: Any = messages.CommitRequest.pb()
_Get: Any = messages.GetDocumentRequest.pb()
_Gets: Any = messages.BatchGetDocumentsRequest.pb()
_Run: Any = messages.RunQueryRequest.pb()
_Aggregate: Any = messages.RunAggregationQueryRequest.pb()
_Aggregation: Any = queries.StructuredAggregationQuery.pb()
AT_ONCE = 250
"""Documents that one request for documents by name asks for."""
TOGETHER = 50
"""Writes that are committed together where each stands for itself."""
PER_COUNT = 1_000
"""Index entries that a count reads for the price of one document."""
_WRITES = b"\x12"
"""The tag of one of a commit's writes: field 2, with a length."""
_SERVICE = "/google.firestore.v1.Firestore/"


class Connection(Generic[D]):
    """A channel to one database, on the loop that made it. ``kind``: what its documents are read as.

    The calls are those of Firestore's service itself, with the messages of Google's client: its own AsyncClient cannot
    replace a document on a condition, and takes several times as long to make and read messages.
    """

    def __init__(
        self, kind: type[D], backend: str, place: Place, credentials: Any, timeout: float, breaker: Breaker
    ) -> None:
        self._kind, self.backend = kind, backend
        self.place, self.timeout, self.breaker = place, timeout, breaker
        self._channel = channel = channel_of(place, credentials)
        self._root = f"{place.name}/documents"
        database = f"projects%2F{place.project}%2Fdatabases%2F{place.database}"
        facts = [("google-cloud-resource-prefix", place.name), ("x-goog-request-params", f"database={database}")]
        if place.emulator is not None:
            facts.append(("authorization", "Bearer owner"))
        self._how: dict[str, Any] = {"timeout": timeout, "metadata": tuple(facts)}
        self._one = _unary(channel, "GetDocument", _Get, values.Document)
        self._commit = channel.unary_unary(_SERVICE + "Commit", None, messages.CommitResponse.pb().FromString)
        self._many = _stream(channel, "BatchGetDocuments", _Gets, messages.BatchGetDocumentsResponse.pb())
        self._found = _stream(channel, "RunQuery", _Run, messages.RunQueryResponse.pb())
        self._totals = _stream(channel, "RunAggregationQuery", _Aggregate, messages.RunAggregationQueryResponse.pb())
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self.reads = self.commits = 0
        self.read_time = 0
        """Of the last answer, in microseconds: no version issued before is above it."""

    async def close(self) -> None:
        """Take no more calls, wait for those under way, which the deadline bounds, and close the channel."""
        self._closing = True
        if self._loop is not asyncio.get_running_loop():
            return  # the loop of this channel has ended, and its calls with it
        if self._under_way:
            self._idle.clear()
            await self._idle.wait()
        await self._channel.close()

    def name(self, collection: str, id: str) -> str:
        """The full name of a document."""
        return f"{self._root}/{collection}/{id}"

    async def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """``work`` under the deadline and the breaker. Raises what the driver raises, not translated."""
        if self._closing:
            raise Closed(f"this {self.backend} store is closed")
        self.breaker.enter(self.place.address, f"Firestore ({self.place.address})")
        self._under_way += 1
        try:
            async with asyncio.timeout(self.timeout):
                result = await work()
        except CALL_ERRORS as error:
            self.breaker.left(failed=counts_against(error))
            raise
        except BaseException:
            self.breaker.abandoned()
            raise
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        self.breaker.left(failed=False)
        return result

    async def ask(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """A read: as ``call``, errors translated. Raises BackendUnavailable, DeadlineExceeded."""
        try:
            return await self.call(work)
        except CALL_ERRORS as error:
            raise translate(error, self.place.address, self.timeout) from error

    # --- reading -------------------------------------------------------------------------------

    async def get(self, collection: str, ids: Sequence[str], meter: Meter) -> dict[str, D]:
        """The documents of these names that are there."""
        if len(ids) == 1:
            self._count(1, meter)
            only = await self.ask(lambda: self._get_one(self.name(collection, ids[0])))
            return {} if only is None else {ids[0]: self._made(only)}
        found = await self.get_across([(collection, id) for id in ids], meter)
        return {id: one for (_, id), one in found.items()}

    async def get_across(
        self, places: Sequence[tuple[str, str]], meter: Meter, fields: Sequence[str] = ()
    ) -> dict[tuple[str, str], D]:
        """The documents at these places, (collection, name) each, that are there. ``fields``: those to read; none: all."""
        found: dict[tuple[str, str], D] = {}
        for start in range(0, len(places), AT_ONCE):
            part = [self.name(*place) for place in places[start : start + AT_ONCE]]
            self._count(len(part), meter)
            for document in await self.ask(lambda names=part: self._get(names, fields)):  # type: ignore[misc]
                one = self._made(document)
                found[one.collection, one.id] = one
        return found

    async def _get_one(self, name: str) -> Any:
        try:
            return await self._one(_Get(name=name), **self._how)
        except grpc.RpcError as error:
            if code_of(error) is Code.NOT_FOUND:
                return None
            raise

    async def _get(self, names: list[str], fields: Sequence[str]) -> list[Any]:
        read = []
        asked = _Gets(database=self.place.name, documents=names)
        asked.mask.field_paths.extend(fields)
        if not fields:
            asked.ClearField("mask")
        for reply in await _replies(self._many(asked, **self._how)):
            self._saw(reply.read_time)
            if reply.HasField("found"):
                read.append(reply.found)
        return read

    async def query(self, query: Query, meter: Meter) -> list[D]:
        """The documents that a query finds, in its order."""
        limit = meter.capped(query.limit)
        read = await self.ask(lambda: self._run(message(query, limit)))
        self._count(max(1, len(read)), meter)
        return [self._made(document) async for document in singly(read)]

    async def _run(self, query: Any) -> list[Any]:
        read = []
        for reply in await _replies(self._found(_Run(parent=self._root, structured_query=query), **self._how)):
            if reply.HasField("read_time"):
                self._saw(reply.read_time)
            if reply.HasField("document"):
                read.append(reply.document)
        return read

    async def count(self, query: Query, meter: Meter) -> int:
        """How many documents a query finds, without reading them."""
        asked = _Aggregation(structured_query=message(query, None))
        asked.aggregations.add(alias="n").count.SetInParent()
        total = await self.ask(lambda: self._aggregate(asked))
        self._count(max(1, -(-total // PER_COUNT)), meter)
        return total

    async def _aggregate(self, asked: Any) -> int:
        total = 0
        request = _Aggregate(parent=self._root, structured_aggregation_query=asked)
        for reply in await _replies(self._totals(request, **self._how)):
            total += int(reply.result.aggregate_fields["n"].integer_value)
        return total

    # --- writing -------------------------------------------------------------------------------

    async def commit(self, made: Sequence[Any]) -> list[int]:
        """Apply writes all or none; the version of each. Raises the driver's errors: see faults for what they tell."""
        self.commits += 1
        request = await self._encoded(made)

        async def work() -> Any:
            return await self._commit(request, **self._how)

        reply = await self.call(work)
        at = values.micros(reply.commit_time)
        # A write that changed nothing (or deleted) has no time of its own.
        return [values.micros(one.update_time) if one.HasField("update_time") else at for one in reply.write_results]

    async def commit_each(self, made: Sequence[Any]) -> int:
        """Apply each write that its document's version still allows; how many. Raises BackendUnavailable and others,
        translated; some may have been applied then."""
        done = 0
        pending = [made[start : start + TOGETHER] for start in range(0, len(made), TOGETHER)]
        while pending:
            part = pending.pop()
            try:
                await self.commit(part)
                done += len(part)
            except CALL_ERRORS as error:
                if not is_refusal(error):
                    raise translate(error, self.place.address, self.timeout) from error
                if len(part) > 1:
                    pending += [part[: len(part) // 2], part[len(part) // 2 :]]
        return done

    async def _encoded(self, made: Sequence[Any]) -> bytes:
        """A commit's request. A message of all writes would copy each and encode them in one go, which holds the loop:
        they are encoded one by one and put together as the message would be."""
        parts = [_Commit(database=self.place.name).SerializeToString()]
        async for write in singly(made):
            raw = write.SerializeToString()
            parts += (_WRITES, values.varint(len(raw)), raw)
        return b"".join(parts)

    def _made(self, document: Any) -> D:
        _, collection, id = document.name.rsplit("/", 2)
        return self._kind(id, document.fields, values.micros(document.update_time), collection)

    def _saw(self, read_time: Any) -> None:
        self.read_time = max(self.read_time, values.micros(read_time))

    def _count(self, reads: int, meter: Meter) -> None:
        self.reads += reads
        meter.count(reads)


def _unary(channel: grpc.aio.Channel, method: str, request: Any, reply: Any) -> Any:
    return channel.unary_unary(_SERVICE + method, request.SerializeToString, reply.FromString)


def _stream(channel: grpc.aio.Channel, method: str, request: Any, reply: Any) -> Any:
    return channel.unary_stream(_SERVICE + method, request.SerializeToString, reply.FromString)


async def _replies(call: Any) -> list[Any]:
    """All that a call answers. Cancelled while the request is still being sent, the driver would leave the call open, and a
    task with it, until its deadline."""
    try:
        return [reply async for reply in call]
    finally:
        call.cancel()


def expecting(write: Any, version: int | None) -> Any:
    """The write, applied only if its document still has this version (None: only if there is no document)."""
    if version is None:
        write.current_document.exists = False
    else:
        stamp = write.current_document.update_time
        stamp.seconds, rest = divmod(version, 1_000_000)
        stamp.nanos = rest * 1_000
    return write
