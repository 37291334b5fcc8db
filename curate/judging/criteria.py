"""Criteria of an answer, each judged or checked by code: the shape of checklists and rubrics."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import polars as pl

from siftune.curate.judge_calls.fence import Section
from siftune.curate.judge_calls.types import Answer, Item, Question, UnjudgeableError
from siftune.curate.judging.parsing import distribution, label
from siftune.curate.judging.prompt import Prompt
from siftune.curate.judging.rating import Rating, answered
from siftune.curate.text.words import count_words

__all__ = [
    "CHECKS",
    "WEIGHTS",
    "CriteriaJudge",
    "Criterion",
    "Given",
    "criteria_of",
    "item_criteria",
    "weighted_mean",
]

Given: TypeAlias = Sequence[str | Mapping[str, Any]]
"""Criteria as users write them: texts, or mappings of ``text``, ``weight`` and ``check``."""

WEIGHTS: Final[Mapping[str, float]] = {
    "essential": 1.0,
    "important": 0.7,
    "optional": 0.3,
    "pitfall": 0.9,
}
"""Words for weights, with their values in Rubrics as Rewards, arXiv:2507.17746."""


_NO_WEIGHT: Final = 1e12  # sums of such weights are finite, and keep their least digits


@dataclass(frozen=True)
class Criterion:
    """One demand on an answer; ``check`` is the code that decides it, None leaves it to the judge.

    A check is ``NAME: VALUE``, such as ``max_words: 50``, ``contains: exact phrase`` or ``json``.
    """

    text: str
    weight: float = 1.0
    check: str | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("expected a criterion with a text, got an empty one")
        if not abs(self.weight) < _NO_WEIGHT:  # NaN fails, too
            raise ValueError(f"expected a weight below {_NO_WEIGHT:g}, got {self.weight:g}")
        if self.check is not None:
            _check(self.check)

    def passes(self, answer: str) -> bool:
        """Whether the check holds for the answer."""
        return _check(self.check or "")(answer)


def _words(text: str) -> int:
    return int(pl.select(count_words(pl.lit(text))).item())


def _is_json(text: str) -> bool:
    with suppress(ValueError, RecursionError):
        json.loads(text)
        return True
    return False


_COUNT: Final = re.compile(r"[0-9]{1,9}")
_TEXT_CHECKS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "contains": lambda answer, phrase: phrase in answer,
    "excludes": lambda answer, phrase: phrase not in answer,
    "starts_with": lambda answer, phrase: answer.strip().startswith(phrase),
    "ends_with": lambda answer, phrase: answer.strip().endswith(phrase),
}
_COUNT_CHECKS: Final[Mapping[str, Callable[[str, int], bool]]] = {
    "min_words": lambda answer, count: _words(answer) >= count,
    "max_words": lambda answer, count: _words(answer) <= count,
    "min_chars": lambda answer, count: len(answer.strip()) >= count,
    "max_chars": lambda answer, count: len(answer.strip()) <= count,
    "lines": lambda answer, count: sum(map(bool, map(str.strip, answer.split("\n")))) == count,
}
CHECKS: Final = ", ".join([*(f"{name}: VALUE" for name in (*_TEXT_CHECKS, *_COUNT_CHECKS)), "json"])
"""Every check, for a prompt or a message."""


def _check(text: str) -> Callable[[str], bool]:
    """The check that a text names.

    Raises:
        ValueError: there is none.
    """
    name, _, value = (part.strip() for part in text.partition(":"))
    if name == "json" and not value:
        return _is_json
    if name in _TEXT_CHECKS and value:
        return lambda answer: _TEXT_CHECKS[name](answer, value)
    if name in _COUNT_CHECKS and _COUNT.fullmatch(value):
        return lambda answer: _COUNT_CHECKS[name](answer, int(value))
    raise ValueError(f"no check is called {text!r}; expected one of {CHECKS}")


def criteria_of(given: Any) -> tuple[Criterion, ...]:
    """Criteria from a list of texts or mappings, or from its JSON.

    >>> criteria_of(["polite", {"text": "short", "weight": "optional", "check": "max_words: 9"}])[1]
    Criterion(text='short', weight=0.3, check='max_words: 9')

    Raises:
        ValueError: it is no such list; the text is one line.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise ValueError("expected a list of criteria, or its JSON, got a text") from None
    if not isinstance(given, list | tuple):
        raise ValueError(f"expected a list of criteria, got {type(given).__name__}")
    return tuple(map(_criterion, given))


