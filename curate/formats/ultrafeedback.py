"""UltraFeedback: an instruction and several completions, each rated in several aspects."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.ranked_lists import (
    attribute_list,
    attributes_of,
    items,
    prompt_text,
    texts,
)
from siftune.curate.records.turns import answer, leftover, number_field, text_field, text_turn

__all__ = ["UltraFeedback"]

_OVERALL = "overall_score"
_USED = frozenset({"instruction", "completions"})
_TAKEN = frozenset({"response", "annotations", _OVERALL})
_RATING = frozenset({"Rating"})
_WAS_1 = "overall_score_was_1"
_HIGHEST, _POOR = 10.0, 2.0
_UNRATED = frozenset({"", "N/A", "n/a"})


@dataclass(frozen=True)
class UltraFeedback:
    """``instruction`` and ``completions: [{"response", "annotations", "overall_score"}]``.

    Each aspect's ``Rating`` is an attribute, and so is ``overall_score``, which is wrong in some
    rows; the score of an answer is therefore the mean of its aspects, null if none is rated. A
    fault of the original made the worst overall score, 1, to 10 (Argilla's card of the cleaned
    set): 10 beside aspects of 2 or less on average is that, and has the attribute
    ``overall_score_was_1``; the first rows are looked through for it when a file is read.
    Rationales, models and principles stay in ``extra`` under ``completions.fields``.
    Cui et al. 2023, arXiv:2310.01377.
    """

    kind: ClassVar[Kind] = "ranked"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has an instruction and a list of completions with a response."""
        done = row.get("completions")
        if "instruction" not in row or type(done) is not list or not done:
            return False
        return type(done[0]) is dict and "response" in done[0]

    def read(self, row: Row) -> list[Row]:
        """The ranked list of one record."""
        done = items(row, "completions")
        ratings = [_ratings(one) for one in done]
        overall = [number_field(one, _OVERALL) for one in done]
        named = [
            given | {_OVERALL: score} | ({_WAS_1: 1.0} if _was_1(score, given) else {})
            for score, given in zip(overall, ratings, strict=True)
        ]
        extra = leftover(row, _USED)
        rest = [_rest(one) for one in done]
        if any(rest):
            extra["completions.fields"] = rest
        return [
            {
                "prompt": [text_turn("user", text_field(row, "instruction"))],
                "completions": [answer(text_field(one, "response")) for one in done],
                "scores": [_mean(given) for given in ratings],
                "attributes": [attribute_list(one) for one in named],
                "extra": extra,
            }
        ]

    def notes(self, rows: Sequence[Row]) -> list[str]:
        """What is wrong in some of the first records, for the user."""
        wrong = total = 0
        for row in rows:
            with suppress(BadRow):
                (made,) = self.read(row)
                total += len(made["completions"])
                wrong += sum(_WAS_1 in {one["name"] for one in of} for of in made["attributes"])
        if not wrong:
            return []
        return [
            f"UltraFeedback: of the first {total} answers {wrong} have an overall_score of 10 and "
            "aspects of 2 or less: its known fault, which made 1 to 10. Scores are means of the "
            f"aspects, so they are right; the attribute {_WAS_1} marks such answers"
        ]

    def write(self, row: Row) -> Row:
        """The record; ratings are written as texts, as they are in the original."""
        extra, answers = dict(row.get("extra") or {}), texts(row)
        rest = extra.pop("completions.fields", None) or [{}] * len(answers)
        done = [
            _completion(text, attributes_of(row, at), rest[at]) for at, text in enumerate(answers)
        ]
        return {"instruction": prompt_text(row), "completions": done} | extra


def _ratings(one: Row) -> dict[str, float | None]:
    annotations = one.get("annotations") or {}
    if type(annotations) is not dict:
        raise BadRow("wrong_type", "'annotations' is not an object of aspects")
    return {aspect: _rating(given, aspect) for aspect, given in annotations.items()}


def _rating(given: object, aspect: str) -> float | None:
    if given is None:
        return None
    if type(given) is not dict:
        raise BadRow("wrong_type", f"the annotation of {aspect!r} is not an object")
    if str(given.get("Rating", "")).strip() in _UNRATED:
        return None
    return number_field(given, "Rating")


def _was_1(overall: float | None, given: dict[str, float | None]) -> bool:
    mean = _mean(given)
    return overall == _HIGHEST and mean is not None and mean <= _POOR


def _mean(given: dict[str, float | None]) -> float | None:
    rated = [value for value in given.values() if value is not None]
    return sum(rated) / len(rated) if rated else None


def _rest(one: Row) -> Row:
    """The fields of a completion besides its text and its ratings."""
    rest = leftover(one, _TAKEN)
    annotations = {
        aspect: leftover(given, _RATING) if _rating(given, aspect) is not None else given
        for aspect, given in (one.get("annotations") or {}).items()
    }
    kept = {aspect: given for aspect, given in annotations.items() if given}
    return rest | {"annotations": kept} if kept else rest


def _completion(text: str, named: dict[str, float], rest: Row) -> Row:
    overall = named.pop(_OVERALL, None)
    named.pop(_WAS_1, None)
    annotations: Row = {aspect: {"Rating": f"{value:g}"} for aspect, value in named.items()}
    for aspect, given in rest.get("annotations", {}).items():
        annotations[aspect] = annotations.get(aspect, {}) | given
    written: Row = {"response": text, "annotations": annotations}
    known = written if overall is None else written | {_OVERALL: overall}
    return known | leftover(rest, _TAKEN)
