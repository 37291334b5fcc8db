"""Held-out DPO loss: which model a pair's loss is of, and what it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.progress import run_context
from siftune.finetune.influence.lora_training import pairs_of
from siftune.finetune.scorers.held_out_loss import HeldOutLoss, _prompt
from tests.finetune.influence_rows import PAIRS, pairs_table

SLOW_CONTRACTS = True
OPTIONS = [
    {
        "model": "LM",
        "template": "none",
        "precision": "fp32",
        "rank": 1,
        "repeats": 1,
        "batch_size": 64,
    }
]


def made(model: Path, **options: object) -> HeldOutLoss:
    given = {"model": str(model), "precision": "fp32", "rank": 2, "batch_size": 4, "lr": 0.01}
    return HeldOutLoss(**{**given, **options})  # type: ignore[arg-type]


def words(count: int) -> list[dict[str, str]]:
    names = ("cat", "king", "sea", "mat", "capital", "colour", "two", "four", "hello", "Paris")
    places = ("now", "again", "there", "here")
    return [
        {
            "prompt": f"Name a {names[at % 10]} {places[at // 10]}.",
            "chosen": "yes good" if at % 3 else "good, yes",
            "rejected": "bad no" if at % 2 else "no, bad",
        }
        for at in range(count)
    ]


def test_a_pair_has_its_loss_under_the_model_of_the_other_half(tiny_model_dir: Path) -> None:
    rows = pairs_table([*PAIRS, {**PAIRS[0], "chosen": "Another cat."}, *words(4)])
    scorer = made(tiny_model_dir, repeats=2)
    found = scorer(rows)
    each = [row for row in pairs_of(scorer, rows) if row is not None]
    model = scorer.adapted(scorer.beta)
    start, losses = model.weights, np.zeros((2, len(each)))
    ordered = sorted(each, key=lambda row: row[0].key + row[1].key)
    for repeat in (0, 1):
        half = scorer._halves({_prompt(row) for row in each}, repeat)
        assert abs(sum(half.values()) - len(half) / 2) < 1
        for at, row in enumerate(each):
            model.weights = start
            own = half[_prompt(row)]
            scorer.train(model, [one for one in ordered if half[_prompt(one)] != own], None)
            losses[repeat, at] = model.losses([row])[0]
    assert found["held_out_loss"].to_list() == pytest.approx(losses.mean(0), rel=1e-5)
    spread = np.abs(losses[0] - losses[1]) / np.sqrt(2)
    assert found["held_out_loss_spread"].to_list() == pytest.approx(spread, rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_wrong_labels_have_the_largest_losses(tiny_model_dir: Path) -> None:
    rows = words(40)
    flipped = [at % 8 == 3 for at in range(40)]
    turned = [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]} if wrong else row
        for row, wrong in zip(rows, flipped, strict=True)
    ]
    found = made(tiny_model_dir, epochs=3)(pairs_table(turned))["held_out_loss"].to_numpy()
    wrong, right = found[np.array(flipped)], found[~np.array(flipped)]
    assert wrong.min() > right.max()
    assert right.mean() < np.log(2) < wrong.mean()


def test_what_cannot_be_held_out_has_no_score(tiny_model_dir: Path) -> None:
    one = pairs_table([PAIRS[0], {**PAIRS[0], "chosen": "A cat."}])
    with run_context() as context:
        found = made(tiny_model_dir)(one)
    assert found.null_count().row(0) == (2, 2)
    assert context.metrics == {"too_few": "expected pairs of two prompts or more, found 1"}
    three = pairs_table([*PAIRS[:2], {**PAIRS[2], "rejected": ""}])
    found = made(tiny_model_dir, repeats=1)(three)
    assert found["held_out_loss"].is_null().to_list() == [False, False, True]
    assert found["held_out_loss_spread"].dtype == pl.Float64
    assert found["held_out_loss_spread"].null_count() == 3
