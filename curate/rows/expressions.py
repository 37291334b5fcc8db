"""Expressions of columns, such as ``rank(judge_rating) - 0.5 * z(length_words)``: a small grammar.

An expression has numbers, names of columns (``extra.KEY`` and statistics such as ``ifd.mean`` too;
a name with other characters than letters, digits, ``_`` and dots in backquotes), ``+ - * /``,
parentheses, and functions:

- of each row: ``log`` (natural), ``exp``, ``sqrt``, ``abs``, ``min`` and ``max`` of two or more;
- over all rows that are given: ``rank``, the share of the other rows with a smaller value, from 0
  to 1, and ``z``, the standard score (x - mean) / deviation, 0 where all values are equal.

It is computed in float64. The value of a row is null if an operand is null or infinite, or if a
result on the way is not finite. A text without operators is the name of a column, in which an
infinite value is null too: no score is infinite. Nothing is passed to Python's ``eval``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import log_metrics
from siftune.curate.core.ranges import ColumnExpression
from siftune.curate.rows.columns import Reader, base_column, numbers, sortable

__all__ = [
    "ByColumn",
    "ColumnExpression",
    "names_in",
    "needs_of",
    "reads_of",
    "scores",
    "sort_keys",
    "standard_score",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Operand: TypeAlias = Callable[[Mapping[str, Floats]], Floats]
"""Computes the values of all rows, NaN for null, from those of the columns."""

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[^\W\d]\w*(?:\.\w+)*)"
    r"|`(?P<quoted>[^`]+)`|(?P<sign>[-+*/(),])|(?P<end>$)|(?P<wrong>\S))"
)
_OPERATORS: Final = re.compile(r"[-+*/()`]")
_DEEPEST: Final = 50
_LONGEST: Final = 2000
_SHOWN: Final = 60
_NO_VALUE: Final = (
    "{!r} has no finite value in any row, though each of its columns has some: see where it "
    "divides by 0, overflows, or needs columns that no row has together"
)


def scores(table: pl.DataFrame, text: str) -> pl.Series:
    """The value of each row, null where there is none or no finite one; a column keeps its type.

    Raises:
        UsageError: the text is no expression, or a column is not there or has no numbers.
    """
    return _values(table, text, numbers)


def sort_keys(table: pl.DataFrame, text: str) -> pl.Series:
    """As `scores`, to rank rows by: a single column may hold texts or times."""
    return _values(table, text, sortable)


def _values(table: pl.DataFrame, text: str, read: Reader) -> pl.Series:
    found = _parsed(text)
    if found.value is None:
        column = read(table, text)
        return column.set(column.is_infinite(), None) if column.dtype.is_float() else column
    columns = {name: numbers(table, name).cast(pl.Float64) for name in found.names}
    with np.errstate(all="ignore"):
        computed = found.value({name: _finite(one.to_numpy()) for name, one in columns.items()})
    value = pl.Series(text, computed, dtype=pl.Float64).fill_nan(None)
    if table.height and not value.count() and all(one.count() for one in columns.values()):
        log_metrics(no_value=_NO_VALUE.format(text))
    return value


def names_in(text: str) -> tuple[str, ...]:
    """The names of the columns in an expression, each once."""
    return _parsed(text).names


def needs_of(*texts: str | None) -> tuple[str, ...]:
    """The columns of a table that expressions read; None reads nothing."""
    named = [base_column(name) for text in texts if text is not None for name in names_in(text)]
    return tuple(dict.fromkeys(named))


def reads_of(text: str | None, read: Reader = numbers) -> tuple[tuple[str, Reader], ...]:
    """The columns in an expression with their readers: ``read`` for a single one, else numbers."""
    if text is None:
        return ()
    alone = _parsed(text).value is None
    return tuple((name, read if alone else numbers) for name in names_in(text))


class ByColumn:
    """What selectors that read one column, or an expression ``by`` of columns, have in common."""

    by: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that are read."""
        return needs_of(self.by)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same, as numbers."""
        return reads_of(self.by)


@dataclass(frozen=True)
class _Expression:
    """Names of columns, and how their values are combined; of a single column None."""

    names: tuple[str, ...]
    value: Operand | None


@lru_cache(256)
def _parsed(text: str) -> _Expression:
    if not _OPERATORS.search(text):
        return _Expression((text,), None)
    if len(text) > _LONGEST:
        raise UsageError(f"expected at most {_LONGEST:,} characters, got {len(text):,}")
    parser = _Parser(text)
    value = parser.whole()
    names = tuple(dict.fromkeys(parser.names))
    if not names:
        raise UsageError(f"expected a column in the expression, got none (in {text!r})")
    return _Expression(names, value)


class _Parser:
    """Recursive descent over the tokens; the names of columns are collected on the way."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0
        self.names: list[str] = []
        self._next()

    def whole(self) -> Operand:
        """The expression, up to the end of the text."""
        value = self._sum()
        if self._kind != "end":
            self._refuse("an operator")
        return value

    def _next(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        assert found is not None  # the last alternatives match the end and any character
        self._kind = str(found.lastgroup)
        self._token = found[self._kind]
        self._start, self._at = found.start(self._kind), found.end()

    def _take(self, *signs: str) -> str | None:
        """The sign that is next, if it is one of these; then the parser is behind it."""
        sign = self._token if self._kind == "sign" and self._token in signs else None
        if sign is not None:
            self._next()
        return sign

    def _sum(self) -> Operand:
        value, terms = self._product(), []
        while sign := self._take("+", "-"):
            terms.append((_SIGNS[sign], self._product()))
        return _chain(value, terms)

    def _product(self) -> Operand:
        value, factors = self._signed(), []
        while sign := self._take("*", "/"):
            factors.append((_SIGNS[sign], self._signed()))
        return _chain(value, factors)

    def _signed(self) -> Operand:
        negative = False
        while self._take("-"):
            negative = not negative
        value = self._atom()
        return (lambda columns: -value(columns)) if negative else value

    def _atom(self) -> Operand:
        kind, token, start = self._kind, self._token, self._start
        if kind == "number":
            return self._number(float(token))
        if kind in ("name", "quoted"):
            self._next()
            if kind == "name" and self._take("("):
                return self._call(token, start)
            self.names.append(token)
            return lambda columns: columns[token]
        if not self._take("("):
            self._refuse('a column, number or "("')
        return self._inside()[0]

    def _number(self, number: float) -> Operand:
        if math.isinf(number):
            self._refuse("a number in range")
        self._next()
        return lambda columns: np.full_like(next(iter(columns.values())), number)

    def _inside(self, comma: str = "") -> list[Operand]:
        """The expressions up to the closing parenthesis; several have a ``comma`` between."""
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(f"at most {_DEEPEST} parentheses in each other")
        values = [self._sum()]
        while self._take(comma):
            values.append(self._sum())
        if not self._take(")"):
            self._refuse('an operator or ")"')
        self._depth -= 1
        return values

    def _call(self, name: str, start: int) -> Operand:
        if name not in _FUNCTIONS:
            self._start = start
            self._refuse(f"a function ({', '.join(_FUNCTIONS)})", name)
        function, least, most = _FUNCTIONS[name]
        operands = self._inside(",")
        if not least <= len(operands) <= most:
            self._start = start
            many = "one expression" if most == 1 else "two expressions or more"
            self._refuse(f"{many} in {name}(...)", str(len(operands)))
        return lambda columns: _finite(function(*(one(columns) for one in operands)))

    def _refuse(self, expected: str, got: str = "") -> None:
        shown = got or (f'"{self._token}"' if self._kind != "end" else "the end")
        near = self._text if len(self._text) <= _SHOWN else f"{self._text[:_SHOWN]}..."
        hint = "; a name with odd characters is put in backquotes" * (self._kind == "wrong")
        raise UsageError(
            f"character {self._start + 1}: expected {expected}, got {shown} (in {near!r}){hint}"
        )


def _finite(value: Floats) -> Floats:
    return np.where(np.isfinite(value), value, np.nan)


def _chain(first: Operand, rest: list[tuple[Callable[..., Floats], Operand]]) -> Operand:
    if not rest:
        return first

    def value(columns: Mapping[str, Floats]) -> Floats:
        result = first(columns)
        for function, operand in rest:
            result = _finite(function(result, operand(columns)))
        return result

    return value


def _rank(value: Floats) -> Floats:
    known = np.sort(value[~np.isnan(value)])
    below = np.searchsorted(known, value) / max(len(known) - 1, 1)
    return np.where(np.isnan(value), np.nan, below)


def standard_score(value: Floats) -> Floats:
    """(x - mean) / standard deviation of the values that are not NaN; 0 where all are equal."""
    known = value[~np.isnan(value)]
    if not len(known) or known.min() == known.max():
        return value * 0.0
    scale = np.abs(known).max()  # no square overflows, and exact sums know no order of the rows
    known, value = known / scale, value / scale
    mean = math.fsum(known) / len(known)
    return (value - mean) / math.sqrt(math.fsum((known - mean) ** 2) / len(known))


def _least(*values: Floats) -> Floats:
    smallest: Floats = np.minimum.reduce(values)  # unlike polars, NaN where any is
    return smallest


def _largest(*values: Floats) -> Floats:
    largest: Floats = np.maximum.reduce(values)
    return largest


_SIGNS: Final[Mapping[str, Callable[..., Floats]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}
_FUNCTIONS: Final[Mapping[str, tuple[Callable[..., Floats], int, int]]] = {
    "log": (np.log, 1, 1),
    "exp": (np.exp, 1, 1),
    "sqrt": (np.sqrt, 1, 1),
    "abs": (np.abs, 1, 1),
    "min": (_least, 2, _LONGEST),
    "max": (_largest, 2, _LONGEST),
    "rank": (_rank, 1, 1),
    "z": (standard_score, 1, 1),
}
"""Each function with its least and largest number of operands."""