def _criterion(given: Any) -> Criterion:
    if isinstance(given, str):
        return Criterion(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("text"), str):
        raise ValueError("expected a criterion as a text, or a mapping with a text")
    if unknown := given.keys() - {"text", "weight", "check"}:
        raise ValueError(f"a criterion has text, weight and check, not {min(unknown)!r}")
    weight = given.get("weight")
    weight = 1.0 if weight is None else weight
    weight = WEIGHTS.get(weight, weight) if isinstance(weight, str) else weight
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ValueError(f"expected a weight as a number or one of {', '.join(WEIGHTS)}")
    if not abs(weight) < _NO_WEIGHT:  # a whole number may be none of 64 bits
        raise ValueError(f"expected a weight below {_NO_WEIGHT:g}")
    check = given.get("check")
    if check is not None and not isinstance(check, str):
        raise ValueError("expected a check as a text")
    return Criterion(given["text"], float(weight), check)


def weighted_mean(criteria: Sequence[Criterion], scores: Sequence[float]) -> float:
    """``sum of w * s`` by the sum of weights.

    >>> weighted_mean([Criterion("a", 3), Criterion("b")], [1, 0])
    0.75
    """
    total = math.fsum(one.weight for one in criteria)
    return math.fsum(w.weight * s for w, s in zip(criteria, scores, strict=True)) / total


_YES_NO: Final = "Reply with one word only: Yes or No."
_PERCENT: Final = "Reply with the score only: a number from 0 (not at all) to 100 (completely)."


@dataclass(frozen=True)
class CriteriaJudge:
    """One question for each criterion that code does not check: Yes or No, or 0 to 100.

    ``percent`` takes the second; both end as 0 to 1. A Yes with a probability is that probability.
    The criterion is data, too, as a judge may have written it: it is in a fence of its own.
    """

    name: str
    rubric: str
    max_chars: int | None
    percent: bool = False

    @property
    def _prompt(self) -> Prompt:
        return Prompt(
            self.name,
            self.rubric,
            _PERCENT if self.percent else _YES_NO,
            labels=() if self.percent else ("Yes", "No"),
            max_chars=self.max_chars,
        )

    def questions(self, item: Item, criteria: Sequence[Criterion]) -> list[Question]:
        """The questions about the criteria that are left to the judge."""
        return [self._ask(self._sections(item, one)) for one in _judged(criteria)]

    def _ask(self, sections: Sequence[Section]) -> Question:
        prompt = Rating(self._prompt, 0, 100) if self.percent else self._prompt
        return prompt.question(sections)

    def _sections(self, item: Item, criterion: Criterion) -> list[Section]:
        return [*answered(item), ("criterion", criterion.text)]

    def parse(
        self, item: Item, criteria: Sequence[Criterion], question: int, answer: Answer
    ) -> float:
        """The score of the criterion of a question, 0 to 1."""
        sections = self._sections(item, _judged(criteria)[question])
        if self.percent:
            return Rating(self._prompt, 0, 100).score(answer, sections) / 100
        probabilities = distribution(self._prompt, answer)
        if probabilities is not None:
            return probabilities["Yes"]
        return float(label(self._prompt, answer, sections, "alone") == "Yes")

    def scores(
        self, item: Item, criteria: Sequence[Criterion], parsed: Sequence[float]
    ) -> list[float]:
        """The scores of all criteria, in order: of the judge, and of the code that checks."""
        given = iter(parsed)
        answer = item.answers[0]
        return [next(given) if one.check is None else float(one.passes(answer)) for one in criteria]


def _judged(criteria: Sequence[Criterion]) -> list[Criterion]:
    return [one for one in criteria if one.check is None]


def item_criteria(item: Item, column: str, option: Sequence[Criterion]) -> Sequence[Criterion]:
    """The criteria of the option, or else those in the ``column`` that the user gave to the task.

    A field of the raw row is never read: whoever wrote the answer could set its own criteria.

    Raises:
        UnjudgeableError: there are none, or their weights do not sum to more than 0.
    """
    own = item.given.get(column)
    try:
        criteria = option if option or own is None else criteria_of(own)
    except ValueError as error:
        raise UnjudgeableError("bad_criteria", f"{column}: {error}") from None
    if not criteria:
        raise UnjudgeableError(
            "no_criteria", f"expected given: {{{column}: COLUMN}}, or the option of criteria"
        )
    weights = [one.weight for one in criteria]
    if min(weights) < 0 or max(weights) == 0:
        raise UnjudgeableError(
            "bad_criteria", f"{column}: expected weights of 0 or more, not all 0"
        )
    return criteria
