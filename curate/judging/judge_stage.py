"""The stage that judges rows: the scorer of a task, with its judge or judges as options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from siftune.curate.core.custom import name_and_options
from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.spec import default_task, refuse_rubric
from siftune.curate.judge_calls.types import Task
from siftune.curate.judging.judge_task import judge_task

__all__ = ["judge_stage", "scorer_of"]


def judge_stage(
    kind: str, judge: Any, task: Any = None, options: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, Any]]:
    """Scorer and options for rows of ``kind``.

    ``judge`` is a text or a function, or a list of them, which vote; ``task`` a name or a class, by
    default the one that the judge was trained for, else ``pairwise`` for pairs, ``alpagasus`` for
    others.

    >>> judge_stage("preference", ["smollm2", "https://host/v1#m"])
    ('judge_pairwise', {'judge': 'smollm2', 'task': 'pairwise', 'panel': ('https://host/v1#m',)})

    Raises:
        UsageError: there is no such task, or no judge.
    """
    listed = list(judge) if isinstance(judge, list | tuple) else [judge]
    if not listed:
        raise UsageError("judge: expected a judge or a list of them, got an empty list")
    first, *panel = (
        one if isinstance(one, Mapping) else name_and_options(one)[0] for one in listed
    )
    own, task_options = default_task(first, kind)
    usual = "pairwise" if kind == "preference" else "alpagasus"
    name = (own or usual) if task is None else name_and_options(task)[0]
    for one in (first, *panel):
        refuse_rubric(one, name)
    given = dict(options or {}) | {"judge": first, "task": name}
    if name == own and task_options:
        given["task_options"] = {**task_options, **given.get("task_options", {})}
    if panel:
        given["panel"] = tuple(panel)
    return scorer_of(judge_task(name, given.get("task_options", {}))), given


def scorer_of(task: Task) -> str:
    """The scorer that has columns for a task.

    >>> scorer_of(judge_task("listwise", {})), scorer_of(judge_task("deita_quality", {}))
    ('judge_ranking', 'judge_rating')
    """
    if "ranks" in task.adds:
        return "judge_ranking"
    if task.answers == 2:
        return "judge_pairwise"
    if {"tags", "tag_count"} <= task.adds.keys():
        return "tags"
    return "judge_rating" if next(iter(task.adds.values())) == pl.Float64 else "judgement"
