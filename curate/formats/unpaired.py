"""Unpaired preference: a prompt, a completion, and whether it is a good one, as for KTO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from curate.core.errors import BadRow
from curate.core.readers.layout import Layout, Side
from curate.core.readers.turns import ROLES, leftover, plain, read_side, write_side
from curate.core.schema import Kind
from curate.core.turn_fields import has_fields
from curate.core.types import Row

__all__ = ["Unpaired"]

_USED = frozenset({"prompt", "completion", "label"})
_LABELS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class Unpaired:
    """``prompt`` and ``completion``, texts or lists of turns, and ``label``.

    A label is true or false, 1 or 0, or these as text (CSV). Ethayarajh et al. 2024,
    arXiv:2402.01306.
    """

    kind: ClassVar[Kind] = "unpaired"
    over: ClassVar[tuple[str, ...]] = ("prompt_completion", "text")
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout(
        {"prompt": (Side("prompt", "user"),), "completion": (Side("completion"),)},
        roles=ROLES,
        truths=("label",),
    )

    def matches(self, row: Row) -> bool:
        """Whether it has both texts and a label of two values."""
        both = "prompt" in row and "completion" in row
        return both and _label(row.get("label")) is not None

    def read(self, row: Row) -> list[Row]:
        """The labelled answer of one record."""
        extra = leftover(row, _USED)
        prompt = read_side(row, "prompt", "user", extra)
        completion = read_side(row, "completion", "assistant", extra)
        if row.get("label") is None:
            raise BadRow("missing_field", "'label' is missing or null; expected true or false")
        label = _label(row["label"])
        if label is None:
            raise BadRow("wrong_type", f"'label' is {str(row['label'])[:40]!r}; expected a boolean")
        return [{"prompt": prompt, "completion": completion, "label": label, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record: texts if both are one turn of text, else lists of turns."""
        extra = dict(row.get("extra") or {})
        texts = plain(row["prompt"], "user") and plain(row["completion"], "assistant")
        listed = not texts or has_fields(extra, "prompt", "completion")
        if not row["prompt"] or not row["completion"]:
            raise BadRow("no_place", "the prompt or the completion has no turn")
        return {
            "prompt": write_side(row["prompt"], "prompt", extra, listed=listed),
            "completion": write_side(row["completion"], "completion", extra, listed=listed),
            "label": row["label"],
        } | extra


def _label(value: Any) -> bool | None:
    return _LABELS.get(str(value).lower()) if isinstance(value, bool | int | str) else None
