"""Labels of judges and of people as numbers, and the figures that fit their kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats import agreement, calibration, win_rates
from siftune.curate.judge_stats.intervals import Estimate, Floats, NotEstimableError

__all__ = ["CORRECTED", "NEXT", "Kind", "Labels"]

Kind: TypeAlias = Literal["nominal", "ordinal", "interval", "probability"]
"""Kinds of labels: names, ranks, numbers, or (of the judge) the probability of a gold 1."""

NEXT: Final = 100
"""Gold labels that are advised."""
CORRECTED: Final = "win_rate_rogan_gladen"
"""The figure by which they are."""

_RANKS: Final = 10  # whole numbers that are taken as ranks
_ONE_SCALE: Final = ("kappa", "kappa_quadratic", "alpha", "accuracy")
_Figure: TypeAlias = Callable[[Floats, Floats, Any], Estimate]


@dataclass(frozen=True)
class Labels:
    """Labels as numbers, NaN where there is none."""

    judges: Mapping[str, Floats]
    gold: Floats
    level: Kind
    tie: float | None
    win: float | None
    chosen: bool = False  # the level is the user's, not found from the labels
    named: bool = False  # the labels are texts, whose numbers are codes and have no scale

    @classmethod
    def of(
        cls,
        judges: Mapping[str, Sequence[Any]],
        gold: Sequence[Any],
        level: Any,
        tie: Any,
        win: Any,
    ) -> Labels:
        """Labels of any kind as numbers; ``level`` None is found from them.

        Raises:
            NotEstimableError: texts and numbers are mixed, or no label is the one of a win.
        """
        columns, chosen = [gold, *judges.values()], level is not None
        if named := _refuse_mixed(dict(zip(("gold", *judges), columns, strict=True)), level):
            numbers, names = agreement.numbered(*[_texts(column) for column in columns])
            code = {name: float(at) for at, name in enumerate(names)}
            level, tie_code, win_code = "nominal", code.get(str(tie)), code.get(str(win))
        else:
            numbers = [np.array([_number(label) for label in column]) for column in columns]
            level = level or _kind(numbers)
            tie_code, win_code = _number(tie), _number(win)
            if level == "probability" or set(_known(np.concatenate(numbers))) <= {0.0, 0.5, 1.0}:
                tie_code = 0.5 if np.isnan(tie_code) else tie_code
                win_code = 1.0 if win is None else win_code
        if win is not None and (win_code is None or win_code not in np.concatenate(numbers)):
            raise NotEstimableError(f"no label is {win!r}, the one of a win")
        found = dict(zip(judges, numbers[1:], strict=True))
        if len(found) > 1:
            found[f"panel of {len(found)}"] = _panel(np.stack([*found.values()]), level, tie_code)
        return cls(found, numbers[0], level, tie_code, win_code, chosen, named)

    @property
    def met(self) -> npt.NDArray[np.bool_]:
        """Rows with gold that a judge has labelled."""
        there = [np.isfinite(values) for values in self.judges.values()]
        return np.asarray(np.isfinite(self.gold) & np.any(there, axis=0))

    def figures(self, prompts: Any) -> Iterator[tuple[str, str, Callable[[], Estimate]]]:
        """Name of a figure, name of a judge, and what computes it."""
        for figure, compute in self._comparisons():
            for name, values in self.judges.items():
                why = self._scales(values) if figure in _ONE_SCALE and not self.chosen else ""
                found = partial(compute, values, self.gold, prompts)
                yield figure, name, partial(_refuse, why) if why else found
        alone = [values for name, values in self.judges.items() if not name.startswith("panel of")]
        if len(alone) > 1:
            level = "interval" if self.level == "probability" else self.level
            yield (
                "alpha_among_judges",
                "all",
                lambda: agreement.krippendorff_alpha(np.stack(alone), prompts, level=level),
            )
        if self.win is not None and np.isfinite(self.win):
            yield from self._win_rates(prompts)

    def _comparisons(self) -> list[tuple[str, _Figure]]:
        def alpha(level: agreement.Level) -> _Figure:
            return lambda judge, gold, prompts: agreement.krippendorff_alpha(
                np.stack([judge, gold]), prompts, level=level
            )

        def quadratic(judge: Floats, gold: Floats, prompts: Any) -> Estimate:
            return agreement.cohen_kappa(judge, gold, prompts, weights="quadratic")

        kappa, accuracy = agreement.cohen_kappa, self._without_ties(agreement.accuracy)
        ranks: list[tuple[str, _Figure]] = [
            ("spearman", agreement.spearman),
            ("kendall", agreement.kendall_tau),
        ]
        if self.level == "nominal":
            return [("kappa", kappa), ("alpha", alpha("nominal")), ("accuracy", accuracy)]
        if self.level == "ordinal":
            exact: list[tuple[str, _Figure]] = [("kappa", kappa), ("accuracy", accuracy)]
            first = [("kappa_quadratic", quadratic), *exact, ("alpha", alpha("ordinal"))]
            return [*first, *ranks]
        if self.level == "interval":
            return [("kappa_quadratic", quadratic), ("alpha", alpha("interval")), *ranks]
        return [
            ("kappa", _of_halves(kappa)),
            ("accuracy", self._without_ties(_of_halves(agreement.accuracy))),
            ("rms_calibration_error", calibration.rms_calibration_error),
            ("rms_calibration_error_calibrated", _calibrated(calibration.rms_calibration_error)),
            ("brier", calibration.brier),
            ("brier_calibrated", _calibrated(calibration.brier)),
        ]

    def _scales(self, values: Floats) -> str:
        """Why a judge's numbers are on another scale than gold's 0 and 1; empty if they are not."""
        gold, own = set(_known(self.gold)), _known(values) or [0.0]
        shares = own[0] >= 0 and own[-1] <= 1
        if self.named or shares or not {0.0, 1.0} <= gold <= {0.0, 0.5, 1.0}:
            return ""
        return (
            f"its labels are {own[0]:g} to {own[-1]:g} and gold's 0 and 1, which is no common "
            "scale; its ranks are compared, and --calibrate makes probabilities of its scores"
        )

    def _without_ties(self, compute: _Figure) -> _Figure:
        """Of the rows on which neither judge nor gold has a tie."""

        def figure(judge: Floats, gold: Floats, prompts: Any) -> Estimate:
            tied = (judge == self.tie) | (gold == self.tie)
            return compute(np.where(tied, np.nan, judge), gold, prompts)

        return figure

    def _win_rates(self, prompts: Any) -> Iterator[tuple[str, str, Callable[[], Estimate]]]:
        gold = self._wins(self.gold)
        yield "win_rate", "gold", lambda: win_rates.win_rate(gold, prompts)
        for name, values in self.judges.items():
            if why := self._scales(values):
                yield "win_rate", name, partial(_refuse, why)
                continue
            wins = self._wins(values)
            yield "win_rate", name, partial(win_rates.win_rate, wins, prompts)
            if not (np.isfinite(wins) & np.isnan(gold)).any():
                continue
            yield (
                CORRECTED,
                name,
                partial(win_rates.rogan_gladen, _decided(wins), gold, prompts),
            )
            yield (
                "win_rate_prediction_powered",
                name,
                partial(win_rates.prediction_powered, wins, gold, prompts),
            )

    def to_label(self, rates: Mapping[str, Estimate]) -> dict[str, dict[str, int]]:
        """Of each judge the losses and wins among the next gold labels, by `gold_allocation`."""
        found = {}
        gold = self._wins(self.gold)
        for name, rate in rates.items():
            said = _decided(self._wins(self.judges[name]))
            losses, wins = (
                said[(gold == label) & (said != 0.5) & ~np.isnan(said)] for label in (0, 1)
            )
            most = losses.size + wins.size + NEXT
            specific, sensitive = 1 - float(losses.mean()), float(wins.mean())
            wanted, _ = win_rates.gold_allocation(specific, sensitive, rate.value, most)
            more = min(NEXT, max(0, wanted - losses.size))
            found[name] = {"losses": more, "wins": NEXT - more}
        return found

    def _wins(self, values: Floats) -> Floats:
        if self.level == "probability":
            return values
        wins = np.where(values == self.tie, 0.5, (values == self.win).astype(float))
        wins[np.isnan(values)] = np.nan
        return wins

    def furthest(self, names: Sequence[str], count: int) -> list[int]:
        """Rows on which the judges are furthest from gold, summed over them."""
        distance = np.zeros(self.gold.size)
        for name in names:
            values = self.judges[name]
            if self.level == "nominal":
                off = (values != self.gold).astype(float)
            else:
                off = np.abs(values - self.gold)
            distance += np.where(np.isfinite(values) & np.isfinite(self.gold), off, 0.0)
        order = np.argsort(-distance, kind="stable")[:count]
        return [int(at) for at in order if distance[at] > 0]


def _decided(wins: Floats) -> Floats:
    """Probabilities of a win as wins, losses and ties."""
    return np.where(np.isnan(wins), np.nan, (np.sign(wins - 0.5) + 1) / 2)


def _refuse(why: str) -> Estimate:
    raise NotEstimableError(why)


def _of_halves(compute: _Figure) -> _Figure:
    """Of probabilities as labels: 1 above a half, 0 below, a tie at it."""

    def figure(judge: Floats, gold: Floats, prompts: Any) -> Estimate:
        labels = (np.sign(judge - 0.5) + 1) / 2
        return compute(labels, gold, prompts)

    return figure


def _calibrated(compute: _Figure) -> _Figure:
    """After Platt's calibration, of folds without the row."""

    def figure(judge: Floats, gold: Floats, prompts: Any) -> Estimate:
        fitted = calibration.calibrate(judge, gold, prompts).cross_fitted
        return compute(fitted, gold, prompts)

    return figure


