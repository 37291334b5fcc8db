"""Calibration and out-of-distribution threshold of a trained reward model, from held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_stats.intervals import NotEstimableError
from siftune.finetune.data.prompt_truncation import encode_scored
from siftune.finetune.data.training_rows import prompt_keys, to_pairs
from siftune.finetune.models.lora import inner_model
from siftune.finetune.reward_models.head_states import scores_and_states
from siftune.finetune.reward_models.known_states import KnownAnswers
from siftune.finetune.reward_models.pair_calibration import calibrate_gaps

__all__ = ["find_limits"]

_ANSWERS: Final = 512
"""Training answers whose states are looked at, and held-out ones that set the threshold."""
_PAIRS: Final = 1_000
"""Held-out pairs that the calibration is fitted to."""


def find_limits(
    model: Any, tokenizer: Any, train: pl.DataFrame, test: pl.DataFrame, folder: Path
) -> dict[str, Any]:
    """Facts ``calibration`` and ``known_states`` of a trained model; its states go to ``folder``.

    What the pairs do not suffice for is a text, the reason. Without held-out pairs a fifth of the
    training answers, left out of the fit, sets the threshold, and nothing calibrates. A model of
    several outputs has neither.
    """
    model = inner_model(model).eval()
    if model.config.num_labels != 1:
        return {}
    length = tokenizer.model_max_length
    known = _texts(_drawn(train, _ANSWERS // 2), tokenizer, length)[:_ANSWERS]
    states = scores_and_states(model, tokenizer, known)[1]
    if test.is_empty():
        fifth = len(states) // 5
        states, others = states[fifth:], states[:fifth]
        calibration: Any = "there are no held-out pairs"
    else:
        pairs = _drawn(test, _PAIRS)
        sides, keys = _sides(pairs, tokenizer, length)
        scores, others = scores_and_states(model, tokenizer, sides)
        calibration = _calibration(scores, keys)
    width = model.config.get_text_config().hidden_size
    return {
        "calibration": calibration,
        "known_states": _known(states, others[:_ANSWERS], width, folder),
    }


def _calibration(scores: Any, keys: Sequence[str]) -> Any:
    try:
        return calibrate_gaps(scores[0::2] - scores[1::2], keys).facts()
    except NotEstimableError as error:
        return str(error)


def _known(states: Any, others: Any, width: int, folder: Path) -> Any:
    try:
        found = KnownAnswers.fit(states, others, width)
    except UsageError as error:
        return str(error)
    found.save(folder)
    return {
        "answers": len(states),
        "held_out": len(others),
        "threshold": found.threshold,
        "false_flags": found.false_flags,
    }


def _drawn(table: pl.DataFrame, most: int) -> pl.DataFrame:
    """At most so many rows, drawn by the hashes of their ids, not by their order."""
    ranks = [blake2b(key.encode()).digest() for key in table["id"]]
    return table[sorted(sorted(range(len(ranks)), key=ranks.__getitem__)[:most])]


def _sides(table: pl.DataFrame, tokenizer: Any, length: int) -> tuple[list[list[int]], list[str]]:
    """Token ids of both sides of each pair that fits, chosen first; the keys of their prompts."""
    rows = to_pairs(table)
    two = (encode_scored(tokenizer, rows, [r[s] for r in rows], length) for s in _SIDES)
    fits = [
        (chosen.ids, rejected.ids, key)
        for chosen, rejected, key in zip(*two, prompt_keys(table), strict=True)
        if chosen.ids and rejected.ids
    ]
    ids = [list(side) for chosen, rejected, _ in fits for side in (chosen, rejected)]
    return ids, [key for *_, key in fits]


_SIDES: Final = ("chosen", "rejected")


def _texts(table: pl.DataFrame, tokenizer: Any, length: int) -> list[list[int]]:
    """Token ids of the distinct sides of pairs."""
    ids, _ = _sides(table, tokenizer, length)
    return [list(one) for one in dict.fromkeys(map(tuple, ids))]
