"""Last lines of a training or evaluation: its main metrics before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from siftune.curate.core.errors import DataError
from siftune.curate.files.atomic import read_json
from siftune.finetune.core.intervals import as_text
from siftune.finetune.core.types import TrainResult

__all__ = ["METRICS", "WORDS", "Figure", "evaluation_lines", "figures", "last_lines"]

_MOST: Final = 6
METRICS: Final = {
    "exact_match": "answers to held-out prompts that match the known one",
    "accuracy": "held-out pairs that are ranked right",
    "rating_error": "distance of a held-out row's score from its label",
    "reward": "mean reward of answers to held-out prompts",
    "loss": "held-out loss",
    "contains": "answers to held-out prompts with the known one in them",
    "kl_k3": "KL of answers to held-out prompts (nats an answer)",
    "tokens": "tokens of an answer to a held-out prompt",
}
"""Metrics of an evaluation, the most important first; the KL by the estimate that is never below 0.
"""

WORDS: Final = {
    **METRICS,
    "margin": "reward of the chosen answer of a held-out pair above that of the rejected one",
    "longer_wins": "held-out pairs whose chosen answer is the longer one",
    "near_accuracy": "the same of pairs with answers of nearly equal length",
    "near_longer_wins": "those of them whose chosen answer is the longer one",
    "right": "held-out pairs that are ranked right, where a tie is not",
    "ties": "held-out pairs whose rewards are equal, which the accuracy leaves out",
    "cut": "held-out pairs whose prompt lost its start to fit the model",
    "length_spearman": "rank correlation of the reward with the length of an answer",
    "length_pearson": "correlation of the reward with the length of an answer",
    "ended": "answers that end before the most tokens",
    "kl_k1": "KL by its other estimate, which can be below 0",
    "ece": "calibration error of held-out pairs",
    "unlike_training": "answers unlike those that the reward model was trained on",
    "rows": "prompts",
    "unanswered": "prompts without an answer, as they do not fit the model",
    "pairs": "held-out pairs",
    "near_pairs": "held-out pairs with answers of nearly equal length",
    "unscored": "held-out pairs that cannot be read or do not fit the model",
}
"""Every metric of an evaluation in words."""

_LOGGED: Final = {
    "objective/score": "mean score of an answer in training",
    "objective/kl": "KL of an answer from the reference, nats",
    "rewards/accuracies": "training pairs ranked right",
    "loss": "training loss",
}
"""Metrics of a training's log: means over the steps since the log before."""


@dataclass(frozen=True)
class Figure:
    """A number before and after, with its description."""

    words: str
    before: float
    after: float
    ends: tuple[str, str] = ("before", "after")

    def __str__(self) -> str:
        """One line.

        >>> str(Figure("held-out loss", 2.0, 1.25))
        'held-out loss: 2 before, 1.25 after'
        """
        first, last = self.ends
        return f"{self.words}: {self.before:.4g} {first}, {self.after:.4g} {last}"


def last_lines(result: TrainResult) -> list[str]:
    """Summary of a training: rows and steps, at most six numbers, and the file of the rest."""
    found = figures(result.model)
    return [
        f"{result.model}: {_length(result)}",
        *_left_out(result.model),
        *(f"  {one}" for one in found[:_MOST]),
        f"  all numbers: {result.model}/siftune.json and, step by step, metrics.jsonl beside it",
    ]


def _length(result: TrainResult) -> str:
    """Rows and steps; of on-policy training the answers, which few of the rows may get."""
    facts = _read(result.model / "siftune.json")
    if facts.get("stage") == "rl":
        options = facts["options"]
        rollouts = min(options["rollouts"], len(_log(result.model)))
        answers = rollouts * options["batch_size"] * options["group_size"]
        return f"{answers:,} answers in {rollouts:,} rollouts, to prompts of {result.rows:,} rows"
    steps = result.metrics.get("steps")
    return f"{result.rows:,} rows" + (f" in {int(steps):,} steps" if steps is not None else "")


def evaluation_lines(result: TrainResult) -> list[str]:
    """Summary of an evaluation: its main numbers, and the file of the rest."""
    found = as_text(result.metrics)
    listed = [name for name in WORDS if name in found][:_MOST]
    missing = [
        name for name in ("unanswered", "unscored", "ties", "cut") if result.metrics.get(name)
    ]
    return [
        f"{result.model}: {result.rows:,} rows",
        *(f"  {WORDS[name]}: {found[name]}" for name in dict.fromkeys([*listed, *missing])),
        "  in brackets: the 95 % interval of a bootstrap over prompts",
        f"  all numbers: {result.model}/evaluation.json and, row by row, rows.jsonl beside it",
    ]


def _left_out(folder: Path) -> Iterator[str]:
    """Rows that ``on_bad: drop`` left out, by reason: one line, if there are any."""
    reasons = _read(folder / "siftune.json").get("data", {}).get("dropped") or {}
    if reasons:
        counts = "; ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        yield f"  left out: {sum(reasons.values()):,} rows, {counts} ({folder}/dropped.jsonl)"


def figures(folder: Path) -> list[Figure]:
    """The numbers of a model folder that have a before and an after, the most important first."""
    found = {one.words: one for one in [*_logged(folder), *_evaluated(folder), *_held_out(folder)]}
    order = ["held-out loss", *METRICS.values(), *_LOGGED.values()]
    return [found[words] for words in dict.fromkeys(order) if words in found]


def _held_out(folder: Path) -> Iterator[Figure]:
    metrics = _read(folder / "siftune.json").get("metrics", {})
    if "held_out_loss" in metrics:
        yield Figure("held-out loss", metrics["held_out_loss_before"], metrics["held_out_loss"])


def _evaluated(folder: Path) -> Iterator[Figure]:
    for name in ("answers.json", "evaluation.json"):
        steps = _read(folder / name)
        if steps and len(steps["steps"]) > 1:
            before, after = steps["steps"][0], steps["last"]
            for metric, words in METRICS.items():
                if metric in before and metric in after:
                    yield Figure(words, before[metric], after[metric])


def _logged(folder: Path) -> Iterator[Figure]:
    """The first and the last value of a metric in the log, of policies that are kept."""
    logged = _log(folder)
    for metric, words in _LOGGED.items():
        values = [line[metric] for line in logged if line.get(metric) is not None]
        if len(values) > 1:
            yield Figure(words, values[0], values[-1], ("in the first logged steps", "in the last"))


def _log(folder: Path) -> list[Mapping[str, Any]]:
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    try:
        return [line for line in map(orjson.loads, lines) if "rollout/stopped" not in line]
    except (orjson.JSONDecodeError, TypeError):
        raise DataError(f"{path} is damaged: --overwrite trains again and writes it anew") from None


def _read(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(path) if path.is_file() else {}
    return found
