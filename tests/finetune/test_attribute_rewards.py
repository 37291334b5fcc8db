"""Reward models of several attributes: the loss, a training, and the total of what is learned."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.registry import build
from siftune.finetune.losses.reward_types import Compared
from siftune.finetune.models.loading import load_reward
from siftune.finetune.models.reward_heads import folded
from siftune.finetune.trainers.reward_model import RewardModel

WEIGHTS = {"helpfulness": 0.7, "verbosity": -0.3}


def test_the_loss_is_the_squared_distance_of_known_ratings() -> None:
    loss = build("finetune.losses.reward", "attributes", {"weights": WEIGHTS})
    values = torch.tensor([[4.0, math.nan], [1.0, 3.0]], dtype=torch.float64)
    scores = torch.tensor([[2.5, 9.0], [1.5, 0.0]], dtype=torch.float64, requires_grad=True)
    none, mask = torch.zeros(2, 2, 2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.bool)

    def of(given: torch.Tensor) -> torch.Tensor:
        return loss(Compared(given, none, none, mask, {"value": values}))  # type: ignore[no-any-return]

    assert of(scores).tolist() == [2.25, 9.25]
    assert torch.autograd.gradcheck(of, (scores,))
    assert loss.count(Compared(scores, none, none, mask, {"value": values})).tolist() == [1, 2]
    with pytest.raises(UsageError, match="weights: expected two or more attributes"):
        build("finetune.losses.reward", "attributes", {"weights": {"helpfulness": 1.0}})


def test_the_folded_output_is_the_total_of_all(tiny_model_dir: Path) -> None:
    model: Any = load_reward(tiny_model_dir, classes=("a", "b", "c"))
    ids = torch.tensor([[5, 9, 7]])
    with torch.no_grad():
        three = model(input_ids=ids).logits[0]
        one = folded(model, [0.5, -2.0, 0.25])(input_ids=ids).logits
    assert one.shape == (1, 1)
    wanted = 0.5 * three[0] - 2 * three[1] + 0.25 * three[2]
    assert float(one) == pytest.approx(float(wanted), abs=1e-6)
    assert model.config.num_labels == 1


@pytest.mark.slow
def test_ratings_are_learned_and_the_folder_scores_their_total(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Layout of HelpSteer2: hello is helpful, a long answer is verbose; one rating is missing."""
    rows = []
    for at in range(32):
        helpful, long = at % 2, at // 2 % 2
        said = ("hello" if helpful else "the cat") + " red and blue and green" * long
        rated = dict.fromkeys(("correctness", "coherence", "complexity"), 2)
        rated |= {"helpfulness": 2 * helpful, "verbosity": None if at == 5 else 2 * long}
        rows.append({"prompt": f"Say {at}", "response": said, **rated})
    path = tmp_path / "rated.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given: dict[str, Any] = {"objective": "attributes", "objective_options": {"weights": WEIGHTS}}
    given |= {"lr": 1e-2, "batch_size": 8, "log_every": 1, "held_out": 0.25, "micro_tokens": 150}
    result = RewardModel(str(tiny_model_dir), epochs=12, **given)(path, tmp_path / "m")
    assert result.metrics["eval_rating_error"] < 0.6  # 1 without learning
    assert {f"eval_rating_error/{name}" for name in WEIGHTS} <= set(result.metrics)
    last = json.loads((tmp_path / "m" / "evaluation.json").read_text())["last"]["step"]
    file = tmp_path / "m" / "evaluation" / f"step-{last:06}.jsonl"
    known = json.loads(file.read_text().splitlines()[0])
    number = int(known["id"].split(":")[1].split("#")[0])
    from siftune.finetune.rewards.reward_model import RewardModel as Reward

    prompt = [{"role": "user", "content": rows[number - 1]["prompt"]}]
    (score,) = Reward(str(tmp_path / "m"))(
        [""], [rows[number - 1]["response"]], [{"prompt": prompt}]
    )
    total = sum(w * out for w, out in zip(WEIGHTS.values(), known["outputs"], strict=True))
    assert score == pytest.approx(total, abs=1e-4)
    other = given | {"objective_options": {"weights": {"humour": 1.0, "wit": 1.0}}}
    with pytest.raises(DataError, match="no answer has a rating of humour, wit"):
        RewardModel(str(tiny_model_dir), **other)(path, tmp_path / "n")
