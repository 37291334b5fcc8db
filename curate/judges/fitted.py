"""A quality head in this process as a judge: it scores conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from siftune.curate.heads.head import Head, load_head
from siftune.curate.judge_calls.types import Answer, BackendError, Question

__all__ = ["Fitted"]

_NO_RUBRIC = BackendError(
    "no_rubrics",
    "a quality head scores a conversation and answers no question: take the task classifier_score",
    permanent=True,
)
_NO_ANSWER = BackendError(
    "no_answer", "a prompt and an answer of the assistant are needed, with tokens", permanent=True
)


@dataclass(frozen=True)
class Fitted:
    """Answers the questions of the task ``classifier_score`` by a head of `curate fit-quality`.

    A head of ratings or of pairs answers with a number, so that the preference of two answers by
    a head of pairs is its calibrated probability; one of binary labels with probabilities.

    Options:
        model: Folder of the head.
    """

    model: str

    @property
    def identity(self) -> str:
        """Hash of the head and its embedding model."""
        return f"fitted {self._head.identity}"

    def answer(self, questions: Sequence[Question]) -> list[Answer | BackendError]:
        """One answer, or the failure, for each question, in order.

        Raises:
            UsageError: the folder holds no head, or its embedding model is another one here.
        """
        chats = [question.messages for question in questions]
        scores = self._head(
            ["\n\n".join(text for _, text in chat[:-1]) for chat in chats],
            [chat[-1][1] if chat and chat[-1][0] == "assistant" else None for chat in chats],
        )
        return [
            _NO_RUBRIC if question.max_tokens else self._answer(float(score))
            for question, score in zip(questions, scores, strict=True)
        ]

    def _answer(self, score: float) -> Answer | BackendError:
        if score != score:
            return _NO_ANSWER
        if self._head.kind == "binary":
            return Answer(None, {"0": 1 - score, "1": score}, input_tokens=0, output_tokens=0)
        return Answer(repr(score), input_tokens=0, output_tokens=0)

    @cached_property
    def _head(self) -> Head:
        return load_head(self.model)
