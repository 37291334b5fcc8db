"""Preference pairs: a chosen and a rejected answer, with the prompt beside or inside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.judgements import SCORE_KEYS, take_scores
from siftune.curate.records.layout import SYSTEMS, Layout, Side
from siftune.curate.records.prompts import (
    QUESTIONS,
    no_other_prompt,
    question_keys,
    read_prompt,
    shared_text,
)
from siftune.curate.records.question_parts import PART_KEYS
from siftune.curate.records.turns import (
    ROLES,
    answer,
    check_sides,
    common_prefix,
    has_user_mark,
    leftover,
    number_field,
    plain,
    read_dialogue,
    read_side,
    text_turn,
    write_side,
)
from siftune.curate.rows.turn_fields import has_fields, put_fields

__all__ = ["Preference"]

_SIDES = ("prompt", "chosen", "rejected")
_FACTS = ("score_chosen", "score_rejected", "margin", "win_probability")
_USED = frozenset({"chosen", "rejected", *_FACTS})
_INSIDE = frozenset({"system", "user"})


@dataclass(frozen=True)
class Preference:
    """``chosen`` and ``rejected``: texts, lists of turns, or one turn each as an object.

    The prompt is ``prompt``, else the common prefix of two lists of turns, else a field with
    another name: a question, an instruction and its input, a chat, a history, a system text
    (`records.prompts`). A prompt or sides that are dialogues of HH-RLHF are split into their turns.
    Texts without any of these share their first characters up to the last space (the rule of TRL's
    ``extract_prompt``), but only where no other field could be the prompt. A given prompt is
    removed from sides that repeat it; sides with different user turns answer different questions
    and are no pair. ``score_chosen``, ``score_rejected``, ``margin`` and ``win_probability`` (that
    chosen beats rejected) are columns; ``chosen_rating`` and ``rejected_rating``, or another usual
    name of both, are the scores where these are missing. Without a margin it is the difference of
    the two scores. A pair of equal sides prefers nothing and is refused.
    """

    kind: ClassVar[Kind] = "preference"
    # UltraFeedback binarized has the chosen conversation as `messages` too; LLaMA-Factory has the
    # prompt as `conversations`.
    over: ClassVar[tuple[str, ...]] = ("messages", "sharegpt", "text", "prompt_completion")
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
        refused=QUESTIONS,
        doubted=f"{PART_KEYS}|{SCORE_KEYS}",
    )

    def matches(self, row: Row) -> bool:
        """Whether it has both sides, and they are not dialogue strings (`hh_rlhf`)."""
        if "chosen" not in row or "rejected" not in row:
            return False
        sides = (row["chosen"], row["rejected"])
        asked = "prompt" in row
        if all(map(has_user_mark, sides)) and not asked:
            return False
        dialogues = all(type(side) is str and "\n\nAssistant:" in side for side in sides)
        return not dialogues or asked or bool(question_keys(row))

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        extra = leftover(row, _USED)
        chosen, rejected = _read_sides(row, extra)
        if chosen == rejected:
            raise BadRow("identical_pair", "chosen and rejected are the same")
        if {chosen[0]["role"], rejected[0]["role"]} & _INSIDE:
            made = _inside(row, chosen, rejected, extra)
        else:
            made = _beside(row, chosen, rejected, extra)
        facts = {name: number_field(row, name) for name in _FACTS}
        if facts["score_chosen"] is None and facts["score_rejected"] is None:
            facts |= take_scores(extra)
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


def _read_sides(row: Row, extra: Row) -> list[list[Row]]:
    """The turns of both sides; with a prompt they may be dialogues that begin with it."""
    if all(has_user_mark(row.get(side)) for side in _SIDES[1:]):
        return [read_dialogue(row[side], side) for side in _SIDES[1:]]
    return [read_side(row, side, "assistant", extra) for side in _SIDES[1:]]


def _beside(row: Row, chosen: list[Row], rejected: list[Row], extra: Row) -> Row:
    """A pair whose prompt is not in its sides."""
    check_sides(chosen, rejected)
    prompt = read_prompt(row, extra, (chosen, rejected))
    made = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    if any(turn["content"] or turn["tool_calls"] for turn in prompt):
        return made
    no_other_prompt(row, extra)
    if prompt:
        return made
    if any(row.get(key) for key in SYSTEMS) or not _are_texts(row):
        return made
    return _part_texts(row)


def _are_texts(row: Row) -> bool:
    return type(row["chosen"]) is type(row["rejected"]) is str


def _part_texts(row: Row) -> Row:
    """A pair of texts with their shared prompt."""
    if "prompt" in row:
        raise BadRow("missing_field", "'prompt' is null; expected a text")
    chosen, rejected = row["chosen"], row["rejected"]
    shared = shared_text(chosen, rejected)
    return {
        "prompt": [text_turn("user", chosen[:shared])] if shared else [],
        "chosen": answer(chosen[shared:]),
        "rejected": answer(rejected[shared:]),
    }


def _inside(row: Row, chosen: list[Row], rejected: list[Row], extra: Row) -> Row:
    """A pair whose sides begin with their prompt."""
    given = read_prompt({"prompt": row.get("prompt")}, extra)
    check_sides(chosen, rejected)
    shared = common_prefix(chosen, rejected)
    if given and given[-1] not in chosen[:shared]:
        raise BadRow("prompt_mismatch", "'prompt' is not what chosen and rejected begin with")
    if not any(turn["role"] == "user" for turn in chosen[:shared]):
        no_other_prompt(row, extra)
    _part_fields(extra, shared)
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _part_fields(extra: Row, shared: int) -> None:
    """Split the left-over fields of the sides' turns as the turns are; the prompt's come first."""
    heads = [extra.get(f"{side}.fields", [])[:shared] for side in _SIDES[1:]]
    same = heads[0] == heads[1] or not all(map(any, heads))
    if not same:
        return  # the fields of the prompt's turns differ between the sides
    for side in _SIDES[1:]:
        put_fields(extra, side, extra.pop(f"{side}.fields", [])[shared:])
    put_fields(extra, "prompt", max(heads, key=any))
