"""HelpSteer2: a prompt and a response with five attributes from 0 to 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.ranked_lists import attribute_list, attributes_of, prompt_text, texts
from siftune.curate.records.turns import answer, leftover, number_field, text_field, text_turn

__all__ = ["HelpSteer2"]

_ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_USED = frozenset({"prompt", "response", *_ATTRIBUTES})


@dataclass(frozen=True)
class HelpSteer2:
    """``prompt``, ``response`` and the five attributes: a ranked list of one.

    The score is ``helpfulness``. Wang et al. 2024, arXiv:2406.08673.
    """

    kind: ClassVar[Kind] = "ranked"
    over: ClassVar[tuple[str, ...]] = ("query_response", "text")
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has a response and all five attributes."""
        return row.keys() >= _USED

    def read(self, row: Row) -> list[Row]:
        """The rated answer of one record; a null attribute is left out."""
        named = {name: number_field(row, name) for name in _ATTRIBUTES}
        return [
            {
                "prompt": [text_turn("user", text_field(row, "prompt"))],
                "completions": [answer(text_field(row, "response"))],
                "scores": [named["helpfulness"]],
                "attributes": [attribute_list(named)],
                "extra": leftover(row, _USED),
            }
        ]

    def write(self, row: Row) -> Row:
        """The record; more answers than one, or other attributes, have no place."""
        answers, named = texts(row), attributes_of(row, 0)
        if len(answers) != 1 or not named.keys() <= set(_ATTRIBUTES):
            raise BadRow("no_place", "helpsteer2 has one response and five attributes")
        given = {name: named.get(name) for name in _ATTRIBUTES}
        record = {"prompt": prompt_text(row), "response": answers[0]}
        return record | given | dict(row.get("extra") or {})
