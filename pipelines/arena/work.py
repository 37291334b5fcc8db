"""The run of an arena: one scored pool, then every arm trained and measured, each resumable."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import NoProgress, Prefixed, ProgressReporter
from siftune.curate.core.registry import find, options
from siftune.curate.core.schema import KINDS, kind_of
from siftune.curate.files.atomic import atomic_write, digest_of, hash_file, read_json, write_json
from siftune.curate.files.output_marker import remove_own
from siftune.curate.files.outputs import run_folder
from siftune.curate.files.source_spec import in_recipe, input_paths
from siftune.curate.runners.run import run as curate_run
from siftune.finetune.core.methods import TRAINER_GROUP
from siftune.finetune.data import training_rows
from siftune.finetune.data.bad_rows import drop_bad
from siftune.finetune.models.loading import model_hash, read_facts
from siftune.finetune.tools.evaluate import chosen_rows
from siftune.pipelines.arena.folder import COMMAND, FILES
from siftune.pipelines.arena.leaks import Leaks, find_leaks, refuse_leaks
from siftune.pipelines.arena.measuring import Measuring
from siftune.pipelines.arena.recipe import REFERENCE, SFT_ON_CHOSEN, Arena
from siftune.pipelines.arena.results import Line, arm_name, results_of
from siftune.pipelines.arena.selections import (
    Selection,
    budget_tokens,
    pool_recipe,
    scoring_seconds,
    select,
    training_columns,
)
from siftune.pipelines.steps import code_used, trainer_of
from siftune.pipelines.train_steps import Step

__all__ = ["Arm", "Work"]

_PLACES: Final = ("model", "ref_model", "eval_rows")
_SHARED: Final = (
    *("epochs", "lr", "batch_size", "max_length", "lora", "lora_alpha", "precision", "options"),
    *("held_out", "on_bad", "save_every", "log_every"),
)
"""Options of the recipe's training that `sft_on_chosen` takes over."""


