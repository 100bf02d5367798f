"""Retrieval quality on LoCoMo: how much of the evidence is among the first k hits.

LoCoMo ("Evaluating Very Long-Term Conversational Memory of LLM Agents", ACL 2024) is not part of this project (its
licence is non-commercial): bring a file of it, a list of {sample_id, conversation, qa}.

    python -m benchmarks.locomo FILE

Protocol: each turn is one memory, its text "speaker: text" and " [shares <caption>]" where there is a picture; one
conversation is searched for each question. Recall@k is the share of a question's evidence turns among the first k
hits, averaged over the questions. Left out: category 5 (questions without an answer), and questions whose evidence
names no turn of the conversation.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from memory.search import neighbours
from memory.search.analysis import Analyser
from memory.search.text import Scorer, query_terms, reference_match

UNANSWERABLE = 5
CUTS = (5, 10, 20)


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance. ``session`` is "1", "2"...; ``created_at`` the session's date and a second for each turn."""

    id: str
    session: str
    created_at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """One question, with the ids of the turns that answer it (never empty)."""

    text: str
    evidence: frozenset[str]
    category: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation: turns in order, and the questions that the protocol asks of it."""

    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]


def load(path: str | Path) -> list[Conversation]:
    """The conversations of a LoCoMo file."""
    return [_conversation(sample) for sample in json.loads(Path(path).read_text(encoding="utf-8"))]


def _conversation(sample: dict[str, Any]) -> Conversation:
    turns = tuple(_turns(sample["conversation"]))
    known = {turn.id for turn in turns}
    questions = []
    for qa in sample["qa"]:
        # Some fields hold several ids in one string: "D8:6; D9:17", "D9:1 D4:4 D4:6".
        evidence = known.intersection(re.findall(r"D\d+:\d+", " ".join(qa.get("evidence", ()))))
        if evidence and qa["category"] != UNANSWERABLE:
            questions.append(Question(qa["question"], frozenset(evidence), qa["category"]))
    return Conversation(sample["sample_id"], turns, tuple(questions))


def _turns(conversation: dict[str, Any]) -> Iterator[Turn]:
    numbers = sorted(int(name[8:]) for name in conversation if re.fullmatch(r"session_\d+", name))
    for number in numbers:
        date = datetime.strptime(f"{conversation[f'session_{number}_date_time']} +0000", "%I:%M %p on %d %B, %Y %z")
        for i, turn in enumerate(conversation[f"session_{number}"]):
            caption = turn.get("blip_caption")
            text = f"{turn['speaker']}: {turn['text']}" + (f" [shares {caption}]" if caption else "")
            yield Turn(turn["dia_id"], str(number), date + timedelta(seconds=i), text)


def recall(ranked_ids: Sequence[str], evidence: Collection[str], k: int) -> float:
    """Share of the evidence among the first k ids."""
    return len(set(ranked_ids[:k]).intersection(evidence)) / len(evidence)


class Reference:
    """Search over one conversation by the pure functions alone: what every store has to agree with."""

    def __init__(self, conversation: Conversation, analyser: Analyser) -> None:
        self._analyser = analyser
        self._items = []
        self._sessions: dict[str, list[str]] = {}
        self._place: dict[str, tuple[list[str], int]] = {}
        for turn in conversation.turns:
            created = int(turn.created_at.timestamp()) * 1_000_000
            self._items.append((turn.id, created, *analyser.counts(turn.text)))
            session = self._sessions.setdefault(turn.session, [])
            self._place[turn.id] = (session, len(session))
            session.append(turn.id)

    def search(self, query: str, n: int = 0) -> list[str]:
        """Ids of all hits, best first; ``n`` as in ``neighbours=n``."""
        terms = query_terms(self._analyser, query)
        df, candidates = reference_match(terms, self._items)
        scorer = Scorer(terms, df)
        scores = {found.key: scorer.score(found.counts, found.length) for found in candidates}
        if n:
            windows = [self._window(key, neighbours.reach(n)) for key in neighbours.best(scores)]
            scores = neighbours.share(scores, windows, n)
        return neighbours.best(scores, len(scores))

    def _window(self, key: str, size: int) -> tuple[str, list[str], list[str]]:
        session, i = self._place[key]
        return key, session[max(0, i - size) : i][::-1], session[i + 1 : i + 1 + size]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the recall of the reference implementation over a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.locomo", description="Evidence recall on LoCoMo.")
    parser.add_argument("file", help="path of a LoCoMo file (JSON)")
    conversations = load(parser.parse_args(arguments).file)
    analyser = Analyser()
    questions = [(conversation, question) for conversation in conversations for question in conversation.questions]
    stores = {conversation.name: Reference(conversation, analyser) for conversation in conversations}
    print(f"{len(conversations)} conversations, {len(questions)} questions")
    print("method".ljust(20), *(f"recall@{k}".rjust(10) for k in CUTS))
    for n in (0, 1, 2):
        ranked = [(stores[c.name].search(q.text, n), q.evidence) for c, q in questions]
        means = [fmean(recall(ids, evidence, k) for ids, evidence in ranked) for k in CUTS]
        print((f"text, neighbours={n}" if n else "text").ljust(20), *(f"{mean:10.4f}" for mean in means))


if __name__ == "__main__":
    main()
