"""Random projection of long vectors by signs, drawn in blocks from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

__all__ = ["Projection"]

_SIGNS: Final = 2**22
"""Signs of a block: 16 MiB of float32, which stay in the cache of a processor."""


@dataclass(frozen=True)
class Projection:
    """``x ↦ x S / √d`` with S of independent signs ±1, ``(size, dimension)``.

    It keeps products and lengths in the mean; a cosine is off by about ``1/√d`` (Johnson and
    Lindenstrauss; the Rademacher projection of TRAK, arXiv:2303.14186, that LESS uses). S is drawn
    by blocks of its rows, from the seed and the number of the block alone, and never exists as a
    whole. Where ``dimension`` is None or not below ``size`` vectors are kept as they are.
    """

    size: int
    dimension: int | None
    seed: int = 0

    @property
    def width(self) -> int:
        """Length of the result."""
        return self.size if self._is_identity else int(self.dimension or 0)

    @property
    def _is_identity(self) -> bool:
        return self.dimension is None or self.dimension >= self.size

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors ``(n, size)`` as ``(n, width)``."""
        if self._is_identity:
            return vectors
        found = vectors.new_zeros((len(vectors), self.width))
        for block, bits in self._blocks():
            part = vectors[:, block]
            # signs are 2b - 1 for bits b
            found += 2 * (part @ bits.to(part)) - part.sum(1, keepdim=True)
        return found / math.sqrt(self.width)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        height = max(1, _SIGNS // self.width)
        for number, start in enumerate(range(0, self.size, height)):
            rows = min(height, self.size - start)
            draw = np.random.Philox(key=[self.seed, number])
            words = draw.random_raw(-(-rows * self.width // 64)).astype("<u8")
            bits = np.unpackbits(words.view(np.uint8), count=rows * self.width)
            yield slice(start, start + rows), torch.from_numpy(bits.reshape(rows, self.width))
