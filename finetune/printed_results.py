"""What a finished training or evaluation prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from siftune.curate.core.terminal import echo
from siftune.finetune.core import distributed

__all__ = ["print_result"]


def print_result(result: Any) -> None:
    """The result on stdout: what a training came to in words, the metrics of anything else."""
    if not distributed.first():
        return
    from siftune.finetune.core.intervals import as_text  # numpy
    from siftune.finetune.runs.summary import evaluation_lines, last_lines

    if (result.model / "metrics.jsonl").is_file():
        echo("\n".join([*last_lines(result), *_judge_lines(result.model)]))
        return
    if (result.model / "coverage.json").is_file():
        from siftune.finetune.tools.coverage import table_of

        echo(table_of(result.model))
        return
    if (result.model / "evaluation.json").is_file():
        echo("\n".join(evaluation_lines(result)))
        return
    metrics = ", ".join(f"{name} {value}" for name, value in as_text(result.metrics).items())
    echo(f"{result.model}: {result.rows:,} rows; {metrics}")


def _judge_lines(model: Path) -> list[str]:
    """The figures of a trained judge; of other models no lines."""
    from siftune.curate.judge_calls.trained import figure_lines, trained_judge

    judge = trained_judge(model)
    if judge is None:
        return []
    facts = judge.facts
    rows = f"{facts['held_out_rows']:,} held-out rows of {facts['held_out_prompts']:,} prompts"
    without = f"; {facts['unscored']:,} without a verdict" * bool(facts["unscored"])
    why = facts["uncalibrated"]
    return [
        f"  on {rows}{without}, with 95 % intervals:",
        *(f"  {line}" for line in figure_lines(facts["figures"])),
        *([f"  not calibrated: {why}"] if why else []),
        f"  to judge with it: siftune curate judge ROWS --judge {model} --out judged",
    ]
