"""Held-out DPO loss of a pair, under models that were trained on halves of the set without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

import numpy as np
import polars as pl
from torch import Tensor

from siftune.curate.core.progress import log_metrics
from siftune.curate.core.ranges import Count, Positive, check_ranges
from siftune.finetune.influence.adapted_model import AdaptedModel, Row, row_key, rows_digest
from siftune.finetune.influence.lora_training import LoraTraining, Work, pairs_of

__all__ = ["HeldOutLoss"]


@dataclass(frozen=True, kw_only=True)
class HeldOutLoss(LoraTraining):
    """``held_out_loss = mean -log σ(β Δ)`` over models that have not seen the pair.

    The difficulty of Selective DPO (arXiv:2502.09650, section 3): the set is halved, a model is
    trained by DPO on each half, and a pair has its loss under the model of the other half; three
    times with other halves, so six models. ``held_out_loss_spread`` is the standard deviation over
    the repeats, null for one. ln 2 = 0.693 is the loss of a model that learned nothing of the pair,
    above that it prefers the rejected answer. The selector `selective` keeps the half with the
    smallest losses; a wrong label has a large one.

    Pairs of one prompt are in the same half, so that no other pair of the prompt gives the answer
    away. An adapter is trained, from the same weights each time; the paper trains all weights, of
    7B models, with β = 0.01. Scores depend on the other rows, not on their order. A pair of which a
    side has no answer, or is longer than the model's window, is null, and so are all pairs of fewer
    than two prompts.

    Not for sets of some dozens of pairs: a model that learned nothing finds all pairs equally hard.

    Options:
        beta: Factor β of the DPO loss.
        repeats: Number of times that the set is halved.
    """

    beta: Positive = 0.1
    repeats: Count = 3

    whole: ClassVar = True
    content: ClassVar = ("prompt", "chosen", "rejected")
    needs: ClassVar = ("prompt", "chosen", "rejected")
    adds: ClassVar = {"held_out_loss": pl.Float64, "held_out_loss_spread": pl.Float64}
    cost: ClassVar = "two trainings on half of the pairs for each repeat, a pass a pair"

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Score all pairs of a table."""
        rows = pairs_of(self, table)
        distinct = {row_key(row): row for row in rows if row is not None}
        pairs = [distinct[key] for key in sorted(distinct)]
        prompts = {_prompt(row) for row in pairs}
        if len(prompts) < 2:
            if pairs:
                log_metrics(too_few=f"expected pairs of two prompts or more, found {len(prompts)}")
            return pl.DataFrame(
                {name: [None] * table.height for name in self.adds}, schema=self.adds
            )
        model = self.adapted(self.beta)
        start, work = model.weights, Work(self.repeats * len(pairs) * (self.epochs + 1))
        losses = []
        for repeat in range(self.repeats):
            half = self._halves(prompts, repeat)
            losses.append(self._held_out(model, start, pairs, half, work))
        scores = dict(zip(sorted(distinct), np.transpose(losses), strict=True))
        found = np.full((table.height, 2), np.nan)
        for at, row in enumerate(rows):
            if row is not None:
                own = scores[row_key(row)]
                found[at] = own.mean(), own.std(ddof=1) if self.repeats > 1 else np.nan
        return pl.DataFrame(found, schema=self.adds, orient="row").fill_nan(None)

    def _halves(self, prompts: set[tuple[int, ...]], repeat: int) -> dict[tuple[int, ...], int]:
        """The half of each prompt: 0 or 1, evenly many, by the seed."""
        salt = f"{self.seed} {repeat}".encode()
        order = sorted(prompts, key=lambda ids: blake2b(str(ids).encode(), key=salt).digest())
        return {prompt: at % 2 for at, prompt in enumerate(order)}

    def _held_out(
        self,
        model: AdaptedModel,
        start: Tensor,
        pairs: Sequence[Row],
        half: dict[tuple[int, ...], int],
        work: Work,
    ) -> list[float]:
        """The loss of each pair under the model of the half that it is not in."""
        of = np.array([half[_prompt(row)] for row in pairs])
        found = np.empty(len(pairs))
        for side in (0, 1):
            model.weights = start
            some = [pair for pair, its in zip(pairs, of, strict=True) if its != side]
            rows = rows_digest(some)
            folder = self.folder_of("adapter", loss="dpo", beta=self.beta, rows=rows)
            self.train(model, some, folder, work)
            for at in np.flatnonzero(of == side).tolist():
                found[at] = model.losses([pairs[at]])[0]
                work.add(1)
        return found.tolist()


def _prompt(pair: Row) -> tuple[int, ...]:
    return pair[0].ids[: pair[0].first]
