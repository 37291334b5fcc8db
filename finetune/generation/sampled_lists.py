"""Lists of sampled answers: scores and win rates of each answer, means over all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from siftune.curate.chat.template_turns import columns_of
from siftune.curate.files.json_text import dump
from siftune.curate.rows.convert import content_digest

__all__ = ["NUMBERS", "Scored", "add_prompt", "attribute_means", "win_numbers"]

NUMBERS: Final = ("win_rate", "win_probability", "by_reference")
"""What each answer of a list has beside its score."""


class Scored(NamedTuple):
    """An answer, its score, and the score of each reward by its name."""

    text: str
    score: float | None = None
    parts: Mapping[str, float | None] = {}

    @property
    def attributes(self) -> list[dict[str, Any]]:
        """The score of each reward that gave one."""
        found = self.parts.items()
        return [{"name": name, "value": value} for name, value in found if value is not None]


def win_numbers(
    own: Sequence[Scored], theirs: Sequence[Scored], scale: float, *, in_list: bool
) -> dict[str, Any]:
    """Scores and win rates of the answers of one prompt, by Bradley-Terry on scores over ``scale``.

    ``in_list``: the opponents' answers, ``theirs``, are in the list.
    """
    joined = [*own, *theirs] if in_list else own
    scores = np.array([one.score for one in joined])
    each = _wins(scores / scale, scores / scale)
    rates = (each.sum(1) - 0.5) / (len(joined) - 1)  # itself, a draw, is no opponent
    beats = rates
    if theirs:
        against = np.array([one.score for one in theirs])
        beats = _wins(scores / scale, against / scale).mean(1)
    if in_list and len(theirs) > 1:  # an opponent in the list has met itself there
        last = slice(len(own), None)
        beats[last] = (beats[last] * len(theirs) - 0.5) / (len(theirs) - 1)
    return {
        "scores": scores.tolist(),
        "win_rate": rates.tolist(),
        "win_probability": beats.tolist(),
        "by_reference": [0.0] * len(own) + [1.0] * (len(joined) - len(own)),
    }


def attribute_means(attributes: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """The mean of each reward over the answers that it scored, as ``score/NAME``."""
    scores = defaultdict[str, list[float]](list)
    for answer in attributes:
        for one in answer:
            scores[f"score/{one['name']}"].append(one["value"])
    return {name: float(np.mean(listed)) for name, listed in scores.items()}


def add_prompt(row: dict[str, Any], asked: Mapping[str, Any]) -> None:
    """Give a ranked row the turns that were asked, with their fields and the tools in ``extra``."""
    row["prompt"], fields = columns_of(asked["prompt"])
    tools = {"tools": asked["tools"]} if asked["tools"] else {}
    row["extra"] = dump({**row["extra"], **fields, **tools})
    row["digest"] = content_digest("ranked", row)


def _wins(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``(N, M)``: the chance of each of ``first`` to beat each of ``second``, Bradley-Terry."""
    from scipy.special import expit

    found: np.ndarray[Any, Any] = expit(first[:, None] - second[None, :])
    return found
