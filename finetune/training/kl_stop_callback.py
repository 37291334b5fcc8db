"""The KL stop of preference training, as a trainer callback."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from siftune.finetune.core import distributed
from siftune.finetune.rl.kl_stop import KLLimit

__all__ = ["KLStopCallback"]


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
