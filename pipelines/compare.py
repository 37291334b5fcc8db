"""The arms that a selection is compared with, and their results over seeds with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from siftune.curate.core.errors import UsageError
from siftune.curate.runners.project_cache import StageCache
from siftune.curate.runners.run import run as curate_run
from siftune.curate.runs.recipe import Recipe, Spec

__all__ = [
    "TOKENS",
    "Interval",
    "arm_recipe",
    "arm_rows",
    "arms_table",
    "difference",
    "mean_interval",
    "varies",
]

TOKENS = "length_tokens"


@dataclass(frozen=True)
class Interval:
    """A mean and its two-sided interval; no interval (NaN) from a single value."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def apart_from_zero(self) -> bool:
        """Whether zero lies outside."""
        return bool(self.low > 0 or self.high < 0)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean; the seeds are the sample.

    >>> mean_interval([1.0, 2.0, 3.0])
    Interval(mean=2.0, low=-0.4841, high=4.4841, n=3)
    """
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return Interval(mean, float("nan"), float("nan"), len(sample))
    half = float(stats.t.ppf((1 + confidence) / 2, len(sample) - 1) * stats.sem(sample))
    return Interval(round(mean, 6), round(mean - half, 4), round(mean + half, 4), len(sample))


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> Interval:
    """Interval of ``a - b``, paired by seed: each seed trains both arms from the same start.

    Raises:
        ValueError: the arms did not run with the same seeds.
    """
    if a.keys() != b.keys():
        raise ValueError(f"arms with seeds {sorted(a)} and {sorted(b)} cannot be paired")
    return mean_interval([a[seed] - b[seed] for seed in sorted(a)])


def arms_table(
    results: Mapping[str, Mapping[int, float]], reference: str
) -> list[dict[str, object]]:
    """One line an arm: its mean over seeds, and the difference to ``reference``."""
    lines: list[dict[str, object]] = []
    for arm, by_seed in results.items():
        own = mean_interval([by_seed[seed] for seed in sorted(by_seed)])
        line: dict[str, object] = {"arm": arm, "seeds": own.n, "mean": own.mean}
        line |= {"low": own.low, "high": own.high, "values": [by_seed[s] for s in sorted(by_seed)]}
        if arm != reference and reference in results:
            gap = difference(results[reference], by_seed)
            line |= {"behind": gap.mean, "behind_low": gap.low, "behind_high": gap.high}
            line["apart"] = gap.apart_from_zero
        lines.append(line)
    return lines


def arm_recipe(arm: str, pool: Recipe, kept: str, tokenizer: str, tokens: int, seed: int) -> Recipe:
    """The recipe that selects the rows of an arm.

    ``curated`` is what the selection kept; ``random`` draws from the same pool and ``longest``
    takes its longest answers, both up to ``tokens``; ``all`` is the pool. None of them has what a
    `split` of the pool holds out of training.
    """
    count = Spec("score", "length", {"tokenizer": tokenizer})
    if arm == "curated":
        return Recipe(f"arm {arm}", (kept,), (count,), seed)
    budget = {"tokens": tokens, "tokens_by": TOKENS}
    chosen = {
        "random": (Spec("select", "random", budget),),
        "longest": (Spec("select", "longest", {"by": TOKENS, **budget}),),
        "all": (),
    }
    stages = (*_splits(pool), count, *chosen[arm])
    return replace(pool, name=f"arm {arm}", stages=stages, seed=seed)


def arm_rows(
    arm: str,
    pool: Recipe | None,
    out: Path,
    tokenizer: str,
    tokens: int,
    seed: int,
    cache: StageCache | None,
) -> tuple[Path, int]:
    """The run folder of an arm's rows in the run ``out``, and how many answer tokens they hold.

    Raises:
        UsageError: the recipe has no rows.
    """
    if pool is None:
        raise UsageError("arms: the recipe has no `rows` to select from")
    recipe = arm_recipe(arm, pool, str(out / "rows" / "kept.parquet"), tokenizer, tokens, seed)
    folder = out / "arms" / (f"{arm}-seed{seed}" if varies(arm) else arm)
    curate_run(recipe, folder, cache=cache)
    counted = pl.read_parquet(folder / "kept.parquet", columns=[TOKENS], glob=False)[TOKENS]
    return folder, int(counted.sum())


def _splits(pool: Recipe) -> tuple[Spec, ...]:
    """The pool's splits by prompt, with the pool's seed: the arm's would cut elsewhere."""
    return tuple(
        replace(stage, options={"seed": pool.seed, **stage.options})
        for stage in pool.stages
        if (stage.group, stage.name) == ("select", "split")
    )


def varies(arm: str) -> bool:
    """Whether the rows of the arm depend on the seed."""
    return arm == "random"
