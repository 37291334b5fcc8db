"""Rollouts: answers that were sampled in one round, with all that an update needs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from siftune.finetune.core.masked import masked_mean, masked_sum
from siftune.finetune.rl import ppo_losses
from siftune.finetune.rl.curriculum import PromptOrder
from siftune.finetune.rl.kl import kl_k1, kl_k3
from siftune.finetune.rl.model import Scores, Tokens
from siftune.finetune.rl.settings import Settings

__all__ = ["DRAW", "FURTHER", "Prompt", "Rollout", "generator", "stream"]

DRAW: Final = 1
_SHUFFLE: Final = 2
FURTHER: Final = 3
"""Purposes of random numbers, part of their seeds; 0 is the order of prompts."""


@dataclass(frozen=True)
class Prompt:
    """A row's prompt, as text and as the policy's tokens."""

    row: Mapping[str, Any]
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Rollout:
    """B scored completions of at most T tokens, sampled in one round.

    ``scores`` (B,) are the reward's, without penalties; ``ended`` (B,) is true where a completion
    has its end token; completions of one prompt have one number in ``groups`` (B,). Of each row the
    tokens in ``learned`` (B, T) are learned from: all that the policy chose, or none. ``old``,
    ``entropy`` and ``ref_logps`` (B, T) were computed at the sampling temperature before any
    update, ``advantages`` and ``returns`` (B, T) from them; without a critic there are no returns.
    ``drawn`` has the means over all that was sampled, rows that were left out too. ``weights``
    (B, T) are the importance weights of tokens that something else than the policy has sampled,
    with their statistics in ``importance``; None where the policy has. The KL is weighed by them:
    they are truncated, so far from the sampler it is too small.
    ``parts`` are the scores of the B completions by each reward, by name, ``facts`` what rewards
    measured of each besides, as ``NAME/spread``.
    """

    index: int
    ids: list[str]
    completions: list[str]
    tokens: Tokens
    scores: Tensor
    ended: Tensor
    groups: Tensor
    learned: Tensor
    old: Scores
    entropy: Tensor
    ref_logps: Tensor
    advantages: Tensor
    returns: Tensor | None
    kl_coef: float
    drawn: Mapping[str, float | None]
    weights: Tensor | None = None
    importance: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    facts: Mapping[str, Sequence[float | None]] = field(default_factory=dict)

    @property
    def kl(self) -> float:
        """Mean KL a completion to the reference, in nats (k1)."""
        return self._a_completion(self.token_kl)

    @property
    def token_kl(self) -> Tensor:
        """Estimate (B, T) of each token's KL to the reference: k1, or from weights w, by E[w] = 1.

        ``w · k1 + 1 - w`` has the expectation KL(π ‖ π_ref) under what sampled the tokens as long
        as no weight is truncated, and is never negative where that was the reference. Plain k1
        would then estimate ``-KL(π_ref ‖ π)``.
        """
        kl = kl_k1(self.old.logps, self.ref_logps)
        return kl if self.weights is None else self.weights * kl + 1 - self.weights

    def broken(self) -> list[str]:
        """Ids of the rows with a log-probability or value that is not finite."""
        parts = [self.old.logps, self.ref_logps]
        parts += [] if self.old.values is None else [self.old.values]
        wrong = torch.stack([~part.isfinite() & self.tokens.mask for part in parts])
        rows = wrong.any(0).any(1)
        return [key for key, bad in zip(self.ids, rows.tolist(), strict=True) if bad]

    def metrics(self) -> dict[str, float | None]:
        """Means over the round, of its completions or its chosen tokens; padding counts in none."""
        mask, score = self.tokens.mask, self.drawn["objective/score"]
        kl_of_k3 = kl_k3(self.old.logps, self.ref_logps)
        if self.weights is not None:
            kl_of_k3 = self.weights * kl_of_k3
        assert score is not None  # a rollout without a score is none
        values: dict[str, float | None] = {
            **self.drawn,
            "objective/kl": self.kl,
            "objective/kl_k3": self._a_completion(kl_of_k3),
            "objective/kl_coef": self.kl_coef,
            "objective/rlhf_reward": score - self.kl_coef * self.kl,
            "objective/entropy": float(masked_mean(self.entropy, mask)),
            **{f"rollout/importance_{name}": value for name, value in self.importance.items()},
        }
        if self.old.values is not None and self.returns is not None:
            values["value/explained_variance"] = ppo_losses.explained_variance(
                self.old.values, self.returns, self.learned
            )
        return values

    def _a_completion(self, kl: Tensor) -> float:
        return float(masked_sum(kl.double(), self.tokens.mask) / len(self.scores))

    def minibatches(self, epoch: int, settings: Settings) -> list[Tensor]:
        """Row indices of each optimiser step of one pass; the first pass keeps the rows' order.

        So the first update has the very batches that the old log-probabilities were computed in,
        and its ratio is 1 to the last bit. Rows of which nothing is learned are in none. Of each
        step, answers to one prompt stand together, so that they can share its computation.
        """
        order = trained_rows(self.learned, settings.minibatches).numpy()
        if epoch > 0:
            order = generator(settings.seed, _SHUFFLE, self.index, epoch).permutation(order)
        parts = torch.from_numpy(order).tensor_split(settings.minibatches)
        return [part.sort().values for part in parts] if settings.group_size > 1 else list(parts)


def trained_rows(learned: Tensor, least: int) -> Tensor:
    """Indices of the rows with a token that is learned from; all rows where these are too few."""
    rows = learned.any(1).nonzero().flatten()
    return rows if len(rows) >= least else torch.arange(len(learned))


def generator(*seed: int) -> np.random.Generator:
    """Random numbers of one purpose: the same seed gives the same ones."""
    return np.random.default_rng([len(seed), *seed])


def stream(count: int, start: int, take: int, seed: int) -> list[int]:
    """``take`` indices below ``count`` from position ``start`` of an endless shuffled order.

    The order is one permutation after another: nothing comes twice before all came once.
    """
    return PromptOrder(tuple(range(count)), seed)(start, take)
