"""WebGPT comparisons: a question, two answers with quotes, and a score of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.judgements import in_places, judged_pair, scored_place
from siftune.curate.records.turns import answer, number_field, text_field, text_turn

__all__ = ["WebGPT"]

_ANSWERS, _SCORES = ("answer_0", "answer_1"), ("score_0", "score_1")
_USED = frozenset({"question", *_ANSWERS, *_SCORES})


@dataclass(frozen=True)
class WebGPT:
    """``question: {"full_text"}``, ``answer_0``, ``answer_1``, ``score_0`` and ``score_1``.

    The answer with the higher score is chosen; equal scores prefer nothing: `tie`. Quotes, tokens
    and the other fields of the question stay in ``extra``. Nakano et al. 2021, arXiv:2112.09332;
    the data set's card.
    """

    kind: ClassVar[Kind] = "preference"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has a question, two answers and their scores."""
        return row.keys() >= _USED

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        better = scored_place(row, _SCORES)
        text, about = _question(row.get("question"))
        answers = [answer(text_field(row, key)) for key in _ANSWERS]
        made = judged_pair([text_turn("user", text)], answers, better, row, _USED)
        if about:
            made["extra"]["question.fields"] = about
        scores = [number_field(row, key) for key in _SCORES]
        return [made | {"score_chosen": scores[better], "score_rejected": scores[1 - better]}]

    def write(self, row: Row) -> Row:
        """The record; the two scores have to differ."""
        extra = dict(row.get("extra") or {})
        prompt, first, second, better = in_places(row, extra)
        high, low = row.get("score_chosen"), row.get("score_rejected")
        if high is None or low is None or high <= low:
            raise BadRow("no_place", "the chosen answer of a webgpt record has the higher score")
        question = {"full_text": prompt, **extra.pop("question.fields", {})}
        ordered = (low, high) if better else (high, low)
        written = {"question": question, "answer_0": first, "answer_1": second}
        return written | dict(zip(_SCORES, ordered, strict=True)) | extra


def _question(value: Any) -> tuple[str, Row]:
    """The text of a question, and its other fields."""
    if type(value) is not dict:
        return text_field({"question": value}, "question"), {}
    rest = {key: item for key, item in value.items() if key != "full_text"}
    return text_field(value, "full_text"), rest
