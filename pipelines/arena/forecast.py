"""Plan of an arena: its arms, their time and cost from a short measured trial, and its power."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from siftune.curate.files.atomic import digest_of, read_json, write_json
from siftune.curate.runners.preview import preview
from siftune.finetune.data.training_rows import data_hash
from siftune.pipelines.arena.measuring import Measuring
from siftune.pipelines.arena.recipe import REFERENCE, Arena
from siftune.pipelines.arena.results import Line, powers
from siftune.pipelines.arena.selections import pool_recipe
from siftune.pipelines.arena.work import Arm, Work

__all__ = ["known_trial", "plan_lines", "scoring_hours", "trial", "trial_work"]

_SMALL, _LARGE = 3, 9  # held-out rows of the trial
_SHARE: Final = 0.05  # of the smallest budget that the trial trains on, and three times that


def trial_work(arena: Arena, out: Path) -> Work:
    """An arena whose pool has no scores: its rows and tokens, for a plan before any scoring."""
    pool = replace(arena.pool, stages=())
    return Work(replace(arena, pool=pool, methods={}, overlap="allow"), out)


def trial(work: Work) -> dict[str, Any]:
    """CPU seconds of a training (fixed, and a token) and of each measure (fixed, and a row).

    Two short trainings of the arm `random` and two passes of each measure of the base, of which one
    is three times as long; nothing of it stays. Times are of this process on this machine.
    """
    arm = Arm(REFERENCE, min(work.tokens, key=lambda one: work.tokens[one]), work.arena.seeds[0])
    rows, facts = work.selection(arm)
    epochs = float(work.arena.step.options.get("epochs", 1))
    longest = facts["tokens"] / facts["rows"] * 4 + 16
    small = max(longest, _SHARE * facts["tokens"]) / epochs
    with TemporaryDirectory() as place:
        seconds = []
        for at, tokens in enumerate((small, 3 * small)):
            start = time.process_time()
            work.trainer(arm, int(tokens) + 1)(rows, Path(place) / f"model{at}")
            seconds.append(time.process_time() - start)
        slope = max(0.0, seconds[1] - seconds[0]) / (2 * small * epochs)
        train = (max(0.0, seconds[0] - slope * small * epochs), slope)
        measures = _measure_rates(work, Path(place))
    return {"train": train, "measures": measures}


def _measure_rates(work: Work, place: Path) -> dict[str, tuple[float, float]]:
    one = replace(work.arena, templates=work.arena.templates[:1])
    found: dict[str, list[tuple[int, float]]] = {}
    for rows in (_SMALL, _LARGE):
        tables = {name: table.head(rows) for name, table in work.heldout.items()}
        folder = place / f"measured{rows}"
        Measuring(one, tables, work.memory)(Path(work.arena.base), str(rows), folder, None)
        for name, table in tables.items():
            for measure in one.heldout[name].measures:
                label = f"{name}/{measure.label}"
                spent = read_json(folder / f"{name}.{measure.label}.json")["cpu_seconds"]
                found.setdefault(label, []).append((table.height, spent))
    return {label: _rate(points) for label, points in found.items()}


def _rate(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Fixed seconds and seconds a row through two points."""
    (few, first), (many, second) = points
    if many == few:
        return 0.0, second / max(1, many)
    slope = max(0.0, (second - first) / (many - few))
    return max(0.0, first - slope * few), slope


def arm_seconds(work: Work, rates: Mapping[str, Any], budget: str) -> float:
    """CPU seconds of one arm."""
    epochs = float(work.arena.step.options.get("epochs", 1))
    fixed, slope = rates["train"]
    total = fixed + slope * work.tokens[budget] * epochs
    for label, (start, each) in rates["measures"].items():
        rows = work.heldout[label.partition("/")[0]].height
        total += len(work.arena.templates) * (start + each * rows)
    return float(total)


