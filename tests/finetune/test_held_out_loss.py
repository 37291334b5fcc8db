"""Held-out DPO loss: which model a pair's loss is of, and what it finds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from siftune.curate.core.progress import run_context
from siftune.finetune.influence.lora_training import pairs_of, rates
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


def test_the_learning_rate_rises_in_three_percent_of_the_steps_and_falls_to_0() -> None:
    found = rates(100)
    assert found[:4] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1.0])
    assert found[3:] == pytest.approx([(97 - at) / 97 for at in range(97)])


def test_a_checkpoint_has_the_mean_learning_rate_of_its_epoch() -> None:
    scorer = HeldOutLoss(model="none", epochs=2, batch_size=4, lr=0.1)
    model = SimpleNamespace(weights=torch.zeros(2), gradient=lambda _: torch.ones(2))
    found = scorer.train(model, range(7), None)  # steps at .1, .075, then at .05, .025
    assert [one.rate for one in found] == pytest.approx([0.0875, 0.0375])
    # Adam by the sign of a gradient that stays the same: a step is the learning rate
    ends = [one.state.weights.tolist() for one in found]
    assert ends == [pytest.approx([-0.175] * 2, rel=1e-5), pytest.approx([-0.25] * 2, rel=1e-5)]


def test_prompts_are_halved_evenly_and_otherwise_in_each_repeat() -> None:
    prompts = {(at, at + 1) for at in range(9)}
    halves = [HeldOutLoss(model="none")._halves(prompts, repeat) for repeat in (0, 1)]
    assert [sorted(half.values()) for half in halves] == [[0] * 5 + [1] * 4] * 2
    assert halves[0] != halves[1]
    assert HeldOutLoss(model="none", seed=1)._halves(prompts, 0) != halves[0]


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
