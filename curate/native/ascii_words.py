"""Words counted 64 letters at a time where these are ASCII, as `core.texts.text.WORD` has them.

Each letter is a bit of a mask. A word starts at a letter or digit behind none. It goes on behind an
apostrophe between two of them, and behind a point or comma between one and a digit; but a letter
straight behind the digits that follow such a point is a word of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from siftune.curate.native.jit import compiled
from siftune.curate.native.simd import WIDE, ones, upto, within

__all__ = ["Before", "Letters", "letters", "words"]

_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_Bits: TypeAlias = Any  # numpy's uint64; compiled code mixes it with nothing else
_ONE, _TWO, _TOP = np.uint64(1), np.uint64(2), np.uint64(WIDE - 1)


class Letters(NamedTuple):
    """Which of 64 bytes are in a word, digits, apostrophes, points or commas, beyond ASCII."""

    inside: _Bits
    digits: _Bits
    apostrophes: _Bits
    points: _Bits
    others: _Bits


class Before(NamedTuple):
    """The letters before, and whether digits behind a point that joins them may go on.

    All 0 before a text, and behind a letter that is in no word and joins none.
    """

    inside: _Bits
    apostrophes: _Bits
    points: _Bits
    number: _Bits


@compiled(inline="always")
def letters(address: _Int, count: _Int) -> Letters:
    """What the first ``count`` of 64 bytes are."""
    wanted = upto(count)
    digits = within(address, 0, 0x30, 10) & wanted
    inside = within(address, 0x20, 0x61, 26) & wanted | digits
    apostrophes = within(address, 0, 0x27, 1) & wanted
    points = within(address, 2, 0x2E, 1) & wanted
    return Letters(inside, digits, apostrophes, points, within(address, 0, 0x80, 128) & wanted)


@compiled(inline="always")
def words(found: Letters, before: Before) -> tuple[int, Before]:
    """How many words begin among the letters, and what is before the next ones."""
    inside, digits = found.inside, found.digits
    one_back = inside << _ONE | before.inside >> _TOP
    two_back = inside << _TWO | before.inside >> (_TOP - _ONE)
    apostrophe = found.apostrophes << _ONE | before.apostrophes >> _TOP
    point = found.points << _ONE | before.points >> _TOP
    numbers = point & two_back & digits
    joined = apostrophe & two_back & inside | numbers
    begun = digits + numbers  # a sum carries each number's first bit to the place behind its last
    ends = begun + before.number
    behind = ends & ~digits & inside
    more = np.uint64((begun < digits) | (ends < begun))
    count = ones(inside & ~one_back) - ones(joined) + ones(behind)
    return count, Before(inside, found.apostrophes, found.points, more)
