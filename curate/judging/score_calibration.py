"""A judge's scores as probabilities of a gold label, by the file of `curate agree --calibrate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import read_json
from siftune.curate.judge_stats.calibration import Calibrator

__all__ = ["ScoreCalibration"]


@dataclass(frozen=True)
class ScoreCalibration:
    """The calibrator of the scores in ``column``."""

    column: str
    calibrator: Calibrator

    @classmethod
    def read(cls, file: str, columns: Sequence[str]) -> ScoreCalibration:
        """That of a file; its scores have to be one of ``columns``, up to a stage's own word.

        Raises:
            UsageError: the file is none, or of another column.
        """
        path = Path(file)
        if not path.is_file():
            raise UsageError(f"calibration: there is no file {file}")
        facts = read_json(path)
        try:
            column, calibrator = facts["column"], Calibrator.of(facts["calibrator"])
        except (TypeError, KeyError):
            raise UsageError(
                f"calibration: {file} is no file of `siftune curate agree --calibrate`"
            ) from None
        fits = [one for one in columns if one == column or _without_word(one, column)]
        if not fits:
            raise UsageError(
                f"calibration: {file} is of the scores {column!r}; this stage adds "
                f"{', '.join(columns) or 'no numbers'}"
            )
        return cls(fits[0], calibrator)

    @property
    def added(self) -> str:
        """The column of probabilities."""
        return f"{self.column}_calibrated"

    def __call__(self, columns: Mapping[str, pl.Series]) -> pl.Series:
        """The probabilities; null where there is no score."""
        scores: Any = columns[self.column].to_numpy()
        return pl.Series(self.calibrator(scores), dtype=pl.Float64, nan_to_null=True)


def _without_word(column: str, other: str) -> bool:
    """Whether columns differ by the word that names of a stage's columns end with.

    >>> _without_word("judge_rating_strict", "judge_rating")
    True
    """
    return column.startswith(f"{other}_") or other.startswith(f"{column}_")
