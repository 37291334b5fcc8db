"""Judged pairs: two answers to one prompt, and which is better, under many key names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.field_names import keys_with, words
from siftune.curate.records.turns import (
    answer,
    leftover,
    number_field,
    plain,
    text_field,
    text_turn,
)

__all__ = [
    "SCORE_KEYS",
    "TwoResponses",
    "in_places",
    "judged_pair",
    "place_field",
    "scored_place",
    "take_scores",
]

SCORE_KEYS: Final = keys_with(["score", "rating", "reward"])
"""Pattern of JSON with a key that `take_scores` may mean."""
_SCORES: Final = ("score", "rating", "reward")
_MEANS: Final = frozenset({"avg", "average", "mean", "overall"})
_PLACE: Final = "chosen_response"
_BOTH: Final = frozenset({"chosen", "rejected"})
_RESPONSES: Final = ("response_0", "response_1")


def judged_pair(
    prompt: list[Row], answers: Sequence[list[Row]], better: int, record: Row, used: frozenset[str]
) -> Row:
    """The pair of ``answers``; ``better`` (0 or 1) is chosen, and kept in ``extra`` counted from 1.

    Raises:
        BadRow: both are the same.
    """
    if answers[0] == answers[1]:
        raise BadRow("identical_pair", "both answers are the same")
    return {
        "prompt": prompt,
        "chosen": answers[better],
        "rejected": answers[1 - better],
        "extra": leftover(record, used) | {_PLACE: better + 1},
    }


def in_places(row: Row, extra: Row) -> tuple[str, str, str, int]:
    """Prompt, first and second answer of a pair as texts, and the position of the better, 0 or 1.

    The position is removed from ``extra``; without one the chosen answer is the first.

    Raises:
        BadRow: one of them is not one turn of text.
    """
    contents = [plain(row["prompt"], "user")]
    contents += [plain(row[side], "assistant") for side in ("chosen", "rejected")]
    if None in contents:
        raise BadRow("no_place", "a prompt and two answers are one turn of text each")
    prompt, chosen, rejected = (text[0] for text in contents if text)
    second = extra.pop(_PLACE, 1) == 2
    answers = (rejected, chosen) if second else (chosen, rejected)
    return prompt, *answers, int(second)


def take_scores(extra: Row) -> dict[str, float | None]:
    """The scores of both sides of a pair under another usual name, removed from ``extra``.

    Examples are ``chosen_rating`` and ``rejected_rating``, ``reward-chosen`` and
    ``reward-rejected``. They stay in ``extra`` where one of the two is no number, or where there
    are others as well.

    >>> take_scores({"chosen-rating": 5, "rejected-rating": "4.5", "id": 7})
    {'score_chosen': 5.0, 'score_rejected': 4.5}
    """
    for name in _SCORES:
        keys = [
            [key for key in extra if words(key) - _MEANS == {side, name}]
            for side in ("chosen", "rejected")
        ]
        if [*map(len, keys)] == [1, 1] and words(keys[0][0]) ^ words(keys[1][0]) <= _BOTH:
            try:
                scores = [number_field(extra, key) for (key,) in keys]
            except BadRow:
                return {}
            if None not in scores:
                for (key,) in keys:
                    extra.pop(key)
                return dict(zip(("score_chosen", "score_rejected"), scores, strict=True))
    return {}


def place_field(record: Row, key: str, places: Sequence[Any] = (0, 1)) -> int:
    """The position, 0 or 1, that the value under ``key`` means.

    Raises:
        BadRow: it is none of ``places``.
    """
    value = record.get(key)
    if value is None:
        raise BadRow("missing_field", f"{key!r} is missing or null; expected one of {places}")
    found = [at for at, place in enumerate(places) if str(place) == str(value)]
    if not found:
        raise BadRow("wrong_type", f"{key!r} is {str(value)[:40]!r}; expected one of {places}")
    return found[0]


def scored_place(record: Row, keys: Sequence[str]) -> int:
    """The position, 0 or 1, of the higher of two scores.

    Raises:
        BadRow: one is missing, or they are equal.
    """
    first, second = (number_field(record, key) for key in keys)
    if first is None or second is None:
        raise BadRow("missing_field", f"{keys[0]!r} or {keys[1]!r} is missing or null")
    if first == second:
        raise BadRow("tie", f"{keys[0]!r} and {keys[1]!r} are both {first:g}")
    return int(second > first)


class TwoResponses:
    """Base of formats with ``prompt``, ``response_0``, ``response_1``, and ``label``: 0 or 1."""

    kind: ClassVar[Kind] = "preference"
    many: ClassVar[bool] = False
    label: ClassVar[str]
    """The key for which response is chosen."""

    @property
    def _used(self) -> frozenset[str]:
        return frozenset({"prompt", self.label, *_RESPONSES})

    def matches(self, row: Row) -> bool:
        """Whether it has both responses and this label."""
        return row.keys() >= self._used

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        prompt = [text_turn("user", text_field(row, "prompt"))]
        answers = [answer(text_field(row, key)) for key in _RESPONSES]
        return [judged_pair(prompt, answers, place_field(row, self.label), row, self._used)]

    def write(self, row: Row) -> Row:
        """The record; the chosen answer gets its original position, or the first if it has none."""
        extra = dict(row.get("extra") or {})
        prompt, first, second, better = in_places(row, extra)
        written = {"prompt": prompt, "response_0": first, "response_1": second}
        return written | {self.label: better} | extra
