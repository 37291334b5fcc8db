"""Order of training rows under a budget of learned tokens (``max_tokens``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from siftune.finetune.data import preflight

__all__ = ["budget_order"]


def budget_order(tokens: Sequence[int], max_tokens: int, seed: int) -> list[int]:
    """Row indexes: random permutations until the next row would exceed ``max_tokens``.

    ``tokens`` are the learned tokens of each row: selections of any size train equally long.

    Raises:
        UsageError: the first row drawn has more than ``max_tokens`` tokens.

    >>> budget_order([2, 2, 2], max_tokens=9, seed=0)
    [2, 0, 1, 2]
    """
    generator = np.random.default_rng(seed)
    order: list[int] = []
    left = max_tokens
    while True:
        for row in generator.permutation(len(tokens)).tolist():
            left -= tokens[row]
            if left < 0:
                preflight.refuse(preflight.check_budget(max_tokens, order))
                return order
            order.append(row)
