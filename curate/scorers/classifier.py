"""Score of the last answer by a reward model or a sequence classifier."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.types import Answer, BackendError, UnjudgeableError, UnparsedError
from siftune.curate.judge_tasks.classifier_score import ClassifierScore
from siftune.curate.judges.classifier import Classifier as Judge
from siftune.curate.judging.row_items import items_of
from siftune.curate.models.precision import Precision

__all__ = ["Classifier"]


@dataclass(frozen=True)
class Classifier:
    """``classifier``: what a model with a head for sequences gives the conversation.

    Of one output, as reward models have, it is that number, of any scale. Of several classes it is
    the probability of ``label`` (softmax over all), or the expected value where all classes are
    numbers, such as 1 to 5. ``classifier_class`` is the most probable class. Any model of
    `transformers` for sequence classification works, those that `siftune finetune reward` writes
    too, and the folder of a LoRA adapter, which is merged into its base.

    The model reads the turns up to the last answer in its own chat template; an encoder without one
    reads them with its separator between. A conversation beyond the window is never cut: its score
    is null and ``classifier_error`` is ``too_long``; the manifest counts each reason.

    Not for comparing models: each has a scale of its own; nor for texts beyond its window, which
    are null.

    Options:
        model: Folder, or name on the hub, of a reward model or sequence classifier.
        label: Class whose probability is the score; none for one output, or classes that are
            numbers.
        precision: Number format of all but the head: fp32, bf16 (one row at a time), or bf16 where
            the CPU multiplies it (auto).
        max_tokens: Largest number of tokens of a conversation; none takes the model's window.
    """

    model: str
    label: str | None = None
    precision: Precision = "auto"
    max_tokens: Count | None = None

    needs: ClassVar = ("messages",)
    adds: ClassVar = {
        "classifier": pl.Float64,
        "classifier_class": pl.String,
        "classifier_error": pl.String,
    }
    gaps: ClassVar = ("classifier",)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation."""
        questions, errors = {}, {}
        items = list(items_of(batch.select("messages")))
        for at, item in enumerate(items):
            try:
                if not item.answers:
                    raise UnjudgeableError("no_answer", "expected an answer")
                questions[at] = self._task.questions(item)[0]
            except UnjudgeableError as error:
                errors[at] = error.reason
        answers = dict(zip(questions, self._judge.answer([*questions.values()]), strict=True))
        rows: list[tuple[float | None, str | None, str | None]] = []
        for at, item in enumerate(items):
            answer = answers.get(at)
            if isinstance(answer, Answer):
                rows.append((self._score(item, answer), _most_probable(answer), None))
            else:
                reason = answer.reason if isinstance(answer, BackendError) else errors[at]
                rows.append((None, None, reason))
        return pl.DataFrame(rows, schema=self.adds, orient="row")

    def describe(self) -> dict[str, Any]:
        """The precision that scores were computed in, for keys and manifests."""
        return self._judge.describe()

    def notice(self) -> str:
        """The line about precision that a run prints before the first row."""
        return self._judge.notice()

    def _score(self, item: Any, answer: Answer) -> float:
        try:
            return self._task.parse(item, 0, answer)
        except UnparsedError as error:
            raise UsageError(f"classifier: {self.model}: {error}") from None

    @cached_property
    def _judge(self) -> Judge:
        return Judge(self.model, self.precision, self.max_tokens)

    @cached_property
    def _task(self) -> ClassifierScore:
        return ClassifierScore(self.label)


def _most_probable(answer: Answer) -> str | None:
    shares = answer.probabilities
    return None if shares is None else max(shares, key=lambda name: shares[name])
