"""InsTag tags: the intentions of an instruction, as a normalised list and its length."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.echoes import own_text
from siftune.curate.judge_calls.fence import as_far_as_shown
from siftune.curate.judge_calls.types import Answer, Item, Question, UnparsedError
from siftune.curate.judging.parsing import json_value, text
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import prompted

__all__ = ["InsTag"]

_RUBRIC = """You tag the intentions of an instruction to an AI assistant with coarse-grained tags \
in English, such as "spelling and grammar check" or "role play"."""
_REPLY = """Reply with a JSON array only, one object for each tag: \
[{"tag": "...", "explanation": "..."}]"""
_EXPECTED = 'a JSON array of objects {"tag": text, "explanation": text}'
_LONGEST = 80  # characters of a tag; what is longer is a sentence
_MOST = 50


@dataclass(frozen=True)
class InsTag:
    """``tags`` of the prompt and ``tag_count``, its complexity; Lu et al. 2023, arXiv:2308.07074.

    Tags are in lower case, without punctuation, each of them once, in the judge's order. An answer
    with one tag that is no text is refused whole, where other code keeps the rest. The paper then
    drops rare tags and merges those of one meaning, which needs all rows.

    Options:
        max_chars: Characters of each message that the judge is shown; null shows all.
    """

    max_chars: Count | None = MAX_CHARS

    answers: ClassVar = None
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "tags": pl.List(pl.String),
        "tag_count": pl.UInt32,
    }

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt("instag", _RUBRIC, _REPLY, max_tokens=512, max_chars=self.max_chars)

    def questions(self, item: Item) -> Sequence[Question]:
        """One question about the prompt."""
        return [self._prompt.question(prompted(item))]

    def parse(self, item: Item, question: int, answer: Answer) -> list[str]:
        """The tags."""
        sections = as_far_as_shown(prompted(item), self.max_chars)
        own = own_text(text(self._prompt, answer), sections)
        value = json_value(own, _EXPECTED, sections)
        if not isinstance(value, list) or not 0 < len(value) <= _MOST:
            raise UnparsedError(f"expected {_EXPECTED}, 1 to {_MOST} of them")
        return list(dict.fromkeys(map(_tag, value)))

    def verdict(self, item: Item, parsed: Sequence[list[str]]) -> Mapping[str, Any]:
        """Tags and their number."""
        return {"tags": parsed[0], "tag_count": len(parsed[0])}


def _tag(value: Any) -> str:
    named = isinstance(value, dict) and {"tag"} <= value.keys() <= {"tag", "explanation"}
    if not named or not all(isinstance(part, str) for part in value.values()):
        raise UnparsedError(f"expected {_EXPECTED}")
    tag = " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", value["tag"]).casefold()))
    if not 0 < len(tag) <= _LONGEST:
        raise UnparsedError(f"expected tags of 1 to {_LONGEST} characters")
    return tag
