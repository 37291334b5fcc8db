"""Arguments of the loops on pairs and on answers, from the options that both have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainingArguments

from siftune.finetune.data import preflight
from siftune.finetune.training.trainer_arguments import training_arguments

if TYPE_CHECKING:
    from siftune.finetune.runs.run_dir import Run
    from siftune.finetune.training.policy_options import PolicyOptions

__all__ = ["arguments_of"]


def arguments_of(options: PolicyOptions, rows: int, run: Run, **more: Any) -> Any:
    """Arguments of the trainer underneath, for so many rows.

    ``more`` are others, or take the place of these.
    """
    own = {
        **run.arguments(options.save_every, options.log_every, options.seed),
        "learning_rate": options.lr,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.gradient_accumulation,
        "remove_unused_columns": False,
        "prediction_loss_only": True,
        **more,
    }
    args = training_arguments(TrainingArguments, own, options.options, run.work, options.precision)
    per_step = options.batch_size * options.gradient_accumulation
    preflight.refuse(
        preflight.check_steps(rows, per_step, args.num_train_epochs, args.dataloader_drop_last)
    )
    return args
