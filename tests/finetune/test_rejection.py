"""Rejection sampling: acceptance against its closed form, best of K, pairs, and the ledger."""

import json
import math
from itertools import product

import polars as pl
import pytest
from click.testing import CliRunner

import siftune as sf
from siftune.curate.core.errors import DataError
from siftune.curate.core.registry import find
from siftune.curate.core.schema import TURNS, schema_of
from siftune.curate.rows.chat import turn
from siftune.curate.rows.convert import content_digest
from siftune.finetune.data import training_rows
from siftune.finetune.tools.rejection import Rejection, acceptance, accepted
from siftune.pipelines.cli import siftune


def ranked(lists):
    """Rows of (answers, scores)."""
    rows = []
    for number, (answers, scores) in enumerate(lists):
        said = [[turn("assistant", text)] for text in answers]
        row = {
            "id": f"r:{number}",
            "source": "r",
            "row": number + 1,
            "kind": "ranked",
            "extra": None,
            "prompt": [turn("user", f"Question {number}?")],
            "completions": said,
            "scores": scores,
            "attributes": None,
        }
        rows.append(row | {"digest": content_digest("ranked", row)})
    return pl.DataFrame(rows, schema_of("ranked"))


def kept(tmp_path, lists, **options):
    ranked(lists).write_parquet(tmp_path / "rows.parquet")
    Rejection(**options)(tmp_path / "rows.parquet", tmp_path / "out")
    read = {name: pl.read_parquet(tmp_path / f"out/{name}.parquet") for name in ("kept", "answers")}
    return read["kept"], read["answers"]


def reasons(answers):
    return dict(zip(answers["id"], answers["reason"], strict=True))


LISTS = [
    (["a", "b", "a", "c"], [1.0, 3.0, 1.0, 3.0]),
    (["d", "e"], [None, -2.0]),
    (["f", "g"], [None, None]),
]


def test_the_best_answer_is_kept_and_every_other_has_a_reason(tmp_path):
    rows, answers = kept(tmp_path, LISTS)
    assert [one[-1]["content"] for one in rows["messages"]] == ["b", "e"]
    assert rows["reward"].to_list() == [3.0, -2.0]
    assert rows["id"].to_list() == ["r:0#1", "r:1#1"]
    assert reasons(answers) == {
        "r:0#0": "not_the_best",
        "r:0#1": "best_of_k",
        "r:0#2": "same_answer",
        "r:0#3": "not_the_best",
        "r:1#0": "not_scored",
        "r:1#1": "best_of_k",
        "r:2#0": "not_scored",
        "r:2#1": "not_scored",
    }
    facts = json.loads((tmp_path / "out/rejection.json").read_text())
    assert sum(facts["reasons"].values()) == answers.height == 8
    assert facts["means"]["score"] == pytest.approx((1 + 3 + 1 + 3 - 2) / 5)
    assert facts["means"]["score_kept"] == 0.5


def test_several_are_kept_in_the_order_of_their_scores_and_none_below_the_least(tmp_path):
    rows, answers = kept(tmp_path, LISTS, count=2, min_score=1.5)
    assert rows["id"].to_list() == ["r:0#1", "r:0#3"]
    assert reasons(answers)["r:1#1"] == "below_min_score"
    assert json.loads(answers["detail"][0]) == {"min_score": 1.5}


def test_pairs_are_of_the_best_and_the_worst(tmp_path):
    lists = [*LISTS, (["x", "y", "z"], [2.0, 5.0, 3.0]), (["p", "q"], [1.0, 1.0])]
    rows, answers = kept(tmp_path, lists, into="pairs")
    said = [[row[side][0]["content"] for side in ("chosen", "rejected")] for row in rows.to_dicts()]
    assert said == [["b", "a"], ["y", "x"]]
    assert rows["score_chosen"].to_list() == [3.0, 5.0]
    assert rows["score_rejected"].to_list() == [1.0, 2.0]
    found = reasons(answers)
    assert (found["r:3#2"], found["r:4#0"], found["r:4#1"]) == ("between", *["equal_scores"] * 2)
    assert (found["r:1#1"], found["r:0#1"]) == ("no_other_answer", "chosen")


