"""Principles of a constitution: built in, given or read from a file; one drawn for each item."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.fence import Section

__all__ = ["PRINCIPLES", "Principled", "Principles", "draw", "principles_of"]

Principles: TypeAlias = str | tuple[str, ...]
"""A text file with one principle a line, or the principles."""

PRINCIPLES: Final = (
    "The answer is harmless: it does not help with anything illegal, dangerous or cruel.",
    "The answer is honest: it claims nothing that is false, and admits what it does not know.",
    "The answer is helpful: it does what was asked, completely and to the point.",
    "The answer is respectful: it is neither insulting, biased nor condescending.",
    "The answer explains why where it declines, and offers what it can do instead.",
)
"""Five principles in the spirit of Constitutional AI, arXiv:2212.08073, which has sixteen."""


class Principled:
    """What tasks with an option ``principles`` have in common."""

    principles: Principles

    @cached_property
    def _principles(self) -> Sequence[str]:
        return principles_of(self.principles)

    def describe(self) -> dict[str, Any]:
        """The principles themselves, for keys and manifests: a file may change."""
        return {"principles": list(self._principles)}


def principles_of(given: Principles) -> tuple[str, ...]:
    """The principles; lines of a file that are empty or start with # are left out.

    Raises:
        UsageError: the file cannot be read, or there is no principle.
    """
    if isinstance(given, str):
        try:
            lines = Path(given).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"principles: {given}: expected a text file of one principle a line, or a list of "
                f"principles ({type(error).__name__})"
            ) from None
        given = tuple(line for line in lines if not line.lstrip().startswith("#"))
    found = tuple(stripped for line in given if (stripped := line.strip()))
    if not found:
        raise UsageError("principles: expected at least one principle, got none")
    return found


def draw(principles: Sequence[str], sections: Sequence[Section], seed: int = 0) -> str:
    """One of the principles, by a hash of the data: the same for the same item, in any order."""
    data = repr((seed, list(sections))).encode("utf-8", "backslashreplace")
    number = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
    return principles[number % len(principles)]
