"""The ``extra`` column of plain lines: JSON text of the fields that have no column."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from siftune.curate.core.errors import BadRow
from siftune.curate.files.json_text import dump
from siftune.curate.native.jsonl.line import FRAGMENT, ODD
from siftune.curate.native.jsonl.scan import Scanned
from siftune.curate.native.jsonl.spans import gather
from siftune.curate.native.jsonl.tokens import STRING
from siftune.curate.records.json_lines import parse

__all__ = ["Extra"]

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Ints: TypeAlias = npt.NDArray[np.int64]

_FIRST: Final = np.array([[0, -1]])


class Extra:
    """The ``extra`` of each line; a line whose fragment is not valid JSON becomes odd."""

    def __init__(self, scanned: Scanned) -> None:
        starts = scanned.extra_starts
        self._data = scanned.extra
        self._spans = np.stack([starts[:-1], starts[1:]], axis=1)
        fragments = np.flatnonzero(scanned.status == FRAGMENT)
        if len(fragments):
            self._rewrite(fragments, scanned.status)

    def _rewrite(self, fragments: _Ints, status: _Bytes) -> None:
        texts = []
        for at, (low, high) in zip(fragments, self._spans[fragments], strict=True):
            try:
                texts.append(dump(parse(self._data[low:high].tobytes())).encode())
            except BadRow:
                status[at] = ODD
                texts.append(b"")
        ends = int(self._spans[-1, 1]) + np.cumsum([0, *map(len, texts)])
        written = np.frombuffer(b"".join(texts), np.uint8)
        self._data = np.concatenate([self._data[: ends[0]], written])
        self._spans[fragments] = np.stack([ends[:-1], ends[1:]], axis=1)

    def of(self, rows: _Ints) -> tuple[Any, _Ints]:
        """The texts of the lines ``rows``, null where empty, and their sizes in bytes."""
        data, starts = _gathered(self._data, self._spans[rows])
        sizes = np.diff(starts)
        valid = pa.py_buffer(np.packbits(sizes > 0, bitorder="little"))
        buffers = [valid, pa.py_buffer(starts), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_string(), len(sizes), buffers), sizes

    def add(self, key: str, second: npt.NDArray[np.bool_]) -> None:
        """Add a field to each line: 2 for the lines ``second``, 1 for the others."""
        texts = [b"{"] + [f',"{key}":{value}}}'.encode() for value in (1, 2)]
        begin, size = int(self._spans.max(initial=0)), len(texts[1])
        self._data = np.concatenate([self._data[:begin], np.frombuffer(b"".join(texts), np.uint8)])
        empty = self._spans[:, 0] == self._spans[:, 1]
        low = begin + 1 + size * second
        pieces = np.stack([self._spans, np.stack([low + empty, low + size], axis=1)], axis=1)
        pieces[:, 0, 1] -= 1  # the closing brace
        pieces[empty, 0] = begin, begin + 1
        self._data, starts = _gathered(self._data, pieces.reshape(-1, 2))
        self._spans = np.stack([starts[:-2:2], starts[2::2]], axis=1)


def _gathered(data: _Bytes, spans: _Ints) -> tuple[_Bytes, _Ints]:
    kinds = np.full((len(spans), 1), STRING, np.uint8)
    return gather(data, spans[:, None].astype(np.int32), kinds, np.arange(len(spans)), _FIRST)
