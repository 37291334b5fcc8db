"""Paired differences over seeds and prompts: intervals, p-values, Holm's correction, power.

Two arms are trained with the same seeds and measured on the same prompts, which gives differences
``d[s, p]`` (seeds, prompts). Both are a sample: another seed draws another training, another
prompt another question. So the model has crossed random effects,

    d[s, p] = effect + seed[s] + prompt[p] + rest[s, p]

and the variance of the mean is ``(MS_seed + MS_prompt - MS_rest) / (S P)``, from the mean squares
of a two-way analysis of variance (Searle, Casella and McCulloch 1992, Variance Components, chapter
4). With three seeds the first has two degrees of freedom: a bootstrap over seeds, or degrees of
Satterthwaite's alone, give intervals that are too short (`benchmarks.arena_statistics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "FEWEST",
    "Components",
    "Difference",
    "MeanSquares",
    "arm_mean",
    "components_of",
    "holm",
    "mean_squares",
    "paired_difference",
    "power",
    "seeds_needed",
]

Floats: TypeAlias = npt.NDArray[np.float64]

_NODES: Final = 48  # of the quadrature over the seeds' variance
_GENERALISED: Final = 0.7  # weight of the generalised p-value in intervals; see `outside`
_LEAST: Final = 1e-3  # the smallest variance of a mean, as a share of those by prompt and of rest
FEWEST: Final = 30
"""Prompts whose values differ from which a difference is tested; with fewer, or where right answers
are rare, more than 5 % of arenas without a difference have a significant one after Holm."""
_DRAWS: Final = 2_000  # simulated arenas of a forecast of power
_MOST_SEEDS: Final = 60


@dataclass(frozen=True)
class Components:
    """Variances of one difference: by seed, by prompt, and of what is left."""

    seeds: float
    prompts: float
    rest: float


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of the differences ``(seeds, prompts)``: numbers, or arrays of equal shape."""

    seed: Any
    prompt: Any
    rest: Any
    seeds: int
    prompts: int

    @classmethod
    def of(cls, table: Floats) -> MeanSquares:
        """Those of a table (…, seeds, prompts) of two seeds and two prompts at least."""
        seeds, prompts = table.shape[-2:]
        mean = table.mean((-2, -1), keepdims=True)
        by_seed, by_prompt = table.mean(-1, keepdims=True), table.mean(-2, keepdims=True)
        rest = table - by_seed - by_prompt + mean
        return cls(
            prompts * ((by_seed - mean) ** 2).sum((-2, -1)) / (seeds - 1),
            seeds * ((by_prompt - mean) ** 2).sum((-2, -1)) / (prompts - 1),
            (rest**2).sum((-2, -1)) / ((seeds - 1) * (prompts - 1)),
            seeds,
            prompts,
        )

    @property
    def variance(self) -> Any:
        """The estimated variance of the mean; never below a thousandth of that by prompt."""
        return self._floored(self.seed) / (self.seeds * self.prompts)

    def _floored(self, seed: Any) -> Any:
        least = _LEAST * np.maximum(self.prompt, self.rest)
        return np.maximum(seed + self.prompt - self.rest, least)

    def p_value(self, effect: Any) -> Any:
        """Two-sided p-value of a mean ``effect`` against 0.

        The generalised p-value (Tsui and Weerahandi 1989): the variance of seeds is not known, it
        is MS_seed / (χ² / (S - 1)) with χ² of S - 1 degrees, and Student's p-value is integrated
        over it, with Satterthwaite's degrees of the other two mean squares, P - 1 at least. Where
        seeds are nearly all of the variance this is Student's test of the seeds; elsewhere it errs
        to the safe side, so that Holm's correction holds.
        """
        from scipy.special import ndtr

        ratios, weights = _chi_squares(self.seeds - 1)
        seed = np.asarray(self.seed, float)[..., None] / ratios
        prompt, rest = (np.asarray(one, float)[..., None] for one in (self.prompt, self.rest))
        variance = MeanSquares(seed, prompt, rest, self.seeds, self.prompts).variance
        total = (variance * self.seeds * self.prompts) ** 2
        spread = (prompt**2 + rest**2 / (self.seeds - 1)) / (self.prompts - 1)
        least = 1e-9 * total + np.finfo(float).tiny  # where neither varies: the normal one
        degrees = np.maximum(total / np.maximum(spread, least), self.prompts - 1)
        size = np.asarray(effect, float)[..., None] ** 2 / variance
        # Wallace's normal deviate of Student's t (1959): much faster than scipy's `stdtr`
        z = np.sqrt(degrees * np.log1p(size / degrees)) * (8 * degrees + 1) / (8 * degrees + 3)
        return 2 * (ndtr(-z) * weights).sum(-1)

    def outside(self, effect: Any) -> Any:
        """One minus the level of the interval whose end is ``effect`` from the mean.

        A mixture of two intervals that err to opposite sides with few seeds: the generalised one
        alone covers up to 98 % where it should cover 95 %, Student's with Satterthwaite's degrees
        (1946) down to 89 %. With weights .7 and .3 it is 94 to 98 % in the simulations of
        `benchmarks.arena_statistics`: from three seeds and 30 prompts on, with normal, skewed
        and weighted values and with answers of which half are right.
        """
        from scipy.special import stdtr

        plugged = 2 * stdtr(self.degrees, -np.abs(effect) / np.sqrt(self.variance))
        return _GENERALISED * self.p_value(effect) + (1 - _GENERALISED) * plugged

    @property
    def degrees(self) -> Any:
        """Satterthwaite's degrees of freedom of `variance`, at least those of the seeds."""
        s, p = self.seeds - 1, self.prompts - 1
        spread = self.seed**2 / s + self.prompt**2 / p + self.rest**2 / (s * p)
        return np.maximum((self.variance * self.seeds * self.prompts) ** 2 / spread, s)

    def half_width(self, level: float, corrected: bool = False) -> float:
        """Half of the interval of this level; a ``corrected`` one agrees with `p_value`."""
        beyond = self.p_value if corrected else self.outside
        low, high = 0.0, float(np.sqrt(self.variance))
        while beyond(high) > 1 - level:
            low, high = high, 2 * high
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if beyond(middle) > 1 - level else (low, middle)
        return high

    @property
    def components(self) -> Components:
        """Variances of the three effects, none below 0."""
        seeds, prompts = (max(0.0, float(one - self.rest)) for one in (self.seed, self.prompt))
        return Components(seeds / self.prompts, prompts / self.seeds, float(self.rest))


