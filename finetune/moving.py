"""A reference that follows the policy: mixed into it every few steps. TR-DPO, arXiv:2404.09656."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune import ranks
from finetune.checkpoints import put_back

__all__ = ["Following"]

_FILE: Final = "reference.safetensors"


class Following(TrainerCallback):
    """Every ``steps`` optimizer steps: ``reference = alpha × policy + (1 - alpha) × reference``.

    ``alpha`` 1 takes the policy as it is; ``steps`` 1 with a small ``alpha`` is an exponential
    moving average. The reference is part of every checkpoint, so that a resumed run has the same.
    """

    def __init__(self, reference: torch.nn.Module, steps: int, alpha: float) -> None:
        self.reference, self.steps, self.alpha = reference, steps, alpha

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take the reference up where a run that goes on had it."""
        if state.global_step:
            put_back(load_file(_folder(args, state) / _FILE), self.reference)

    @torch.no_grad()
    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Mix the policy in, where it is time."""
        if state.global_step % self.steps:
            return
        policy = dict(model.named_parameters())
        for name, weight in self.reference.named_parameters():
            weight.lerp_(policy[name].to(weight), self.alpha)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Keep the reference with the checkpoint."""
        if ranks.first():
            weights = {name: value.detach() for name, value in self.reference.named_parameters()}
            save_file(weights, _folder(args, state) / _FILE)


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
