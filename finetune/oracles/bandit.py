"""A finite bandit on which every objective can be minimised exactly.

`Bandit` holds the responses: their true rewards, the reference's log-probs, their lengths.
`land` minimises the population loss of an objective over all policies (a softmax over the
responses), `land_free` over log-ratios that need not belong to any policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from siftune.finetune.losses.types import Answers, PairLogps, PairObjective, needs_of

__all__ = [
    "COLUMNS",
    "TOKENS",
    "Bandit",
    "kl",
    "land",
    "land_free",
    "minimise",
    "pairs_at",
    "population",
]

COLUMNS: Final = ("score_chosen", "score_rejected", "margin", "win_probability")
"""The columns that a bandit can give to a loss."""

TOKENS: Final = ("policy", "reference", "ref_kl")
"""The token values that a bandit can give: a response is one token of one state."""


@dataclass(frozen=True)
class Bandit:
    """K responses to one prompt; pairs are drawn with the weights ``(K, K)`` and then labelled."""

    reward: torch.Tensor
    ref: torch.Tensor
    length: torch.Tensor
    weight: torch.Tensor = field(default_factory=lambda: torch.ones(()))

    @classmethod
    def draw(cls, size: int = 5, seed: int = 0, scale: float = 1.0, longest: int = 1) -> Bandit:
        """Random responses; all pairs are equally likely."""
        generator = torch.Generator().manual_seed(seed)
        reward = scale * torch.randn(size, dtype=torch.float64, generator=generator)
        logits = torch.randn(size, dtype=torch.float64, generator=generator)
        length = torch.randint(1, longest + 1, (size,), generator=generator).double()
        return cls(reward, logits.log_softmax(0), length, torch.ones(size, size).double())

    @property
    def wins(self) -> torch.Tensor:
        """``(K, K)``: the chance that a response is chosen over another, Bradley–Terry."""
        return torch.sigmoid(self.reward[:, None] - self.reward)

    def optimum(self, beta: float, reward: torch.Tensor | None = None) -> torch.Tensor:
        """Log-probs of ``π_ref · exp(reward / β)``."""
        return (self.ref + (self.reward if reward is None else reward) / beta).log_softmax(0)


def kl(policy: torch.Tensor, target: torch.Tensor) -> float:
    """KL between two policies given by their log-probs, in nats."""
    return float((policy.exp() * (policy - target)).sum())


def population(
    loss: PairObjective, bandit: Bandit, policy: torch.Tensor, wins: torch.Tensor | None = None
) -> torch.Tensor:
    """The expected loss of a policy's log-probs ``(K,)`` over pairs and labels.

    ``wins[i, j]`` is the chance that i is chosen when i and j are met.
    """
    wins = bandit.wins if wins is None else wins
    size = len(policy)
    first, second = torch.triu_indices(size, size, 1)
    chosen, rejected = torch.cat([first, second]), torch.cat([second, first])
    weight = bandit.weight[chosen, rejected] * wins[chosen, rejected]
    batch = pairs_at(loss, bandit, policy, chosen, rejected, wins)
    return (weight * loss(batch).loss).sum() / weight.sum()


def pairs_at(
    loss: PairObjective,
    bandit: Bandit,
    policy: torch.Tensor,
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    wins: torch.Tensor,
) -> PairLogps:
    """The pairs of the responses numbered ``chosen`` and ``rejected`` under a policy."""
    spread = (bandit.ref.exp() * (bandit.ref - policy)).sum()  # KL(π_ref ‖ π), one state for all
    known = {"policy": policy, "reference": bandit.ref, "ref_kl": spread.expand(len(policy))}
    columns = {
        "score_chosen": bandit.reward[chosen],
        "score_rejected": bandit.reward[rejected],
        "margin": bandit.reward[chosen] - bandit.reward[rejected],
        "win_probability": wins[chosen, rejected],
    }
    sides = [
        Answers(
            policy=policy[rows],
            lengths=bandit.length[rows],
            reference=bandit.ref[rows],
            tokens={name: value[rows, None] for name, value in known.items()},
        )
        for rows in (chosen, rejected)
    ]
    needed = {name: columns[name] for name in needs_of(loss).columns}
    return PairLogps(sides[0], sides[1], needed)


def land(loss: PairObjective, bandit: Bandit, wins: torch.Tensor | None = None) -> torch.Tensor:
    """Log-probs of the policy that minimises the population loss."""
    logits = bandit.ref.clone().requires_grad_()
    minimise(lambda: population(loss, bandit, logits.log_softmax(0), wins), [logits])
    return logits.detach().log_softmax(0)


def land_free(
    loss: PairObjective, bandit: Bandit, wins: torch.Tensor | None = None
) -> torch.Tensor:
    """Log-ratios ``(K,)`` that minimise the population loss without normalisation."""
    ratio = torch.zeros_like(bandit.ref, requires_grad=True)
    minimise(lambda: population(loss, bandit, bandit.ref + ratio, wins), [ratio])
    return ratio.detach()


def minimise(
    value: Callable[[], torch.Tensor], parameters: Sequence[torch.Tensor], rounds: int = 20
) -> None:
    """L-BFGS to the precision of float64; restarted, which drops a bad history."""
    for _ in range(rounds):
        optimiser = torch.optim.LBFGS(
            parameters,
            max_iter=200,
            history_size=30,
            tolerance_grad=1e-12,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def closure(optimiser: torch.optim.LBFGS = optimiser) -> float:
            optimiser.zero_grad()
            loss = value()
            loss.backward()
            return loss.item()

        optimiser.step(closure)
        if max(float(one.grad.abs().max()) for one in parameters if one.grad is not None) < 1e-10:
            return
