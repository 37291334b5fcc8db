"""Outputs of an arena: results as JSON and Markdown, pictures, samples, the manifest."""

from __future__ import annotations

from typing import Any

from siftune.curate.files.atomic import write_json, write_text
from siftune.pipelines.arena.picture import effects_svg
from siftune.pipelines.arena.results import Line, powers
from siftune.pipelines.arena.tables import report_lines, samples_lines
from siftune.pipelines.arena.work import Work

__all__ = ["summary_lines", "write_outputs"]


def write_outputs(work: Work) -> dict[str, Any]:
    """Write all outputs of the arms that are measured so far; returns the results."""
    lines, done = work.lines(), work.done()
    rows = {name: table.height for name, table in work.heldout.items()}
    results = {
        "arms": {
            "measured": len(done),
            "of": len(work.arms),
            "missing": [arm.name for arm in work.arms if arm.name not in done],
        },
        "lines": [one.as_dict() for one in lines],
        "judge": _corrected_win_rates(work, lines),
        "power": powers(work.arena, lines, rows),
        "selection_cpu_seconds": work.costs(),
    }
    write_json(work.out / "manifest.json", work.manifest())
    write_json(work.out / "results.json", results)
    write_text(work.out / "results.md", "\n".join(report_lines(work, lines)) + "\n")
    write_text(work.out / "samples.md", "\n".join(samples_lines(work)) + "\n")
    for number, label in enumerate(dict.fromkeys(one.measure for one in lines), 1):
        own = [one for one in lines if one.measure == label]
        better = f", {own[0].better} is better" if own[0].better != "neither" else ""
        title = f"{label}: {work.arena.name}{better}"
        write_text(work.out / f"effects-{number}.svg", effects_svg(own, title))
    return results


def _corrected_win_rates(work: Work, lines: list[Line]) -> dict[str, Any]:
    """Win rates of a judge corrected by gold pairs, over all seeds and templates of each arm."""
    found, done = dict[str, Any](), work.done()
    for name, held in work.arena.heldout.items():
        for measure in held.measures:
            made = measure.made()
            if getattr(made, "gold", None) is None or not hasattr(made, "corrected"):
                continue
            for arm in work.arms:
                path = work.measured(arm) / f"{name}.{measure.label}.json"
                if arm.name in done and arm.seed == work.arena.seeds[0]:
                    label = f"{name}/{measure.label}/{arm.budget}/{arm.method}"
                    found[label] = made.corrected(
                        _verdicts(work, arm.method, arm.budget, path.name)
                    )
    return found


def _verdicts(work: Work, method: str, budget: str, file: str) -> list[float | None]:
    from siftune.curate.files.atomic import read_json

    paths = [
        work.measured(arm) / file
        for arm in work.arms
        if (arm.method, arm.budget) == (method, budget) and work.facts(arm) is not None
    ]
    there = [read_json(path)["values"] for path in paths]
    return [value for values in there for one in values for value in one]


def summary_lines(results: dict[str, Any], tested: tuple[str, ...]) -> list[str]:
    """What is printed: whether arms are missing, and one line a tested comparison."""
    arms = results["arms"]
    shown = []
    if arms["missing"]:
        shown.append(f"not whole: {arms['measured']} of {arms['of']} arms are measured")
    for one in results["lines"]:
        if one["measure"] in tested:
            share = one["share_of_random"]
            part = "" if share is None else f" ({100 * share:+.2f} %)"
            p = "" if one["holm"] is None else f", p {one['holm']:.3f} (Holm)"
            shown.append(
                f"{one['measure']}, {one['budget']}: {one['method']} {one['mean']:.4g}, "
                f"{one['difference']:+.4g}{part} from random{p}: {one['verdict']}"
            )
    return shown
