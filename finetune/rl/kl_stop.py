"""The KL stop: training ends once the policy is further from the reference than a limit.

PPO checks it at every rollout (`rl.loop`), preference training at every log
(`training.kl_stop_callback`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KLLimit", "KLStop"]


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
