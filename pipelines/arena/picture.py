"""SVG of an arena: the difference from `random` of each method, with intervals, by budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Final, TypeAlias

from siftune.pipelines.arena.results import Line

__all__ = ["effects_svg"]

Scale: TypeAlias = Callable[[float], float]

_LEFT, _WIDTH, _RIGHT, _ROW, _TOP = 190, 460, 270, 22, 64
_ABOUT = (
    "Difference from random: 95 % interval; thin: corrected for all comparisons, drawn to at most "
    "three times that width."
)
_BETTER, _WORSE, _NEITHER = "#1b7f4d", "#b5341c", "#6b6b6b"
_TICKS: Final = 5


def effects_svg(lines: Sequence[Line], title: str) -> str:
    """One panel a budget, one row a method: a dot and its 95 % interval, thin the corrected one.

    Green and red are differences that are significant after Holm's correction, grey all others.
    """
    budgets = list(dict.fromkeys(one.budget for one in lines))
    ends = [end for one in lines for end in _ends(one)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    pad = (high - low or 1.0) * 0.05
    low, high = low - pad, high + pad

    def x(value: float) -> float:
        return _LEFT + _WIDTH * (value - low) / (high - low)

    body, y = [], float(_TOP)
    for budget in budgets:
        own = sorted((one for one in lines if one.budget == budget), key=_order)
        body.append(_text(8, y + 4, f"budget: {budget}", weight="bold"))
        y += _ROW
        start = y - _ROW / 2
        for one in own:
            body += _row(one, x, y)
            y += _ROW
        body += _axis(low, high, x, start, y - _ROW / 2)
        y += _ROW * 1.6
    size = f'width="{_LEFT + _WIDTH + _RIGHT}" height="{y:.0f}"'
    view = f'viewBox="0 0 {_LEFT + _WIDTH + _RIGHT} {y:.0f}"'
    head = [
        _text(8, 20, title, weight="bold"),
        _text(8, 38, _ABOUT),
    ]
    joined = "\n".join([*head, *body])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{joined}\n</svg>\n'
    )


def _order(line: Line) -> float:
    good = -1.0 if line.better == "lower" else 1.0
    return -good * line.difference.effect


def _ends(line: Line) -> Iterator[float]:
    """What has to be visible: the corrected interval at most three times as wide as the other."""
    found = line.difference
    yield found.effect
    if found.low is not None and found.high is not None:
        yield from (found.low, found.high)
        if line.together is not None:
            width = found.high - found.low
            yield max(line.together[0], found.effect - width)
            yield min(line.together[1], found.effect + width)


def _row(line: Line, x: Scale, y: float) -> list[str]:
    found, verdict = line.difference, line.verdict
    colour = {"better": _BETTER, "worse": _WORSE}.get(verdict, _NEITHER)
    parts = [_text(_LEFT - 8, y + 4, line.method, anchor="end")]
    if found.low is not None and found.high is not None:
        if line.together is not None:
            width = found.high - found.low
            thin = (
                max(line.together[0], found.effect - width),
                min(line.together[1], found.effect + width),
            )
            parts.append(_bar(x(thin[0]), x(thin[1]), y, 1, colour))
        parts.append(_bar(x(found.low), x(found.high), y, 4, colour))
    parts.append(f'<circle cx="{x(found.effect):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>')
    parts.append(_text(_LEFT + _WIDTH + 10, y + 4, verdict, colour))
    return parts


def _axis(low: float, high: float, x: Scale, top: float, bottom: float) -> list[str]:
    zero = x(0.0)
    parts = [
        f'<line x1="{zero:.1f}" y1="{top:.1f}" x2="{zero:.1f}" y2="{bottom:.1f}" stroke="#222" '
        'stroke-dasharray="3 3"/>'
    ]
    for step in range(_TICKS):
        value = low + (high - low) * step / (_TICKS - 1)
        parts.append(_text(x(value), bottom + 14, f"{value:.3g}", "#444", "middle"))
    return parts


def _bar(x1: float, x2: float, y: float, width: float, colour: str) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )


def _text(
    x: float, y: float, text: str, colour: str = "#222", anchor: str = "start", weight: str = ""
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}"{bold}>'
        f"{escape(text)}</text>"
    )
