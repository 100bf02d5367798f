"""A random sequence of operations, said without any store: the machine's items, filters and views, drawn once for all."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from itertools import cycle
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from memory.clock import ManualClock, from_micros
from memory.model import MemoryItem
from memory.testing.machine import strategies
from memory.testing.machine.model import BODY, Pins, numbers

TOGETHER = 10
"""Steps that are drawn at once: what is drawn in one go has a limited size."""
BEGINNING = from_micros(ManualClock()())
MORE_IDS = [f"{number:02}" for number in range(18)]
"""Beside the machine's ids, so that lists and searches have more than a handful to order."""
DAMAGED = (
    *("filter operator", "filter shape", "limit", "order", "cursor", "foreign cursor", "id", "namespace", "number"),
    *(
        "vector",
        "dimension",
        "search for nothing",
        "cut",
        "owner",
        "token",
        "batch",
        "delete all",
        "ttl",
        "patch",
        "twice",
    ),
)
"""Calls that are refused, by what is wrong with them; see running.DAMAGED_CALLS."""


class Step(msgspec.Struct, frozen=True):
    """One operation: through which view, and with which arguments."""

    name: str
    pins: Pins = Pins()
    arguments: dict[str, Any] = {}

    def __str__(self) -> str:
        through = f" through {self.pins.options()}" if self.pins.options() else ""
        return f"{self.name}({', '.join(f'{name}={_brief(value)}' for name, value in self.arguments.items())}){through}"


def _brief(value: Any) -> str:
    """A value in the fewest words: of an item what differs from a plain one."""
    if isinstance(value, MemoryItem):
        plain = MemoryItem(id=value.id, content=None)
        shown = {name: getattr(value, name) for name in BODY if getattr(value, name) != getattr(plain, name)}
        shown = {"id": value.id, **shown, "embedding": numbers(value.embedding)}
        return f"MemoryItem({', '.join(f'{name}={one!r}' for name, one in shown.items() if one is not None)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_brief, value))}]"
    return repr(value)


ids = st.one_of(st.sampled_from(strategies.IDS), st.sampled_from(MORE_IDS), st.sampled_from(MORE_IDS))
keys = st.tuples(st.sampled_from(strategies.PATHS), ids)
queries = st.lists(st.sampled_from(strategies.WORDS), min_size=1, max_size=3).map(" ".join)
which = st.sampled_from(["any", "any", "current", "current", "old"])
limits = st.integers(1, 8)


@st.composite
def items(draw: st.DrawFn) -> MemoryItem:
    """One of the machine's items, mostly under another id."""
    item = draw(strategies.items())
    return msgspec.structs.replace(item, id=draw(ids))


@st.composite
def written(draw: st.DrawFn) -> Step:
    """A put or an add of one item, mostly within its view."""
    pins, item = draw(strategies.placed())
    item = msgspec.structs.replace(item, id=draw(ids))
    chosen = {"item": item, "ttl": draw(strategies.ttls), "embed": draw(strategies.embeds)}
    name = draw(st.sampled_from(["put", "put", "put", "add"]))
    more: dict[str, Any] = {"dedup": draw(st.sampled_from([False, False, True]))}
    if name == "put":
        more["expect"] = draw(which)
    return Step(name, pins, {**chosen, **more})


def step(name: str, views: st.SearchStrategy[Pins] = strategies.views, **arguments: Any) -> st.SearchStrategy[Step]:
    """A step whose arguments are drawn each by itself."""
    return st.builds(Step, st.just(name), views, st.fixed_dictionaries(arguments))


