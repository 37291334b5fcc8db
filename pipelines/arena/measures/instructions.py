"""Checkable instructions that answers follow, as IFEval has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from siftune.pipelines.arena.measures.types import Asked, Better, Values

__all__ = ["Instructions"]


@dataclass(frozen=True)
class Instructions:
    """Share of a row's checkable instructions that its answer follows; IFEval, arXiv:2311.07911.

    The reward `constraints` checks them: rows name them by ``instruction_id_list`` and ``kwargs``,
    ``instructions`` are for rows that name none. A row without any has no value.

    Not for the quality of what is written: an empty list of bullets may follow every instruction.

    Options:
        mode: Read the answer as it is (strict), or also without outer lines and asterisks (loose).
        count: The share of instructions that are followed, or 1 for all and else 0.
        instructions: Instructions for rows that have none, by name, each with its arguments.
    """

    mode: Literal["strict", "loose"] = "strict"
    count: Literal["share", "all"] = "share"
    instructions: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)

    better: ClassVar[Better] = "higher"
    kinds: ClassVar = ("conversation", "preference", "text")

    def __post_init__(self) -> None:
        """Refuse instructions that are not known."""
        self._reward()

    def __call__(self, asked: Asked) -> Values:
        """Between 0 and 1, or None, for each row."""
        texts = [one["completion"] or "" for one in asked.answers]
        found = self._reward()([""] * len(texts), texts, [dict(one) for one in asked.answers])
        said = [one["completion"] is not None for one in asked.answers]
        return Values([value if known else None for value, known in zip(found, said, strict=True)])

    def _reward(self) -> Any:
        from siftune.finetune.rewards.constraints import Constraints

        return Constraints(self.mode, self.count, self.instructions)
