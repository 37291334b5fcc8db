"""Training that is killed in a rollout or in an update ends in the bytes of an unbroken run."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from siftune.curate.core.registry import build
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn

KILLS = 10
"""In each phase, of each method."""

OPTIONS: dict[str, dict[str, Any]] = {
    "ppo": {"minibatches": 2, "epochs": 2, "kl_target": 0.1, "kl_horizon": 50},
    "grpo": {"group_size": 2, "lora": 2},
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    table = [
        {
            "id": f"asked:{at}",
            "source": "asked",
            "row": at,
            "kind": "conversation",
            "digest": str(at),
            "messages": [turn("user", text), turn("assistant", "yes, the good one")],
        }
        for at, text in enumerate(["What is the capital?", "Say hello.", "Two plus two?"])
    ]
    pl.DataFrame(table, schema=schema_of("conversation")).write_parquet(path)
    return path


def run_apart(trainer: Any, rows: Path, out: Path, phase: str = "", at: int = -1) -> dict[str, int]:
    """Train in a process of its own, killed at the call ``at`` of a phase; how many it had.

    A call is a forward pass, without gradient in a rollout and with it in an update, or a step of
    the optimiser, which is part of an update.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 70
        try:
            torch.set_num_threads(1)
            _count(writer, phase, at)
            trainer(rows, out)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as stream:
        told = stream.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if at < 0 else -signal.SIGKILL)
    return {"rollout": told.count("r"), "update": told.count("u")}


def _count(writer: int, phase: str, at: int) -> None:
    """Write a letter a call, and end this process at the one that is asked for."""
    seen = {"rollout": 0, "update": 0}

    def called(found: str) -> None:
        os.write(writer, found[0].encode())
        if found == phase and seen[found] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen[found] += 1

    embedded, stepped = torch.nn.Embedding.forward, torch.optim.AdamW.step

    def forward(self: Any, *args: Any) -> Any:
        called("update" if torch.is_grad_enabled() else "rollout")
        return embedded(self, *args)

    def step(self: Any, *args: Any, **options: Any) -> Any:
        called("update")
        return stepped(self, *args, **options)

    torch.nn.Embedding.forward = forward  # type: ignore[method-assign]
    torch.optim.AdamW.step = step  # type: ignore[method-assign]


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["rollout", "update"])
@pytest.mark.parametrize("method", OPTIONS)
def test_a_killed_run_goes_on_to_the_same_weights_and_metrics(
    method: str, phase: str, tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    shared = {
        "model": str(tiny_model_dir),
        "reward": "text_share",
        "reward_options": {"text": "e"},
        "rollouts": 4,
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
