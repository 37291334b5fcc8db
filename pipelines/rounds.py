"""Rounds of a pipeline: what their judges measured, and the drift that ends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from siftune.curate.judge_stats.drift import Drift, Limits, Round, measure_drift
from siftune.curate.judge_stats.intervals import Estimate
from siftune.pipelines.train_steps import Step

__all__ = ["FIGURES", "Rounds"]

FIGURES: Final = tuple(one.name for one in fields(Round))


@dataclass
class Rounds:
    """The rounds of all ``repeat`` of a run: their figures, and where they were stopped.

    ``latest`` has the label of the latest step of each name that was run in a round; a step that
    is not run any more stands for that one.
    """

    measured: list[dict[str, Any]] = field(default_factory=list)
    stopped: dict[int, dict[str, Any]] = field(default_factory=dict)
    latest: dict[str, str] = field(default_factory=dict)

    def skips(self, step: Step) -> bool:
        """Whether the rounds of the step were stopped before it."""
        return step.loop in self.stopped

    def ran(self, step: Step, facts: Mapping[str, Any] | None) -> str | None:
        """Note a step that was run, with the facts of a judge; why the rounds end, if they do."""
        if not step.round:
            return None
        self.latest[step.name] = step.label
        if facts is None or "figures" not in facts:
            return None
        self.measured.append({"loop": step.loop, "round": step.round, "label": step.label, **facts})
        drift = self._drift(step)
        if drift is None or not drift.stop:
            return None
        reasons = list(drift.reasons)
        self.stopped[step.loop] = {"round": step.round, "label": step.label, "reasons": reasons}
        return "; ".join(reasons)

    def facts(self) -> dict[str, Any] | None:
        """What is written of the rounds; None where no judge measured anything in one."""
        if not self.measured:
            return None
        stopped = [{"loop": loop, **facts} for loop, facts in self.stopped.items()]
        return {"measured": self.measured, "stopped": stopped}

    def _drift(self, step: Step) -> Drift | None:
        """The drift of the figures of the step's name, from the first round to this one."""
        names = [
            one["figures"]
            for one in self.measured
            if one["loop"] == step.loop and one["label"] == f"{step.name}-{one['round']}"
        ]
        if len(names) < 2:
            return None
        rounds = [
            Round(**{name: Estimate(**one[name]) for name in FIGURES if one.get(name) is not None})
            for one in names
        ]
        drift = measure_drift(rounds, replace(Limits(), **step.stop))
        self.measured[-1]["changes"] = {name: asdict(one) for name, one in drift.changes.items()}
        return drift
