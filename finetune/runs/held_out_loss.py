"""Held-out loss while a model trains: early stopping, and the checkpoint that was best."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import orjson
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from siftune.curate.chat.encoding import Encoded
from siftune.curate.core.errors import SiftuneError
from siftune.curate.files.atomic import write_text
from siftune.finetune.core import distributed
from siftune.finetune.runs.callbacks import in_schedule
from siftune.finetune.runs.checkpoints import is_whole
from siftune.finetune.scoring.logps import score_answers

__all__ = ["HELD_OUT_FILE", "HeldOutLoss", "mean_loss"]

HELD_OUT_FILE: Final = "held_out.jsonl"
"""One object for each evaluation, ``step`` and ``loss``, beside the model."""


class HeldOutLoss(TrainerCallback):
    """Measures ``loss(model)`` before the first step and where the schedule has a checkpoint.

    Training ends where ``patience`` evaluations in a row (0: however many) were no better than the
    best one. No checkpoint is taken there: a run that is killed afterwards ends there again.
    """

    def __init__(
        self,
        loss: Callable[[Any], float],
        path: Path,
        patience: int = 0,
        keep: Literal["last", "best"] = "last",
    ) -> None:
        """``path`` is the file of the losses, ``keep`` the step whose weights are written."""
        self.loss, self.path, self.patience, self.keep = loss, path, patience, keep
        self.found: dict[int, float] = {}
        self.stopped: str | None = None

    @property
    def best(self) -> int:
        """The step of the lowest loss after training began, the first of several; 0 before one."""
        after = {step: loss for step, loss in self.found.items() if step}
        return min(after, key=lambda step: (after[step], step), default=0)

    @property
    def kept(self) -> int:
        """The step whose weights are written."""
        return self.best if self.keep == "best" else max(self.found)

    def spared(self) -> Collection[int]:
        """The step whose checkpoint has to stay."""
        return (self.best,) if self.keep == "best" else ()

    def metrics(self) -> dict[str, float]:
        """The loss before training and that of the weights that are written."""
        own = {"held_out_loss_before": self.found[0], "held_out_loss": self.found[self.kept]}
        return {**own, "kept_step": self.kept}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Measure what the training starts from, or read what a run that was cut off measured."""
        lines = self.path.read_bytes().splitlines() if self.path.is_file() else []
        known = [orjson.loads(line) for line in lines]
        self.found = {one["step"]: one["loss"] for one in known if one["step"] <= state.global_step}
        if not self.found:
            self._measure(model, state.global_step)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Measure where a checkpoint is due, and stop where it has long been no better."""
        if not in_schedule(args, state):
            return
        self._measure(model, state.global_step)
        waited = sum(step > self.best for step in self.found)
        if self.patience and waited >= self.patience:
            now, best = self.found[state.global_step], self.found[self.best]
            self.stopped = (
                f"held-out loss {now:.4f} at step {state.global_step}, not below {best:.4f} of "
                f"step {self.best} for {waited} evaluations"
            )
            distributed.progress(f"stopped early: {self.stopped}")
            control.should_training_stop = True
            control.should_save = False

    def take_best(self, trainer: Any) -> None:
        """Load the weights of the best step, unless they are the last ones.

        Raises:
            SiftuneError: its checkpoint is damaged or gone.
        """
        if self.kept == trainer.state.global_step:
            return
        folder = Path(str(trainer.args.output_dir)) / f"checkpoint-{self.kept}"
        if not is_whole(folder):
            raise SiftuneError(
                f"{folder}, the best checkpoint, is damaged or gone: remove {folder.parent} and "
                "run the same command again"
            )
        trainer._load_from_checkpoint(str(folder))
        distributed.progress(
            f"taking the weights of step {self.kept}, where the held-out loss was lowest"
        )

    def _measure(self, model: Any, step: int) -> None:
        training = model.training
        model.eval()
        self.found[step] = self.loss(model)
        model.train(training)
        lines = [orjson.dumps({"step": at, "loss": loss}) for at, loss in self.found.items()]
        write_text(self.path, "".join(line.decode() + "\n" for line in lines))
        distributed.progress(f"step {step}, held-out loss {self.found[step]:.4f}")


def mean_loss(model: Any, rows: Sequence[Encoded], batch_size: int) -> float:
    """Cross-entropy of the tokens that are learned of ``rows``, in nats a token."""
    if hasattr(model, "disable_adapter"):
        model = model.get_base_model()  # the adapter's layers are in it
    total, count = 0.0, 0
    order = sorted(rows, key=lambda row: -len(row.ids))
    for start in range(0, len(order), batch_size):
        batch = _batch(order[start : start + batch_size], model.device)
        with torch.no_grad():
            total -= float(score_answers(model, batch)["policy"].double().sum())
        count += int(batch["answer_mask"][:, 1:].sum())
    return total / count


def _batch(rows: Sequence[Encoded], device: torch.device) -> dict[str, torch.Tensor]:
    shape = (3, len(rows), max(len(row.ids) for row in rows))
    ids, there, learned = torch.zeros(shape, dtype=torch.long).unbind()
    for at, row in enumerate(rows):
        end = len(row.ids)
        ids[at, :end], there[at, :end] = torch.tensor(row.ids), 1
        learned[at, :end] = torch.tensor(row.mask, dtype=torch.long)
    found = {"input_ids": ids, "attention_mask": there, "answer_mask": learned}
    return {name: value.to(device) for name, value in found.items()}
