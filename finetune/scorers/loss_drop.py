"""Loss drop: by which share a short training on a target set lowers the loss of a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.progress import report_progress
from siftune.curate.core.ranges import Count, Positive, check_ranges
from siftune.curate.dedup.reference_rows import check_against
from siftune.curate.files.source_spec import SourceOption
from siftune.curate.lm.reference_chats import reference_chats
from siftune.finetune.influence.adapted_model import AdaptedModel, rows_digest
from siftune.finetune.influence.lora_training import LoraTraining, answers_of, none_fits

__all__ = ["LossDrop"]


@dataclass(frozen=True, kw_only=True)
class LossDrop(LoraTraining):
    """``loss_drop(z) = (L(z; θ_0) - L(z; θ_T)) / L(z; θ_0)``, L the mean loss a token.

    arXiv:2605.09404, target-aligned paths: from the model θ_0 an adapter of low rank is trained on
    the target rows for a few steps, to θ_T. Rows whose loss falls along that path, by the share of
    what they had, teach what the target needs. It takes no gradient of a row, two forward passes,
    and the training on the target serves any number of sets. ``loss_drop_start`` is L(z; θ_0). The
    part of the loss that falls for every row, such as that of the chat format, is in all scores:
    compare scores within a set.

    Only the paper's abstract was read; rank, rate and epochs are ours. A longer training, or one of
    a larger rank, learns the target rows by heart, and other rows' losses rise. A row without a
    prompt and an answer, or longer than the model's window, is null.

    Not for rows that the target set contains: theirs is the loss that was trained on.

    Options:
        against: Target rows: a file, a run folder, or {path, format, map}.
    """

    against: SourceOption
    rank: Count = 4
    alpha: Positive = 8.0
    epochs: Count = 2

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"loss_drop": pl.Float64, "loss_drop_start": pl.Float64}
    cost: ClassVar = "a short training on the target rows, then two forward passes a row"

    def __post_init__(self) -> None:
        check_against(self.against)
        check_ranges(self)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation's last assistant turn."""
        rows = self._tokens.after_prompt(batch["messages"])
        found = np.full((len(rows), 2), np.nan)
        for at, row in enumerate(rows):
            if row is not None:
                with self._trained.adapter_off():
                    start = self._trained.losses([(row,)])[0]
                drop = start - self._trained.losses([(row,)])[0]
                found[at] = (drop / start if start else np.nan), start
            report_progress(at + 1, len(rows), "rows")
        return pl.DataFrame(found, schema=self.adds, orient="row").fill_nan(None)

    @cached_property
    def _trained(self) -> AdaptedModel:
        """The model with its adapter at the end of the path."""
        table = reference_chats(self.against, "loss_drop")
        rows = [row for row in answers_of(self, table) if row is not None]
        if not rows:
            raise none_fits(self, "loss_drop", self.against)
        model = self.adapted()
        self.train(model, rows, self.folder_of("adapter", loss="sft", rows=rows_digest(rows)))
        return model
