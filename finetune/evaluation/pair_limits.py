"""Scores of pairs with calibrated probabilities and distances from the training answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from siftune.curate.models.model_config import longest_input
from siftune.finetune.data import training_rows
from siftune.finetune.data.prompt_truncation import answer_starts
from siftune.finetune.evaluation.pair_accuracy import (
    accuracy,
    encode_sides,
    scored_pairs,
)
from siftune.finetune.models.loading import read_facts
from siftune.finetune.reward_models.head_states import recorded_states
from siftune.finetune.reward_models.known_states import KnownAnswers, load_known_states
from siftune.finetune.reward_models.pair_calibration import (
    PairCalibration,
    expected_calibration_error,
)

__all__ = ["pairs_with_limits", "with_limits"]

_SIDES: Final = ("chosen", "rejected")


def pairs_with_limits(
    folder: Path,
    model: Any,
    tokenizer: Any,
    table: pl.DataFrame,
    batch_size: int,
    on_bad: training_rows.OnBad,
    source: Path | str,
) -> list[dict[str, Any]]:
    """`scored_pairs` with calibrated probabilities and distances, from the files of ``folder``.

    ``probability`` is that of the chosen answer to be better, calibrated; ``distance_chosen`` and
    ``distance_rejected`` are those from the training answers, ``unlike_chosen`` and
    ``unlike_rejected`` whether they are above the threshold.
    """
    known, calibration = load_known_states(folder), _calibration_of(folder)
    given = (model, tokenizer, table, batch_size)
    if known is None:
        found = scored_pairs(*given, on_bad=on_bad, source=source)
    else:
        texts = _texts(model, tokenizer, table)
        starts = dict(one for two in texts.values() for one in two)
        with recorded_states(model, starts, known.distance) as far:
            found = scored_pairs(*given, on_bad=on_bad, source=source)
        for row in found:
            if row["correct"] is not None:
                row |= _distances(known, [far[ids] for ids, _ in texts[row["id"]]])
    for row in found:
        if calibration is not None and row["correct"] is not None:
            gap = row["reward_chosen"] - row["reward_rejected"]
            row["probability"] = float(calibration([gap])[0])
    return found


def with_limits(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`accuracy`, the calibration error ``ece``, and the share of answers unlike training ones."""
    found = accuracy(rows)
    chances = [row["probability"] for row in rows if "probability" in row]
    if chances:
        found["ece"] = expected_calibration_error(chances)
    unlike = [row[f"unlike_{side}"] for row in rows if "unlike_chosen" in row for side in _SIDES]
    if unlike:
        found["unlike_training"] = float(np.mean(unlike))
    return found


def _calibration_of(folder: Path) -> PairCalibration | None:
    facts = read_facts(folder).get("calibration")
    return PairCalibration.of(facts) if isinstance(facts, dict) else None


def _texts(
    model: Any, tokenizer: Any, table: pl.DataFrame
) -> dict[str, list[tuple[tuple[int, ...], int]]]:
    """By id of a pair: the token ids of both sides, each with where the answer begins."""
    empty = training_rows.bad_rows(table)
    rows = training_rows.to_pairs(table.join(empty, on="id", how="anti", maintain_order="left"))
    sides = list(
        zip(*encode_sides(tokenizer, rows, longest_input(model.config, tokenizer)), strict=True)
    )
    starts = [answer_starts(tokenizer, rows, side) for side in sides]
    return {
        row["id"]: [(tuple(text.ids), start) for text, start in own]
        for row, *own in zip(rows, *map(zip, sides, starts), strict=True)
    }


def _distances(known: KnownAnswers, far: Sequence[float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for side, distance, unlike in zip(_SIDES, far, known.is_unknown(far), strict=True):
        found |= {f"distance_{side}": distance, f"unlike_{side}": bool(unlike)}
    return found
