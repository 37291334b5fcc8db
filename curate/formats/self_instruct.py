"""Self-instruct tasks: an instruction and its instances, each an input with its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.ranked_lists import items
from siftune.curate.records.turns import conversation, leftover, plain, text_field

__all__ = ["SelfInstruct"]

_KEY: Final = "instances"
_WHOLE: Final = "instruction_with_input"  # Unnatural Instructions
_USED: Final = frozenset({"instruction", _KEY})
_TAKEN: Final = frozenset({_WHOLE, "input", "output"})
_BETWEEN: Final = "\n\n"


@dataclass(frozen=True)
class SelfInstruct:
    """``instruction`` and ``instances: [{"input", "output"}]``: one conversation an instance.

    The question is the instruction and, after a blank line, the input, or the instance's
    ``instruction_with_input``. Other fields of an instance stay in ``extra`` under ``instance``.
    Wang et al. 2022, arXiv:2212.10560; Honovich et al. 2022, arXiv:2212.09689.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = True

    def matches(self, row: Row) -> bool:
        """Whether it has an instruction and a list of objects with an output."""
        instances = row.get(_KEY)
        if type(row.get("instruction")) is not str or type(instances) is not list:
            return False
        return bool(instances) and type(instances[0]) is dict and "output" in instances[0]

    def read(self, row: Row) -> list[Row]:
        """The conversations of one task."""
        instruction, extra = text_field(row, "instruction"), leftover(row, _USED)
        made = []
        for instance in items(row, _KEY):
            rest = leftover(instance, _TAKEN)
            turns = conversation(_question(instruction, instance), text_field(instance, "output"))
            made.append({"messages": turns, "extra": extra | ({"instance": rest} if rest else {})})
        return made

    def write(self, row: Row) -> Row:
        """A task of one instance, without an input; a row has only a question and its answer."""
        contents, extra = plain(row["messages"], "user", "assistant"), dict(row.get("extra") or {})
        if not contents:
            raise BadRow("no_place", "self_instruct takes one question and its answer, both text")
        instance = {"input": "", "output": contents[1]} | extra.pop("instance", {})
        return {"instruction": contents[0], _KEY: [instance]} | extra


def _question(instruction: str, instance: Row) -> str:
    if instance.get(_WHOLE) is not None:
        return text_field(instance, _WHOLE)
    if not instance.get("input"):
        return instruction
    return instruction + _BETWEEN + text_field(instance, "input")
