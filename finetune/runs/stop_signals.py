"""Signals that stop a training: the first writes a checkpoint, the second ends it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from siftune.finetune.core import distributed
from siftune.finetune.runs.finite_steps import check_weights

__all__ = ["StopAtSignal", "StopSignals", "catching_signals"]

_CAUGHT: Final = (signal.SIGINT, signal.SIGTERM)
_RELAYED_SECONDS: Final = 2.0
"""A launcher passes a terminal's signal on to processes that got it already; it counts once."""


@dataclass
class StopSignals:
    """The first of SIGINT and SIGTERM that came, in place of its effect; ``unit`` ends first."""

    unit: str = "step"
    number: int | None = None
    _came_at: float = 0.0
    _before: dict[signal.Signals, Any] = field(default_factory=dict)

    def install(self) -> None:
        """Take the place of the handlers; a signal that is ignored stays so."""
        if threading.current_thread() is not threading.main_thread():
            return  # only there signals can be handled, and only there they arrive
        for one in _CAUGHT:
            if signal.getsignal(one) not in (signal.SIG_IGN, None):
                self._before[one] = signal.signal(one, self._handle)

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before.clear()

    def pass_on(self) -> None:
        """Let the signal that came, if any, have the effect it would have had."""
        self.restore()
        if self.number is not None:
            signal.raise_signal(self.number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._came_at = number, now
            with contextlib.suppress(RuntimeError):  # it came while a line was being written
                distributed.notify(
                    f"stopping: a checkpoint is written after this {self.unit}; "
                    "the same signal again stops at once"
                )
        elif distributed.count() == 1 or now - self._came_at > _RELAYED_SECONDS:
            self.number = number
            self.pass_on()


@contextmanager
def catching_signals(unit: str = "step") -> Iterator[StopSignals]:
    """Catch the first signal inside; at the end it has its effect, unless an error came first."""
    signals = StopSignals(unit)
    signals.install()
    try:
        yield signals
    finally:
        signals.restore()
    signals.pass_on()


class StopAtSignal(TrainerCallback):
    """Has a checkpoint written once a signal came, and passes the signal on when it is whole.

    It is the last of the callbacks: what it asks for is sealed before it leaves.
    """

    def __init__(
        self,
        signals: StopSignals,
        may_save: Callable[[int], bool] = lambda step: True,
        steps_a_unit: int = 1,
    ) -> None:
        """``may_save(step)``: whether training can continue from a checkpoint of that step.

        ``steps_a_unit`` is how many steps the unit of ``signals`` has, in which progress is shown.
        """
        self.signals, self.may_save, self.steps_a_unit = signals, may_save, steps_a_unit
        self._leaving = False

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Ask for a checkpoint; all processes agree on the step."""
        if not self.may_save(state.global_step):
            return
        self._leaving = distributed.in_any(self.signals.number is not None)
        if self._leaving and not control.should_save:
            check_weights(model, state.global_step)
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Print how to continue, and pass the signal on."""
        if not self._leaving:
            return
        done, total = (at // self.steps_a_unit for at in (state.global_step, state.max_steps))
        distributed.notify(
            f"stopped after {self.signals.unit} {done} of {total}, with the checkpoint "
            f"{args.output_dir}/checkpoint-{state.global_step}: run the same command again to "
            "continue from it"
        )
        self.signals.number = self.signals.number or signal.SIGTERM  # another process got it
        self.signals.pass_on()