def scoring_hours(arena: Arena, out: Path) -> tuple[float, float, list[str]]:
    """CPU hours of the scoring run, at least and at most, and the stages that are not forecast."""
    _, stages = preview(pool_recipe(arena), out)
    known = [one.seconds for one in stages if one.seconds]
    low, high = (sum(one[at] for one in known) / 3600 for at in (0, 1))
    return low, high, [one.label for one in stages if one.seconds is None]


def plan_lines(
    arena: Arena, work: Work, rates: Mapping[str, Any], lines: Sequence[Line]
) -> Iterator[str]:
    """The plan; ``work`` has tokens and held-out rows, ``lines`` are what is measured so far."""
    arms = len(arena.arms) * len(arena.budgets) * len(arena.seeds)
    yield (
        f"{arena.name}: {arms} arms = {len(arena.arms)} methods x {len(arena.budgets)} budgets x "
        f"{len(arena.seeds)} seeds, {arena.step.method} on {arena.base}"
    )
    yield f"  methods: {', '.join(arena.arms)}"
    epochs = float(arena.step.options.get("epochs", 1))
    for budget, tokens in work.tokens.items():
        same = f"{tokens:,} answer tokens, {tokens * epochs:,.0f} learned in {epochs:g} epochs"
        yield f"  budget {budget}: {same}, by every arm to within one row"
    for name, table in work.heldout.items():
        labels = ", ".join(one.label for one in arena.heldout[name].measures)
        yield f"  held out {name}: {table.height} rows x {len(arena.templates)} templates: {labels}"
    each = {budget: arm_seconds(work, rates, budget) for budget in work.tokens}
    hours = sum(each.values()) * len(arena.arms) * len(arena.seeds) / 3600
    cost = f", {hours * arena.price:,.2f} dollars" if arena.price else ""
    yield f"  arms: about {hours:.2f} CPU hours{cost} (from a trial; scoring the pool is apart)"
    for budget, seconds in each.items():
        yield f"    one arm of {budget}: about {seconds / 60:.1f} CPU minutes"
    yield from power_lines(arena, work, lines)


def power_lines(arena: Arena, work: Work, lines: Sequence[Line]) -> Iterator[str]:
    """What difference the arena can see, and how many seeds a power of .8 would take."""
    rows = {name: table.height for name, table in work.heldout.items()}
    per_seed = len(arena.arms) * len(arena.budgets)
    for label, one in powers(arena, lines, rows).items():
        if not one["known"]:
            yield (
                f"  power of {label}: not known before two seeds are measured; set expect "
                "(seeds, prompts, rest) to the standard deviations of an earlier arena"
            )
            continue
        needed = one["seeds_needed"]
        seeds = "more than 60 seeds: take more prompts" if needed is None else f"{needed} seeds"
        more = "" if needed is None else f" ({needed * per_seed} arms)"
        yield (
            f"  power of {label}: {one['power']:.2f} to see {100 * one['difference']:g} % with "
            f"{one['seeds']} seeds, corrected for {one['comparisons']} comparisons; .8 needs "
            f"{seeds}{more} ({one['variances']} spread: seeds {100 * one['sd']['seeds']:.2g} %, "
            f"prompts {100 * one['sd']['prompts']:.2g} %, rest {100 * one['sd']['rest']:.2g} %)"
        )


def known_trial(work: Work) -> dict[str, Any]:
    """The rates of the folder's trial, made once."""
    path = work.out / "trial.json"
    key = _trial_key(work)
    if path.is_file():
        known: dict[str, Any] = read_json(path)
        if known.get("key") == key:
            return known
    work.say("a short trial, for the forecast")
    found = {"key": key, **trial(work)}
    write_json(path, found)
    return found


def _trial_key(work: Work) -> str:
    """What decides the rates: the base, the training, the budgets, the measures and their rows."""
    arena = work.arena
    held = {
        name: [data_hash(table), *(asdict(one) for one in arena.heldout[name].measures)]
        for name, table in work.heldout.items()
    }
    training = [arena.step.method, dict(arena.step.options), work.tokens]
    return digest_of([work.base_hash, training, held, dict(arena.generate)])
