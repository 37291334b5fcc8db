"""Several losses on pairs at once, each with a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.losses.types import Needs, PairLogps, PairLoss, PairObjective, needs_of

__all__ = ["Weighted"]


@dataclass(frozen=True)
class Weighted:
    """``Σ weight · loss``; the rewards it shows are those of the first loss.

    What the parts need, the sum needs.

    >>> from finetune.losses.pair.dpo import DPO
    >>> from finetune.losses.pair.sft import SFT
    >>> pair = PairLogps.of(policy=(-6, -9), ref=(-5, -7), length=(3, 3))
    >>> both = Weighted(((DPO(beta=1), 1.0), (SFT(), 0.5)))
    >>> round(both(pair).loss.item(), 4)  # -log σ(1) + 0.5 · 6/3
    1.3133
    """

    parts: Sequence[tuple[PairObjective, float]]

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Weighted loss of each pair."""
        found = [(part(logps), weight) for part, weight in self.parts]
        loss = sum(weight * each.loss for each, weight in found[1:])
        first, weight = found[0]
        return PairLoss(weight * first.loss + loss, first.chosen_reward, first.rejected_reward)

    @property
    def _needs(self) -> list[Needs]:
        return [needs_of(part) for part, _ in self.parts]

    @property
    def needs_reference(self) -> bool:
        """Whether any part does."""
        return any(needs.reference for needs in self._needs)

    @property
    def needs_tokens(self) -> tuple[str, ...]:
        """Those of all parts."""
        return tuple(dict.fromkeys(name for needs in self._needs for name in needs.tokens))

    @property
    def needs_columns(self) -> tuple[str, ...]:
        """Those of all parts."""
        return tuple(dict.fromkeys(name for needs in self._needs for name in needs.columns))

    @property
    def couples_batch(self) -> bool:
        """Whether any part does."""
        return any(needs.couples_batch for needs in self._needs)
