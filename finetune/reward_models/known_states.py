"""Distance of a hidden state from those of the answers that a reward model was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_stats.intervals import Floats

__all__ = ["FILE", "KnownStates", "load_known_states"]

FILE: Final = "known_states.safetensors"
"""Beside a reward model's weights: what `KnownStates` holds, in float32."""
_LEAST: Final = 20
_VALUES: Final = ("mean", "directions", "scales", "limits")


@dataclass(frozen=True)
class KnownStates:
    """Mahalanobis distance to the training answers, and the distance above which one is unknown.

    ``d(s)² = (s - μ)ᵀ Σ⁻¹ (s - μ) / H`` (Lee et al. 2018, arXiv:1807.03888, equation 2, with one
    class), so that a training answer has a distance of about 1. Σ is shrunk to a multiple of the
    identity by as much as Ledoit and Wolf 2004 (equation 14) estimate; it has a rank of at most the
    number of training answers, so ``directions`` (H, D) are kept with a scale for each and one for
    all the rest. ``threshold`` is a quantile of held-out answers that had no part in the fit.
    """

    mean: Floats  # (H,)
    directions: Floats  # (H, D), orthonormal
    scales: Floats  # (D + 1,): standard deviation along each, and along any other direction
    threshold: float
    false_flags: float  # expected share of answers like the held-out ones above the threshold

    @classmethod
    def fit(cls, states: Floats, held_out: Floats, quantile: float = 0.99) -> KnownStates:
        """Fit to ``states`` (answers, H) of training; the threshold is set on ``held_out``.

        It is the smallest held-out distance that at most ``1 - quantile`` of new answers of the
        same kind exceed in expectation (split conformal prediction, Vovk et al. 2005); with fewer
        than ``1 / (1 - quantile)`` held-out answers it is the largest of them.

        Raises:
            UsageError: fewer than 20 states of either kind.
        """
        if min(len(states), len(held_out)) < _LEAST:
            raise UsageError(
                f"expected {_LEAST} answers to fit and {_LEAST} held-out ones, got {len(states)} "
                f"and {len(held_out)}"
            )
        mean = states.mean(0)
        centred = (states - mean).astype(float)
        values, directions = _principal(centred)
        share, average = _shrinkage(centred, values)
        kept = values > 1e-12 * max(values.max(), 1e-300)
        inside = np.sqrt((1 - share) * values[kept] + share * average)
        rest = math.sqrt(max(share * average, 1e-12 * average, 1e-30))
        unset = cls(mean, directions[:, kept], np.append(inside, rest), math.inf, 0.0)
        far = np.sort(unset.distance(held_out))
        rank = min(len(far), math.ceil((len(far) + 1) * quantile))
        flags = 1 - rank / (len(far) + 1)
        return cls(mean, unset.directions, unset.scales, float(far[rank - 1]), flags)

    def distance(self, states: npt.ArrayLike) -> Floats:
        """The distance of each of ``states`` (rows, H)."""
        away = np.asarray(states, float) - self.mean
        along = away @ self.directions
        rest = np.maximum((away**2).sum(1) - (along**2).sum(1), 0.0)
        squared = ((along / self.scales[:-1]) ** 2).sum(1) + rest / self.scales[-1] ** 2
        found: Floats = np.sqrt(squared / len(self.mean))
        return found

    def is_unknown(self, distances: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each distance is above the threshold."""
        return np.asarray(distances, float) > self.threshold

    def save(self, folder: Path) -> None:
        """Write the file beside a model."""
        from safetensors.numpy import save_file

        limits = np.array([self.threshold, self.false_flags])
        held = dict(zip(_VALUES, (self.mean, self.directions, self.scales, limits), strict=True))
        plain = {name: np.ascontiguousarray(value, np.float32) for name, value in held.items()}
        save_file(plain, folder / FILE)


def load_known_states(folder: str | Path) -> KnownStates | None:
    """The states that a model folder holds; None where it has none.

    Raises:
        UsageError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        held = {name: value.astype(float) for name, value in load_file(path).items()}
        mean, directions, scales, limits = (held[name] for name in _VALUES)
        threshold, flags = map(float, limits)
        whole = directions.shape == (len(mean), len(scales) - 1) and (scales > 0).all()
        if not whole or not all(np.isfinite(value).all() for value in held.values()):
            raise ValueError("its arrays do not fit together")
    except (KeyError, ValueError, OSError, SafetensorError) as error:
        raise UsageError(f"{path} is damaged ({error}): train the reward model again") from None
    return KnownStates(mean, directions, scales, threshold, flags)


def _principal(centred: Floats) -> tuple[Floats, Floats]:
    """Variances along the principal directions, and these (H, D)."""
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    return singular**2 / len(centred), rows.T


def _shrinkage(centred: Floats, values: Floats) -> tuple[float, float]:
    """The weight of the identity in the covariance, and the mean variance that multiplies it.

    Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
    """
    count, width = centred.shape
    average = float(values.sum() / width)
    square = float((values**2).sum())  # of the covariance's Frobenius norm
    apart = square - width * average**2
    noise = (float(((centred**2).sum(1) ** 2).sum()) / count - square) / count
    return (min(1.0, noise / apart) if apart > 0 else 1.0), average
