"""Text output of pipelines: the plan, and the results of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from siftune.curate.render import plan_end, value_text
from siftune.curate.runners.forecast import Forecast, forecast_lines
from siftune.finetune.runs.summary import METRICS
from siftune.pipelines.judge_forecast import JudgeForecast
from siftune.pipelines.judge_forecast import forecast_lines as judge_lines
from siftune.pipelines.preflight import recipes_of
from siftune.pipelines.recipe import Pipeline
from siftune.pipelines.reports.before_after import means_of, reference_of
from siftune.pipelines.reports.judge_report import judged_text, unscored_texts
from siftune.pipelines.steps import judges_pairs, trainer_of
from siftune.pipelines.train_steps import MERGE, Step, makes_rows

__all__ = ["arms_text", "plan_text", "result_text"]

_MOST: Final = 6
_NO_JUDGE: Final = "no model (no step trains a reward model or on preferences)"


def plan_text(
    pipeline: Pipeline,
    out: Path,
    forecasts: Mapping[str, Sequence[Forecast]],
    settings: Mapping[str, Any],
    judged: Sequence[JudgeForecast] = (),
) -> str:
    """What a pipeline would do, what it would cost, and the path of each setting for ``-o``.

    ``forecasts`` are those of its curate recipes by their names, ``settings`` those of the recipe,
    ``judged`` those of the steps that ask a judge.
    """
    lines = [f"{pipeline.name}: into {out}, seed {pipeline.seed}"]
    lines.append(f"base: {pipeline.base or _made_from(pipeline)}")
    for key, recipe in recipes_of(pipeline).items():
        stages = " > ".join(stage.name for stage in recipe.stages) or "all rows"
        lines.append(f"{key}: {', '.join(recipe.source)}: {stages}")
        lines += forecast_lines(forecasts.get(key, ()))
    for key, given in pipeline.heldout.items():
        if isinstance(given, str):
            lines.append(f"heldout-{key}: {given}")
    for number, step in enumerate(pipeline.train, 1):
        lines.append(f"train {number}: {_step_text(step, forecasts.get(step.data, ()))}")
    lines += judge_lines(judged)
    lines += _evaluation_text(pipeline)
    lines.append("the time of trainings is not forecast: their progress shows the time left")
    lines.append("settings, each changed by -o PATH=VALUE:")
    lines += [f"  {path}={value_text(value)}" for path, value in settings.items()]
    more = "  train.N.METHOD.OPTION=VALUE, the options of `siftune finetune METHOD --help`"
    return plan_end([*lines, more])


def _made_from(pipeline: Pipeline) -> str:
    given = ", ".join(f"{key} {value}" for key, value in (pipeline.init or {}).items())
    return f"made by `siftune finetune init` ({given})"


def _step_text(step: Step, forecasts: Sequence[Forecast]) -> str:
    given = "".join(f", {key} {value_text(value)}" for key, value in step.options.items())
    if step.method == MERGE:
        return f"{step.label}: {step.method}{given}"
    rows = _rows_text(forecasts)
    return (
        f"{step.label}: {step.method} from {step.start} on `{step.data}`{rows}"
        f"{_steps_text(step, forecasts)}{given}"
    )


def _rows_text(forecasts: Sequence[Forecast]) -> str:
    if not forecasts:
        return ""
    last = forecasts[-1]
    words = ["at most"] * last.at_most + ["about"] * (not last.rows.counted)
    return f" ({' '.join([*words, f'{last.rows.count:,} rows'])})"


def _steps_text(step: Step, forecasts: Sequence[Forecast]) -> str:
    """The optimizer steps of a training, where rows and batches decide them."""
    made = makes_rows(step.method)
    if not forecasts or made or step.method == "ppo" or "max_tokens" in step.options:
        return ""
    trainer = trainer_of(step, {"model": "", "reward": ""})
    accumulated = trainer.options.get("gradient_accumulation_steps", 1)
    batch = trainer.batch_size * getattr(trainer, "gradient_accumulation", accumulated)
    rows = forecasts[-1].rows.count * (1 - getattr(trainer, "held_out", 0.0))
    return f", about {max(1, math.ceil(rows / batch * trainer.epochs)):,} steps"


def _evaluation_text(pipeline: Pipeline) -> Iterator[str]:
    if pipeline.heldout:
        given = "".join(f", {key} {value_text(value)}" for key, value in pipeline.evaluate.items())
        for key in pipeline.heldout:
            models = ", ".join(_evaluated_on(key, pipeline.trainings))
            yield f"evaluate: {models or _NO_JUDGE} on the held-out {key}{given if models else ''}"
    else:
        yield "evaluate: nothing, no rows are held out"
    if pipeline.arms is not None:
        arms = pipeline.arms
        seeds = ", ".join(map(str, arms.seeds))
        count = len(arms.names) * len(arms.seeds)
        yield (
            f"arms: {', '.join(arms.names)}, seeds {seeds}: {count} trainings as sft on equal "
            f"tokens, compared by {arms.metric}"
        )


def _evaluated_on(key: str, steps: Sequence[Step]) -> Iterator[str]:
    """Labels of the models that are evaluated on held-out prompts, or on held-out pairs."""
    if key == "prompts":
        yield "base"
    for step in steps:
        if judges_pairs(step.method) if key == "pairs" else step.method != "reward":
            yield step.label


def result_text(manifest: Mapping[str, Any], out: Path) -> str:
    """Models, held-out numbers before and after, and arms of a finished pipeline."""
    models = [model for model in manifest["models"] if not model.get("arm")]
    lines = [f"{model['label']}: {out / model['path']}" for model in models]
    lines += [*judged_text(manifest), *unscored_texts(manifest, out)]
    lines += _numbers_text(manifest, models, out)
    if manifest["arms"]:
        lines.append(arms_text(manifest["arms"]))
    return "\n".join([*lines, f"all numbers: {out / 'manifest.json'}"])


def _numbers_text(
    manifest: Mapping[str, Any], models: Sequence[Mapping[str, Any]], out: Path
) -> list[str]:
    """At most six metrics of the evaluations in words, each of the base and of every model."""
    found = {model["label"]: _found(model) for model in models}
    if manifest["before"] is not None:
        found = {"base": means_of(out / manifest["before"]), **found}
    lines: list[str] = []
    zero: list[str] = []  # a metric that is 0 for every model tells least
    for metric in METRICS:
        values = {label: one[metric] for label, one in found.items() if metric in one}
        if values:
            words = METRICS[metric]
            start = f" from {reference_of(manifest)}" if metric.startswith("kl_") else ""
            listed = ", ".join(f"{label} {value:.4g}" for label, value in values.items())
            (lines if any(values.values()) else zero).append(f"  {words}{start}: {listed}")
    return [*lines, *zero][:_MOST]


def _found(model: Mapping[str, Any]) -> dict[str, float]:
    """The means of a model's evaluation, and its accuracy on held-out pairs."""
    judged = model.get("judged", {})
    own = {"accuracy": judged["accuracy"]} if "accuracy" in judged else {}
    return {**own, **model.get("found", {})}


def arms_text(arms: Mapping[str, Any]) -> str:
    """The arms as a table."""
    lines = [
        f"{'arm':<10}{'rows':>8}{arms['metric']:>14}{'95 % interval':>20}   curated is ahead by"
    ]
    for arm in arms["arms"]:
        interval = f"{arm['low']:.3f} … {arm['high']:.3f}"
        ahead = ""
        if "behind" in arm:
            ahead = f"{arm['behind']:+.3f} ({arm['behind_low']:+.3f} … {arm['behind_high']:+.3f})"
        lines.append(
            f"{arm['arm']:<10}{arm['rows']:>8,}{arm['mean']:>14.3f}{interval:>20}   {ahead}"
        )
    return "\n".join(lines)
