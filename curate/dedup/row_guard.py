"""Guard of near-duplicates: rows with other numbers, names or words in a prompt are no copies.

Two rows pass if

* their prompts have the same numbers (words with digits) in the same order;
* so have their answers, or the numbers of one begin or end those of the other and it is four words
  longer or more (what was cut off, or added);
* of the *own* words of the prompts (those that the other has less often), only one prompt has some
  that are no misspelling of an own word of the other, and none of these is a negation. So a prompt
  may have typing errors or lack words, but where each has a word of its own the prompts differ;
* the words that occur once in both prompts have the same order, but for two adjacent ones;
* the same holds for answers of up to 60 words; in longer ones, where only capitalised words, number
  words and negations count.

A misspelling is one letter changed, left out, added or swapped with the next (Damerau 1964), or two
such in words of eight letters with the same first letter, or a missing or additional blank. A word
of one or two letters is a misspelling of a function word only (*fo*, but not *kg* of *km*), and
one of a script without blanks of none. Two
capitalised words of which one is a name (`row_words`) need more, as *Carla* is not *Carlo*: two
letters swapped or one doubled in four letters, or a change inside a word of five. Number words are
no misspellings of each other.

Paraphrases (`allows_paraphrase`) have other words, so only facts count: two rows pass if their
prompts have the same numbers in digits, in order, and the same negations; if the numbers in digits
of one answer are among those of the other; and if not both prompts, nor both answers, have a name
of their own that is no misspelling, nor both a number word (or ``one``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.row_words import (
    CAPITAL,
    FUNCTION,
    NAME,
    NEGATION,
    NUMBER,
    ONE,
    Side,
    side_words,
)
from siftune.curate.comparing.shingles import SHORT
from siftune.curate.comparing.text_pieces import Pieces
from siftune.curate.dedup.misspellings import LETTERS, is_long, misspells
from siftune.curate.dedup.misspellings import edits as word_edits
from siftune.curate.native.arrays import equal, sort_few
from siftune.curate.native.jit import compiled
from siftune.curate.native.pointers import byte

__all__ = ["NO_GUARD", "Guard", "allows", "allows_paraphrase", "guard_of"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Marks: TypeAlias = npt.NDArray[np.uint64]
_Mask: TypeAlias = npt.NDArray[np.bool_]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_BLOCK = 4  # words that an answer is longer by, if its numbers are more
_LARGE = NAME | CAPITAL
_GUARDED = NAME | CAPITAL | NUMBER | NEGATION
_OWN = 64  # own words that are compared; with as many on both sides, texts differ
_SOME, _NEGATED = 1, 2  # what own words remain: some, a negation


class Guard(NamedTuple):
    """The words of the rows that are compared, by side; not ``active``: every pair passes."""

    active: bool
    prompt: Side
    answer: Side


def guard_of(sides: Sequence[Pieces], rows: Ints) -> Guard:
    """The guard of the rows with the numbers ``rows``, of which ``sides`` has prompt and answer."""
    prompt, answer = (side_words(pieces, rows) for pieces in sides)
    return Guard(True, prompt, answer)


_NONE = np.empty(0, np.int64)
_NO_SIDE = Side(
    np.empty(0, np.uint64),
    np.empty(0, np.uint64),
    np.empty(0, np.uint8),
    _NONE,
    np.empty(0, np.int32),
    np.zeros(1, np.int64),
    _NONE,
)
NO_GUARD = Guard(False, _NO_SIDE, _NO_SIDE)


@compiled()
def allows(guard: Guard, x: _Int, y: _Int) -> bool:
    """Whether rows ``x`` and ``y`` may be near-duplicates; see the module."""
    if not guard.active:
        return True
    if not (_marks_agree(guard.prompt, x, y, 0) and _marks_agree(guard.answer, x, y, _BLOCK)):
        return False
    if not _misspelt(guard.prompt, x, y, 0):
        return False
    answer = guard.answer
    longest = max(
        answer.offsets[x + 1] - answer.offsets[x], answer.offsets[y + 1] - answer.offsets[y]
    )
    return _misspelt(answer, x, y, 0 if longest <= SHORT else _GUARDED)


@compiled()
def allows_paraphrase(guard: Guard, x: _Int, y: _Int) -> bool:
    """Whether rows ``x`` and ``y`` may be paraphrases; see the module."""
    prompt, answer = guard.prompt, guard.answer
    if not _marks_agree(prompt, x, y, 0):
        return False
    if _has_own_number(answer, x, y) and _has_own_number(answer, y, x):
        return False
    own = np.empty(1, np.int64)
    if _own_words(prompt, x, y, NEGATION, own) or _own_words(prompt, y, x, NEGATION, own):
        return False
    agree = True
    for kinds in (NAME, NUMBER | ONE):
        agree &= _kinds_agree(prompt, x, y, kinds) and _kinds_agree(answer, x, y, kinds)
    return agree


@compiled()
def _has_own_number(side: Side, x: _Int, y: _Int) -> bool:
    """Whether ``x`` has a word with a digit that ``y`` has less often."""
    at, other = side.offsets[x], side.offsets[y]
    end, other_end = side.offsets[x + 1], side.offsets[y + 1]
    while at < end:
        word = side.order[at]
        if side.marks[word]:
            hashed = side.hashes[word]
            while other < other_end and side.hashes[side.order[other]] < hashed:
                other += 1
            if other == other_end or side.hashes[side.order[other]] != hashed:
                return True
            other += 1
        at += 1
    return False


@compiled()
def _kinds_agree(side: Side, x: _Int, y: _Int, kinds: _Int) -> bool:
    """Whether only one text has own words of these kinds that are no misspellings."""
    one, other = np.empty(_OWN, np.int64), np.empty(_OWN, np.int64)
    count, others = _own_words(side, x, y, kinds, one), _own_words(side, y, x, kinds, other)
    if min(count, others) == 0:
        return True
    if min(count, others) >= _OWN:
        return False
    return not _differ(side, one[:count], other[:others], kinds)


@compiled()
def _marks_agree(side: Side, x: _Int, y: _Int, block: _Int) -> bool:
    """The same marks in order; or, with ``block``, those of one at an end of the other's."""
    one, other = side.offsets[x], side.offsets[y]
    one_end, other_end = side.offsets[x + 1], side.offsets[y + 1]
    a, b = _marked(side.marks[one:one_end]), _marked(side.marks[other:other_end])
    if len(a) == len(b):
        return equal(a, b)
    if block == 0:
        return False
    if len(a) > len(b):
        a, b = b, a
        one, one_end, other, other_end = other, other_end, one, one_end
    if (other_end - other) - (one_end - one) < block:
        return False
    return equal(a, b[: len(a)]) or equal(a, b[len(b) - len(a) :])


