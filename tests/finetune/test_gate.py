"""The gate of a reward model of attributes: a planted mixture, length, and the whole training."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from siftune.curate.core.errors import UsageError
from siftune.finetune.models.loading import load_reward, load_tokenizer
from siftune.finetune.reward_models.gate import Gate, GateOptions, length_penalty, load_gate
from siftune.finetune.rewards.gated_attributes import GatedAttributes
from siftune.finetune.rewards.types import reward_of
from siftune.finetune.trainers.reward_model import RewardModel
from siftune.finetune.training.gate_stage import total_of

NAMES = ("helpful", "safe", "verbosity")
SMALL = GateOptions(
    hidden=16,
    layers=1,
    steps=300,
    batch_size=512,
    lr=0.02,
    temperature=1.0,
    dropout=0.0,
    length="characters",
)


def constant_gate(weights: list[float]) -> Gate:
    layer = (torch.zeros(3, 4), torch.tensor(weights).log() * 10)
    return Gate(NAMES, "verbosity", torch.zeros(3), torch.zeros(4), torch.ones(4), (layer,), 10, 1)


def planted(pairs: int = 3_000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Half of the prompts weigh helpful by .8, half safe by .8; labels are Bradley-Terry at β 6."""
    draw = np.random.default_rng(5)
    kind = draw.integers(2, size=pairs)
    states = draw.normal(size=(pairs, 4)) * 0.3
    states[:, 2] += 4 * kind + 10
    wanted = np.where(kind[:, None] == 1, [0.8, 0.15, 0.05], [0.15, 0.8, 0.05])
    ratings = draw.normal(size=(pairs, 2, 3))
    totals = (wanted[:, None] * ratings).sum(-1)
    flipped = draw.random(pairs) > 1 / (1 + np.exp(-6 * (totals[:, 0] - totals[:, 1])))
    ratings[flipped] = ratings[flipped][:, ::-1]
    chars = np.full((pairs, 2), 20.0)
    first, second, third, fourth = (
        torch.tensor(one).float() for one in (states, ratings, chars, wanted)
    )
    return first, second, third, fourth


def test_a_planted_mixture_is_recovered() -> None:
    states, ratings, chars, wanted = planted()
    gate = SMALL.fit(NAMES, states, ratings, chars, seed=1)
    assert float((gate.weights(states) - wanted).abs().mean()) < 0.04
    assert 5 < gate.scale < 7
    assert float(gate.weights(states).sum(1).sub(1).abs().max()) < 1e-5
    again = SMALL.fit(NAMES, states, ratings, chars, seed=1)
    assert all(
        torch.equal(one[0], two[0]) for one, two in zip(gate.layers, again.layers, strict=True)
    )


def test_a_constant_gate_is_the_linear_total_and_the_mlp_is_the_formula() -> None:
    ratings, states = torch.randn(5, 3), torch.randn(5, 4)
    weights = [0.5, 0.3, 0.2]
    found = constant_gate(weights).totals(states, ratings, torch.zeros(5))
    assert found.tolist() == pytest.approx((ratings @ torch.tensor(weights)).tolist(), abs=1e-6)
    first = torch.tensor([[1.0, -1.0]]), torch.tensor([0.5])
    second = torch.tensor([[2.0], [-2.0]]), torch.tensor([0.0, 1.0])
    gate = Gate(
        ("a", "b"), "characters", torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.0]),
        torch.tensor([2.0, 1.0]), (first, second), 4.0, 9.0,
    )  # fmt: skip
    # state (4, 1): standardised (1.5, 1); hidden 1.5 - 1 + .5 = 1; logits (2, -1) / 4
    ((share, _),) = gate.weights(torch.tensor([[4.0, 1.0]])).tolist()
    assert share == pytest.approx(1 / (1 + np.exp(-0.75)), abs=1e-6)
    total = gate.totals(
        torch.tensor([[4.0, 1.0]]), torch.tensor([[3.0, -1.0]]), torch.tensor([np.e - 1])
    )
    assert float(total) == pytest.approx(share * (3 - 0.5) - (1 - share), abs=1e-5)  # v = 1


def test_what_length_explains_is_taken_out_of_each_attribute() -> None:
    draw = np.random.default_rng(2)
    long = draw.lognormal(size=400)
    ratings = np.stack([2 * long + draw.normal(size=400), -long, long], 1).astype("f")
    ratings = torch.tensor(ratings).reshape(200, 2, 3)
    options = GateOptions(hidden=2, layers=0, steps=1)
    gate = options.fit(NAMES, torch.randn(200, 4), ratings, torch.ones(200, 2))
    assert gate.length == "verbosity"
    assert gate.penalties[1:].tolist() == [0, 1]  # none where longer is worse, all of length's own
    assert not gate.adjusted(ratings, torch.ones(200, 2))[..., 2].any()
    left = gate.adjusted(ratings, torch.ones(200, 2))[..., 0].flatten()
    assert abs(spearmanr(left, long)[0]) < 1e-3 < spearmanr(ratings[..., 0].flatten(), long)[0]
    by_text = GateOptions(length="characters", layers=0, steps=1).fit(
        NAMES, torch.randn(200, 4), ratings, torch.tensor(long).reshape(200, 2)
    )
    left = by_text.adjusted(ratings, torch.tensor(long).reshape(200, 2))
    assert abs(spearmanr(left[..., 2].flatten(), long)[0]) < 1e-3
    assert length_penalty(torch.ones(4), torch.arange(4.0)) == 0
    assert length_penalty(torch.arange(4.0), torch.ones(4)) == 0


