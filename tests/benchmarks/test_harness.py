"""The benchmark's own arithmetic: data, truth, ratios, tables; on a few rows, without peers."""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import made_up
from benchmarks.__main__ import main
from benchmarks.data import RATES, Data, compose, edit, plant
from benchmarks.figures import Topic, as_json, chart, lines_of, markdown
from benchmarks.measure import Contestant, Failed, Sample, Spread, alternate, ratios, run_once
from benchmarks.topics.fuzzy_dedup import survivors
from benchmarks.topics.selection import objective
from benchmarks.truth import (
    Pairs,
    cosine_violations,
    cover_violations,
    near_pairs,
    precision,
    shares,
    words_of,
)
from benchmarks.worker import timed

WORDS = [f"{letter}word" for letter in "abcdefghijklmno"]


def text(*words: int) -> str:
    return " ".join(WORDS[word] for word in words)


NINE = text(*range(9))  # 5 shingles
TEN = text(*range(10))  # 6, of which 5 are NINE's: 5/6
OTHER = text(*range(5, 15))  # 6, of which 1 is TEN's
SHORT = text(0, 1)  # one shingle: all of it


def sample(cpu: float) -> Sample:
    return Sample(cpu=cpu, wall=cpu, process_cpu=cpu, peak_mb=1.0, facts={})


def test_true_pairs_have_the_jaccard_similarity_worked_by_hand() -> None:
    pairs = near_pairs(pl.Series([NINE, TEN, OTHER, SHORT, SHORT]), 0.7)
    found = dict(zip(zip(pairs.left, pairs.right, strict=True), pairs.shared, strict=True))
    assert found == {(1, 0): 5, (4, 3): 1}
    assert pairs.union.tolist() == [6, 1]


def test_true_pairs_are_those_of_comparing_all_with_all() -> None:
    random = np.random.default_rng(0)
    base = [text(*random.integers(0, 15, 30)) for _ in range(20)]
    words = pl.Series(WORDS)
    texts = pl.concat([pl.Series(base), edit(pl.Series(base), 0.03, words, random)])
    grams = [_grams(one) for one in texts]
    expected = {
        (j, i)
        for i, j in combinations(range(len(texts)), 2)
        if 10 * len(grams[i] & grams[j]) >= 7 * len(grams[i] | grams[j])
    }
    pairs = near_pairs(texts, 0.7)
    assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == expected
    assert expected


def _grams(one: str) -> set[tuple[str, ...]]:
    words = one.split()
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))}


def test_a_pair_exactly_at_the_threshold_counts() -> None:
    pairs = near_pairs(pl.Series([NINE, TEN]), 0.5)
    at = Pairs(pairs.left, pairs.right, np.array([7]), np.array([10]), pairs.sets)
    assert at.above(0.7).tolist() == [True]
    assert at.above(0.71).tolist() == [False]


def test_words_are_those_that_the_deduplicator_documents() -> None:
    assert words_of("Don't STOP\u00ad it: Straße, 東京_1 e\u0301") == [
        "don",
        "t",
        "stop",
        "it",
        "straße",
        "東",
        "京",
        "_1",
        "e\u0301",
    ]


def test_recall_and_precision_count_pairs_and_removed_texts() -> None:
    pairs = near_pairs(pl.Series([NINE, TEN, SHORT, SHORT, OTHER]), 0.7)
    gone = np.array([False, True, False, False, True])  # one pair broken up, one text for nothing
    assert shares(pairs, gone, 0.7) == 0.5
    assert precision(pairs, gone, 0.7) == 0.5
    assert shares(pairs, gone, 0.9) == 0.0  # only the two short ones are that near
    assert precision(pairs, np.zeros(5, bool), 0.7) is None


def test_the_cover_rule_is_broken_by_a_wrong_survivor_and_by_a_pair_left_over() -> None:
    pairs = near_pairs(pl.Series([NINE, TEN, OTHER]), 0.7)
    assert cover_violations(pairs, np.array([-1, 0, -1]), 0.7) == (0, 0)
    assert cover_violations(pairs, np.array([-1, -1, -1]), 0.7) == (0, 1)
    assert cover_violations(pairs, np.array([-1, 2, -1]), 0.7) == (1, 0)
    assert cover_violations(pairs, np.array([1, 0, -1]), 0.7) == (2, 0)  # each names a dropped one