def _refuse_mixed(columns: Mapping[str, Sequence[Any]], level: Kind | None) -> bool:
    """Whether all labels are texts; refused where only some are, or where numbers are needed."""
    of_text = {
        name: any(isinstance(label, str) for label in column)
        for name, column in columns.items()
        if any(label is not None for label in column)
    }
    texts = [name for name, is_text in of_text.items() if is_text]
    if texts and len(texts) < len(of_text):
        numbers = [name for name in of_text if name not in texts]
        raise NotEstimableError(
            f"the labels of {', '.join(texts)} are texts, those of {', '.join(numbers)} numbers"
        )
    if texts and level not in (None, "nominal"):
        raise NotEstimableError(f"{level} labels are numbers, those of {texts[0]} are texts")
    return bool(texts)


def _texts(column: Sequence[Any]) -> list[str | None]:
    return [None if label is None else str(label) for label in column]


def _number(label: Any) -> float:
    """A label as a number; NaN for none, infinity, or a text that is no number."""
    try:
        number = np.nan if label is None else float(label)
    except (ValueError, OverflowError):
        return np.nan
    return number if math.isfinite(number) else np.nan


def _known(values: Floats) -> list[float]:
    return cast("list[float]", np.unique(values[np.isfinite(values)]).tolist())


def _kind(numbers: Sequence[Floats]) -> Kind:
    gold, judged = _known(numbers[0]), _known(np.concatenate(numbers[1:]))
    if set(gold) <= {0.0, 0.5, 1.0}:
        if set(judged) <= {0.0, 0.5, 1.0}:
            return "nominal"
        if judged[0] >= 0 and judged[-1] <= 1:
            return "probability"
    both = {*gold, *judged}
    return "ordinal" if len(both) <= _RANKS and all(map(float.is_integer, both)) else "interval"


def _panel(votes: Floats, level: Kind, tie: float | None) -> Floats:
    """The judges' majority (a tie where two lead), median of ranks, or mean; NaN without any."""
    there = np.isfinite(votes).any(0)
    found = np.full(votes.shape[1], np.nan)
    if level == "nominal":
        labels = np.unique(votes[np.isfinite(votes)])
        counts = (votes[:, :, None] == labels).sum(0)
        lead = counts == counts.max(1, keepdims=True)
        undecided = np.nan if tie is None else tie
        found[there] = np.where(lead.sum(1) == 1, labels[lead.argmax(1)], undecided)[there]
    elif there.any():
        middle = np.nanmedian if level == "ordinal" else np.nanmean
        found[there] = middle(votes[:, there], axis=0)
    return found
