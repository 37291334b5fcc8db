"""A function of yours as a judge, in this process: questions or messages in, answers out."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, Final

from siftune.curate.core.custom_file import custom_file, custom_thing, register
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import code_of
from siftune.curate.core.user_file import failures
from siftune.curate.files.atomic import digest_of
from siftune.curate.judge_calls.types import Answer, BackendError, Question, WrongAnswerError
from siftune.curate.judging.pairs import TIE

__all__ = ["Scripted"]

_GIVEN: Final = ("questions", "question", "messages")
_HUGE: Final = 1e300  # sums of such numbers are finite


@dataclass(frozen=True)
class Scripted:
    """Answers by ``function``, for tests and for recipes that run without a model.

    The name of its first parameter determines what it is given: ``messages`` (the turns of one
    question, as dicts with ``role`` and ``content``; so is any other name), ``question`` (one
    `Question`, whose ``labels`` are those asked for) or ``questions`` (a list of them). It returns
    a text, a mapping of labels to probabilities, an `Answer`, or a `BackendError`, which it may
    raise, too; for ``questions`` a list of these. An answer is kept in the cache as soon as the
    function returns. Any other error ends the run with one line that names the function. What it
    gives to a tie (C) where only A and B are asked for is shared by both, so that one function
    compares answers with and without ties.

    Options:
        function: FILE.py:NAME on the command line and in recipes, a function in Python.
    """

    function: str | Callable[..., Any]

    def __post_init__(self) -> None:
        _ = self._function

    @property
    def one_by_one(self) -> bool:
        """Whether a call of the function is about one question, so that its answer is kept at once.

        One that takes a list of them gets all of a batch.
        """
        return self._given != "questions"

    @cached_property
    def identity(self) -> str:
        """Name and code of the function, with that of the modules beside its file."""
        code = digest_of(code_of("curate.judges", self._name))
        return f"scripted {self._name.rpartition(':')[2]} {code}"

    def answer(self, questions: Sequence[Question]) -> list[Answer | BackendError]:
        """One answer, or the failure, for each question, in order.

        Raises:
            UsageError: the function fails, or returns something else than answers.
        """
        if self._given != "questions":
            return [self._read(self._call(self._one(one), one), one) for one in questions]
        found = self._call(list(questions))
        if isinstance(found, BackendError):
            return [found] * len(questions)
        if not isinstance(found, list | tuple) or len(found) != len(questions):
            count = f"{len(found):,}" if isinstance(found, list | tuple) else type(found).__name__
            raise UsageError(
                f"{self._name}: expected a list of {len(questions):,} answers, got {count}"
            )
        return [self._read(one, asked) for one, asked in zip(found, questions, strict=True)]

    def _one(self, question: Question) -> Any:
        if self._given == "question":
            return question
        return [{"role": role, "content": text} for role, text in question.messages]

    def _call(self, given: Any, question: Question | None = None) -> Any:
        try:
            with failures(self._name, custom_file(self._name)):
                try:
                    return self._function(given)
                except BackendError as error:
                    return error
        except UsageError as error:
            told = str(error)
            named = told if told.startswith(self._name) else f"{self._name}: {told}"
            if question is None:
                raise UsageError(named) from error
            raise WrongAnswerError(named, question) from error

    def _read(self, found: Any, question: Question) -> Answer | BackendError:
        if isinstance(found, Answer | BackendError):
            return found
        if isinstance(found, str):
            return Answer(found)
        if isinstance(found, Mapping):
            return Answer(probabilities=self._shares(found, question))
        raise WrongAnswerError(
            f"{self._name}: expected a text, probabilities of labels, an Answer or a BackendError, "
            f"got {type(found).__name__}",
            question,
        )

    def _shares(self, found: Mapping[str, Any], question: Question) -> dict[str, float]:
        """Probabilities in the order of the labels, divided by their sum."""
        labels = question.labels
        known = {*labels, TIE} if labels == ("A", "B") else {*labels}
        usual = all(issubclass(type(one), Real) and 0 <= one < _HUGE for one in found.values())
        if not found.keys() <= known or not usual or not any(found.values()):
            expected = ", ".join(labels) or "no label"
            raise WrongAnswerError(
                f"{self._name}: expected probabilities of {expected}, got {dict(found)}; one has "
                "to be above 0, none below",
                question,
            )
        tie = float(found.get(TIE, 0.0)) if labels == ("A", "B") else 0.0
        shares = {label: float(found.get(label, 0.0)) + tie / 2 for label in labels}
        total = math.fsum(shares.values())
        return {label: share / total for label, share in shares.items()}

    @cached_property
    def _name(self) -> str:
        return self.function if isinstance(self.function, str) else register(self.function)

    @cached_property
    def _function(self) -> Callable[..., Any]:
        shown = self._name.removeprefix("python:")
        found = custom_thing(self._name) if isinstance(self.function, str) else self.function
        if isinstance(found, type):
            if "__call__" not in dir(found):
                raise UsageError(f"{shown}: expected a function, got a class without __call__")
            with failures(self._name, custom_file(self._name)):
                found = found()
        if not callable(found):
            raise UsageError(f"{shown}: expected a function, got {found!r}")
        if any(map(inspect.iscoroutinefunction, (found, type(found).__call__))):
            raise UsageError(f"{shown}: expected a function, got one of async def: use def")
        called: Callable[..., Any] = found
        return called

    @cached_property
    def _given(self) -> str:
        """What the function is given, by the name of its first parameter."""
        first = next(iter(inspect.signature(self._function).parameters), "")
        return first if first in _GIVEN else "messages"
