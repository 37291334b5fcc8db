"""The judge task that a name means; mistakes of one of the user's own are one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from siftune.curate.core.custom_file import custom_file, custom_thing, is_custom
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import MissingOptionError, build, checked
from siftune.curate.core.user_file import failures
from siftune.curate.judge_calls.spec import TASKS
from siftune.curate.judge_calls.types import (
    Answer,
    Item,
    Question,
    Task,
    UnjudgeableError,
    UnparsedError,
)

__all__ = ["OwnTask", "judge_task"]

_QUOTED: Final = 60  # characters of a wrong value


def judge_task(name: str, options: Mapping[str, Any]) -> Task:
    """The task of that name, or a class ``FILE.py:NAME``, with its options.

    Raises:
        UsageError: there is none, or an option does not fit.
    """
    if not is_custom(name):
        try:
            found: Task = build(TASKS, name, options)
        except MissingOptionError as error:
            raise MissingOptionError.of(name, error.option, "task_options") from None
        return found
    thing = custom_thing(name)
    lacking = [one for one in ("adds", "questions", "parse", "verdict") if not hasattr(thing, one)]
    if not isinstance(thing, type) or lacking:
        what = f"lacks {lacking[0]}" if lacking else "is no class"
        raise UsageError(f"task {name} {what}: expected adds, answers, questions, parse, verdict")
    return OwnTask(checked(thing, options, name), name)


@dataclass(frozen=True)
class OwnTask:
    """``task``, a class of the user's own called ``name`` (``FILE.py:NAME``).

    Raises:
        UsageError: one of its methods fails or gives what no task gives; the text names the method,
            the line and the row. What a task raises for a row passes as it is.
    """

    task: Task
    name: str

    def __post_init__(self) -> None:
        adds: Any = self.task.adds
        if not isinstance(adds, Mapping) or not adds or not all(map(_is_type, adds.values())):
            raise self._wrong("adds", "a mapping of columns to polars types", adds)
        count: Any = getattr(self.task, "answers", "nothing")
        if count is not None and (type(count) is not int or count < 0):
            raise self._wrong("answers", "how many answers a row has, None for any number", count)

    @property
    def answers(self) -> int | None:
        """As the task's."""
        return self.task.answers

    @property
    def adds(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """As the task's."""
        return self.task.adds

    def describe(self) -> dict[str, Any]:
        """As the task's, where it has this method."""
        found: dict[str, Any] = getattr(self.task, "describe", dict)()
        return found

    def questions(self, item: Item) -> Sequence[Question]:
        """The task's."""
        with self._named("questions", item):
            found: Any = self.task.questions(item)
        if not isinstance(found, list | tuple) or not all(isinstance(q, Question) for q in found):
            raise self._wrong("questions", "a list of Question", found, item)
        return found

    def parse(self, item: Item, question: int, answer: Answer) -> Any:
        """The task's."""
        with self._named("parse", item):
            return self.task.parse(item, question, answer)

    def verdict(self, item: Item, parsed: Sequence[Any]) -> Mapping[str, Any]:
        """The task's; None, as no verdict, passes."""
        with self._named("verdict", item):
            values = self.task.verdict(item, parsed)
        if values is not None:
            self._check(values, item)
        return values

    def _check(self, values: Any, item: Item) -> None:
        if not isinstance(values, Mapping) or not values.keys() >= self.adds.keys():
            raise self._wrong("verdict", f"values of {', '.join(self.adds)}", values, item)
        for column, kind in self.adds.items():
            try:
                pl.Series([values[column]], dtype=kind)
            except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
                wanted = f"{column} as {kind}"
                raise self._wrong("verdict", wanted, values[column], item) from None

    @contextmanager
    def _named(self, method: str, item: Item) -> Iterator[None]:
        refused: Exception | None = None
        with failures(f"task {self.name}: {method} of {item.place}", custom_file(self.name)):
            try:
                yield
            except (UnparsedError, UnjudgeableError) as error:
                refused = error
        if refused is not None:
            raise refused

    def _wrong(self, what: str, expected: str, got: Any, item: Item | None = None) -> UsageError:
        place = "" if item is None else f" of {item.place}"
        shown = repr(got)
        shown = shown if len(shown) <= _QUOTED else f"{shown[:_QUOTED]}…"
        return UsageError(f"task {self.name}: {what}{place}: expected {expected}, got {shown}")


def _is_type(kind: Any) -> bool:
    return isinstance(kind, pl.DataType) or (
        isinstance(kind, type) and issubclass(kind, pl.DataType)
    )
