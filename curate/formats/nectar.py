"""Nectar: a prompt and several answers with their ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.ranked_lists import items, texts
from siftune.curate.records.turns import (
    answer,
    leftover,
    number_field,
    prompt_turns,
    text_field,
    write_dialogue,
)

__all__ = ["Nectar"]

_USED = frozenset({"answer", "rank"})
_OPEN = "\n\nAssistant: "


@dataclass(frozen=True)
class Nectar:
    """``prompt`` and ``answers: [{"answer", "rank"}]``; rank 1 is best, so a score is ``-rank``.

    A prompt with Human: and Assistant: marks is split into its turns. Further fields of an answer
    (its model) stay in ``extra`` under ``answers.fields``.
    """

    kind: ClassVar[Kind] = "ranked"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has a prompt and a list of answers with ranks."""
        answers = row.get("answers")
        if "prompt" not in row or type(answers) is not list or not answers:
            return False
        return type(answers[0]) is dict and answers[0].keys() >= _USED

    def read(self, row: Row) -> list[Row]:
        """The ranked list of one record."""
        answers, extra = items(row, "answers"), leftover(row, frozenset({"prompt", "answers"}))
        rest = [leftover(one, _USED) for one in answers]
        if any(rest):
            extra["answers.fields"] = rest
        return [
            {
                "prompt": prompt_turns(text_field(row, "prompt")),
                "completions": [answer(text_field(one, "answer")) for one in answers],
                "scores": [-_rank(one) for one in answers],
                "extra": extra,
            }
        ]

    def write(self, row: Row) -> Row:
        """The record; every answer needs a score to have a rank."""
        extra, contents = dict(row.get("extra") or {}), texts(row)
        scores = row.get("scores") or [None]
        if None in scores:
            raise BadRow("no_place", "an answer without a score has no rank")
        rest = extra.pop("answers.fields", None) or [{}] * len(contents)
        answers = [
            {"answer": text, "rank": -score} | fields
            for text, score, fields in zip(contents, scores, rest, strict=True)
        ]
        return {"prompt": write_dialogue(row["prompt"]) + _OPEN, "answers": answers} | extra


def _rank(one: Row) -> float:
    rank = number_field(one, "rank")
    if rank is None:
        raise BadRow("missing_field", "an answer has no rank")
    return rank
