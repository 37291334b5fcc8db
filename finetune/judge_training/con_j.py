"""Con-J, arXiv:2410.03742: a judge that writes reasons, trained by DPO on its own judgements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.core.progress import quiet_transformers, report_progress
from siftune.curate.core.registry import build
from siftune.curate.files.project_folder import make_project_folder, project_folder
from siftune.curate.judge_calls.engine import Judge as Engine
from siftune.curate.judge_calls.engine_options import cache_file
from siftune.curate.judge_calls.spec import JUDGES
from siftune.curate.judge_calls.types import Item, Task, Verdict
from siftune.curate.judging.judge_task import judge_task
from siftune.curate.judging.judgement_pairs import judgement_pairs
from siftune.curate.judging.row_items import items_of
from siftune.finetune.data import training_rows
from siftune.finetune.judge_training.judged import judge_of_pairs

if TYPE_CHECKING:
    from siftune.finetune.core.types import TrainResult
    from siftune.finetune.runs.resumable_run import Run
    from siftune.finetune.trainers.preference import Preference

__all__ = ["TASK", "task_options", "train_con_j"]

TASK: Final = "contrastive"
_USUAL: Final = {"samples": 1, "max_tokens": 128}


def task_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the task, in training and of the judge that comes of it.

    Raises:
        UsageError: one does not fit.
    """
    options = {**_USUAL, **given}
    judge_task(TASK, options)
    return options


def train_con_j(
    trainer: Preference,
    given: Mapping[str, Any],
    train: pl.DataFrame,
    test: pl.DataFrame,
    rows: Path,
    run: Run,
    described: Mapping[str, Any],
) -> TrainResult:
    """Sample judgements of ``train``, learn the right ones, calibrate the judge on ``test``.

    The answers are kept in the project's cache, so a run that was stopped asks none of them again.
    ``described`` are facts of the model folder that replace those of a preference training.

    Raises:
        DataError: no order of a pair has a right and a wrong judgement.
        UsageError: the model writes no judgements.
    """
    options = task_options(given)
    task = judge_task(TASK, options)
    bad = training_rows.bad_rows(train)
    used = training_rows.drop_bad(train, bad, trainer.on_bad, rows)
    found = judgement_pairs(used, task, _asking(trainer.model, trainer.precision), hints=True)
    if found.rows.is_empty():
        counted = ", ".join(f"{count:,} {why}" for why, count in found.left_out.items())
        raise DataError(f"{rows}: no pair of judgements to learn from: {counted}")
    sampled = {"right": found.right, "wrong": found.wrong, "hinted": found.hinted}

    def finish(
        model: Any, tokenizer: Any, _: pl.DataFrame, facts: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        raw = _preferences(model, tokenizer, test, task, trainer.precision)
        judged = judge_of_pairs(raw, training_rows.prompt_keys(test).to_list())
        slope = judged.scale.calibrator.slope
        calibration = {} if judged.why_not else {"calibration": slope}
        own = judged.judge("local_model", TASK, {**options, **calibration}, judgements=sampled)
        return {**described, **judged.written(own, run.beside, facts)}

    return trainer.train(found.rows, rows, run, finish)


def _asking(model: str, precision: str) -> Any:
    """What asks a chat model in this process about items."""
    make_project_folder(project_folder())
    backend = build(JUDGES, "local_model", {"model": model, "precision": precision})

    def ask(task: Task, items: Sequence[Item], _: Sequence[str]) -> Iterator[Verdict]:
        engine = Engine(backend, task, cache=cache_file(""), ask_again=0)
        for done, verdict in enumerate(engine.verdicts(items), 1):
            yield verdict
            report_progress(done, len(items), "judgements")

    return ask


def _preferences(
    model: Any, tokenizer: Any, table: pl.DataFrame, task: Any, precision: str
) -> np.ndarray:
    """Mean verdict of each pair for its chosen answer, from -1 to 1; NaN where there is none."""
    usable = table.join(training_rows.bad_rows(table), on="id", how="anti", maintain_order="left")
    with TemporaryDirectory() as folder:
        with quiet_transformers():
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        verdicts = list(_asking(folder, precision)(task, list(items_of(usable)), ()))
    found = {
        key: 2 * verdict.values["preference"] - 1
        for key, verdict in zip(usable["id"], verdicts, strict=True)
        if verdict.values is not None
    }
    return np.array([found.get(key, np.nan) for key in table["id"]])
