r"""Maths answer: 1 where the final answer has the value of the row's known answer, else 0."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Final, Literal

from siftune.curate.records.final_answers import checkable, final_answer, short_answer
from siftune.curate.text.answer_match import after_thinking
from siftune.curate.text.formulas import require_library, same_formula
from siftune.curate.text.known_answers import given_answer, same_answer, value_of

__all__ = ["MathAnswer"]

Compare = Literal["math_verify", "plain"]


@dataclass(frozen=True)
class MathAnswer:
    r"""Whether the completion's final answer equals the row's ``reference``, as a value.

    The final answer is what follows the last ``####`` or is in the last ``\boxed{}``; without these
    the last ``$...$``, where a formula is known or it has a fraction; without that what follows the
    last "answer is" or "answer:"; without that the last number of the text. What is before the last
    ``</think>`` is not read, and thinking that never ended has no answer, nor has a completion
    that was cut (``finished`` of its row is false) without a mark or ended thinking. The reference
    may be a worked solution with a mark.

    Numbers are compared exactly, as fractions: ``1/2``, ``0.5`` and ``\frac12`` agree, ``3.33`` and
    ``10/3`` do not; currency, unit and the commas of thousands do not count. Of ``50%`` either
    reading counts, 50 and 0.5, but where both have the sign it is 50. Formulas are compared by
    math-verify (pip install 'siftune[math]'), five seconds each in a process of its own; what takes
    longer, or has over 200 characters, differs. With ``compare: plain`` formulas are
    compared as texts.

    A completion in which no answer can be read is wrong, 0. A row has no score where the reference
    is missing or is neither a number nor a formula: `exact_match` is for texts.

    Options:
        compare: Formulas by their value (math_verify), or as texts (plain); numbers by value.

    >>> row = {"reference": "6 + 6 = 12\n#### 1,200"}
    >>> texts = [r"So \boxed{1200}.", "It is $1200.00", "12", "many"]
    >>> MathAnswer()(["?"] * 4, texts, [row] * 4)
    [1.0, 1.0, 0.0, 0.0]
    """

    compare: Compare = "math_verify"

    reads_extra: ClassVar = False

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """1.0, 0.0 or None for each completion."""
        known = [_known(row["reference"]) for row in rows]
        return [
            None
            if reference is None
            else float(self._agrees(said, reference, row.get("finished") is not False))
            for said, reference, row in zip(completions, known, rows, strict=True)
        ]

    def load(self) -> None:
        """Refuse a comparison whose library is not installed."""
        if self.compare == "math_verify":
            require_library("math_answer")

    def _agrees(self, said: str, known: str, is_whole: bool) -> bool:
        given = _given(said, known, is_whole)
        if given is None:
            return False
        percent = _PERCENT.search(known) and _PERCENT.search(given)
        if same_answer(known, given) or (not percent and _readings(known) & _readings(given)):
            return True
        numbers = value_of(known) is not None and value_of(given) is not None
        if numbers or self.compare == "plain":
            return False
        require_library("math_answer")
        return same_formula(known, given)


_FORMULA: Final = re.compile(r"\$([^$\n]+)\$|\\\(([^\n]{1,400}?)\\\)")
_SYMBOLS: Final = re.compile(r"[^\W\d_]+|[+*/^=(]")
_LONGEST: Final = 80  # characters of a formula without a digit
_NAMES: Final = {"sin", "cos", "tan", "log", "ln", "exp", "pi"}
_PERCENT: Final = re.compile(r"\\?%")
_BEGUN: Final = "<think>"


def _known(reference: Any) -> str | None:
    """The known answer as a number or a formula; None of anything else."""
    if reference is None:
        return None
    known = final_answer(str(reference)).strip("$ \n")
    readable = value_of(known) is not None or short_answer(known) or _is_formula(known)
    return known if readable else None


def _is_formula(text: str) -> bool:
    """Whether a short text without a digit is a formula, as ``x + y``, or one letter."""
    parts = _SYMBOLS.findall(text) if len(text) <= _LONGEST else []
    names = (part for part in parts if part.isalpha())
    return bool(parts) and all(len(name) == 1 or name in _NAMES for name in names)


def _given(said: str, known: str, is_whole: bool) -> str | None:
    """The final answer of a completion, after its thinking; None where there is none.

    One that was cut, and has neither a mark nor ended thinking, may be thinking to its end.
    """
    answer = after_thinking(said)
    whole, marked = answer.strip("$ \n"), checkable(answer)
    is_marked = marked is not None and bool(marked[1])
    if answer == said and (_BEGUN in said or not (is_whole or is_marked)):
        return None
    if value_of(whole) is not None:
        return whole
    formulas = ["".join(found).strip() for found in _FORMULA.findall(answer)[-1:]]
    is_formula = value_of(known) is None or any("\\frac" in found for found in formulas)
    if formulas and is_formula and not is_marked:
        return formulas[0]
    given = given_answer(answer, known)
    if given is None or value_of(given) is None:
        return given
    behind = answer[answer.rfind(given) + len(given) :]
    return f"{given}%" if _PERCENT.match(behind.lstrip(" ")) else given


def _readings(text: str) -> set[Fraction]:
    """The values of a text: of "50%" 50 and 0.5, of another number itself, else none."""
    value = value_of(text)
    if value is None:
        return set()
    return {value, value / 100} if _PERCENT.search(text) else {value}