def test_the_cover_rule_by_cosine_finds_the_same_faults() -> None:
    vectors = np.array([[1, 0], [0.99, 0.1], [0, 1]], np.float32)
    assert cosine_violations(vectors, np.array([-1, 0, -1]), 0.9) == (0, 0)
    assert cosine_violations(vectors, np.array([-1, -1, -1]), 0.9) == (0, 1)
    assert cosine_violations(vectors, np.array([-1, 2, -1]), 0.9) == (1, 0)


def test_planting_is_repeatable_and_a_fifth_are_copies_at_every_rate() -> None:
    real = pl.Series([f"{text(*range(15))} number {i} of many here." for i in range(400)])
    planted = plant(real, 500, seed=1)
    assert planted.equals(plant(real, 500, seed=1))
    assert not planted.equals(plant(real, 500, seed=2))
    copies = 500 - planted.is_in(real.implode()).sum()
    unedited = 100 // len(RATES) + 1  # those at rate 0
    assert 0 < copies <= 100 - unedited + 1


def test_editing_changes_about_the_share_of_words_it_says() -> None:
    texts = pl.Series([" ".join(["same"] * 100)] * 50)
    edited = edit(texts, 0.2, pl.Series(["other"]), np.random.default_rng(0))
    changed = edited.str.count_matches("other").sum() / 5000
    assert 0.17 < changed < 0.23
    assert edit(texts, 0.0, pl.Series(["other"]), np.random.default_rng(0)).equals(texts)


def test_composed_texts_are_made_of_the_sentences() -> None:
    made = compose(pl.Series(["One is.", "Two is."]), 5, np.random.default_rng(0))
    assert len(made) == 5
    assert made.str.contains(r"^(?:(?:One|Two) is\. ?){3,12}$").all()


def test_no_sentence_is_composed_twice_before_all_are() -> None:
    sentences = pl.Series([f"S{i}." for i in range(40)])
    made = compose(sentences, 20, np.random.default_rng(0)).str.split(" ").explode()
    times = made.value_counts()["count"]
    assert len(times) == 40
    assert times.max() - times.min() <= 1


def test_planted_texts_begin_with_a_word() -> None:
    real = pl.Series([f"{i} \n a  b \n\n c d e f {i}." for i in range(400)])
    assert not plant(real, 500, seed=1).str.contains(r"^\s").any()


def test_a_ratio_is_taken_turn_by_turn_and_by_the_row() -> None:
    slow, fast = [sample(4.0), sample(9.0), sample(4.0)], [sample(1.0), sample(3.0), sample(2.0)]
    assert ratios(slow, fast, 100, 100) == Spread(2.0, 3.0, 4.0)
    assert ratios(slow, fast, 50, 100) == Spread(4.0, 6.0, 8.0)
    assert ratios([sample(6.0)], fast, 100, 100) == Spread(2.0, 3.0, 6.0)  # it ran once


def test_goals_of_speed_are_not_judged_at_other_sizes() -> None:
    contestants = [Contestant("ours", "m", {}, 10), Contestant("peer", "m", {}, 10)]
    samples = {"ours": [sample(1.0)], "peer": [sample(3.0)]}
    for judged, expected in ((True, [False, True]), (False, [None, True])):
        topic = Topic("t", "about", judged, lines_of(contestants, samples, "ours"))
        topic.ratio("peer", 4)
        topic.at_least("recall", 1.0, 0.99)
        assert [check.met for check in topic.checks] == expected


