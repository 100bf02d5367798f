"""Taking records to where they are looked for: after a change of rules, or after a member was restored by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.backends.composite.copies import copy_of
from memory.codec import decode
from memory.errors import MemoryStoreError
from memory.ops import Remove, Scope, Status
from memory.store.settle import new_token

if TYPE_CHECKING:
    from memory.backends.composite.routed import RoutedStore


async def mended(store: RoutedStore) -> int:
    """Move or remove every record that lies where it does not count; returns how many. A record that moves so gets a version
    of its new member. Raises what the members raise."""
    from memory.backends.composite.placing import every_row

    done = 0
    for route in store.routes:
        async for row in every_row(route, Scope(), store._clock(), None):
            key = decode(row, vector=False).key
            home = await store.home_of(key)
            if home is None or home is route:
                continue
            if store.placing is None:
                put = copy_of(row, store._clock(), mark=False)
                await home.store._add_terms((put,))
                (result,) = await home.member.write([put])
                if result.status not in (Status.DONE, Status.EXISTS):
                    raise result.error or MemoryStoreError("a record could not be taken to its place", key=key)
            await route.member.write([Remove(key=key, token=new_token(), now=store._clock(), expect=row.version)])
            done += 1
    return done
