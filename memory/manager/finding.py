"""Finding memories: search, and the block of memories for a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from memory.manager.context import Context, check_room, compose
from memory.manager.lifecycle import Lifecycle
from memory.store import SearchPage
from memory.sync import blocking

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.store.bound import Namespace


class Finding(Lifecycle):
    """Search in words."""

    async def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        where: Where = None,
        mode: Literal["auto", "text"] = "auto",
        limit: int = 10,
        cursor: str | None = None,
        min_score: float | None = None,
        min_text: float | None = None,
        neighbours: int = 0,
        explain: bool = False,
    ) -> SearchPage:
        """The memories that answer a query best, best first: see ``MemoryStore.search``.

        Without a scope the whole store is searched. Raises InvalidItem, InvalidFilter, InvalidCursor.
        """
        return await self._view(user_id, agent_id, session_id).search(
            query,
            where=where,
            namespace=namespace,
            under=under,
            mode=mode,
            limit=limit,
            cursor=cursor,
            min_score=min_score,
            min_text=min_text,
            neighbours=neighbours,
            explain=explain,
        )

    async def context(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        where: Where = None,
        mode: Literal["auto", "text"] = "auto",
        limit: int = 20,
        min_score: float | None = None,
        min_text: float | None = None,
        neighbours: int = 0,
        max_chars: int = 4_000,
    ) -> Context:
        """The memories that answer a query best, as a block for a prompt; ``str()`` of it is the text.

        Each memory is dated and has its id, owner and source; the text says that it is data and not instructions, and
        nothing stored can end it or forge an entry (see memory.manager.context). Equal memories come once. ``limit``:
        how many are considered, best first; ``max_chars`` (500 to 100,000): no text is longer. Printed oldest first.
        Nothing found: an empty text. The rest is as in ``search``, and so is what it raises.
        """
        check_room(max_chars)
        page = await self.search(
            query,
            user_id=user_id,
            agent_id=agent_id,
            session_id=session_id,
            namespace=namespace,
            under=under,
            where=where,
            mode=mode,
            limit=limit,
            min_score=min_score,
            min_text=min_text,
            neighbours=neighbours,
        )
        return await compose((hit.item for hit in page), max_chars)

    search_sync = blocking(search)
    context_sync = blocking(context)