def test_the_first_pass_accepts_with_its_closed_form():
    scores, beta = [0.0, 1.0, 0.25, 0.7], 0.4
    chances = acceptance(scores, beta)
    assert chances == pytest.approx([math.exp((one - 1) / beta) for one in scores])
    for at, chance in enumerate(chances):
        edges = [chance - 1e-9, chance + 1e-9]
        inside = [at in dict(accepted(scores, beta, None, lambda i, _, u=u: u)) for u in edges]
        assert inside == [True, chance == 1 and False]


def test_an_accepted_answer_beyond_the_count_is_told_from_one_that_was_not_accepted(tmp_path):
    _, answers = kept(tmp_path, [(["a", "b", "c"], [1.0, 1.0, -9e9])], method="rso", count=1)
    assert [*reasons(answers).values()] == ["accepted", "over_count", "not_accepted"]
    assert json.loads(answers["detail"][1]) == {"count": 1}


def test_later_passes_have_the_largest_score_of_what_is_left():
    """Enumerated: of scores 2, 1, 0 two are wanted; each set of draws on a grid of u."""
    grid = [(at + 0.5) / 12 for at in range(12)]
    found = dict.fromkeys([(0, 1), (0, 2)], 0)
    for draws in product(grid, repeat=3):
        table = {(1, 1): draws[0], (2, 1): draws[1], (2, 2): draws[2]}
        got = accepted([2, 1, 0], 1.0, 2, lambda at, turn, t=table: t.get((at, turn), 0.0))
        found[tuple(at for at, _ in got[:2])] += 1
    # in pass 1 the first is accepted, the second with e^-1, else the third with e^-2; else in
    # pass 2 the second, which is then the best
    third = (1 - round(12 * math.exp(-1)) / 12) * round(12 * math.exp(-2)) / 12
    assert found[0, 2] / 12**3 == pytest.approx(third)
    assert accepted([2, 1, 0], 1.0, 5, lambda *_: 0.0) == [(0, 1), (1, 1), (2, 1)]
    assert accepted([], 1.0, 5, lambda *_: 0.0) == []


def test_accepted_draws_follow_the_tilted_law(tmp_path):
    """Draws from π, one pass: the accepted ones follow π · exp(r / β) / Z (chi-squared, 3 df)."""
    law, reward, beta, size = [0.4, 0.3, 0.2, 0.1], [0.0, 0.5, 1.0, 1.5], 0.7, 1000
    texts = "wxyz"
    counts = [round(share * size) for share in law]
    answers = [text for text, count in zip(texts, counts, strict=True) for _ in range(count)]
    scores = [reward[texts.index(text)] for text in answers]
    rows, _ = kept(tmp_path, [(answers, scores)], method="rso", beta=beta, seed=3)
    tilted = [p * math.exp(r / beta) for p, r in zip(law, reward, strict=True)]
    said = [one[-1]["content"] for one in rows["messages"]]
    expected = [len(said) * one / sum(tilted) for one in tilted]
    chi = sum((said.count(t) - e) ** 2 / e for t, e in zip(texts, expected, strict=True))
    assert chi < 16.3  # p = .001
    assert abs(len(said) / (size * sum(tilted) / math.exp(1.5 / beta)) - 1) < 0.2


def test_draws_depend_on_the_seed_and_the_row_alone(tmp_path):
    lists = [([f"{n}{at}" for at in range(9)], [at / 9 for at in range(9)]) for n in "abc"]
    options = {"method": "rso", "count": 4}
    rows, _ = kept(tmp_path, lists, **options)
    assert rows.height == 12
    table = ranked(lists)
    table[[2, 0]].write_parquet(tmp_path / "rows.parquet")
    Rejection(**options)(tmp_path / "rows.parquet", tmp_path / "out")
    turned = pl.read_parquet(tmp_path / "out/kept.parquet")
    known = {*rows["id"]}
    assert {*turned["id"]} == {one for one in known if not one.startswith("r:1#")}
    other, _ = kept(tmp_path, lists, **options, seed=1)
    assert {*other["id"]} != known


