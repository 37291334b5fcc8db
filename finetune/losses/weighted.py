"""Several losses of one family at once, each with a weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss
from siftune.finetune.losses.list_types import ListLogps, ListLoss
from siftune.finetune.losses.types import Needs, PairLogps, PairLoss, PairObjective, needs_of

__all__ = ["Weighted", "WeightedAnswers", "WeightedLists"]


class _Parts:
    """The needs of a sum of losses: those of its parts together."""

    parts: Sequence[tuple[Any, float]]

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

    @property
    def needs_label(self) -> bool:
        """Whether any part does."""
        return any(needs.label for needs in self._needs)

    @property
    def needs_value(self) -> bool:
        """Whether any part does."""
        return any(needs.value for needs in self._needs)

    @property
    def needs_mismatched(self) -> bool:
        """Whether any part does."""
        return any(needs.mismatched for needs in self._needs)

    @property
    def needs_reward_tokens(self) -> bool:
        """Whether any part does."""
        return any(needs.reward_tokens for needs in self._needs)

    @property
    def needs_teacher(self) -> bool:
        """Whether any part does."""
        return any(needs.teacher for needs in self._needs)

    @property
    def on_policy(self) -> bool:
        """Whether any part is."""
        return any(getattr(part, "on_policy", False) for part, _ in self.parts)

    @property
    def bins(self) -> int:
        """Of the part that needs reward tokens; 0 where none does."""
        return max((getattr(part, "bins", 0) for part, _ in self.parts), default=0)


@dataclass(frozen=True)
class Weighted(_Parts):
    """``Σ weight · loss``; the rewards it shows are those of the first loss.

    >>> from siftune.finetune.losses.pair.dpo import DPO
    >>> from siftune.finetune.losses.pair.sft import SFT
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


@dataclass(frozen=True)
class WeightedAnswers(_Parts):
    """``Σ weight · loss`` of losses on single completions; the rewards are those of the first.

    Means over the step's batch are named ``NUMBER/NAME``: two parts may use one name for different
    means.

    >>> from siftune.finetune.losses.unpaired.apo_zero_unpaired import APOZeroUnpaired
    >>> from siftune.finetune.losses.token.nll import NLL
    >>> both = WeightedAnswers(((APOZeroUnpaired(beta=1), 1.0), (NLL(), 0.5)))
    >>> one = AnswerLogps.of(policy=[-6], ref=[-5], length=[3], label=[True])
    >>> round(both(one).loss.item(), 4)  # σ(1) + 0.5 · 6/3
    1.7311
    """

    parts: Sequence[tuple[Any, float]]

    def shared(self, logps: AnswerLogps) -> Mapping[str, torch.Tensor]:
        """Those of all parts, by number and name."""
        return {
            f"{number}/{name}": values
            for number, (part, _) in enumerate(self.parts)
            if hasattr(part, "shared")
            for name, values in part.shared(logps).items()
        }

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Weighted loss of each completion."""
        found = list(self._each(logps))
        loss = sum(
            (weight * each.loss for each, weight in found[1:]), found[0][1] * found[0][0].loss
        )
        return AnswerLoss(loss, found[0][0].reward)

    def _each(self, logps: AnswerLogps) -> Iterator[tuple[AnswerLoss, float]]:
        for number, (part, weight) in enumerate(self.parts):
            start = f"{number}/"
            means = {
                name.removeprefix(start): value
                for name, value in logps.means.items()
                if name.startswith(start)
            }
            yield part(replace(logps, means=means)), weight


@dataclass(frozen=True)
class WeightedLists(_Parts):
    """``Σ weight · loss`` of losses on lists; the rewards are those of the first.

    >>> from siftune.finetune.losses.listwise.best_of_k import BestOfK
    >>> from siftune.finetune.losses.listwise.plackett_luce import PlackettLuce
    >>> both = WeightedLists(((PlackettLuce(), 1.0), (BestOfK(), 0.5)))
    >>> lists = ListLogps.of(policy=(-4, -4), ref=(-4, -4), length=(2, 2), score=(0, 1))
    >>> round(both(lists).loss.item(), 4)  # ln 2 + 0.5 · 4/2
    1.6931
    """

    parts: Sequence[tuple[Any, float]]

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Weighted loss of each list."""
        found = [(part(logps), weight) for part, weight in self.parts]
        loss = sum(
            (weight * each.loss for each, weight in found[1:]), found[0][1] * found[0][0].loss
        )
        return ListLoss(loss, found[0][0].reward)
