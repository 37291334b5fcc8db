"""Pairs of plain lines: what their sides share, and whether they differ, for a block at a time."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jsonl.fields import Fields
from siftune.curate.native.jsonl.judgements import Judged
from siftune.curate.native.jsonl.turn_columns import Lists, Turns
from siftune.curate.records.layout import Layout, Side

__all__ = ["pairs"]

Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


def pairs(
    fields: Fields, rows: Ints, layout: Layout, judged: Judged | None
) -> tuple[dict[str, Lists], Ints]:
    """The columns of those of the lines ``rows`` that are in no doubt, and which these are."""
    differ = layout.differ or ("", "")
    (asked,) = layout.columns.keys() - {*differ}
    first, second = (side for name in differ for side in layout.columns[name])
    if isinstance(first, Side) and first.form == "dialogue":
        one, other = fields.dialogues(first.key, second.key, rows)
    else:
        one, other = fields.lists(first.key, rows), fields.lists(second.key, rows)
    kept = np.flatnonzero(one.answered() & other.answered())
    sides = [one.at(kept), other.at(kept)]
    nothing = np.zeros(len(kept), np.int64)
    prompt = Lists(one.turns, nothing, nothing)
    for side in layout.columns[asked]:
        prompt = fields.lists(side.key, rows[kept])
    if judged is not None:
        sides = judged.order(sides[0], sides[1], rows[kept])
    common, doubt = _equal(sides[0], sides[1])
    parts = [prompt, *sides]
    if layout.shared:
        parts, unclear = _share(prompt, sides[0], sides[1], common)
        doubt |= unclear
    clear = np.flatnonzero(~doubt)
    named = zip((asked, *differ), parts, strict=True)
    return {name: part.at(clear) for name, part in named}, kept[clear]


def _equal(one: Lists, other: Lists) -> tuple[Ints, Mask]:
    """How many turns both lists of each row begin with, and where the lists are the same."""
    sizes = one.ends - one.starts
    least = np.minimum(sizes, other.ends - other.starts)
    ends = np.cumsum(least)
    rows = np.repeat(np.arange(len(least)), least)
    at = np.arange(len(rows)) - (ends - least)[rows]
    apart = np.flatnonzero(~one.turns.are(one.starts[rows] + at, other.starts[rows] + at))[::-1]
    common = least.copy()
    common[rows[apart]] = at[apart]  # the last that is written is the first that differs
    return common, (common == sizes) & (sizes == other.ends - other.starts)


def _share(prompt: Lists, chosen: Lists, rejected: Lists, common: Ints) -> tuple[list[Lists], Mask]:
    """Prompt and sides where the sides may begin with the prompt, and where that is in doubt.

    This is the rule of `formats.preference` for lists of turns; where a prompt is given
    that is empty or not the last turn that is shared, it is in doubt, and so it is where the last
    turn that is shared is no user's, where the sides part at a user's turn, and where both go on
    after they part.
    """
    turns = chosen.turns
    given = prompt.ends > prompt.starts
    asking = [_asks(turns, side.starts) for side in (chosen, rejected)]
    apart = given & ~np.any(asking, axis=0)
    most = np.minimum(chosen.ends - chosen.starts, rejected.ends - rejected.starts) - 1
    parted = np.minimum(common, most)
    shared = np.where(apart, 0, parted)
    doubt = given & ~apart
    asked = np.flatnonzero(doubt & (shared > 0))
    doubt[asked] = ~turns.are(prompt.ends[asked] - 1, (chosen.starts + shared)[asked] - 1)
    for side in (chosen, rejected):
        doubt |= _asks(turns, side.starts + parted)
    doubt |= (~apart & (shared == 0)) | (most > parted)
    inside = np.flatnonzero(shared > 0)
    doubt[inside] |= turns.voices((chosen.starts + shared)[inside] - 1) != "user"
    beside = np.flatnonzero(apart)
    low, high = turns.spans[prompt.starts[beside], 0].T
    doubt[beside] |= low == high
    starts = np.where(apart, prompt.starts, chosen.starts)
    ends = np.where(apart, prompt.ends, chosen.starts + shared)
    return [
        Lists(turns, starts, ends),
        Lists(turns, chosen.starts + shared, chosen.ends),
        Lists(turns, rejected.starts + shared, rejected.ends),
    ], doubt


def _asks(turns: Turns, which: Ints) -> Mask:
    """Which turns are a system's or a user's."""
    return np.isin(turns.voices(which), ("system", "user"))
