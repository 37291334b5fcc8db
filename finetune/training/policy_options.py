"""Options of training a policy on preferences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from siftune.curate.core.ranges import (
    Count,
    HeldOutShare,
    Natural,
    Positive,
    PositiveShare,
    Rank,
    Seed,
    check_ranges,
)
from siftune.finetune.data.training_rows import OnBad
from siftune.finetune.models.lora import Kept, check_kept
from siftune.finetune.models.precision import Precision
from siftune.finetune.training.watched import check_watch
from siftune.finetune.watch.actions import Action

__all__ = ["PolicyOptions"]


@dataclass(frozen=True)
class PolicyOptions:
    """Options of preference training, each with its meaning.

    Options:
        loss: Name of the objective.
        online_merge: Merge every step with the change of the model from its base model, such as
            base=MODEL,rate=1e-7,density=0.01,method=dare (or ties).
        options: Any other arguments of transformers' TrainingArguments, by their names there.
    """

    model: str
    loss: str = "dpo"
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    beta: float | None = None
    also: Mapping[str, float | Mapping[str, Any]] = field(default_factory=dict)
    ref_model: str | None = None
    lora: Rank = 0
    lora_alpha: Positive = 16.0
    adapter: Kept = "merge"
    load_in_4bit: bool = False
    precompute_reference: bool = False
    track_reference: bool = False
    ref_sync_steps: Natural = 0
    ref_mixup_alpha: PositiveShare = 0.6
    share_prefix: bool = True
    cache: str | None = None
    epochs: Positive = 1.0
    max_tokens: Count | None = None
    lr: Positive = 1e-6
    value_lr: Positive = 1e-3
    batch_size: Count = 8
    gradient_accumulation: Count = 1
    micro_tokens: Count = 4096
    max_length: Count | None = None
    max_prompt_length: Count | None = None
    on_bad: OnBad = "refuse"
    held_out: HeldOutShare = 0.1
    eval_rows: str | None = None
    eval_limit: Natural = 0
    max_new_tokens: Count = 64
    max_kl: Positive | None = None
    online_merge: Mapping[str, Any] = field(default_factory=dict)
    save_every: Count = 100
    log_every: Count = 10
    seed: Seed = 0
    precision: Precision = "auto"
    watch: Action = "log"
    watch_detectors: Mapping[str, Any] = field(default_factory=dict)
    watch_prompts: Natural = 8
    watch_rows: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        check_ranges(self)
        check_kept(self.adapter, self.lora)
        check_watch(self)
        self._refuse_conflicts()

    def _refuse_conflicts(self) -> None:
        """Refuse options that ask for a reference which others leave out."""
        if self.online_merge and self.lora:
            raise ValueError("online_merge: merges whole weights, and lora trains an adapter alone")
        if self.load_in_4bit and (not self.lora or self.precompute_reference):
            raise ValueError(
                "load_in_4bit: needs lora, which is what trains, and no precompute_reference, "
                "which is of the model in full"
            )
        if self.ref_sync_steps and (self.lora or self.precompute_reference):
            raise ValueError(
                "ref_sync_steps: needs a reference of its own in memory, and neither lora nor "
                "precompute_reference leaves one there"
            )
        if self.max_kl is not None and self.precompute_reference:
            raise ValueError(
                "max_kl needs the reference in memory, precompute_reference takes it out"
            )
