"""`siftune finetune evaluate` of several models: one table, paired by prompt."""

import json

import pytest
import torch
from click.testing import CliRunner

from siftune.curate.files.atomic import read_json
from siftune.finetune.cli import finetune
from siftune.finetune.comparison.several_models import difference, table_lines
from siftune.finetune.models.loading import load_causal, load_tokenizer
from siftune.finetune.models.saving import save_model


def test_differences_are_paired_by_row_and_weighed_by_tokens():
    own = [
        {"id": "a", "prompt": "x", "loss": 1.0, "loss_tokens": 1, "reward": 2.0},
        {"id": "b", "prompt": "y", "loss": 4.0, "loss_tokens": 3, "reward": None},
        {"id": "c", "prompt": "z", "loss": None, "reward": 3.0},
    ]
    first = [
        {"id": "c", "prompt": "z", "loss": 2.0, "loss_tokens": 9, "reward": 1.5},
        {"id": "b", "prompt": "y", "loss": 2.0, "loss_tokens": 3, "reward": 0.0},
        {"id": "a", "prompt": "x", "loss": 2.0, "loss_tokens": 1, "reward": 1.0},
    ]
    found = difference(own, first)
    assert found["loss"] == pytest.approx((-1 * 1 + 2 * 3) / 4)
    assert found["reward"] == pytest.approx((1 + 1.5) / 2)
    assert found["loss_low"] <= found["loss"] <= found["loss_high"]


def test_pairs_that_either_model_ties_are_left_out_of_the_difference_in_accuracy():
    sides = [(1.0, 0.0), (0.5, 0.0), (1.0, 0.5), (0.0, 0.0)]
    own = [{"id": at, "correct": one, "margin": 2.0} for at, (one, _) in enumerate(sides)]
    first = [{"id": at, "correct": two, "margin": 1.0} for at, (_, two) in enumerate(sides)]
    found = difference(own, first)
    assert found["accuracy"] == 0.5
    assert found["margin"] == 1
    tied = difference(own[1:2], first[1:2])
    assert "accuracy" not in tied


def test_the_table_names_what_differs_and_what_does_not():
    models = [
        {"model": "a", "means": {"rows": 3, "loss": 2.0, "loss_low": 1.5, "loss_high": 2.5}},
        {
            "model": "bb",
            "means": {"rows": 3, "loss": 1.5},
            "less_first": {"loss": -0.5, "loss_low": -0.7, "loss_high": -0.3},
        },
        {
            "model": "c",
            "means": {"rows": 3, "loss": 1.9},
            "less_first": {"loss": -0.1, "loss_low": -0.3, "loss_high": 0.1},
        },
    ]
    lines = [*table_lines(models)]
    assert "  bb  1.5  -0.5 (-0.7 … -0.3) from the first: differs" in lines
    assert "  c   1.9  -0.1 (-0.3 … 0.1) from the first: not significant" in lines
    assert lines[-1] == (
        "intervals are 95 % each: they are not corrected for the number of comparisons"
    )
    assert [*table_lines(models[:1])] == ["rows", "  a  3", "loss", "  a  2 (1.5 … 2.5)"]


def test_several_models_are_evaluated_by_one_command(tiny_model_dir, tmp_path):
    model = load_causal(tiny_model_dir)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(
                0.05 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1))
            )
    save_model(model, load_tokenizer(tiny_model_dir), tmp_path / "other", {"stage": "x"})
    rows = tmp_path / "rows.jsonl"
    known = [{"prompt": f"Name {at}.", "completion": "blue"} for at in range(3)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in known))
    words = ["evaluate", str(rows), "--out", str(tmp_path / "out"), "--max-new-tokens", "2"]
    both = ["--model", str(tiny_model_dir), "--model", str(tmp_path / "other")]
    done = CliRunner().invoke(finetune, [*words, *both])
    assert done.exit_code == 0, done.output
    assert "from the first" in done.output
    first, second = read_json(tmp_path / "out" / "models.json")["models"]
    gap = second["means"]["loss"] - first["means"]["loss"]
    assert second["less_first"]["loss"] == pytest.approx(gap, abs=1e-6)
    assert "less_first" not in first
    again = CliRunner().invoke(finetune, [*words, *both[:2], *both[:2], "--overwrite"])
    assert "named twice" in str(again.exception)
