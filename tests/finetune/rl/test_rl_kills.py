"""Training that is killed in a rollout or in an update ends in the bytes of an unbroken run."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.core.registry import build
from tests.finetune.rl.apart import run_apart, tree

KILLS = 10
"""In each phase, of each method."""

SHARED: dict[str, Any] = {
    "reward": "text_share",
    "reward_options": {"text": "e"},
    "rollouts": 3,
    "batch_size": 4,
    "max_new_tokens": 4,
    "micro_batch": 2,
    "lr": 1e-2,
    "save_every": 1,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "ppo": {"minibatches": 2, "epochs": 2, "kl_target": 0.1, "kl_horizon": 50},
    "grpo": {"group_size": 2, "lora": 2},
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    asked = ["What is the capital?", "Say hello.", "Two plus two?"]
    table = [{"prompt": text, "completion": "yes, the good one"} for text in asked]
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return path


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", OPTIONS)
def test_killed_runs_go_on_to_the_same_weights_and_metrics(
    method: str, tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    """A run is killed again and again, each time within two rollouts from where it went on."""
    given = {"model": str(tiny_model_dir), **SHARED, **OPTIONS[method]}
    trainer = build("finetune.trainers", method, given)
    _, calls = run_apart(trainer, rows, tmp_path / "whole/out")
    whole = tree(tmp_path / "whole/out")
    assert {"model.safetensors", "metrics.jsonl"} <= whole.keys()
    draw, kills = random.Random(1), {"rollout": 0, "update": 0}
    for number in range(100):
        out, points = tmp_path / str(number) / "out", []
        while not out.exists():
            phase = min(kills, key=kills.__getitem__)  # in turns
            at = draw.randrange(2 * calls[phase] // SHARED["rollouts"])
            dead, _ = run_apart(trainer, rows, out, phase, at)
            assert dead != out.exists()
            kills[phase] += dead
            points.append(f"{phase} {at}")
        assert tree(out) == whole, points
        if min(kills.values()) >= KILLS:
            return
    pytest.fail(f"so few kills: {kills}")
