"""Probability that the label of a preference pair is wrong, judged by all other pairs."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.progress import log_metrics
from siftune.curate.core.ranges import Seed
from siftune.curate.heads.pair_features import style_features, word_features
from siftune.curate.heads.pair_noise import (
    FOLDS,
    Blocks,
    Ints,
    Pairs,
    beyond_length,
    held_out_log_odds,
)
from siftune.curate.judge_stats.intervals import Floats
from siftune.curate.rows.chat import contents

__all__ = ["LabelNoise"]

_LEAST: Final = (50, 10)
"""Pairs and prompts that a fit needs."""


@dataclass(frozen=True)
class LabelNoise:
    """``label_noise``, one minus the probability of the given label; and two columns beside it.

    A model of all other pairs gives the probability that the chosen answer is the better one, the
    self-confidence by which confident learning ranks (Northcutt et al. 2021, arXiv:1911.00068).
    What is known of a pair does not depend on its own label: a logistic regression on the
    difference of both answers' style and words is fitted to the pairs of other prompts (five
    folds), and a Gaussian process adds what the other pairs of the same prompt show, where answers
    recur or are alike (`heads.pair_noise`). Copies of a pair are left out with it.

    * ``label_noise``: near 0 the label is as the model expects, near 1 the opposite is
    * ``label_noise_matched``: the same once what the difference of lengths predicts is taken off
      the log-odds (`heads.pair_noise.beyond_length`): above .5 the label is less probable than
      those of pairs with that difference. It finds flips where length does not, and is the score
      for a length-matched part of a set
    * ``label_noise_issue``: confident learning's verdict. The label is off the diagonal of the
      confident joint: the other order of the pair is at least as probable as the given one is on
      average

    By length alone most pairs can be sorted where judges like long answers, so a pair that the
    shorter answer won is suspect until more is known; look at ``label_noise_matched`` before rows
    are dropped for that. The scores of a row depend on the other rows of the table. With fewer
    than 50 pairs of 10 prompts, and without the text of an answer, all are null. Nothing is
    downloaded and no language model runs.

    Where each prompt has a single pair, only the regression is left: on AlpacaEval's annotations it
    then found planted flips about as well as "the longer answer is the better one" does.

    Not for sets of fewer than 50 pairs, nor sets in which one bias made all labels: it finds what
    differs from the rest.

    Options:
        within: Whether other pairs of the same prompt are used, besides those of other prompts.
        seed: Seed of the folds.
    """

    within: bool = True
    seed: Seed = 0

    whole: ClassVar = True
    content: ClassVar = ("prompt", "chosen", "rejected")
    needs: ClassVar = ("prompt", "chosen", "rejected")
    adds: ClassVar = {
        "label_noise": pl.Float64,
        "label_noise_matched": pl.Float64,
        "label_noise_issue": pl.Boolean,
    }

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Score all pairs of a table."""
        texts = table.select(
            contents(table[name]).alias(name) for name in ("prompt", "chosen", "rejected")
        ).with_row_index("row")
        known = texts.drop_nulls(["chosen", "rejected"]).sort("prompt", "chosen", "rejected")
        prompts = known["prompt"].n_unique()
        if known.height < _LEAST[0] or prompts < _LEAST[1]:
            if known.height:
                log_metrics(too_few=_TOO_FEW.format(known.height, prompts))
            return pl.DataFrame({name: [None] * table.height for name in self.adds}, self.adds)
        pairs, blocks, gap = self._prepared(known)
        log_odds = held_out_log_odds(pairs, blocks, within=self.within)
        log_odds = _best_slope(log_odds) * log_odds
        free, matched = (_opposite(one) for one in (log_odds, beyond_length(log_odds, gap)))
        scores = pl.DataFrame(
            {
                "row": known["row"],
                "label_noise": free,
                "label_noise_matched": matched,
                "label_noise_issue": free >= (1 - free).mean(),
            }
        )
        every = texts.select("row").join(scores, on="row", how="left", maintain_order="left")
        return every.select(*self.adds)

    def _prepared(self, known: pl.DataFrame) -> tuple[Pairs, Blocks, Floats]:
        """The pairs as numbers of answers, the features of these, and the gap of lengths."""
        answers = pl.concat([known["chosen"].alias("text"), known["rejected"].alias("text")])
        distinct = answers.unique().sort()
        place = np.searchsorted(distinct.to_numpy(), answers.to_numpy())
        better, worse = place[: known.height], place[known.height :]
        prompt = known["prompt"].rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
        sides = np.sort(np.stack([better, worse], 1), axis=1)
        _, copy = np.unique(np.column_stack([prompt, sides]), axis=0, return_inverse=True)
        pairs = Pairs(better, worse, prompt, self._folds(known["prompt"]), copy)
        size = distinct.str.len_chars().cast(pl.Float64).log1p().to_numpy()
        blocks = Blocks(style_features(distinct), word_features(distinct))
        return pairs, blocks, size[better] - size[worse]

    def _folds(self, prompts: pl.Series) -> Ints:
        """The fold of each pair: that of its prompt, evenly many prompts in each."""
        distinct = prompts.unique().to_list()
        key = self.seed.to_bytes(16, "little", signed=True)
        drawn = sorted(distinct, key=lambda text: blake2b((text or "").encode(), key=key).digest())
        fold = {text: at % FOLDS for at, text in enumerate(drawn)}
        return np.array([fold[text] for text in prompts], np.int64)


_TOO_FEW: Final = (
    "{:,} pairs of {:,} prompts; a fit needs at least 50 of 10, so every score is null"
)


def _best_slope(log_odds: Floats) -> float:
    """The factor with which the log-odds have the smallest log-loss."""
    from scipy.optimize import minimize_scalar

    fit = minimize_scalar(
        lambda slope: np.logaddexp(0, -np.exp(slope) * log_odds).mean(),
        bounds=(-4.0, 4.0),
        method="bounded",
    )
    return float(np.exp(fit.x))


def _opposite(log_odds: Floats) -> Floats:
    """The probability of the other label."""
    wrong: Floats = 1 / (1 + np.exp(np.clip(log_odds, -30.0, 30.0)))
    return wrong
