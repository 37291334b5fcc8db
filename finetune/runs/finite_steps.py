"""Training steps that stop at NaN and infinity, before the optimizer, and name the rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from siftune.curate.core.errors import SiftuneError
from siftune.curate.models.pretrained import non_finite, weights_of

__all__ = ["ROW", "FiniteSteps", "NonFiniteError", "StopAtNonFinite", "check_weights"]

ROW: Final = "row"
"""Column of a data set: the number of the row that an example is of, or one for each token."""

_IDS: Final = "ids"
_SHOWN: Final = 32


class NonFiniteError(SiftuneError):
    """A loss, a gradient or a weight is NaN or infinite; the text names the step and the rows."""

    def __init__(self, what: str, step: int, rows: Sequence[str]) -> None:
        names = list(dict.fromkeys(rows))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        where = f", on rows {', '.join(names[:_SHOWN])}{more}" if names else ""
        super().__init__(
            f"{what} at step {step}{where}: no model is written, checkpoints before it are kept; "
            "lower the learning rate, or look for what is unusual in these rows"
        )


@dataclass(frozen=True)
class _WithIds:
    """A collator whose batches hold the ids of their rows."""

    collate: Callable[[Any], Any]
    known: Sequence[str]

    def __call__(self, examples: Sequence[Any]) -> Any:
        """The batch of ``examples``, with `_IDS`."""
        ids = [key for example in examples for key in self._ids(example)]
        return {**self.collate(examples), _IDS: ids}

    def _ids(self, example: Any) -> list[str]:
        if not isinstance(example, dict):
            other = getattr(example, "mismatched_id", None)  # its answer is in the batch as well
            return [example.id, *([] if other is None else [other])]
        row = example.get(ROW, [])
        numbers = dict.fromkeys(row if isinstance(row, list) else [row])
        return [self.known[number] for number in numbers]


class FiniteSteps(Trainer):
    """A trainer that stops where a loss is not finite and names the rows of the step.

    ``row_ids`` are the ids behind the numbers of the column `ROW`; examples that are no dicts have
    an ``id`` of their own. ``step_rows`` holds the ids of each micro-batch of the step that runs,
    ``grad_norm`` the norm of its gradient before clipping, where there is clipping.
    """

    row_ids: Sequence[str] = ()
    step_rows: Sequence[Sequence[str]] = ()
    grad_norm: float | None = None
    _micro_batch = 0

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no card into the folder of checkpoints: the model folder has ours."""

    def get_train_dataloader(self) -> Any:
        """Batches for training, with the ids of their rows."""
        own = self.data_collator
        self.data_collator = _WithIds(own, self.row_ids)
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = own

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        if ROW not in columns:
            columns.append(ROW)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimizer step; the ids of their rows are taken out of them."""
        rows: list[list[str]] = []

        def without_ids() -> Iterator[Any]:
            for batch in epoch_iterator:
                rows.append(batch.pop(_IDS, []))
                yield batch

        self.step_rows, self._micro_batch, self.grad_norm = rows, 0, None
        return super().get_batch_samples(without_ids(), num_batches, device)

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        """Forward and backward of one micro-batch.

        Raises:
            NonFiniteError: its loss is not finite.
        """
        return self.checked(super().training_step(*given, **named))

    def checked(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss of the next micro-batch of the step, if it is finite.

        Raises:
            NonFiniteError: it is not.
        """
        rows = self.step_rows[self._micro_batch : self._micro_batch + 1]
        self._micro_batch += 1
        if not math.isfinite(float(loss)):
            own = [key for ids in rows for key in ids]
            raise NonFiniteError(f"the loss is {float(loss)}", self.state.global_step + 1, own)
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        norm: Any = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        self.grad_norm = None if norm is None else float(norm)
        return norm


class StopAtNonFinite(TrainerCallback):
    """Stops a `FiniteSteps` before a step with such a gradient, and before weights are saved.

    Raises:
        NonFiniteError: a gradient or a trained weight is not finite.
    """

    def __init__(self, trainer: FiniteSteps) -> None:
        self.trainer = trainer

    @property
    def _rows(self) -> list[str]:
        return [key for rows in self.trainer.step_rows for key in rows]

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Check the gradient's norm, or each gradient where nothing is clipped."""
        norm = self.trainer.grad_norm
        if norm is not None and math.isfinite(norm):
            return
        what = f"the norm of the gradient is {norm}"
        if norm is None:
            named = ((n, p.grad) for n, p in model.named_parameters() if p.grad is not None)
            broken = non_finite(named)
            if not broken:
                return
            what = f"the gradient of {broken[0]} is not finite"
        raise NonFiniteError(what, state.global_step + 1, self._rows)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Check the weights where a checkpoint is taken, and at the end."""
        if state.global_step % int(args.save_steps) == 0 or state.global_step >= state.max_steps:
            check_weights(model, state.global_step, self._rows)


def check_weights(model: nn.Module, step: int, rows: Sequence[str] = ()) -> None:
    """Refuse weights that are not finite after ``step``.

    Raises:
        NonFiniteError: some are not.
    """
    broken = non_finite(weights_of(model))
    if broken:
        raise NonFiniteError(f"the weight {broken[0]} is not finite", step, rows)
