"""The cover rule: which rows stay when near-duplicates go, and which of those covers a dropped one.

Rows are looked at from best to worst (a rank order: score, then content, never input order). A row
is dropped if and only if a row kept before it is at or above the threshold; it names the most
similar of these, the better one if two are equally similar. So each dropped row has a survivor at
or above the threshold and better than itself, no two survivors are at or above it, and the answer
depends on the rows alone. (One row of each connected component, the usual rule, drops rows that no
survivor resembles.)

The rule on sets is in `set_cover` and `group_cover`, on vectors in `vectors.cosine_neighbors`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Cover"]


class Cover(NamedTuple):
    """``survivor[i]``: the row that covers row ``i``, -1 for a kept row; and how similar it is."""

    survivor: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]
