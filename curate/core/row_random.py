"""Random numbers that belong to a row, not to its place in the table."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import polars as pl

__all__ = ["draws"]


def draws(table: pl.DataFrame, seed: int) -> pl.Series:
    """A uniform number in [0, 1) for each row: a keyed hash of its ``digest`` and ``id``.

    The row keeps its number whatever the order of the rows and whichever others are there. Rows of
    equal content differ in ``id`` and so in their numbers.
    """
    key = seed.to_bytes(16, "little", signed=True)
    keyed = blake2b(digest_size=8, key=key)
    frame = table.select(text=pl.concat_str("digest", "id", separator="\0", ignore_nulls=True))
    hashes = b"".join([_digest(keyed, text) for text in frame["text"]])
    whole = np.frombuffer(hashes, dtype="<u8") >> np.uint64(11)  # 53 bits: exact as a float64
    return pl.Series("draw", whole.astype(np.float64) * 2.0**-53)


def _digest(keyed: blake2b, text: str) -> bytes:
    hashed = keyed.copy()
    hashed.update(text.encode())
    return hashed.digest()
