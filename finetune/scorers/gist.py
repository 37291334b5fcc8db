"""GIST: alignment of a row's gradient with the leading directions of a target set's gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch

from siftune.curate.core.ranges import Count
from siftune.finetune.influence.adapted_model import Row
from siftune.finetune.influence.influence import Floats, Influence

__all__ = ["GIST"]


@dataclass(frozen=True, kw_only=True)
class GIST(Influence):
    """``gist(z) = max_j Σ_i η̄_i cos(V_kᵀ g_i(z), V_kᵀ ḡ_ij)``, over sub-tasks j.

    arXiv:2602.18584: the k right singular vectors V_k of the target rows' LoRA gradients span the
    directions that matter for the target, also across weights, which the diagonal of Adam's second
    moment does not see. The gradient g_i(z) of a row at checkpoint i is compared with the mean
    gradient ḡ_ij of a sub-task within that space; what lies outside of it does not count. No moment
    of an optimiser is used. Warm-up, checkpoints, weights η̄_i and null scores are those of `less`,
    and so is the cache: after ``less`` with ``optimizer: sgd`` no gradient is computed again.

    Of the paper only the abstract was read; the rest is as in the authors' code
    (github.com/GuanghuiMin/GIST): target gradients keep their lengths, in the decomposition and in
    the mean of a sub-task, checkpoints weigh by learning rate, and a row has its best sub-task. The
    code has 9 to 50 components. Here the decomposition is of gradients that were projected by
    random signs, which keep their angles (``dimension``); theirs has no such step.

    Not for one target row alone: its subspace is a line, and every score is 1 or -1.

    Options:
        components: Number of singular vectors, k; of fewer target rows all.
    """

    components: Count = 32

    whole: ClassVar = True
    content: ClassVar = ("messages",)
    data: ClassVar = "conversations, each answer of pairs and lists; pairs with loss dpo"
    cost: ClassVar = "a short training, then a backward pass a row and epoch"
    adds: ClassVar = {"gist": pl.Float64}

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Score all rows of a table."""
        return pl.DataFrame({"gist": self._over_rows(table, self._scores)}, schema=self.adds)

    def _scores(self, gradients: Any, rows: Sequence[Row]) -> Floats:
        """The alignment of each of the distinct rows."""

        def at(checkpoint: Any, folder: Any) -> Floats:
            targets = gradients.of_targets(folder).vectors
            basis = torch.linalg.svd(targets, full_matrices=False)[2][: self.components]
            means = gradients.task_means(targets) @ basis.T
            here = np.full((len(rows), len(means)), np.nan)
            for part, each in gradients.of_rows(rows, checkpoint, adam=False, folder=folder):
                here[part] = _cosines(each.units @ basis.T, means).cpu().numpy()
            return here

        best: Floats = gradients.best_task(rows, at)
        return best


def _cosines(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Cosines ``(n, m)``; NaN where a vector is zero."""
    sizes = left.norm(dim=1)[:, None] * right.norm(dim=1)
    return torch.where(sizes > 0, left @ right.T / sizes, torch.nan)
