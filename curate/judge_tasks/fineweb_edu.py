"""FineWeb-Edu rating: educational value of a text, from 0 to 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.fence import Section, conversation
from siftune.curate.judge_calls.types import Answer, Item, Question, UnjudgeableError
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import Rating

__all__ = ["FineWebEdu"]

_RUBRIC = """You rate the educational value of an extract for teaching from primary school to \
grade school, and add up points. Each point needs those before it:
- 1 point: it has some basic information on an educational topic, even among irrelevant matter \
such as advertisements.
- 2 points: it touches on what education covers, but is superficial, mixed or incoherent.
- 3 points: it is fit for educational use and introduces key concepts of a curriculum, coherently.
- 4 points: it is highly relevant and clear, like a chapter of a textbook or a tutorial, with \
little irrelevant matter.
- 5 points: it is outstanding for teaching: thorough, easy to follow, nothing beside the point."""
_REPLY = """First justify the total in at most 100 words; then end with a last line of the form \
"Educational score: k", where k is the number of points, 0 to 5."""
_ALONE = "Reply with the number of points only: one digit from 0 to 5."


@dataclass(frozen=True)
class FineWebEdu:
    """``rating``: points for educational value, 0 to 5; Penedo et al. 2024, arXiv:2406.17557.

    The rubric is that of its annotations for web pages; the paper keeps 3 and more. A row may be a
    text alone or a conversation, which is then rated as a whole.

    Options:
        rationale: Ask for a justification before the score, as the paper does; without one an
            answer is a few tokens.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    rationale: bool = True
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = None
    adds: ClassVar[Mapping[str, type[pl.DataType]]] = {"rating": pl.Float64}

    @cached_property
    def _rating(self) -> Rating:
        prompt = Prompt(
            "fineweb_edu",
            _RUBRIC,
            _REPLY if self.rationale else _ALONE,
            max_tokens=300 if self.rationale else 16,
            max_chars=self.max_chars,
        )
        return Rating(prompt, 0, 5, "last" if self.rationale else "alone", whole=True)

    def questions(self, item: Item) -> Sequence[Question]:
        """One question."""
        return [self._rating.question(_extract(item))]

    def parse(self, item: Item, question: int, answer: Answer) -> float:
        """The points."""
        return self._rating.score(answer, _extract(item))

    def verdict(self, item: Item, parsed: Sequence[float]) -> Mapping[str, Any]:
        """The points."""
        return {"rating": parsed[0]}


def _extract(item: Item) -> list[Section]:
    """The texts of the item, whatever their roles."""
    if not (sections := conversation(item)):
        raise UnjudgeableError("no_text", "expected a text, got none or an empty one")
    return sections
