"""Finding memories: search, and the block of memories for a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from memory.manager.context import Context, check_room, compose
from memory.manager.lifecycle import Lifecycle
from memory.store import SearchPage
from memory.sync import blocking

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.store.bound import Namespace
    from memory.store.searching import Mode


class Finding(Lifecycle):
    """Search, by words and by meaning."""

    async def search(
        self,
        query: str | None = None,
        *,
        vector: Any = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        where: Where = None,
        mode: Mode = "auto",
        limit: int = 10,
        cursor: str | None = None,
        min_score: float | None = None,
        min_text: float | None = None,
        min_vector: float | None = None,
        neighbours: int = 0,
        order: Literal["relevance", "composite"] = "relevance",
        mmr: float | None = None,
        explain: bool = False,
        exact: bool = False,
    ) -> SearchPage:
        """The memories that answer a query best, best first: see ``MemoryStore.search``, which says what each part means.

        Without a scope the whole store is searched. Raises InvalidItem, InvalidFilter, InvalidCursor, EmbeddingMismatch,
        EmbeddingFailed, InvalidSetting (a vector is needed and nobody makes one).
        """
        return await self._view(user_id, agent_id, session_id).search(
            query,
            vector=vector,
            where=where,
            namespace=namespace,
            under=under,
            mode=mode,
            limit=limit,
            cursor=cursor,
            min_score=min_score,
            min_text=min_text,
            min_vector=min_vector,
            neighbours=neighbours,
            order=order,
            mmr=mmr,
            explain=explain,
            exact=exact,
        )

    async def context(
        self,
        query: str | None = None,
        *,
        vector: Any = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        where: Where = None,
        mode: Mode = "auto",
        limit: int = 20,
        min_score: float | None = None,
        min_text: float | None = None,
        min_vector: float | None = None,
        neighbours: int = 0,
        order: Literal["relevance", "composite"] = "relevance",
        mmr: float | None = None,
        exact: bool = False,
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
            vector=vector,
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
            min_vector=min_vector,
            neighbours=neighbours,
            order=order,
            mmr=mmr,
            exact=exact,
        )
        return await compose((hit.item for hit in page), max_chars)

    search_sync = blocking(search)
    context_sync = blocking(context)
