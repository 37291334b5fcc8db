"""Arithmetic in an answer: equations of numbers, and how many of them are wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar, Final

import polars as pl

from siftune.curate.private_data.pattern_spans import matches
from siftune.curate.rows.chat import Part, part_of

__all__ = ["Arithmetic"]


@dataclass(frozen=True)
class Arithmetic:
    """``arithmetic_equations`` and ``arithmetic_wrong``: equations of numbers, and the wrong ones.

    An equation is a term of numbers with ``+ - * / × ÷ ^``, ``3 x 4`` or ``50% of 80``, and
    brackets, ``=`` and a number or another term, such as ``(3 + 4) * $2.50 = $17.50``; in a chain
    each ``=`` is one. Terms are computed exactly, as fractions. The right side is right if it is
    the value; where it is a single number, also the value rounded or cut to the decimals that it is
    written with, and to an integer if the left side is a quotient or a product with one. In
    ``2*3 = 6+1 = 7``, which many people write, the 6 counts. Terms with letters, roots or units
    between the numbers are not read, so that a text with 0 equations may be wrong in other ways.

    ``arithmetic_wrong_share`` is null without an equation; ``arithmetic_first_wrong`` is the first
    wrong equation. A row without the text has null.

    Not for word problems set up wrongly: it checks equations, not what they are about.

    Options:
        of: Text that is checked: the prompt, the response, or both.
    """

    of: Part = "response"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {
        "arithmetic_equations": pl.UInt32,
        "arithmetic_wrong": pl.UInt32,
        "arithmetic_wrong_share": pl.Float32,
        "arithmetic_first_wrong": pl.String,
    }

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Check one text a row."""
        texts = part_of(batch["messages"], self.of)
        found: list[list[tuple[str, bool]]] = [[] for _ in texts]
        for row, text, start, end in matches(texts, _EQUATION):
            if not _is_inside(text, start, end):
                found[row] += _checked(text[start:end])
        columns = []
        for text, equations in zip(texts.to_list(), found, strict=True):
            wrong = [equation for equation, right in equations if not right]
            share = len(wrong) / len(equations) if equations else None
            known = (len(equations), len(wrong), share, wrong[0] if wrong else None)
            columns.append((None,) * 4 if text is None else known)
        return pl.DataFrame(columns, schema=self.adds, orient="row")


_NUMBER: Final = r"\$?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)%?"
_SIGN: Final = r"(?: ?[-+*/×÷^] ?| x | of )"
_MORE: Final = rf"(?: ?[()]{{0,3}}{_SIGN}[(]{{0,3}}{_NUMBER})"
_EQUATION: Final = (
    rf"[-(]{{0,4}}{_NUMBER}{_MORE}{{1,20}}[)]{{0,4}}"
    rf"(?: ?= ?[-(]{{0,4}}{_NUMBER}{_MORE}{{0,20}}[)]{{0,4}}){{1,8}}"
)
_TOKEN: Final = re.compile(r"(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)%?|[-+*/×÷^()x]|of")
_OF: Final = re.compile(r"[^%] of ")
_MOST_BITS: Final = 4096  # of a power
_BEFORE: Final = re.compile(
    r"(?i)[\w.]\Z|[\^)*/×÷+=√%\d-]\s?\Z"
    r"|\b(?:of|x|by|times|plus|minus|over|than|per|to|divided|multiplied|another|for)\s\Z"
)
_AFTER: Final = re.compile(r"\s?[*/×÷^+]|\.\d|[\w(]|\s-\s?\d|\s?!")


def _is_inside(text: str, start: int, end: int) -> bool:
    """Whether the term has a part before or after what was matched, such as a letter."""
    before, after = text[max(0, start - 12) : start], text[end : end + 3]
    return bool(_BEFORE.search(before) or _AFTER.match(after)) and not after.startswith(">>")


def _checked(equation: str) -> Iterator[tuple[str, bool]]:
    """Each ``left = right`` of a chain, and whether it is right; none that cannot be computed."""
    sides = [side.strip() for side in equation.split("=")]
    for left, right in pairwise(sides):
        try:
            value, other = _value(left), _value(right)
        except (ValueError, ZeroDivisionError):
            continue
        if len(_TOKEN.findall(left)) < 2 or _OF.search(left):
            continue
        begins = _BEGINS.match(right)
        same = value == other or (begins is not None and _is_close(value, begins.group(1), left))
        yield f"{left} = {right}", same


_BEGINS: Final = re.compile(rf"([-(]*{_NUMBER}\)*)(?:\Z| ?[-+*×])")
"""The first number of a term, unless it is the numerator of a fraction."""
_IN_BRACKETS: Final = re.compile(r"\([^()]*\)")


def _is_close(value: Fraction, number: str, left: str) -> bool:
    """Whether a number is the value, rounded or cut to the decimals that it is written with.

    >>> _is_close(Fraction(10, 3), "3.3", "10 / 3"), _is_close(Fraction(7, 2), "4", "3 + 1/2")
    (True, False)
    """
    digits = number.strip("-()$")
    decimals = len(digits.rstrip("%").partition(".")[2]) + 2 * digits.endswith("%")
    written = _value(number if number.count("(") == number.count(")") else digits)
    off, unit = abs(value - written), Fraction(1, 10**decimals)
    if decimals:
        return 2 * off <= unit or 0 <= abs(value) - abs(written) < unit
    outer = _IN_BRACKETS.sub("0", left).lstrip("-")
    quotient = ("/" in outer or "÷" in outer) and not {"+", "-"} & set(outer)
    return off == 0 or (quotient and off < 1)


def _value(term: str) -> Fraction:
    """The value of a term.

    >>> _value("2 + 3 * (4 - 1)"), _value("50% * $30")
    (Fraction(11, 1), Fraction(15, 1))
    """
    tokens = _TOKEN.findall(term)[::-1]
    value = _sum(tokens)
    if tokens:
        raise ValueError(term)
    return value


def _sum(tokens: list[str]) -> Fraction:
    value = _product(tokens)
    while tokens and tokens[-1] in "+-":
        sign = 1 if tokens.pop() == "+" else -1
        value += sign * _product(tokens)
    return value


def _product(tokens: list[str]) -> Fraction:
    value = _power(tokens)
    while tokens and tokens[-1] in ("*", "/", "×", "÷", "x", "of"):
        operator, factor = tokens.pop(), _power(tokens)
        value = value / factor if operator in "/÷" else value * factor
    return value


def _power(tokens: list[str]) -> Fraction:
    """A factor, or a power of it by a whole number: ``2^3^2`` is ``2^(3^2)``, ``-2^2`` is -4.

    >>> _value("2^3^2"), _value("-2^2 + 10^-1")
    (Fraction(512, 1), Fraction(-39, 10))
    """
    if tokens and tokens[-1] == "-":
        tokens.pop()
        return -_power(tokens)
    base = _factor(tokens)
    if not (tokens and tokens[-1] == "^"):
        return base
    tokens.pop()
    exponent = _power(tokens)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or bits * abs(exponent) > _MOST_BITS:
        raise ValueError("a power that is not read")
    return base ** int(exponent)


def _factor(tokens: list[str]) -> Fraction:
    if not tokens:
        raise ValueError("a number is missing")
    token = tokens.pop()
    if token == "(":
        value = _sum(tokens)
        if not tokens or tokens.pop() != ")":
            raise ValueError("a bracket is open")
        return value
    if not token[0].isdigit() and token[0] != ".":
        raise ValueError(token)
    number = Fraction(token.rstrip("%").replace(",", ""))
    return number / 100 if token.endswith("%") else number
