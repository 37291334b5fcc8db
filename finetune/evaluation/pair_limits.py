"""Scores of pairs with calibrated probabilities and distances from the training answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from siftune.curate.models.model_config import longest_input
from siftune.finetune.data import training_rows
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
        with recorded_states(model) as states:
            found = scored_pairs(*given, on_bad=on_bad, source=source)
        _add_distances(found, known, states, model, tokenizer, table)
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


def _add_distances(
    found: Sequence[dict[str, Any]],
    known: KnownAnswers,
    states: Mapping[tuple[int, ...], Any],
    model: Any,
    tokenizer: Any,
    table: pl.DataFrame,
) -> None:
    scored = {row["id"]: row for row in found if row["correct"] is not None}
    rows = training_rows.to_pairs(table.filter(pl.col("id").is_in(list(scored))))
    both = encode_sides(tokenizer, rows, longest_input(model.config, tokenizer))
    for row, sides in zip(rows, both, strict=True):
        far = known.distance([states[tuple(one.ids)] for one in sides])
        for side, distance, unlike in zip(_SIDES, far, known.is_unknown(far), strict=True):
            scored[row["id"]] |= {
                f"distance_{side}": float(distance),
                f"unlike_{side}": bool(unlike),
            }
