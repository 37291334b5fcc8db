"""Ratings of several attributes by least squares, and their total by weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from siftune.finetune.losses.reward_types import Compared

__all__ = ["Attributes"]


@dataclass(frozen=True)
class Attributes:
    """``(r_a - v_a)²`` of each attribute a of an answer that has a rating v_a.

    HelpSteer2, Wang et al. 2024, arXiv:2406.08673, section 3.1: a linear output for each attribute
    on one backbone. The model that is written gives their total by ``weights``, which is linear
    and so one output of a plain reward model. Each known rating counts 1 in the mean. The K scores
    of a prompt are here the outputs for one answer.

    Options:
        weights: The attributes that are learned, each with its weight in the total, such as
            helpfulness=0.65.

    >>> rated = Compared.of([3.0, 1.0], value=[4, float("nan")])
    >>> Attributes({"helpfulness": 0.7, "verbosity": -0.3})(rated).item()
    1.0
    """

    weights: Mapping[str, float]

    by_prompt: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[str] = "attributes"

    def __post_init__(self) -> None:
        if len(self.weights) < 2 or not all(map(math.isfinite, self.weights.values())):
            raise ValueError("weights: expected two or more attributes, each with a finite weight")

    def __call__(self, compared: Compared) -> torch.Tensor:
        """Sum over the rated attributes of each answer."""
        value = compared.columns["value"]
        errors = torch.where(value.isnan(), 0.0, compared.scores - value.nan_to_num())
        return errors.square().sum(1)

    def count(self, compared: Compared) -> torch.Tensor:
        """Its ratings."""
        return (~compared.columns["value"].isnan()).to(compared.scores).sum(1)
