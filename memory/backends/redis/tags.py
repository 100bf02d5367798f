"""Tags: which there are, and what this process knows of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.backends.redis.faults import LostError
from memory.backends.redis.scripts import ENTER
from memory.ops import Put

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

REMEMBERED = 100_000


class Tags:
    """The registry of tags. A tag is in it before its first write, and stays."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._entered: set[bytes] = set()
        self._spaced: set[bytes] = set()
        self.marks: dict[bytes, int] = {}
        """The highest version seen of each tag; versions of different tags do not compare."""
        self.since = 0
        """The server's time when the store was opened, as a version: each tag is told when it is entered, so that those of its
        versions that begin now are above it, even where none has been seen."""

    def floor(self, tag: bytes) -> int:
        """What every version that is yet to be issued will be above."""
        return max(self.marks.get(tag, 0), self.since)

    def saw(self, tag: bytes, version: int) -> None:
        """A version of this tag came back."""
        if version > self.marks.get(tag, 0):
            if len(self.marks) >= REMEMBERED:
                self.marks.clear()  # not to know one only makes an unknown outcome stay unknown
            self.marks[tag] = version

    def forget(self, tag: bytes, *, space_only: bool = False) -> None:
        """The server does not know what this process thought it knew: it was restarted without its data."""
        self._spaced.discard(tag)
        if not space_only:
            self._entered.discard(tag)

    async def enter(self, tag: bytes, vector: Put | None) -> None:
        """Make sure that a tag is ready for writes, and for vectors when there is one. Raises what `call` raises."""
        if tag in self._entered and (vector is None or tag in self._spaced):
            return
        store, names = self._store, self._store.names
        if tag not in self._entered:
            await store.servers.call(names.tags, "SADD", names.tags, tag)
        while True:
            # After the registry: a switch that does not know of this tag is seen here.
            known = await store.spaces.claim(vector) if vector is not None else await store.spaces.read()
            told = (b"", b"", b"") if known is None else known
            fields, feed = await store.servers.call(names.format, "HMGET", names.format, "fields", "feed")
            if int(fields or 0) > len(store.fields):
                await store.learn()
            facts = (len(store.fields), feed or b"0", self.since)
            mark, epoch = await store.servers.run(ENTER, [names.state(tag)], *told, *facts)
            if not epoch:
                break
            await store.spaces.wait_for_switch(tag, epoch)
        self.saw(tag, int(mark))
        if len(self._entered) >= REMEMBERED:
            self._entered.clear()
            self._spaced.clear()
        self._entered.add(tag)
        if known is not None:
            self._spaced.add(tag)

    async def all(self) -> list[bytes]:
        """Every tag, in the order of its segment."""
        store = self._store
        try:
            found: list[bytes] = await store.servers.call(store.names.tags, "SMEMBERS", store.names.tags)
        except LostError as error:
            raise error.for_read() from None
        # Hexadecimal digits sort like the bytes that they stand for.
        return sorted(found)
