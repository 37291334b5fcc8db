"""Lists of turns as Arrow columns, made of the places where their texts stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from siftune.curate.core.schema import TURN
from siftune.curate.native.jsonl.spans import gather
from siftune.curate.native.jsonl.tokens import STRING

__all__ = ["Lists", "Turns", "conversations", "numbers", "repeated", "said", "strings"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

_FIRST: Final = np.array([[0, -1]])
_HEAD: Final = np.arange(8)  # bytes that are looked at before whole texts are
_ESCAPE: Final = ord("\\")
_NAMES: Final = [field.name for field in TURN.fields]


class Turns(NamedTuple):
    """Turns of any number of lists, one after the other, and what they were taken from.

    ``spans`` (turns, 1, 2) and ``said`` (turns, 1) are those of their texts, ``spoken`` says which
    of the ``roles`` each has.
    """

    data: Bytes
    spans: npt.NDArray[np.int32]
    said: Bytes
    spoken: Bytes
    roles: Sequence[str]

    def contents(self, which: Ints) -> Any:
        """The texts of some turns, as an Arrow array."""
        return strings(*gather(self.data, self.spans, self.said, which, _FIRST))

    def are(self, which: Ints, others: Ints) -> npt.NDArray[np.bool_]:
        """Where the turns ``which`` are the same as ``others``, one by one."""
        same: npt.NDArray[np.bool_] = self.voices(which) == self.voices(others)
        same &= ~self._begin_apart(which, others)
        at = np.flatnonzero(same)
        one, other = (pl.Series(self.contents(some[at])) for some in (which, others))
        same[at] = (one == other).to_numpy()
        return same

    def _begin_apart(self, which: Ints, others: Ints) -> npt.NDArray[np.bool_]:
        """Where the first bytes of two turns, none of them an escape, tell them apart."""
        clear = np.ones(len(which), np.bool_)
        heads = []
        for some in (which, others):
            low, high = self.spans[some, 0].T
            head = self.data[low[:, None] + _HEAD]
            clear &= (high - low >= len(_HEAD)) & (head != _ESCAPE).all(axis=1)
            heads.append(head)
        clear &= (heads[0] != heads[1]).any(axis=1)
        return clear

    def voices(self, which: Ints) -> npt.NDArray[np.str_]:
        """The roles of some turns."""
        return np.array(self.roles)[self.spoken[which]]


class Lists(NamedTuple):
    """A list of turns for each row: the numbers of its turns, from a start to an end."""

    turns: Turns
    starts: Ints
    ends: Ints

    def at(self, rows: Ints) -> Self:
        """The lists of some rows."""
        return self._replace(starts=self.starts[rows], ends=self.ends[rows])

    def answered(self) -> npt.NDArray[np.bool_]:
        """Which lists end with an assistant's turn."""
        there = self.ends > self.starts
        there[there] = self.turns.voices(self.ends[there] - 1) == "assistant"
        return there

    def asking(self) -> npt.NDArray[np.bool_]:
        """Which lists begin with a user's turn, or with a system's and a user's."""
        there = self.ends > self.starts
        first = self.starts[there]
        roles = self.turns.voices(first)
        second = self.turns.voices(np.minimum(first + 1, self.ends[there] - 1))
        there[there] = (roles == "user") | ((roles == "system") & (second == "user"))
        return there


def said(lists: Sequence[Lists]) -> Any:
    """The lists of one row after the other, those of a row made one, as an Arrow array."""
    starts = np.stack([each.starts for each in lists], axis=1)
    counts = np.stack([each.ends for each in lists], axis=1) - starts
    ends = np.concatenate([[0], np.cumsum(counts)])
    which = np.repeat(starts.ravel() - ends[:-1], counts.ravel()) + np.arange(ends[-1])
    turns = lists[0].turns
    roles = _picked(turns.roles, turns.spoken[which].astype(np.int64))
    return conversations(roles, turns.contents(which), ends[:: len(lists)])


def conversations(roles: Any, contents: Any, ends: Ints) -> Any:
    """Lists of turns, each a role with its content, a list from one end to the next."""
    nothing = pa.nulls(len(contents), pa.large_string())
    turns = pa.StructArray.from_arrays([roles, contents, nothing, nothing, nothing], _NAMES)
    return pa.LargeListArray.from_arrays(numbers(ends), turns)


def repeated(texts: Sequence[str], times: int) -> Any:
    """The texts over and over, as a column; `pa.repeat` would import pandas."""
    written = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, written)], dtype=np.int64)
    starts = np.add.outer(np.arange(times) * ends[-1], ends[:-1]).ravel()
    return strings(b"".join(written) * times, np.append(starts, times * ends[-1]))


def _picked(texts: Sequence[str], which: Ints) -> Any:
    """The texts by their numbers, as a column."""
    written = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, written)], dtype=np.int32)
    data = np.array([*b"".join(written)], np.uint8)
    spans = np.stack([ends[:-1], ends[1:]], axis=1)[:, None]
    found = np.full((len(texts), 1), STRING, np.uint8)
    return strings(*gather(data, spans, found, which, _FIRST))


def strings(data: Bytes | bytes, starts: Ints) -> Any:
    """Texts that lie one after the other, as an Arrow array."""
    offsets = pa.py_buffer(np.ascontiguousarray(starts, np.int64))
    return pa.LargeStringArray.from_buffers(len(starts) - 1, offsets, pa.py_buffer(data))


def numbers(values: Ints) -> Any:
    """Integers as an Arrow array."""
    column = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(column), [None, pa.py_buffer(column)])
