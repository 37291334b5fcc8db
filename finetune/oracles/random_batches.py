"""Random batches of pairs for checks, with the inputs alone that a loss declares."""

from __future__ import annotations

from typing import Final

import torch

from siftune.finetune.losses.types import Answers, Needs, PairLogps, PairObjective, needs_of
from siftune.finetune.scoring.lm_head import STATISTICS

__all__ = [
    "COLUMNS",
    "LENGTHS",
    "PAIRS",
    "TOKENS",
    "WIDTH",
    "exchanged",
    "log_probs",
    "pairs_of",
    "part",
]

PAIRS, WIDTH = 5, 4
LENGTHS: Final = torch.tensor([[1, 2, 3, 4, 4], [4, 3, 2, 2, 1]])
"""``(2, PAIRS)``: tokens of each chosen and of each rejected completion."""

COLUMNS: Final = {"score_chosen": 0.9, "score_rejected": 0.2, "margin": 0.7, "win_probability": 0.8}
"""The columns that rows of pairs may have; values run from half of this to this."""

TOKENS: Final = ("policy", "reference", "formatting", *STATISTICS)
"""The token values that a trainer can give."""


def log_probs(pairs: int = PAIRS, seed: int = 0, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    """Token log-probs ``(2, pairs, WIDTH)``, all below zero: the policy's, the reference's."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 2, pairs, WIDTH)
    drawn = -scale * torch.rand(shape, dtype=torch.float64, generator=generator) - 0.05
    return drawn[0], drawn[1]


def pairs_of(
    loss: PairObjective,
    policy: torch.Tensor,
    reference: torch.Tensor,
    lengths: torch.Tensor = LENGTHS,
) -> PairLogps:
    """A batch from ``(2, B, T)`` token log-probs, with the inputs alone that the loss declares."""
    needs = needs_of(loss)
    sides = [_side(needs, policy[at], reference[at], lengths[at], seed=at) for at in (0, 1)]
    size = policy.shape[1]
    columns = {
        name: torch.linspace(COLUMNS[name] / 2, COLUMNS[name], size, dtype=torch.float64)
        for name in needs.columns
    }
    return PairLogps(sides[0], sides[1], columns)


def _side(
    needs: Needs, policy: torch.Tensor, reference: torch.Tensor, length: torch.Tensor, seed: int
) -> Answers:
    there = torch.arange(policy.shape[1]) < length[:, None]
    policy, reference = policy * there, reference * there
    return Answers(
        policy=policy.sum(1),
        lengths=length.to(policy.dtype),
        reference=reference.sum(1) if needs.reference else None,
        tokens=_tokens(needs, policy, reference, there, seed) if needs.tokens else {},
    )


def _tokens(
    needs: Needs, policy: torch.Tensor, reference: torch.Tensor, there: torch.Tensor, seed: int
) -> dict[str, torch.Tensor]:
    """The token values that a loss needs; one of a name is the same for every loss."""
    found = {}
    for at, name in enumerate(TOKENS):
        generator = torch.Generator().manual_seed(100 * seed + at)
        sign = -1.0 if name == "log_sum_squares" else 1.0
        drawn = torch.rand(policy.shape, dtype=torch.float64, generator=generator)
        found[name] = (sign * drawn * there).to(policy.dtype)
    kept = {name: found[name] for name in needs.tokens}
    return {**kept, "policy": policy, "reference": reference}


def part(batch: PairLogps, rows: slice | torch.Tensor) -> PairLogps:
    """The pairs ``rows`` of a batch."""

    def side(whole: Answers) -> Answers:
        return Answers(
            policy=whole.policy[rows],
            lengths=whole.length[rows],
            reference=None if whole.reference is None else whole.reference[rows],
            tokens={name: value[rows] for name, value in whole.tokens.items()},
        )

    columns = {name: value[rows] for name, value in batch.columns.items()}
    return PairLogps(side(batch.chosen), side(batch.rejected), columns)


def exchanged(batch: PairLogps) -> PairLogps:
    """The batch with the completions exchanged: what was chosen is rejected, scores stay."""
    return PairLogps(batch.rejected, batch.chosen, batch.columns)
