"""What a trained judge makes of held-out rows: its calibration, its figures, its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siftune.curate.heads.calibrating import calibrated, figures, plain
from siftune.curate.judge_calls.trained import TrainedJudge
from siftune.curate.judge_stats.calibration import Kind, Method, Scale
from siftune.curate.judge_stats.intervals import Floats, prompt_index
from siftune.finetune.core.intervals import HIGH, LOW

__all__ = ["Judged", "judge_of_pairs", "judge_of_rows"]


@dataclass(frozen=True)
class Judged:
    """The scale of a judge and its figures on ``rows`` held-out rows of ``prompts`` prompts.

    ``without`` counts the rows that it gave no verdict on; ``why_not`` is why there is no
    calibration.
    """

    scale: Scale
    figures: Mapping[str, Any]
    rows: int
    prompts: int
    without: int
    why_not: str | None

    def judge(
        self,
        backend: str,
        task: str,
        task_options: Mapping[str, Any] | None = None,
        classes: Sequence[float] = (),
        **facts: Any,
    ) -> TrainedJudge:
        """The judge, which ``backend`` serves for ``task``."""
        own = {
            "held_out_rows": self.rows,
            "held_out_prompts": self.prompts,
            "unscored": self.without,
            "uncalibrated": self.why_not,
            "figures": self.figures,
            **facts,
        }
        return TrainedJudge(backend, task, self.scale, task_options or {}, tuple(classes), own)

    def written(
        self, judge: TrainedJudge, beside: Path, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the file of the judge; the facts of the model folder with its figures."""
        judge.write(beside)
        ends = {"": "value", LOW: "low", HIGH: "high"}
        found = {
            f"judge_{name}{end}": one[key]
            for name, one in self.figures.items()
            for end, key in ends.items()
            if one["value"] is not None
        }
        return {"metrics": {**facts["metrics"], **found}}


def judge_of_pairs(raw: Floats, prompts: Sequence[Any]) -> Judged:
    """The judge whose ``raw`` numbers are above 0 where it prefers the chosen answer of a pair."""
    return _judged(
        "pairs", raw, np.ones(len(raw)), prompts, "platt", Scale("pairs", plain("pairs"))
    )


def judge_of_rows(
    kind: Kind,
    raw: Floats,
    labels: Floats,
    prompts: Sequence[Any],
    method: Method,
    low: float,
    high: float,
) -> Judged:
    """The judge whose ``raw`` numbers are of rows with ``labels``, 0 to 1 in their range."""
    return _judged(kind, raw, labels, prompts, method, Scale(kind, plain(kind), low, high))


def _judged(
    kind: Kind, raw: Floats, labels: Floats, prompts: Sequence[Any], method: Method, as_is: Scale
) -> Judged:
    known = np.isfinite(raw)
    index, count = prompt_index(np.asarray(prompts)[known], int(known.sum()))
    x, y = raw[known], labels[known]
    calibration, why_not = calibrated(kind, x, y, index, method, as_is.calibrator)
    low, high = as_is.low, as_is.high
    told, before = calibration.cross_fitted, as_is.calibrator(x)
    found = figures(kind, x, told, y, high - low, index, before)
    scale = Scale(kind, calibration.calibrator, low, high)
    return Judged(scale, found, x.size, count, int((~known).sum()), why_not)
