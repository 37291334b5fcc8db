"""Arrow columns of lists of turns, built from the spans of their texts."""

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

__all__ = ["Lists", "Turns", "conversations", "joined_lists", "numbers", "repeated", "strings"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

_FIRST: Final = np.array([[0, -1]])
_HEAD: Final = np.arange(8)  # bytes that are compared before whole texts
_ESCAPE: Final = ord("\\")
_NAMES: Final = [field.name for field in TURN.fields]


class Turns(NamedTuple):
    """The turns of several lists and the ``data`` that holds their texts.

    ``spans`` (turns, 1, 2) and ``kinds`` (turns, 1) of the texts; ``role_ids`` (turns,) index
    ``roles``.
    """

    data: Bytes
    spans: npt.NDArray[np.int32]
    kinds: Bytes
    role_ids: Bytes
    roles: Sequence[str]

    def contents(self, which: Ints) -> Any:
        """The texts of some turns, as an Arrow array."""
        return strings(*gather(self.data, self.spans, self.kinds, which, _FIRST))

    def equal(self, which: Ints, others: Ints) -> npt.NDArray[np.bool_]:
        """Mask of the turns ``which`` that equal the turns ``others``, item by item."""
        same: npt.NDArray[np.bool_] = self.roles_of(which) == self.roles_of(others)
        same &= ~self._differ_at_start(which, others)
        at = np.flatnonzero(same)
        one, other = (pl.Series(self.contents(some[at])) for some in (which, others))
        same[at] = (one == other).to_numpy()
        return same

    def _differ_at_start(self, which: Ints, others: Ints) -> npt.NDArray[np.bool_]:
        """Mask of the turns that differ in their first bytes, where these have no escape."""
        unescaped = np.ones(len(which), np.bool_)
        heads = []
        for some in (which, others):
            low, high = self.spans[some, 0].T
            head = self.data[low[:, None] + _HEAD]
            unescaped &= (high - low >= len(_HEAD)) & (head != _ESCAPE).all(axis=1)
            heads.append(head)
        unescaped &= (heads[0] != heads[1]).any(axis=1)
        return unescaped

    def roles_of(self, which: Ints) -> npt.NDArray[np.str_]:
        """The roles of some turns."""
        return np.array(self.roles)[self.role_ids[which]]


class Lists(NamedTuple):
    """One list of turns per row: a range of turn numbers."""

    turns: Turns
    starts: Ints
    ends: Ints

    def at(self, rows: Ints) -> Self:
        """The lists of some rows."""
        return self._replace(starts=self.starts[rows], ends=self.ends[rows])

    def answered(self) -> npt.NDArray[np.bool_]:
        """Mask of the lists that end with a turn of the assistant."""
        mask = self.ends > self.starts
        mask[mask] = self.turns.roles_of(self.ends[mask] - 1) == "assistant"
        return mask

    def asking(self) -> npt.NDArray[np.bool_]:
        """Mask of the lists that start with a turn of the user, or of the system and the user."""
        mask = self.ends > self.starts
        first = self.starts[mask]
        roles = self.turns.roles_of(first)
        second = self.turns.roles_of(np.minimum(first + 1, self.ends[mask] - 1))
        mask[mask] = (roles == "user") | ((roles == "system") & (second == "user"))
        return mask


def joined_lists(lists: Sequence[Lists]) -> Any:
    """The lists of each row concatenated, as an Arrow array of conversations."""
    starts = np.stack([each.starts for each in lists], axis=1)
    counts = np.stack([each.ends for each in lists], axis=1) - starts
    ends = np.concatenate([[0], np.cumsum(counts)])
    which = np.repeat(starts.ravel() - ends[:-1], counts.ravel()) + np.arange(ends[-1])
    turns = lists[0].turns
    roles = _take(turns.roles, turns.role_ids[which].astype(np.int64))
    return conversations(roles, turns.contents(which), ends[:: len(lists)])


def conversations(roles: Any, contents: Any, ends: Ints) -> Any:
    """Arrow lists of turns with these roles and contents; ``ends`` are the offsets of the lists."""
    nothing = pa.nulls(len(contents), pa.large_string())
    turns = pa.StructArray.from_arrays([roles, contents, nothing, nothing, nothing], _NAMES)
    return pa.LargeListArray.from_arrays(numbers(ends), turns)


def repeated(texts: Sequence[str], times: int) -> Any:
    """The texts repeated in order, as an Arrow column; `pa.repeat` would import pandas."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    starts = np.add.outer(np.arange(times) * ends[-1], ends[:-1]).ravel()
    return strings(b"".join(encoded) * times, np.append(starts, times * ends[-1]))


def _take(texts: Sequence[str], which: Ints) -> Any:
    """The texts at the indices ``which``, as an Arrow column."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    data = np.array([*b"".join(encoded)], np.uint8)
    spans = np.stack([ends[:-1], ends[1:]], axis=1)[:, None]
    kinds = np.full((len(texts), 1), STRING, np.uint8)
    return strings(*gather(data, spans, kinds, which, _FIRST))


def strings(data: Bytes | bytes, starts: Ints) -> Any:
    """Arrow array of texts, given as concatenated bytes and offsets."""
    offsets = pa.py_buffer(np.ascontiguousarray(starts, np.int64))
    return pa.LargeStringArray.from_buffers(len(starts) - 1, offsets, pa.py_buffer(data))


def numbers(values: Ints) -> Any:
    """Integers as an Arrow array."""
    column = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(column), [None, pa.py_buffer(column)])
