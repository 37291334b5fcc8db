"""Run a pipeline from raw rows to aligned models; steps are cached by the hash of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import NoProgress, Prefixed, ProgressReporter
from siftune.curate.core.registry import checked, code_of, options
from siftune.curate.files.atomic import digest_of, hash_file, read_json, write_json
from siftune.curate.files.outputs import run_folder
from siftune.curate.files.source_spec import in_recipe, input_paths
from siftune.curate.runners.project_cache import StageCache
from siftune.curate.runners.run import run as curate_run
from siftune.curate.runs.recipe import Recipe
from siftune.finetune.models.loading import model_hash, read_facts
from siftune.finetune.tools.evaluate import Evaluate
from siftune.finetune.tools.init import Init
from siftune.pipelines.compare import arm_rows, arms_table
from siftune.pipelines.folder import COMMAND, FILES
from siftune.pipelines.preflight import HELDOUT_OF, Preflight
from siftune.pipelines.recipe import Arms, Pipeline
from siftune.pipelines.reports.judge_report import judging_facts, unscored_of
from siftune.pipelines.rounds import Rounds
from siftune.pipelines.steps import (
    code_used,
    hashes_of_options,
    judges_pairs,
    reward_key,
    row_step_of,
    trainer_of,
)
from siftune.pipelines.train_steps import (
    HELD,
    MERGE,
    ROW_STEPS,
    ROWS,
    Step,
    makes_rows,
    models_named,
    with_models,
)

__all__ = ["run", "run_checked"]


def run(
    pipeline: Pipeline,
    out: Path,
    say: ProgressReporter | None = None,
    cache: StageCache | None = None,
) -> dict[str, Any]:
    """Run what is not done yet; returns the manifest, which names every hash from row to model.

    Stages of its recipes that are in ``cache`` are taken from there (`runners.run`).

    Raises:
        LockedError: another process runs in ``out``.
        UsageError: ``out`` is not of an earlier pipeline run (`files.outputs`).
        SiftuneError: a step cannot run; the text names it.
    """
    Preflight(pipeline, out, cache).check()
    return run_checked(pipeline, out, say, cache)


def run_checked(
    pipeline: Pipeline,
    out: Path,
    say: ProgressReporter | None = None,
    cache: StageCache | None = None,
) -> dict[str, Any]:
    """As `run`, of a pipeline that `pipelines.preflight` has checked."""
    say = say or NoProgress()
    with in_recipe(), run_folder(out, COMMAND, FILES, input_paths(asdict(pipeline))):
        try:
            return _Work(pipeline, out, say, cache).finish()
        except (KeyboardInterrupt, SystemExit):
            say(f"stopped; what is finished in {out} is kept: the same command continues from it")
            raise


@dataclass
class _Work:
    pipeline: Pipeline
    out: Path
    say: ProgressReporter
    cache: StageCache | None = None
    models: dict[str, Path] = field(default_factory=dict)
    heldout: dict[str, str] = field(default_factory=dict)  # files, selected by a recipe or given
    told: list[dict[str, Any]] = field(default_factory=list)
    made: dict[str, Path] = field(default_factory=dict)  # folders of rows that steps made
    rows_told: list[dict[str, Any]] = field(default_factory=list)
    rounds: Rounds = field(default_factory=Rounds)

    def finish(self) -> dict[str, Any]:
        data = {
            key: self._curate(recipe, self.out / key)
            for key, recipe in (("rows", self.pipeline.rows), ("pairs", self.pipeline.pairs))
            if recipe is not None
        }
        data |= self._hold_out()
        self.models["base"] = self._base()
        for step in self.pipeline.train:
            self._run_step(step)
        run = [step for step in self.pipeline.trainings if not self.rounds.skips(step)]
        for step in run:  # now that there is a reward model, if there is one
            self._evaluate(step.label, self.models[step.label], step.method == "reward")
            if step.method != "reward" and judges_pairs(step.method):
                self._judge(step)
        before = self._before()
        made = {one["label"]: one["path"] for one in self.rows_told}
        arms = self._arms(self.pipeline.arms) if self.pipeline.arms else None
        manifest = {
            "siftune": version("siftune"),
            "recipe": asdict(self.pipeline),
            "data": {key: {k: one[k] for k in _KEPT} for key, one in data.items()},
            "heldout": {key: hash_file(Path(path)) for key, path in self.heldout.items()},
            "made": self.rows_told,
            "unscored": unscored_of(self.out, {**{key: key for key in data}, **made}),
            "rounds": self.rounds.facts(),
            "models": self.told,
            "before": before,
            "arms": arms,
        }
        write_json(self.out / "manifest.json", manifest)
        return manifest

    def _run_step(self, step: Step) -> None:
        """Make the step's rows or model; of a step after the last round take the latest ones."""
        places: dict[str, Path] = self.made if makes_rows(step.method) else self.models
        if self.rounds.skips(step):
            places[step.label] = places[self.rounds.latest[step.name]]
            return
        facts = None
        if makes_rows(step.method):
            places[step.label], facts = self._make_rows(step)
        elif step.method == MERGE:
            places[step.label] = self._merge(step)
        else:
            rows = self._rows_of(step.data)
            places[step.label] = self._train(step, rows, self.pipeline.seed)
        why = self.rounds.ran(step, facts)
        if why is not None:
            self.say(f"{step.label}: the rounds end here: {why}")

    def _curate(self, recipe: Recipe, folder: Path) -> Mapping[str, Any]:
        say = Prefixed(self.say, f"{folder.name}: ")
        return curate_run(recipe, folder, say=say, cache=self.cache).manifest

    def _hold_out(self) -> dict[str, Any]:
        """Find the files of held-out rows; the manifests of those that a recipe selects."""
        made = {}
        for key, given in self.pipeline.heldout.items():
            self.heldout[key] = str(given)
            if isinstance(given, Recipe):
                folder = self.out / f"heldout-{key}"
                made[f"heldout-{key}"] = self._curate(given, folder)
                self.heldout[key] = str(folder / "kept.parquet")
        return made

    def _arms(self, arms: Arms) -> dict[str, Any]:
        """Train each arm like the first sft step, with each seed, on the same answer tokens."""
        step = next(step for step in self.pipeline.trainings if step.method == "sft")
        tokens = self._answer_tokens("curated", 0, 0)[1]
        budget = int(tokens * float(step.options.get("epochs", 1)))
        results: dict[str, dict[int, float]] = {}
        rows: dict[str, int] = {}
        for arm in arms.names:
            for seed in arms.seeds:
                data, _ = self._answer_tokens(arm, tokens, seed)
                rows[arm] = pq.read_metadata(data / "kept.parquet").num_rows
                options = {**step.options, **arms.options, "max_tokens": budget}
                trained = replace(step, label=f"{arm}-seed{seed}", options=options)
                model = self._train(trained, data, seed, arm)
                results.setdefault(arm, {})[seed] = self._metric(trained.label, model, arms.metric)
        table = [line | {"rows": rows[str(line["arm"])]} for line in arms_table(results, "curated")]
        written = {"metric": arms.metric, "tokens": budget, "arms": table}
        write_json(self.out / "arms.json", written)
        return written

    def _answer_tokens(self, arm: str, tokens: int, seed: int) -> tuple[Path, int]:
        base, rows = str(self.models["base"]), self.pipeline.rows
        return arm_rows(arm, rows, self.out, base, tokens, seed, self.cache)

    def _metric(self, label: str, model: Path, name: str) -> float:
        found = self._evaluate(label, model, judges=False)
        if name not in found:
            there = ", ".join(found)
            raise UsageError(f"arms: metric: the evaluation has no {name!r}; it has {there}")
        return found[name]

    def _before(self) -> str | None:
        """Where the base model's own answers are written; None where it cannot be asked."""
        try:
            folder = self._evaluation_of("base", self.models["base"], judges=False)
        except UsageError as error:  # a base model need not have a chat template
            self.say(f"base: not evaluated, {error}")
            return None
        return None if folder is None else folder.relative_to(self.out).as_posix()

    def _evaluate(self, label: str, model: Path, judges: bool) -> dict[str, float]:
        """Evaluate a trained model, note where that is written, and return its means."""
        folder = self._evaluation_of(label, model, judges)
        if folder is None:
            return {}
        written: dict[str, float] = read_json(folder / "evaluation.json")["last"]
        model_told = next(told for told in self.told if told["label"] == label)
        model_told |= {"evaluation": folder.relative_to(self.out).as_posix(), "found": written}
        return written

    def _evaluation_of(self, label: str, model: Path, judges: bool) -> Path | None:
        """The folder of a model's evaluation on held-out prompts, or on held-out pairs.

        None where the recipe holds out nothing for it.
        """
        source = self.heldout.get("pairs" if judges else "prompts")
        if source is None:
            return None
        given = {"seed": self.pipeline.seed, **self.pipeline.evaluate, "model": str(model)}
        if not judges:
            start = self.models.get("sft") if "sft" in self.models else self.models["base"]
            given.setdefault("reference", str(start))
            rewards = [step.label for step in self.pipeline.trainings if step.name == "reward"]
            made = [self.models[label] for label in rewards if label in self.models]
            if made:  # the last, so that all models are held to one scale
                given.setdefault("reward", str(made[-1]))
        return self._evaluated(label, source, given)

    def _judge(self, step: Step) -> None:
        """Measure the pair accuracy of a policy's implicit reward on the held-out pairs.

        Its reference is that of its training: the model that it started from, unless another is
        named.
        """
        source = self.heldout.get("pairs")
        if source is None:
            return
        trainer = self._trainer(step, self.pipeline.seed)
        reference = getattr(trainer, "ref_model", None) or trainer.model
        own = {"model": str(self.models[step.label]), "reference": reference, "reward": None}
        given = {"seed": self.pipeline.seed, **self.pipeline.evaluate, **own, "judge_pairs": True}
        folder = self._evaluated(step.label, source, given)
        model_told = next(told for told in self.told if told["label"] == step.label)
        judged = read_json(folder / "evaluation.json")["last"]
        model_told |= {"judgement": folder.relative_to(self.out).as_posix(), "judged": judged}

    def _evaluated(self, label: str, source: str, given: Mapping[str, Any]) -> Path:
        """The folder of an evaluation; made now unless it is there."""
        evaluate = checked(Evaluate, given, "evaluate")
        named = {k: v for k, v in given.items() if k in _MODELS and v is not None}
        hashes = {k: (reward_key if k == "reward" else model_hash)(v) for k, v in named.items()}
        portable = {k: v for k, v in asdict(evaluate).items() if k not in _MODELS}
        key = digest_of([hashes, portable, hash_file(Path(source)), code_used(evaluate)])
        folder = self.out / "evaluations" / f"{label}-{key[:16]}"
        if not (folder / "evaluation.json").is_file():
            self.say(f"{label}: evaluating")
            evaluate(Path(source), folder)
        return folder

    def _base(self) -> Path:
        """The model that training starts from: given, or made from text."""
        if self.pipeline.base is not None:
            return Path(self.pipeline.base)
        given = dict(self.pipeline.init or {})
        text = Path(str(given.pop("text", "")))
        if not text.is_file():
            raise UsageError(
                f"init: text: expected a file of text to learn from, got {str(text)!r}"
            )
        maker = checked(Init, {"seed": self.pipeline.seed, **given}, "init")
        key = digest_of(["init", hash_file(text), asdict(maker), code_used(maker)])
        return self._made(
            "base", key, lambda folder: maker(text, folder), {"text": hash_file(text)}
        )

    def _rows_of(self, data: str) -> Path:
        return self.out / data if data in (*ROWS, *HELD) else self.made[data]

    def _places(self) -> dict[str, str | None]:
        """The model, or the rows, that ``step:LABEL`` names; None for rows that are not there."""
        named = {data: self._rows_of(data) / "kept.parquet" for data in (*ROWS, *HELD, *self.made)}
        rows = {data: str(path) if path.is_file() else None for data, path in named.items()}
        return {**rows, **{label: str(path) for label, path in self.models.items()}}

    def _make_rows(self, step: Step) -> tuple[Path, dict[str, Any] | None]:
        """The folder of the rows that a step makes, and what a judge measured of them."""
        rows = self._rows_of(step.data)
        places = self._places()
        offered = {"model": places[step.start], "seed": self.pipeline.seed}
        work = row_step_of(step, offered, places)
        used = [*models_named(step.options)]
        if "model" in options(type(work)):
            used.insert(0, step.start)
        inputs: dict[str, Any] = {
            "rows": hash_file(rows / "kept.parquet"),
            "models": {
                label: model_hash(self.models[label]) for label in used if label in self.models
            },
        }
        also = [label for label in used if label not in self.models and places[label] is not None]
        if also:
            inputs["also"] = {label: hash_file(Path(str(places[label]))) for label in also}
        about = [work.describe()] if hasattr(work, "describe") else []
        code = code_of(ROW_STEPS, step.method)
        key = digest_of([step.method, inputs, step.options, self.pipeline.seed, code, *about])
        folder = self.out / "made" / f"{step.label}-{key[:16]}"
        kept = folder / "kept.parquet"
        if kept.is_file() and not judging_facts(folder).get("to_retry"):
            self.say(f"{step.label}: done before")
        else:
            self.say(f"{step.label}: {step.method}")
            work(rows / "kept.parquet", folder)
        path = folder.relative_to(self.out).as_posix()
        told = {"label": step.label, "path": path, "key": key, "hash": hash_file(kept)}
        rows_made = pq.read_metadata(kept).num_rows
        facts = judging_facts(folder) or None
        judged = {} if facts is None else {"judged": facts}
        if facts and facts.get("to_retry"):
            self.say(
                f"{step.label}: {facts['to_retry']:,} calls of the judge failed for a reason that "
                "may pass: the same command asks them again"
            )
        self.rows_told.append({**told, "rows": rows_made, "inputs": inputs, **judged})
        return folder, facts

    def _train(self, step: Step, rows: Path, seed: int, arm: str | None = None) -> Path:
        trainer = self._trainer(step, seed)
        kept = rows / "kept.parquet"
        inputs = {
            "rows": hash_file(kept),
            "start": model_hash(trainer.model),
            "heldout": {k: hash_file(Path(p)) for k, p in self.heldout.items()},
            **hashes_of_options(trainer),
        }
        reward: Any = getattr(trainer, "reward", None)
        if isinstance(reward, Mapping) or reward in map(str, self.models.values()):
            inputs["reward"] = reward_key(reward)
        portable = {k: v for k, v in asdict(trainer).items() if k not in _PLACES}
        key = digest_of([step.method, inputs, portable, seed, code_used(trainer)])
        return self._made(step.label, key, lambda folder: trainer(rows, folder), inputs, arm)

    def _merge(self, step: Step) -> Path:
        merge = self._trainer(step, self.pipeline.seed)
        inputs = {"models": merge.hashes()}
        portable = {k: v for k, v in asdict(merge).items() if k not in ("models", "base")}
        key = digest_of([step.method, inputs, portable, code_used(merge)])
        return self._made(step.label, key, merge, inputs)

    def _trainer(self, step: Step, seed: int) -> Any:
        """The trainer of a step, with the options that the pipeline sets."""
        offered = {
            "model": str(self.models[step.start]),
            "seed": seed,
            "reward": None if step.reward is None else str(self.models[step.reward]),
            "eval_rows": self.heldout.get(HELDOUT_OF.get(step.method, "")),
        }
        named = with_models(step.options, self._places())
        return trainer_of(replace(step, options=named), offered)

    def _made(
        self,
        label: str,
        key: str,
        work: Callable[[Path], Any],
        inputs: Mapping[str, Any],
        arm: str | None = None,
    ) -> Path:
        """The model folder of this key; made now unless it is there and whole."""
        folder = self.out / "models" / f"{label}-{key[:16]}"
        if read_facts(folder).get("hash") == (folder.is_dir() and model_hash(folder)):
            self.say(f"{label}: done before")
        else:
            self.say(f"{label}: training")
            work(folder)
        facts = read_facts(folder)
        self.told.append(
            {
                "label": label,
                "path": folder.relative_to(self.out).as_posix(),
                "key": key,
                "hash": facts["hash"],
                "inputs": dict(inputs),
                **({"arm": arm} if arm else {}),
            }
        )
        return folder


_KEPT = ("inputs", "counts", "outputs")
"""Keys of the manifest of a curate run that are part of the pipeline's."""
_MODELS = ("model", "reference", "reward")
_PLACES = ("model", "reward", "ref_model", "eval_rows")
"""Fields that name a place: what lies there is hashed, where it lies does not matter."""
