"""A training that ends at a call of its model or optimiser, as by `kill -9`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from siftune.finetune.trainers import grpo, ppo  # imported once, before a process is forked

__all__ = ["grpo", "ppo", "train"]


def train(trainer: Any, rows: Path, out: Path, told: Path, phase: str, at: int) -> None:
    """Train in this process, killed at the call ``at`` of a phase; ``told`` has a letter a call.

    A call is a forward pass, without gradient in a rollout and with it in an update, or a step of
    the optimiser, which is part of an update.
    """
    torch.set_num_threads(1)
    seen, letters = {"rollout": 0, "update": 0}, told.open("w")

    def called(found: str) -> None:
        letters.write(found[0])
        letters.flush()
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
    trainer(rows, out)
