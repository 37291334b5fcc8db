"""The known fields of a block of scanned lines, by name, as numpy and Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.native.jit import compiled
from siftune.curate.native.jsonl.blocks import Block
from siftune.curate.native.jsonl.line import PLAIN
from siftune.curate.native.jsonl.scan import Scanned
from siftune.curate.native.jsonl.spans import gather
from siftune.curate.native.jsonl.tokens import DIGITS, LIST, REAL, STRING
from siftune.curate.native.jsonl.turn_columns import Lists, Turns, conversations, repeated, strings
from siftune.curate.native.pointers import byte
from siftune.curate.records.layout import TurnField

__all__ = ["Fields"]

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same

_HUMAN: Final = np.frombuffer(b"Human:", np.uint8)
_HUMAN_AT: Final = np.arange(len(_HUMAN))

_DIALOGUE_ROLES: Final = ("user", "assistant")
_MARKS: Final = np.frombuffer(b"Human:Assistant:", np.uint8)
_FIRST_MARK: Final = 6  # bytes of the first one
_MIN_MARK: Final = 8  # bytes of a mark with its line feeds


class Fields:
    """The fields of the lines of a block; ``roles`` are the role names of its turns."""

    def __init__(
        self, block: Block, scanned: Scanned, names: Sequence[str], roles: Sequence[str]
    ) -> None:
        self._block, self._scanned, self._names = block, scanned, list(names)
        self._turns = Turns(
            block.data, scanned.turns, scanned.turn_kinds, scanned.turn_roles, roles
        )

    def kinds(self, name: str) -> _Bytes:
        """Kind of the value of each line in field ``name`` (`tokens`); 0 where it is missing."""
        return self._scanned.kinds[:, self._names.index(name)]

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """The number in each line, NaN where there is none."""
        kinds = self.kinds(name)
        lines = np.flatnonzero((kinds == DIGITS) | (kinds == REAL))
        values = np.full(len(kinds), np.nan)
        text = strings(*self._gather(lines, [(self._names.index(name), -1)]))
        values[lines] = pl.Series(text, dtype=pl.String).cast(pl.Float64).to_numpy()
        return values

    def booleans(self, name: str, rows: _Ints) -> npt.NDArray[np.bool_]:
        """The boolean in the lines ``rows``: ``true`` or 1, else ``false`` or 0."""
        begins = self._scanned.spans[rows, self._names.index(name), 0]
        return np.isin(self._block.data[begins], (ord("t"), ord("1")))

    def lists(self, name: str, rows: _Ints) -> Lists:
        """The turns in the lines ``rows``; none where the field is missing or null."""
        spans = self._scanned.spans[rows, self._names.index(name)].astype(np.int64)
        spans[self.kinds(name)[rows] < STRING] = 0
        return Lists(self._turns, spans[:, 0], spans[:, 1])

    def unclear(self, name: str) -> npt.NDArray[np.bool_]:
        """Mask of the lines with a text that may be a JSON list of turns or a dialogue.

        Such a text starts with ``[``, with ``Human:``, a line feed, or an escape of one of these.
        """
        at = np.flatnonzero((self.kinds(name) >= STRING) & (self._scanned.status >= PLAIN))
        first = self._scanned.spans[at, self._names.index(name), 0]
        begins = self._turns.spans[first, 0, 0]
        data, result = self._block.data, np.zeros(len(self._scanned.status), np.bool_)
        escaped = (data[begins] == ord("\\")) & np.isin(data[begins + 1], (ord("u"), ord("n")))
        human = data[np.minimum(begins[:, None] + _HUMAN_AT, len(data) - 1)] == _HUMAN
        unclear = (data[begins] == ord("[")) | escaped | human.all(axis=1)
        result[at] = (self.kinds(name)[at] != LIST) & unclear
        return result

    def dialogues(self, name: str, other: str, rows: _Ints) -> tuple[Lists, Lists]:
        """The turns of two dialogues per line of ``rows``; none where a text has no first mark."""
        texts = [(self._names.index(each), -1) for each in (name, other)]
        turns, starts, ends = split_dialogues(*self._gather(rows, texts))
        return Lists(turns, starts[::2], ends[::2]), Lists(turns, starts[1::2], ends[1::2])

    def single_turns(self, turns: Sequence[TurnField], rows: _Ints) -> Any:
        """Conversations of the lines ``rows``, whose turns are single fields."""
        index = self._names.index
        texts = [(index(turn.key), index(turn.beside) if turn.beside else -1) for turn in turns]
        contents = strings(*self._gather(rows, texts))
        roles = repeated([turn.role for turn in turns], len(rows))
        return conversations(roles, contents, np.arange(len(rows) + 1) * len(turns))

    def _gather(self, rows: _Ints, texts: list[tuple[int, int]]) -> tuple[_Bytes, _Ints]:
        scanned = self._scanned
        return gather(self._block.data, scanned.spans, scanned.kinds, rows, np.array(texts))


def split_dialogues(data: _Bytes, starts: _Ints) -> Lists:
    r"""The turns of dialogues ``\n\nHuman: …\n\nAssistant: …``; text ``i`` begins at ``starts[i]``.

    The marks are those of `records.dialogue`; a text that does not begin with one has no turns.
    """
    most = int(starts[-1]) // _MIN_MARK
    spans, role_ids = np.empty((most, 1, 2), np.int32), np.empty(most, np.uint8)
    firsts = np.zeros(len(starts), np.int64)
    count = _split(data, starts, spans, role_ids, firsts)
    kinds = np.full((count, 1), STRING, np.uint8)
    turns = Turns(data, spans[:count], kinds, role_ids[:count], _DIALOGUE_ROLES)
    return Lists(turns, firsts[:-1], firsts[1:])


@compiled()
def _split(
    data: _Bytes, starts: _Ints, spans: npt.NDArray[np.int32], role_ids: _Bytes, firsts: _Ints
) -> int:
    """Record the turns of each text; their number."""
    block, marks, turns = data.ctypes.data, _MARKS.ctypes.data, 0
    for text in range(len(starts) - 1):
        at, end = starts[text], starts[text + 1]
        role, after = _mark(block, at, end, marks)
        while role >= 0:
            role_ids[turns], spans[turns, 0, 0] = role, after
            at = after
            role = -1
            while at < end:
                if byte(block, at) == 10:
                    role, after = _mark(block, at, end, marks)
                    if role >= 0:
                        break
                at += 1
            spans[turns, 0, 1] = at
            turns += 1
        firsts[text + 1] = turns
    return turns


@compiled(inline="always")
def _mark(block: int, at: _Int, end: _Int, marks: int) -> tuple[int, _Int]:
    """Role of the mark at ``at``, -1 if there is none, and the index of the text after it."""
    role = -1
    if end - at >= _MIN_MARK and byte(block, at) == 10 and byte(block, at + 1) == 10:
        role = 0 if byte(block, at + 2) == byte(marks, 0) else 1
    after = at + 2
    mark, size = marks + (_FIRST_MARK if role == 1 else 0), 10 if role == 1 else _FIRST_MARK
    if end - after < size:
        role = -1
    for i in range(size if role >= 0 else 0):
        if byte(block, after + i) != byte(mark, i):
            role = -1
    after += size
    if role >= 0 and after < end and byte(block, after) != 10:
        role = role if byte(block, after) == 0x20 else -1
        after += 1
    return role, after
