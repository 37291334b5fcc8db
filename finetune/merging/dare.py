"""DARE: changes from a base model, dropped at random and rescaled, then added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from siftune.curate.core.ranges import NonNegative, PositiveShare, check_ranges
from siftune.finetune.merging.types import Group, disjoint_mean, dropped

__all__ = ["DARE"]


@dataclass(frozen=True)
class DARE:
    """``θ = θ_base + λ Σ_m w_m δ_m m_m / density`` with masks m of Bernoulli(``density``) entries.

    Yu et al. 2023, "Language Models are Super Mario", arXiv:2311.03099, section 3: each entry of a
    model's change δ = θ_m - θ_base is dropped with the probability ``1 - density``, and the rest
    divided by ``density``, so that the expected change is δ. The masks of the models are drawn
    apart, from the seed, the tensor's name and the model's number: the same in any order of files.
    ``elect_signs`` averages what is left as TIES does. The paper drops up to nine tenths; half is
    the default, since small models have less to spare. With ``density`` 1 it is task arithmetic,
    arXiv:2212.04089.

    >>> group = Group(torch.tensor([[4.0, 2.0], [1.0, -1.0]]), torch.tensor([0.5, 0.5]),
    ...               torch.tensor([1.0, 1.0]))
    >>> DARE(density=1)(group).tolist()  # changes 3, 1 and 0, -2: 1 + 3 / 2, 1 - 1 / 2
    [2.5, 0.5]

    Options:
        density: Share of the entries of each model's change that are kept, drawn at random.
        scale: Factor of the merged change, λ.
        elect_signs: Average the entries of the elected sign, as in TIES, in place of the sum.
    """

    density: PositiveShare = 0.5
    scale: NonNegative = 1.0
    elect_signs: bool = False

    needs_base: ClassVar = True
    most: ClassVar = None

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_ranges(self)

    def __call__(self, group: Group) -> Tensor:
        """The base with the changes that were not dropped."""
        left = torch.stack(
            [
                dropped(change, self.density, (*group.key, number))
                for number, change in enumerate(group.changes)
            ]
        )
        if self.elect_signs:
            return group.plus(disjoint_mean(left, group.weights), self.scale)
        return group.plus(group.weighted(left).sum(0), self.scale)
