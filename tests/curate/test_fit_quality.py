"""`siftune curate fit-quality`, the scorer fitted_quality, and a head as a judge."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from siftune.curate.cli import curate
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.heads import fitting
from siftune.curate.heads.features import Block, Features
from siftune.curate.heads.fitting import Labelled, fit_head
from siftune.curate.heads.head import load_head
from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.types import Item
from siftune.curate.judge_tasks.classifier_score import ClassifierScore
from siftune.curate.judge_tasks.pairwise import Pairwise
from siftune.curate.judges.fitted import Fitted
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.fitted_quality import FittedQuality

WORDS = ["sun", "sea", "tree", "house", "bird", "river", "stone", "light", "road", "wind"]
SIMPLE = Features("simple")


def text(source: random.Random, words: int) -> str:
    return " ".join(source.choice(WORDS) for _ in range(words))


def said(words: int) -> str:
    return text(random.Random(7), words)


def rated(rows: int = 120) -> list[dict[str, Any]]:
    """Ratings that follow the length, with noise; two rows a prompt."""
    source, found = random.Random(0), []
    for at in range(rows):
        stars = source.randrange(1, 6)
        words = 6 * stars + source.randrange(12)
        row = {"prompt": f"Question {at // 2}?", "response": text(source, words), "stars": stars}
        found.append(row | {"good": stars > 2, "verdict": "good" if stars > 2 else "bad"})
    return found


def pairs(rows: int = 120) -> list[dict[str, Any]]:
    """The longer answer is the better one in 85 % of the pairs."""
    source, found = random.Random(0), []
    for at in range(rows):
        sides = [text(source, 30), text(source, 10)]
        if source.random() > 0.85:
            sides.reverse()
        found.append({"prompt": f"Question {at // 2}?", "chosen": sides[0], "rejected": sides[1]})
    return found


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def fitted(folder: Path, rows: list[dict[str, Any]], *words: str, out: str = "head") -> Result:
    given = ["fit-quality", written(folder, rows), "--out", str(folder / out), *words]
    return CliRunner().invoke(curate, [*given, "--features", "simple"], catch_exceptions=False)


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "head/head.json").read_bytes())
    return found


def chats(*answers: str | None) -> pl.DataFrame:
    turns = [
        [turn("user", "Why?"), *([] if answer is None else [turn("assistant", answer)])]
        for answer in answers
    ]
    return pl.DataFrame({"messages": pl.Series(turns, dtype=TURNS)})


def test_ratings_are_learned_and_their_figures_are_those_of_held_out_prompts(
    tmp_path: Path,
) -> None:
    result = fitted(tmp_path, rated(), "--label", "stars")
    assert result.exit_code == 0, result.output
    assert "120 rows of 60 prompts" in result.output
    found = facts(tmp_path)
    assert found["kind"] == "rating"
    figures = found["figures"]
    assert 0.8 < figures["spearman"]["low"] < figures["spearman"]["value"] < 0.99
    wrong, baseline = (figures[f"mean_absolute_error{end}"] for end in ("", "_of_the_mean"))
    assert wrong["high"] < baseline["low"]
    short, long = FittedQuality(str(tmp_path / "head"))(chats(*(said(6), said(36))))[
        "fitted_quality"
    ]
    assert 1 <= short < 2
    assert 4 < long <= 5


def test_the_extent_of_an_answer_counts_each_word_once() -> None:
    found = SIMPLE(["Why?"] * 3, ["Sun and sea.", "Sun and sea. sea and SUN", "sun"])
    np.testing.assert_allclose(np.expm1(found[:, 0]), [9, 9, 3])
    assert found[1, 1] > found[0, 1]  # characters


def test_a_block_has_its_variance_before_a_fit() -> None:
    x = np.random.default_rng(0).normal(3, [1, 5, 2], (50, 3))
    center, scale = fitting._scaling(x, (Block(1, 1.0), Block(2, 0.3)), "rating")
    assert ((x - center) / scale).var(0) == pytest.approx([1, 0.15, 0.15])


def test_what_cannot_be_computed_is_null(tmp_path: Path) -> None:
    fitted(tmp_path, rated(), "--label", "stars")
    scores = FittedQuality(str(tmp_path / "head"))(chats("sun", " ", None))["fitted_quality"]
    assert scores.is_null().to_list() == [False, True, True]


def test_noise_is_not_learned(tmp_path: Path) -> None:
    rows = rated()
    labels = random.Random(1).sample([row["good"] for row in rows], len(rows))
    for row, label in zip(rows, labels, strict=True):
        row["noise"] = label
    fitted(tmp_path, rows, "--label", "noise")
    share = np.mean(labels)
    figure = facts(tmp_path)["figures"]["accuracy"]
    assert figure["low"] < max(share, 1 - share)


@pytest.mark.parametrize(
    "words", [("--label", "good"), ("--label", "verdict", "--positive", "good")]
)
def test_binary_labels_give_probabilities(tmp_path: Path, words: tuple[str, ...]) -> None:
    result = fitted(tmp_path, rated(), *words)
    assert result.exit_code == 0, result.output
    assert facts(tmp_path)["kind"] == "binary"
    assert facts(tmp_path)["figures"]["accuracy"]["low"] > 0.8
    judge = Judge(Fitted(str(tmp_path / "head")), ClassifierScore())
    asked = [Item((("user", "Why?"),), (said(words),)) for words in (6, 36)]
    short, long = (verdict.values["score"] for verdict in judge.verdicts(asked) if verdict.values)
    assert 0 <= short < 0.3 < 0.7 < long <= 1


def test_isotonic_calibration(tmp_path: Path) -> None:
    assert fitted(tmp_path, rated(), "--label", "good", "--calibration", "isotonic").exit_code == 0
    assert load_head(tmp_path / "head").calibrator.method == "isotonic"
    with pytest.raises(UsageError, match="pairs are fitted with platt"):
        fitted(tmp_path, pairs(), "--calibration", "isotonic", out="other")


def test_labels_that_follow_from_the_features_are_fitted_too() -> None:
    lengths = [*range(1, 31), *range(101, 131)]
    rows = Labelled(
        "binary",
        [f"Question {at}?" for at in range(60)],
        [said(words) for words in lengths],
        np.repeat([0.0, 1.0], 30),
    )
    head = fit_head(rows, SIMPLE)
    assert head.facts["figures"]["accuracy"]["value"] == 1
    assert head(["Why?"] * 2, [said(15), said(115)]).round().tolist() == [0, 1]


def test_a_head_of_pairs_is_a_judge_whose_preference_is_calibrated(tmp_path: Path) -> None:
    result = fitted(tmp_path, pairs())
    assert result.exit_code == 0, result.output
    figures = facts(tmp_path)["figures"]
    assert figures["accuracy"]["low"] < 0.85 < figures["accuracy"]["high"]
    assert figures["calibration_error"]["low"] < 0.1  # 0.4, were all better answers the first
    judge = Judge(Fitted(str(tmp_path / "head")), ClassifierScore())
    source = random.Random(5)
    items = [Item((("user", "Why?"),), (text(source, 30), text(source, 10))) for _ in range(20)]
    swapped = [Item(item.prompt, item.answers[::-1]) for item in items]
    told, turned = (
        [verdict.values["preference"] for verdict in judge.verdicts(asked) if verdict.values]
        for asked in (items, swapped)
    )
    assert np.mean(told) == pytest.approx(0.85, abs=0.08)
    np.testing.assert_allclose(np.add(told, turned), 1)


def test_a_judges_column_labels_pairs(tmp_path: Path) -> None:
    rows = [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"], "winner": "second"}
        for row in pairs()
    ]
    rows[0]["winner"] = "tie"
    rows[1]["winner"] = None
    result = fitted(tmp_path, rows, "--label", "winner")
    assert "1 without a label or a text left out" in result.output
    short, long = load_head(tmp_path / "head")(["Why?"] * 2, [said(10), said(30)])
    assert long > short


def test_all_pairs_of_a_ranked_list_are_read(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"Question {at}?",
            "completions": [said(30), said(20), said(5 + at % 9)],
            "scores": [3, 2, 1],
        }
        for at in range(20)
    ]
    fitted(tmp_path, rows, "--format", "ranked")
    assert facts(tmp_path)["rows"] == 60
    assert facts(tmp_path)["prompts"] == 20


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for out in ("one", "two"):
        fitted(tmp_path, rated(), "--label", "stars", out=out)
    for name in ("head.json", "weights.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_embeddings_are_features(tmp_path: Path, tiny_embedder: Path) -> None:
    features = Features("both", str(tiny_embedder), "fp32")
    rows = rated(60)
    labelled = Labelled(
        "rating",
        [row["prompt"] for row in rows],
        [row["response"] for row in rows],
        np.array([float(row["stars"]) for row in rows]),
    )
    head = fit_head(labelled, features)
    assert head.weights.shape == (features.width,)
    head.write(tmp_path)
    again = load_head(tmp_path)
    asked = (["Why?"], ["sun and sea"])
    assert again(*asked).tolist() == head(*asked).tolist()
    assert again.identity == head.identity
    facts = json.loads((tmp_path / "head.json").read_bytes())
    facts["features"]["model_sha256"] = "0"
    (tmp_path / "head.json").write_text(json.dumps(facts))
    with pytest.raises(UsageError, match="fitted on features with model_sha256 0"):
        load_head(tmp_path)


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (lambda rows: rows[:40], ("--label", "stars"), "40 labelled rows of 20 prompts: expected"),
        (
            lambda rows: [{**row, "prompt": "Why?"} for row in rows],
            ("--label", "stars"),
            "120 labelled rows of 1 prompts: expected",
        ),
        (
            lambda rows: [{**row, "stars": 3} for row in rows],
            ("--label", "stars"),
            "all labels are",
        ),
        (
            lambda rows: [{**rows[0], "stars": "nan"}, *rows[1:]],
            ("--label", "stars"),
            "row rows:1: stars is 'nan': expected a number",
        ),
        (lambda rows: rows, ("--label", "verdict"), "verdict is 'good'.*--positive TEXT"),
        (lambda rows: rows, ("--label", "star"), "no column or field 'star'; did you mean stars?"),
        (lambda rows: rows, (), "name the column with the labels: --label COLUMN"),
    ],
)
def test_bad_labels_are_refused(
    tmp_path: Path, change: Any, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises((DataError, UsageError), match=message):
        fitted(tmp_path, change(rated()), *words)
    assert not (tmp_path / "head").exists()


def test_a_damaged_head_and_a_folder_without_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no quality head"):
        load_head(tmp_path)
    fitted(tmp_path, rated(), "--label", "stars")
    weights = tmp_path / "head/weights.safetensors"
    held = weights.read_bytes()
    weights.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    with pytest.raises(UsageError, match="damaged"):
        load_head(tmp_path / "head")


def test_a_rubric_is_not_answered(tmp_path: Path) -> None:
    fitted(tmp_path, pairs())
    judge = Judge(Fitted(str(tmp_path / "head")), Pairwise())
    verdict = next(judge.verdicts([Item((("user", "Why?"),), ("sun", "sea"))]))
    assert verdict.error == "no_rubrics"
