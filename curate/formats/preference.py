"""Preference pairs: a chosen and a rejected answer, with the prompt beside or inside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from curate.core.errors import BadRow
from curate.core.readers.layout import Layout, Side
from curate.core.readers.turns import (
    ROLES,
    common_prefix,
    leftover,
    number_field,
    plain,
    read_side,
    read_turns,
    said_by,
    text_field,
    write_side,
)
from curate.core.schema import Kind
from curate.core.turn_fields import has_fields, put_fields
from curate.core.types import Row

__all__ = ["Preference"]

_SIDES = ("prompt", "chosen", "rejected")
_FACTS = ("score_chosen", "score_rejected", "margin", "win_probability")
_USED = frozenset({*_SIDES, *_FACTS})


@dataclass(frozen=True)
class Preference:
    """``chosen`` and ``rejected``, texts or lists of turns, and ``prompt`` where it is given.

    Without a prompt it is what the two sides share: their first turns, or for texts their first
    characters up to the last space (the rule of TRL's ``extract_prompt``). Sides that repeat a
    given prompt lose it. ``score_chosen``, ``score_rejected``, ``margin`` and ``win_probability``
    (that chosen beats rejected) are kept as columns. A pair of equal
    sides prefers nothing and is not taken.
    """

    kind: ClassVar[Kind] = "preference"
    # UltraFeedback binarized has the chosen conversation as `messages` too.
    over: ClassVar[tuple[str, ...]] = ("messages", "text", "prompt_completion")
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout(
        {
            "prompt": (Side("prompt", "user"),),
            "chosen": (Side("chosen"),),
            "rejected": (Side("rejected"),),
        },
        roles=ROLES,
        numbers=_FACTS,
        differ=("chosen", "rejected"),
        shared="prompt",
    )

    def matches(self, row: Row) -> bool:
        """Whether it has both sides, and they are not dialogue strings (`hh_rlhf`)."""
        if "chosen" not in row or "rejected" not in row:
            return False
        sides = (row["chosen"], row["rejected"])
        return not all(type(side) is str and "\n\nAssistant:" in side for side in sides) or (
            "prompt" in row
        )

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        extra = leftover(row, _USED)
        if type(row.get("chosen")) is list or type(row.get("rejected")) is list:
            made = _conversational(row, extra)
        else:
            made = _standard(row, extra)
        if made["chosen"] == made["rejected"]:
            raise BadRow("identical_pair", "chosen and rejected are the same")
        facts = {name: number_field(row, name) for name in _FACTS}
        return [made | facts | {"extra": extra}]

    def write(self, row: Row) -> Row:
        """The record with an explicit prompt: texts if all three are one turn of text."""
        extra = dict(row.get("extra") or {})
        sides = [row["prompt"], row["chosen"], row["rejected"]]
        roles = ("user", "assistant", "assistant")
        texts = all(plain(turns, role) for turns, role in zip(sides, roles, strict=True))
        listed = not texts or has_fields(extra, *_SIDES)
        if not row["prompt"] and common_prefix(row["chosen"], row["rejected"]):
            raise BadRow("no_place", "what two sides share would be read as their prompt")
        written = {
            name: write_side(turns, name, extra, listed=listed)
            for name, turns in zip(_SIDES, sides, strict=True)
            if turns
        }
        facts = {name: row[name] for name in _FACTS if row.get(name) is not None}
        return written | facts | extra


def _standard(row: Row, extra: Row) -> Row:
    chosen, rejected = text_field(row, "chosen"), text_field(row, "rejected")
    if "prompt" in row:
        prompt = read_side(row, "prompt", "user", extra)
    else:
        shared = _shared_text(chosen, rejected)
        prompt = [said_by("user", chosen[:shared])] if shared else []
        chosen, rejected = chosen[shared:], rejected[shared:]
    return {
        "prompt": prompt,
        "chosen": [said_by("assistant", chosen)],
        "rejected": [said_by("assistant", rejected)],
    }


def _shared_text(chosen: str, rejected: str) -> int:
    pairs = enumerate(zip(chosen, rejected, strict=False))
    end = next((at for at, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
    return chosen.rfind(" ", 0, end) + 1


def _conversational(row: Row, extra: Row) -> Row:
    chosen, rejected = read_turns(row, "chosen", extra), read_turns(row, "rejected", extra)
    prompt = read_side(row, "prompt", "user", extra) if row.get("prompt") is not None else []
    if prompt and not {chosen[0]["role"], rejected[0]["role"]} & {"system", "user"}:
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    shared = common_prefix(chosen, rejected)
    if prompt and prompt[-1] not in chosen[:shared]:
        raise BadRow("prompt_mismatch", "'prompt' is not what chosen and rejected begin with")
    _part_fields(extra, shared)
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _part_fields(extra: Row, shared: int) -> None:
    """Part the left-over fields of the sides' turns as the turns are; the prompt's come first."""
    heads = [extra.get(f"{side}.fields", [])[:shared] for side in _SIDES[1:]]
    same = heads[0] == heads[1] or not all(map(any, heads))
    if not same:
        return  # what one side says of the prompt's turns is not what the other does
    for side in _SIDES[1:]:
        put_fields(extra, side, extra.pop(f"{side}.fields", [])[shared:])
    put_fields(extra, "prompt", max(heads, key=any))
