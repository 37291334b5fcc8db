"""What losses of reward models are given: the scores of K answers to a prompt, and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch

from siftune.finetune.losses.types import tensor_of

__all__ = ["Compared", "RewardObjective", "centring"]

_Matrix = Sequence[Sequence[float]] | torch.Tensor


@dataclass(frozen=True)
class Compared:
    """A batch of B prompts with up to K answers each.

    ``scores`` ``(B, K)`` are the model's; ``wins[b, i, j]`` ``(B, K, K)`` is the weight of the
    comparison in which answer i was preferred to answer j: 1 for a preference, a number of them or
    a share where several were asked, 0 where the two were not compared. ``margins`` ``(B, K, K)``
    is by how much i has to win. ``mask`` ``(B, K)`` is True where there is an answer. ``columns``
    ``(B, K)`` are numbers of each answer by their names, NaN where one is not known.
    """

    scores: torch.Tensor
    wins: torch.Tensor
    margins: torch.Tensor
    mask: torch.Tensor
    columns: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        scores: Sequence[float] | torch.Tensor,
        wins: _Matrix | None = None,
        margins: _Matrix | None = None,
        **columns: Sequence[float],
    ) -> Compared:
        """The answers of one prompt; without ``wins`` they are in order, the best one first.

        >>> Compared.of([2.0, 1.0, 0.5]).comparisons
        tensor([3.], dtype=torch.float64)
        """
        made = tensor_of(scores, None)[None]
        square = (1, made.shape[1], made.shape[1])
        won = torch.ones(square).triu(1) if wins is None else tensor_of(wins, made)[None]
        by = torch.zeros(square) if margins is None else tensor_of(margins, made)[None]
        mask = torch.ones_like(made, dtype=torch.bool)
        numbers = {name: tensor_of(one, made)[None] for name, one in columns.items()}
        return cls(made, won.to(made), by.to(made), mask, numbers)

    @property
    def gaps(self) -> torch.Tensor:
        """``(B, K, K)``: how much more than answer j the answer i scores, less the margin."""
        return self.scores[:, :, None] - self.scores[:, None, :] - self.margins

    @property
    def comparisons(self) -> torch.Tensor:
        """Weight of all comparisons of each prompt, ``(B,)``."""
        return self.wins.sum((1, 2))

    @property
    def any_comparison(self) -> torch.Tensor:
        """1 for each prompt with a comparison, ``(B,)``."""
        return (self.comparisons > 0).to(self.wins)

    def over_comparisons(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of ``values`` ``(B, K, K)`` by the weight of their comparison, ``(B,)``."""
        return torch.where(self.wins > 0, self.wins * values, 0.0).sum((1, 2))


class RewardObjective(Protocol):
    """A loss of reward models: a frozen dataclass whose fields are its options.

    The loss of a step is the sum over its prompts divided by the sum of their counts, over all
    micro-batches and processes. ``by_prompt``: all pairs of one prompt are one element.
    ``takes``: what of the rows it can use, ``margins``, ``win_rates`` and ``weights``. ``needs``:
    columns of the answers that it reads.
    """

    by_prompt: ClassVar[bool]
    takes: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]]

    def __call__(self, compared: Compared) -> torch.Tensor:
        """Loss of each prompt, ``(B,)``."""

    def count(self, compared: Compared) -> torch.Tensor:
        """What the loss of each prompt counts for in the mean, ``(B,)``; reads no score."""


def centring(compared: Compared) -> torch.Tensor:
    """``(r_i + r_j)²`` averaged over the comparisons of each prompt, ``(B,)``.

    Eisenstein et al. 2023, arXiv:2312.09244, who weigh it by 0.01: a loss on differences leaves
    the level of the scores open, and this keeps it at zero.

    >>> centring(Compared.of([2.0, -0.5]))
    tensor([2.2500], dtype=torch.float64)
    """
    sums = compared.scores[:, :, None] + compared.scores[:, None, :]
    return compared.over_comparisons(sums**2) / compared.comparisons.clamp(min=1e-12)
