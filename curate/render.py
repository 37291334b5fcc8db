"""Text output of runs, plans and row traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson

from siftune.curate.core.terminal import printable
from siftune.curate.runners.explain import RowTrace, StageRecord
from siftune.curate.runners.forecast import Forecast, forecast_lines
from siftune.curate.runners.plan import Plan
from siftune.curate.runners.run import Result

__all__ = ["as_text", "as_value", "plan_end", "plan_text", "result_text", "value_text"]

_LONGEST = 400


def result_text(result: Result) -> str:
    """Counts by stage and reason."""
    counts = result.manifest["counts"]
    lines = []
    for stage in result.manifest["stages"]:
        for why, number in stage.get("reasons", {}).items():
            lines.append(f"  {stage['stage']:<24} {why:<32} {number:>9,}")
    if not result.worked:
        lines.append("  every stage was done before")
    outcome = ", ".join(f"{counts[name]:,} {name}" for name in ("kept", "dropped", "quarantined"))
    parts = [
        f"  {number:,} of the dropped rows are in {result.out / name}"
        for name, number in result.manifest.get("parts", {}).items()
    ]
    last = [*lines, *parts, f"written to {result.out}"]
    return "\n".join([f"{counts['rows']:,} rows = {outcome}", *last])


def plan_text(plan: Plan, forecasts: Sequence[Forecast] = ()) -> str:
    """Inputs, stages with options, which are done, and the forecast of the rest."""
    size = sum(item["bytes"] for item in plan.inputs)
    files = "1 input file" if len(plan.inputs) == 1 else f"{len(plan.inputs)} input files"
    inputs = f"{files}, {size / 1e6:,.1f} MB"
    lines = [f"{plan.recipe.name}: {inputs}, seed {plan.recipe.seed}"]
    lines.append(f"  ingest{'  (done before)' if plan.ingested else ''}")
    for step in plan.steps:
        options = ", ".join(f"{key}={value_text(one)}" for key, one in step.spec.options.items())
        done = "  (done before)" if step.done else ""
        lines.append(f"  {step.label} {step.spec.group} {options}{done}")
    return plan_end([*lines, *forecast_lines(forecasts)])


def value_text(value: Any) -> str:
    """The value of an option as recipes have it, which ``-o`` reads.

    >>> value_text("auto"), value_text(True), value_text({"web": 3})
    ('auto', 'true', '{"web":3}')
    """
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def plan_end(lines: Sequence[str]) -> str:
    """The lines of a plan as text, with the last line of every ``--dry-run``."""
    return "\n".join([*lines, "nothing was written (--dry-run)"])


def as_value(trace: RowTrace) -> dict[str, Any]:
    """A row trace as plain values."""
    return asdict(trace)


def as_text(trace: RowTrace) -> str:
    """A row trace as indented lines; control characters of the data are escaped."""
    lines = [f"{trace.id}: {trace.final.decision} by {trace.final.stage}: {trace.final.reason}"]
    lines += _content("content", trace.content)
    lines += [line for record in trace.chapters for line in _record(record)]
    if trace.final.detail and all(one.detail != trace.final.detail for one in trace.chapters):
        lines.append(f"  detail: {_pairs(trace.final.detail)}")
    lines += _survivor(trace)
    return printable("\n".join(lines))


def _survivor(trace: RowTrace) -> list[str]:
    title, reference = (
        f"survivor {trace.final.detail.get('survivor')}",
        trace.final.detail.get("reference"),
    )
    if reference is None:
        return _content(title, trace.survivor)
    if trace.survivor is None:
        return [f"  {title} is a row of {reference}, whose text cannot be read now"]
    return _content(f"{title} of {reference}", trace.survivor)


def _record(record: StageRecord) -> list[str]:
    if record.decision is None:
        return [f"  {record.stage}: {_scores(record.scores)}"]
    return [
        f"  {record.stage}: {record.decision}, {record.reason} {_pairs(record.detail)}".rstrip()
    ]


def _scores(scores: dict[str, Any]) -> str:
    """Scores of a stage; of values that are 0 or false, and of missing ones, only their number."""
    found = {name: value for name, value in scores.items() if value not in (0, False, [], None)}
    vectors = {name: f"{len(v)} numbers" for name, v in found.items() if _is_vector(v)}
    missing = sum(value is None for value in scores.values())
    zero = len(scores) - len(found) - missing
    counts = [f"{zero} are 0 or false"] * bool(zero) + [f"{missing} missing"] * bool(missing)
    return ", ".join([_pairs(found | vectors)] * bool(found) + counts)


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 16 and isinstance(value[0], int | float)


def _content(title: str, content: dict[str, Any] | None) -> list[str]:
    if content is None:
        return []
    lines = [f"  {title}:"]
    for name, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
            lines += [f"    {name} {turn['role']}: {_short(turn['content'])}" for turn in value]
    return lines


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key}={_short(value)}" for key, value in values.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
