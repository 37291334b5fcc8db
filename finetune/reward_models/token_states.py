"""Hidden states of the tokens of known answers: how far a state is, how well neighbours predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.intervals import Floats

__all__ = ["TokenStates"]

_DIRECTIONS: Final = 64
_BASIS_TOKENS: Final = 2_048
_PENALTY: Final = 0.01
_NEIGHBOURS: Final = (-2, -1, 1, 2)
_NAMES: Final = ("mean", "directions", "scales", "weights", "errors")


@dataclass(frozen=True)
class TokenStates:
    """Mean and covariance of single tokens' states, and a regression on their neighbours.

    ``directions`` are the 64 principal ones (fewer where states are narrower). With z the
    coordinates of a state h along them, each over its standard deviation, `values` gives for a
    token

        log ((|z|² + |rest|² / ρ²) / H)         Mahalanobis' distance (Lee et al. 2018,
                                                arXiv:1807.03888), ρ that of all other directions
        log (mean e² / σ²) - log (mean z²)      e = z - ẑ, with ẑ from the two tokens on each side

    ẑ is a ridge regression on known answers (its penalty 1 % of the regressors' squares), σ its
    error there. Words in disorder are predicted badly, whichever words they are. It is
    order that a bidirectional encoder's mean state hardly shows.
    """

    mean: Floats  # (H,)
    directions: Floats  # (H, D), orthonormal
    scales: Floats  # (D + 1,): standard deviation along each, and along any other direction
    weights: Floats  # (4 D + 1, D)
    errors: Floats  # (D,)

    @classmethod
    def fit(cls, texts: Sequence[npt.NDArray[Any]], folds: Sequence[int]) -> list[TokenStates]:
        """Fit to states (tokens, H) of each text: to all, then without those of each fold.

        The folds differ in the regression, which alone has many weights.
        """
        mean, directions, scales = _basis(texts)
        plain = cls(mean, directions, scales, np.zeros((0, 0)), scales[:-1])
        sums: dict[int, _Sums] = {}
        for text, fold in zip(texts, folds, strict=True):
            own = _Sums.of(plain._z(text)[0])
            sums[fold] = sums[fold] + own if fold in sums else own
        parts = [sums[fold] for fold in sorted(sums)]
        whole = reduce(_Sums.__add__, parts)
        fits = (one.solved() for one in (whole, *(whole - part for part in parts)))
        found = (replace(plain, weights=weights, errors=errors) for weights, errors in fits)
        return [cls.of(one.arrays) for one in found]  # as they are when they are read again

    def values(self, states: npt.NDArray[Any]) -> Floats:
        """(tokens, 2): both numbers of each of ``states`` (tokens, H)."""
        z, rest = self._z(states)
        error = ((z - _neighbours(z) @ self.weights) / self.errors) ** 2
        own = (z**2).sum(1)
        far = np.log(np.maximum((own + rest) / len(self.mean), _TINY))
        badly = np.log(np.maximum(error.mean(1), _TINY))
        return np.stack([far, badly - np.log(np.maximum(own / z.shape[1], _TINY))], 1)

    def _z(self, states: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        """Coordinates over their standard deviations, and the squared rest over its own."""
        away = np.asarray(states, float) - self.mean
        along = away @ self.directions
        rest = np.maximum((away**2).sum(1) - (along**2).sum(1), 0.0)
        return along / self.scales[:-1], rest / self.scales[-1] ** 2

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """All numbers by name, in float32."""
        return {name: getattr(self, name).astype(np.float32) for name in _NAMES}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> TokenStates:
        """The states whose `arrays` these are.

        Raises:
            ValueError: the arrays do not fit together.
        """
        found = cls(*(np.ascontiguousarray(arrays[name], float) for name in _NAMES))
        wide, count = found.directions.shape
        shapes = ((wide,), (count + 1,), (len(_NEIGHBOURS) * count + 1, count), (count,))
        own = (found.mean, found.scales, found.weights, found.errors)
        whole = tuple(one.shape for one in own) == shapes and (found.scales > 0).all()
        if not whole or not all(np.isfinite(one).all() for one in found.arrays.values()):
            raise ValueError("its arrays of states do not fit together")
        return found


_TINY: Final = 1e-12


@dataclass(frozen=True)
class _Sums:
    """Sums over tokens that a regression needs."""

    squares: Floats  # (R, R) of the regressors
    products: Floats  # (R, D)
    targets: Floats  # (D,) squares
    count: Floats

    @classmethod
    def of(cls, z: Floats) -> _Sums:
        given = _neighbours(z)
        return cls(given.T @ given, given.T @ z, (z**2).sum(0), np.array(float(len(z))))

    def __iter__(self) -> Iterator[Floats]:
        return iter((self.squares, self.products, self.targets, self.count))

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(one + two for one, two in zip(self, other, strict=True)))

    def __sub__(self, other: _Sums) -> _Sums:
        return _Sums(*(one - two for one, two in zip(self, other, strict=True)))

    def solved(self) -> tuple[Floats, Floats]:
        """The weights, and the standard deviation of the error of each coordinate."""
        penalty = _PENALTY * np.diag(np.diag(self.squares)) + 1e-9 * np.eye(len(self.squares))
        weights = np.asarray(np.linalg.solve(self.squares + penalty, self.products), float)
        left = self.targets - 2 * (weights * self.products).sum(0)
        left += (weights * (self.squares @ weights)).sum(0)
        errors: Floats = np.sqrt(np.maximum(left / max(float(self.count), 1.0), 1e-6))
        return weights, errors


def _neighbours(z: Floats) -> Floats:
    """(tokens, 4 D + 1): the coordinates of two tokens on each side, zeros outside, and a 1."""
    count, edge = len(z), max(_NEIGHBOURS)
    padded = np.pad(z, ((edge, edge), (0, 0)))
    sides = [padded[edge + step : edge + step + count] for step in _NEIGHBOURS]
    return np.hstack([*sides, np.ones((count, 1))])


def _basis(texts: Sequence[npt.NDArray[Any]]) -> tuple[Floats, Floats, Floats]:
    """Mean, principal directions, and the standard deviations along them and in the rest.

    The directions are those of at most 2,048 tokens, evenly spaced; the rest is of all.
    """
    count = sum(map(len, texts))
    mean = np.sum([one.sum(0, dtype=float) for one in texts], axis=0) / count
    some = np.concatenate(texts)[:: -(-count // _BASIS_TOKENS)].astype(float) - mean
    _, singular, rows = np.linalg.svd(some, full_matrices=False)
    kept = max(1, min(_DIRECTIONS, int((singular > 1e-6 * max(singular[0], _TINY)).sum())))
    directions = rows[:kept].T
    inside, whole = np.zeros(kept), 0.0
    for one in texts:
        away = one.astype(float) - mean
        inside += ((away @ directions) ** 2).sum(0)
        whole += float((away**2).sum())
    rest = max(whole - float(inside.sum()), 0.0) / max(len(mean) - kept, 1) / count
    average = max(whole / count / len(mean), _TINY)
    scales = [*np.maximum(inside / count, 1e-6 * average), max(rest, 1e-3 * average)]
    return mean, directions, np.sqrt(scales)