WEIGHTS = {"helpfulness": 0.6, "complexity": 0.2, "verbosity": -0.4}
OPTIONS = {"steps": 20, "hidden": 4}


def write_rows(folder: Path) -> tuple[Path, Path]:
    """Rated answers and pairs, made up."""
    rated, pairs = folder / "rated.jsonl", folder / "pairs.jsonl"
    fixed = dict.fromkeys(("correctness", "coherence", "complexity"), 1)
    lines: list[dict[str, Any]] = [
        {"prompt": f"Say {at}", "response": "hello" + " red" * (at % 3), **fixed,
         "helpfulness": at % 2, "verbosity": at % 3}
        for at in range(6)
    ]  # fmt: skip
    rated.write_text("".join(json.dumps(one) + "\n" for one in lines))
    lines = [
        {"prompt": f"Ask {at}", "chosen": "hello", "rejected": "red " * (1 + at % 4)}
        for at in range(8)
    ]
    pairs.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return rated, pairs


@pytest.fixture(scope="module")
def gated(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three outputs with a gate, its second stage alone trained."""
    folder = tmp_path_factory.mktemp("gated")
    _, pairs = write_rows(folder)
    model, tokenizer = (
        load_reward(tiny_model_dir, classes=[*WEIGHTS]),
        load_tokenizer(tiny_model_dir),
    )
    options = SimpleNamespace(
        gate=str(pairs), gate_options=OPTIONS, objective="attributes", on_bad="refuse",
        held_out=0.25, seed=3,
    )  # fmt: skip
    tokenizer.model_max_length = 64
    made, facts, metrics = total_of(options, WEIGHTS, model, tokenizer, folder)
    assert facts["gate"]["pairs"] == 6
    assert facts["gate"]["length"] == "verbosity"
    assert {"eval_gate_accuracy", "eval_linear_accuracy"} <= set(metrics)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_one_training_writes_a_model_with_its_gate(tiny_model_dir: Path, tmp_path: Path) -> None:
    rated, pairs = write_rows(tmp_path)
    result = RewardModel(
        str(tiny_model_dir), objective="attributes", objective_options={"weights": WEIGHTS},
        gate=str(pairs), gate_options=OPTIONS, held_out=0.25, seed=3,
    )(rated, tmp_path / "m")  # fmt: skip
    assert {"eval_gate_accuracy", "eval_linear_accuracy"} <= set(result.metrics)
    facts = json.loads((tmp_path / "m" / "siftune.json").read_text())["gate"]
    assert facts["length"] == "verbosity"
    assert facts["pairs"] == 6
    row = {"id": "a", "prompt": [{"role": "user", "content": "Ask 1"}]}
    (score,) = reward_of(str(tmp_path / "m"), {}, "fp32")(["Ask 1"], ["hello"], [row])
    assert score is not None


def test_a_trained_folder_scores_by_its_gate_whose_weights_are_of_the_prompt(gated: Path) -> None:
    gate = load_gate(gated)
    assert gate.names == ("helpfulness", "complexity", "verbosity")
    reward: Any = reward_of(str(gated), {}, "fp32")
    assert isinstance(reward, GatedAttributes)
    asked = ["Ask 1", "Ask 1", "Other words"]
    rows = [{"id": str(at), "prompt": [{"role": "user", "content": text}]}
            for at, text in enumerate(asked)]  # fmt: skip
    said = ["hello", "red red", "hello"]
    found = reward(asked, said, rows)
    assert found == pytest.approx(
        [reward([a], [s], [r])[0] for a, s, r in zip(asked, said, rows, strict=True)], abs=1e-6
    )
    model: Any = load_reward(gated, classes=gate.names)
    tokenizer = reward._parts[1]
    states = {}
    for at, row in enumerate(rows):
        ids = torch.tensor([tokenizer.apply_chat_template(row["prompt"], return_dict=False)])
        with torch.no_grad():
            states[at] = model.base_model(input_ids=ids).last_hidden_state[:, -1]
            turns = [*row["prompt"], {"role": "assistant", "content": said[at]}]
            whole = torch.tensor([tokenizer.apply_chat_template(turns, return_dict=False)])
            ratings = model(input_ids=whole).logits
        total = gate.totals(states[at], ratings, torch.tensor([len(said[at])]))
        assert float(total) == pytest.approx(found[at], abs=1e-4)
    assert torch.equal(gate.weights(states[0]), gate.weights(states[1]))
    assert not torch.equal(gate.weights(states[0]), gate.weights(states[2]))


def test_a_gate_that_cannot_be_is_refused_in_one_line(gated: Path, tmp_path: Path) -> None:
    rows = gated / "pairs.jsonl"
    of = {"objective": "attributes", "objective_options": {"weights": {"a": 1.0, "b": 1.0}}}
    for options, told in [
        ({"gate": "pairs.jsonl"}, "gate: it weighs the outputs of the objective attributes"),
        ({"gate_options": {"steps": 3}}, "gate_options: they are of the gate"),
        ({**of, "gate": "x", "gate_options": {"depth": 3}}, "gate_options: .*depth"),
        ({**of, "gate": "x", "gate_options": {"length": "c"}}, "length: expected characters or"),
    ]:
        with pytest.raises(UsageError, match=told):
            RewardModel("m", **options)(rows, tmp_path / "out")
    with pytest.raises(UsageError, match=r"is a classifier of 3 classes.*--reward"):
        load_reward(gated)
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((gated / name).read_bytes())
    with pytest.raises(UsageError, match=r"has no gate.safetensors: train it with"):
        load_gate(tmp_path)
    (tmp_path / "gate.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(UsageError, match=r"gate.safetensors is damaged"):
        load_gate(tmp_path)
