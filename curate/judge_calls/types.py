"""Shapes of an LLM judge: an item, a question about it, an answer, a verdict; tasks and backends.

A task turns an item (one row) into questions, parses the answers, and combines what was parsed
into one verdict. A backend answers questions. The engine between them (`judge_calls.engine`) asks,
retries, caches and counts; it knows nothing of prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Final, Protocol, TypeAlias

import polars as pl

from siftune.curate.core.errors import UsageError

__all__ = [
    "Answer",
    "AsyncBackend",
    "Backend",
    "BackendError",
    "Item",
    "Message",
    "Question",
    "Task",
    "UnjudgeableError",
    "UnparsedError",
    "Verdict",
    "WrongAnswerError",
    "identity_of",
]

_MOST: Final = 10**15  # a million dollars
_BEGINNING: Final = 60  # characters of a row that messages quote

Message: TypeAlias = tuple[str, str]
"""Role (system, user, assistant) and text of one chat turn."""


@dataclass(frozen=True)
class Item:
    """What is judged: a prompt and its answers.

    ``answers`` is empty for a prompt alone, one text for a conversation, two (chosen, rejected)
    for a pair, several for a ranked list. ``extra`` holds further columns that a task reads, such
    as a critique: they are data, as the row is. ``given`` are those of columns that the user
    named. ``original`` is the item in whose place this one is asked about, without its content.
    """

    prompt: tuple[Message, ...]
    answers: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    original: Item | None = None

    @property
    def place(self) -> str:
        """The row in a message: by the id that it has of its own, and how it begins."""
        turns = (
            text[: 4 * _BEGINNING] for text in (*(text for _, text in self.prompt), *self.answers)
        )
        begins = " ".join(next((text for text in turns if text.strip()), "").split())[:_BEGINNING]
        own = self.extra.get("id")
        named = f"row {own!r}, which" if isinstance(own, str | int) else "the row that"
        return f"{named} begins {begins!r}"


@dataclass(frozen=True)
class Question:
    """One call of a judge.

    ``labels`` are the answers that the parser looks for, each meant to be a single token: a backend
    that reads probabilities answers with those of the labels, one that writes text ignores them.
    ``prefix`` is not empty where a written answer reasons first and ends with the label: a local
    model that reads probabilities starts its own turn with the prefix; on a server, which cannot,
    those of the first token mean nothing. ``max_tokens`` 0 asks for no text but for the score that
    a classifier gives to the messages. ``version`` names the rubric and its parser; a change asks
    again.
    """

    messages: tuple[Message, ...]
    labels: tuple[str, ...] = ()
    max_tokens: int = 256
    temperature: float = 0.0
    version: str = ""
    prefix: str = ""


@dataclass(frozen=True)
class Answer:
    """What a backend answered: a text, or probabilities of the question's labels, or both.

    ``probabilities`` sum to 1 over the labels; ``label_mass`` is what all labels together had
    of the probability of all tokens, 0 to 1, None where the backend has none. ``cost`` is
    in billionths of a dollar, None where the backend does not state one (the engine then prices
    the tokens). ``truncated``: the limit of tokens ended the text, so that its last word or
    number may be cut; where the backend does not state it (None), where there are as many tokens as
    the question's limit.
    """

    text: str | None = None
    probabilities: Mapping[str, float] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: int | None = None
    truncated: bool | None = None
    label_mass: float | None = None

    def __post_init__(self) -> None:
        """Refuse what a function or backend of the user's cannot have meant.

        Raises:
            UsageError: the text is none, probabilities are no numbers by label, or tokens or cost
                are no whole number from 0 on.
        """
        if self.text is not None and not isinstance(self.text, str):
            raise UsageError(f"Answer text: expected a text, got {type(self.text).__name__}")
        if self.label_mass is not None and not isinstance(self.label_mass, Real):
            raise UsageError(f"Answer label_mass: expected a number, got {self.label_mass!r}")
        self._check_probabilities()
        for name in ("input_tokens", "output_tokens", "cost"):
            value = getattr(self, name)
            if value is not None and not (type(value) is int and 0 <= value < _MOST):
                unit = "billionths of a dollar, " if name == "cost" else ""
                raise UsageError(
                    f"Answer {name}: expected {unit}a whole number from 0 to 10^15, got {value!r}"
                )

    def _check_probabilities(self) -> None:
        given = self.probabilities
        if given is None:
            return
        if not isinstance(given, Mapping):
            raise UsageError(
                f"Answer probabilities: expected a mapping of labels, got {type(given).__name__}"
            )
        for label, value in given.items():
            if not isinstance(label, str) or not isinstance(value, Real):
                raise UsageError(
                    "Answer probabilities: expected a number for each label, got "
                    f"{value!r} for {label!r}"
                )


@dataclass(frozen=True)
class Verdict:
    """The outcome for one item: the task's columns, or the reason why there are none.

    A verdict with an ``error`` (short snake_case) has no values: nothing is defaulted; ``detail``
    is one line on it without secrets. ``asked`` counts the calls that were sent for it, ``cached``
    the answers that were taken from the cache. ``answers`` are all that it is based on, those that
    could not be parsed too, whichever run paid for them: they are the same in every run.
    """

    values: Mapping[str, Any] | None
    error: str | None = None
    detail: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0  # billionths of a dollar
    asked: int = 0
    cached: int = 0
    answers: tuple[Answer, ...] = ()


class BackendError(Exception):
    """A call that failed: ``reason`` is short snake_case, ``detail`` one line without secrets.

    ``retry_after`` is in seconds, None where the server named none. A ``permanent`` failure is not
    tried again. ``billed`` holds the tokens or the cost of a failed call that was billed;
    ``maybe_billed``: the call was sent, and whether it will be billed is not known.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        permanent: bool = False,
        retry_after: float | None = None,
        billed: Answer | None = None,
        maybe_billed: bool = False,
    ) -> None:
        if not isinstance(reason, str):
            raise UsageError(f"BackendError: expected the reason as a text, got {reason!r}")
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.permanent = permanent
        self.retry_after = retry_after
        self.billed = billed
        self.maybe_billed = maybe_billed


