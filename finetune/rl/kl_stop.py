"""The KL stop: training ends once the policy is further from the reference than a limit.

PPO checks it at every rollout (`rl.loop`), preference training at every log
(`KLStopCallback`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from siftune.finetune.core import distributed

__all__ = ["KLLimit", "KLStop", "KLStopCallback"]


class KLStop(Exception):
    """The KL is above its limit: the step is not taken. The text is the reason."""


@dataclass(frozen=True)
class KLLimit:
    """The largest allowed KL, in nats a ``unit``: the value of ``option``; None allows any.

    >>> KLLimit("max_kl", 0.05, "token").exceeded(0.0612, step=40)
    'stopped at step 40: 0.0612 nats a token from the reference, above max_kl=0.05'
    """

    option: str
    limit: float | None
    unit: str

    def exceeded(self, kl: float, step: int, other: str = "from the reference") -> str | None:
        """The reason to stop at ``step``; None while ``kl`` is within the limit. NaN is not."""
        if self.limit is None or kl <= self.limit:
            return None
        return (
            f"stopped at step {step}: {kl:.4g} nats a {self.unit} {other}, above "
            f"{self.option}={self.limit:g}"
        )


class KLStopCallback(TrainerCallback):
    """Ends training once the logged KL to the reference is above a limit; ``reason`` is why."""

    def __init__(self, limit: float) -> None:
        """``limit`` is in nats per token."""
        self.limit = KLLimit("max_kl", limit, "token")
        self.reason: str | None = None

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Check the newest value of ``kl``."""
        reason = self.limit.exceeded((logs or {}).get("kl", 0.0), state.global_step)
        if reason is not None:
            self.reason = reason
            distributed.notify(reason)
            control.should_training_stop = True
            control.should_save = False  # a run would be resumed from it