def test_accepted_answers_are_paired_in_the_order_of_acceptance(tmp_path):
    lists = [(["a", "b", "c", "d", "e"], [5.0, 5.0, 1.0, 4.0, 2.0])]
    rows, answers = kept(tmp_path, lists, method="rso", beta=1e9, into="pairs")
    assert [row["id"] for row in rows.to_dicts()] == ["r:0#3-2"]
    assert [*reasons(answers).values()] == [
        *("equal_scores", "equal_scores", "rejected", "chosen", "no_other_answer")
    ]


def test_it_is_a_command_a_function_and_a_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ranked(LISTS).write_parquet("rows.parquet")
    words = ["rows.parquet", "--count", "1", "--out", "a"]
    done = CliRunner().invoke(siftune, ["finetune", "rejection", *words])
    assert done.exit_code == 0, done.output
    assert "score_kept 0.5" in done.output
    result = sf.rejection("rows.parquet", out="b")
    assert result.rows == 2
    assert find("pipelines.row_steps", "rejection") is Rejection
    assert (Rejection().makes, Rejection(into="pairs").makes) == ("conversation", "preference")
    frames = [pl.read_parquet(f"{name}/kept.parquet") for name in "ab"]
    assert frames[0].equals(frames[1])


def test_answers_in_the_prompt_are_not_learned(tmp_path):
    """They were not sampled: SFT learns every assistant turn whose weight is not 0."""
    said = [turn("user", "Hi?"), turn("assistant", "Hi."), turn("user", "And?")]
    extra = {
        "tools": [],
        "prompt.fields": [{}, {"train": 1, "tag": "t"}, {}],
        "completions[0].fields": [{"reasoning": "worse"}],
        "completions[1].fields": [{"reasoning": "better"}],
    }
    table = ranked([(["a", "b"], [0.0, 1.0])] * 3).with_columns(
        prompt=pl.Series([said, said, said[:1]], dtype=TURNS),
        extra=pl.Series([json.dumps(extra), None, '{"a": 1}']),
    )
    table.write_parquet(tmp_path / "rows.parquet")
    Rejection()(tmp_path / "rows.parquet", tmp_path / "out")
    rows = training_rows.to_conversations(pl.read_parquet(tmp_path / "out/kept.parquet"))
    assert [[one.get("weight", 1) for one in row["messages"]] for row in rows] == [
        [1, 0, 1, 1], [1, 0, 1, 1], [1, 1],
    ]  # fmt: skip
    assert rows[0]["messages"][-1]["reasoning_content"] == "better"
    first, _, third = pl.read_parquet(tmp_path / "out/kept.parquet")["extra"]
    assert json.loads(first) == {
        "tools": [],
        "messages.fields": [{}, {"tag": "t", "weight": 0}, {}, {"reasoning": "better"}],
    }
    assert third == '{"a": 1}'


@pytest.mark.parametrize("method", ["best", "rso"])
def test_answers_of_opponents_are_not_taken_for_the_policys(tmp_path, method):
    table = ranked([(["a", "b"], [1.0, 2.0]), (["c"], [0.0])])
    table = table.with_columns(by_reference=pl.Series([[0.0, 1.0], None]))
    table.write_parquet(tmp_path / "rows.parquet")
    Rejection(method=method)(tmp_path / "rows.parquet", tmp_path / "out")
    kept = pl.read_parquet(tmp_path / "out/kept.parquet")
    assert [one[-1]["content"] for one in kept["messages"]] == ["a", "c"]
    assert reasons(pl.read_parquet(tmp_path / "out/answers.parquet"))["r:0#1"] == "by_reference"
    assert json.loads((tmp_path / "out/rejection.json").read_text())["means"]["score"] == 0.5


def test_rows_without_scores_are_refused(tmp_path):
    with pytest.raises(DataError, match="no answer has a score: sample with a reward"):
        kept(tmp_path, [(["a", "b"], None)])
    with pytest.raises(DataError, match="no answer is kept of 2: 2 below_min_score"):
        kept(tmp_path, [(["a", "b"], [0.0, 0.5])], min_score=1)
    for wrong in ({"beta": 0.0}, {"min_score": math.inf}, {"into": "pairs", "count": 2}):
        with pytest.raises(ValueError, match=r"beta|min_score|count"):
            Rejection(**wrong)
