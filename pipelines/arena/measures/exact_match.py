"""Exact match: whether the answer is the known one after normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from siftune.pipelines.arena.measures.types import Asked, Better, Values

__all__ = ["ExactMatch"]


@dataclass(frozen=True)
class ExactMatch:
    """1 where the answer equals the reference, else 0, as `siftune finetune evaluate` compares.

    Unicode form, case, white space and a full stop at the end do not count; of a known number or
    formula the final answer of a worked solution is compared. A row without a reference has no
    value.

    Not for free answers, of which many are right.

    Options:
        mode: Compare whole answers (equal), or look for the reference in them (contains).
    """

    mode: Literal["equal", "contains"] = "equal"

    better: ClassVar[Better] = "higher"
    kinds: ClassVar = ("conversation", "preference")

    def __call__(self, asked: Asked) -> Values:
        """1, 0 or None for each row."""
        from siftune.curate.text.answer_match import contains, exact_match

        compare = exact_match if self.mode == "equal" else contains
        return Values(
            [
                None
                if one["reference"] is None or one["completion"] is None
                else float(compare(one["completion"], one["reference"]))
                for one in asked.answers
            ]
        )
