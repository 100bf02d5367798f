"""Analyser, text score, candidate rule, neighbours, and the loader of the retrieval benchmark: all without a store."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from unicodedata import normalize

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import InvalidSetting
from memory.search import neighbours
from memory.search.analysis import MAX_TERM_BYTES, SLICE, Analyser
from memory.search.text import (
    CANDIDATES_PER_TERM,
    QUERY_TERM_CAP,
    Matcher,
    Scorer,
    idf,
    query_terms,
    reference_match,
    upper_bound,
)

ENGLISH = Analyser()
LANGUAGES = (
    *("arabic", "danish", "dutch", "dutch_porter", "english", "finnish", "french", "german", "greek", "hindi"),
    *("hungarian", "italian", "lithuanian", "nepali", "porter", "romanian", "russian", "serbian", "spanish"),
    *("tamil", "turkish", "yiddish"),
)
ANALYSERS = {language: Analyser(language) for language in LANGUAGES}
A_TERM = re.compile("[a-z0-9_\x80-\U0010ffff]+").fullmatch

# Any text at all, and text made of what the analyser treats in its own way.
curious = st.text(
    st.sampled_from("aYiIlnsß’''é\u0301\u0327_ -,\n\0\1İıΣς日本語カﾞ한국ไทยเ้\u200b\u200c\u00ad\ufe0f🎉🏽½ﬁＡ1²\ud800")
)
texts = st.one_of(st.text(), curious, st.text(st.sampled_from("abcdeilnstuyYIUH'"), max_size=40))


# --- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("'… — '' \0 \u0301", []),
        ("Caroline's cats, CATS' cat", ["carolin", "cat", "cat", "cat"]),
        ("don't don’t she'll shell", ["don_t", "don_t", "she_ll", "shell"]),
        ("'quoted' ''twice''", ["quot", "twice"]),
        ("connect_timeout=__init__", ["connect", "timeout", "init"]),
        ("2024-05-01 3.5 B2B", ["2024", "05", "01", "3", "5", "b2b"]),
        ("ＡＢＣ１２ ﬁne Straße STRASSE", ["abc12", "fine", "strass", "strass"]),
        ("co\u00adop e\u0301t\u00e9 \u00e9te\u0301", ["coop", "été", "été"]),
        ("ΐ Ϊ́", ["ΐ", "ΐ"]),
        ("猫", ["猫"]),
        ("黒猫が", ["黒", "黒猫", "猫", "猫が", "が"]),
        ("iPhone15を2台", ["iphone15", "を", "2", "台"]),
        ("日本、日本", ["日", "日本", "本", "日", "日本", "本"]),
        ("ｶﾞｽ ガス", ["ガ", "ガス", "ス", "ガ", "ガス", "ス"]),
        ("น้ำ", ["น้ํ", "น้ํา", "า"]),
        ("한국어", ["한", "한국", "국", "국어", "어"]),
        ("हिन्दी", ["हिन्दी"]),
        ("I ❤️ 🍕🍕 👍🏽", ["i", "❤", "🍕", "🍕", "👍"]),
    ],
)
def test_text_becomes_the_terms_the_module_promises(text: str, terms: list[str]) -> None:
    assert ENGLISH.terms(text) == terms


def test_apostrophes_separate_where_the_stemmer_does_not_know_them() -> None:
    assert Analyser("french").terms("L'homme qu’il") == ["homm", "il"]
    assert Analyser("portuguese").terms("d'agua") == ["d", "agu"]


def test_turkish_keeps_its_two_letters_i_apart() -> None:
    turkish = Analyser("turkish")
    assert turkish.terms("ISIR") == turkish.terms("ısır") == turkish.terms("ISIR é")[:1] != turkish.terms("isir")
    assert turkish.terms("İSİM") == turkish.terms("isim") == turkish.terms("I\u0307SI\u0307M")


@pytest.mark.parametrize("text", ["x" * 300, "é" * 300, "x" + "日" * 3 + "\u3099" * 300, "e" + "\u0301" * 300])
def test_a_long_word_is_cut_at_a_character_to_64_bytes(text: str) -> None:
    for term in ENGLISH.terms(text):
        assert 0 < len(term.encode()) <= MAX_TERM_BYTES
    assert ENGLISH.terms("é" * 300) == ["é" * 32]


def test_an_unknown_language_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InvalidSetting, match=r"Did you mean 'english'.*Supported: .*french") as caught:
        Analyser("englsh")
    assert caught.value.setting == "language"
    with pytest.raises(InvalidSetting, match="Supported"):
        Analyser("")


def test_the_identity_names_what_decides_the_terms() -> None:
    assert re.fullmatch(r"words-1 english snowball-\d+\.\d+", ENGLISH.identity)
    assert Analyser(" English ").identity == ENGLISH.identity != Analyser("german").identity


# --- properties of terms -----------------------------------------------------------------------


@given(texts, st.sampled_from(LANGUAGES))
@settings(max_examples=300, deadline=None)
def test_terms_in_every_language_are_plain_and_capped(text: str, language: str) -> None:
    for term in ANALYSERS[language].terms(text):
        assert A_TERM(term)
        assert len(term.encode()) <= MAX_TERM_BYTES


def test_no_character_of_unicode_makes_a_term_that_is_not_plain() -> None:
    for start in range(0, 0x33000, 256):
        text = "a".join(map(chr, range(start, start + 256)))
        assert all(map(A_TERM, ENGLISH.terms(text))), hex(start)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_fts5_tokenizes_terms_to_themselves(text: str) -> None:
    terms = ENGLISH.terms(text)
    db = apsw.Connection(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize=\"ascii tokenchars '_'\")")
    db.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, instance)")
    db.execute("INSERT INTO t VALUES (?)", (" ".join(terms),))
    assert [term for (term,) in db.execute("SELECT term FROM v ORDER BY offset")] == terms


@given(st.lists(texts, max_size=20).map(lambda parts: " ".join(part * 40 for part in parts)))
@settings(max_examples=60, deadline=None)
def test_slices_add_up_to_the_whole(text: str) -> None:
    slices = list(ENGLISH.iter_terms(text))
    assert [term for part in slices for term in part] == ENGLISH.terms(text)
    assert len(slices) <= 1 + 2 * len(text) // SLICE
    *_, (counts, length) = ENGLISH.iter_counts(text)
    assert (counts, length) == ENGLISH.counts(text)
    assert sum(counts.values()) == length == len(ENGLISH.terms(text))


@given(
    st.lists(st.text(st.sampled_from("abcdé日🎉'"), min_size=1, max_size=30), max_size=40), st.sampled_from(" \n,。")
)
@settings(deadline=None)
def test_slicing_does_not_cut_words_that_are_separated(words: list[str], separator: str) -> None:
    words.append("unbreakable")
    terms = [term for word in words for term in ENGLISH.terms(word)]
    assert ENGLISH.terms(separator.join(words * 120)) == terms * 120


def test_a_run_without_separators_is_cut_at_a_slice() -> None:
    assert [len(slice_) for slice_ in ENGLISH.iter_terms("日" * 2 * SLICE)] == [2 * SLICE - 1] * 2


@given(st.text(st.characters(max_codepoint=127), max_size=200))
@settings(deadline=None)
def test_the_fast_way_for_ascii_agrees_with_the_general_one(text: str) -> None:
    assert [*ENGLISH.terms(text), "é"] == ENGLISH.terms(text + " é")


@given(st.text(max_size=50) | curious.map(lambda text: text[:50]))
@settings(deadline=None)
def test_both_normal_forms_give_the_same_terms(text: str) -> None:
    assert ENGLISH.terms(normalize("NFC", text)) == ENGLISH.terms(normalize("NFD", text))


def test_full_caches_change_no_term() -> None:
    analyser = Analyser()
    text = "Caroline's étés 日本 🎉 " + "long" * 50
    before = analyser.terms(text)
    for i in range(40_000):
        analyser.terms(f"word{i}")
    for i in range(0x4E00, 0x4E00 + 20_000, 500):
        analyser.terms("".join(map(chr, range(i, i + 500))))
    assert analyser.terms(text) == before


def test_terms_and_scores_are_the_same_in_another_process() -> None:
    script = (
        "from memory.search.analysis import Analyser\n"
        "from memory.search.text import *\n"
        "a = Analyser()\n"
        "q = query_terms(a, \"Don't the cats' été 日本 sing?\")\n"
        "docs = [(i, i, *a.counts('the cats sing été 日本 ' * i)) for i in range(1, 9)]\n"
        "df, found = reference_match(q, docs)\n"
        "s = Scorer(q, df)\n"
        "print(ascii([a.identity, q, df, [(f.key, s.score(f.counts, f.length).hex()) for f in found]]))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent.parent)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert "0x1." in outputs.pop()


# --- queries and scores ------------------------------------------------------------------------


def test_a_query_keeps_its_first_64_distinct_terms_in_order() -> None:
    assert query_terms(ENGLISH, "the cat saw the cats") == ("the", "cat", "saw")
    many = " ".join(f"w{i} w0" for i in range(5_000))
    assert query_terms(ENGLISH, many) == tuple(f"w{i}" for i in range(QUERY_TERM_CAP))
    assert query_terms(ENGLISH, "?!") == ()
    assert query_terms(ENGLISH, "a " * 300_000 + "b") == ("a",)


def test_idf_is_capped_at_a_thousand_and_a_missing_term_weighs_as_the_rarest() -> None:
    assert idf(1) == idf(0) == math.log(101)
    assert idf(1_000) == idf(5_000) == math.log(1.0 + 100.0 / 1_000)


def test_the_score_is_the_documented_sum() -> None:
    scorer = Scorer(("common", "rare", "absent"), (200, 3, 7))
    length = 40
    norm = 1.2 * (0.25 + 0.75 * 40 / 32)
    rare = math.log(1 + 100 / 3) * 2 * 2.2 / (2 + norm)
    common = math.log(1 + 100 / 200) * 1 * 2.2 / (1 + norm)
    assert scorer.score((1, 2, 0), length) == rare + common
    assert scorer.rarest_first == (1, 2, 0)
    assert scorer.score((0, 0, 0), length) == 0.0
    assert Scorer((), ()).matched_share(()) == 0.0


queries = st.lists(
    st.tuples(st.text("abc", min_size=1), st.integers(0, 2_000)), min_size=1, max_size=12, unique_by=lambda q: q[0]
)


@given(queries, st.data())
@settings(deadline=None)
def test_more_occurrences_never_lower_a_score_and_the_bound_holds(
    query: list[tuple[str, int]], data: st.DataObject
) -> None:
    scorer = Scorer([term for term, _ in query], [df for _, df in query])
    counts = data.draw(st.lists(st.integers(0, 200_000), min_size=len(query), max_size=len(query)))
    length = data.draw(st.integers(0, 200_000))
    i = data.draw(st.integers(0, len(query) - 1))
    score = scorer.score(counts, length)
    assert 0.0 <= score <= sum(upper_bound(weight) for weight in scorer.weights)
    counts[i] += 1
    assert scorer.score(counts, length) >= score
    assert scorer.score(counts, length + 10) <= scorer.score(counts, length)


@given(queries, st.data())
@settings(deadline=None)
def test_the_order_of_query_terms_changes_no_bit_and_explain_adds_up(
    query: list[tuple[str, int]], data: st.DataObject
) -> None:
    occurrences = {term: data.draw(st.integers(0, 9)) for term, _ in query}
    results = set()
    for arranged in (query, data.draw(st.permutations(query))):
        scorer = Scorer([term for term, _ in arranged], [df for _, df in arranged])
        counts = scorer.counts(occurrences)
        total = 0.0
        for part in scorer.explain(counts, 17):
            assert part.tf == occurrences[part.term]
            total += part.contribution
        assert total == scorer.score(counts, 17)
        share = scorer.matched_share(counts)
        assert 0.0 <= share <= 1.0
        assert (share == 1.0) == all(occurrences.values())
        results.add((total, share))
    assert len(results) == 1


# --- candidates --------------------------------------------------------------------------------


def test_each_term_brings_its_thousand_newest_matches_ties_by_key() -> None:
    over = CANDIDATES_PER_TERM + 500
    common = [(f"k{i:05}", i // 2, {"common": 1}, 1) for i in range(over)]
    old = [("old", -5, {"rare": 1, "common": 3}, 4), ("none", 9_999, {"other": 1}, 1)]
    df, found = reference_match(("common", "rare", "missing"), [*old, *common])
    assert df == (CANDIDATES_PER_TERM, 1, 0)
    by_rule = sorted(common, key=lambda item: (-item[1], item[0]))[:CANDIDATES_PER_TERM]
    assert {f.key for f in found} == {"old", *(key for key, *_ in by_rule)}
    assert len(found) == CANDIDATES_PER_TERM + 1
    assert next(f for f in found if f.key == "old").counts == (3, 1, 0)


@given(st.integers(0, 2**32), st.integers(1, 700))
@settings(max_examples=15, deadline=None)
def test_the_candidates_do_not_depend_on_the_order_or_size_of_what_is_fed(seed: int, size: int) -> None:
    rng = random.Random(seed)
    items = [(i, rng.randrange(50), {"a": 1} if rng.random() < 0.9 else {"b": 2, "a": 1}, 3) for i in range(1_700)]
    df, found = reference_match(("b", "a"), items)
    rng.shuffle(items)
    matcher: Matcher[int] = Matcher(("b", "a"))
    for start in range(0, len(items), size):
        matcher.feed(items[start : start + size])
    assert matcher.df == df
    assert set(matcher.candidates()) == set(found)
    assert set(matcher.candidates()) == set(found), "reading twice"


def test_a_key_may_carry_a_payload_that_cannot_be_compared() -> None:
    items = [((f"k{i}", object()), 5, {"a": 1}, 1) for i in range(3_000)]
    _, found = reference_match(("a",), items)
    assert {f.key[0] for f in found} == set(sorted(f"k{i}" for i in range(3_000))[:CANDIDATES_PER_TERM])


# --- neighbours --------------------------------------------------------------------------------


def windows_of(line: list[str], anchors: list[str], size: int) -> list[tuple[str, list[str], list[str]]]:
    places = {key: i for i, key in enumerate(line)}
    return [(a, line[max(0, places[a] - size) : places[a]][::-1], line[places[a] + 1 :][:size]) for a in anchors]


def test_a_neighbour_shares_three_tenths_of_its_score() -> None:
    own = {"b": 1.0, "d": 2.0}
    windows = windows_of(["a", "b", "c", "d", "e"], neighbours.best(own), neighbours.reach(1))
    shared = neighbours.share(own, windows, 1)
    assert shared == pytest.approx({"a": 0.3 / 1.6, "b": 1 / 1.6, "c": 0.9 / 1.6, "d": 2 / 1.6, "e": 0.6 / 1.6})


@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.7]), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 5)
)
@settings(deadline=None)
def test_shared_scores_are_those_of_the_definition(scores: list[float], n: int, keep: int) -> None:
    line = [f"k{i:02}" for i in range(len(scores))]
    own = {key: score for key, score in zip(line, scores, strict=True) if score}
    anchors = neighbours.best(own, keep)
    shared = neighbours.share(own, windows_of(line, anchors, neighbours.reach(n)), n)
    places = {line.index(anchor) for anchor in anchors}
    assert set(shared) == {key for i, key in enumerate(line) if any(abs(i - place) <= n for place in places)}
    for key, score in shared.items():
        i = line.index(key)
        around = [scores[j] for j in range(max(0, i - n), min(len(line), i + n + 1)) if j != i]
        assert score == pytest.approx((scores[i] + 0.3 * sum(around)) / (1 + 0.6 * n))


def test_no_neighbours_leaves_scores_alone_and_the_best_are_ranked_with_ties_by_key() -> None:
    own = {"b": 1.0, "a": 1.0, "c": 2.0}
    assert neighbours.best(own) == ["c", "a", "b"]
    assert neighbours.best(own, 2) == ["c", "a"]
    assert neighbours.share(own, [("c", [], []), ("a", [], ["b"])], 0) == {"c": 2.0, "a": 1.0}


def test_a_window_longer_than_needed_changes_nothing_and_the_better_window_counts() -> None:
    own = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 9.0}
    exact = neighbours.share(own, [("a", [], ["b", "c"])], 1)
    assert neighbours.share(own, [("a", [], ["b", "c", "d", "e"])], 1) == exact
    assert neighbours.share(own, [("a", [], ["b", "c"]), ("b", ["d"], [])], 1)["b"] == exact["b"]


# --- the retrieval benchmark -------------------------------------------------------------------


def test_the_benchmark_reads_its_corpus_and_measures_recall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locomo = pytest.importorskip("benchmarks.locomo")
    conversation = {
        "speaker_a": "Ana",
        "session_2_date_time": "1:56 pm on 8 May, 2023",
        "session_2": [
            {"speaker": "Ana", "dia_id": "D2:1", "text": "Where is the piano?"},
            {"speaker": "Bo", "dia_id": "D2:2", "text": "Sold.", "blip_caption": "an empty room"},
        ],
        "session_1_date_time": "11:00 am on 1 May, 2023",
        "session_1": [{"speaker": "Bo", "dia_id": "D1:1", "text": "Hello"}],
    }
    qa = [
        {"question": "Who sold the piano?", "evidence": ["D2:2; D2:1"], "category": 1},
        {"question": "Not asked", "evidence": ["D2:1"], "category": 5},
        {"question": "Not asked", "evidence": ["D9:9"], "category": 1},
        {"question": "Not asked", "category": 1},
    ]
    file = tmp_path / "corpus.json"
    file.write_text(json.dumps([{"sample_id": "s", "conversation": conversation, "qa": qa}]))
    (loaded,) = locomo.load(file)
    assert [(turn.id, turn.session, turn.created_at.isoformat()) for turn in loaded.turns] == [
        ("D1:1", "1", "2023-05-01T11:00:00+00:00"),
        ("D2:1", "2", "2023-05-08T13:56:00+00:00"),
        ("D2:2", "2", "2023-05-08T13:56:01+00:00"),
    ]
    assert loaded.turns[2].text == "Bo: Sold. [shares an empty room]"
    assert [question.evidence for question in loaded.questions] == [{"D2:1", "D2:2"}]
    assert locomo.recall(["D2:1", "x", "D2:2"], {"D2:1", "D2:2"}, 2) == 0.5
    locomo.main([str(file)])
    printed = capsys.readouterr().out
    assert "1 conversations, 1 questions" in printed
    assert printed.splitlines()[2].split() == ["text", "1.0000", "1.0000", "1.0000"]
