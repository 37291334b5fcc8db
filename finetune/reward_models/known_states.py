"""Distance of an answer from those that a reward model was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_stats.intervals import Floats
from siftune.finetune.reward_models.token_bigrams import TokenBigrams
from siftune.finetune.reward_models.token_states import TokenStates

__all__ = ["FILE", "KnownAnswers", "distance_of", "load_known_states"]

FILE: Final = "known_states.safetensors"
"""Beside a reward model's weights: what `KnownAnswers` holds."""
_LEAST: Final = 20
_FOLDS: Final = 5
_NUMBERS: Final = ("mean", "between", "within", "usual")
_QUANTILE: Final = 0.99
States = npt.NDArray[Any]


@dataclass(frozen=True)
class KnownAnswers:
    """Four numbers of an answer, each in units of what is usual: the largest is the distance.

    Each is a mean over the answer's n tokens: surprise and order of its ids (`TokenBigrams`), and
    how far its states are and how badly their neighbours predict them (`TokenStates`). The first
    and the third are large in another language, the second and the fourth for words in disorder.
    With m the mean of one of them

        z = (m - μ) / √(B + W / n) / q

    where B is the variance of answers and W that of tokens within one (random effects), so that a
    short answer, whose mean is noisy, is no farther than a long one; q is the 99 % quantile of
    (m - μ) / √(B + W / n). All are those of training answers under counts and a regression without
    their prompts (five folds). The distance is log (1 + eᶻ) / log (1 + e) of the largest z, which
    is positive, about 0.7 for a usual answer and 1 at the border.

    ``threshold`` is the distance that at most 1 % of new answers of the training's kind exceed in
    expectation: a quantile over held-out answers, which have no part in anything else (split
    conformal prediction, Vovk et al. 2005). As it is one of the largest z, it holds for all four
    together.
    """

    bigrams: TokenBigrams
    states: TokenStates
    mean: Floats  # (4,) μ
    between: Floats  # (4,) B
    within: Floats  # (4,) W
    usual: Floats  # (4,) q
    threshold: float = math.inf
    false_flags: float = 0.0  # expected share of answers like the held-out ones above it

    @classmethod
    def fit(
        cls,
        ids: Sequence[Sequence[int]],
        states: Sequence[States],
        prompts: Sequence[str],
        vocabulary: int,
    ) -> KnownAnswers:
        """Fit to ids of answers to ``prompts``, and to the states (tokens, H) of the first of them.

        It has no threshold yet, see `with_threshold`.

        Raises:
            UsageError: fewer than 20 answers have states, or they are to fewer than 5 prompts.
        """
        some = set(prompts[: len(states)])
        if len(states) < _LEAST or len(some) < _FOLDS:
            raise UsageError(
                f"expected {_LEAST} training answers to {_FOLDS} prompts at least, got "
                f"{len(states)} to {len(some)}"
            )
        of = {prompt: at % _FOLDS for at, prompt in enumerate(sorted(some))}
        folds = [of.get(prompt, -1) for prompt in prompts]
        of_states, *without = TokenStates.fit(states, folds[: len(states)])
        others = [
            TokenBigrams.fit(
                [one for one, own in zip(ids, folds, strict=True) if own != fold], vocabulary
            )
            for fold in range(_FOLDS)
        ]
        values = [
            _values(others[fold], without[fold], one, state)
            for one, state, fold in zip(ids, states, folds, strict=False)
        ]
        counts = np.array([len(one) for one in values])
        means = np.array([one.mean(0) for one in values])
        mean, between, within = _effects(values, means, counts)
        z = (means - mean) / np.sqrt(between + within / counts[:, None])
        usual = np.maximum(np.quantile(z, _QUANTILE, axis=0), 1.0)
        four = np.array([mean, between, within, usual], np.float32).astype(float)
        return cls(TokenBigrams.fit(ids, vocabulary), of_states, four[0], four[1], four[2], four[3])

    def with_threshold(
        self, held_out: Sequence[float], quantile: float = _QUANTILE
    ) -> KnownAnswers:
        """The same with a threshold, from the distances of held-out answers.

        With fewer than ``1 / (1 - quantile)`` of them it is their largest.

        Raises:
            UsageError: there are fewer than 20.
        """
        if len(held_out) < _LEAST:
            raise UsageError(f"expected {_LEAST} held-out answers at least, got {len(held_out)}")
        rank = min(len(held_out), math.ceil((len(held_out) + 1) * quantile))
        threshold = float(np.sort(held_out)[rank - 1])
        return replace(self, threshold=threshold, false_flags=1 - rank / (len(held_out) + 1))

    def distance(self, ids: Sequence[int], states: States) -> float:
        """The distance of an answer with token ``ids`` and their ``states``; nan without tokens."""
        if not len(ids):
            return math.nan
        return float(distance_of(self.parts(ids, states)))

    def parts(self, ids: Sequence[int], states: States) -> Floats:
        """(4,): z of the surprise, the order, the states' distance, and their neighbours."""
        means = _values(self.bigrams, self.states, ids, states).mean(0)
        found: Floats = (means - self.mean) / np.sqrt(self.between + self.within / len(ids))
        return found / self.usual

    def is_unknown(self, distances: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each distance is above the threshold."""
        return np.asarray(distances, float) > self.threshold

    def save(self, folder: Path) -> None:
        """Write the file beside a model."""
        from safetensors.numpy import save_file

        own = {name: getattr(self, name).astype(np.float32) for name in _NUMBERS}
        limits = {"limits": np.array([self.threshold, self.false_flags])}
        held = own | limits | _named("bigrams", self.bigrams) | _named("states", self.states)
        save_file({k: np.ascontiguousarray(v) for k, v in held.items()}, folder / FILE)


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
        held = load_file(path)
        bigrams = TokenBigrams.of(_part(held, "bigrams"))
        states = TokenStates.of(_part(held, "states"))
        numbers = [held[name].astype(float) for name in _NUMBERS]
        if any(one.shape != (4,) or not np.isfinite(one).all() for one in numbers):
            raise ValueError("its numbers do not fit together")
        mean, between, within, usual = numbers
        threshold, flags = map(float, held["limits"])
    except (KeyError, ValueError, OSError, SafetensorError) as error:
        raise UsageError(
            f"{path} is damaged or of an older version ({error}): train the reward model again"
        ) from None
    return KnownAnswers(bigrams, states, mean, between, within, usual, threshold, flags)


def distance_of(parts: npt.ArrayLike) -> Floats:
    """The distances (...,) of `KnownAnswers.parts` (..., 4)."""
    found: Floats = np.logaddexp(0, np.max(parts, axis=-1)) / np.logaddexp(0, 1)
    return found


def _named(part: str, kept: TokenBigrams | TokenStates) -> dict[str, Any]:
    return {f"{part}_{name}": value for name, value in kept.arrays.items()}


def _part(held: Mapping[str, Any], part: str) -> dict[str, Any]:
    start = f"{part}_"
    return {k.removeprefix(start): value for k, value in held.items() if k.startswith(start)}


def _values(bigrams: TokenBigrams, of: TokenStates, ids: Sequence[int], states: States) -> Floats:
    """(tokens, 4): the numbers of each token."""
    return np.hstack([bigrams.values(ids), of.values(states)])


def _effects(
    values: Sequence[Floats], means: Floats, counts: npt.NDArray[Any]
) -> tuple[Floats, Floats, Floats]:
    """The mean of answers, their variance without that of their tokens, and the latter (4,)."""
    inside = sum((((one - one.mean(0)) ** 2).sum(0) for one in values), np.zeros(means.shape[1]))
    within = inside / max((counts - 1).sum(), 1)
    spread = means.var(0)
    between = np.maximum(spread - within * (1 / counts).mean(), 1e-3 * spread + 1e-9)
    return means.mean(0), between, within
