"""Revision of an answer by a critique and its principle: the second step of Constitutional AI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count, Seed
from siftune.curate.judge_calls.fence import Section
from siftune.curate.judge_calls.types import Answer, Item, Question, UnjudgeableError, UnparsedError
from siftune.curate.judging.parsing import prose
from siftune.curate.judging.principles import PRINCIPLES, Principled, Principles, draw
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import answered

__all__ = ["Revision"]

_RUBRIC = """You rewrite the answer of an AI assistant to an instruction, so that it follows one \
principle: {principle} A critique of the answer is among the data; follow it as far as it serves \
the principle."""
_REPLY = "Reply with the rewritten answer only, as it would be sent to the user."


@dataclass(frozen=True)
class Revision(Principled):
    """``revision`` of the answer by ``principle``; Bai et al. 2022, arXiv:2212.08073.

    Reads the column ``critique``, and ``principle`` where there is one, which has to be one of
    ``principles``; without that the principle is drawn by a hash of the row, as `critique` draws
    it. A revision that is cut at the limit of tokens is an error: it would teach a model to stop
    early. So is one that repeats the principle, the critique or the instruction.

    Options:
        principles: A text file with one principle a line, or a list of principles.
        seed: The seed of `critique`.
        max_tokens: Limit of the revision; a longer one is an error.
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    principles: Principles = PRINCIPLES
    seed: Seed = 0
    max_tokens: Count = 1024
    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = 1
    adds: ClassVar[Mapping[str, type[pl.DataType]]] = {
        "revision": pl.String,
        "principle": pl.String,
    }

    def _prompt(self, principle: str) -> Prompt:
        rubric = _RUBRIC.format(principle=principle)
        return Prompt(
            "revision", rubric, _REPLY, max_tokens=self.max_tokens, max_chars=self.max_chars
        )

    def questions(self, item: Item) -> Sequence[Question]:
        """One question."""
        return [self._prompt(self._principle(item)).question(_criticised(item))]

    def parse(self, item: Item, question: int, answer: Answer) -> str:
        """The revision."""
        found = prose(self._prompt(""), answer)
        others = {
            self._principle(item),
            *(text for name, text in _criticised(item) if name != "answer"),
        }
        if found in map(str.strip, others):  # what small models do: it would be trained on
            raise UnparsedError("expected a rewritten answer, got a text of the prompt itself")
        return found

    def verdict(self, item: Item, parsed: Sequence[str]) -> Mapping[str, Any]:
        """The revision and its principle."""
        return {"revision": parsed[0], "principle": self._principle(item)}

    def _principle(self, item: Item) -> str:
        given = item.extra.get("principle")
        if given is None:
            return draw(self._principles, answered(item), self.seed)
        if given not in self._principles:  # it is an instruction: a column must not make one up
            raise UnjudgeableError("unknown_principle", "the row's principle is none of the option")
        return str(given)


def _criticised(item: Item) -> list[Section]:
    critique = item.extra.get("critique")
    if not isinstance(critique, str) or not critique.strip():
        raise UnjudgeableError("no_critique", "expected a column critique that is not empty")
    return [*answered(item), ("critique", critique)]
