r"""Agreement with a known answer: the final answer of a solution is the row's number or choice."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from typing import Any, ClassVar, Final, Literal

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.records.final_answers import checkable, final_answer
from siftune.curate.rows.chat import last_turn
from siftune.curate.rows.columns import base_column, values
from siftune.curate.text.answer_match import plain

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
        _library()  # names the extra that is missing
        return {"math-verify": version("math-verify")}

    def _row(self, known: str | None, answer: str | None) -> tuple[bool | None, str | None]:
        if known is None or answer is None or not known.strip():
            return None, None
        known = final_answer(known).strip()
        given = _given(answer, known)
        if given is None:
            return None, None
        same = _same(known, given)
        if not same and self.compare == "math_verify":
            same = _same_value(known, given)
        return same, given


_PHRASE: Final = re.compile(r"(?i)\banswer\W{0,3}(?:\s(?:is|would be|=)|:)\W{0,3}([^\n]+)")
_CHOICE: Final = re.compile(r"\(?([A-Ja-j])[).:]?")
_FIRST: Final = re.compile(r"\W{0,3}([A-J])(?:[).:*]|\s*\Z)")
_BRACKETED: Final = re.compile(r"\(([A-J])\)")
_NUMBER: Final = re.compile(
    r"(?:(?<![\w)])[-−]\s?)?(?:[$€£¥]\s?)?"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+)?"
)
_FRACTION: Final = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_UNIT: Final = re.compile(r"\s*(?:%|\\%|°|[^\W\d_][\w²³/ .]{0,40})?")
_LONGEST: Final = 200  # characters of a formula


def _given(answer: str, known: str) -> str | None:
    """The final answer in a text, to be compared with a known one of that form."""
    marked = checkable(answer)
    if marked and marked[1]:
        return marked[0]
    choice = _CHOICE.fullmatch(known) is not None
    if phrases := _PHRASE.findall(answer):
        return _within(phrases[-1], known, choice)
    if choice:
        letters = set(_BRACKETED.findall(answer))
        first = _FIRST.match(answer)
        if letters:
            return letters.pop() if len(letters) == 1 else None
        return first[1] if first else None
    if _value(known) is None:
        return answer.strip() or None
    numbers = _NUMBER.findall(answer)
    return numbers[-1].strip() if numbers else None


def _within(text: str, known: str, choice: bool) -> str:
    """The answer in what follows "answer is": its choice, its first number, or its sentence."""
    if choice and (letter := re.match(r"\W*([A-Ja-j])\b", text)):
        return letter[1]
    if _value(known) is not None and (number := _NUMBER.search(text)):
        return number[0].strip()
    return re.split(r"[.!?]\s", f"{text} ")[0].strip(" *\"'`$.")


def _same(known: str, given: str) -> bool:
    one, other = _value(known), _value(given)
    if one is not None and other is not None:
        return one == other
    letters = _CHOICE.fullmatch(known), _CHOICE.fullmatch(given)
    if letters[0] and letters[1]:
        return letters[0][1].upper() == letters[1][1].upper()
    return plain(known) == plain(given)


def _value(text: str) -> Fraction | None:
    r"""The number that a short text is, perhaps with a currency before it and a unit behind.

    >>> [_value(text) for text in ("$1,200.50", "5 apples", r"-\frac{1}{2}", "50%", "x = 2", "B")]
    [Fraction(2401, 2), Fraction(5, 1), Fraction(-1, 2), Fraction(50, 1), None, None]
    """
    text = text.strip(" $*").rstrip(".").replace("\\$", "$").replace("\\!", "")
    if fraction := _FRACTION.fullmatch(text):
        text = f"{fraction[1]}{fraction[2]}/{fraction[3]}"
    found = _NUMBER.match(text)
    if not found or not _UNIT.fullmatch(text, found.end()):
        return None
    digits = re.sub(r"[\s$€£¥,]", "", found[0]).replace("−", "-")
    above, _, below = digits.partition("/")
    try:
        return Fraction(above) / Fraction(below or 1)
    except (ValueError, ZeroDivisionError):
        return None


def _same_value(known: str, given: str) -> bool:
    library = _library()
    if max(len(known), len(given)) > _LONGEST:
        return False
    main = threading.current_thread() is threading.main_thread()
    seconds = 5 if main else None  # its time limit is a signal, which other threads cannot have
    sides = [
        library.parse(f"${text}$", parsing_timeout=seconds)
        or library.parse(text, parsing_timeout=seconds)
        for text in (known, given)
    ]
    return bool(all(sides) and library.verify(*sides, timeout_seconds=seconds))


def _library() -> Any:
    try:
        import math_verify
    except ImportError:
        raise UsageError(
            "known_answer: compare: math-verify is not installed: pip install 'siftune[math]', or "
            "take compare: plain"
        ) from None
    return math_verify
