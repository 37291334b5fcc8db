"""The questions of one item on their way to a verdict: parse, ask again, combine; no input/output.

`engine` and `server_calls` send what is asked here, to a model in this process or to a server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Final

from siftune.curate.core.terminal import one_line
from siftune.curate.judge_calls.echoes import DATA_HAS_VERDICTS
from siftune.curate.judge_calls.types import (
    Answer,
    BackendError,
    Item,
    Question,
    Task,
    UnjudgeableError,
    UnparsedError,
    Verdict,
)

__all__ = ["Asking", "ItemAsking", "Outcome", "summed"]

_QUOTED: Final = 2_000  # characters of an unparsed answer that are sent back
_DETAIL: Final = 300
_THINK: Final = "<think>"
_END: Final = "</think>"


@dataclass(frozen=True)
class Outcome:
    """The answer to one question, or the error; the calls that it took and what they cost.

    ``elsewhere``: another run with this cache asked the same at the same time, and was first.
    """

    answer: Answer | None = None
    error: BackendError | None = None
    asked: int = 0
    cached: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    elsewhere: bool = False

    def shared(self) -> Outcome:
        """The same for one who asked the same meanwhile, and pays nothing."""
        return Outcome(self.answer, self.error, cached=1 if self.answer else 0)


def summed(before: Outcome, last: Outcome) -> Outcome:
    """The last outcome of a question, with the calls and the cost of those before it."""
    return replace(
        last,
        asked=before.asked + last.asked,
        failed=before.failed + last.failed,
        input_tokens=before.input_tokens + last.input_tokens,
        output_tokens=before.output_tokens + last.output_tokens,
        cost=before.cost + last.cost,
    )


@dataclass
class Asking:
    """One question of an item: the text to send now, and the outcomes so far."""

    task: Task
    item: Item
    number: int
    question: Question
    ask_again: int
    attempt: int = 0
    parsed: Any = None
    error: str | None = None
    detail: str = ""
    outcomes: list[Outcome] = field(default_factory=list)

    def settle(self, outcome: Outcome) -> bool:
        """Parse an outcome; False where ``question`` is now one that has to be asked, too."""
        self.outcomes.append(outcome)
        if outcome.error is not None:
            return self._failed(outcome.error.reason, outcome.error.detail)
        answer = outcome.answer or Answer()
        try:
            answer = _without_thoughts(answer)
            self.parsed = self.task.parse(self.item, self.number, answer)
        except UnparsedError as error:
            hopeless = error.reason == DATA_HAS_VERDICTS or self.attempt >= self.ask_again
            if hopeless or answer.text is None:
                return self._failed(error.reason, str(error))
            self._extend(answer.text, str(error))
            return False
        return True

    def _failed(self, reason: str, detail: str) -> bool:
        self.error = reason
        self.detail = one_line(detail)[:_DETAIL]
        return True

    def _extend(self, text: str, expected: str) -> None:
        """Add the answer, and what was expected, to the conversation."""
        self.attempt += 1
        wrong = f"That answer cannot be used: {expected}. Answer again in the form asked for."
        turns = (("assistant", text[:_QUOTED] or "(no answer)"), ("user", wrong))
        self.question = replace(self.question, messages=(*self.question.messages, *turns))


def _without_thoughts(answer: Answer) -> Answer:
    r"""An answer without the reasoning that it begins with.

    >>> _without_thoughts(Answer("<think>\nA or B?\n</think>\n\nA")).text
    'A'

    Raises:
        UnparsedError: the reasoning has no end.
    """
    text = (answer.text or "").lstrip()
    if not text.startswith(_THINK):
        return answer
    _, end, rest = text.partition(_END)
    if not end:
        raise UnparsedError("expected an answer after the reasoning (extra_tokens)", "cut")
    return replace(answer, text=rest.strip())


def _refuse_without_value(task: Task, values: Mapping[str, Any] | None) -> None:
    """Refuse a verdict of a task of the user's own without a value in its first column, or NaN.

    Raises:
        UnparsedError: it has none.
    """
    first = next(iter(task.adds), None)
    if first is None:
        return
    if values is None or values.get(first) is None:
        raise UnparsedError(f"the task gave no value of {first}", "no_value")
    for name, value in values.items():
        parts = value if isinstance(value, list | tuple) else (value,)
        numbers = (one for one in parts if isinstance(one, Real) and not isinstance(one, int))
        if not all(map(math.isfinite, numbers)):
            raise UnparsedError(f"expected a finite number of {name}, got {value}", "no_value")


class ItemAsking:
    """The questions of one item, and its verdict once each of them has ended."""

    def __init__(self, task: Task, item: Item, ask_again: int) -> None:
        self.task = task
        self.item = item
        self.askings: list[Asking] = []
        self.error, self.detail = "", ""
        if task.answers is not None and len(item.answers) != task.answers:
            self.error = "wrong_number_of_answers"
            self.detail = f"expected {task.answers}, got {len(item.answers)}"
            return
        try:
            questions = task.questions(item)
        except UnjudgeableError as nothing:
            self.error, self.detail = nothing.reason, one_line(str(nothing))[:_DETAIL]
            return
        self.askings = [
            Asking(task, item, number, question, ask_again)
            for number, question in enumerate(questions)
        ]

    def verdict(self) -> Verdict:
        """The verdict with the sum of what its calls cost."""
        error, detail = self.error, self.detail
        for asking in self.askings:
            if not error and asking.error is not None:
                error, detail = asking.error, asking.detail
        values: Mapping[str, Any] | None = None
        if not error:
            parsed: Sequence[Any] = [asking.parsed for asking in self.askings]
            try:
                values = self.task.verdict(self.item, parsed)
                _refuse_without_value(self.task, values)
            except UnparsedError as refused:  # answers that do not go together, or give nothing
                values, error, detail = None, refused.reason, one_line(str(refused))[:_DETAIL]
        outcomes = [outcome for asking in self.askings for outcome in asking.outcomes]
        return Verdict(
            values,
            error or None,
            detail,
            input_tokens=sum(outcome.input_tokens for outcome in outcomes),
            output_tokens=sum(outcome.output_tokens for outcome in outcomes),
            cost=sum(outcome.cost for outcome in outcomes),
            asked=sum(outcome.asked for outcome in outcomes),
            cached=sum(outcome.cached for outcome in outcomes),
            answers=tuple(one.answer for one in outcomes if one.answer is not None),
        )