def test_the_tables_and_the_chart_name_everyone_and_read_back() -> None:
    contestants = [Contestant("ours", "m", {}, 10), Contestant("a<b", "m", {}, 10)]
    samples = {"ours": [sample(1.0)], "a<b": [sample(3.0)]}
    topic = Topic("t", "about", True, lines_of(contestants, samples, "ours"), notes=["left: x"])
    topic.ratio("not there", 4)
    table = markdown({"cores": 2}, [topic])
    assert "| a<b | 10 | 1 | 3 |" in table
    assert "not measured" in table
    assert "- left: x" in table
    assert "a&lt;b" in chart([topic])
    assert (
        json.loads(json.dumps(as_json({}, [topic])))["topics"]["t"]["lines"][1]["cpu"]["low"] == 3
    )


def test_topics_of_earlier_runs_stay_in_the_table(tmp_path: Path) -> None:
    from benchmarks.__main__ import _write

    first, second = (Topic(name, "about") for name in ("ingest", "fuzzy_dedup"))
    first.lines = lines_of(
        [Contestant("ours", "module", {}, 2), Contestant("theirs", "module", {}, 2)],
        {"ours": [Sample(1.0, 1.0, 1.0, 1.0, {})], "theirs": [Sample(3.0, 1.0, 1.0, 1.0, {})]},
        "ours",
    )
    first.at_least("speed", 3.0, 2.0)
    _write(tmp_path, {"cores": 2}, [first])
    _write(tmp_path, {"cores": 2}, [second])
    assert json.loads((tmp_path / "figures.json").read_text()) == as_json(
        {"cores": 2}, [second, first]
    )
    assert (tmp_path / "figures.md").read_text() == markdown({"cores": 2}, [second, first])
    assert "theirs" in (tmp_path / "ratios.svg").read_text()


def test_what_cannot_run_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    said: list[str] = []
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    options = {"vectors": str(tmp_path / "v.npy"), "out": str(tmp_path / "picks.npy")}
    asked = options | {"first": 2, "k": 3, "way": "exact"}
    there = Contestant("k-center", "benchmarks.references.k_center", asked, 1)
    missing = Contestant("gone", "benchmarks.ours.no_such_module", {}, 1, 2, install="gone-package")
    samples = alternate([missing, there], said.append, room_mb=1)
    assert list(samples) == ["k-center"]
    assert np.load(tmp_path / "picks.npy").tolist() == [2, 0, 1]
    assert samples["k-center"][0].peak_mb > 1
    assert "gone: not installed: pip install gone-package" in said[0]
    with pytest.raises(Failed, match="KeyError"):
        run_once(Contestant("asked wrongly", "benchmarks.references.k_center", {}, 1))


def test_time_is_that_of_the_work_inside() -> None:
    facts: dict[str, float] = {}
    with timed(facts):
        sum(range(200_000))
    assert 0 < facts["cpu"] <= facts["wall"] * 2 + 0.05
    assert "benchmarks" in sys.modules


def test_survivors_are_named_by_row(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "id": ["a", "b", "c"],
            "keep": [True, False, True],
            "detail": ['{"group":2}', '{"similarity":0.9,"survivor":"c"}', None],
        }
    ).write_parquet(tmp_path / "decided.parquet")
    assert survivors(tmp_path / "decided.parquet").tolist() == [-1, 2, -1]


def test_the_objective_adds_up_the_nearest_picks() -> None:
    vectors = np.array([[1, 0], [0, 2], [-1, 0]], np.float32)
    assert objective(vectors, np.array([0])) == 1.0  # the third is opposite: 0, not -1
    assert objective(vectors, np.array([0, 1])) == 2.0


def test_without_data_texts_are_made_up_from_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_up, "_ROWS", {"text_openstax": 3, "text_books_public_domain": 3})
    monkeypatch.setattr(made_up, "_USUAL", 40)
    monkeypatch.setattr(made_up, "WORDS", 300)
    made = [pl.read_ndjson(Data(tmp_path / str(n)).alpaca(20)) for n in range(2)]
    assert made[0].equals(made[1])
    assert made[0].columns == ["instruction", "input", "output"]
    assert made[0]["output"].n_unique() == 20
    assert set(pl.read_parquet(Data(tmp_path / "0").texts(30)).columns) == {"row", "text"}
    assert pl.read_ndjson(Data(tmp_path / "0").jsonl(30)).height == 30


def test_data_that_is_named_and_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("--data: ")
    assert said.count("\n") == 1
