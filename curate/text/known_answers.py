r"""Final answers in worked solutions, and whether they agree: numbers, choices, formulas, texts."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from siftune.curate.records.final_answers import checkable
from siftune.curate.text.answer_match import plain

__all__ = ["given_answer", "same_answer", "value_of"]

_PHRASE: Final = re.compile(
    r"(?i)\banswer\W{0,3}(?:\s(?:is|would be|=)|:)(?:(?![-−.])\W){0,3}([^\n]+)"
)
_CHOICE: Final = re.compile(r"\(?([A-Ja-j])[).:]?")
_FIRST: Final = re.compile(r"\W{0,3}([A-J])(?:[).:*]|\s*\Z)")
_BRACKETED: Final = re.compile(r"\(([A-J])\)")
_NUMBER: Final = re.compile(
    r"(?:(?<![\w)])[-−]\s?)?(?:[$€£¥]\s?)?"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+)?"
    r"(?i:\s?(?:dozen|hundred|thousand|million|billion|trillion)\b)?"
)
_FACTORS: Final = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_BETWEEN: Final = re.compile(r".*\bor\b.*|\s*(?:[,;–—−-]|and|to)\s*", re.DOTALL)
_RANGE: Final = re.compile(r"\d[-–—−]\Z")
_FRACTION: Final = re.compile(r"(-?)\\[dt]?frac(?:\{(\d+)\}|\s*(\d))\s*(?:\{(\d+)\}|(\d))")
_UNIT: Final = re.compile(
    r"\s*(?:%|\\%|°|(?!(?i:hundred|thousand|[mbtr]*illion))"
    r"(?![abceiknpqxyzπ](?![^\W\d_])|pi\b)[^\W\d_][\w²³/ .]{0,40})?"
)  # 2x, 2π and 2e3 are no 2 with a unit


def given_answer(answer: str, known: str) -> str | None:
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
    if value_of(known) is None:
        return answer.strip() or None
    numbers = list(_NUMBER.finditer(answer))
    if not numbers or _RANGE.search(answer[: numbers[-1].start()][-2:]):
        return None  # no number, or the end of a range
    return numbers[-1][0].strip()


def _within(text: str, known: str, choice: bool) -> str | None:
    """The answer in what follows "answer is": its choice, its number, or its sentence."""
    if choice and (letter := re.match(r"\W*([A-Ja-j])\b", text)):
        return letter[1]
    sentence = re.split(r"[.!?]\s", f"{text} ")[0]
    if value_of(known) is not None and _NUMBER.search(text):
        return _number_in(sentence if _NUMBER.search(sentence) else text)
    return sentence.strip(" *\"'`$.")


def _number_in(text: str) -> str | None:
    """The number behind the last ``=``, else the first; None of several to choose from."""
    behind = _NUMBER.findall(text.rpartition("=")[2])
    if "=" in text and len(behind) == 1:
        return str(behind[0]).strip()
    first, *more = _NUMBER.finditer(text)
    if more and _BETWEEN.fullmatch(text[first.end() : more[0].start()]):
        return None
    if more and _RANGE.search(text[: more[0].start()][-2:]):
        return None
    return first[0].strip()


def same_answer(known: str, given: str) -> bool:
    """Whether two final answers agree: as numbers, as letters of a choice, else as plain text."""
    one, other = value_of(known), value_of(given)
    if one is not None and other is not None:
        return one == other
    letters = _CHOICE.fullmatch(known), _CHOICE.fullmatch(given)
    if letters[0] and letters[1]:
        return letters[0][1].upper() == letters[1][1].upper()
    return plain(known) == plain(given)


def value_of(text: str) -> Fraction | None:
    r"""The number that a short text is, perhaps with a currency before it and a unit behind.

    >>> [value_of(text) for text in ("$1,200.50", "5 apples", r"-\frac{1}{2}", "50%", "x = 2", "B")]
    [Fraction(2401, 2), Fraction(5, 1), Fraction(-1, 2), Fraction(50, 1), None, None]
    >>> [value_of(text) for text in (r"\frac12", "5 m", "5m²", "2x", "2pi", "1/0")]
    [Fraction(1, 2), Fraction(5, 1), Fraction(5, 1), None, None, None]
    """
    text = text.strip(" $*").rstrip(".").replace("\\$", "$").replace("\\!", "")
    if fraction := _FRACTION.fullmatch(text):
        sign, *parts = fraction.groups()
        text = sign + "/".join(filter(None, parts))
    found = _NUMBER.match(text)
    if not found or not _UNIT.fullmatch(text, found.end()):
        return None
    digits = re.sub(r"[\s$€£¥,]", "", found[0]).replace("−", "-").lower()
    factor = next((word for word in _FACTORS if digits.endswith(word)), "")
    above, _, below = digits.removesuffix(factor).partition("/")
    try:
        return Fraction(above) / Fraction(below or 1) * _FACTORS.get(factor, 1)
    except (ValueError, ZeroDivisionError):
        return None
