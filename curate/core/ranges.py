"""Types of options that are numbers within a range, such as `Count`, or texts that are parsed.

A field annotated with one of them is checked where options of users are (`core.option_values`);
for Python it stays an ``int``, a ``float`` or a ``str``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias, get_args, get_type_hints

from siftune.curate.core.errors import UsageError

__all__ = [
    "ColumnExpression",
    "Count",
    "HeldOutShare",
    "Natural",
    "NonNegative",
    "Parsed",
    "Positive",
    "PositiveShare",
    "Rank",
    "Seed",
    "Share",
    "Within",
    "check_ranges",
    "outside",
    "types_of",
    "types_with_ranges",
    "within_of",
]


@dataclass(frozen=True)
class Within:
    """The interval from ``low`` to ``high`` (None: no end).

    ``low`` is left out where ``above``, ``high`` where ``below``.
    """

    low: float
    high: float | None = None
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        high_enough = value > self.low if self.above else value >= self.low
        if self.high is None:
            return high_enough
        return high_enough and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        start = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        end = "below" if self.below else "at most"
        return start if self.high is None else f"{start}, {end} {int(self.high):,}"


@dataclass(frozen=True)
class Parsed:
    """Texts that a function accepts, ``MODULE:FUNCTION``; it raises a UsageError on others.

    It is imported when a value is checked: the help of an option needs no libraries.
    """

    reader: str

    def problem(self, text: str) -> str | None:
        """What is wrong with a text."""
        module, _, function = self.reader.partition(":")
        try:
            getattr(importlib.import_module(module), function)(text)
        except UsageError as error:
            return str(error)
        return None


Count: TypeAlias = Annotated[int, Within(1, 2**31 - 1)]
Natural: TypeAlias = Annotated[int, Within(0, 2**63 - 1)]
Seed: TypeAlias = Annotated[int, Within(0, 2**32 - 1)]
Rank: TypeAlias = Annotated[int, Within(0, 1024)]
Positive: TypeAlias = Annotated[float, Within(0, above=True)]
NonNegative: TypeAlias = Annotated[float, Within(0)]
Share: TypeAlias = Annotated[float, Within(0, 1)]
PositiveShare: TypeAlias = Annotated[float, Within(0, 1, above=True)]
HeldOutShare: TypeAlias = Annotated[float, Within(0, 1, below=True)]
ColumnExpression: TypeAlias = Annotated[str, Parsed("siftune.curate.rows.expressions:names_in")]
"""A column, or an expression of columns."""


def within_of(hint: Any) -> Iterator[Within]:
    """The ranges in a type hint with its extras, at any depth."""
    yield from (one for one in _marks(hint) if isinstance(one, Within))


def _marks(hint: Any) -> Iterator[Any]:
    yield from getattr(hint, "__metadata__", ())
    for part in get_args(hint):
        yield from _marks(part)


def outside(hint: Any, value: Any) -> str | None:
    """What was expected of ``value``, or of its items, where one is outside its range."""
    values = value.values() if isinstance(value, Mapping) else value
    numbers = values if isinstance(values, Iterable) and not isinstance(value, str) else [value]
    for text in numbers:
        if isinstance(text, str) and (wrong := _unparsed(hint, text)):
            return wrong
    for allowed in within_of(hint):
        for number in numbers:
            plain = isinstance(number, int | float) and not isinstance(number, bool)
            if plain and number not in allowed:
                return f"expected {allowed}, got {number:,}"
    return None


def _unparsed(hint: Any, text: str) -> str | None:
    problems = (mark.problem(text) for mark in _marks(hint) if isinstance(mark, Parsed))
    return next(filter(None, problems), None)


def types_of(component: Any) -> Mapping[str, Any]:
    """The types of a component's options, without their ranges."""
    return _types(component, False)


def types_with_ranges(component: Any) -> Mapping[str, Any]:
    """The types of a component's options as they are written."""
    return _types(component, True)


@lru_cache(1024)
def _types(component: Any, extras: bool) -> Mapping[str, Any]:
    return MappingProxyType(get_type_hints(component, include_extras=extras))


def check_ranges(options: Any) -> None:
    """Refuse a field of the dataclass ``options`` that is outside the range of its type.

    Raises:
        ValueError: the text names the first, with what was expected.
    """
    hints = types_with_ranges(type(options))
    for field in fields(options):
        wrong = outside(hints[field.name], getattr(options, field.name))
        if wrong is not None:
            raise ValueError(f"{field.name}: {wrong}")
