"""Figures of selections beside random draws: a table in Markdown, and a chart of overlaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import polars as pl

from siftune.curate.judge_stats.intervals import NotEstimableError, mean
from siftune.curate.selectors.minhash_dedup import MinHashDedup
from siftune.curate.vectors.set_figures import set_figures
from siftune.curate.vectors.unit_vectors import vectors_of

__all__ = ["Drawn", "figures_of", "overlaps_svg", "table_of"]

MEANS = {"words": "length_words", "quality": "fitted_quality"}
"""Columns whose mean over the rows of a selection is shown, with an interval."""
NAMES = {
    "words": "words an answer",
    "tokens": "tokens",
    "topics": "topics",
    "tags": "tags",
    "quality": "fitted quality",
    "duplicates": "near-duplicates left",
    "vendi": "Vendi score",
    "novelsum": "NovelSum",
    "coverage": "coverage",
}
_DIGITS = {"words": 1, "quality": 3, "vendi": 1, "novelsum": 3, "coverage": 3}


@dataclass(frozen=True)
class Drawn:
    """A selection: the ids of its rows, its figures, and the CPU seconds of selecting."""

    ids: tuple[str, ...]
    figures: Mapping[str, Any]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def figures_of(rows: pl.DataFrame, pool: pl.DataFrame) -> dict[str, Any]:
    """Figures of a selection; of a mean the list of the mean and its 95 % interval."""
    found: dict[str, Any] = {"rows": rows.height}
    for name, column in MEANS.items():
        if column in rows.columns:
            values = rows[column].drop_nulls().to_numpy()
            try:
                estimate = mean(values)
                found[name] = [estimate.value, estimate.low, estimate.high]
            except NotEstimableError:  # all rows alike: a number without an interval
                found[name] = float(values.mean())
    for name, column in (("tokens", "length_tokens"), ("topics", "clusters"), ("tags", "tags")):
        if column in rows.columns:
            found[name] = _counted(rows[column], sums=name == "tokens")
    found["duplicates"] = int((~MinHashDedup()(rows)["keep"]).sum())
    if "embedding" in rows.columns:
        units = vectors_of(pool, "embedding").units
        measured = set_figures(vectors_of(rows, "embedding").units, pool=units)
        found |= {name: getattr(measured, name) for name in ("vendi", "novelsum", "coverage")}
    return found


def _counted(column: pl.Series, sums: bool) -> int:
    """The sum of a column, or the number of its different values, or of those in its lists."""
    if sums:
        return int(column.sum())
    flat = column.explode() if isinstance(column.dtype, pl.List) else column
    return flat.drop_nulls().n_unique()


def table_of(selections: Mapping[str, Drawn], random: Sequence[Drawn]) -> Iterator[str]:
    """Rows of a Markdown table: the random draws first, then each selection."""
    shown = [name for name in NAMES if name in random[0].figures]
    yield "| selection | " + " | ".join(NAMES[name] for name in shown) + " | CPU s |"
    yield "| --- |" + " ---: |" * (len(shown) + 1)
    draws = {name: [_middle(one.figures[name]) for one in random] for name in shown}
    cells = [
        f"{_text(name, float(np.mean(one)))} ({_text(name, min(one))} … {_text(name, max(one))})"
        for name, one in draws.items()
    ]
    seconds = np.mean([one.seconds for one in random])
    yield f"| {len(random)} random draws | " + " | ".join(cells) + f" | {seconds:.1f} |"
    for title, drawn in selections.items():
        cells = [_cell(name, drawn.figures[name], draws[name]) for name in shown]
        yield f"| {title} | " + " | ".join(cells) + f" | {drawn.seconds:.1f} |"


def _middle(value: Any) -> float:
    return float(value[0] if isinstance(value, list) else value)


def _cell(name: str, value: Any, random: Sequence[float]) -> str:
    middle = _middle(value)
    text = _text(name, middle)
    if isinstance(value, list):
        text += f" ({_text(name, value[1])} … {_text(name, value[2])})"
    return text if min(random) <= middle <= max(random) else f"**{text}**"


def _text(name: str, value: float) -> str:
    return f"{value:,.{_DIGITS.get(name, 0)}f}"


_CELL, _LETTER, _TOP = 34, 6.3, 40


def overlaps_svg(groups: Mapping[str, Mapping[str, Drawn]], pools: Mapping[str, int]) -> str:
    """Shares of rows that two selections have in common, as an SVG: a matrix for each part.

    A part's title has the share by chance, that of a random selection in another. Columns have the
    numbers of the rows.
    """
    longest = max((len(name) for selections in groups.values() for name in selections), default=0)
    left = round(_LETTER * longest) + 44  # with its number in front
    drawn, top, width = [], _TOP, left
    for title, selections in groups.items():
        names = list(selections)
        sets = [set(one.ids) for one in selections.values()]
        kept = max((len(one) for one in sets), default=0)
        chance = kept / pools[title]
        head = f"{title}: {kept:,} of {pools[title]:,} rows, by chance {chance:.0%} in common"
        drawn.append(_words(10, top, head, "start"))
        for row, (name, own) in enumerate(zip(names, sets, strict=True)):
            y = top + 12 + row * _CELL
            drawn.append(_words(left - 8, y + _CELL / 2 + 4, f"{row + 1}  {name}", "end"))
            for column, other in enumerate(sets[: row + 1]):
                share = len(own & other) / max(1, min(len(own), len(other)))
                drawn.append(_square(left + column * _CELL, y, share))
        below = top + 12 + len(names) * _CELL
        for column in range(len(names)):
            middle = left + (column + 0.5) * _CELL - 1
            drawn.append(_words(middle, below + 14, str(column + 1), "middle"))
        top = below + 20 + _TOP
        width = max(width, left + len(names) * _CELL + 20)
    size = f'width="{max(width, 560)}" height="{top}"'
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _words(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _square(x: float, y: float, share: float) -> str:
    light = round(255 - 175 * share)
    ink = "white" if share > 0.55 else "black"
    middle = _CELL / 2
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{_CELL - 2}" height="{_CELL - 2}" '
        f'fill="rgb({light},{light},255)"/>'
        f'<text x="{x + middle - 1:g}" y="{y + middle + 3:g}" text-anchor="middle" '
        f'font-size="11" fill="{ink}">{share * 100:.0f}</text>'
    )
