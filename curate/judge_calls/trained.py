"""A judge that was trained: the file of its calibration and its task, beside the model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

import orjson

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import write_text
from siftune.curate.judge_stats.calibration import Calibrator, Kind, Scale

__all__ = ["TRAINED", "TrainedJudge", "expected", "figure_lines", "trained_judge"]

TRAINED: Final = "judge.json"
"""The file that tells the folder of a trained judge from that of any other model."""
_FORMAT: Final = 1
_TASKS: Final = {"classifier": "classifier_score", "local_model": "contrastive"}
"""The task of each backend; a folder that names another one, such as a file of code, is refused."""


@dataclass(frozen=True)
class TrainedJudge:
    """What `siftune finetune judge` notes beside a model.

    ``backend`` is the judge that answers with the model, ``task`` with ``task_options`` what it was
    trained for. ``scale`` makes scores of the model's numbers; of a classifier of ``classes``,
    which are numbers, these are expected values. ``facts`` are what it was trained on, and its
    figures on prompts that were held out.
    """

    backend: str
    task: str
    scale: Scale
    task_options: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[float, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def score(self, outputs: Sequence[float]) -> float:
        """The calibrated score of the outputs of a classifier."""
        return float(self.scale(expected(outputs, self.classes)))

    @property
    def identity(self) -> str:
        """Hash of all that its scores depend on besides the model."""
        text = json.dumps({**self._described, "facts": None}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def write(self, folder: Path) -> None:
        """Write the file; equal judges have equal bytes."""
        text = json.dumps(self._described, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(folder / TRAINED, text + "\n")

    @property
    def _described(self) -> dict[str, Any]:
        names = ("backend", "task", "task_options", "classes", "facts")
        return {
            "format": _FORMAT,
            **asdict(self.scale),
            **{name: getattr(self, name) for name in names},
        }


def expected(outputs: Sequence[float], classes: Sequence[float]) -> float:
    """The number in the outputs of a classifier; of ``classes`` their mean, 0 to 1 in their range.

    >>> expected([0.5], ()), expected([0.0, 0.0, 0.0], (1.0, 2.0, 6.0))
    (0.5, 0.4)
    """
    if not classes:
        return outputs[0]
    most = max(outputs)
    weights = [math.exp(value - most) for value in outputs]
    mean = math.fsum(w * c for w, c in zip(weights, classes, strict=True)) / math.fsum(weights)
    return (mean - classes[0]) / (classes[-1] - classes[0])


def trained_judge(folder: str | Path) -> TrainedJudge | None:
    """The judge in ``folder``; None where there is no such folder, or another model in it.

    Raises:
        UsageError: its file is damaged.
    """
    path = Path(folder) / TRAINED
    if not path.is_file():
        return None
    try:
        facts = orjson.loads(path.read_bytes())
        calibrator = Calibrator.of(facts["calibrator"])
        scale = Scale(facts["kind"], calibrator, float(facts["low"]), float(facts["high"]))
        classes = tuple(map(float, facts["classes"]))
        found = TrainedJudge(
            facts["backend"],
            str(facts["task"]),
            scale,
            dict(facts["task_options"]),
            classes,
            dict(facts["facts"]),
        )
        if facts["format"] != _FORMAT or _TASKS.get(found.backend) != found.task:
            raise ValueError(f"format {facts['format']}, {found.backend} for {found.task}")
        if len(calibrator.scores) != len(calibrator.probabilities):
            raise ValueError("knots of the calibration without a partner")
        if scale.kind not in get_args(Kind) or (classes and classes[0] >= classes[-1]):
            raise ValueError(f"kind {scale.kind}, classes {classes}")
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UsageError(
            f"{path} is damaged ({type(error).__name__}: {error}): train the judge again"
        ) from None
    return found


def figure_lines(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Figures with their 95 % intervals, one a line; of others why there is none.

    >>> figure_lines({"accuracy": {"value": 0.75, "low": 0.7, "high": 0.8}})
    ['  accuracy  0.750 (0.700 … 0.800)']
    """
    width = max(map(len, figures), default=0)
    return [
        f"  {name.replace('_', ' '):<{width}}  "
        + (
            f"none ({one['why']})"
            if one["value"] is None
            else f"{one['value']:.3f} ({one['low']:.3f} … {one['high']:.3f})"
        )
        for name, one in figures.items()
    ]
