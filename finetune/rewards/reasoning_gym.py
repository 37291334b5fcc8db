"""Reasoning Gym: the library's own score of an answer to one of its procedural tasks."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import getsource
from typing import Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import closest
from siftune.curate.text.answer_match import after_thinking

__all__ = ["ReasoningGym", "task_rows"]


@dataclass(frozen=True)
class ReasoningGym:
    """The score that reasoning-gym gives the answer, mostly 1 or 0; arXiv:2505.24760.

    Rows come from ``siftune finetune tasks``: their field ``reasoning_gym`` has the task, its
    options, seed and number, from which the library makes the very entry again. Rows of the
    library's own files are scored by the task that their ``metadata`` names, with their answer.
    The answer is what is in the last pair of ``<answer>`` tags, else all that follows
    ``</think>``, else the completion.

    Some of the library's scorers run the answer as Python. In such a task only literals and
    formulas of known functions are passed on; anything else, and an answer of over 20,000
    characters, scores 0; so does an answer on which the scorer fails. A row of no task, or one that
    this version of the library makes otherwise, has no score. Needs `pip install 'siftune[gym]'`.

    Options:
        tag: Name of the tag of the answer.
    """

    tag: str = "answer"

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Between 0 and 1, or None, for each completion."""
        return [self._score(said, row) for said, row in zip(completions, rows, strict=True)]

    def load(self) -> None:
        """Import the library."""
        _library()

    def _score(self, said: str, row: Mapping[str, Any]) -> float | None:
        found = _entry_of(row)
        if found is None:
            return None
        dataset, entry = found
        answer = self._answer(said)
        if len(answer) > _LONGEST or (
            _runs_answers(type(dataset).__module__) and not _harmless(answer)
        ):
            return 0.0
        if _NOT_FINITE.search(answer) and re.search(r"\d", str(entry.get("answer"))):
            return 0.0
        try:
            score = float(dataset.score_answer(answer, entry))
        except Exception:  # many of the library's scorers raise on answers they cannot read
            return 0.0
        return score if math.isfinite(score) else 0.0

    def _answer(self, said: str) -> str:
        behind = after_thinking(said)
        before, closed, _ = behind.rpartition(f"</{self.tag}>")
        opening = before.rfind(f"<{self.tag}>")
        if closed and opening >= 0:
            return before[opening + len(self.tag) + 2 :].strip()
        return behind.strip()


def task_rows(
    task: str, count: int, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """``count`` rows of a task: ``question``, ``answer``, and what makes their entries again.

    Rows of tasks without an answer of their own have ``prompt``, a list of one turn.

    Raises:
        UsageError: no such task or option, or the library is not installed.
    """
    given = {"task": task, "seed": seed, "size": count, "options": dict(options or {})}
    dataset = _dataset(given)
    for at in range(count):
        entry = dataset[at]
        row: dict[str, Any] = {"prompt": [{"role": "user", "content": entry["question"]}]}
        if entry["answer"] is not None:  # some tasks have many, and none of their own
            row = {"question": entry["question"], "answer": str(entry["answer"])}
        yield {**row, "reasoning_gym": {**given, "index": at}}


_LONGEST: Final = 20_000  # characters of an answer
_FUNCTIONS: Final = {
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "sec", "csc", "cot"),
    *("exp", "log", "ln", "sqrt", "Abs"),
}
_NOT_FINITE: Final = re.compile(r"(?i)\b(?:nan|inf|infinity)[ij]?\b")
_CALL: Final = re.compile(r"([A-Za-z_]\w*)\s*\(")
_RUNS: Final = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\(")
_HARMFUL: Final = re.compile(
    r"__|[\w)\]}'\"]\s*\.\s*[A-Za-z_]|[)\]}]\s*\(|:=|['\"]\s*[*%]|[*]\s*['\"]"
    r"|\*\*\s*\(?\s*\d{3}|\*\*[^*+/-]*\*\*|\d{3}\s*!|!\s*!"
    r"|\*\*\s*\((?!\s*-?\s*\d{1,2}\s*(?:/\s*\d{1,2}\s*)?\))|\*\*\s*\([^()]*\)\s*\*\*"
    r"|\*\*\s*[-+]\s*[\w.]+\s*\*\*|\]\s*\*|\*\s*\[|,[^(),]*\)\s*\*|\*\s*\([^(),]*,"
    r"|\b(?:lambda|import|for|while|if|else|yield|await|exec|eval|class|def|del|global)\b"
)


def _harmless(answer: str) -> bool:
    """Whether Python that is run on it can only be a literal or a formula.

    >>> [_harmless(text) for text in ("[['Q', '_']]", "exp(x)/2 + 3*x**2", "9*(4 - 1)")]
    [True, True, True]
    >>> [_harmless(text) for text in ("open('f')", "().__class__", "9**9**9", "'a'*10**9", "x.y")]
    [False, False, False, False, False]
    >>> [_harmless(text) for text in ("x**(3/2)", "9**(9*99999999)", "[0]*9999999999", "(0,)*9**9")]
    [True, False, False, False]
    """
    if _HARMFUL.search(answer):
        return False
    return all(name in _FUNCTIONS for name in _CALL.findall(answer))


@cache
def _runs_answers(module: str) -> bool:
    """Whether the code of a task, in ``module``, runs texts as Python."""
    return _RUNS.search(getsource(sys.modules[module])) is not None


def _entry_of(row: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]] | None:
    """The task of a row and its entry; None where the row has none, or another library made it."""
    extra = row.get("extra") or {}
    given, metadata = extra.get("reasoning_gym"), extra.get("metadata")
    if isinstance(given, Mapping):
        dataset = _dataset(given)
        entry: Mapping[str, Any] = dataset[int(given["index"])]
        known = None if entry["answer"] is None else str(entry["answer"])
        return (dataset, entry) if known == row.get("reference") else None
    if not isinstance(metadata, Mapping) or row.get("reference") is None:
        return None
    task = metadata.get("source_dataset")
    if task is None:
        return None
    entry = {"question": "", "answer": row["reference"], "metadata": metadata}
    return _dataset({"task": task}), entry


def _dataset(given: Mapping[str, Any]) -> Any:
    """The dataset of a task, made once."""
    numbers = {key: int(given[key]) for key in ("seed", "size") if given.get(key) is not None}
    options = dict(given.get("options") or {}) | numbers
    return _made(str(given["task"]), json.dumps(options, sort_keys=True))


@cache
def _made(task: str, options: str) -> Any:
    library = _library()
    known = tuple(library.factory.DATASETS)
    if task not in known:
        raise UsageError(f"reasoning-gym has no task {task!r}; {closest(task, known)}")
    try:
        return library.create_dataset(task, **json.loads(options))
    except (TypeError, ValueError, AssertionError) as error:
        raise UsageError(f"reasoning-gym: {task}: {error}") from error


def _library() -> Any:
    try:
        import reasoning_gym
    except ImportError:
        raise UsageError(
            "reasoning_gym: reasoning-gym is not installed: pip install 'siftune[gym]'"
        ) from None
    return reasoning_gym
