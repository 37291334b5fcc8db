"""Figures of a set of vectors as a whole: how diverse it is, and how well it covers a pool."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from siftune.curate.vectors.neighbor_distances import density_factors, novelties
from siftune.curate.vectors.unit_vectors import exact_products, slices

__all__ = ["SetFigures", "set_figures"]

_NEIGHBOURS: Final = 10
_BLOCK: Final = 1024


@dataclass(frozen=True)
class SetFigures:
    """What `set_figures` finds; None where a figure is not defined."""

    rows: int
    without_vector: int
    vendi: float | None
    novelsum: float | None
    log_det: float | None
    pool_rows: int | None = None
    coverage: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)

    def __str__(self) -> str:
        left_out = f" ({self.without_vector:,} more have no vector)" if self.without_vector else ""
        facts = {
            "rows": f"{self.rows:,}{left_out}",
            "vendi": _shown(self.vendi, "effective number of different rows, 1 to all"),
            "novelsum": _shown(self.novelsum, "mean novelty; compare sets of one size"),
            "log_det": _shown(self.log_det, "log det(I + K); compare sets of one size"),
        }
        if self.pool_rows is not None:
            of = f"mean cosine of the pool's {self.pool_rows:,} rows to the nearest row of the set"
            facts["coverage"] = _shown(self.coverage, of)
        return "\n".join(f"{name:<9} {text}" for name, text in facts.items())


def _shown(value: float | None, meaning: str) -> str:
    return f"{'none' if value is None else format(value, '.4g'):<9} {meaning}"


def set_figures(
    units: np.ndarray, without_vector: int = 0, pool: np.ndarray | None = None
) -> SetFigures:
    """Figures of unit vectors (n, d); ``pool`` (m, d) are those that the set was selected from.

    K is the n×n matrix of cosines, λ the eigenvalues of K / n.

    * ``vendi``: ``exp(-Σ λ log λ)`` (Friedman and Dieng, arXiv:2210.02410), 1 where all vectors are
      equal and n where all are orthogonal
    * ``novelsum``: mean of the scorer `novelty` (NovelSum, arXiv:2502.17184), the densities those
      of the pool; without a pool they are left out, as the authors advise, since in the set itself
      the odd rows are the empty regions
    * ``log_det``: ``log det(I + K)``, twice the information gain of a Gaussian process with unit
      noise (arXiv:0912.3995). The determinant of K alone is 0 where n > d.
    * ``coverage``: facility location as a share of its largest value, ``Σ_i max(0, max_j cos_ij) /
      m`` over the rows i of the pool and j of the set

    The eigenvalues are those of the d×d matrix where n > d, which has the same ones but for zeros.
    Vendi and the determinant need n·d·min(n, d) steps, NovelSum n², coverage n·m.
    """
    known, covered = len(units) > 0, None
    if pool is not None and known and len(pool):
        covered = float(sum(_nearest(units, pool)) / len(pool))
    values = _eigenvalues(units) if known else None
    return SetFigures(
        rows=len(units),
        without_vector=without_vector,
        vendi=None if values is None else _vendi(values),
        novelsum=_novelsum(units, pool) if len(units) > 1 else None,
        log_det=None if values is None else float(np.log1p(len(units) * values).sum()),
        pool_rows=None if pool is None else len(pool),
        coverage=covered,
    )


def _eigenvalues(units: np.ndarray) -> np.ndarray:
    """Those of K / n but for zeros; their sum is 1."""
    wide = units.astype(np.float64)
    small = wide @ wide.T if len(wide) <= wide.shape[1] else wide.T @ wide
    values = np.clip(np.linalg.eigvalsh(small), 0, None)
    found: np.ndarray = values / values.sum()
    return found


def _vendi(values: np.ndarray) -> float:
    positive = values[values > 0]
    return float(np.exp(-np.sum(positive * np.log(positive))))


def _novelsum(units: np.ndarray, pool: np.ndarray | None) -> float:
    factors = np.ones(len(units))
    if pool is not None:
        factors = density_factors(units, pool, _NEIGHBOURS, 0.5, same=False)
    return float(novelties(units, factors, 1.0).mean())


def _nearest(units: np.ndarray, pool: np.ndarray) -> list[float]:
    """For each slice of the pool the sum of its cosines to the nearest of ``units``, from 0 up."""
    wide = units.astype(np.float64)
    return [
        float(np.maximum(exact_products(pool[part], wide).max(axis=1), 0).sum())
        for part in slices(len(pool), _BLOCK)
    ]