@compiled()
def _marked(marks: _Marks) -> _Marks:
    """The marks that are not 0."""
    found, count = np.empty(len(marks), np.uint64), 0
    for mark in marks:
        found[count] = mark
        count += mark != 0
    return found[:count]


@compiled()
def _misspelt(side: Side, x: _Int, y: _Int, kinds: _Int) -> bool:
    """Whether only one text has own words that are no misspellings, none of them a negation.

    With ``kinds``, only words of one of these count.
    """
    one, other = np.empty(_OWN, np.int64), np.empty(_OWN, np.int64)
    count, others = _own_words(side, x, y, 0, one), _own_words(side, y, x, 0, other)
    if kinds and max(count, others) == _OWN:
        count, others = _own_words(side, x, y, kinds, one), _own_words(side, y, x, kinds, other)
    if min(count, others) == _OWN or (kinds == 0 and not _same_order(side, x, y)):
        return False
    return not _differ(side, one[:count], other[:others], kinds)


@compiled()
def _differ(side: Side, one: Ints, other: Ints, kinds: _Int) -> bool:
    """Whether both texts have own words left that are no misspellings, or one a negation."""
    sort_few(one)
    sort_few(other)
    if len(one) and len(other) and side.hashes[one[0]] > side.hashes[other[0]]:
        one, other = other, one  # so that the order of the rows does not matter
    remain, others_remain = np.ones(len(one), np.bool_), np.ones(len(other), np.bool_)
    _match_joined(side, one, other, remain, others_remain, 0)
    _match_joined(side, other, one, others_remain, remain, 0)
    _match_words(side, one, other, remain, others_remain)
    _match_joined(side, one, other, remain, others_remain, 1)
    _match_joined(side, other, one, others_remain, remain, 1)
    left = _sorts_of(side, one, remain, kinds)
    right = _sorts_of(side, other, others_remain, kinds)
    return bool(left & right & _SOME or (left | right) & _NEGATED)


