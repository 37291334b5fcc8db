"""Figures of a topic, written as JSON, a Markdown table and a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.measure import Contestant, Sample, Spread, ratios

__all__ = ["Check", "Line", "Topic", "as_json", "chart", "lines_of", "markdown", "topics_of"]


@dataclass(frozen=True)
class Line:
    """A contestant's row of the table; ``ratio`` is its CPU seconds a row over ours."""

    name: str
    rows: int
    runs: int
    cpu: Spread
    wall: float
    process_cpu: float
    peak_mb: float
    ratio: Spread | None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A figure and its goal; ``met`` (reached or not) is None where no goal is set."""

    what: str
    value: float | str | None
    goal: str = ""
    met: bool | None = None


@dataclass
class Topic:
    """All figures of one topic, and the ``limits`` of the machine in the run that measured them.

    A run at other sizes than the goals are set for is not ``judged`` by its speed.
    """

    name: str
    about: str
    judged: bool = True
    lines: list[Line] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    limits: Mapping[str, float] = field(default_factory=dict)

    def at_least(self, what: str, value: float | None, goal: float, *, speed: bool = False) -> None:
        """A figure that should be no less than ``goal``."""
        met = None if value is None or (speed and not self.judged) else value >= goal
        self.checks.append(Check(what, value, f">= {goal:g}", met))

    def at_most(self, what: str, value: float | None, goal: float, *, speed: bool = False) -> None:
        """A figure that should be no more than ``goal``."""
        met = None if value is None or (speed and not self.judged) else value <= goal
        self.checks.append(Check(what, value, f"<= {goal:g}", met))

    def ratio(self, name: str, goal: float) -> None:
        """The named contestant should take at least ``goal`` times our CPU seconds."""
        line = next((line for line in self.lines if line.name == name), None)
        median = line.ratio.median if line and line.ratio else None
        self.at_least(f"CPU seconds of {name} over ours", median, goal, speed=True)

    def report(self, what: str, value: float | str | None) -> None:
        """A figure without a goal."""
        self.checks.append(Check(what, value))


def lines_of(
    contestants: Sequence[Contestant], samples: Mapping[str, list[Sample]], ours: str
) -> list[Line]:
    """Rows of the table for those that ran, compared with the contestant ``ours``."""
    rows = {one.name: one.rows for one in contestants}
    found = []
    for name, runs in samples.items():
        if not runs:
            continue
        own = samples.get(ours)
        ratio = ratios(runs, own, rows[name], rows[ours]) if own and name != ours else None
        found.append(
            Line(
                name=name,
                rows=rows[name],
                runs=len(runs),
                cpu=Spread.of([run.cpu for run in runs]),
                wall=Spread.of([run.wall for run in runs]).median,
                process_cpu=Spread.of([run.process_cpu for run in runs]).median,
                peak_mb=max(run.peak_mb for run in runs),
                ratio=ratio,
                facts=runs[-1].facts,
            )
        )
    return found


def as_json(machine: Mapping[str, Any], topics: Sequence[Topic]) -> dict[str, Any]:
    """All figures as one object."""
    return {"machine": dict(machine), "topics": {topic.name: asdict(topic) for topic in topics}}


def topics_of(found: Mapping[str, Any]) -> dict[str, Topic]:
    """The topics of an object that `as_json` made, by name."""
    return {name: _topic(values) for name, values in found["topics"].items()}


def _topic(values: Mapping[str, Any]) -> Topic:
    lines = [
        Line(**{**line, "cpu": Spread(**line["cpu"]), "ratio": _spread(line["ratio"])})
        for line in values["lines"]
    ]
    return Topic(**{**values, "lines": lines, "checks": [Check(**one) for one in values["checks"]]})


def _spread(values: Mapping[str, float] | None) -> Spread | None:
    return None if values is None else Spread(**values)


def markdown(machine: Mapping[str, Any], topics: Sequence[Topic]) -> str:
    """The figures as tables."""
    parts = ["# Measured", "", _machine(machine)]
    for topic in topics:
        parts += ["", f"## {topic.name}", "", topic.about]
        parts += ["", *_table(topic.lines)] if topic.lines else []
        parts += ["", *_checks(topic.checks)] if topic.checks else []
        parts += ["", *(f"- {note}" for note in topic.notes)] if topic.notes else []
        parts += ["", _limits(topic.limits)] if topic.limits else []
    return "\n".join(parts) + "\n"


def chart(topics: Sequence[Topic]) -> str:
    """An SVG of each contestant's CPU seconds a row over ours, on a logarithmic scale."""
    bars = [
        (topic.name, line.name, line.ratio)
        for topic in topics
        for line in topic.lines
        if line.ratio
    ]
    if not bars:
        return _svg(40, ['<text x="10" y="24">nothing to compare</text>'])
    top = max(2.0, *(ratio.high for _, _, ratio in bars))
    low = min(0.5, *(ratio.low for _, _, ratio in bars))
    body, last, y = [], "", 34

    def at(value: float) -> float:
        return 300 + 480 * math.log(value / low) / math.log(top / low)

    for topic, name, ratio in bars:
        if topic != last:
            y += 22
            body.append(f'<text x="10" y="{y}" font-weight="bold">{escape(topic)}</text>')
            last = topic
        y += 20
        body += _bar(name, ratio, y, at)
    one = at(1)
    body.insert(0, f'<line x1="{one:.1f}" x2="{one:.1f}" y1="34" y2="{y + 6}" stroke="#888"/>')
    body.insert(0, '<text x="10" y="22">CPU seconds a row, Siftune = 1 (logarithmic)</text>')
    return _svg(y + 20, body)


