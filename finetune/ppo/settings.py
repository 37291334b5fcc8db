"""The numbers that PPO goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from finetune.ppo.kl import AdaptiveKL, FixedKL, KLController
from finetune.precision import Precision

__all__ = ["Critic", "Schedule", "Settings"]

Critic: TypeAlias = Literal["separate", "shared"]
Schedule: TypeAlias = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of the algorithm; what each means stands in `finetune.trainers.ppo.PPO`."""

    rollouts: int = 100
    batch: int = 64
    minibatches: int = 4
    micro_batch: int = 16
    epochs: int = 4
    max_new_tokens: int = 64
    temperature: float = 0.7
    cliprange: float = 0.2
    dual_clip: float | None = None
    value_clip: float | None = 0.2
    vf_coef: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    whiten: bool = True
    missing_eos_penalty: float = 0.0
    kl_coef: float = 0.05
    kl_target: float | None = None
    kl_horizon: float = 10_000
    kl_stop: float | None = 50.0
    ptx_coef: float = 0.0
    lr: float = 3e-6
    critic_lr: float = 3e-5
    schedule: Schedule = "linear"
    max_grad_norm: float = 1.0
    seed: int = 0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Refuse numbers that make no run."""
        for name in ("rollouts", "batch", "minibatches", "micro_batch", "epochs", "max_new_tokens"):
            self._hold(name, getattr(self, name) >= 1, "at least 1")
        for name in ("temperature", "cliprange", "lr", "critic_lr", "kl_horizon", "max_grad_norm"):
            self._hold(name, getattr(self, name) > 0, "above 0")
        for name in ("vf_coef", "kl_coef", "ptx_coef", "seed", "missing_eos_penalty"):
            self._hold(name, getattr(self, name) >= 0, "0 or more")
        for name in ("value_clip", "kl_target", "kl_stop"):
            value = getattr(self, name)
            self._hold(name, value is None or value > 0, "above 0, or null")
        for name in ("gamma", "lam"):
            self._hold(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        self._hold("dual_clip", self.dual_clip is None or self.dual_clip > 1, "above 1, or null")
        self._hold("minibatches", self.minibatches <= self.batch, f"at most batch={self.batch}")

    def _hold(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)}")

    @property
    def steps_a_rollout(self) -> int:
        """Optimiser steps between two rollouts."""
        return self.epochs * self.minibatches

    @property
    def controller(self) -> KLController:
        """What sets the KL coefficient after each rollout."""
        return FixedKL() if self.kl_target is None else AdaptiveKL(self.kl_target, self.kl_horizon)
