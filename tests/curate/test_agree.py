"""`siftune curate agree`: labels of judges in one file against gold labels in another."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

import siftune
from siftune.curate.cli import curate
from siftune.curate.core.errors import SiftuneError, UsageError
from siftune.curate.judge_stats.agreement import cohen_kappa, numbered
from siftune.curate.judge_stats.report import compare
from siftune.curate.judge_stats.win_rates import gold_allocation

Labels = list[dict[str, Any]]


def labels(rows: int = 80, gold_rows: int = 40) -> tuple[Labels, Labels]:
    """Two judges of pairs, two pairs a prompt; gold labels of the first rows, some of them ties."""
    source = random.Random(4)
    judged, gold = [], []
    for at in range(rows):
        truth = source.choices(["first", "second", "tie"], [5, 4, 1])[0]
        other = source.choice(["first", "second"])
        strict = truth if source.random() < 0.9 else other
        lax = truth if source.random() < 0.6 else other
        prompt = f"Question {at // 2}?"
        judged.append({"id": f"r:{at}", "prompt": prompt, "strict": strict, "lax": lax})
        if at < gold_rows:
            gold.append({"id": f"r:{at}", "label": truth})
    return judged, gold


def written(folder: Path, judged: Labels, gold: Labels) -> tuple[str, str]:
    paths = folder / "judged.jsonl", folder / "gold.jsonl"
    for path, rows in zip(paths, (judged, gold), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(paths[0]), str(paths[1])


def called(*words: str) -> Result:
    return CliRunner().invoke(curate, ["agree", *words])


def test_kappa_comes_first_and_no_number_is_without_an_interval(tmp_path: Path) -> None:
    paths = written(tmp_path, *labels())
    shown = called(*paths, "--judge", "strict,lax", "--label", "label", "--win", "first").output
    lines = shown.splitlines()
    assert lines[0] == (
        "40 rows compared, of 20 prompts (80 judged, 40 gold, 4 gold ties); labels are nominal"
    )
    assert re.match(r"  kappa +strict ", lines[1])
    figures = lines[1 : lines.index("rows that differ most:")]
    assert len(figures) == 23
    assert re.match(
        r"  for win_rate_rogan_gladen of \w+, label 100 more rows: \d+ losses", figures[-3]
    )
    for line in figures[:-3]:
        assert re.search(r"  -?\d\.\d{3} \(-?\d\.\d{3} … -?\d\.\d{3}\)  \d+ rows$", line)


def test_figures_are_those_of_the_functions_with_prompts_as_draws(tmp_path: Path) -> None:
    judged, gold = labels()
    paths = written(tmp_path, judged, gold)
    result = called(*paths, "--judge", "lax", "--label", "label", "--json")
    found = json.loads(result.output)
    (lax, truth), _ = numbered([row["lax"] for row in judged[:40]], [row["label"] for row in gold])
    expected = cohen_kappa(lax, truth, [row["prompt"] for row in judged[:40]])
    assert found["figures"]["kappa"]["lax"]["value"] == pytest.approx(expected.value)
    assert found["figures"]["kappa"]["lax"]["low"] == pytest.approx(expected.low)
    assert found["rows"]["prompts"] == expected.prompts == 20
    assert found["figures"]["accuracy"]["lax"]["rows"] == 36  # four gold ties apart
    alone = called(*paths, "--judge", "lax", "--label", "label", "--json", "--prompt", "id").output
    assert json.loads(alone)["rows"]["prompts"] == 40


def test_rows_that_differ_most_are_listed_with_their_labels() -> None:
    judged, gold = labels()
    judged[7] |= {"strict": "first", "lax": "first"}
    gold[7]["label"] = "second"
    found = siftune.agree(judged, gold, ["strict", "lax"], label="label", worst=100)
    both = [row for row in found.disagreements if row["gold"] not in row["judges"].values()]
    assert {"key": "r:7", "gold": "second", "judges": {"strict": "first", "lax": "first"}} in both
    assert list(found.disagreements[: len(both)]) == both
    assert "strict first, lax first" in str(found)


def test_a_panel_votes_and_its_judges_are_compared_with_each_other() -> None:
    judged, gold = labels()
    for row in judged:
        row |= {"third": row["strict"], "fourth": row["strict"]}
    found = siftune.agree(judged, gold, ["strict", "lax", "third", "fourth"], label="label")
    kappa = found.figures["kappa"]
    assert kappa["panel of 4"] == kappa["strict"]
    assert found.figures["alpha_among_judges"]["all"].rows == 80


@pytest.mark.parametrize("none", [(math.inf, -math.inf), ("1e999", "nan")])
def test_what_is_not_finite_is_no_label_in_any_figure(none: tuple[Any, Any]) -> None:
    """20 of 60 rows: each figure is of the 40 others, as without these labels."""
    source, kind = random.Random(0), type(none[0])
    judged, gold = [], []
    for at in range(60):
        label = source.randrange(2)
        share = min(0.99, max(0.01, source.gauss(0.3 + 0.4 * label, 0.2)))
        gold.append({"id": str(at), "label": label})
        judged.append({"id": str(at), "p": kind(share)})
    some, fewer = (
        judged[:40] + [{"id": str(at), "p": one[at % 2]} for at in range(40, 60)]
        for one in (none, (None, None))
    )
    found, alone = (siftune.agree(rows, gold, "p", label="label") for rows in (some, fewer))
    assert (found.rows["compared"], found.rows["unscored"]) == (40, {"p": 20})
    assert {"kappa", "accuracy", "brier"} <= found.figures.keys()
    assert found.figures == alone.figures
    assert {by["p"].rows for by in found.figures.values()} == {40}
    numbers = [float(row["p"]) for row in some]
    direct = compare({"p": numbers}, [row["label"] for row in gold], range(60))
    assert direct.figures == alone.figures


def test_unscored_rows_are_counted_and_not_compared() -> None:
    judged, gold = labels()
    for row in judged[:10]:
        row["strict"] = None
    found = siftune.agree(judged, gold, "strict", label="label")
    assert found.rows["unscored"] == {"strict": 10}
    assert found.rows["compared"] == found.figures["kappa"]["strict"].rows == 30


def test_win_rates_are_corrected_only_where_rows_without_gold_are() -> None:
    judged, gold = labels(400, 150)
    found = siftune.agree(judged, gold, "strict", label="label", win="first").figures
    assert found["win_rate"]["strict"].rows == 400
    assert found["win_rate"]["gold"].rows == 150
    assert found["win_rate_prediction_powered"]["strict"].rows == 400
    assert found["win_rate_rogan_gladen"]["strict"].value == pytest.approx(0.55, abs=0.15)
    found = siftune.agree(judged, gold, "strict", label="label", win="first")
    said = [row["strict"] for row in judged[:150]]
    both = list(zip(said, [row["label"] for row in gold], strict=True))
    both = [one for one in both if "tie" not in one]
    losses, wins = (sum(truth == label for _, truth in both) for label in ("second", "first"))
    q0 = both.count(("second", "second")) / losses
    q1 = both.count(("first", "first")) / wins
    rate = found.figures["win_rate_rogan_gladen"]["strict"].value
    wanted, _ = gold_allocation(q0, q1, rate, losses + wins + 100)
    assert found.label_next["strict"] == {"losses": wanted - losses, "wins": 100 + losses - wanted}
    whole = siftune.agree(judged[:150], gold, "strict", label="label", win="first").figures
    assert "win_rate_rogan_gladen" not in whole
    assert "win_rate" in whole


@pytest.mark.parametrize("win", ["first", None])
def test_ties_of_the_judge_alone_hide_no_figure_of_text_labels(win: str | None) -> None:
    """Labels that are texts have codes, which are no scale: a third one is no rating of 2."""
    judged, gold = labels(120, 60)
    gold = [row for row in gold if row["label"] != "tie"]
    judged[0]["strict"] = "tie"
    found = siftune.agree(judged, gold, "strict", label="label", win=win)
    assert not found.not_estimable
    corrected = ["win_rate_rogan_gladen", "win_rate_prediction_powered"]
    assert [*found.figures] == ["kappa", "alpha", "accuracy", *["win_rate", *corrected] * bool(win)]


def test_what_cannot_be_estimated_has_its_reason() -> None:
    source = random.Random(1)
    judged = [{"id": at, "wins": source.randint(0, 1)} for at in range(200)]
    gold = [{"id": at, "wins": source.randint(0, 1)} for at in range(60)]
    found = siftune.agree(judged, gold, "wins")
    assert found.level == "nominal"
    assert "not identified" in found.not_estimable["win_rate_rogan_gladen"]["wins"]
    assert "win_rate_rogan_gladen: not estimable for wins: not identified" in str(found)


def test_scores_are_ranks_or_numbers_and_probabilities_are_calibrated() -> None:
    source = random.Random(2)
    judged, gold = [], []
    for at in range(120):
        sure = source.random()
        win = source.random() < 0.5 + 0.4 * (sure - 0.5)
        stars = source.randint(1, 5)
        judged.append({"id": at, "stars": max(1, stars - source.randint(0, 1)), "p": sure})
        gold.append({"id": at, "stars": stars, "score": stars + source.random(), "win": win})
    ranks = siftune.agree(judged, gold, "stars")
    assert ranks.level == "ordinal"
    assert next(iter(ranks.figures)) == "kappa_quadratic"
    assert siftune.agree(judged, gold, "stars", label="score").level == "interval"
    chances = siftune.agree(judged, gold, "p", label="win")
    assert chances.level == "probability"
    by = chances.figures
    assert (
        by["rms_calibration_error_calibrated"]["p"].value < by["rms_calibration_error"]["p"].value
    )
    assert by["brier_calibrated"]["p"].value < by["brier"]["p"].value
    assert siftune.agree(judged, gold, "stars", level="nominal").level == "nominal"


@pytest.mark.parametrize(("word", "rate"), [("true", 0.75), ("False", 0.25), ("1", 0.75)])
def test_a_win_of_booleans_is_named_by_its_word(tmp_path: Path, word: str, rate: float) -> None:
    judged = [{"id": at, "good": at % 4 > 0} for at in range(80)]
    paths = written(tmp_path, judged, judged[:40])
    shown = json.loads(called(*paths, "--judge", "good", "--win", word, "--json").output)
    assert shown["figures"]["win_rate"]["good"]["value"] == rate


def test_files_of_any_kind_and_run_folders_are_joined(tmp_path: Path) -> None:
    raw = [{"prompt": f"Say {at}.", "response": "word " * (at % 7 + 1)} for at in range(30)]
    rows = siftune.read(raw).score("length")
    gold = rows.kept.select("digest", pl.col("length_words").alias("words"))
    gold.write_csv(tmp_path / "gold.csv")
    gold.write_parquet(tmp_path / "gold.parquet")
    for name in ("gold.csv", "gold.parquet"):
        found = siftune.agree(rows, tmp_path / name, "length_words", label="words")
        assert found.figures["spearman"]["length_words"].value == pytest.approx(1)
        assert found.rows["prompts"] == 30
    words = ("--judge", "length_words", "--label", "words")
    assert called(str(rows.folder), str(tmp_path / "gold.csv"), *words).exit_code == 0


def test_answers_to_one_question_are_one_prompt() -> None:
    raw = [
        {
            "messages": [
                {"role": "user", "content": f"Q{at % 5}"},
                {"role": "assistant", "content": f"A{at}"},
            ]
        }
        for at in range(20)
    ]
    judged = siftune.read(raw).score("length").kept
    gold = judged.select("id", pl.col("length_chars").alias("chars"))
    assert siftune.agree(judged, gold, "length_chars", label="chars").rows["prompts"] == 5


def refused(judged: Sequence[Any], gold: Sequence[Any], judge: Any = "j", **how: Any) -> str:
    with pytest.raises(UsageError) as error:
        siftune.agree(judged, gold, judge, **how)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bad_input_is_one_line_that_names_file_row_and_option(tmp_path: Path) -> None:
    judged = [{"id": at, "j": at % 3} for at in range(9)]
    gold = [{"id": at, "j": at % 3, "g": "x"} for at in range(9)]
    assert "judged: no column 'k' (judge=); there are: id, j" in refused(judged, gold, "k")
    assert "gold: no column 'gg' (label=)" in refused(judged, gold, label="gg")
    many = [row | {"k": 1} for row in judged]
    assert "which column has the gold labels? (label=)" in refused(many, gold, ["j", "k"])
    assert "gold, row 10: id '3' is there twice, first in gold, row 4" in refused(
        judged, [*gold, gold[3]]
    )
    assert "'j,': expected names of columns of judged" in refused(judged, gold, ["j", ""])
    assert "no column id or digest in common" in refused([{"x": 1, "j": 1}], gold)
    assert "the values of 'id' differ, such as 'a' and '0'" in refused([{"id": "a", "j": 1}], gold)
    assert "labels of gold are texts, those of j numbers" in refused(judged, gold, label="g")
    assert "no row has both" in refused(judged, [row | {"j": None} for row in gold])
    assert "expected a text or a number in 'j', got [1]" in refused([{"id": 0, "j": [1]}], gold)
    assert "expected an id in 'id', got None" in refused([{"id": None, "j": 1}, *judged], gold)
    assert "no label is '7', the one of a win" in refused(judged, gold, win="7")
    assert "ordinal labels are numbers" in refused(gold, gold, "g", level="ordinal")
    alone = siftune.agree([row | {"j": 1} for row in judged], [row | {"j": 1} for row in gold], "j")
    assert alone.not_estimable["kappa"] == {"j": "all values are the same"}
    assert "judged has no rows" in refused([], gold)
    paths = written(tmp_path, judged, gold)
    Path(paths[1]).write_text('{"id": 0, "j": 1}\n{"id": 1, "j":\n')
    error = called(*paths, "--judge", "j").exception
    assert isinstance(error, SiftuneError)
    assert "gold.jsonl, line 2: " in str(error)


def test_labels_by_other_names_than_gold_are_refused(tmp_path):
    judged, gold = (
        [{"id": str(at), "label": names[at % 2]} for at in range(6)]
        for names in (("first", "second"), ("A", "B"))
    )
    done = called(*written(tmp_path, judged, gold), "--judge", "label")
    assert isinstance(done.exception, UsageError)
    assert "has first, second, and label of" in str(done.exception)
    assert str(done.exception).endswith("has A, B; give both the same names")
