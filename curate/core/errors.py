"""Errors for users: one line each, with an exit code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = [
    "PARTIAL",
    "BadRow",
    "DataError",
    "LockedError",
    "Problems",
    "SiftuneError",
    "UsageError",
    "closest",
    "raise_all",
]

PARTIAL: Final = 4
"""Exit code of a run that ended well but quarantined rows or left some unscored."""


class SiftuneError(Exception):
    """An error whose text is complete: what was expected, what came, what to do."""

    exit_code = 1


class UsageError(SiftuneError):
    """The command, recipe or option is wrong."""

    exit_code = 2


class DataError(SiftuneError):
    """The input cannot be used at all; the text names the file, and the line or row."""

    exit_code = 3


class LockedError(SiftuneError):
    """Another run has the lock of the output folder."""


def closest(wrong: object, right: Mapping[str, Any] | tuple[str, ...]) -> str:
    """Advice after an unknown name, which in YAML need not be a text."""
    near = difflib.get_close_matches(str(wrong), list(right), n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(right)}" if right else "it has no options"


def raise_all(problems: Sequence[SiftuneError]) -> None:
    """Raise a single problem as it is, or several as one error with a line for each."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = [f"{len(problems)} problems:", *(f"  {problem}" for problem in problems)]
        kinds = [type(problem) for problem in problems]
        raise min(kinds, key=lambda kind: kind.exit_code)("\n".join(lines))


_LIST: Final = re.compile(r"(?s)(.*?)\d+ problems:\n  (.*)")


@dataclass
class Problems:
    """Errors of several checks, collected so that a user sees all of them at once."""

    found: list[SiftuneError] = field(default_factory=list)

    @contextmanager
    def collecting(self, where: str = "") -> Iterator[None]:
        """Collect the error that ends the block, with ``where`` before it; a list one by one."""
        try:
            yield
        except SiftuneError as error:
            kind = type(error)
            self.found += [kind(f"{where}: {one}" if where else one) for one in _each(str(error))]

    def refuse(self, where: str = "") -> None:
        """Raise what was collected, if anything, with ``where`` before it; see `raise_all`."""
        try:
            raise_all(self.found)
        except SiftuneError as error:
            raise type(error)(f"{where}: {error}" if where else str(error)) from None


def _each(text: str) -> list[str]:
    """The problems in the text of `raise_all`, or the text itself."""
    listed = _LIST.fullmatch(text)
    return [text] if listed is None else [listed[1] + one for one in listed[2].split("\n  ")]


class BadRow(Exception):
    """A raw row that cannot be read: it is quarantined, the others are read on.

    ``reason`` is short stable snake_case, ``detail`` is what was expected and what came.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
