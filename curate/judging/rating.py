"""Pointwise rating by an LLM judge: one question about a conversation, a score on a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from siftune.curate.judge_calls.fence import Section, conversation
from siftune.curate.judge_calls.types import Answer, Item, Question, UnjudgeableError
from siftune.curate.judging.parsing import Where, score
from siftune.curate.judging.prompt import Prompt

__all__ = ["Rating", "answered", "prompted", "turns"]

_ONE_DIGIT = 9  # highest score that is one token in every vocabulary


@dataclass(frozen=True)
class Rating:
    """A scale from ``low`` to ``high``, and how its score is asked for and read.

    Where the highest score is one digit, the whole numbers are labels, so a backend that reads
    probabilities gives the expected score. In a written answer the score is the whole text, its
    first or its last line (``where``); ``whole`` refuses fractions.
    """

    prompt: Prompt
    low: int
    high: int
    where: Where = "alone"
    whole: bool = False

    @cached_property
    def _asked(self) -> Prompt:
        steps = range(self.low, self.high + 1)
        return replace(
            self.prompt,
            labels=tuple(map(str, steps)) if self.high <= _ONE_DIGIT else (),
            prefix="Score: " if self.where == "last" else "",
            options=(*self.prompt.options, self.where, self.whole),
        )

    def question(self, sections: Sequence[Section], sample: int = 0) -> Question:
        """The question about the sections."""
        return self._asked.question(sections, sample)

    def score(self, answer: Answer, sections: Sequence[Section]) -> float:
        """The score that the answer gives."""
        scale = (self.low, self.high, self.where)
        return score(self._asked, answer, sections, *scale, whole=self.whole)


def answered(item: Item) -> list[Section]:
    """The sections of an item with a prompt and one answer.

    Raises:
        UnjudgeableError: either is missing or empty.
    """
    prompted(item)
    if len(item.answers) != 1 or not item.answers[0].strip():
        raise UnjudgeableError("no_answer", "expected an answer, got none or an empty one")
    return conversation(item)


def prompted(item: Item) -> list[Section]:
    """The sections of an item's prompt.

    Raises:
        UnjudgeableError: there is none.
    """
    if not any(text.strip() for _, text in item.prompt):
        raise UnjudgeableError("no_prompt", "expected a prompt, got none or an empty one")
    return conversation(replace(item, answers=()))


def turns(item: Item) -> list[Item]:
    """Each user message as an item with the reply to it, if there is one.

    Raises:
        UnjudgeableError: there is no user message.

    >>> item = Item((("user", "a"), ("assistant", "b"), ("user", "c")), ("d",))
    >>> [(turn.prompt[0][1], *turn.answers) for turn in turns(item)]
    [('a', 'b'), ('c', 'd')]
    """
    messages = [*item.prompt, *(("assistant", text) for text in item.answers[:1])]
    found = []
    for position, (role, text) in enumerate(messages):
        if role == "user":
            after = messages[position + 1 : position + 2]
            reply = tuple(text for role, text in after if role == "assistant")
            found.append(Item((("user", text),), reply))
    if not found:
        raise UnjudgeableError("no_prompt", "expected a user message, got none")
    return found
