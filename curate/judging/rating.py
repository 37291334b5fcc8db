"""Pointwise rating by an LLM judge: one question about a conversation, a score on a scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from siftune.curate.judging.fence import Section, conversation
from siftune.curate.judging.parsing import Where, score
from siftune.curate.judging.prompt import Prompt
from siftune.curate.judging.types import Answer, Item, Question

__all__ = ["Rating", "answered", "turns"]


@dataclass(frozen=True)
class Rating:
    """A scale from ``low`` to ``high``, and how its score is asked for and read.

    The whole numbers of the scale are the labels, so a backend that reads probabilities gives the
    expected score. In a written answer the score is the whole text, its first or its last line
    (``where``); ``whole`` refuses fractions.
    """

    prompt: Prompt
    low: int
    high: int
    where: Where = "alone"
    whole: bool = False

    @cached_property
    def _asked(self) -> Prompt:
        return replace(
            self.prompt,
            labels=tuple(map(str, range(self.low, self.high + 1))),
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
    """Prompt and answer of an item with one answer; empty where either is missing."""
    has_prompt = any(text.strip() for _, text in item.prompt)
    has_answer = len(item.answers) == 1 and item.answers[0].strip()
    return conversation(item) if has_prompt and has_answer else []


def turns(item: Item) -> list[Item]:
    """Each user message as an item with the reply to it, if there is one.

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
    return found
