"""LESS: how much a training step on a row lowers the loss of a target set, by LoRA gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from siftune.finetune.influence.adapted_model import Row
from siftune.finetune.influence.influence import Floats, Influence

__all__ = ["LESS"]


@dataclass(frozen=True, kw_only=True)
class LESS(Influence):
    """``less(z) = max_j mean_{v in j} Σ_i η̄_i cos(Γ_i(z), ∇ℓ(v; θ_i))``, over sub-tasks j.

    Xia et al. 2024, arXiv:2402.04333, definition 3.1 and section 4. A LoRA adapter is trained on a
    share of the rows, for the checkpoints θ_i; η̄_i is the mean learning rate of epoch i, over the
    sum of all. Γ_i(z) is the step that Adam would make by the row's gradient with the moments at
    θ_i; a target row's gradient is taken as it is. Both are projected by random signs. Positive:
    the row helps the target; the paper keeps the best 5 %. Rows are compared under the DPO loss
    with ``loss: dpo``, where rows and targets are pairs; without it the two sides of pairs are sets
    of their own, each with its warm-up, and not comparable.

    The paper's numbers are 7B models, rank 128, α 512, a dropout of 0.1, four epochs at 2e-5 and
    batches of 32 to 128; here rank and rate are those of a small model, without dropout. Its code
    has ε of Adam inside the root and no bias correction: here both moments are corrected and ε is
    outside. Each row has one loss, the mean over the tokens of its answer, so a cosine prefers
    short answers less than a product does; ``similarity: product`` is the estimate of what a step
    does to the target's loss, without normalisation, and with ``optimizer: sgd`` it is TracIn's
    (arXiv:2002.08484). Scores depend on the other rows through the warm-up. A row or target without
    a prompt and an answer, or longer than the model's window, is not compared: its score is null,
    and so is a cosine to a gradient of zero.

    Unit vectors are stored in ``cache``, two bytes a number: 16 KB a row and checkpoint at 8,192
    numbers; a run that was stopped is resumed from there. A row takes a forward and a backward pass
    and a projection for each checkpoint, the most of all scorers: filter the rows first.

    Not for a set without a target: it orders nothing by itself, and a few target rows are noisy.

    Options:
        similarity: Whether gradients are compared by their cosine, as in the paper, or by their
            plain product.
        optimizer: Whether a row counts by the step that Adam would make, or by its plain gradient.
    """

    similarity: Literal["cosine", "product"] = "cosine"
    optimizer: Literal["adam", "sgd"] = "adam"

    whole: ClassVar = True
    content: ClassVar = ("messages",)
    data: ClassVar = "conversations, each answer of pairs and lists; pairs with loss dpo"
    cost: ClassVar = "a short training, then a backward pass a row and epoch"
    adds: ClassVar = {"less": pl.Float64}

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Score all rows of a table."""
        return pl.DataFrame({"less": self._over_rows(table, self._scores)}, schema=self.adds)

    def _scores(self, gradients: Any, rows: Sequence[Row]) -> Floats:
        """The influence of each of the distinct rows."""
        plain, adam = self.similarity == "product", self.optimizer == "adam"

        def at(checkpoint: Any, folder: Any) -> Floats:
            target = gradients.of_targets(folder)
            means = gradients.task_means(target.vectors if plain else target.units)
            here = np.full((len(rows), len(means)), np.nan)
            for part, each in gradients.of_rows(rows, checkpoint, adam, folder):
                products = (each.units @ means.T).cpu().numpy()
                size = each.lengths[:, None].cpu().numpy()
                here[part] = products * size if plain else np.where(size > 0, products, np.nan)
            return here

        best: Floats = gradients.best_task(rows, at)
        return best
