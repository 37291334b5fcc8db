"""Options of the PPO algorithm, with defaults and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from siftune.curate.core.ranges import (
    Count,
    NonNegative,
    Positive,
    Seed,
    Share,
    Within,
    check_ranges,
)
from siftune.finetune.models.precision import Precision
from siftune.finetune.rl.draw_options import DrawOptions
from siftune.finetune.rl.kl import AdaptiveKL, FixedKL, KLController

__all__ = ["Critic", "Schedule", "Settings"]

Critic: TypeAlias = Literal["separate", "shared"]
DualClip: TypeAlias = Annotated[float, Within(1, above=True)]
Schedule: TypeAlias = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Settings(DrawOptions):
    """Options of the algorithm; `trainers.ppo.PPO` has those of its models and data.

    Options:
        rollouts: Number of rounds of sampling, each followed by training on the samples.
        batch_size: Number of prompts of a rollout, each answered once.
        minibatches: Number of parts of a rollout; each is one optimizer step.
        micro_batch: Number of answers computed at once: fewer take less memory, and change no
            result but for rounding.
        epochs: Passes over the answers of a rollout.
        temperature: Temperature at which answers are sampled.
        cliprange: Largest change of a token's probability ratio from 1 that the policy loss
            rewards.
        dual_clip: Bound, above 1, of the loss of tokens with a negative advantage; none leaves it
            open.
        value_clip: Largest change of a value that its loss rewards within an update; none leaves it
            open.
        vf_coef: Weight of the value loss beside the policy loss.
        whiten: Scale the advantages of a rollout to mean 0 and variance 1.
        missing_eos_penalty: Number subtracted from the reward of an answer that was cut at
            max_new_tokens.
        kl_coef: Weight of the KL to the reference, in nats a token, that is subtracted from the
            reward.
        kl_target: KL, in nats an answer, that kl_coef is adapted to; none keeps it fixed.
        kl_horizon: Number of answers over which kl_coef adapts to kl_target.
        kl_stop: KL to the reference, in nats an answer, above which the run ends with the last
            policy below it; none never ends it.
        ptx_coef: Weight of the negative log-likelihood of ptx_rows, in nats a token (γ of
            InstructGPT).
        critic_lr: Learning rate of the value model.
        schedule: Course of both learning rates over the run: constant, or falling to 0 linearly or
            as a cosine.
        max_grad_norm: Norm that gradients are clipped to.
    """

    rollouts: Count = 100
    batch_size: Count = 64
    minibatches: Count = 4
    micro_batch: Count = 16
    epochs: Count = 4
    max_new_tokens: Count = 64
    temperature: Positive = 0.7
    cliprange: Positive = 0.2
    dual_clip: DualClip | None = None
    value_clip: Positive | None = 0.2
    vf_coef: NonNegative = 0.1
    gamma: Share = 1.0
    lam: Share = 0.95
    whiten: bool = True
    missing_eos_penalty: NonNegative = 0.0
    kl_coef: NonNegative = 0.05
    kl_target: Positive | None = None
    kl_horizon: Positive = 10_000
    kl_stop: Positive | None = 50.0
    ptx_coef: NonNegative = 0.0
    lr: Positive = 3e-6
    critic_lr: Positive = 3e-5
    schedule: Schedule = "linear"
    max_grad_norm: Positive = 1.0
    seed: Seed = 0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Refuse numbers out of range.

        Raises:
            ValueError: one is; the text names the option and what was expected.
        """
        check_ranges(self)
        self.check_draws()
        if self.minibatches > self.batch_size:
            raise ValueError(
                f"minibatches: expected at most batch_size={self.batch_size}, "
                f"got {self.minibatches}"
            )

    @property
    def steps_a_rollout(self) -> int:
        """Optimiser steps between two rollouts."""
        return self.epochs * self.minibatches

    @property
    def controller(self) -> KLController:
        """Sets the KL coefficient after each rollout."""
        return FixedKL() if self.kl_target is None else AdaptiveKL(self.kl_target, self.kl_horizon)
