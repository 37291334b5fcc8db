"""Training loop on pairs: what a `PairObjective` is given, its metrics, and held-out pairs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl
import torch

from siftune.finetune.data import training_rows
from siftune.finetune.data.collator import Batch
from siftune.finetune.evaluation.pair_accuracy import accuracy, wins
from siftune.finetune.losses.types import Answers, PairLogps, PairLoss
from siftune.finetune.training.preference_loop import PreferenceTrainer, columns_of, take

__all__ = ["PairTrainer", "pairs_of", "summary"]

_SIDES: Final = ("chosen", "rejected")
_MEANS: Final = (
    "loss",
    "margin",
    "drift_chosen",
    "drift_rejected",
    "ratio_correct",
    "kl_chosen",
    "kl_rejected",
)


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Pair accuracy beside that of preferring the longer answer, mean loss, margin and drift."""
    means = {
        name: statistics.fmean(row[name] for row in rows) for name in _MEANS if name in rows[0]
    }
    return {**accuracy(rows, ties="half"), **means}


class PairTrainer(PreferenceTrainer):
    """Runs any `PairObjective`."""

    def given_to_loss(
        self, answers: Answers, tokens: Mapping[str, torch.Tensor], batch: Batch
    ) -> PairLogps:
        """Both sides of each pair, ``(B,)``."""
        return pairs_of(answers, batch)

    def add_metrics(
        self,
        mode: str,
        logps: PairLogps,
        result: PairLoss,
        tokens: dict[str, torch.Tensor],
        batch: Batch,
    ) -> None:
        """Rewards, log-probs, lengths and drift of both sides; token statistics of all answers."""
        totals = self._totals[mode]
        chosen, rejected = result.chosen_reward, result.rejected_reward
        totals.add("rewards/chosen", chosen)
        totals.add("rewards/rejected", rejected)
        totals.add("rewards/margins", chosen - rejected)
        totals.add("rewards/accuracies", (chosen > rejected).double())
        for side, answers in (("chosen", logps.chosen), ("rejected", logps.rejected)):
            totals.add(f"logps/{side}", answers.policy)
            totals.add(f"lengths/{side}", answers.length)
            if answers.reference is not None:
                totals.add(f"drift/{side}", answers.ratio)
        rows = torch.arange(2 * len(chosen), device=chosen.device)
        sides = {"chosen": rows < len(chosen), "rejected": rows >= len(chosen)}
        self.add_token_metrics(mode, tokens, batch, sides)

    def evaluated(self, table: pl.DataFrame) -> list[dict[str, Any]]:
        """One object for each held-out pair, in the order of ``table``.

        The loss, both implicit rewards (``correct`` is 1 where chosen has the higher, 0.5 where
        they are equal), both log-probs and their ``drift`` from the reference's, in nats, the KL to
        the reference on both answers, in nats per token, and the lengths of both answers in
        characters. ``ratio_correct`` is ``correct`` by drift: the same measure for every loss.
        """
        lengths = {
            row["id"]: [training_rows.length_of(row[side]) for side in _SIDES]
            for row in training_rows.to_pairs(table)
        }
        return [{**row, **_compared(row, *lengths[row["id"]])} for row in super().evaluated(table)]

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Means over evaluated rows: `summary`."""
        return summary(rows)

    def evaluate_batch(self, batch: Batch) -> list[dict[str, Any]]:
        """Loss, rewards, log-probs, drift and KL of each pair."""
        logps, tokens = self.score(self.model, batch)
        result = self.loss(logps)
        columns = {
            "loss": result.loss,
            "reward_chosen": result.chosen_reward,
            "reward_rejected": result.rejected_reward,
            "logps_chosen": logps.chosen.policy,
            "logps_rejected": logps.rejected.policy,
        }
        if logps.chosen.reference is not None:
            columns["drift_chosen"] = logps.chosen.ratio
            columns["drift_rejected"] = logps.rejected.ratio
        if "kl" in tokens:
            sums = tokens["kl"].sum(1)[batch["row_of"]]
            columns["kl_chosen"] = sums[:, 0] / logps.chosen.length
            columns["kl_rejected"] = sums[:, 1] / logps.rejected.length
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in values]


def pairs_of(answers: Answers, batch: Batch) -> PairLogps:
    """A `PairLogps` from R answers: the first of each prompt is chosen, the second rejected."""
    chosen, rejected = batch["row_of"].unbind(1)
    columns = {name: value[:, 0] for name, value in columns_of(batch).items()}
    return PairLogps(take(answers, chosen), take(answers, rejected), columns)


def _compared(row: Mapping[str, Any], chosen: int, rejected: int) -> dict[str, Any]:
    """Margin and who wins, by reward and by length in characters; by drift where there is one."""
    compared = {
        "margin": row["reward_chosen"] - row["reward_rejected"],
        "correct": wins(row["reward_chosen"], row["reward_rejected"]),
        "chars_chosen": chosen,
        "chars_rejected": rejected,
        "longer": wins(chosen, rejected),
    }
    if "drift_chosen" in row:
        compared["ratio_correct"] = wins(row["drift_chosen"], row["drift_rejected"])
    return compared
