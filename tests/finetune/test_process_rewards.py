"""Process rewards: layouts of steps, ids and their ends, the loss at them, a model that learns."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.registry import build
from siftune.finetune.data.process_rows import encode_steps, read_steps, steps_of
from siftune.finetune.losses.reward_types import Compared
from siftune.finetune.models.loading import load_reward, load_tokenizer
from siftune.finetune.rewards.process_reward import ProcessReward
from siftune.finetune.trainers.reward_model import RewardModel
from siftune.finetune.training.reward_rows import StepRows

GOOD, BAD = "hello", "the cat"


def prm800k() -> dict[str, Any]:
    def rated(*ratings: tuple[str, int | None]) -> list[dict[str, Any]]:
        return [{"text": text, "rating": rating, "flagged": False} for text, rating in ratings]

    steps = [
        {"completions": rated(("a", 1), ("b", -1)), "chosen_completion": 0},
        {"completions": rated(("c", -1)), "human_completion": {"text": "d"}},
        {"completions": rated(("e", 0), ("f", None), ("g", -1)), "chosen_completion": 0},
        {"completions": rated(("h", -1)), "chosen_completion": None, "human_completion": None},
        {"completions": rated(("never", 1)), "chosen_completion": 0},
    ]
    for step in steps:
        step.setdefault("human_completion", None)
        step.setdefault("chosen_completion", None)
    return {"question": {"problem": "Why?"}, "label": {"steps": steps, "finish_reason": "bad"}}


def test_prm800k_is_the_chosen_solution_and_each_other_rated_step() -> None:
    found = [(steps, labels) for _, steps, labels in steps_of(prm800k())]
    assert found == [
        (["a", "d", "e"], [1, None, 1]),
        (["b"], [0]),
        (["a", "c"], [None, 0]),
        (["a", "d", "g"], [None, None, 0]),
        (["a", "d", "e", "h"], [None, None, None, 0]),
    ]


def test_a_record_of_another_layout_is_named(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text('{"prompt": "a", "completions": ["b"], "labels": [true, false]}\n')
    with pytest.raises(DataError, match=r"steps.jsonl, record 1: expected 'prompt'.*1 steps and 2"):
        read_steps(path)


def test_the_loss_is_cross_entropy_at_labelled_steps() -> None:
    loss = build("finetune.losses.reward", "process", {})
    label = torch.tensor([[1, 0, math.nan], [math.nan, 1, math.nan]], dtype=torch.float64)
    scores = torch.tensor([[0.3, -1.2, 5.0], [2.0, -0.7, 0.1]], dtype=torch.float64)
    none = torch.zeros(2, 3, 3, dtype=torch.float64)

    def of(given: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(2, 3, dtype=torch.bool)
        return loss(Compared(given, none, none, mask, {"label": label}))  # type: ignore[no-any-return]

    log_odds = [[0.3, 1.2], [-0.7]]
    wanted = [sum(math.log1p(math.exp(-one)) for one in row) for row in log_odds]
    assert of(scores).tolist() == pytest.approx(wanted)
    assert torch.autograd.gradcheck(of, (scores.clone().requires_grad_(),))
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert loss.count(Compared(scores, none, none, mask, {"label": label})).tolist() == [2, 1]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A step with hello is right, one with the cat is wrong, one with a third word unlabelled."""
    path = tmp_path_factory.mktemp("steps") / "steps.jsonl"
    lines = []
    for at in range(24):
        words = [GOOD if (at >> bit) & 1 else BAD for bit in range(1 + at % 3)]
        labels: list[Any] = [word == GOOD for word in words]
        if at % 4 == 1:
            words, labels = ["What is", *words], [None, *labels]
        lines.append({"prompt": f"Say {at}", "completions": words, "labels": labels})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.slow