@compiled()
def _same_order(side: Side, x: _Int, y: _Int) -> bool:
    """Whether the words that occur once in both have one order, but for swaps of adjacent words."""
    at, other = side.offsets[x], side.offsets[y]
    end, other_end = side.offsets[x + 1], side.offsets[y + 1]
    places = np.full(end - at, -1, np.int64)  # in ``y``, of each word of ``x``
    first = at
    while at < end and other < other_end:
        one, two = side.hashes[side.order[at]], side.hashes[side.order[other]]
        runs = _run(side, at, end), _run(side, other, other_end)
        if one == two and runs[0] == 1 and runs[1] == 1:
            places[side.order[at] - first] = side.order[other]
        at += runs[0] if one <= two else 0
        other += runs[1] if two <= one else 0
    words, count = np.empty(len(places), np.int64), 0
    for i in range(len(places)):
        words[count] = i
        count += places[i] >= 0
    for i in range(1, count):
        before, place = places[words[i - 1]], places[words[i]]
        if place < before:
            if place + 1 != before or words[i - 1] + 1 != words[i]:
                return False
            places[words[i - 1]], places[words[i]] = place, before
            if i > 1 and places[words[i - 2]] > place:
                return False
    return True


@compiled(inline="always")
def _run(side: Side, at: _Int, end: _Int) -> _Int:
    """Number of equal words in order of hash from ``at`` on."""
    stop = at + 1
    while stop < end and side.hashes[side.order[stop]] == side.hashes[side.order[at]]:
        stop += 1
    return stop - at


@compiled()
def _own_words(side: Side, x: _Int, y: _Int, kinds: _Int, own: Ints) -> _Int:
    """Words of ``x`` without a digit that ``y`` has less often, written to ``own``; their number.

    Of equal words the last ones are taken.
    """
    count = 0
    at, other = side.offsets[x], side.offsets[y]
    end, other_end = side.offsets[x + 1], side.offsets[y + 1]
    while at < end:
        word = side.order[at]
        hashed = side.hashes[word]
        while other < other_end and side.hashes[side.order[other]] < hashed:
            other += 1
        if other < other_end and side.hashes[side.order[other]] == hashed:
            other += 1
        elif side.marks[word] == 0 and (kinds == 0 or side.kinds[word] & kinds):
            own[count] = word
            count += 1
            if count == len(own):
                break
        at += 1
    return count


@compiled()
def _sorts_of(side: Side, words: Ints, remain: _Mask, kinds: _Int) -> _Int:
    """Whether what remains of ``words`` has some of these kinds, and whether it has a negation."""
    found: _Int = 0
    for i in range(len(words)):
        kind = side.kinds[words[i]]
        found |= _SOME if remain[i] and (kinds == 0 or kind & kinds) else 0
        found |= _NEGATED if remain[i] and kind & NEGATION else 0
    return found


@compiled()
def _match_words(
    side: Side, words: Ints, others: Ints, remain: _Mask, others_remain: _Mask
) -> None:
    """Remove each word that is a misspelling of one of the ``others``, with this one."""
    one, other = np.empty(LETTERS, np.uint8), np.empty(LETTERS, np.uint8)
    for i in range(len(words)):
        letters = one[: _spell(side, words[i], one, 0)]
        kind = side.kinds[words[i]]
        for j in range(len(others)):
            kinds = side.kinds[others[j]]
            if remain[i] and others_remain[j] and not kind & kinds & NUMBER:
                size = _spell(side, others[j], other, 0)
                names = bool((kind | kinds) & NAME) and min(kind & _LARGE, kinds & _LARGE) > 0
                grammar = bool(kind & FUNCTION) != bool(kinds & FUNCTION)
                if (grammar or is_long(letters, other[:size])) and misspells(
                    letters, other[:size], names
                ):
                    remain[i] = others_remain[j] = False


@compiled()
def _match_joined(
    side: Side, words: Ints, others: Ints, remain: _Mask, others_remain: _Mask, edits: _Int
) -> None:
    """Remove each two adjacent words that are one of the ``others`` without the blank, up to edits.

    That one is removed too.
    """
    one, other = np.empty(LETTERS, np.uint8), np.empty(LETTERS, np.uint8)
    for i in range(len(words) - 1):
        if words[i + 1] == words[i] + 1 and remain[i] and remain[i + 1]:
            size = _spell(side, words[i + 1], one, _spell(side, words[i], one, 0))
            for j in range(len(others)):
                length = _spell(side, others[j], other, 0)
                near = (
                    max(size, length) < LETTERS and word_edits(one[:size], other[:length]) <= edits
                )
                if near and others_remain[j] and remain[i]:
                    remain[i] = remain[i + 1] = others_remain[j] = False


@compiled()
def _spell(side: Side, word: _Int, out: _Bytes, at: _Int) -> _Int:
    """Write the bytes of a word to ``out[at:]``, ASCII capitals as small letters; the new end."""
    for i in range(side.sizes[word]):
        if at < len(out):
            letter = np.int64(byte(side.places[word], i))
            out[at] = letter + 32 if 65 <= letter <= 90 else letter
            at += 1
    return at