@cache
def _chi_squares(degrees: int) -> tuple[Floats, Floats]:
    """Nodes ``χ² / degrees`` and weights: Gauss and Legendre's in ``u = x³``, close near u = 0."""
    from scipy.special import gammaincinv

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    x = (nodes + 1) / 2
    return 2 * gammaincinv(degrees / 2, x**3) / degrees, 1.5 * x**2 * weights


@dataclass(frozen=True)
class Difference:
    """A mean difference with its interval and p-value; None where they are not determined.

    ``why`` is the reason for None: one seed, no spread at all, or, for ``p`` alone, fewer than
    `FEWEST` prompts that differ.
    """

    effect: float
    low: float | None
    high: float | None
    p: float | None
    seeds: int
    prompts: int
    squares: MeanSquares | None = None
    why: str = ""

    def corrected(self, comparisons: int) -> tuple[float, float] | None:
        """The interval that holds together with those of all ``comparisons`` (Bonferroni's)."""
        if self.squares is None:
            return None
        half = self.squares.half_width(1 - 0.05 / comparisons, corrected=True)
        return self.effect - half, self.effect + half


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Difference:
    """The mean of ``first - second``, both (seeds, prompts) with the same seeds and prompts.

    A prompt with a NaN in any seed of either is left out of both. With ``weights`` (prompts,), such
    as tokens, it is the weighted mean over prompts, and its variance that of the linearised ratio:
    ``mean + w (d - mean) / mean(w)``. Several templates are averaged before.

    >>> found = paired_difference([[3.0, 5.0], [4.0, 8.0]], [[1.0, 1.0], [1.0, 1.0]])
    >>> found.effect, *map(float, (found.squares.seed, found.squares.prompt, found.squares.rest))
    (4.0, 4.0, 9.0, 1.0)
    """
    table = np.asarray(first, float) - np.asarray(second, float)
    known = np.isfinite(table).all(axis=0)
    table = table[:, known]
    seeds, prompts = table.shape
    if prompts == 0:
        return Difference(float("nan"), None, None, None, seeds, 0, why="no prompt has a value")
    share = np.ones(prompts) if weights is None else np.asarray(weights, float)[known]
    effect = float(np.average(table.mean(axis=0), weights=share))
    if seeds < 2 or prompts < 2:
        few = "seed" if seeds < 2 else "prompt"
        return Difference(effect, None, None, None, seeds, prompts, why=f"one {few} has no spread")
    squares = mean_squares(table, share)[1]
    if max(squares.seed, squares.prompt, squares.rest) <= _rounding(table):
        why = "no difference varies over seeds or prompts"
        return Difference(effect, None, None, None, seeds, prompts, why=why)
    half = squares.half_width(level)
    ends = effect - half, effect + half
    differ = int((table != 0).any(axis=0).sum())
    if differ < FEWEST:
        why = f"not tested: the values of {differ} prompts differ, a test needs {FEWEST}"
        return Difference(effect, *ends, None, seeds, prompts, squares, why)
    p = float(min(1.0, squares.p_value(effect)))
    return Difference(effect, *ends, p, seeds, prompts, squares)