class WrongAnswerError(UsageError):
    """A judge of the user's own failed, or gave no answer, when asked ``question``."""

    def __init__(self, text: str, question: Question) -> None:
        super().__init__(text)
        self.question = question


class UnparsedError(Exception):
    """An answer that holds no verdict; the text is what was expected, and is sent back to ask.

    ``reason`` is short snake_case: unparsed, out_of_range, refused, or cut (at the token limit).
    """

    def __init__(self, expected: str, reason: str = "unparsed") -> None:
        super().__init__(expected)
        self.reason = reason


class UnjudgeableError(Exception):
    """An item that a task has no question about; ``reason`` is short snake_case: no_answer ..."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Task(Protocol):
    """A rubric: one file with its prompt and its parser.

    ``answers`` is the number of answers that an item must have (None: any), ``adds`` the columns of
    a verdict with their types, without a prefix.
    """

    @property
    def answers(self) -> int | None:
        """How many answers an item has; None is any number."""

    @property
    def adds(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """Columns of a verdict and their types."""

    def questions(self, item: Item) -> Sequence[Question]:
        """The calls for one item; none where `verdict` needs none, as all is checked by code.

        Raises:
            UnjudgeableError: the item has nothing to judge, which is an error row.
        """

    def parse(self, item: Item, question: int, answer: Answer) -> Any:
        """The verdict in the answer to the ``question``-th of `questions`.

        Raises:
            UnparsedError: it holds nothing that the rubric asks for.
        """

    def verdict(self, item: Item, parsed: Sequence[Any]) -> Mapping[str, Any]:
        """The values of ``adds`` from the parsed answers of the item."""


class Backend(Protocol):
    """Answers questions in batches, such as a model in this process.

    ``identity`` is part of the cache's key: the model with what decides its answers, such as the
    hash of its weights.
    """

    @property
    def identity(self) -> str:
        """Which model answers, with all that its answers depend on."""

    def answer(self, questions: Sequence[Question]) -> Sequence[Answer | BackendError]:
        """One answer, or the failure, for each question, in order."""


class AsyncBackend(Protocol):
    """Answers one question at a time, many of them at once, such as a server."""

    @property
    def identity(self) -> str:
        """Which model answers, with all that its answers depend on."""

    async def ask(self, question: Question) -> Answer:
        """The answer.

        Raises:
            BackendError: none came.
        """

    async def close(self) -> None:
        """Close connections."""


def identity_of(backend: Backend | AsyncBackend) -> str:
    """What the cache calls the model that answers.

    Raises:
        UsageError: a backend of the user's own has no text for it.
    """
    identity: Any = backend.identity
    if not isinstance(identity, str) or not identity:
        raise UsageError(
            f"{type(backend).__name__}.identity: expected a text that names the model and all that "
            f"its answers depend on, got {identity!r}"
        )
    return identity
