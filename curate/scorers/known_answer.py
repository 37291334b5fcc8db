r"""Agreement with a known answer: the final answer of a solution is the row's number or choice."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Literal

import polars as pl

from siftune.curate.records.final_answers import final_answer
from siftune.curate.rows.chat import last_turn
from siftune.curate.rows.columns import base_column, values
from siftune.curate.text.formulas import require_library, same_formula
from siftune.curate.text.known_answers import given_answer, same_answer

__all__ = ["KnownAnswer"]

Compare = Literal["plain", "math_verify"]


@dataclass(frozen=True)
class KnownAnswer:
    r"""``known_answer``: whether the last answer agrees with the one that the row gives.

    ``known_answer_given`` is the final answer that was compared: what follows the last ``####`` or
    is in the last ``\boxed{}``, else what follows the last "answer is" or "answer:". Without these
    it is, where a number is known, the last number of the text; where a letter of a choice is
    known, the only letter in brackets, or the one that the text begins with; where a text is known,
    the whole answer.

    Numbers are compared exactly, as fractions, without currency, per cent sign, unit and grouping
    commas: ``1,200``, ``$1200.00`` and ``1200 apples`` agree, and so do ``0.5``, ``1/2`` and
    ``\frac{1}{2}``; ``3.33`` and ``10/3`` do not. Other texts by `text.answer_match.plain`: without
    case and outer punctuation. With ``compare: math_verify`` formulas are compared by value, too
    (pip install 'siftune[math]'; five seconds a comparison, then they differ). A known answer may
    be a worked solution with one of the marks.

    Null where no answer is known or none can be read. The same rules serve `exact_match` of
    training and evaluation, which wants the text of the final answer to be equal.

    Not for free text, where many wordings are right.

    Options:
        answer: Column with the known answer, such as extra.answer; rows of prompts have answer.
        compare: Numbers, choices and texts by their form (plain), or formulas by their value, too
            (math_verify).
    """

    answer: str = "extra.answer"
    compare: Compare = "plain"

    content: ClassVar = ("messages",)
    adds: ClassVar = {"known_answer": pl.Boolean, "known_answer_given": pl.String}

    @property
    def needs(self) -> tuple[str, ...]:
        """The turns and the known answers."""
        return ("messages", base_column(self.answer))

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Compare the last answer of each conversation."""
        known = values(batch, self.answer).cast(pl.String).to_list()
        answers = last_turn(batch["messages"])[1].to_list()
        rows = [self._row(*each) for each in zip(known, answers, strict=True)]
        return pl.DataFrame(rows, schema=self.adds, orient="row")

    def describe(self) -> dict[str, Any]:
        """The version of math-verify, if that compares."""
        if self.compare == "plain":
            return {}
        require_library("known_answer")
        return {"math-verify": version("math-verify")}

    def _row(self, known: str | None, answer: str | None) -> tuple[bool | None, str | None]:
        if known is None or answer is None or not known.strip():
            return None, None
        known = final_answer(known).strip()
        given = given_answer(answer, known)
        if given is None:
            return None, None
        same = same_answer(known, given)
        if not same and self.compare == "math_verify":
            same = same_formula(known, given)
        return same, given
