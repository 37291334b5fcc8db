"""Forward passes by content: each row runs through a model once, whichever scorers ask for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from siftune.curate.core.progress import report_progress
from siftune.curate.files.atomic import digest_of
from siftune.curate.text.language_model import CausalLM, ForwardPass, TokenRow
from siftune.curate.vectors.vector_cache import VectorCache

__all__ = ["ForwardCache"]

_SAVE_EVERY: Final = 64  # rows: the most that run again after a kill
_LAYOUT: Final = 1  # raise when a change here or in the forward pass changes what is stored


@dataclass(frozen=True)
class ForwardCache:
    """Runs rows through ``lm``, equal ones once; passes are stored in the folder ``cache``.

    The key of a pass is the token ids, which hold the content as the template writes it, and the
    mask of scored tokens; the file is named by the model's content, its number format and the kind
    of device. So what a scorer gets does not depend on which others ran: in bf16 to the bit, in
    fp32 to the rounding of `CausalLM.forward`. Without ``hidden`` no hidden states are stored, a
    tenth of the bytes: for the many passes of one row in different contexts. With ``report`` it
    reports its progress.
    """

    lm: CausalLM
    cache: str | None = None
    hidden: bool = True
    report: bool = True

    def __call__(self, rows: Sequence[TokenRow | None]) -> list[ForwardPass | None]:
        """The forward pass of each row, None where there is no row."""
        keys = [None if row is None else row.key for row in rows]
        distinct = {key: row for key, row in zip(keys, rows, strict=True) if key and row}
        cache = self._stored if distinct else None
        stored = cache.get(list(distinct)) if cache else {}
        known = {key: _parted(distinct[key], values) for key, values in stored.items()}
        new = [key for key in distinct if key not in known]
        for part in _parts(new, distinct):
            passes = self.lm.forward([distinct[key] for key in part])
            known.update(zip(part, passes, strict=True))
            if cache:
                cache.put(
                    (key, np.concatenate([one.hidden[: self._kept], one.logps]))
                    for key, one in zip(part, passes, strict=True)
                )
            if self.report:
                report_progress(len(known), len(distinct), "rows")
        return [None if key is None else known[key] for key in keys]

    @property
    def _kept(self) -> int | None:
        return None if self.hidden else 0

    @property
    def _stored(self) -> VectorCache | None:
        if self.cache is None:
            return None
        lm = self.lm
        name = digest_of([lm.identity, lm.number_format, lm.device, self.hidden, _LAYOUT])
        return VectorCache(Path(self.cache) / f"forward-{name}.sqlite", None)


def _parted(row: TokenRow, values: np.ndarray) -> ForwardPass:
    """The pass of ``row`` from what is stored: the hidden state, then the scored tokens."""
    at = len(values) - sum(row.scored)
    return ForwardPass(values[at:], values[:at])


def _parts(keys: Sequence[bytes], rows: dict[bytes, TokenRow]) -> Iterator[list[bytes]]:
    """Keys of similar length, the longest first, in parts to be stored."""
    order = sorted(keys, key=lambda key: (-len(rows[key].ids), key))
    for start in range(0, len(order), _SAVE_EVERY):
        yield order[start : start + _SAVE_EVERY]
