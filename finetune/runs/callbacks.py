"""Callbacks of trainers: metrics to a file, checkpoints sealed, models evaluated."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

import orjson
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from siftune.curate.core.progress import Pace, if_slow
from siftune.curate.files.atomic import read_json, write_text
from siftune.finetune.core import distributed
from siftune.finetune.runs.checkpoints import rotate, seal

__all__ = ["Evaluations", "Metrics", "PendingMetrics", "Sealed", "in_schedule"]

_TRAIN: Final = "train"

# Wall clock, and totals that begin anew when a run is resumed: not a fact of the training.
_LEFT_OUT: Final = (
    "num_tokens",
    "total_flos",
    "train_loss",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
)


class Metrics(TrainerCallback):
    """Writes one JSON object a logged step to ``metrics.jsonl``.

    A line is also written at every checkpoint, so that the means of a resumed run begin where
    those of the unbroken run do and the file ends in the same bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pace = Pace()
        self.last: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget what a run that was cut off logged after the checkpoint."""
        lines = self.path.read_bytes().splitlines() if self.path.is_file() else []
        kept = [line for line in map(_parsed, lines) if line and line["step"] <= state.global_step]
        write_text(self.path, "".join(_line(line) for line in kept))
        self.last = dict(kept[-1]) if kept else {}  # a run may have nothing left to do
        self.pace.begin(state.global_step, state.num_input_tokens_seen)
        if state.global_step == 0:  # the first logged step can be minutes away
            distributed.progress(f"training: {state.max_steps:,} steps")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Log where a checkpoint is taken, and at the end."""
        if in_schedule(args, state):
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Append a line, and show it."""
        found = {name: value for name, value in (logs or {}).items() if name not in _LEFT_OUT}
        if "loss" not in found:
            return
        self.last = {"step": state.global_step, **found}
        with self.path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(_line(self.last))
        tokens = found.get("num_input_tokens_seen", (logs or {}).get("num_tokens"))
        pace = self.pace(state.global_step, state.max_steps, tokens)
        step = f"step {state.global_step} of {state.max_steps}"
        distributed.progress(f"{step}, loss {found['loss']:.4f}{pace}")


class Sealed(TrainerCallback):
    """Marks each checkpoint as whole once all of it is written, and removes the oldest."""

    def __init__(self, spared: Callable[[], Collection[int]] = lambda: ()) -> None:
        """``spared()`` are the steps of checkpoints that stay however old they are."""
        self.spared = spared

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the hashes of its files beside them, when every process has written its own."""
        distributed.together()
        if distributed.first():
            seal(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
            rotate(Path(str(args.output_dir)), self.spared())
        distributed.together()


class Evaluations(TrainerCallback):
    """Calls ``evaluate(model, step)`` before the first step, at every checkpoint and at the end."""

    def __init__(self, evaluate: Callable[[Any, int], None]) -> None:
        self.evaluate = evaluate
        self._last: int | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Evaluate what the training starts from."""
        if state.global_step == 0:
            self._run(model, 0)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Evaluate a checkpoint, but not one that a signal asked for: it is not in the schedule."""
        if in_schedule(args, state):
            self._run(model, state.global_step)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Evaluate what has come out, unless the last step left a checkpoint."""
        if state.global_step != self._last:
            self._run(model, state.global_step)

    def _run(self, model: Any, step: int) -> None:
        training = model.training
        model.eval()
        with if_slow(f"evaluating held-out rows at step {step:,}"):
            self.evaluate(model, step)
        model.train(training)
        self._last = step


def in_schedule(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether a checkpoint is taken after this step, whatever else asks for one."""
    return state.global_step % int(args.save_steps) == 0 or state.global_step >= state.max_steps


def _line(values: dict[str, Any]) -> str:
    return orjson.dumps(values).decode() + "\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None  # cut off while it was written
    return value


class PendingMetrics(TrainerCallback):
    """Writes what a trainer has summed up since its last log, and reads it where a run continues.

    That is the loss of transformers' loop, the sums of `preference_loop.Totals`, and the lists
    of TRL's trainers. Each process has its own.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Continue the sums of the checkpoint that was loaded."""
        path = _pending_file(args, state)
        if not state.global_step or not path.is_file():
            return
        kept = read_json(path)
        trainer = self.trainer
        trainer._tr_loss += kept["loss"]
        trainer._globalstep_last_logged = kept["logged"]
        for name, sums in kept["sums"].items():
            values = torch.tensor(sums, dtype=torch.double, device=args.device)
            trainer._totals[_TRAIN].sums[name] = values
        for name, values in kept["lists"].items():
            trainer._metrics[_TRAIN][name] = values

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Keep the sums with the checkpoint."""
        trainer = self.trainer
        totals = trainer._totals[_TRAIN].sums if hasattr(trainer, "_totals") else {}
        lists = trainer._metrics[_TRAIN] if hasattr(trainer, "_metrics") else {}
        kept = {
            "loss": float(trainer._tr_loss),
            "logged": trainer._globalstep_last_logged,
            "sums": {name: value.tolist() for name, value in totals.items()},
            "lists": {name: [float(one) for one in values] for name, values in lists.items()},
        }
        # keys in their order, in which they are logged
        write_text(_pending_file(args, state), orjson.dumps(kept).decode() + "\n")


def _pending_file(args: TrainingArguments, state: TrainerState) -> Path:
    name = "pending.json" if distributed.first() else f"pending_{distributed.rank()}.json"
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / name
