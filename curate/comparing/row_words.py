"""Words of rows and what they are: numbers, negations and names, for the guard of near-duplicates.

Words are `comparing.shingles`'s. A number has a digit; of two with one of ``+ * = < > ^ × ÷``
between them, the sign belongs to the second. Number words (from two to billion, and from second to
tenth), negations (``not``, ``never``, the ``t`` of ``n't``) and short function words (``the``,
``and``, ``of``) are English. A name is a word with a
capital letter that begins no sentence somewhere in the text, and is not ``I``.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.text_pieces import Pieces
from siftune.curate.native.arrays import first_at_least, order_of
from siftune.curate.native.char_classes import char_table, classify
from siftune.curate.native.jit import compiled
from siftune.curate.native.utf8 import decode

__all__ = [
    "CAPITAL",
    "FUNCTION",
    "NAME",
    "NEGATION",
    "NUMBER",
    "ONE",
    "Side",
    "side_words",
    "text_keys",
]

Ints: TypeAlias = npt.NDArray[np.int64]
Hashes: TypeAlias = npt.NDArray[np.uint64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

NAME, CAPITAL = 1, 2  # kinds of words: with a capital letter within a sentence, or at its start
NUMBER, NEGATION, ONE = 4, 8, 16  # number words, negations, and the word ``one``
FUNCTION = 32  # short words of grammar

_CLASS, _LETTER = np.uint32(24), np.uint32(0xFFFFFF)  # of the result of `classify`
_START, _TIMES = np.uint64(0x51_7C_C1_B7_27_22_0A_95), np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_HALF = np.uint64(32)
_SMALL = (
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_TENS = ("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred")
_PLACES = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_NUMBERS = (*_SMALL, *_TENS, *_PLACES, "thousand", "million", "billion")
_NEGATIONS = ("not", "no", "never", "cannot", "without", "nor", "neither", "none", "nothing", "t")
_FUNCTIONS = (
    *("the", "and", "for", "are", "was", "has", "had", "you", "who", "how", "why", "its", "his"),
    *("her", "our", "she", "him", "but", "can", "may", "any", "all", "did", "get"),
    *("use", "a", "an", "of", "to", "in", "on", "is", "it", "as", "at", "by", "be", "or", "if"),
)


class Side(NamedTuple):
    """Words of one side of rows: row ``i`` has the words ``offsets[i]:offsets[i + 1]``.

    ``marks`` is 0 for a word without a digit; ``places`` and ``sizes`` are the address and bytes of
    a word; ``order`` are the words of each row sorted by hash.
    """

    hashes: Hashes
    marks: Hashes
    kinds: npt.NDArray[np.uint8]
    places: Ints
    sizes: npt.NDArray[np.int32]
    offsets: Ints
    order: Ints


class _Vocabulary(NamedTuple):
    """Hashes of number, negation and function words, sorted, with their kinds; and that of ``I``.

    ``one`` has a kind of its own, as it is a pronoun, too.
    """

    hashes: Hashes
    kinds: npt.NDArray[np.uint8]
    pronoun: np.uint64


def side_words(pieces: Pieces, rows: Ints) -> Side:
    """The words of the texts ``rows``, which are numbered from 0 in the result."""
    found: Any = _side_words(pieces, rows, char_table(), _vocabulary())
    return Side(*(part.copy() for part in found))  # of more memory than they take


def text_keys(pieces: Pieces) -> tuple[Hashes, Hashes]:
    """Of each text, a hash of its numbers in order, and one of all its words.

    Both are 0 for a text without any.
    """
    keys: tuple[Hashes, Hashes] = _text_keys(pieces, char_table())
    return keys


@cache
def _vocabulary() -> _Vocabulary:
    kinds = dict.fromkeys(map(_hash, _NUMBERS), NUMBER)
    kinds |= dict.fromkeys(map(_hash, _NEGATIONS), NEGATION) | {_hash("one"): ONE}
    kinds |= dict.fromkeys(map(_hash, _FUNCTIONS), FUNCTION)
    hashes = sorted(kinds)
    found = np.array([kinds[each] for each in hashes], np.uint8)
    return _Vocabulary(np.array(hashes, np.uint64), found, np.uint64(_hash("i")))


def _hash(word: str) -> int:
    """The hash of a word, as `_next` has it."""
    hashed = int(_START)
    for letter in word:
        hashed = (hashed ^ ord(letter)) * int(_TIMES) % 2**64
    return hashed


@compiled(inline="always")
def _is_digit(code: _Int) -> bool:
    """ASCII, Arabic, Devanagari or fullwidth."""
    if code < 0x660:
        return bool(48 <= code < 58)
    digit = False
    for low in (0x660, 0x6F0, 0x966, 0xFF10):
        digit |= bool(low <= code < low + 10)
    return digit


@compiled()
def _gap(base: int, at: _Int, stop: _Int, table: npt.NDArray[np.uint32]) -> tuple[_Int, bool, _Int]:
    """Skip what is no word: the new place, whether a sentence ended, and a lone sign (0, -1)."""
    ended, sign = False, np.int64(0)
    while at < stop:
        code, length = decode(base, at)
        kind = classify(table, code) >> _CLASS
        if kind == 1 or kind == 2:
            break
        at += length
        if kind == 0 and code != 32:
            ended |= code in (10, 33, 46, 58, 59, 63)  # newline and ! . : ; ?
            sign = np.int64(code) if sign == 0 else np.int64(-1)
    return at, ended, sign


@compiled()
def _next(
    base: int, at: _Int, stop: _Int, table: npt.NDArray[np.uint32]
) -> tuple[_Int, np.uint64, bool, bool]:
    """The word that starts at ``at``: its end, hash, has a digit, starts with a capital."""
    size, hashed, digit, capital = 0, _START, False, False
    while at < stop:
        code, length = decode(base, at)
        entry = classify(table, code)
        kind = entry >> _CLASS
        if kind == 0 or (kind == 2 and size):
            break
        at += length
        if kind != 3:
            letter = np.int64(entry & _LETTER)
            capital |= size == 0 and letter != code
            digit |= _is_digit(code)
            hashed = (hashed ^ np.uint64(letter)) * _TIMES
            size += 1
            if kind == 2:
                break
    return at, hashed, digit, capital


@compiled(inline="always")
def _mark(hashed: np.uint64, digit: bool, after: _Int) -> np.uint64:
    """The mark of a word: of a number, with the sign ``after`` the number before it."""
    mark = hashed if digit else np.uint64(0)
    if digit and after in (42, 43, 60, 61, 62, 94, 215, 247):
        mark = (mark ^ np.uint64(after)) * _TIMES
    return mark


@compiled()
def _kind(hashed: np.uint64, capital: bool, fresh: bool, vocabulary: _Vocabulary) -> _Int:
    kind = 0
    if capital and hashed != vocabulary.pronoun:
        kind = CAPITAL if fresh else NAME
    at = first_at_least(vocabulary.hashes, hashed)
    if at < len(vocabulary.hashes) and vocabulary.hashes[at] == hashed:
        kind |= vocabulary.kinds[at]
    return kind


@compiled()
def _text_keys(pieces: Pieces, table: npt.NDArray[np.uint32]) -> tuple[Hashes, Hashes]:
    """See `text_keys`: what `_gap` and `_next` find, in one loop over the characters."""
    addresses, sizes, starts = pieces
    marks, words = np.zeros(len(starts) - 1, np.uint64), np.zeros(len(starts) - 1, np.uint64)
    for row in range(len(marks)):
        number: bool = False
        for piece in range(starts[row], starts[row + 1]):
            at, letters, sign = np.int64(0), 0, np.int64(0)
            hashed, digit = _START, False
            while at < sizes[piece]:
                code, length = decode(addresses[piece], at)
                at += length
                entry = classify(table, code)
                kind = entry >> _CLASS
                if letters and (kind == 0 or kind == 2):
                    _mix_word(marks, words, row, hashed, digit, sign if number else np.int64(0))
                    letters, number, sign = 0, digit, np.int64(0)
                    hashed, digit = _START, False
                if kind == 1 or kind == 2:
                    digit |= _is_digit(code)
                    hashed = (hashed ^ np.uint64(entry & _LETTER)) * _TIMES
                    letters += 1
                elif kind == 0 and code != 32:
                    sign = np.int64(code) if sign == 0 else np.int64(-1)
                if kind == 2:
                    _mix_word(marks, words, row, hashed, digit, sign if number else np.int64(0))
                    letters, number, sign = 0, digit, np.int64(0)
                    hashed, digit = _START, False
            if letters:
                _mix_word(marks, words, row, hashed, digit, sign if number else np.int64(0))
                number = digit
    return marks, words


@compiled(inline="always")
def _mix_word(
    marks: Hashes, words: Hashes, row: _Int, hashed: np.uint64, digit: bool, after: _Int
) -> None:
    """Mix a word into the keys of a row."""
    mark = _mark(hashed, digit, after)
    if mark:
        mixed = (marks[row] ^ mark) * _TIMES
        marks[row] = mixed ^ (mixed >> _HALF)
    mixed = (words[row] ^ hashed) * _TIMES
    words[row] = mixed ^ (mixed >> _HALF)


@compiled()
def _spread_names(hashes: Hashes, kinds: npt.NDArray[np.uint8], order: Ints) -> None:
    """Make each word a name that is one elsewhere in the text; ``order`` sorts by hash."""
    for step in (1, -1):
        ordered = order[::step]
        for at in range(1, len(ordered)):
            if hashes[ordered[at]] == hashes[ordered[at - 1]]:
                kinds[ordered[at]] |= kinds[ordered[at - 1]] & NAME


@compiled()
def _side_words(
    pieces: Pieces, rows: Ints, table: npt.NDArray[np.uint32], vocabulary: _Vocabulary
) -> tuple[Hashes, Hashes, npt.NDArray[np.uint8], Ints, npt.NDArray[np.int32], Ints, Ints]:
    addresses, lengths, starts = pieces
    total = 0
    for row in rows:
        for piece in range(starts[row], starts[row + 1]):
            total += (lengths[piece] + 1) // 2 + 1
    hashes, marks = np.empty(total, np.uint64), np.empty(total, np.uint64)
    kinds, places = np.zeros(total, np.uint8), np.empty(total, np.int64)
    sizes, offsets = np.empty(total, np.int32), np.zeros(len(rows) + 1, np.int64)
    order, spare = np.empty(total, np.int64), np.empty(total, np.int64)
    end = 0
    for i in range(len(rows)):
        number: bool = False
        for piece in range(starts[rows[i]], starts[rows[i] + 1]):
            base = addresses[piece]
            at, _, sign = _gap(base, 0, lengths[piece], table)
            fresh = True
            while at < lengths[piece]:
                places[end] = base + at
                at, hashes[end], digit, capital = _next(base, at, lengths[piece], table)
                sizes[end] = base + at - places[end]
                marks[end] = _mark(hashes[end], digit, sign if number else 0)
                kinds[end] = _kind(hashes[end], capital, fresh, vocabulary)
                number = digit
                end += 1
                at, fresh, sign = _gap(base, at, lengths[piece], table)
        offsets[i + 1] = end
        first = offsets[i]
        order_of(hashes[first:end], order[first:end], spare[first:end])
        for at in range(first, end):
            order[at] += first
        _spread_names(hashes, kinds, order[first:end])
    return hashes[:end], marks[:end], kinds[:end], places[:end], sizes[:end], offsets, order[:end]
