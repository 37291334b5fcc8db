"""Means over tokens, gathered over many mini-batches."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Meter"]


@dataclass
class Meter:
    """Sums and counts by name; a mean is taken once, over all that was added."""

    _sums: dict[str, Tensor] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, name: str, total: Tensor, count: int) -> None:
        """Add a sum over ``count`` items."""
        total = total.detach().double()
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._counts[name] += count

    def read(self) -> dict[str, float]:
        """The means, and begin again."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means
