"""Alpaca pairs: an instruction, perhaps an input, and two outputs, the better one first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.prompts import read_prompt
from siftune.curate.records.ranked_lists import prompt_text
from siftune.curate.records.turns import answer, leftover, plain

__all__ = ["AlpacaPairs"]


@dataclass(frozen=True)
class AlpacaPairs:
    """``instruction``, perhaps ``input``, and ``output: [chosen, rejected]``.

    LLaMA-Factory's comparison data (comparison_gpt4_data), before it had a field for each side.
    """

    kind: ClassVar[Kind] = "preference"
    over: ClassVar[tuple[str, ...]] = ("alpaca", "text")
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has an instruction and two outputs."""
        return "instruction" in row and _are_two_texts(row.get("output"))

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        outputs: Any = row.get("output")
        if not _are_two_texts(outputs):
            reason = "missing_field" if outputs is None else "wrong_type"
            raise BadRow(reason, "'output' is no list of two texts, the better one first")
        if outputs[0] == outputs[1]:
            raise BadRow("identical_pair", "both outputs are the same")
        extra = leftover(row, frozenset({"output"}))
        prompt = read_prompt(row, extra)
        if not prompt:
            raise BadRow("missing_field", "'instruction' is missing, null or empty")
        chosen, rejected = map(answer, outputs)
        return [{"prompt": prompt, "chosen": chosen, "rejected": rejected, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record, without an input; more than a question and two texts has no place."""
        outputs = [plain(row[side], "assistant") for side in ("chosen", "rejected")]
        if None in outputs:
            raise BadRow("no_place", "an output is one turn of text")
        written = {"instruction": prompt_text(row), "output": [text[0] for text in outputs if text]}
        return written | dict(row.get("extra") or {})


def _are_two_texts(value: Any) -> bool:
    return type(value) is list and [*map(type, value)] == [str, str]
