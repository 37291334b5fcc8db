"""SHP: a Reddit post, two comments on it, and which of them its readers preferred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.judgements import in_places, judged_pair, place_field
from siftune.curate.records.turns import answer, number_field, text_field, text_turn

__all__ = ["SHP"]

_SCORES = ("score_A", "score_B")
_ANSWERS = ("human_ref_A", "human_ref_B")
_USED = frozenset({"history", "labels", *_ANSWERS, *_SCORES})


@dataclass(frozen=True)
class SHP:
    """``history``, ``human_ref_A``, ``human_ref_B`` and ``labels``: 1 where A is preferred, or 0.

    The prompt is the post. The votes ``score_A`` and ``score_B`` become ``score_chosen`` and
    ``score_rejected``. Which comment was chosen, 1 for A or 2 for B, stays in ``extra`` as
    ``chosen_response``. Ethayarajh et al. 2022, arXiv:2110.08420; the data set's card.
    """

    kind: ClassVar[Kind] = "preference"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has a post, both comments and a label."""
        return {"history", "labels", *_ANSWERS} <= row.keys()

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        better = place_field(row, "labels", (1, 0))
        prompt = [text_turn("user", text_field(row, "history"))]
        answers = [answer(text_field(row, key)) for key in _ANSWERS]
        scores = [number_field(row, key) for key in _SCORES]
        facts = {"score_chosen": scores[better], "score_rejected": scores[1 - better]}
        return [judged_pair(prompt, answers, better, row, _USED) | facts]

    def write(self, row: Row) -> Row:
        """The record; the chosen answer takes the place it had, A if it had none."""
        extra = dict(row.get("extra") or {})
        prompt, first, second, better = in_places(row, extra)
        scores = [row.get("score_chosen"), row.get("score_rejected")]
        votes = zip(_SCORES, reversed(scores) if better else scores, strict=True)
        written = {"history": prompt, "human_ref_A": first, "human_ref_B": second}
        known = {key: score for key, score in votes if score is not None}
        return written | {"labels": 1 - better} | known | extra
