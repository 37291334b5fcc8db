"""Distance of a hidden state from those of the answers that a reward model was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_stats.intervals import Floats

__all__ = ["FILE", "KnownAnswers", "KnownStates", "load_known_states"]

FILE: Final = "known_states.safetensors"
"""Beside a reward model's weights: what `KnownAnswers` holds, in float32."""
_LEAST: Final = 20
_BLOCKS: Final = ("content", "order")
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
        threshold, flags = _conformal(unset.distance(held_out), quantile)
        return cls(mean, unset.directions, unset.scales, threshold, flags)

    def distance(self, states: npt.ArrayLike) -> Floats:
        """The distance of each of ``states`` (rows, H)."""
        away = np.asarray(states, float) - self.mean
        along = away @ self.directions
        rest = np.maximum((away**2).sum(1) - (along**2).sum(1), 0.0)
        squared = ((along / self.scales[:-1]) ** 2).sum(1) + rest / self.scales[-1] ** 2
        found: Floats = np.sqrt(squared / len(self.mean))
        return found

    @property
    def arrays(self) -> dict[str, Floats]:
        """All numbers by name."""
        limits = np.array([self.threshold, self.false_flags])
        return dict(zip(_VALUES, (self.mean, self.directions, self.scales, limits), strict=True))

    @classmethod
    def of(cls, arrays: Mapping[str, Floats]) -> KnownStates:
        """The states whose `arrays` these are.

        Raises:
            ValueError: the arrays do not fit together.
        """
        mean, directions, scales, limits = (arrays[name] for name in _VALUES)
        whole = directions.shape == (len(mean), len(scales) - 1) and (scales > 0).all()
        if not whole or not all(np.isfinite(value).all() for value in arrays.values()):
            raise ValueError("its arrays do not fit together")
        return cls(mean, directions, scales, *map(float, limits))


@dataclass(frozen=True)
class KnownAnswers:
    """Distances of two parts of a state, by the larger one: ``content`` and ``order``.

    ``content`` are the first columns (the mean state of a middle layer, far for another language),
    ``order`` the others (how alike neighbouring tokens are in each layer, far for shuffled words).
    Each distance is divided by its own threshold, so a training answer is below about 1.
    """

    content: KnownStates
    order: KnownStates
    threshold: float
    false_flags: float

    @classmethod
    def fit(
        cls, states: Floats, held_out: Floats, width: int, quantile: float = 0.99
    ) -> KnownAnswers:
        """Fit to states (answers, width + layers); see `KnownStates.fit`.

        Raises:
            UsageError: fewer than 20 states of either kind.
        """
        content = KnownStates.fit(states[:, :width], held_out[:, :width], quantile)
        order = KnownStates.fit(states[:, width:], held_out[:, width:], quantile)
        unset = cls(content, order, math.inf, 0.0)
        threshold, flags = _conformal(unset.distance(held_out), quantile)
        return cls(content, order, threshold, flags)

    def distance(self, states: npt.ArrayLike) -> Floats:
        """The larger of both distances, each over its threshold, of each of ``states``."""
        given, width = np.asarray(states, float), len(self.content.mean)
        parts = ((self.content, given[:, :width]), (self.order, given[:, width:]))
        found: Floats = np.max([one.distance(x) / one.threshold for one, x in parts], axis=0)
        return found

    def is_unknown(self, distances: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each distance is above the threshold."""
        return np.asarray(distances, float) > self.threshold

    def save(self, folder: Path) -> None:
        """Write the file beside a model."""
        from safetensors.numpy import save_file

        held = {"limits": np.array([self.threshold, self.false_flags])}
        for block in _BLOCKS:
            held |= {f"{block}_{k}": v for k, v in getattr(self, block).arrays.items()}
        plain = {name: np.ascontiguousarray(value, np.float32) for name, value in held.items()}
        save_file(plain, folder / FILE)


def load_known_states(folder: str | Path) -> KnownAnswers | None:
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
        content, order = (
            KnownStates.of({name: held[f"{block}_{name}"] for name in _VALUES}) for block in _BLOCKS
        )
        threshold, flags = map(float, held["limits"])
    except (KeyError, ValueError, OSError, SafetensorError) as error:
        raise UsageError(f"{path} is damaged ({error}): train the reward model again") from None
    return KnownAnswers(content, order, threshold, flags)


def _conformal(distances: Floats, quantile: float) -> tuple[float, float]:
    """The threshold of split conformal prediction, and the share that exceeds it in expectation."""
    far = np.sort(distances)
    rank = min(len(far), math.ceil((len(far) + 1) * quantile))
    return float(far[rank - 1]), 1 - rank / (len(far) + 1)


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
