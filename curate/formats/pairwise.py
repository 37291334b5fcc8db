"""Pairwise judgements: two responses and which is better, as in AlpacaEval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.layout import Layout, Side
from siftune.curate.records.question_parts import PART_KEYS, refuse_parts
from siftune.curate.records.turns import (
    ROLES,
    answer,
    leftover,
    number_field,
    plain,
    read_prompt_turns,
    text_field,
)

__all__ = ["Pairwise"]

_TIE, _INVALID = 1.5, 0.0


@dataclass(frozen=True)
class Pairwise:
    """``prompt``, ``response_1``, ``response_2`` and ``preference`` from 1 to 2.

    At 1 the first is better, at 2 the second; between them it is a probability: ``preference - 1``
    that the second wins. ``win_probability`` is that of the chosen one, and ``margin = 2
    |preference - 1.5|``, from 0 for a tie to 1 for certainty. A draw (1.5, or 0 where the judge
    gave none) prefers nothing: `tie`. Which response was chosen stays in ``extra`` as
    ``chosen_response``, 1 or 2.
    """

    kind: ClassVar[Kind] = "preference"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout(
        {
            "prompt": (Side("prompt", "user"),),
            "chosen": (Side("response_1", form="text"),),
            "rejected": (Side("response_2", form="text"),),
        },
        roles=ROLES,
        differ=("chosen", "rejected"),
        judged="preference",
        refused=("chosen_response",),
        doubted=PART_KEYS,
    )

    def matches(self, row: Row) -> bool:
        """Whether it has two responses and a preference."""
        return {"prompt", "response_1", "response_2", "preference"} <= row.keys()

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        extra = leftover(row, _USED)
        prompt = read_prompt_turns(row, "prompt", extra)
        refuse_parts(row, extra, prompt)
        sides = [text_field(row, name) for name in ("response_1", "response_2")]
        first_better = _preference(row) < _TIE
        if sides[0] == sides[1]:
            raise BadRow("identical_pair", "response_1 and response_2 are the same")
        chosen, rejected = sides if first_better else reversed(sides)
        certainty = abs(_preference(row) - _TIE)
        return [
            {
                "prompt": prompt,
                "chosen": answer(chosen),
                "rejected": answer(rejected),
                "win_probability": 0.5 + certainty,
                "margin": 2 * certainty,
                "extra": extra | {"chosen_response": 1 if first_better else 2},
            }
        ]

    def write(self, row: Row) -> Row:
        """The record; the chosen answer takes the place it had, the first if it had none."""
        extra = dict(row.get("extra") or {})
        contents = [plain(row["prompt"], "user")]
        contents += [plain(row[side], "assistant") for side in ("chosen", "rejected")]
        if None in contents:
            raise BadRow("no_place", "a prompt and two responses are one turn of text each")
        prompt, chosen, rejected = (text[0] for text in contents if text)
        win = row.get("win_probability")
        certainty = 0.5 if win is None else win - 0.5
        second = extra.pop("chosen_response", 1) == 2
        responses = (rejected, chosen) if second else (chosen, rejected)
        return {
            "prompt": prompt,
            "response_1": responses[0],
            "response_2": responses[1],
            "preference": _TIE + certainty if second else _TIE - certainty,
        } | extra


_USED = frozenset({"prompt", "response_1", "response_2", "preference"})


def _preference(row: Row) -> float:
    value = number_field(row, "preference")
    if value is None:
        raise BadRow("missing_field", "'preference' is missing or null; expected 1 to 2")
    if value in (_TIE, _INVALID):
        raise BadRow("tie", f"preference {value:g} is a draw")
    if not 1 <= value <= 2:
        raise BadRow("out_of_range", f"preference {value:g}; expected 1 to 2, or 0 for none")
    return value
