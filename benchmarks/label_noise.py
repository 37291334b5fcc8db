"""Planted label flips: how well `label_noise` finds them, beside the rule that longer answers win.

`python -m benchmarks.label_noise --pairs FILE` takes preference pairs in any layout that siftune
reads. A share of the labels is flipped by a seed; every pair then has a score for being flipped:
`label_noise` and `label_noise_matched` of the scorer, and by how many characters the rejected
answer is longer. The table has the area under the ROC curve with a 95 % interval (bootstrap over
prompts), and the share of the flips among the tenth, fifth and three tenths of the rows that a
reader would look at first. The same for a length-matched part (`length_matched` on the given
labels), where length finds nothing: with the scores of the whole set, and as a set of its own.
`--odd FIELD` takes the rows with an odd number in a field of the raw rows, so that a method may be
made on one half and reported on the other.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

import siftune
from siftune.curate.judge_stats.intervals import Estimate, Floats, bootstrap
from siftune.curate.rows.chat import contents
from siftune.curate.rows.columns import numbers
from siftune.curate.scorers.label_noise import LabelNoise
from siftune.curate.selectors.length_matched import LengthMatched

_LOOKED_AT = (0.1, 0.2, 0.3)
_DRAWS = 300


@dataclass(frozen=True)
class Planted:
    """Pairs of which some labels are flipped, and the scores of each method."""

    prompts: pl.Series
    flipped: np.ndarray
    scores: dict[str, Floats]
    seconds: float

    @classmethod
    def of(cls, pairs: pl.DataFrame, rate: float, seed: int) -> Planted:
        """Flip a share of the labels and score the pairs."""
        flipped = np.random.default_rng(seed).random(pairs.height) < rate
        mask = pl.Series(flipped)
        turned = pairs.select(
            "prompt",
            chosen=pl.when(mask).then("rejected").otherwise("chosen"),
            rejected=pl.when(mask).then("chosen").otherwise("rejected"),
        )
        start = time.process_time()
        noise = LabelNoise()(turned)
        seconds = time.process_time() - start
        sizes = [contents(turned[side]).str.len_chars() for side in ("rejected", "chosen")]
        scores = {
            "longer wins": (sizes[0].cast(pl.Float64) - sizes[1]).to_numpy(),
            "label_noise": noise["label_noise"].to_numpy(),
            "label_noise_matched": noise["label_noise_matched"].to_numpy(),
        }
        return cls(contents(pairs["prompt"]), flipped, scores, seconds)

    def estimate(self, statistic: Callable[[Floats], Floats]) -> Estimate:
        """A statistic of weights of rows, with its interval over prompts."""
        return bootstrap(statistic, len(self.flipped), self.prompts.to_numpy(), draws=_DRAWS)

    def found(self, name: str, share: float) -> float:
        """The share of the flips among the rows with the highest scores."""
        first = np.argsort(-self.scores[name], kind="stable")[: round(share * len(self.flipped))]
        return float(self.flipped[first].sum() / max(self.flipped.sum(), 1))

    def part(self, mask: pl.Series) -> Planted:
        """Some of the pairs, with the scores that they have among all."""
        inside = mask.to_numpy()
        scores = {name: score[inside] for name, score in self.scores.items()}
        return Planted(self.prompts.filter(mask), self.flipped[inside], scores, 0.0)

    def lines(self, title: str, rate: float) -> Iterator[str]:
        """Rows of the table."""
        areas = {one: auc(score, self.flipped) for one, score in self.scores.items()}
        for one, area in areas.items():
            more = ""
            if one != "longer wins":
                more = str(self.estimate(_gain(area, areas["longer wins"])))
            shares = " | ".join(f"{self.found(one, share):.2f}" for share in _LOOKED_AT)
            yield f"| {title} | {rate:.0%} | {one} | {self.estimate(area)} | {more} | {shares} |"


def auc(score: Floats, positive: np.ndarray) -> Callable[[Floats], Floats]:
    """The area under the ROC curve as a function of weights (draws, rows); ties count half."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf) != 0)
    high, low = positive[order], ~positive[order]

    def statistic(weights: Floats) -> Floats:
        sorted_weights = weights[:, order]
        above = np.add.reduceat(sorted_weights * high, starts, axis=1)
        below = np.add.reduceat(sorted_weights * low, starts, axis=1)
        before = np.cumsum(below, axis=1) - below / 2
        pairs = above.sum(1) * below.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            area: Floats = (above * before).sum(1) / pairs
        return area

    return statistic


def _gain(
    area: Callable[[Floats], Floats], base: Callable[[Floats], Floats]
) -> Callable[[Floats], Floats]:
    """How much larger an area is than the base's, for the same weights of prompts."""
    return lambda weights: area(weights) - base(weights)


def lines(
    pairs: pl.DataFrame, rates: list[float], seed: int, name: str, part: pl.Series | None = None
) -> Iterator[str]:
    """Rows of the table for a set of pairs, and for a ``part`` of it with the same scores."""
    for rate in rates:
        planted = Planted.of(pairs, rate, seed)
        print(f"{name}, {rate:.0%}: {planted.seconds:.0f} CPU seconds", file=sys.stderr)
        yield from planted.lines(f"{name} ({_size(pairs)})", rate)
        if part is not None:
            inside = f"{name}, length-matched part ({_size(pairs.filter(part))})"
            yield from planted.part(part).lines(inside, rate)


def _size(pairs: pl.DataFrame) -> str:
    return f"{pairs.height:,} of {contents(pairs['prompt']).n_unique():,} prompts"


def read(path: Path, odd: str | None, even: str | None) -> pl.DataFrame:
    """The pairs of a file, or those with an odd or an even number in a field."""
    rows = siftune.read(path).kept
    for field, rest in ((odd, 1), (even, 0)):
        if field is not None:
            number = numbers(rows, f"extra.{field}").cast(pl.Int64)
            rows = rows.filter(number % 2 == rest)
    return rows


def matched(pairs: pl.DataFrame, seed: int) -> pl.Series:
    """Mask of pairs of which the longer answer won half, at any difference."""
    sizes = {f"{one}_length_chars": contents(pairs[one]).str.len_chars() for one in _SIDES}
    table = pairs.with_columns(**sizes)
    return LengthMatched(seed=seed)(table)["keep"]


_SIDES = ("chosen", "rejected")


def main(words: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--rates", default="0.1,0.2,0.3", help="shares of labels to flip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--odd", metavar="FIELD", help="only rows with an odd number in FIELD")
    parser.add_argument("--even", metavar="FIELD", help="only rows with an even number in FIELD")
    given = parser.parse_args(words)
    rates = [float(rate) for rate in given.rates.split(",")]
    pairs = read(given.pairs, given.odd, given.even)
    part = matched(pairs, given.seed)
    sets = (("all", pairs, part), ("length-matched alone", pairs.filter(part), None))
    looked = " | ".join(f"found in {share:.0%}" for share in _LOOKED_AT)
    print(f"| pairs | flipped | score | AUC | above longer wins | {looked} |")
    print("| --- | --- | --- | --- | --- |" + " --- |" * len(_LOOKED_AT))
    for name, some, inside in sets:
        for line in lines(some, rates, given.seed, name, inside):
            print(line, flush=True)


if __name__ == "__main__":
    main()
