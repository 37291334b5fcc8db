"""What the judges of a pipeline's steps measured, by round, as words for page and screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from siftune.curate.files.atomic import read_json
from siftune.pipelines.judge_options import UNSCORED

__all__ = [
    "BIASES",
    "by_round",
    "judged_steps",
    "judged_text",
    "judging_facts",
    "stop_texts",
    "unscored_of",
    "unscored_texts",
]

_BY_ROUND: Final = (
    *("length", "position", "agreement", "self_preference"),
    *("win_rate", "length_controlled"),
)
BIASES: Final = {
    "position": "position: first shown less second",
    "inconsistent": "consistency: pairs whose orders disagree",
    "length_bias": "length: log-odds for the longer",
    "self_preference": "self-preference",
    "agreement": "agreement: kappa with the second judge",
    "accuracy": "agreement: accuracy on given labels",
}
"""Figures of a judge's biases, by the words of the report's table."""

_WORDS: Final = {
    "length": "words of an answer",
    "position": "position bias",
    "inconsistent": "pairs whose orders disagree",
    "length_bias": "log-odds for length",
    "longer_wins": "longer answer wins",
    "self_preference": "self-preference",
    "agreement": "kappa with the second judge",
    "win_rate": "win rate of the first model",
    "self_excess": "own answers' win rate less that of the second judge",
    "ability": "accuracy by the second judge",
    "length_controlled": "the same at equal length",
    "accuracy": "accuracy on the given labels",
    "words_more": "words that a revision adds",
}
_KIN: Final = {
    "same": "the same model",
    "kin": "kin (a common ancestor)",
    "not known": "not known to be kin",
}
_CHANGES: Final = {  # in the direction that is bad, as `measure_drift` has them
    "length": "words of an answer, times those of round 1",
    "position": "growth of the position bias since round 1",
    "self_preference": "growth of the self-preference since round 1",
    "agreement": "loss of kappa with the second judge since round 1",
}


def judged_steps(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each step that asked a judge: label, counts, cost, and figures with intervals as text."""
    found = [one for one in manifest.get("made") or () if "judged" in one]
    changes = {one["label"]: one.get("changes", {}) for one in _measured(manifest)}
    return [
        _step(one["label"], one["rows"], one["judged"], changes.get(one["label"], {}))
        for one in found
    ]


def by_round(manifest: Mapping[str, Any]) -> dict[str, dict[str, dict[int, Mapping[str, float]]]]:
    """Of each figure that drifts and each step that measured it: its values by round, from two."""
    found: dict[str, dict[str, dict[int, Mapping[str, float]]]] = {}
    for one in _measured(manifest):
        step = one["label"].removesuffix(f"-{one['round']}")
        for name in _BY_ROUND:
            if name in one["figures"]:
                lines = found.setdefault(_WORDS[name], {})
                lines.setdefault(step, {})[one["round"]] = one["figures"][name]
    return {
        name: {step: line for step, line in lines.items() if len(line) > 1}
        for name, lines in found.items()
        if any(len(line) > 1 for line in lines.values())
    }


def _measured(manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    measured: Sequence[Mapping[str, Any]] = (manifest.get("rounds") or {}).get("measured", ())
    return measured


def _step(
    label: str, rows: int, facts: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    left_out = {why.replace("_", " "): n for why, n in facts.get("left_out", {}).items() if n}
    measured, why_not = facts.get("figures", {}), facts.get("not_measured", {})
    figures = {_WORDS.get(key, key): _text(one) for key, one in measured.items()}
    return {
        "label": label,
        "rows": rows,
        "left_out": ", ".join(f"{n:,} {why}" for why, n in left_out.items()),
        "asked": facts.get("asked", 0),
        "cost": "unknown" if facts.get("cost") is None else f"{facts['cost']:.4f}",
        "kin": _kin_text(facts.get("kin")),
        "figures": figures,
        "changes": {_CHANGES[key]: _text(one) for key, one in changes.items()},
        "others": {_WORDS.get(k, k): _text(v) for k, v in measured.items() if k not in BIASES},
        "biases": {words: _text(measured[key]) for key, words in BIASES.items() if key in measured},
        "not_measured": {_WORDS.get(key, key): why for key, why in why_not.items()},
    }


def _kin_text(kin: Mapping[str, Mapping[str, int]] | None) -> str:
    """How the judge is related to the models that answered; empty where that is not known."""
    if kin is None:
        return ""
    sides = []
    for side, found in kin.items():
        counts = len(found) > 1
        said = (_KIN[how] + (f" ({n:,} pairs)" if counts else "") for how, n in found.items())
        sides.append(f"{side} answers: {', '.join(said)}")
    return "the judge and the models of the " + "; of the ".join(sides)


def _text(one: Mapping[str, Any]) -> str:
    return f"{one['value']:.3g} ({one['low']:.3g} … {one['high']:.3g})"


def stop_texts(manifest: Mapping[str, Any]) -> list[str]:
    """Why rounds were ended, one sentence each."""
    stopped = (manifest.get("rounds") or {}).get("stopped", ())
    return [
        f"the rounds end at {one['label']}, with none of the later steps of a round: "
        + "; ".join(one["reasons"])
        for one in stopped
    ]


def judging_facts(rows: Path) -> dict[str, Any]:
    """What a judge measured of rows that a step made; empty where none was asked."""
    path = rows / "judging.json"
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    return found


def unscored_of(out: Path, folders: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """By step the rows that its judge left without a score, by reason; none of the other steps.

    A step is a folder with ``judging.json``, or that of a curate run, whose stages may judge.
    """
    found = {}
    for label, folder in folders.items():
        errors: Counter[str] = Counter()
        for name in ("judging.json", "manifest.json"):
            path = out / folder / name
            facts = read_json(path) if path.is_file() else {}
            for part in (facts.get("unscored", {}), *_errors(facts.get("stages", ()))):
                errors.update(part)
        if errors:
            found[label] = dict(sorted(errors.items()))
    return found


def _errors(stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, int]]:
    return [stage.get("errors", {}) for stage in stages]


def unscored_texts(manifest: Mapping[str, Any], folder: Path) -> list[str]:
    """Of each step with rows that its judge left unscored a line, with where they are listed."""
    places = {one["label"]: one["path"] for one in manifest.get("made") or ()}
    lines = []
    for label, errors in (manifest.get("unscored") or {}).items():
        reasons = ", ".join(f"{count:,} {why}" for why, count in errors.items())
        listed = folder / places.get(label, label)
        file = UNSCORED if (listed / UNSCORED).is_file() else "ledger.parquet"
        lines.append(f"{label}: not scored by its judge: {reasons}; each is in {listed / file}")
    return lines


def judged_text(manifest: Mapping[str, Any]) -> Sequence[str]:
    """The lines of a finished run's result."""
    lines = []
    for step in judged_steps(manifest):
        left = f"; left out: {step['left_out']}" if step["left_out"] else ""
        figures = "".join(f", {name} {value}" for name, value in step["figures"].items())
        figures += "".join(f"; {name} {value}" for name, value in step["changes"].items())
        kin = f"; {step['kin']}" if step["kin"] else ""
        lines.append(f"{step['label']}: {step['rows']:,} rows{left}{figures}{kin}")
    return [*lines, *stop_texts(manifest)]
