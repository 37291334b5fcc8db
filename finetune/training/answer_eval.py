"""What a policy in training makes of answers it is not trained on: single ones, or ranked lists."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import torch

from siftune.finetune.data import training_rows
from siftune.finetune.evaluation.pair_accuracy import wins

if TYPE_CHECKING:
    from siftune.finetune.training.answer_trainer import AnswerTrainer

__all__ = ["judged", "summary"]

_MEANS: Final = ("loss", "accuracy", "ratio_correct", "top", "value")
_SHOWN: Final = ("reward", "drift", "kl")
_SIDES: Final = ("chosen", "rejected")


@torch.no_grad()
def judged(trainer: AnswerTrainer, table: pl.DataFrame) -> list[dict[str, Any]]:
    """One object for each held-out row, in the order of ``table``.

    The loss (what it shares over a batch is taken over all held-out rows), and of each answer its
    ``reward``, log-prob, length in tokens, ``drift`` of the log-prob from the reference's in nats
    and ``kl`` to the reference in nats per token: numbers of a single answer, lists of a list's. Of
    a list also ``accuracy``, the share of its pairs of different scores whose rewards are in their
    order (½ where equal), the same by drift, and ``top``: whether the best has the top reward.
    """
    rows: Any = trainer.eval_dataset
    size = trainer.args.per_device_eval_batch_size
    batches = [trainer.on_device(rows[at : at + size]) for at in range(0, len(rows), size)]
    numbers: list[dict[str, Any]] = []
    with trainer.sharing(batches):
        for batch in batches:
            numbers += _of_batch(trainer, batch)
    known = dict(zip((row.id for row in rows), numbers, strict=True))
    keys = zip(table["id"], training_rows.prompt_keys(table), strict=True)
    return [{"id": key, "prompt_key": prompt, **known[key]} for key, prompt in keys]


def _of_batch(trainer: AnswerTrainer, batch: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    logps, tokens = trainer.score(trainer.model, dict(batch))
    result: Any = trainer.loss(logps)
    answers, at = logps.answers, batch["at"]
    columns = {"reward": result.reward, "logps": answers.policy, "tokens": answers.length}
    if answers.reference is not None:
        columns["drift"] = answers.ratio
    if "kl" in tokens:
        taken = tokens["kl"].sum(1)[at.clamp(min=0)]
        columns["kl"] = taken.view_as(answers.policy) / answers.length
    if answers.policy.ndim == 1:
        columns |= {"loss": result.loss}
        columns |= {"label": logps.label} if logps.label is not None else {}
        columns |= {"value": logps.value} if logps.value is not None else {}
        return _rows(columns)
    lists = [
        {name: value[row, :count].tolist() for name, value in columns.items()}
        for row, count in enumerate((at >= 0).sum(1).tolist())
    ]
    for row, one in enumerate(lists):
        one["loss"] = float(result.loss[row])
        scores = logps.standing[row, : len(one["reward"])].tolist()
        one |= {"scores": scores, **_order(scores, one)}
    return lists


def _rows(columns: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]


def _order(scores: Sequence[float], one: Mapping[str, Sequence[float]]) -> dict[str, float]:
    found = {}
    for name, column in (("accuracy", "reward"), ("ratio_correct", "drift")):
        won = [
            wins(one[column][i], one[column][j])
            for i, first in enumerate(scores)
            for j, second in enumerate(scores)
            if column in one and first > second
        ]
        if won:
            found[name] = statistics.fmean(won)
    if len(set(scores)) > 1:
        top = [at for at, reward in enumerate(one["reward"]) if reward == max(one["reward"])]
        found["top"] = statistics.fmean(float(scores[at] == max(scores)) for at in top)
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over rows, and how well rewards tell good answers from bad ones.

    Of labelled answers ``accuracy`` is the chance that a desirable one has a higher reward than an
    undesirable one (½ where equal) of the same prompt, or of any where no prompt has both;
    ``ratio_correct`` is the same by drift; rewards, drift and KL
    are means over each class (``drift_chosen``, ``drift_rejected``), of lists over their best and
    their worst answers.
    """
    found: dict[str, float] = {"rows": len(rows)}
    for name in _MEANS:
        values = [row[name] for row in rows if name in row]
        if values:
            found[name] = statistics.fmean(values)
    if "label" in rows[0]:
        found |= _of_classes(rows)
    sides = _sides(rows)
    for name in _SHOWN:
        for side, taken in sides.items():
            values = [one[name] for one in taken if name in one]
            if values:
                found[f"{name}{side}"] = statistics.fmean(values)
    if {"reward_chosen", "reward_rejected"} <= found.keys():
        found["margin"] = found["reward_chosen"] - found["reward_rejected"]
    return found


def _sides(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The answers that count as chosen and as rejected, or all where nothing tells them apart."""
    if "label" in rows[0]:
        return {f"_{side}": [row for row in rows if row["label"] == (side == "chosen")]
                for side in _SIDES}  # fmt: skip
    if not isinstance(rows[0]["reward"], list):
        return {"": list(rows)}
    ends = {"_chosen": max, "_rejected": min}
    return {
        side: [
            _at(row, at)
            for row in rows
            for at, score in enumerate(row["scores"])
            if score == end(row["scores"])
        ]
        for side, end in ends.items()
    }


def _at(row: Mapping[str, Any], at: int) -> dict[str, float]:
    return {name: row[name][at] for name in _SHOWN if name in row}


def _of_classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found = {}
    for name, column in (("accuracy", "reward"), ("ratio_correct", "drift")):
        sides: dict[str, tuple[list[float], list[float]]] = {}
        for row in rows:
            if column in row:
                good, bad = sides.setdefault(row["prompt_key"], ([], []))
                (good if row["label"] else bad).append(row[column])
        all_good, all_bad = (
            [value for pair in sides.values() for value in pair[at]] for at in (0, 1)
        )
        both = [pair for pair in sides.values() if all(pair)]
        won = [win for pair in both or [(all_good, all_bad)] for win in _duels(*pair)]
        if won:
            found[name] = statistics.fmean(won)
    return found


def _duels(good: Sequence[float], bad: Sequence[float]) -> list[float]:
    """Of each good value: the share of the bad ones below it, so often as there are bad ones."""
    if not bad:
        return []
    known = np.sort(bad)
    below = np.searchsorted(known, good, side="left")
    upto = np.searchsorted(known, good, side="right")
    shares: list[float] = np.repeat((below + upto) / 2 / len(bad), len(bad)).tolist()
    return shares
