"""Plan an arena, or run it: checks, scoring, trial, arms, outputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import NoProgress, ProgressReporter
from siftune.curate.core.schema import kind_of
from siftune.curate.files.atomic import write_json
from siftune.finetune.models import loading
from siftune.pipelines.arena.forecast import (
    known_trial,
    plan_lines,
    scoring_hours,
    trial,
    trial_work,
)
from siftune.pipelines.arena.outputs import summary_lines, write_outputs
from siftune.pipelines.arena.recipe import Arena
from siftune.pipelines.arena.results import results_of
from siftune.pipelines.arena.work import Arm, Work

__all__ = ["plan", "run_arena"]


def check(work: Work) -> None:
    """Refuse what cannot run, before anything is scored or trained.

    Raises:
        UsageError: the base, a held-out set, a measure or an option of the trainer does not fit.
    """
    arena = work.arena
    loading.load_tokenizer(arena.base)
    loading.check_writes(arena.base)
    for name, table in work.heldout.items():
        for measure in arena.heldout[name].measures:
            kinds = measure.made().kinds
            if kind_of(table) not in kinds:
                wanted = " or ".join(kinds)
                raise UsageError(
                    f"heldout: {name}: {measure.label} reads {wanted} rows, and {name} has "
                    f"{kind_of(table)} rows"
                )
    for method in arena.arms:
        trainer = work.trainer(Arm(method, arena.budgets[0], arena.seeds[0]), 1)
        if hasattr(trainer, "check_options"):
            trainer.check_options()


def plan(arena: Arena, out: Path) -> list[str]:
    """The lines of the plan; nothing is written to ``out``."""
    with TemporaryDirectory() as place:
        work = trial_work(arena, Path(place) / "trial")
        check(Work(arena, out))
        low, high, unknown = scoring_hours(arena, Path(place) / "pool")
        with work.folder():
            known = results_of(arena, out / "measured", work.heldout_ids, None)
            lines = list(plan_lines(arena, work, trial(work), known))
        shutil.rmtree(Path(place) / "trial")
    also = f", and {', '.join(unknown)}" if unknown else ""
    return [*lines, f"  scoring the pool: {low:.2f} to {high:.2f} CPU hours{also}"]


def run_arena(
    arena: Arena, out: Path, say: ProgressReporter | None = None, hours: float | None = None
) -> tuple[dict[str, Any], bool, list[str]]:
    """Run what is not done; returns results, whether all arms are done, and lines to print.

    Raises:
        DataError: rows of the pool overlap with a held-out set, and the recipe does not allow it;
            or rows cannot be trained on.
        UsageError: something does not fit (`check`), or ``out`` is not of an earlier arena.
        LockedError: another process runs in ``out``.
    """
    work = Work(arena, out, say or NoProgress())
    check(work)
    with work.folder():
        work.prepare()
        for line in plan_lines(arena, work, known_trial(work), work.lines()):
            work.say(line)
        write_json(out / "recipe.yaml", dict(arena.raw))  # JSON is YAML too
        whole = work.run(hours)
        results = write_outputs(work)
    return results, whole, summary_lines(results, arena.tested)
