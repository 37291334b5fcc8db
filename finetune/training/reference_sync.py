"""How far a policy and its reference part: the one is stopped, or the other follows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from siftune.finetune.core import distributed
from siftune.finetune.runs.checkpoints import put_back
from siftune.finetune.scoring.reference import Frozen
from siftune.finetune.training.policy_options import PolicyOptions

__all__ = ["Following", "KLStop", "hold"]

_FILE: Final = "reference.safetensors"


def hold(options: PolicyOptions, trainer: Any) -> KLStop | None:
    """Let the reference follow, and stop the policy, where ``options`` ask for it.

    Raises:
        UsageError: the weights are spread over processes and the reference is to follow.
    """
    if options.ref_sync_steps:
        distributed.refuse_spread("ref_sync_steps")
        held = trainer.reference
        if not isinstance(held, Frozen):
            raise TypeError("ref_sync_steps needs a reference of its own in memory")
        alpha = options.ref_mixup_alpha
        trainer.add_callback(Following(held.model, options.ref_sync_steps, alpha))
    if options.max_kl is None:
        return None
    stop = KLStop(options.max_kl)
    trainer.add_callback(stop)
    return stop


class Following(TrainerCallback):
    """Every ``steps`` optimizer steps: ``reference = alpha × policy + (1 - alpha) × reference``.

    TR-DPO, Gorbatovski et al., arXiv:2404.09656, equations 8 and 9 (soft and hard update).
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
        if distributed.first():
            weights = {name: value.detach() for name, value in self.reference.named_parameters()}
            save_file(weights, _folder(args, state) / _FILE)


class KLStop(TrainerCallback):
    """Ends training once the logged KL to the reference is above a limit; ``fired`` says when."""

    def __init__(self, limit: float) -> None:
        """``limit`` is in nats per token."""
        self.limit = limit
        self.fired: str | None = None

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Look at the newest value."""
        kl = (logs or {}).get("kl", 0.0)
        if kl > self.limit or math.isnan(kl):
            self.fired = f"kl {kl:.4g} above max_kl {self.limit:g} at step {state.global_step}"
            distributed.tell(f"stopped: {self.fired}")
            control.should_training_stop = True
            control.should_save = False  # from a checkpoint of here a run would train on


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
