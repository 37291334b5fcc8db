"""Biases of a judge of pairs, from the columns that judged pairs have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.biases import length_bias, self_preference
from siftune.curate.judge_stats.drift import Round
from siftune.curate.judge_stats.intervals import Estimate, NotEstimableError, mean, share
from siftune.curate.judge_stats.logistic import length_controlled_win_rate

__all__ = ["PairBiases", "pair_biases"]

Prompts: TypeAlias = Sequence[Any] | npt.NDArray[Any] | None


@dataclass(frozen=True, repr=False)
class PairBiases:
    """Figures by name, and the reason for each that has no value.

    ``position_bias``: wins of the first position less those of the second. ``inconsistent``: share
    of pairs whose two orders disagree. ``length_bias``: log-odds for length. ``longer_wins``: share
    of the pairs with a winner, and unequal lengths, that the longer answer wins.
    ``win_rate``: mean score of the first answer; ``length_controlled``: the same had both answers
    one length (`length_controlled_win_rate`). ``self_preference``, ``self_excess`` and ``ability``
    are those of `SelfPreference`.
    """

    figures: Mapping[str, Estimate]
    not_estimable: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def as_round(self, lengths: npt.ArrayLike | None = None, agreement: Any = None) -> Round:
        """The figures that `measure_drift` compares, with the answers' lengths of the round.

        Lengths that are all the same have no interval, and are not compared.
        """
        length = None
        if lengths is not None:
            with suppress(NotEstimableError):
                length = mean(lengths)
        return Round(
            length,
            self.figures.get("position_bias"),
            self.figures.get("self_preference"),
            agreement,
        )

    def __repr__(self) -> str:
        width = max((len(name) for name in self.figures), default=0) + 2
        lines = [f"{name:<{width}}{one}  {one.rows:,} rows" for name, one in self.figures.items()]
        lines += [f"{name}: not estimable: {why}" for name, why in self.not_estimable.items()]
        return "\n".join(lines)


def pair_biases(
    wins: npt.ArrayLike,
    *,
    first_position: npt.ArrayLike | None = None,
    consistent: npt.ArrayLike | None = None,
    lengths: npt.ArrayLike | None = None,
    other_lengths: npt.ArrayLike | None = None,
    gold: npt.ArrayLike | None = None,
    gold_consistent: npt.ArrayLike | None = None,
    own: npt.ArrayLike | None = None,
    prompts: Prompts = None,
    rates: bool = False,
) -> PairBiases:
    """Measure what the columns allow; all are (pairs,), NaN where a pair has no value.

    ``wins`` is the score of the row's first answer over both orders: 1, 0, or 0.5 for a tie.
    ``first_position`` is the score of the answer shown first, summed over both orders, 0 … 2, and
    ``consistent`` whether the orders agree, as the task `pairwise` has them. Where another judge
    gave ``gold``, ``gold_consistent`` is the same of that: a tie of orders that disagree is no
    equal quality. ``lengths`` are of the first and second answer (any unit). ``gold`` is the true
    score of the first; ``own`` is 1 where the first answer is of the judge's own model, 0 where the
    second is, NaN where neither is.
    With ``rates`` the first answers are all of one kind (of one model, or chosen), and have win
    rates.
    """
    score = np.asarray(wins, float)
    measured: dict[str, Callable[[], Estimate]] = {}
    if rates:
        measured["win_rate"] = lambda: _share(score, prompts)
    if rates and lengths is not None and other_lengths is not None:
        measured["length_controlled"] = lambda: length_controlled_win_rate(
            score, lengths, other_lengths, prompts
        )[0]
    if first_position is not None:
        shift = np.asarray(first_position, float) - 1
        measured["position_bias"] = lambda: _share(shift, prompts, (-1.0, 1.0))
    if consistent is not None:
        measured["inconsistent"] = lambda: _share(1 - np.asarray(consistent, float), prompts)
    if lengths is not None and other_lengths is not None:
        gap = np.asarray(lengths, float) - np.asarray(other_lengths, float)
        measured["length_bias"] = lambda: length_bias(
            score, np.asarray(lengths, float), np.asarray(other_lengths, float), gold, prompts
        )
        decided = (score != 0.5) & (gap != 0) & np.isfinite(score)
        longer = np.where(decided, (score > 0.5) == (gap > 0), np.nan)
        measured["longer_wins"] = lambda: _share(longer, prompts)
    if own is not None and gold is not None:
        measured |= _self_preference(
            score, _where(np.asarray(gold, float), gold_consistent), np.asarray(own, float), prompts
        )
    figures, failed = {}, {}
    for name, compute in measured.items():
        try:
            figures[name] = compute()
        except NotEstimableError as error:
            failed[name] = str(error)
    return PairBiases(figures, failed)


def _where(gold: Any, consistent: npt.ArrayLike | None) -> Any:
    return gold if consistent is None else np.where(np.asarray(consistent) == 1, gold, np.nan)


def _share(values: Any, prompts: Prompts, bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    known = np.isfinite(values)
    if not known.any():
        raise NotEstimableError("no pair has a value")
    return share(values[known], None if prompts is None else np.asarray(prompts)[known], bounds)


def _self_preference(
    score: Any, gold: Any, own: Any, prompts: Prompts
) -> dict[str, Callable[[], Estimate]]:
    """Of the pairs with an answer of the judge's own model."""
    wins, truth = (np.where(own == 1, one, 1 - one) for one in (score, gold))
    wins = np.where(np.isfinite(own), wins, np.nan)

    def ability() -> Estimate:
        found = self_preference(wins, truth, prompts).ability
        if found is None:
            raise NotEstimableError("no pair of unequal quality")
        return found

    return {
        "self_preference": lambda: self_preference(wins, truth, prompts).bias,
        "self_excess": lambda: self_preference(wins, truth, prompts).excess,
        "ability": ability,
    }