whole = st.just(Pins())
moments = st.sampled_from([0, 0.000001, 1, 5, 50, 500]).map(lambda later: BEGINNING + timedelta(seconds=later))
stamped = st.one_of(
    st.builds(
        lambda name, op, moment: {name: {op: moment}},
        st.sampled_from(["created_at", "updated_at", "accessed_at", "expires_at"]),
        st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]),
        moments,
    ),
    st.builds(lambda op, count: {"access_count": {op: count}}, st.sampled_from(["$gte", "$lt"]), st.integers(0, 3)),
    st.builds(lambda there: {"expires_at": {"$exists": there}}, st.booleans()),
    st.builds(lambda path: {"namespace": list(path)}, st.sampled_from(strategies.PATHS)),
)
wheres = st.one_of(strategies.filters, strategies.filters, stamped)
"""Filters, those by what the store stamps included."""
changes = st.fixed_dictionaries(
    {},
    optional={
        "content": st.one_of(strategies.patches, strategies.texts),
        "metadata": strategies.patches,
        "importance": st.sampled_from([0.0, 1.0]),
        "kind": strategies.kinds,
        "tags": strategies.tags,
        "text": st.one_of(st.none(), strategies.texts),
        "user_id": st.sampled_from(strategies.USERS),
        "embedding": st.one_of(st.none(), strategies.vectors),
    },
)
searched: dict[str, Any] = {
    "where": st.one_of(st.none(), st.none(), wheres),
    "neighbours": st.sampled_from([0, 0, 0, 1, 2]),
    "order": st.sampled_from(["relevance", "relevance", "relevance", "composite"]),
    "limit": st.sampled_from([1, 2, 3, 5, 15, 50]),
}
min_vectors = st.sampled_from([None, None, -1.0, 0.0, 0.5])
WEIGHTED: list[tuple[int, st.SearchStrategy[Step]]] = [
    (26, written()),
    (
        6,
        step(
            "put_many",
            items=st.lists(items(), min_size=1, max_size=8),
            dedup=st.booleans(),
            ttl=strategies.ttls,
            embed=strategies.embeds,
            atomic=st.booleans(),
        ),
    ),
    (9, step("update", key=keys, expect=which, embed=strategies.embeds, changes=changes)),
    (5, step("touch", key=keys, expect=which, expiry=st.sampled_from(["keep", "keep", "never", "soon"]))),
    (3, step("delete", key=keys, expect=which)),
    (1, step("delete_many", path=st.sampled_from(strategies.PATHS), ids=st.lists(ids, min_size=1, max_size=4))),
    (1, step("delete_where", where=strategies.narrow)),
    (5, step("advance", whole, seconds=st.sampled_from([0.000001, 1, 1, 1, 5, 50]))),
    (1, step("sweep", whole)),
    (1, step("reopen", whole)),
    (1, step("reembed", whole, batch=st.sampled_from([1, 3, 256]))),
    (1, step("verify", whole)),
    (3, step("get", key=keys)),
    (2, step("get_many", path=st.sampled_from(strategies.PATHS), ids=st.lists(ids, min_size=1, max_size=6))),
    (8, step("list", where=wheres, order=strategies.orders, limit=limits)),
    (3, step("page_on", whole, number=st.integers(0, 1_000), limit=limits)),
    (3, step("count", where=wheres)),
    (2, step("stream", where=wheres)),
    (1, step("namespaces")),
    (3, step("watch", whole)),
    (5, step("search", query=queries, mode=st.just("text"), min_text=st.sampled_from([None, None, 0.5]), **searched)),
    (6, step("search", vector=strategies.vectors, min_vector=min_vectors, **searched)),
    (4, step("search", query=queries, vector=strategies.vectors, min_vector=min_vectors, **searched)),
    (2, step("search", query=queries, **searched)),
    (2, step("search", query=queries, vector=strategies.vectors, mmr=st.sampled_from([0.0, 0.3, 1.0]), limit=limits)),
    (3, step("damaged", what=st.sampled_from(DAMAGED))),
]


def sequence(count: int, number: int) -> list[Step]:
    """That many steps, every kind of them as often as its weight says; the same number (a seed) draws the same ones."""
    chance = random.Random(number)
    weights = [weight for weight, _ in WEIGHTED]
    kinds = chance.choices(range(len(WEIGHTED)), weights, k=count - 1)
    drawn = {kind: cycle(_drawn(WEIGHTED[kind][1], wanted, number)) for kind, wanted in Counter(kinds).items()}
    begin = {"items": _first(), "dedup": False, "ttl": None, "embed": "now", "atomic": False}
    return [Step("put_many", Pins(), begin), *(next(drawn[kind]) for kind in kinds)]


def _drawn(kind: st.SearchStrategy[Step], count: int, number: int) -> list[Step]:
    drawn: list[Step] = []

    @seed(number)
    @settings(
        max_examples=count // TOGETHER + 3,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck(check) for check in HealthCheck],  # pyright knows no enum here
    )
    @given(st.lists(kind, min_size=TOGETHER, max_size=TOGETHER))
    def draw(some: list[Step]) -> None:
        drawn.extend(some)

    draw()
    return drawn[-count:]  # the first ones drawn are the simplest; of a kind with few forms there may be fewer


def _first() -> list[MemoryItem]:
    """What every sequence begins with, so that the first searches find something."""
    words, vectors = strategies.WORDS, strategies.VECTORS
    return [
        MemoryItem(
            id=id,
            namespace=strategies.PATHS[number % 3],
            content=f"{words[number % 5]} {words[number % 3]}",
            user_id=strategies.USERS[number % 3],
            metadata={"x": number},
            embedding=vectors[number % len(vectors)] if number % 4 else None,
        )
        for number, id in enumerate([*strategies.IDS, *MORE_IDS])
    ]
