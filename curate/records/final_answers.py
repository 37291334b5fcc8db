r"""The final answer of a worked solution: after ``####``, in ``\boxed{}``, or a short value."""

from __future__ import annotations

import math
import re
from typing import Any, Final

__all__ = ["checkable", "final_answer", "short_answer"]

_MARK: Final = "####"
_GROUPED: Final = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_BOXES: Final = ("\\boxed{", "\\fbox{")
_BARE: Final = re.compile(r"\\boxed\s+([^\s{}$][^{}$\n]*?)\s*(?:\$|\\\)|\.?\s*$|\.\s)", re.M)
_COMMAND: Final = re.compile(r"\\[A-Za-z]+")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_LONGEST: Final = 80  # characters of a short answer
_WORDS: Final = 1  # words allowed beside its number: a unit


def checkable(value: Any) -> tuple[str, str] | None:
    r"""The final answer in ``value`` and the mark before it (or ``""``); None without one.

    Commas that group the digits of a number after ``####`` are left out, as GSM8K's authors do.

    >>> checkable("6 + 6 = 12\n#### 1,200"), checkable(r"So \boxed{\frac{1}{2}}."), checkable(5.0)
    (('1200', '####'), ('\\frac{1}{2}', 'boxed'), ('5', ''))
    >>> checkable("9 (apples)"), checkable("It was the year 1900 or so")
    (('9 (apples)', ''), None)
    """
    if type(value) in (int, float):
        return (_number(value), "") if math.isfinite(value) else None
    if type(value) is not str:
        return None
    if _MARK in value:
        answer = value.rpartition(_MARK)[2].strip()
        marked = answer.replace(",", "") if _GROUPED.fullmatch(answer) else answer
        return (marked, _MARK) if answer and "\n" not in answer else None
    boxed = _boxed(value)
    if boxed:
        return boxed, "boxed"
    answer = value.strip()
    return (answer, "") if short_answer(answer) else None


def final_answer(text: str) -> str:
    """The marked final answer of a worked solution; a text without a mark as it is."""
    found = checkable(text)
    return found[0] if found and found[1] else text


def short_answer(text: str) -> bool:
    """Whether ``text`` is a number, perhaps with a unit, or a formula: no sentence."""
    if not text or len(text) > _LONGEST or "\n" in text:
        return False
    has_value = any(char.isdigit() for char in text) or "\\" in text
    return has_value and len(_WORD.findall(_COMMAND.sub(" ", text))) <= _WORDS


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _boxed(text: str) -> str:
    r"""The content of the last box, with balanced braces; empty without one.

    MATH has a few boxes without braces, as ``$\boxed 5$``: their content is the rest of the
    formula, as the authors' own code reads them.
    """
    start, box = max((text.rfind(box), box) for box in _BOXES)
    if start < 0:
        bare = _BARE.findall(text)
        return bare[-1] if bare else ""
    begin = start + len(box)
    depth = 1
    for at in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[begin:at].strip()
    return ""