def test_a_model_learns_which_steps_are_right(
    steps: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """The first loss from scores of texts that end at each step; then of unseen prompts."""
    given: dict[str, Any] = {"objective": "process", "log_every": 1, "held_out": 0.25}
    trained = RewardModel(str(tiny_model_dir), lr=1e-2, epochs=8, batch_size=6, **given)
    result = trained(steps, tmp_path / "m")
    assert result.metrics["eval_accuracy"] > 0.9
    assert {"eval_right_steps_accuracy", "eval_wrong_steps_accuracy"} <= set(result.metrics)
    reward = ProcessReward(str(tmp_path / "m"))
    rows = [{"prompt": [{"role": "user", "content": "Say 7"}]}] * 3
    both, first, none = reward([""] * 3, [f"{GOOD}\n{BAD}", GOOD, " "], rows)
    assert none is None
    assert both is not None
    assert first is not None
    assert both < 0.5 < first
    product = ProcessReward(str(tmp_path / "m"), take="product")
    assert product([""], [f"{GOOD}\n{BAD}"], rows[:1])[0] == pytest.approx(first * both, rel=1e-4)


def test_the_first_loss_is_that_of_each_prefix_read_by_itself(
    steps: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_reward(tiny_model_dir), load_tokenizer(tiny_model_dir)
    table = read_steps(steps)
    prompts = [[dict(turns[0])] for turns in table["messages"].to_list()]
    encoded = encode_steps(tokenizer, prompts, table["steps"].to_list(), 128)
    longest = max(encoded, key=lambda one: len(one.ids))
    at = encoded.index(longest)
    (cut,) = encode_steps(tokenizer, [prompts[at]], [table["steps"][at]], len(longest.ids) - 2)
    assert cut.cut == 2
    assert [cut.ids[end] for end in cut.ends] == [longest.ids[end] for end in longest.ends]
    losses = []
    for one, labels in zip(encoded, table["step_labels"].to_list(), strict=True):
        for end, label in zip(one.ends, labels, strict=True):
            assert tokenizer.decode(one.ids[: end + 1]).endswith("\n")
            if label is not None:
                with torch.no_grad():  # the model pools at the last token
                    score = float(model(input_ids=torch.tensor([one.ids[: end + 1]])).logits)
                losses.append(math.log1p(math.exp(-score if label else score)))
    given: dict[str, Any] = {"objective": "process", "log_every": 1, "held_out": 0.0, "lr": 1e-9}
    RewardModel(str(tiny_model_dir), batch_size=24, micro_tokens=90, **given)(steps, tmp_path / "m")
    logged = json.loads((tmp_path / "m" / "metrics.jsonl").read_text().splitlines()[0])
    assert logged["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    for option in ("use_margin", "by_prompt", "center"):
        with pytest.raises(UsageError, match=f"{option}: process has no place for it"):
            RewardModel(str(tiny_model_dir), **{**given, option: True})(steps, tmp_path / "n")


def test_right_and_wrong_steps_are_summed_up_apart() -> None:
    def row(key: str, scores: list[float] | None, labels: list[int | None]) -> dict[str, Any]:
        return {"prompt_key": key, "scores": scores, "labels": labels}

    rows = [row("p", [2, 1, 1], [1, 1, 0]), row("q", None, [1]), row("r", [-1, 3], [0, None])]
    found = StepRows(None).summary(rows)
    assert (found["rows"], found["steps"], found["unscored"]) == (3, 4, 1)
    assert (found["right_steps_accuracy"], found["wrong_steps_accuracy"]) == (1.0, 0.5)
    assert found["accuracy"] == 0.75


def test_held_out_steps_have_a_score_each(tmp_path: Path, tiny_reward_dir: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text('{"prompt": "a", "completions": ["b", "c"], "labels": [true, false]}\n')
    rows, tokenizer = StepRows(None), load_tokenizer(tiny_reward_dir)
    (found,) = rows.scored(load_reward(tiny_reward_dir), tokenizer, rows.load(path), "refuse")
    assert (found["labels"], len(found["scores"])) == ([1, 0], 2)
