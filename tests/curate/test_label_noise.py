"""Label noise of pairs: planted flips are found, and no label speaks for itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

import siftune
from siftune.curate.core.schema import TURNS
from siftune.curate.heads import pair_noise
from siftune.curate.heads.pair_features import style_features, word_features
from siftune.curate.rows.chat import contents, turn
from siftune.curate.scorers.label_noise import LabelNoise

PROMPTS, EACH = 12, 5


def answers(rng: np.random.Generator, good: bool) -> str:
    """A good answer has steps and reasons; a bad one hesitates. Lengths are alike."""
    words = ["because", "first", "then", "finally"] if good else ["maybe", "well", "um", "whatever"]
    plain = ["the", "tree", "water", "stone", "road", "is", "was", "a", "house"]
    return " ".join(rng.permutation([*rng.choice(words, 3), *rng.choice(plain, 12)]).tolist()) + "."


def planted(seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Pairs whose good answer is labelled better, but for a fifth of them; which these are."""
    rng = np.random.default_rng(seed)
    flipped = rng.random(PROMPTS * EACH) < 0.2
    rows = []
    for at, flip in enumerate(flipped):
        sides = [answers(rng, good) for good in (not flip, flip)]
        rows.append((f"Question {at % PROMPTS}?", *sides))
    return table(rows), flipped


def table(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return pl.DataFrame(
        {
            name: pl.Series([[turn(role, row[at])] for row in rows], dtype=TURNS)
            for at, (name, role) in enumerate(roles.items())
        }
    )


def test_pairs_of_a_prompt_are_in_one_fold_and_other_prompts_in_others() -> None:
    rows, _ = planted()
    texts = rows.select(contents(rows[name]).alias(name) for name in rows.columns)
    folds = LabelNoise()._prepared(texts)[0].fold
    of_prompt = pl.DataFrame({"prompt": texts["prompt"], "fold": folds}).group_by("prompt")
    assert (of_prompt.agg(pl.col("fold").n_unique())["fold"] == 1).all()
    # evenly many prompts in each of the five
    assert sorted(np.bincount(folds)) == [2 * EACH, 2 * EACH, 2 * EACH, 3 * EACH, 3 * EACH]


def test_pairs_without_a_prompt_are_of_no_other_prompt() -> None:
    sides = {"chosen": ["one"] * 3, "rejected": ["two"] * 3}
    found = LabelNoise()._prepared(pl.DataFrame({"prompt": [None, "a", "b"], **sides}))[0]
    assert len(set(found.prompt.tolist())) == 3


@pytest.mark.parametrize("within", [True, False])
def test_planted_flips_score_above_right_labels(within: bool) -> None:
    rows, flipped = planted()
    scores = LabelNoise(within=within)(rows)
    for name in ("label_noise", "label_noise_matched"):
        found = scores[name].to_numpy()
        assert (found[flipped][:, None] > found[~flipped]).mean() > 0.8  # the AUC
    wrong = scores["label_noise"].to_numpy()
    issue = scores["label_noise_issue"].to_numpy()
    assert issue.tolist() == (wrong >= np.mean([1 - one for one in wrong])).tolist()
    assert flipped[issue].mean() > 0.6


def test_the_matched_score_of_a_length_rule_is_no_better_than_chance() -> None:
    rng = np.random.default_rng(3)
    word = ["road", "tree", "stone", "water"]
    rows = []
    for at in range(120):
        long, short = (" ".join(rng.choice(word, size).tolist()) for size in (30, 10))
        rows.append((f"Q {at % 20}", *((short, long) if at % 8 == 0 else (long, short))))
    scores = LabelNoise(within=False)(table(rows))
    shorter_won = np.arange(120) % 8 == 0
    assert scores["label_noise"].to_numpy()[shorter_won].mean() > 0.7
    assert np.abs(scores["label_noise_matched"].to_numpy() - 0.5).mean() < 0.1


def test_beyond_length_nothing_is_left_that_length_predicts() -> None:
    rng = np.random.default_rng(4)
    gap, other = rng.normal(size=200), rng.normal(size=200)
    rest = pair_noise.beyond_length(2 * np.tanh(gap) + 0.3 * gap + other, gap)
    for known in (gap, np.tanh(gap), np.ones(200)):
        assert abs(rest @ known) < 1e-9
    assert np.corrcoef(rest, other)[0, 1] > 0.98


def test_what_is_left_out_equals_a_regression_without_it() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(9, 3))
    vectors[8] = -vectors[7]  # the same pair in the other order
    kernel, mean = vectors @ vectors.T, rng.normal(size=9)
    found = pair_noise._left_out(mean, kernel, [np.array([7, 8])])
    size = np.sqrt(mean**2 + np.diag(kernel))
    noise = 2 * size / np.tanh(size / 2)
    for at in range(9):
        rest = np.array([one for one in range(9) if one != at and {one, at} != {7, 8}])
        inside = np.linalg.inv(kernel[np.ix_(rest, rest)] + np.diag(noise[rest]))
        f = mean[at] + kernel[at, rest] @ inside @ (noise[rest] / 2 - mean[rest])
        variance = kernel[at, at] - kernel[at, rest] @ inside @ kernel[rest, at]
        assert found[at] == pytest.approx(f / np.sqrt(1 + np.pi * variance / 8))


def test_no_label_reaches_its_own_prediction() -> None:
    rng = np.random.default_rng(2)
    vectors, mean = 3 * rng.normal(size=(7, 2)), rng.normal(size=7)
    before = pair_noise._left_out(mean, vectors @ vectors.T, [])
    vectors[4], mean[4] = -vectors[4], -mean[4]  # the other answer is labelled better
    after = pair_noise._left_out(mean, vectors @ vectors.T, [])
    assert after[4] == pytest.approx(-before[4])


def test_word_features_by_hand() -> None:
    found = word_features(pl.Series(["a b", "a a", ""])).toarray()
    seen = {"a": 2, "b": 1}
    idf = {word: 1 + np.log(4 / (1 + count)) for word, count in seen.items()}
    first = np.array([np.log(2) * idf["a"], np.log(2) * idf["b"]])
    assert sorted(found[0][found[0] > 0]) == pytest.approx(sorted(first / np.linalg.norm(first)))
    assert found[1].max() == pytest.approx(1.0)
    assert not found[2].any()


def test_style_has_a_variance_of_one_a_block_and_no_gaps() -> None:
    texts = pl.Series(["# Head\n\n- one\n- two", "", "I can't. Sorry!", "Plain words, 12 of them."])
    found = style_features(texts)
    assert np.isfinite(found).all()
    assert found.var(0).sum() == pytest.approx(1.0, abs=0.4)  # constant columns have none


def test_few_pairs_score_null_and_the_run_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"prompt": f"Q{at}", "chosen": "yes", "rejected": "no"} for at in range(4)]
    (tmp_path / "pairs.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    rows = siftune.read(tmp_path / "pairs.jsonl").score("label_noise")
    assert rows.kept["label_noise"].null_count() == 4


def test_a_run_scores_all_rows_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from siftune.curate.rows import table as tables

    monkeypatch.setattr(tables, "BATCH", 16)
    rows, _ = planted()
    lines = [
        {name: row[name][0]["content"] for name in rows.columns}
        for row in rows.iter_rows(named=True)
    ]
    (tmp_path / "pairs.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    made = siftune.read(tmp_path / "pairs.jsonl").score("label_noise").kept
    assert made["label_noise"].to_list() == LabelNoise()(rows)["label_noise"].to_list()
