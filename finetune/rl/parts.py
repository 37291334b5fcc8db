"""The parts of a run made from its settings: advantage, policy loss, divisor of the loss, KL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Final

from torch import Tensor

from siftune.curate.core import registry
from siftune.finetune.advantages.types import Advantage
from siftune.finetune.policy_losses.types import PolicyLoss
from siftune.finetune.rl.kl import kl_k1, kl_k2, kl_k3
from siftune.finetune.rl.settings import ADVANTAGES, POLICY_LOSSES, Reduction, Settings

__all__ = ["KL", "Divisor", "advantage_of", "parts_record", "policy_loss_of"]

KL: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "k1": kl_k1,
    "k2": kl_k2,
    "k3": kl_k3,
}
"""Estimates of the KL of a token, from the log-probabilities of policy and reference."""


def advantage_of(settings: Settings) -> Advantage:
    """The chosen advantage with its options."""
    options = settings.part_options(ADVANTAGES)
    made: Advantage = registry.build(ADVANTAGES, settings.advantage, options)
    return made


def policy_loss_of(settings: Settings) -> PolicyLoss:
    """The chosen policy loss with its options."""
    options = settings.part_options(POLICY_LOSSES)
    made: PolicyLoss = registry.build(POLICY_LOSSES, settings.policy_loss, options)
    return made


def parts_record(settings: Settings) -> dict[str, Any]:
    """What a run is made of, with every number that was used, for ``siftune.json``."""
    advantage, loss = advantage_of(settings), policy_loss_of(settings)
    kl = {"in": "loss" if settings.kl_is_loss else "reward", "estimator": settings.estimator}
    return {
        "advantage": {"name": settings.advantage, **_options(advantage)},
        "policy_loss": {"name": settings.policy_loss, **_options(loss)},
        "kl": kl if settings.kl_coef else None,
    }


def _options(part: Any) -> dict[str, Any]:
    return asdict(part) if is_dataclass(part) and not isinstance(part, type) else {}


@dataclass(frozen=True)
class Divisor:
    """What the summed token losses of one optimiser step are divided by.

    It is taken over the whole mini-batch, all micro-batches and processes, so that splitting it
    changes no number. ``lengths`` (B,) of the whole rollout divide each answer's tokens first; None
    divides none.

    ===============  ==================================================================
    reduction        loss
    ===============  ==================================================================
    `token_mean`     sum of all tokens / number of tokens (DAPO, arXiv:2503.14476, eq. 8)
    `answer_mean`    mean over answers of the mean over their tokens (GRPO)
    `fixed_length`   sum of all tokens / (answers · max_new_tokens) (Dr. GRPO)
    ===============  ==================================================================

    >>> import torch
    >>> mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    >>> rows = torch.arange(3)
    >>> [Divisor.of(one, mask, rows, 10).total for one in ("token_mean", "fixed_length")]
    [4, 20]
    >>> Divisor.of("answer_mean", mask, rows, 10)
    Divisor(total=2, lengths=tensor([3, 1, 1]))
    """

    total: int
    lengths: Tensor | None = None

    @classmethod
    def of(
        cls, reduction: Reduction, learned: Tensor, rows: Tensor, max_new_tokens: int
    ) -> Divisor:
        """That of a mini-batch, ``rows`` of a rollout of which ``learned`` (B, T) are learned from.

        Answers without such a token count in none.
        """
        lengths = learned.sum(1)
        answers = max(int((lengths[rows] > 0).sum()), 1)
        if reduction == "token_mean":
            return cls(max(int(lengths[rows].sum()), 1))
        if reduction == "fixed_length":
            return cls(answers * max_new_tokens)
        return cls(answers, lengths.clamp(min=1))

    def of_answers(self, losses: Tensor, rows: Tensor) -> Tensor:
        """Token losses (b, T) of ``rows`` of the rollout, divided by their answers' lengths."""
        if self.lengths is None:
            return losses
        return losses / self.lengths[rows].to(losses).unsqueeze(1)
