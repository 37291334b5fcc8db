"""What a policy in training makes of pairs it is not trained on."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import torch

from siftune.finetune.data import training_rows
from siftune.finetune.evaluation.pair_accuracy import accuracy, wins

if TYPE_CHECKING:
    from siftune.finetune.training.pair_trainer import PairTrainer

__all__ = ["judged", "summary"]

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


def judged(trainer: PairTrainer, table: pl.DataFrame) -> list[dict[str, Any]]:
    """One object for each held-out pair, in the order of ``table``.

    The loss, both implicit rewards (``correct`` is 1 where chosen has the higher, 0.5 where they
    are equal), both log-probs and their ``drift`` from the reference's, in nats, the KL to the
    reference on both answers, in nats per token, and the lengths of both answers in characters.
    ``ratio_correct`` is ``correct`` by drift: the same measure whatever a loss calls its reward.
    """
    lengths = {
        row["id"]: [training_rows.length_of(row[side]) for side in _SIDES]
        for row in training_rows.to_pairs(table)
    }
    numbers = _numbers(trainer)
    found = []
    for key, prompt in zip(table["id"], training_rows.prompt_keys(table), strict=True):
        row = numbers[key]
        first, second = lengths[key]
        found.append(
            {
                "id": key,
                "prompt_key": prompt,
                **row,
                "margin": row["reward_chosen"] - row["reward_rejected"],
                "correct": wins(row["reward_chosen"], row["reward_rejected"]),
                "chars_chosen": first,
                "chars_rejected": second,
                "longer": wins(first, second),
                **_by_ratio(row),
            }
        )
    return found


@torch.no_grad()
def _numbers(trainer: PairTrainer) -> dict[str, dict[str, float]]:
    """By row: what the loss says of it."""
    pairs: Any = trainer.eval_dataset
    size = trainer.args.per_device_eval_batch_size
    found: dict[str, dict[str, float]] = {}
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        logps, tokens = trainer.score(trainer.model, trainer.on_device(part))
        result = trainer.loss(logps)
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
            sums = tokens["kl"].sum(1)
            columns["kl_chosen"] = sums[: len(part)] / logps.chosen.length
            columns["kl_rejected"] = sums[len(part) :] / logps.rejected.length
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        for pair, row in zip(part, values, strict=True):
            found[pair.id] = dict(zip(columns, row, strict=True))
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Pair accuracy beside that of preferring the longer answer, mean loss, margin and drift."""
    means = {
        name: statistics.fmean(row[name] for row in rows) for name in _MEANS if name in rows[0]
    }
    return {**accuracy(rows), **means}


def _by_ratio(row: Mapping[str, float]) -> dict[str, float]:
    if "drift_chosen" not in row:
        return {}
    return {"ratio_correct": wins(row["drift_chosen"], row["drift_rejected"])}
