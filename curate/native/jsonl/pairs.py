"""Preference pairs of a block of plain lines: shared prompt, chosen and rejected side."""

from __future__ import annotations

from typing import NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jsonl.fields import Fields
from siftune.curate.native.jsonl.turn_columns import Lists, Turns
from siftune.curate.records.layout import Layout, Side

__all__ = ["Judged", "pairs"]

Ints: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

_DRAW = 1.5


class Judged(NamedTuple):
    """Judgements from 1 to 2 per line as `formats.pairwise` reads them.

    ``second``: the second side is better. ``unclear``: there is no judgement, or it is a draw.
    """

    second: Mask
    facts: dict[str, Numbers]
    unclear: Mask

    @classmethod
    def of(cls, values: Numbers) -> Self:
        """Parse the judgements ``values``, NaN where there is none."""
        clear = (values >= 1) & (values <= 2) & (values != _DRAW)
        certainty = np.abs(np.where(clear, values, np.nan) - _DRAW)
        facts = {"win_probability": 0.5 + certainty, "margin": 2 * certainty}
        return cls(values > _DRAW, facts, ~clear)

    def order(self, one: Lists, other: Lists, lines: Ints) -> list[Lists]:
        """The better and the worse side of ``lines``."""
        second = self.second[lines]
        low = np.where(second, (other.starts, one.starts), (one.starts, other.starts))
        high = np.where(second, (other.ends, one.ends), (one.ends, other.ends))
        return [Lists(one.turns, low[0], high[0]), Lists(one.turns, low[1], high[1])]


def pairs(
    fields: Fields, rows: Ints, layout: Layout, judged: Judged | None
) -> tuple[dict[str, Lists], Ints]:
    """The columns of the lines ``rows`` whose pairs are clear, and the positions of these rows."""
    differ = layout.differ or ("", "")
    (prompt_name,) = layout.columns.keys() - {*differ}
    first, second = (side for name in differ for side in layout.columns[name])
    if isinstance(first, Side) and first.form == "dialogue":
        one, other = fields.dialogues(first.key, second.key, rows)
    else:
        one, other = fields.lists(first.key, rows), fields.lists(second.key, rows)
    kept = np.flatnonzero(one.answered() & other.answered())
    sides = [one.at(kept), other.at(kept)]
    nothing = np.zeros(len(kept), np.int64)
    prompt = Lists(one.turns, nothing, nothing)
    for side in layout.columns[prompt_name]:
        prompt = fields.lists(side.key, rows[kept])
    if judged is not None:
        sides = judged.order(sides[0], sides[1], rows[kept])
    common, unclear = _equal(sides[0], sides[1])
    parts = [prompt, *sides]
    if layout.shared:
        parts, uncertain = _share(prompt, sides[0], sides[1], common)
        unclear |= uncertain
    clear = np.flatnonzero(~unclear)
    named = zip((prompt_name, *differ), parts, strict=True)
    return {name: part.at(clear) for name, part in named}, kept[clear]


def _equal(one: Lists, other: Lists) -> tuple[Ints, Mask]:
    """Number of leading turns that both lists of a row share, and mask of equal lists."""
    sizes = one.ends - one.starts
    least = np.minimum(sizes, other.ends - other.starts)
    ends = np.cumsum(least)
    rows = np.repeat(np.arange(len(least)), least)
    at = np.arange(len(rows)) - (ends - least)[rows]
    different = np.flatnonzero(~one.turns.equal(one.starts[rows] + at, other.starts[rows] + at))[
        ::-1
    ]
    common = least.copy()
    common[rows[different]] = at[different]  # written last: the first turn that differs
    return common, (common == sizes) & (sizes == other.ends - other.starts)


def _share(prompt: Lists, chosen: Lists, rejected: Lists, common: Ints) -> tuple[list[Lists], Mask]:
    """Prompt and sides where the sides may start with the prompt, and mask of the unclear rows.

    The rule of `formats.preference` for lists of turns. A row is unclear where a given prompt is
    empty or not the last shared turn, where the last shared turn is not the user's, where the sides
    diverge at a user's turn, and where both continue after they diverge.
    """
    turns = chosen.turns
    given = prompt.ends > prompt.starts
    input_first = [_is_input(turns, side.starts) for side in (chosen, rejected)]
    separate = given & ~np.any(input_first, axis=0)
    most = np.minimum(chosen.ends - chosen.starts, rejected.ends - rejected.starts) - 1
    split = np.minimum(common, most)
    shared = np.where(separate, 0, split)
    unclear = given & ~separate
    given_rows = np.flatnonzero(unclear & (shared > 0))
    unclear[given_rows] = ~turns.equal(
        prompt.ends[given_rows] - 1, (chosen.starts + shared)[given_rows] - 1
    )
    for side in (chosen, rejected):
        unclear |= _is_input(turns, side.starts + split)
    unclear |= (~separate & (shared == 0)) | (most > split)
    inside = np.flatnonzero(shared > 0)
    unclear[inside] |= turns.roles_of((chosen.starts + shared)[inside] - 1) != "user"
    separate_rows = np.flatnonzero(separate)
    low, high = turns.spans[prompt.starts[separate_rows], 0].T
    unclear[separate_rows] |= low == high
    starts = np.where(separate, prompt.starts, chosen.starts)
    ends = np.where(separate, prompt.ends, chosen.starts + shared)
    return [
        Lists(turns, starts, ends),
        Lists(turns, chosen.starts + shared, chosen.ends),
        Lists(turns, rejected.starts + shared, rejected.ends),
    ], unclear


def _is_input(turns: Turns, which: Ints) -> Mask:
    """Mask of the turns of the system or the user."""
    return np.isin(turns.roles_of(which), ("system", "user"))
