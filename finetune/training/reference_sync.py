"""Reference sync (TR-DPO) of preference training, as a trainer callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from siftune.finetune.core import distributed
from siftune.finetune.rl.kl_stop import KLStopCallback
from siftune.finetune.runs.checkpoints import put_back
from siftune.finetune.scoring.reference import Frozen
from siftune.finetune.training.online_merging import add_online_merging
from siftune.finetune.training.policy_options import PolicyOptions

__all__ = ["ReferenceSync", "add_callbacks"]

_FILE: Final = "reference.safetensors"


def add_callbacks(options: PolicyOptions, trainer: Any) -> KLStopCallback | None:
    """Add online merging, reference sync and the KL stop where ``options`` ask for them.

    Returns the stop, None without ``max_kl``.

    Raises:
        UsageError: the weights are spread over processes and the reference is to be synced.
    """
    add_online_merging(options, trainer)
    if options.ref_sync_steps:
        distributed.refuse_spread("ref_sync_steps")
        reference = trainer.reference
        if not isinstance(reference, Frozen):
            raise TypeError("ref_sync_steps needs a reference of its own in memory")
        alpha = options.ref_mixup_alpha
        trainer.add_callback(ReferenceSync(reference.model, options.ref_sync_steps, alpha))
    if options.max_kl is None:
        return None
    stop = KLStopCallback(options.max_kl)
    trainer.add_callback(stop)
    return stop


class ReferenceSync(TrainerCallback):
    """Every ``steps`` optimizer steps: ``reference = alpha × policy + (1 - alpha) × reference``.

    TR-DPO, Gorbatovski et al., arXiv:2404.09656, equations 8 and 9 (soft and hard update).
    ``alpha`` 1 takes the policy as it is; ``steps`` 1 with a small ``alpha`` is an exponential
    moving average. The reference is part of every checkpoint, so a resumed run has the same one.
    """

    def __init__(self, reference: torch.nn.Module, steps: int, alpha: float) -> None:
        self.reference, self.steps, self.alpha = reference, steps, alpha

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Load the reference of the checkpoint that a run is resumed from."""
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
        """Mix the policy into the reference every ``steps`` steps."""
        if state.global_step % self.steps:
            return
        policy = dict(model.named_parameters())
        for name, weight in self.reference.named_parameters():
            weight.lerp_(policy[name].to(weight), self.alpha)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the reference beside the checkpoint."""
        if distributed.first():
            weights = {name: value.detach() for name, value in self.reference.named_parameters()}
            save_file(weights, _folder(args, state) / _FILE)


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
