"""One step of a run as means: of answers, their rewards, and what the reward pays for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from siftune.finetune.core.scored import FACTS
from siftune.finetune.watch.answer_features import StartingAnswers, features, words_of
from siftune.finetune.watch.history import mean_point
from siftune.finetune.watch.phrases import PhraseSearch

__all__ = ["Answered", "Observer", "correlation"]

Floats = npt.NDArray[np.float64]
_Means = dict[str, tuple[float, float | None, int] | float | None]

_RECENT: Final = 8  # steps whose answers are kept
_NEARLY_ALL: Final = 0.95


@dataclass(frozen=True)
class Answered:
    """Answers of one step, B of them, with what was measured of each.

    ``scores`` are the reward that is trained on, None where there is none. ``columns`` may have
    ``gold`` (a score that is not trained on), ``kl`` (nats an answer), ``entropy`` (nats a token),
    ``cut``, ``refused``, and of each reward ``reward/NAME``, ``spread/NAME`` (of an ensemble) and
    ``distance/NAME`` (from the reward model's training data); None where an answer has no value.
    """

    prompts: Sequence[str]
    answers: Sequence[str]
    scores: Sequence[float | None] = ()
    columns: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


@dataclass
class Observer:
    """Turns steps into means; the answers of the first step are what later ones are compared with.

    Its whole state is the answers at the start and those of the last steps (`state`).
    """

    start: Answered | None = None
    recent: deque[Answered] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def __post_init__(self) -> None:
        """Count the answers of a state that was kept."""
        self._phrases = PhraseSearch()
        self._before: deque[list[tuple[str, str]]] = deque(maxlen=_RECENT)
        if self.start is not None:
            self._begin(self.start)
        for one in self.recent:
            self._see(one, [words_of(answer) for answer in one.answers], _scores(one))

    def _begin(self, answered: Answered) -> None:
        self.start = answered
        self._text = StartingAnswers(answered.prompts, answered.answers)
        self._phrases.begin([words_of(answer) for answer in answered.answers])
        self._limits = {name: _far(values) for name, values in _facts(answered).items()}

    def _see(self, answered: Answered, words: list[list[str]], rewards: Floats | None) -> None:
        plain = (" ".join(one) for one in words)
        self._before.append(list(zip(answered.prompts, plain, strict=True)))
        if rewards is not None:
            self._phrases.see(answered.prompts, words, within(answered.prompts, rewards))

    def __call__(self, answered: Answered) -> tuple[_Means, dict[str, str]]:
        """Means of a step with their standard errors, and the phrase that was counted."""
        if self.start is None:
            self._begin(answered)
        words = [words_of(answer) for answer in answered.answers]
        before = [pair for step in self._before for pair in step]
        shown = features(answered.prompts, answered.answers, words, self._text, before)
        for name, values in _facts(answered).items():
            limit = self._limits.get(name, np.inf)
            shown[f"high/{name}"] = [None if v is None else float(v > limit) for v in values]
        columns: dict[str, Sequence[float | None]] = {**shown, **answered.columns}
        if any(score is not None for score in answered.scores):
            columns["score"] = answered.scores
        means: _Means = {name: mean_point(values) for name, values in columns.items()}
        texts: dict[str, str] = {}
        rewards = _scores(answered)
        if rewards is not None:
            texts = self._count_phrase(words, means, shown)
            means |= _pay(answered, rewards, shown)
        self._see(answered, words, rewards)
        self.recent.append(answered)
        return {name: one for name, one in means.items() if one is not None}, texts

    def _count_phrase(
        self, words: list[list[str]], means: _Means, shown: dict[str, list[float | None]]
    ) -> dict[str, str]:
        """Share of the answers with the phrase that the steps before point to, above its start.

        Which answers have it is added to the features that are ``shown``.
        """
        phrase = self._phrases.candidate()
        if phrase is None:
            return {}
        has = self._phrases.has(words, phrase)
        shown["phrase"] = [*has]
        share, start = float(np.mean(has)), self._phrases.start_share(phrase)
        # errors of both shares, with one answer more, half of it with the phrase, as none is known
        counts = ((share, len(has)), (start, self._phrases.started))
        smoothed = [((p * n + 0.5) / (n + 1), n) for p, n in counts]
        error = float(np.sqrt(sum(p * (1 - p) / n for p, n in smoothed)))
        means["phrase"] = (share - start, error, len(has))
        return {"phrase": " ".join(phrase)}

    def state(self) -> dict[str, Any]:
        """The answers at the start and of the last steps, as JSON."""
        kept = [] if self.start is None else [self.start, *self.recent]
        return {
            "answered": [
                {
                    "prompts": [*a.prompts],
                    "answers": [*a.answers],
                    "scores": [*a.scores],
                    "columns": {name: [*values] for name, values in _facts(a).items()},
                }
                for a in kept
            ]
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Observer:
        """The observer that was in this state."""
        kept = [Answered(**one) for one in state["answered"]]
        return cls(kept[0], deque(kept[1:], maxlen=_RECENT)) if kept else cls()


def _facts(answered: Answered) -> dict[str, Sequence[float | None]]:
    """What rewards measured of answers besides: spread and distance."""
    names = tuple(f"{fact}/" for fact in FACTS)
    return {name: given for name, given in answered.columns.items() if name.startswith(names)}


def _far(values: Sequence[float | None]) -> float:
    """What nearly all at the start are below, and as much again as that is above the median."""
    known = [one for one in values if one is not None]
    if not known:
        return np.inf
    middle, most = np.quantile(known, (0.5, _NEARLY_ALL))
    return float(2 * most - middle)


def _pay(
    answered: Answered, rewards: Floats, shown: Mapping[str, Sequence[float | None]]
) -> _Means:
    """What the reward pays for each feature, and what the gold score does where there is one."""
    asked, gold = answered.prompts, answered.columns.get("gold", ())
    paid: _Means = {f"paid/{name}": correlation(asked, rewards, shown[name]) for name in shown}
    known = [at for at, one in enumerate(gold) if one is not None]
    if not known:
        return paid
    some, values = [asked[at] for at in known], np.array([gold[at] for at in known], float)
    return paid | {
        f"gold_paid/{name}": correlation(some, values, [shown[name][at] for at in known], flat=0.0)
        for name in shown
    }


def _scores(answered: Answered) -> Floats | None:
    """The rewards of all answers; None without rewards.

    An answer without a reward gets the mean, which correlates with nothing.
    """
    given = [np.nan if score is None else float(score) for score in answered.scores]
    scores = np.array(given)
    if not len(scores) or not np.isfinite(scores).any():
        return None
    return np.where(np.isfinite(scores), scores, np.nanmean(scores))


def within(prompts: Sequence[str], values: Floats | None) -> Floats:
    """Values less the mean of their prompt, or of all where each prompt has one answer."""
    if values is None:
        return np.zeros(len(prompts))
    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(prompt, len(numbers)) for prompt in prompts], dtype=int)
    if len(numbers) == len(values):
        group = np.zeros(len(values), dtype=int)
    means = np.bincount(group, weights=values) / np.bincount(group)
    return np.asarray(values - means[group])


def correlation(
    prompts: Sequence[str],
    rewards: Floats,
    values: Sequence[float | None],
    flat: float | None = None,
) -> tuple[float, float, int] | None:
    """Fisher's z of the correlation of a feature with the reward, among answers to one prompt.

    ``atanh r`` with its standard error ``1/√(n - prompts - 2)``; None where a side is constant, or
    ``flat`` for ``atanh r`` where only the reward is: a gold score that is 0 for all pays nothing.
    """
    known = [at for at, one in enumerate(values) if one is not None]
    asked = [prompts[at] for at in known]
    given = np.array([values[at] for at in known], float)
    own, paid = within(asked, given), within(asked, rewards[known])
    groups = len(set(asked))
    free = len(known) - (1 if groups == len(known) else groups) - 2
    varies = float(own @ own)
    size = varies * float(paid @ paid)
    if free < 1 or varies < 1e-18 or (size < 1e-18 and flat is None):
        return None
    if flat is not None and size < 1e-18:
        return flat, 1 / float(np.sqrt(free)), 0
    r = float(own @ paid) / float(np.sqrt(size))
    return float(np.arctanh(np.clip(r, -0.999, 0.999))), 1 / float(np.sqrt(free)), 0
