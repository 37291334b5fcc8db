"""A pipeline in words: what it would do, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.recipe import Pipeline

__all__ = ["arms_text", "plan_text", "result_text"]


def plan_text(pipeline: Pipeline, out: Path) -> str:
    """What a pipeline would do."""
    lines = [f"{pipeline.name}: into {out}, seed {pipeline.seed}"]
    lines.append(f"  base: {pipeline.base or 'made from text'}")
    for key, recipe in (("rows", pipeline.rows), ("pairs", pipeline.pairs)):
        if recipe is not None:
            stages = " > ".join(stage.name for stage in recipe.stages) or "all of them"
            lines.append(f"  {key}: {', '.join(recipe.source)}: {stages}")
    for step in pipeline.train:
        given = ", ".join(f"{k}={v}" for k, v in step.options.items())
        lines.append(f"  {step.label}: {step.method} from {step.start} {given}".rstrip())
    if pipeline.arms is not None:
        seeds = ", ".join(map(str, pipeline.arms.seeds))
        lines.append(f"  arms: {', '.join(pipeline.arms.names)}, seeds {seeds}")
    return "\n".join([*lines, "nothing was written (--dry-run)"])


def result_text(manifest: Mapping[str, Any], out: Path) -> str:
    """Models and arms of a finished pipeline."""
    lines = [f"{model['label']}: {out / model['path']}" for model in manifest["models"]]
    lines = [line for line, m in zip(lines, manifest["models"], strict=True) if not m.get("arm")]
    if manifest["arms"]:
        lines.append(arms_text(manifest["arms"]))
    return "\n".join(lines)


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