@dataclass(frozen=True)
class Arm:
    """One training: a method, a budget in answer tokens, a seed."""

    method: str
    budget: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the arm and of its folder."""
        return arm_name(self.method, self.budget, self.seed)


@dataclass
class Work:
    """An arena in the folder ``out``."""

    arena: Arena
    out: Path
    say: ProgressReporter = field(default_factory=NoProgress)
    memory: dict[Any, Any] = field(default_factory=dict)

    @contextmanager
    def folder(self) -> Iterator[None]:
        """The folder, locked and marked."""
        inputs = input_paths(asdict(self.arena.pool))
        with in_recipe(), run_folder(self.out, COMMAND, FILES, inputs):
            yield

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """All arms: one seed after the other, so that a stopped arena has whole seeds."""
        return tuple(
            Arm(method, budget, seed)
            for seed in self.arena.seeds
            for budget in self.arena.budgets
            for method in self.arena.arms
        )

    @cached_property
    def heldout(self) -> dict[str, pl.DataFrame]:
        """The held-out rows of each set, at most so many as its limit, in the order of the file."""
        found = {}
        for name, held in self.arena.heldout.items():
            with in_recipe():
                table = training_rows.load(held.rows, KINDS)
            found[name] = chosen_rows(table, held.limit, self.arena.seed)
        return found

    @cached_property
    def scored(self) -> Mapping[str, Any]:
        """The manifest of the scoring run, which is made or found."""
        say = Prefixed(self.say, "pool: ")
        return curate_run(pool_recipe(self.arena), self.out / "pool", say=say).manifest

    @cached_property
    def pool(self) -> pl.DataFrame:
        """The scored pool, without what overlaps with held-out rows where that is dropped.

        Raises:
            DataError: rows overlap, and the recipe neither drops nor allows them.
        """
        assert self.scored
        table = pl.read_parquet(self.out / "pool" / "kept.parquet", glob=False)
        if self.arena.on_pairs and kind_of(table) != "preference":
            raise UsageError(
                f"train: {self.arena.step.method} trains on pairs, the pool has {kind_of(table)}"
            )
        if self.arena.overlap == "refuse":
            refuse_leaks(self.leaks)
        if self.arena.overlap == "drop":
            leaked = set().union(*(one.ids for one in self.leaks.values()))
            table = table.filter(~pl.col("id").is_in(list(leaked)))
        return table

    @cached_property
    def leaks(self) -> dict[str, Leaks]:
        """Rows of the pool that overlap with each held-out set; found once, and written."""
        path = self.out / "leaks.json"
        kept = self.out / "pool" / "kept.parquet"
        key = digest_of([hash_file(kept), *map(training_rows.data_hash, self.heldout.values())])
        if path.is_file() and (known := read_json(path))["key"] == key:
            return {
                name: Leaks(tuple(one["exact"]), tuple(one["ngram"]))
                for name, one in known["sets"].items()
            }
        self.say("comparing the pool with the held-out sets")
        (self.out / "heldout").mkdir(exist_ok=True)
        for name, table in self.heldout.items():
            with atomic_write(self._held(name)) as part:
                training_columns(table).write_parquet(part)
        whole = pl.read_parquet(kept, glob=False)
        tables = {name: (self._held(name), table) for name, table in self.heldout.items()}
        found = find_leaks(whole, tables)
        write_json(path, {"key": key, "sets": {name: one.as_dict() for name, one in found.items()}})
        return found

    def _held(self, name: str) -> Path:
        return self.out / "heldout" / f"{name}.parquet"

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Answer tokens of each budget."""
        return {budget: budget_tokens(self.pool, budget) for budget in self.arena.budgets}

    def selection(self, arm: Arm) -> tuple[Path, dict[str, Any]]:
        """The file of an arm's rows and facts about them; made once.

        The arms `all` and `sft_on_chosen` have the whole pool, whatever the budget.
        """
        path = self.out / "selections" / f"{arm.name}.parquet"
        facts = path.with_suffix(".json")
        pool = self.scored["outputs"]["kept.parquet"]
        key = digest_of(
            [
                *(pool, sorted(self._dropped), arm.method, self.arena.methods.get(arm.method)),
                *(self.tokens[arm.budget], arm.seed),
            ]
        )
        if facts.is_file() and path.is_file() and (known := read_json(facts))["key"] == key:
            return path, known
        path.parent.mkdir(exist_ok=True)
        made: Selection = select(
            self.arena, self.pool, arm.method, self.tokens[arm.budget], arm.seed
        )
        with atomic_write(path) as part:
            training_columns(made.rows).write_parquet(part)
        told = {
            "key": key,
            "rows": made.rows.height,
            "tokens": made.tokens,
            "short": made.short,
            "cpu_seconds": round(made.seconds, 3),
            "hash": training_rows.data_hash(made.rows),
            "ids": [] if made.rows.height == self.pool.height else made.rows["id"].to_list(),
        }
        write_json(facts, told)
        return path, told

    @property
    def _dropped(self) -> set[str]:
        if self.arena.overlap != "drop":
            return set()
        return set().union(*(one.ids for one in self.leaks.values()))

    def trainer(self, arm: Arm, tokens: int | None = None) -> Any:
        """The trainer of an arm: the recipe's, with the budget times the epochs as its tokens."""
        step = self.arena.step
        if arm.method == SFT_ON_CHOSEN:
            known = options(find(TRAINER_GROUP, "sft"))
            shared = {k: v for k, v in step.options.items() if k in _SHARED and k in known}
            step = Step(step.label, "sft", "base", "pairs", {**shared, **self.arena.sft})
        epochs = float(step.options.get("epochs", 1))
        budget = self.tokens[arm.budget] if tokens is None else tokens
        given = {"watch": "off", **step.options, "max_tokens": max(1, int(budget * epochs))}
        offered = {"model": self.arena.base, "seed": arm.seed, "held_out": 0.0}
        return trainer_of(replace(step, options=given), offered)

    def key_of(self, arm: Arm) -> str:
        """What decides the model of an arm."""
        trainer = self.trainer(arm)
        portable = {k: v for k, v in asdict(trainer).items() if k not in _PLACES}
        rows = self.selection(arm)[1]["hash"]
        other = getattr(trainer, "ref_model", None)
        reference = None if other is None else model_hash(other)
        own = [arm.method == SFT_ON_CHOSEN, rows, self.base_hash, portable, reference]
        return digest_of([*own, code_used(trainer)])

    @cached_property
    def base_hash(self) -> str:
        """Hash of the weights that every arm starts from."""
        return model_hash(self.arena.base)

    @cached_property
    def measuring(self) -> Measuring:
        """What measures the arms."""
        return Measuring(self.arena, self.heldout, self.memory)

    def measured(self, arm: Arm) -> Path:
        """The folder of an arm's values."""
        return self.out / "measured" / f"arm-{arm.name}"

    def facts(self, arm: Arm) -> dict[str, Any] | None:
        """What is known of an arm that is trained and measured; None of another."""
        path = self.measured(arm) / "arm.json"
        known: dict[str, Any] | None = read_json(path) if path.is_file() else None
        if known is None or known["key"] != self.key_of(arm):
            return None
        other = self._reference_key(arm)
        return known if self.measuring.is_done(known["key"], self.measured(arm), other) else None

    def _reference_key(self, arm: Arm) -> str | None:
        """The key of the arm `random`, whose answers a judge compares; of that arm itself None."""
        reference = Arm(REFERENCE, arm.budget, arm.seed)
        return None if arm == reference else self.key_of(reference)

    def done(self) -> dict[str, dict[str, Any]]:
        """Facts of the arms that are trained and measured by this recipe, by name."""
        return {arm.name: known for arm in self.arms if (known := self.facts(arm)) is not None}

    def lines(self) -> list[Line]:
        """Comparisons of these arms with `random`."""
        return results_of(self.arena, self.out / "measured", self.heldout_ids, self.done())

    @property
    def heldout_ids(self) -> dict[str, list[str]]:
        """The ids of the held-out rows of each set."""
        return {name: table["id"].to_list() for name, table in self.heldout.items()}

    def prepare(self) -> None:
        """Check the rows and make all selections, before anything is trained.

        Raises:
            DataError: rows of the pool cannot be trained on, such as those with an empty answer.
            UsageError: a method cannot select.
        """
        bad = training_rows.bad_rows(self.pool).filter(pl.col("reason") != "no_label")
        drop_bad(self.pool, bad, self.arena.step.options.get("on_bad", "refuse"), "pool")
        for arm in self.arms:
            self.selection(arm)

    def run(self, hours: float | None = None) -> bool:
        """Train and measure what is not done; whether all is done, or else the time was up.

        With ``hours`` it stops before an arm that would not be done in time, but always does one.
        """
        start, taken = time.monotonic(), list[float]()
        for number, arm in enumerate(self.arms, 1):
            if self.facts(arm) is not None:
                continue
            passed = time.monotonic() - start
            if hours is not None and taken and passed + median(taken) > hours * 3600:
                self.say(f"{hours:g} hours are up: {number - 1} of {len(self.arms)} arms are done")
                return False
            self.say(f"{arm.name}: arm {number} of {len(self.arms)}")
            self._one(arm)
            taken.append(time.monotonic() - start - passed)
        return True

    def _one(self, arm: Arm) -> None:
        """Train and measure one arm; its weights go once all is measured, unless they are kept."""
        rows, selected = self.selection(arm)
        key = self.key_of(arm)
        folder = self.out / "models" / f"{arm.name}-{key[:16]}"
        used = time.process_time()
        self.trainer(arm)(rows, folder)
        trained = time.process_time() - used
        facts, known = read_facts(folder), self.measured(arm) / "arm.json"
        if known.is_file() and read_json(known)["key"] == key:  # measured in part, trained before
            trained = max(trained, read_json(known)["train_cpu_seconds"])
        self.measured(arm).mkdir(parents=True, exist_ok=True)
        told = {
            "key": key,
            "method": arm.method,
            "budget": arm.budget,
            "seed": arm.seed,
            "rows": selected["rows"],
            "tokens": selected["tokens"],
            "trained_tokens": facts.get("metrics", {}).get("trained_tokens"),
            "model_hash": facts["hash"],
            "train_cpu_seconds": round(trained, 3),
        }
        write_json(known, told)
        reference = Arm(REFERENCE, arm.budget, arm.seed)
        baseline = None if arm == reference else self.measured(reference)
        self.measuring(folder, key, self.measured(arm), baseline, self._reference_key(arm))
        if not self.arena.keep_models:
            remove_own(folder)

    def costs(self) -> dict[str, float]:
        """CPU seconds of the selection of each method: its scoring stages, and its selectors."""
        scoring = scoring_seconds(self.arena, pool_recipe(self.arena), self.scored["clock"])
        found = {}
        for method in self.arena.arms:
            own = [
                self.selection(arm)[1]["cpu_seconds"] for arm in self.arms if arm.method == method
            ]
            found[method] = scoring.get(method, 0.0) + sum(own) / len(own)
        return found

    def manifest(self) -> dict[str, Any]:
        """All inputs, settings and hashes, from which the arena can be made again."""
        done = self.done()
        return {
            "siftune": version("siftune"),
            "recipe": dict(self.arena.raw),
            "base": {"hash": self.base_hash},
            "pool": {key: self.scored[key] for key in ("inputs", "counts", "outputs")},
            "heldout": {
                name: {"rows": table.height, "hash": training_rows.data_hash(table)}
                for name, table in self.heldout.items()
            },
            "overlap": {name: one.as_dict() for name, one in self.leaks.items()},
            "budgets": self.tokens,
            "selections": {
                arm.name: {k: v for k, v in self.selection(arm)[1].items() if k != "ids"}
                for arm in self.arms
            },
            "arms": done,
            "whole": len(done) == len(self.arms),
        }
