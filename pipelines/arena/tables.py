"""Tables of an arena in Markdown: effects, costs, overlaps, power, and samples side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any, Final

from siftune.curate.core.markdown import escaped
from siftune.curate.files.atomic import read_json
from siftune.pipelines.arena.recipe import REFERENCE
from siftune.pipelines.arena.results import Line, comparisons_of
from siftune.pipelines.arena.selections import overlaps_of
from siftune.pipelines.arena.work import Arm, Work

__all__ = ["report_lines", "samples_lines"]

_SAMPLES: Final = 6
_CUT: Final = 400  # characters of an answer that is shown


def report_lines(work: Work, lines: Sequence[Line]) -> Iterator[str]:
    """The whole report."""
    arena = work.arena
    done = work.done()
    seeds = max((one.difference.seeds for one in lines), default=0)
    yield f"# Arena {arena.name}"
    yield ""
    if len(done) < len(work.arms):
        yield f"**Not whole: {len(done)} of {len(work.arms)} arms are measured.**"
        yield ""
    yield (
        f"{len(arena.arms)} methods, {len(arena.budgets)} budgets, {seeds} of {len(arena.seeds)} "
        f"seeds measured, {arena.step.method} on {arena.base}. Every difference is from `random`, "
        "paired by seed and prompt, as a mean over templates; brackets are 95 % intervals over "
        "seeds and prompts."
    )
    yield (
        f"Corrected intervals hold together, and p-values are Holm's, for all "
        f"{comparisons_of(arena)} comparisons of what is tested, measured yet or not: "
        f"{', '.join(arena.tested)}. Other measures are described, not tested. "
        "`by template` is the smallest and largest difference under one template. A selection is "
        "`short` where its method keeps fewer tokens than the budget: its rows are repeated more "
        "often."
    )
    yield ""
    costs = work.costs()
    for label in dict.fromkeys(one.measure for one in lines):
        for budget in arena.budgets:
            own = [one for one in lines if (one.measure, one.budget) == (label, budget)]
            yield from _effects(work, label, budget, own, costs)
    yield from _power(work, lines)
    yield from _overlap(work)


def _effects(
    work: Work, label: str, budget: str, lines: Sequence[Line], costs: Mapping[str, float]
) -> Iterator[str]:
    if not lines:
        return
    better = {"lower": "lower is better", "higher": "higher is better"}.get(lines[0].better, "")
    yield f"## {label}, budget {budget} ({work.tokens[budget]:,} answer tokens)" + (
        f": {better}" if better else ""
    )
    yield ""
    head = ["method", "mean", "difference", "of random", "corrected", "p (Holm)"]
    head += ["by template", "rows / tokens / short", "selection, CPU s", "verdict"]
    kept = _kept(work, budget, REFERENCE)
    rows = [[REFERENCE, _number(lines[0].reference), *[""] * 5, kept, "", ""]]
    sign = -1 if lines[0].better == "lower" else 1
    for one in sorted(lines, key=lambda line: -sign * line.difference.effect):
        found = one.difference
        ends = "" if found.low is None else f" ({_number(found.low)} … {_number(found.high)})"
        share = f"{100 * found.effect / abs(one.reference):+.2f} %" if one.reference else ""
        together = "" if one.together is None else " … ".join(map(_number, one.together))
        rows.append(
            [
                *(one.method, _number(one.mean), _number(found.effect) + ends, share, together),
                "" if one.adjusted is None else f"{one.adjusted:.3f}",
                " … ".join(map(_number, one.by_template)),
                _kept(work, budget, one.method),
                f"{costs[one.method]:,.1f}",
                one.verdict,
            ]
        )
    yield from _table(head, rows)
    yield ""


def _kept(work: Work, budget: str, method: str) -> str:
    """Mean rows and tokens of a method's selections, and how many seeds lack part of the budget."""
    each = [work.selection(Arm(method, budget, seed))[1] for seed in work.arena.seeds]
    rows, tokens = (mean(one[key] for one in each) for key in ("rows", "tokens"))
    short = sum(one["short"] for one in each)
    return f"{rows:,.0f} / {tokens:,.0f} / {short} of {len(each)} seeds"


def _power(work: Work, lines: Sequence[Line]) -> Iterator[str]:
    from siftune.pipelines.arena.forecast import power_lines

    yield "## Power"
    yield ""
    for line in power_lines(work.arena, work, lines):
        yield f"* {line.strip()}"
    yield ""


def _overlap(work: Work) -> Iterator[str]:
    arena = work.arena
    yield "## Overlap of selections: shared rows over rows of either, with the first seed"
    yield ""
    for budget in arena.budgets:
        groups = {}
        for method in arena.arms:
            ids = work.selection(Arm(method, budget, arena.seeds[0]))[1]["ids"]
            if ids:
                groups[method] = ids
        found = overlaps_of(groups)
        rows = [[name, *(f"{found[name][other]:.2f}" for other in groups)] for name in groups]
        yield from _table([budget, *groups], rows)
        yield ""


def samples_lines(work: Work) -> Iterator[str]:
    """Answers of all arms to the same prompts: the first seed, the largest budget."""
    arena = work.arena
    budget = max(work.tokens, key=lambda one: work.tokens[one])
    done = work.done()
    yield f"# Answers to the same prompts: budget {budget}, seed {arena.seeds[0]}, greedy or drawn"
    for name in arena.heldout:
        answers = {}
        for method in arena.arms:
            arm = Arm(method, budget, arena.seeds[0])
            path = work.measured(arm) / f"{name}.answers-0.json"
            if path.is_file() and arm.name in done:
                answers[method] = read_json(path)["answers"]
        if answers:
            yield ""
            yield f"## {name}"
            yield from _side_by_side(answers)


def _side_by_side(answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    first = next(iter(answers.values()))
    for at in range(min(_SAMPLES, len(first))):
        yield ""
        yield f"**{escaped(_line(first[at]['question']))}**"
        yield ""
        known = first[at]["reference"]
        rows = [["reference", _line(known)]] if known is not None else []
        rows += [[method, _line(own[at]["completion"] or "")] for method, own in answers.items()]
        yield from _table(["arm", "answer"], rows)


_NUMBERS: Final = re.compile(r"[-+\d., …%()einfa]*")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown; cells that are no numbers are escaped."""
    yield f"| {' | '.join(map(escaped, head))} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(one if _NUMBERS.fullmatch(one) else escaped(one) for one in row)} |"


def _line(text: str) -> str:
    joined = " ".join(str(text).split())
    return joined if len(joined) <= _CUT else joined[: _CUT - 1] + "…"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