def _bar(name: str, ratio: Spread, y: int, at: Any) -> list[str]:
    start, end = sorted((at(1), at(ratio.median)))
    colour = "#2f6f4f" if ratio.median >= 1 else "#b5541c"
    return [
        f'<text x="290" y="{y}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{start:.1f}" y="{y - 11}" width="{max(end - start, 1):.1f}" height="13" '
        f'fill="{colour}"/>',
        f'<line x1="{at(ratio.low):.1f}" x2="{at(ratio.high):.1f}" y1="{y - 4}" y2="{y - 4}" '
        'stroke="#000" stroke-width="2"/>',
        f'<text x="{max(end, at(ratio.high)) + 6:.1f}" y="{y}">{ratio.median:.3g}×</text>',
    ]


def _svg(height: int, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{height}" '
        f'viewBox="0 0 860 {height}" font-family="sans-serif" font-size="13">'
        '<rect width="100%" height="100%" fill="#fff"/>'
    )
    return "\n".join([head, *body, "</svg>"]) + "\n"


def _machine(machine: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {_number(value)} |" for name, value in machine.items()]
    return "\n".join(["| machine | |", "|---|---|", *rows])


def _limits(limits: Mapping[str, float]) -> str:
    told = ", ".join(f"{name} {_number(value)}" for name, value in limits.items())
    return f"The machine in that run: {told}."


def _table(lines: Sequence[Line]) -> list[str]:
    head = "| contestant | rows | runs | CPU s | CPU s, least to most | CPU µs a row | wall s "
    head += "| process CPU s | peak MB | over ours | spread | |"
    rows = [
        f"| {line.name} | {line.rows:,} | {line.runs} | {_number(line.cpu.median)} "
        f"| {_number(line.cpu.low)} to {_number(line.cpu.high)} "
        f"| {_number(line.cpu.median / line.rows * 1e6)} | {_number(line.wall)} "
        f"| {_number(line.process_cpu)} | {line.peak_mb:,.0f} | {_ratio(line.ratio)} "
        f"| {_facts(line.facts)} |"
        for line in lines
    ]
    return [head, "|" + "---|" * 12, *rows]


def _ratio(ratio: Spread | None) -> str:
    if ratio is None:
        return "1 | "
    return f"{ratio.median:.3g}× | {ratio.low:.3g} to {ratio.high:.3g}"


def _facts(facts: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in facts.items() if isinstance(value, int | float | str)}
    return ", ".join(f"{name} {_number(value)}" for name, value in shown.items())


def _checks(checks: Sequence[Check]) -> list[str]:
    word = {True: "yes", False: "**no**", None: ""}
    rows = [
        f"| {check.what} | {_number(check.value)} | {check.goal} | {word[check.met]} |"
        for check in checks
    ]
    return ["| what | found | goal | reached |", "|---|---|---|---|", *rows]


def _number(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
