"""Training that is killed in a rollout or in an update ends in the bytes of an unbroken run."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.core.registry import build
from tests.finetune.rl.killed import train

KILLS = 10
"""In each phase, of each method."""

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


_APART = multiprocessing.get_context("forkserver")  # of a process that has run nothing yet
_APART.set_forkserver_preload(["torch", "transformers.trainer", "tests.finetune.rl.killed"])


def run_apart(trainer: Any, rows: Path, out: Path, phase: str = "", at: int = -1) -> dict[str, int]:
    """Train in a process of its own, killed at the call ``at`` of a phase; how many it had."""
    told = out.parent / "calls.txt"
    told.parent.mkdir(exist_ok=True)
    child = _APART.Process(target=train, args=(trainer, rows, out, told, phase, at))
    child.start()
    child.join(600)
    assert child.exitcode == (0 if at < 0 else -signal.SIGKILL)
    found = told.read_text()
    told.unlink()
    return {"rollout": found.count("r"), "update": found.count("u")}


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("phase", ["rollout", "update"])
@pytest.mark.parametrize("method", OPTIONS)
def test_a_killed_run_goes_on_to_the_same_weights_and_metrics(
    method: str, phase: str, tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    shared = {
        "model": str(tiny_model_dir),
        "reward": "text_share",
        "reward_options": {"text": "e"},
        "rollouts": 3,
        "batch_size": 4,
        "max_new_tokens": 4,
        "micro_batch": 2,
        "lr": 1e-2,
        "save_every": 1,
    }
    trainer = build("finetune.trainers", method, {**shared, **OPTIONS[method]})
    calls = run_apart(trainer, rows, tmp_path / "whole/out")[phase]
    whole = tree(tmp_path / "whole/out")
    assert {"model.safetensors", "metrics.jsonl"} <= whole.keys()
    points = random.Random(1).sample(range(calls), KILLS)
    for number in points:
        out = tmp_path / str(number) / "out"
        run_apart(trainer, rows, out, phase, number)
        assert not out.exists()
        run_apart(trainer, rows, out)
        assert tree(out) == whole, f"killed at call {number} of {calls}"