def mean_squares(table: Floats, weights: Floats) -> tuple[Any, MeanSquares]:
    """The weighted mean of differences (…, seeds, prompts) without gaps, and its mean squares.

    ``weights`` are (…, prompts).
    """
    share = (weights / weights.mean(-1, keepdims=True))[..., None, :]
    effect = (share * table).mean((-2, -1), keepdims=True)
    return effect[..., 0, 0], MeanSquares.of(effect + share * (table - effect))


def _rounding(table: Floats) -> float:
    return float((1e-12 * max(1.0, float(np.abs(table).max()))) ** 2)


def arm_mean(values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """The mean of an arm (seeds, prompts) over the prompts that have a value in every seed."""
    table = np.asarray(values, float)
    known = np.isfinite(table).all(axis=0)
    if not known.any():
        return float("nan")
    share = None if weights is None else np.asarray(weights, float)[known]
    return float(np.average(table[:, known].mean(axis=0), weights=share))


def components_of(found: Sequence[Difference]) -> Components | None:
    """Mean variance components of several comparisons; None where none has them."""
    parts = [one.squares.components for one in found if one.squares is not None]
    if not parts:
        return None
    means = np.mean([(one.seeds, one.prompts, one.rest) for one in parts], axis=0)
    return Components(*map(float, means))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values (1979): below 0.05 in all but 5 % of families without an effect.

    None, a comparison that has none, stays None and is not counted.

    >>> holm([0.01, 0.04, 0.03, None])
    [0.03, 0.06, 0.06, None]
    """
    known = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, at) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[at] = highest
    return adjusted


def power(
    components: Components,
    seeds: int,
    prompts: int,
    effect: float,
    comparisons: int = 1,
    alpha: float = 0.05,
) -> float:
    """Probability that a true ``effect`` is found significant at ``alpha / comparisons``.

    By simulation of the mean and the three mean squares, which are independent of each other and
    χ²-distributed in the model; seeded. Holm's later steps can only find more.
    """
    source = np.random.default_rng(0)
    s, p, both = seeds - 1, prompts - 1, (seeds - 1) * (prompts - 1)
    by_seed = components.rest + prompts * components.seeds
    by_prompt = components.rest + seeds * components.prompts
    squares = MeanSquares(
        by_seed * source.chisquare(s, _DRAWS) / s,
        by_prompt * source.chisquare(p, _DRAWS) / p,
        components.rest * source.chisquare(both, _DRAWS) / both,
        seeds,
        prompts,
    )
    error = np.sqrt((by_seed + by_prompt - components.rest) / (seeds * prompts))
    means = effect + error * source.standard_normal(_DRAWS)
    return float((squares.p_value(means) < alpha / comparisons).mean())


def seeds_needed(
    components: Components,
    prompts: int,
    effect: float,
    comparisons: int = 1,
    wanted: float = 0.8,
) -> int | None:
    """The fewest seeds with the ``wanted`` power; None where 60 are too few (more prompts help)."""
    if power(components, _MOST_SEEDS, prompts, effect, comparisons) < wanted:
        return None
    low, high = 1, _MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(components, middle, prompts, effect, comparisons) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high
