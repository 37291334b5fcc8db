r"""Dialogues in one text, ``\n\nHuman: …\n\nAssistant: …``, parted for a block of lines at a time.

The marks are those of `core.readers.dialogue`; a text that does not begin with one has no turns.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled
from siftune.curate.native.jsonl.tokens import STRING
from siftune.curate.native.jsonl.turn_columns import Lists, Turns
from siftune.curate.native.pointers import byte

__all__ = ["dialogues"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same

_ROLES: Final = ("user", "assistant")
_WORDS: Final = np.frombuffer(b"Human:Assistant:", np.uint8)
_HUMAN: Final = 6  # bytes of the first
_LEAST: Final = 8  # bytes of a mark


def dialogues(data: Bytes, starts: Ints) -> Lists:
    """The turns of texts that lie one after the other, text ``i`` from ``starts[i]`` on."""
    most = int(starts[-1]) // _LEAST
    spans, spoken = np.empty((most, 1, 2), np.int32), np.empty(most, np.uint8)
    firsts = np.zeros(len(starts), np.int64)
    turns = _part(data, starts, spans, spoken, firsts)
    said = np.full((turns, 1), STRING, np.uint8)
    made = Turns(data, spans[:turns], said, spoken[:turns], _ROLES)
    return Lists(made, firsts[:-1], firsts[1:])


@compiled()
def _part(
    data: Bytes, starts: Ints, spans: npt.NDArray[np.int32], spoken: Bytes, firsts: Ints
) -> int:
    """Note the turns of each text; how many there are."""
    block, words, turns = data.ctypes.data, _WORDS.ctypes.data, 0
    for text in range(len(starts) - 1):
        at, end = starts[text], starts[text + 1]
        role, after = _mark(block, at, end, words)
        while role >= 0:
            spoken[turns], spans[turns, 0, 0] = role, after
            at = after
            role = -1
            while at < end:
                if byte(block, at) == 10:
                    role, after = _mark(block, at, end, words)
                    if role >= 0:
                        break
                at += 1
            spans[turns, 0, 1] = at
            turns += 1
        firsts[text + 1] = turns
    return turns


@compiled(inline="always")
def _mark(block: int, at: _Int, end: _Int, words: int) -> tuple[int, _Int]:
    """Whose mark stands at ``at``, -1 if none, and where the text behind it begins."""
    role = -1
    if end - at >= _LEAST and byte(block, at) == 10 and byte(block, at + 1) == 10:
        role = 0 if byte(block, at + 2) == byte(words, 0) else 1
    after = at + 2
    word, size = words + (_HUMAN if role == 1 else 0), 10 if role == 1 else _HUMAN
    if end - after < size:
        role = -1
    for i in range(size if role >= 0 else 0):
        if byte(block, after + i) != byte(word, i):
            role = -1
    after += size
    if role >= 0 and after < end and byte(block, after) != 10:
        role = role if byte(block, after) == 0x20 else -1
        after += 1
    return role, after
