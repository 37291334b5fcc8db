"""Options of the PPO algorithm, with defaults and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from siftune.curate.core.ranges import Count, NonNegative, Positive, Seed, Share
from siftune.finetune.models.precision import Precision
from siftune.finetune.rl.kl import AdaptiveKL, FixedKL, KLController

__all__ = ["Critic", "Schedule", "Settings"]

Critic: TypeAlias = Literal["separate", "shared"]
Schedule: TypeAlias = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of the algorithm, explained in `trainers.ppo.PPO`."""

    rollouts: Count = 100
    batch: Count = 64
    minibatches: Count = 4
    micro_batch: Count = 16
    epochs: Count = 4
    max_new_tokens: Count = 64
    temperature: Positive = 0.7
    cliprange: Positive = 0.2
    dual_clip: float | None = None
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
        for name in ("rollouts", "batch", "minibatches", "micro_batch", "epochs", "max_new_tokens"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("temperature", "cliprange", "lr", "critic_lr", "kl_horizon", "max_grad_norm"):
            self._check(name, getattr(self, name) > 0, "above 0")
        for name in ("vf_coef", "kl_coef", "ptx_coef", "seed", "missing_eos_penalty"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("value_clip", "kl_target", "kl_stop"):
            value = getattr(self, name)
            self._check(name, value is None or value > 0, "above 0, or null")
        for name in ("gamma", "lam"):
            self._check(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        self._check("dual_clip", self.dual_clip is None or self.dual_clip > 1, "above 1, or null")
        self._check("minibatches", self.minibatches <= self.batch, f"at most batch={self.batch}")

    def _check(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)}")

    @property
    def steps_a_rollout(self) -> int:
        """Optimiser steps between two rollouts."""
        return self.epochs * self.minibatches

    @property
    def controller(self) -> KLController:
        """Sets the KL coefficient after each rollout."""
        return FixedKL() if self.kl_target is None else AdaptiveKL(self.kl_target, self.kl_horizon)
