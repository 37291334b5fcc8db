"""Scores of whole conversations, as a reward model or classifier gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from siftune.curate.judge_calls.types import Answer, Item, Question, UnjudgeableError, UnparsedError

__all__ = ["score_of", "score_questions"]


def score_questions(item: Item, label: str | None) -> Sequence[Question]:
    """One question an answer, the conversation itself; a prompt without one is scored alone.

    Raises:
        UnjudgeableError: there is no prompt, or an answer is empty.
    """
    chats = [(*item.prompt, ("assistant", text)) for text in item.answers] or [item.prompt]
    if not item.prompt or not all(text.strip() for text in item.answers):
        raise UnjudgeableError("no_answer", "expected a prompt, and no empty answer")
    version = f"classifier_score-{label or 'value'}"
    return [Question(chat, max_tokens=0, version=version) for chat in chats]


def score_of(answer: Answer, label: str | None) -> float:
    """The number of one conversation; of classes the probability of ``label``, or their mean.

    Raises:
        UnparsedError: the answer is no number, or classes that are none.
    """
    if answer.probabilities is not None:
        return _of_classes(answer.probabilities, label)
    try:
        value = float(answer.text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UnparsedError("expected a number, which the judge classifier:FOLDER gives")
    return value


def _of_classes(shares: Mapping[str, float], label: str | None) -> float:
    if label is not None:
        if label not in shares:
            raise UnparsedError(f"expected the class {label}, got {', '.join(shares)}")
        return shares[label]
    try:
        return math.fsum(float(name) * share for name, share in shares.items())
    except ValueError:
        raise UnparsedError(
            f"expected classes that are numbers, got {', '.join(shares)}: set the option label"
        ) from None
