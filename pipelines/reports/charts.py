"""Charts of the report, as plotly figures in plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import polars as pl

__all__ = ["Chart", "arms_chart", "beside", "curve", "embedding_map", "histogram", "rounds_chart"]

Chart: TypeAlias = dict[str, Any]
"""``data`` and ``layout`` of a plotly figure."""

_COLOURS = ("#2f6f4f", "#b5541c", "#3b5b92", "#8a6d1d", "#7a3b69", "#4f8a8b", "#a33b3b", "#5b5b5b")
_ON_BOTH = ("#2f8f5f", "#c5642c")  # readable on a light and on a dark page
_MARK = {"color": "#d33", "dash": "dot", "width": 2}
_GREY = "#888888"
_GRID = "rgba(128,128,128,0.25)"
_KEPT = "kept"
_APART = 0.05  # of a round, between the intervals of two lines


def histogram(name: str, kept: pl.Series, dropped: pl.Series, bins: int = 40) -> Chart | None:
    """Shares of kept and dropped rows by score, the middle 99 %; None with nothing to show."""
    both = pl.concat([kept, dropped]).drop_nulls().cast(pl.Float64)
    both = both.filter(both.is_finite())
    if both.len() == 0:
        return None
    low, high = float(both.quantile(0.005) or 0), float(both.quantile(0.995) or 0)
    if low == high:  # as good as all rows have one value
        return None
    edges = np.linspace(low, high, bins + 1)
    bars = [_bars(label, column, edges) for label, column in ((_KEPT, kept), ("dropped", dropped))]
    return _figure(bars, name, "share of rows", barmode="overlay")


def curve(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Chart:
    """One line a name, of (step, value) points."""
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(points) < 30 else "lines",
            "name": name,
            "x": [step for step, _ in points],
            "y": [value for _, value in points],
            "line": {"color": _COLOURS[i % len(_COLOURS)]},
        }
        for i, (name, points) in enumerate(lines.items())
    ]
    return _figure(data, "step", title)


def beside(
    pair: Sequence[tuple[str, Sequence[tuple[float, float]]]], marked: Sequence[float] = ()
) -> Chart:
    """Two lines of (step, value) points with an axis each, and a mark at some steps (alarms)."""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": [step for step, _ in points],
            "y": [value for _, value in points],
            "line": {"color": colour},
            "yaxis": axis,
        }
        for (name, points), colour, axis in zip(pair, _ON_BOTH, ("y", "y2"), strict=True)
    ]
    figure = _figure(data, "step", pair[0][0], showlegend=True)
    title = {"text": pair[1][0]}
    other = {"title": title, "overlaying": "y", "side": "right", "tickmode": "auto"}
    figure["layout"]["yaxis2"] = {**other, "showgrid": False, "zeroline": False}
    figure["layout"]["margin"] |= {"r": 60}
    figure["layout"]["shapes"] = [
        {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": _MARK}
        for at in marked
    ]
    return figure


def rounds_chart(title: str, lines: Mapping[str, Mapping[int, Mapping[str, float]]]) -> Chart:
    """One line a name: of each round a figure with its ``low`` and ``high``."""
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": [at + _APART * (i - (len(lines) - 1) / 2) for at in points],
            "y": [one["value"] for one in points.values()],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [one["high"] - one["value"] for one in points.values()],
                "arrayminus": [one["value"] - one["low"] for one in points.values()],
            },
            "line": {"color": _COLOURS[i % len(_COLOURS)]},
        }
        for i, (name, points) in enumerate(lines.items())
    ]
    figure = _figure(data, "round", title, showlegend=True)
    figure["layout"]["xaxis"] |= {"dtick": 1}
    return figure


def arms_chart(arms: Sequence[Mapping[str, Any]], metric: str) -> Chart:
    """Each arm's mean with its interval, and its seeds as dots."""
    means = {
        "type": "scatter",
        "mode": "markers",
        "name": "mean, 95 % interval",
        "x": [arm["mean"] for arm in arms],
        "y": [arm["arm"] for arm in arms],
        "marker": {"size": 12, "color": _COLOURS[0]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [arm["high"] - arm["mean"] for arm in arms],
            "arrayminus": [arm["mean"] - arm["low"] for arm in arms],
        },
    }
    seeds = [(value, arm["arm"]) for arm in arms for value in arm["values"]]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "seeds",
        "x": [value for value, _ in seeds],
        "y": [name for _, name in seeds],
        "marker": {"size": 6, "color": _COLOURS[1], "opacity": 0.7},
    }
    return _figure([means, dots], metric, "")


def embedding_map(points: np.ndarray, groups: Sequence[str], texts: Sequence[str]) -> Chart:
    """A map of rows, one colour a decision and reason; ``points`` is (n, 2)."""
    labels = np.asarray(groups)
    order = sorted(set(groups), key=lambda group: (group != _KEPT, -int((labels == group).sum())))
    data = []
    for i, group in reversed(list(enumerate(order))):  # kept is drawn last, on top
        at = np.flatnonzero(labels == group)
        data.append(
            {
                "type": "scattergl",
                "mode": "markers",
                "name": f"{group} ({len(at):,})",
                "x": np.round(points[at, 0], 4).tolist(),
                "y": np.round(points[at, 1], 4).tolist(),
                "text": [texts[int(j)] for j in at],
                "hoverinfo": "text",
                "marker": {"size": 4, "opacity": 0.6, "color": _COLOURS[i % len(_COLOURS)]},
            }
        )
    figure = _figure(data, "first principal component", "second")
    figure["layout"] |= {"height": 560, "hovermode": "closest"}
    return figure


def _bars(label: str, column: pl.Series, edges: np.ndarray) -> Chart:
    values = column.drop_nulls().cast(pl.Float64).to_numpy()
    counts, _ = np.histogram(values, bins=edges)
    return {
        "type": "bar",
        "name": f"{label} ({len(values):,})",
        "x": np.round((edges[:-1] + edges[1:]) / 2, 6).tolist(),
        "y": np.round(counts / max(len(values), 1), 6).tolist(),
        "opacity": 0.6,
        "marker": {"color": _COLOURS[0] if label == _KEPT else _COLOURS[1]},
    }


def _figure(data: list[Chart], x: str, y: str, **layout: Any) -> Chart:
    common = {
        "height": 300,
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "xaxis": {"title": {"text": x}, "gridcolor": _GRID, "zerolinecolor": _GRID},
        "yaxis": {"title": {"text": y}, "gridcolor": _GRID, "zerolinecolor": _GRID},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12, "color": _GREY},
        "legend": {"orientation": "h", "y": 1.15},
    }
    return {"data": data, "layout": common | layout}
