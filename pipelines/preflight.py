"""Preflight of a pipeline: all that its run would refuse, reported before its first stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from siftune.curate.core.errors import Problems, UsageError
from siftune.curate.core.registry import checked, closest
from siftune.curate.core.schema import KINDS, Kind
from siftune.curate.files.source_spec import in_recipe, input_paths
from siftune.curate.judge_calls.spec import check_judge
from siftune.curate.runners.forecast import Forecast
from siftune.curate.runners.plan import Plan, plan
from siftune.curate.runners.preview import preview
from siftune.curate.runners.project_cache import StageCache
from siftune.curate.runners.run_folder import spool_streams
from siftune.curate.runs.recipe import Recipe
from siftune.finetune.core.intervals import HIGH, LOW
from siftune.finetune.core.methods import TRAINERS, family_of
from siftune.finetune.data import training_rows
from siftune.finetune.models import loading
from siftune.finetune.rewards.types import entries_of, folders_of, reward_of
from siftune.finetune.tools.evaluate import MEASURES, Evaluate
from siftune.finetune.tools.init import Init
from siftune.pipelines.folder import COMMAND, check_pipeline
from siftune.pipelines.recipe import Pipeline
from siftune.pipelines.steps import row_step_of, trainer_of
from siftune.pipelines.train_steps import MERGE, Step, makes_rows, models_named, with_models

__all__ = ["HELDOUT_OF", "Preflight", "forecasts", "recipes_of"]

HELDOUT_OF: Final = {"reward": "pairs"}
"""The held-out rows that a method is judged on while it trains."""

_FOLDERS: Final = ("model", "ref_model", "critic_model")  # options of trainers that name a model
_TABLES: Final = ("eval_rows", "ptx_rows", "watch_rows", "gate")
_PAIRS: Final = "finetune.losses.pair"
_LATER: Final = "made by an earlier step"


@dataclass
class Preflight:
    """The checks of one pipeline into one run folder; ``problems`` are those of its recipe."""

    pipeline: Pipeline
    out: Path
    cache: StageCache | None = None
    problems: Problems = field(default_factory=Problems)
    plans: dict[str, Plan] = field(default_factory=dict)  # of its curate recipes, by their keys
    origin: str = ""  # the recipe's file
    _start: str = "made by an earlier step"
    _made: dict[str, str | None] = field(default_factory=dict)  # kinds of rows that steps make

    def check(self) -> None:
        """Raise all problems as one error.

        Raises:
            SiftuneError: something is; the text has a line for each problem.
        """
        with self.problems.collecting():
            check_pipeline(self.out, COMMAND, [*input_paths(asdict(self.pipeline))])
        with in_recipe():
            self._check_start()
            self._check_rows()
        self._check_steps()
        with self.problems.collecting():
            self._check_evaluation()
        with self.problems.collecting():
            self._check_arms()
        self.problems.refuse(self.origin)

    def _check_start(self) -> None:
        """Check the base model, or the text that one is made from."""
        if self.pipeline.base is not None:
            with self.problems.collecting("base"):
                loading.load_tokenizer(self.pipeline.base)
                self._start = self.pipeline.base
        elif self.pipeline.init is not None:
            given = dict(self.pipeline.init)
            text = Path(str(given.pop("text", "")))
            with self.problems.collecting("init"):
                if not text.is_file():
                    raise UsageError(f"text: expected a file of text to learn from, got '{text}'")
            with self.problems.collecting():
                checked(Init, {"seed": self.pipeline.seed, **given}, "init")

    def _check_rows(self) -> None:
        """Check every source, stage and held-out file."""
        for key, recipe in recipes_of(self.pipeline).items():
            with self.problems.collecting(key), TemporaryDirectory() as folder:
                held = spool_streams(recipe, Path(folder))
                self.plans[key] = plan(held, self.out / key, cache=self.cache)
        for key, given in self.pipeline.heldout.items():
            if isinstance(given, str):
                kinds: tuple[Kind, ...] = ("preference",) if key == "pairs" else KINDS
                with self.problems.collecting(f"heldout.{key}"):
                    training_rows.load(given, kinds)

    def _check_steps(self) -> None:
        made = {"base": self._start}
        for number, step in enumerate(self.pipeline.train, 1):
            with self.problems.collecting(f"train {number} ({step.label})"):
                if makes_rows(step.method):
                    self._check_row_step(step)
                    continue
                later = dict.fromkeys(models_named(step.options), _LATER)
                named = replace(step, options=with_models(step.options, later))
                trainer = trainer_of(named, offers(self.pipeline, step, self.pipeline.seed, made))
                if step.method == MERGE:
                    _check_merge(trainer)
                    made[step.label] = _LATER
                    continue
                self._check_kind(step)
                _check_whole(trainer)
                _check_places(trainer)
                if step.method != "reward" and trainer.model != _LATER:
                    loading.check_writes(trainer.model)
                trainer.check_options()
            made[step.label] = _LATER

    def _check_row_step(self, step: Step) -> None:
        """Check the options of a step that makes rows, and that it takes the rows it is given."""
        later = dict.fromkeys(models_named(step.options), _LATER)
        offered = {"model": _LATER, "seed": self.pipeline.seed}
        work = row_step_of(step, offered, later)
        kind = self._kind_of(step.data)
        if kind is not None and kind not in work.reads:
            wanted = " or ".join(work.reads)
            raise UsageError(f"data: it takes {wanted} rows, and `{step.data}` has {kind} rows")
        if hasattr(work, "check_options"):
            work.check_options()
        _check_judges(work)
        _check_places(work)
        self._made[step.label] = work.makes or kind

    def _kind_of(self, data: str) -> str | None:
        """The kind of the rows of that name; None where it is not known before the run."""
        planned = self.plans.get(data)
        return self._made.get(data) if planned is None else planned.kind

    def _check_kind(self, step: Step) -> None:
        """Refuse rows that are no pairs for a method that takes nothing else."""
        kind = self._kind_of(step.data)
        loss = step.method not in TRAINERS and family_of(step.method) == _PAIRS
        pairs = loss or step.method == "reward"
        if pairs and kind not in (None, "preference"):
            raise UsageError(
                f"data: it trains on preference rows, and `{step.data}` has {kind} rows"
            )

    def _check_evaluation(self) -> None:
        given = {"model": "", "seed": self.pipeline.seed, **self.pipeline.evaluate}
        checked(Evaluate, given, "evaluate")
        if given.get("reference") is not None:
            with self.problems.collecting("evaluate: reference"):
                loading.config_of(given["reference"])
        if given.get("reward") is not None:
            with self.problems.collecting("evaluate: reward"):
                _check_reward(given["reward"], given.get("reward_options") or {})

    def _check_arms(self) -> None:
        arms = self.pipeline.arms
        if arms is None:
            return
        if self.pipeline.rows is None and "rows" not in self.plans:
            raise UsageError("arms: the recipe has no `rows` to select from")
        judged = "reward" in self.pipeline.evaluate or _has_reward(self.pipeline)
        known = [name for name in MEASURES if name != "reward" or judged]
        reward = self.pipeline.evaluate.get("reward")
        known += [f"reward/{name}" for name in reward] if isinstance(reward, Mapping) else []
        known += [f"{name}{end}" for name in known for end in (LOW, HIGH)] + ["rows", "unanswered"]
        if arms.metric not in known:
            near = closest(arms.metric, tuple(known))
            raise UsageError(f"arms: metric: no evaluation has {arms.metric!r}; {near}")
        step = next(step for step in self.pipeline.trainings if step.method == "sft")
        with self.problems.collecting("arms: options"):
            trainer_of(replace(step, options=arms.options), {"model": _LATER})


def recipes_of(pipeline: Pipeline) -> dict[str, Recipe]:
    """The curate recipes of a pipeline, by the names of their run folders."""
    heldout = {f"heldout-{key}": given for key, given in pipeline.heldout.items()}
    found = {"rows": pipeline.rows, "pairs": pipeline.pairs, **heldout}
    return {key: given for key, given in found.items() if isinstance(given, Recipe)}


def forecasts(
    pipeline: Pipeline, out: Path, cache: StageCache | None = None
) -> dict[str, list[Forecast]]:
    """What the stages of the curate recipes would cost; nothing is written to ``out``."""
    with in_recipe():
        return {
            key: preview(recipe, out / key, cache)[1]
            for key, recipe in recipes_of(pipeline).items()
        }


def offers(
    pipeline: Pipeline, step: Step, seed: int, made: Mapping[str, str]
) -> dict[str, str | int | None]:
    """Options that a pipeline sets for the trainer of a step; ``made`` has the models by label."""
    key = HELDOUT_OF.get(step.method, "")
    heldout = pipeline.heldout.get(key)
    return {
        "model": made.get(step.start, _LATER),
        "seed": seed,
        "reward": None if step.reward is None else made.get(step.reward),
        "eval_rows": _LATER if isinstance(heldout, Recipe) else heldout,
    }


def _check_whole(trainer: Any) -> None:
    """Refuse a training that leaves no model: it is evaluated, and others may start from it."""
    if getattr(trainer, "adapter", "merge") == "keep":
        raise UsageError(
            "adapter: keep leaves no whole model for the evaluation and for other steps; set both, "
            "whose folder `adapter` holds the adapter"
        )


def _check_places(trainer: Any) -> None:
    """Refuse models and files that options of a trainer name and that are not there."""
    problems = Problems()
    for name, place in _named(trainer, (*_FOLDERS, *_TABLES, "reward")):
        with problems.collecting(name):
            if name in _TABLES:
                training_rows.load(place, KINDS)
            elif name == "reward":
                _check_reward(place, trainer.reward_options or {})
            else:
                loading.config_of(place)
    problems.refuse()


def _check_merge(merge: Any) -> None:
    """Refuse a method, and models that are not there."""
    merge.check_options()
    for model in (*merge.models, merge.base):
        if model not in (None, _LATER):
            loading.config_of(model)


def _check_judges(work: Any) -> None:
    """Refuse judges of a step that are not there."""
    for name, options in (("judge", "judge_options"), ("second", "second_options")):
        judge = getattr(work, name, None)
        if judge is not None and judge != _LATER:
            check_judge(judge, getattr(work, options))


def _check_reward(reward: str | Mapping[str, Any], options: Mapping[str, Any]) -> None:
    if isinstance(reward, Mapping):  # but for models that a step will have made
        later = [one.name for one in entries_of(reward) if one.reward == _LATER]
        reward = {name: one for name, one in reward.items() if name not in later}
    if reward:
        reward_of(reward, options)
    for folder in folders_of(reward or None):
        if not loading.is_reward_model(folder):
            raise UsageError(
                f"{folder} is no reward model: make one with `siftune finetune reward`"
            )


def _named(trainer: Any, options: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name in options:
        place = getattr(trainer, name, None)
        if place is not None and place != _LATER:
            yield name, place


def _has_reward(pipeline: Pipeline) -> bool:
    return any(step.name == "reward" for step in pipeline.trainings)
