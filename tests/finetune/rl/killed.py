"""A training that ends at a call of its model or optimiser, as by `kill -9`."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft.tuners.lora
import torch
import transformers.models.llama.modeling_llama  # imported once, before a process is forked

from siftune.finetune.rl import loop, prepare
from siftune.finetune.trainers import dapo, grpo, ppo
from siftune.finetune.watch import prompts

__all__ = ["dapo", "grpo", "loop", "peft", "ppo", "prepare", "train", "transformers"]


def train(
    trainer: Any,
    rows: Path,
    out: Path,
    calls: Path,
    phase: str,
    at: int,
    environ: Mapping[str, str],
) -> None:
    """Train in this process, killed at the call ``at`` of a phase; ``calls`` has a letter a call.

    A call is a forward pass, without gradient in a rollout and with it in an update, or a step of
    the optimiser, which is part of an update.
    """
    os.environ.update(environ)
    torch.set_num_threads(1)
    prompts._MOST = 1  # one watched prompt, answered at each checkpoint
    seen, letters = {"rollout": 0, "update": 0}, calls.open("w")

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
