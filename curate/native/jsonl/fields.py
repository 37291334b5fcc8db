"""The known fields of a block of scanned lines, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.native.jsonl.blocks import Block
from siftune.curate.native.jsonl.dialogues import dialogues
from siftune.curate.native.jsonl.line import PLAIN
from siftune.curate.native.jsonl.scan import Scanned
from siftune.curate.native.jsonl.spans import gather
from siftune.curate.native.jsonl.tokens import DIGITS, LIST, REAL, STRING
from siftune.curate.native.jsonl.turn_columns import Lists, Turns, conversations, repeated, strings
from siftune.curate.records.layout import Said

__all__ = ["Fields"]

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Ints: TypeAlias = npt.NDArray[np.int64]


_PERSON: Final = np.frombuffer(b"Human:", np.uint8)
_MARK: Final = np.arange(len(_PERSON))


class Fields:
    """What the lines of a block have in each field; ``roles`` are those of its turns."""

    def __init__(
        self, block: Block, scanned: Scanned, names: Sequence[str], roles: Sequence[str]
    ) -> None:
        self._block, self._scanned, self._names = block, scanned, list(names)
        self._turns = Turns(block.data, scanned.turns, scanned.said, scanned.spoken, roles)

    def found(self, name: str) -> _Bytes:
        """What each line has under ``name``."""
        return self._scanned.found[:, self._names.index(name)]

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """The number of each line, NaN where it has none."""
        found = self.found(name)
        there = np.flatnonzero((found == DIGITS) | (found == REAL))
        values = np.full(len(found), np.nan)
        text = strings(*self._gather(there, [(self._names.index(name), -1)]))
        values[there] = pl.Series(text, dtype=pl.String).cast(pl.Float64).to_numpy()
        return values

    def truths(self, name: str, rows: _Ints) -> npt.NDArray[np.bool_]:
        """The truth value of the lines ``rows``: ``true`` or 1, else ``false`` or 0."""
        begins = self._scanned.spans[rows, self._names.index(name), 0]
        return np.isin(self._block.data[begins], (ord("t"), ord("1")))

    def lists(self, name: str, rows: _Ints) -> Lists:
        """The turns of the lines ``rows``; none where the field is missing or null."""
        spans = self._scanned.spans[rows, self._names.index(name)].astype(np.int64)
        spans[self.found(name)[rows] < STRING] = 0
        return Lists(self._turns, spans[:, 0], spans[:, 1])

    def unclear(self, name: str) -> npt.NDArray[np.bool_]:
        """Which lines have a text there that begins like the JSON of turns or like a dialogue.

        That is with ``[``, with ``Human:`` or a line feed before that, or with an escape that may
        be one of these. The field is one that may hold turns.
        """
        at = np.flatnonzero((self.found(name) >= STRING) & (self._scanned.status >= PLAIN))
        first = self._scanned.spans[at, self._names.index(name), 0]
        begins = self._turns.spans[first, 0, 0]
        data, result = self._block.data, np.zeros(len(self._scanned.status), np.bool_)
        escaped = (data[begins] == ord("\\")) & np.isin(data[begins + 1], (ord("u"), ord("n")))
        person = data[np.minimum(begins[:, None] + _MARK, len(data) - 1)] == _PERSON
        doubt = (data[begins] == ord("[")) | escaped | person.all(axis=1)
        result[at] = (self.found(name)[at] != LIST) & doubt
        return result

    def dialogues(self, name: str, other: str, rows: _Ints) -> tuple[Lists, Lists]:
        """The turns of two texts of the lines ``rows``; none where a text begins without a mark."""
        texts = [(self._names.index(each), -1) for each in (name, other)]
        turns, starts, ends = dialogues(*self._gather(rows, texts))
        return Lists(turns, starts[::2], ends[::2]), Lists(turns, starts[1::2], ends[1::2])

    def said(self, turns: Sequence[Said], rows: _Ints) -> Any:
        """The same turns of each of the lines ``rows``."""
        at = self._names.index
        texts = [(at(said.key), at(said.beside) if said.beside else -1) for said in turns]
        contents = strings(*self._gather(rows, texts))
        roles = repeated([said.role for said in turns], len(rows))
        return conversations(roles, contents, np.arange(len(rows) + 1) * len(turns))

    def _gather(self, rows: _Ints, texts: list[tuple[int, int]]) -> tuple[_Bytes, _Ints]:
        scanned = self._scanned
        return gather(self._block.data, scanned.spans, scanned.found, rows, np.array(texts))
