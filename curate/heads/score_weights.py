"""Weights of several scores, learned from proxies: selections by random weights, and their losses.

The plan of Meta-rater (arXiv:2504.14194): draw weightings, select by each, train a small model on
each selection, fit a regression from the weights to the loss on held-out rows, and take the
weights with the smallest predicted loss; then measure them on other held-out rows. The regression
there is LightGBM; here, for some dozens of proxies, ridge regression on the weights, their squares
and products, its penalty by leave-one-out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.comparing.hashed_ngrams import hashed_ngrams
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.judge_stats.intervals import Floats
from siftune.curate.rows.chat import text_of
from siftune.curate.rows.columns import nearest_columns
from siftune.curate.rows.decisions import draws, tie_order
from siftune.curate.rows.expressions import needs_of, scores

__all__ = ["LEAST_PROXIES", "NgramProxy", "Proxy", "ScoreWeights", "fit_score_weights", "halves"]

Proxy: TypeAlias = Callable[[npt.NDArray[np.int64]], float]
"""The held-out loss of a model that was trained on the rows of these numbers."""

LEAST_PROXIES: Final = 8
_CANDIDATES: Final = 4096
_RANDOM: Final = 5
_PENALTIES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class ScoreWeights:
    """Weights of standard scores, and the losses of selections by them and by others.

    The losses are those of ``check``, which has chosen neither the weights nor the best single
    score. ``random`` is the mean over five random selections of as many rows, ``random_range`` the
    smallest and the largest of them. ``r2`` is that of the regression, leave-one-out, on the losses
    that chose: near 0 the loss does not follow the weights. A high one does not mean that they are
    of use, since selections by near weights share rows, and the losses of noise are alike too.
    """

    weights: dict[str, float]
    by: str
    loss: float
    equal: float
    best_single: float
    random: float
    random_range: tuple[float, float]
    r2: float
    proxies: int
    rows: int
    kept: int

    def as_dict(self) -> dict[str, Any]:
        """The fit as plain values."""
        return asdict(self)


def fit_score_weights(
    table: pl.DataFrame,
    names: Sequence[str],
    kept: int,
    proxy: Proxy,
    check: Proxy,
    proxies: int = 64,
    seed: int = 0,
) -> ScoreWeights:
    """Weights, not negative and of sum 1, of the standard scores ``z(name)`` of a table.

    ``names`` are columns or expressions of which a larger value is better; write a minus before
    others. A selection is the ``kept`` largest weighted sums; rows that lack a score are left out.
    Weightings are drawn evenly from the simplex (Dirichlet with 1), and each score alone and all
    alike are tried too, so that ``proxies`` counts the drawn ones only. The losses of ``proxy``
    choose; those of ``check``, on other held-out rows, are reported: the smallest of so many losses
    is small by chance.

    Raises:
        UsageError: fewer than two scores, too few proxies, or no choice among the rows.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError("expected two different scores at least: weights of one are 1")
    if proxies < LEAST_PROXIES:
        raise UsageError(f"expected at least {LEAST_PROXIES} proxies, got {proxies}")
    z, known = _standard_scores(table, names)
    if not 0 < kept < len(known):
        raise UsageError(
            f"{len(known):,} rows have all scores: expected to keep fewer, and one at least; got "
            f"{kept:,}"
        )
    source = np.random.default_rng(seed)
    count, rows = len(names), table.select("digest", "id")[known]

    def selected(weights: Floats) -> npt.NDArray[np.int64]:
        order = tie_order(rows, pl.Series(z @ weights))
        found: npt.NDArray[np.int64] = known[np.sort(order[:kept])]
        return found

    equal = np.full(count, 1 / count)
    tried = np.vstack([np.eye(count), equal, source.dirichlet(np.ones(count), proxies)])
    losses = np.array([float(proxy(selected(weights))) for weights in tried])
    if not np.isfinite(losses).all():
        raise DataError("a proxy's loss is not a finite number: see what it is for few rows")
    random = [
        float(check(known[np.sort(source.permutation(len(known))[:kept])])) for _ in range(_RANDOM)
    ]
    coefficients, r2 = _regress(_quadratic(tried), losses)
    drawn = np.vstack([tried, source.dirichlet(np.ones(count), _CANDIDATES)])
    best = drawn[int((_quadratic(drawn) @ coefficients).argmin())]
    if losses.min() < proxy(selected(best)):  # the regression has missed what was tried
        best = tried[int(losses.argmin())]
    single = tried[int(losses[:count].argmin())]
    return ScoreWeights(
        weights={name: round(float(w), 4) for name, w in zip(names, best, strict=True)},
        by=_expression(names, best),
        loss=float(check(selected(best))),
        equal=float(check(selected(equal))),
        best_single=float(check(selected(single))),
        random=float(np.mean(random)),
        random_range=(min(random), max(random)),
        r2=r2,
        proxies=proxies,
        rows=len(known),
        kept=kept,
    )


