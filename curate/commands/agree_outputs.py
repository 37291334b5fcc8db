"""What `siftune curate agree` adds to its report: kin of the judge, calibration, weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from siftune.curate.commands.label_join import Joined, LabelRow, value_of
from siftune.curate.core.errors import SiftuneError, UsageError
from siftune.curate.files.atomic import read_json, write_json
from siftune.curate.files.outputs import whole_folder
from siftune.curate.judge_stats import calibration
from siftune.curate.judge_stats.intervals import Estimate, NotEstimableError
from siftune.curate.judge_stats.proposition_weights import fit_proposition_weights, ordered_pairs
from siftune.curate.models.lineage import kinship, lineage

__all__ = ["kin_of", "lines", "write"]

_COMMAND: Final = "curate agree"
_LINEAGE: Final = "extra.sampled_lineage"  # as `siftune finetune sample` writes it


def kin_of(judged: str, column: str, rows: Sequence[LabelRow]) -> dict[str, int]:
    """How many rows the judge of a column is so related to the model that answered.

    None at all where rows do not say which model did. The judge is that of the run folder
    ``judged``; of pairs that two models answered it is the relation to either.
    """
    makers = [value_of(row, _LINEAGE) for row in rows]
    if not any(isinstance(one, list) for one in makers):
        return {}
    own = _judge_lineage(Path(judged), column)
    return dict(Counter(_related(own, one) for one in makers))


def _related(own: Sequence[str] | None, maker: Any) -> str:
    if not isinstance(maker, list):
        return "not known"
    if all(isinstance(one, str) for one in maker):
        return kinship(own, maker)
    return " against ".join(kinship(own, one) for one in maker)


def _judge_lineage(run: Path, column: str) -> list[str] | None:
    """The lineage of the judge of a run folder's column; None where it is no model here."""
    path = run / "manifest.json"
    stages = read_json(path)["recipe"]["stages"] if path.is_file() else []
    fits = [one for one in stages if column.startswith(str(one.get("name", "-")))]
    judge = (fits[-1].get("options") or {}).get("judge") if fits else None
    if not isinstance(judge, str) or "://" in judge:
        return None
    try:
        return lineage(judge.removeprefix("classifier:"))
    except SiftuneError:  # it is gone, or no model
        return None


def write(
    out: Path, given: Joined, method: calibration.Method | None, weights: bool
) -> dict[str, Any]:
    """Fit what was asked for, and write it to the folder ``out``; returns the facts by name.

    Raises:
        UsageError: the labels do not allow a fit.
    """
    (column,) = given.columns
    found: dict[str, Any] = {}
    try:
        if method is not None:
            found["calibration"] = _calibration(column, given, method)
        if weights:
            found["weights"] = _weights(column, given)
    except NotEstimableError as error:
        raise UsageError(f"{given.names}: {error}") from None
    with whole_folder(out, _COMMAND) as part:
        for name, facts in found.items():
            write_json(part / f"{name}.json", facts)
    return found


def _calibration(column: str, given: Joined, method: calibration.Method) -> dict[str, Any]:
    gold = _numbers(given.gold, f"gold label {given.label!r}")
    scores = _numbers(given.columns[column], f"score {column!r}")
    known = gold[np.isfinite(gold)]
    if known.size and (known.min() < 0 or known.max() > 1):
        raise UsageError(
            f"--calibrate: gold labels are 0 and 1, ties 0.5; {given.label!r} has {known.min():g} "
            f"to {known.max():g}"
        )
    fitted = calibration.calibrate(scores, gold, given.prompts, method=method)
    if fitted.calibrator.chance is not None:
        raise NotEstimableError(
            f"the scores {column!r} do no better than chance on the gold rows "
            f"({fitted.calibrator.chance}), so no calibration is written"
        )
    figures = {"brier_calibrated": calibration.brier(fitted.cross_fitted, gold, given.prompts)}
    if np.nanmin(scores) >= 0 and np.nanmax(scores) <= 1:
        figures = {"brier": calibration.brier(scores, gold, given.prompts), **figures}
    return {
        "column": column,
        "label": given.label,
        "calibrator": asdict(fitted.calibrator),
        "figures": {name: asdict(one) for name, one in figures.items()},
    }


def _weights(column: str, given: Joined) -> dict[str, Any]:
    name = f"{column}_probabilities"
    listed = [value_of(row, name) for row in given.rows]
    classes = _numbers(given.gold, f"gold label {given.label!r}")
    known = [
        at
        for at, one in enumerate(listed)
        if isinstance(one, list) and None not in one and np.isfinite(classes[at])
    ]
    if not known or len({len(listed[at]) for at in known}) > 1:
        raise UsageError(
            f"--fit-weights: {name} of {given.names}: expected lists of one length, which the task "
            "propositions writes"
        )
    if given.prompts is None:
        raise UsageError("--fit-weights: answers to one prompt are compared: name it by --prompt")
    probabilities = np.array([listed[at] for at in known], float)
    prompts = [given.prompts[at] for at in known]
    found = fit_proposition_weights(probabilities, classes[known], prompts)
    held_out = ordered_pairs(probabilities, classes[known], prompts)
    return {"column": column, "weights": found, "figures": {"ordered_pairs": asdict(held_out)}}


def _numbers(labels: Sequence[Any], what: str) -> Any:
    wrong = next((one for one in labels if isinstance(one, str)), None)
    if wrong is not None:
        raise UsageError(f"{what}: expected numbers to fit, got {wrong!r}")
    return np.array([np.nan if one is None else one for one in labels], float)


def lines(
    kin: Mapping[str, Mapping[str, int]], fitted: Mapping[str, Any], out: Path | None
) -> Iterator[str]:
    """All of it in words."""
    for judge, counts in kin.items():
        if counts:
            listed = ", ".join(f"{how} {count:,}" for how, count in counts.items())
            yield f"{judge}: the judge and the model that answered: {listed}"
    for name, facts in fitted.items():
        figures = ", ".join(
            f"{figure} {Estimate(**one)}" for figure, one in facts["figures"].items()
        )
        yield f"{name}: {figures} on rows of held-out prompts; {out and out / name}.json"
