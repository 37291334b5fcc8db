"""Metrics since the last log as part of a checkpoint: a continued run logs the same means."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from siftune.curate.files.atomic import read_json, write_text
from siftune.finetune.core import distributed

__all__ = ["PendingMetrics"]

_TRAIN: Final = "train"


class PendingMetrics(TrainerCallback):
    """Writes what a trainer has summed up since its last log, and reads it where a run continues.

    That is the loss of transformers' loop, the sums of `preference_trainer.Totals`, and the lists
    of TRL's trainers. Each process has its own.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Continue the sums of the checkpoint that was loaded."""
        path = _file(args, state)
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
        write_text(_file(args, state), orjson.dumps(kept).decode() + "\n")


def _file(args: TrainingArguments, state: TrainerState) -> Path:
    name = "pending.json" if distributed.first() else f"pending_{distributed.rank()}.json"
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / name