def halves(table: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of one half of the prompts, drawn by ``seed``, and those of the other half.

    Raises:
        UsageError: there is one prompt only.
    """
    prompt = pl.select(
        pl.coalesce(text_of(table, "prompt").replace("", None), text_of(table, "both"), pl.lit(""))
    ).to_series()  # plain texts have no prompt
    distinct = pl.DataFrame({"prompt": prompt.unique()})
    if distinct.height < 2:
        raise UsageError(
            "--against: expected held-out rows of at least two prompts, one half to choose the "
            "weights and one to measure them; got one prompt"
        )
    drawn = draws(distinct.select(digest="prompt", id=pl.lit("")), seed)
    first = prompt.is_in(distinct["prompt"].gather(drawn.arg_sort()[: distinct.height // 2]))
    return table.filter(first), table.filter(~first)


def _standard_scores(
    table: pl.DataFrame, names: Sequence[str]
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Standard scores (rows, scores) of the rows that have all, and the numbers of these rows."""
    for column in needs_of(*names):
        if column not in table.columns:
            raise UsageError(f"no column {column!r}; {nearest_columns(column, table.columns)}")
    columns = [scores(table, f"z({name})").cast(pl.Float64).to_numpy() for name in names]
    every = np.stack(columns, axis=1)
    known = np.flatnonzero(np.isfinite(every).all(axis=1))
    return every[known], known


def _expression(names: Sequence[str], weights: Floats) -> str:
    """The weighted sum in the grammar of ``by``; scores with a weight below 0.005 are left out."""
    kept = [(n, w) for n, w in zip(names, weights, strict=True) if w >= 0.005]
    return " + ".join(f"{weight:.4g} * z({name})" for name, weight in kept)


def _quadratic(weights: Floats) -> Floats:
    """1, the weights but the last (they add up to 1), and products of two of these."""
    free = weights[:, :-1]
    left, right = np.triu_indices(free.shape[1])
    return np.hstack([np.ones((len(free), 1)), free, free[:, left] * free[:, right]])


def _regress(x: Floats, y: Floats) -> tuple[Floats, float]:
    """Ridge coefficients, the offset free, and the R² of leave-one-out predictions."""
    middle = y.mean()
    best: tuple[float, Floats] | None = None
    for penalty in _PENALTIES:
        shrink = np.diag(np.append(0.0, np.full(x.shape[1] - 1, penalty)))
        inverse = np.linalg.pinv(x.T @ x + shrink)
        coefficients = inverse @ (x.T @ (y - middle))
        hat = np.einsum("ij,jk,ik->i", x, inverse, x)
        residual = (y - middle - x @ coefficients) / np.maximum(1 - hat, 1e-9)
        error = float(residual @ residual)
        if best is None or error < best[0]:
            best = (error, coefficients)
    assert best is not None
    spread = float((y - middle) @ (y - middle))
    return best[1], 1 - best[0] / spread if spread > 0 else 0.0


class NgramProxy:
    """Held-out loss of an n-gram model: nats per n-gram of the targets, trained on a selection.

    Words and pairs of words are hashed into buckets, ``p(b) = (count of b + 1) / (all + buckets)``.
    It takes milliseconds, and measures the wording of the targets alone.
    """

    def __init__(self, texts: pl.Series, targets: pl.Series, buckets: int = 10_000) -> None:
        from scipy.sparse import csr_array

        row, bucket = hashed_ngrams(texts, buckets)
        ones = np.ones(len(row))
        self._counts = csr_array((ones, (row, bucket)), shape=(len(texts), buckets))
        _, held_out = hashed_ngrams(targets, buckets)
        if not len(held_out):
            raise DataError("the targets hold no text to measure a loss on")
        self._target = np.bincount(held_out, minlength=buckets) / len(held_out)

    def __call__(self, rows: npt.NDArray[np.int64]) -> float:
        """The loss after counting the n-grams of the rows."""
        counts = np.asarray(self._counts[rows].sum(axis=0)).ravel() + 1
        return float(-(self._target @ np.log(counts / counts.sum())))
