"""Pair accuracy of the implicit reward of a policy: its log-ratio to a reference."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from siftune.curate.models.model_config import positions_of
from siftune.finetune.data import training_rows
from siftune.finetune.data.answer_rows import AnswerRow, encode_rows
from siftune.finetune.data.collator import AnswerCollator, pad_of
from siftune.finetune.evaluation.pair_accuracy import accuracy, wins
from siftune.finetune.scoring.logps import check_head, score_answers

__all__ = ["pairs_by_log_ratio", "summary"]


def pairs_by_log_ratio(
    model: Any,
    reference: Any | None,
    tokenizer: Any,
    table: pl.DataFrame,
    batch_size: int,
    source: Path | str,
    on_bad: training_rows.OnBad = "drop",
) -> list[dict[str, Any]]:
    """One object a pair, in order: the reward of both answers, and whether chosen has the higher.

    The reward is ``log π(answer | prompt) - log π_ref(answer | prompt)`` in nats, summed over the
    answer: DPO's implicit reward without its factor ``beta``, which changes no order (Rafailov et
    al. 2023, arXiv:2305.18290, equation 5). Without a reference it is ``log π`` alone. ``correct``
    is 1 where the chosen answer has the higher, 0.5 where they are equal, None with a ``reason``
    where a pair cannot be read or does not fit the model.

    Raises:
        DataError: there is such a pair and ``on_bad`` is ``refuse``.
    """
    limit = positions_of(model.config)
    read = encode_rows(table, tokenizer, max_length=limit, on_bad=on_bad, source=source)
    pairs = read.ids
    first = torch.tensor([[*pairs[0].prompt, *pairs[0].answers[0]][:16]], device=model.device)
    check_head(model, first)
    own = _log_probs(model, tokenizer, pairs, batch_size)
    base = _log_probs(reference, tokenizer, pairs, batch_size) if reference is not None else None
    rewards = {
        pair.id: _less(own[at], None if base is None else base[at]) for at, pair in enumerate(pairs)
    }
    reasons = dict(read.dropped.rows.select("id", "reason").iter_rows())
    rows, keys = training_rows.to_pairs(table), training_rows.prompt_keys(table)
    return [
        _ranked(row, key, rewards[row["id"]])
        if row["id"] in rewards
        else {"id": row["id"], "prompt_key": key, "correct": None, "reason": reasons[row["id"]]}
        for row, key in zip(rows, keys, strict=True)
    ]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Pair accuracy and the mean margin in nats; ``unscored`` counts pairs that have none."""
    ranked = [row for row in rows if row["correct"] is not None]
    found = accuracy(rows) | {"unscored": len(rows) - len(ranked)}
    return found | ({"margin": statistics.fmean(row["margin"] for row in ranked)} if ranked else {})


def _ranked(row: Mapping[str, Any], key: Any, rewards: tuple[float, float]) -> dict[str, Any]:
    chosen, rejected = rewards
    lengths = [training_rows.length_of(row[side]) for side in ("chosen", "rejected")]
    return {
        "id": row["id"],
        "prompt_key": key,
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "margin": chosen - rejected,
        "correct": wins(chosen, rejected),
        "chars_chosen": lengths[0],
        "chars_rejected": lengths[1],
        "longer": wins(*lengths),
    }


def _less(own: tuple[float, float], base: tuple[float, float] | None) -> tuple[float, float]:
    return own if base is None else (own[0] - base[0], own[1] - base[1])


@torch.no_grad()
def _log_probs(
    model: Any, tokenizer: Any, pairs: Sequence[AnswerRow], batch_size: int
) -> list[tuple[float, float]]:
    """Summed log-probabilities of both answers; pairs of like length share a batch."""
    collator = AnswerCollator(pad_of(tokenizer))
    order = sorted(range(len(pairs)), key=lambda at: (-pairs[at].length, at))
    found: dict[int, tuple[float, float]] = {}
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = {k: v.to(model.device) for k, v in collator([pairs[at] for at in part]).items()}
        sums = score_answers(model, batch)["policy"].double().sum(1).tolist()
        found |= dict(
            zip(part, zip(sums[: len(part)], sums[len(part) :], strict=True), strict=True)
        )
    return [found[at] for at in range(len(pairs))]
