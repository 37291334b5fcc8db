"""Train objectives on the same pairs from several seeds; one table of their held-out metrics."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from siftune.curate.core import registry
from siftune.curate.core.errors import LockedError, SiftuneError, UsageError
from siftune.curate.core.ranges import Count, Natural, Positive, Rank, Seed, Share
from siftune.curate.files.atomic import digest_of, read_json, write_json
from siftune.curate.files.outputs import run_folder
from siftune.curate.models.model_config import positions_of
from siftune.finetune.core import distributed
from siftune.finetune.data import training_rows
from siftune.finetune.losses.types import needs_of
from siftune.finetune.models import loading
from siftune.finetune.models.precision import Precision
from siftune.finetune.runs.resumable_run import Run
from siftune.finetune.runs.run_folders import COMPARISON_FILES
from siftune.finetune.tools.evaluate import chosen_rows, summary
from siftune.finetune.trainers.preference import Preference
from siftune.finetune.training.build_loss import ANSWERS, LISTS, LOSSES, group_of

__all__ = ["Compare", "context_of", "table_of", "with_label_numbers"]

_GROUPS: Final = (LOSSES, *ANSWERS, *LISTS)
_ALL: Final = "all"
_COMMAND: Final = "finetune compare"
_FILE: Final = "compare.json"
_WEIGHTS: Final = "model.safetensors"
_NEVER: Final = 1_000_000  # runs are short: they are evaluated before and after
_LESS: Final = ("by_reference",)  # numbers that are 1 of the answer which is not the policy's

MEASURES: Final = {
    # column of the table: metric of a run
    "accuracy": "eval_accuracy",
    "by ratio": "eval_ratio_correct",
    "margin": "eval_margin",
    "drift +": "eval_drift_chosen",
    "drift -": "eval_drift_rejected",
    "kl +": "eval_kl_chosen",
    "kl -": "eval_kl_rejected",
    "tokens": "answers_tokens",
}


@dataclass(frozen=True)
class Compare:
    """Trains ``model`` under each of ``losses`` from each of ``seeds``, all on the same pairs.

    ``losses`` are objectives of any family, with their own defaults or ``loss_options`` (by name:
    its options); ``all`` takes every one. Those on single answers are given both sides of each
    pair, in batches of twice the size, those on lists the pair as a list of two; both are scored by
    the log-ratio to the reference (``quark`` behind its best reward token, where it answers too,
    the reference without one). Of the pairs that fit ``max_length`` tokens, ``limit`` are drawn
    (0: all), and the prompts of ``held_out`` of them are kept from training. The draw and the split
    follow ``split_seed`` alone, so a seed changes the order of training and nothing else.
    ``lr``, ``epochs``, ``batch_size``, ``lora`` and ``precision`` are the same for all.
    ``labels_as_numbers`` is for pairs without scores: to objectives that read one (a reward, a
    weight, a win rate), a chosen answer is 1 and a rejected one 0.

    The table has means over seeds: held-out pair accuracy by the loss's own reward, with its
    standard deviation, and by the log-ratio to the reference, the same measure for all; the
    margin of the rewards; the log-ratio of chosen (+) and rejected (-) answers in nats; the KL to
    the reference on them in nats per token; the tokens of the policy's own answers to ``answers``
    held-out prompts, in at most ``max_new_tokens``.

    Each run is a folder ``NAME-SEED`` (its weights only with ``keep_models``); one that is there is
    not trained again, and one that was cut off continues. An objective that the pairs do not suit,
    such as one that reads a column they do not have, is listed with the reason.

    Options:
        losses: Objectives to compare, with commas between; ``all`` takes every one.
        seeds: Seeds of the order of training; each objective is trained from each of them.
        split_seed: Seed of the draw of pairs and of the prompts that are held out.
        batch_size: Number of pairs in an optimizer step.
        answers: Number of held-out prompts that each trained policy answers.
        max_length: Largest number of tokens of a pair's prompt and longer answer; longer pairs are
            left out.
        held_out: Share of the pairs' prompts that is kept from training and evaluated.
        keep_models: Keep the weights of each trained policy.
        labels_as_numbers: Take 1 for chosen and 0 for rejected answers where an objective reads a
            number that the pairs lack.
    """

    model: str
    losses: tuple[str, ...] = ("dpo", "ipo", "simpo")
    seeds: tuple[Seed, ...] = (0, 1, 2)
    loss_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limit: Natural = 0
    held_out: Share = 0.2
    split_seed: Seed = 0
    epochs: Positive = 1.0
    lr: Positive = 1e-5
    batch_size: Count = 8
    lora: Rank = 0
    max_length: Count | None = None
    answers: Count = 16
    max_new_tokens: Count = 64
    keep_models: bool = False
    labels_as_numbers: bool = False
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Refuse a comparison of nothing."""
        if not self.losses or not self.seeds:
            raise ValueError("losses and seeds: expected at least one of each")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out: expected a share between 0 and 1, got {self.held_out}")
        unknown = set(self.loss_options) - set(self._names)
        if unknown:
            raise ValueError(f"loss_options: {min(unknown)} is not among the losses")
        for name in self._names:
            registry.build(group_of(name, _GROUPS), name, self.loss_options.get(name, {}))

    @property
    def _names(self) -> tuple[str, ...]:
        every = tuple(name for group in _GROUPS for name in registry.names(group))
        return tuple(dict.fromkeys(every if _ALL in self.losses else self.losses))

    def __call__(self, rows: Path, out: Path) -> dict[str, Any]:
        """Write ``compare.json`` and a folder for each run into ``out``; the comparison.

        Raises:
            DataError: no pair fits.
            UsageError: ``out`` holds the comparison of other pairs, options or another model.
        """
        with run_folder(out, _COMMAND, COMPARISON_FILES):
            train, test = self._split(rows, out)
            cells = []
            for name in self._names:
                for seed in self.seeds:
                    cells.append(self._cell(name, seed, out, train, test))
                    write_json(out / _FILE, self._facts(rows, cells))
        return self._facts(rows, cells)

    def _split(self, rows: Path, out: Path) -> tuple[Path, Path]:
        """The pairs to train on and to judge, as files of ``out``."""
        from siftune.finetune.data.answer_rows import encode_rows

        table = training_rows.load(rows, ("preference",))
        mine = {name: value for name, value in asdict(self).items() if name in _DECIDES}
        key = digest_of([mine, loading.model_hash(self.model), training_rows.data_hash(table)])
        paths = out / "train.parquet", out / "held_out.parquet"
        mark = out / "split.json"
        if mark.is_file() and read_json(mark) != {"key": key}:
            raise UsageError(
                f"{out} compares other pairs, options or another model: name another --out"
            )
        if not mark.is_file():
            fits = encode_rows(
                table,
                loading.load_tokenizer(self.model),
                max_length=self._longest(),
                on_bad="drop",
                source=rows,
            ).table
            drawn = chosen_rows(fits, self.limit, self.split_seed)
            if self.labels_as_numbers:
                drawn = with_label_numbers(drawn, self._names)
            for path, part in zip(
                paths, training_rows.held_out(drawn, self.held_out, self.split_seed), strict=True
            ):
                part.write_parquet(path)
            write_json(mark, {"key": key})
        return paths

    def _longest(self) -> int | None:
        """Tokens of a pair that all can be trained on: some put a token before the prompt."""
        context = context_of(self.model)
        if context is None:
            return self.max_length
        return min(self.max_length or context, context - 1)

    def _cell(self, name: str, seed: int, out: Path, train: Path, test: Path) -> dict[str, Any]:
        """One run: its metrics, or why there are none."""
        started = time.process_time()
        distributed.progress(f"{name}, seed {seed}")
        folder, spent = out / f"{name}-{seed}", out / f"{name}-{seed}.cpu.json"
        try:
            metrics = self._run(name, seed, folder, train, test)
        except LockedError:
            raise
        except SiftuneError as error:
            return {"loss": name, "seed": seed, "refused": str(error)}
        if not spent.exists():
            write_json(spent, time.process_time() - started)
        if not self.keep_models:
            _drop_weights(folder)
        seconds = read_json(spent)
        return {"loss": name, "seed": seed, "cpu_seconds": seconds, "metrics": metrics}

    def _run(self, name: str, seed: int, folder: Path, train: Path, test: Path) -> dict[str, float]:
        """Train the objective ``name`` into ``folder``; its metrics on the pairs of ``test``."""
        group = group_of(name, _GROUPS)
        asked = {"eval_limit": self.answers, "max_new_tokens": self.max_new_tokens}
        evaluated = {"eval_rows": str(test), **asked} if group == LOSSES else {"held_out": 0.0}
        trainer = Preference(
            model=self.model,
            loss=name,
            loss_options=self.loss_options.get(name, {}),
            track_reference=True,
            epochs=self.epochs,
            lr=self.lr,
            batch_size=2 * self.batch_size if group in ANSWERS else self.batch_size,
            lora=self.lora,
            precision=self.precision,
            max_length=self.max_length,
            save_every=_NEVER,
            seed=seed,
            **evaluated,
        )
        if group == LOSSES:
            return dict(trainer(train, folder).metrics)
        objective = trainer.objective()
        bins = objective.bins if needs_of(objective).reward_tokens else 0
        if bins and trainer.max_length is not None:
            # the reward token is no part of it
            trainer = replace(trainer, max_length=trainer.max_length + 1)
        result, kept = trainer(train, folder), folder.with_name(f"{folder.name}.evaluated.json")
        if not kept.exists():
            write_json(kept, self._by_ratio(folder, test, bins))
        return {**result.metrics, **read_json(kept)}

    def _by_ratio(self, folder: Path, test: Path, bins: int) -> dict[str, float]:
        """Metrics of a model on the pairs of ``test`` by its log-ratio to the reference.

        They have the names of those of a run on pairs. A model that was trained behind reward
        tokens of ``bins`` bins is run behind the best one, as its template has it; the reference is
        run without.
        """
        from siftune.finetune.data.answer_rows import encode_rows
        from siftune.finetune.training.pair_loop import PairTrainer
        from siftune.finetune.training.policy import generation_eval_of, trainer_of
        from siftune.finetune.training.reward_tokens import reward_tokens_of

        options = Preference(
            model=str(folder),
            ref_model=self.model,
            eval_limit=self.answers,
            max_new_tokens=self.max_new_tokens,
            max_length=self.max_length,
            precision=self.precision,
        )
        tokenizer = loading.load_tokenizer(folder)
        tokens = reward_tokens_of(tokenizer, bins)
        table = training_rows.load(test, ("preference",))
        pairs = encode_rows(table, tokenizer).ids  # they have been found to fit
        run = Run(folder.with_name(f"{folder.name}.judging"), "")
        trainer = trainer_of(
            PairTrainer, options, options.objective(), pairs, pairs, tokenizer, run, tokens
        )
        policy: Any = trainer.model
        policy.eval()
        metrics = {f"eval_{k}": v for k, v in trainer.summary(trainer.evaluated(table)).items()}
        generation_eval = generation_eval_of(options, trainer, table, tokenizer)
        answers = {} if generation_eval is None else summary(generation_eval(policy))
        return metrics | {f"answers_{name}": value for name, value in answers.items()}

    def _facts(self, rows: Path, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What ``compare.json`` holds: options, every run, and the means over seeds."""
        options = asdict(self) | {"model": loading.shown(self.model)}
        return {
            "rows": loading.shown(rows),
            "options": options,
            "runs": list(cells),
            "means": {
                name: _means([cell for cell in cells if cell["loss"] == name])
                for name in self._names
            },
        }


_DECIDES: Final = ("limit", "held_out", "split_seed", "max_length", "labels_as_numbers")


def with_label_numbers(table: pl.DataFrame, objectives: Iterable[str]) -> pl.DataFrame:
    """Preference rows with every number that ``objectives`` read: 1 if chosen, 0 if rejected.

    A number that the rows have is left as it is. Of ``by_reference`` it is the other way round: the
    better answer is taken for the policy's.
    """
    from siftune.finetune.training.preference_rows import SCORES, numbers_of

    wanted: dict[str, float] = {}
    for name in objectives:
        group = group_of(name, _GROUPS)
        columns = needs_of(registry.find(group, name)).columns
        if group == LOSSES:
            wanted |= {column: float(not column.endswith("_rejected")) for column in columns}
        else:
            for column in columns:
                number, good = "score" if column in SCORES else column, float(column not in _LESS)
                wanted |= {f"{number}_chosen": good, f"{number}_rejected": 1 - good}
    lacking = {
        name: value
        for name, value in wanted.items()
        if numbers_of(table, name).null_count() == table.height
    }
    return table.with_columns(pl.lit(value).alias(name) for name, value in lacking.items())


def _drop_weights(folder: Path) -> None:
    """Remove a model's weights, and first from the files that its run has to have."""
    facts = loading.read_facts(folder)
    if facts.get("files", {}).pop(_WEIGHTS, None) is not None:
        write_json(folder / loading.FACTS, facts)
    (folder / _WEIGHTS).unlink(missing_ok=True)


def context_of(model: str) -> int | None:
    """Tokens that a model takes; None where its configuration has no limit."""
    return positions_of(loading.config_of(model))


def _means(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    done = [cell["metrics"] for cell in cells if "metrics" in cell]
    if not done:
        return {"runs": 0, "refused": cells[0]["refused"] if cells else "not yet trained"}
    found: dict[str, Any] = {"runs": len(done)}
    for metric in MEASURES.values():
        values = [metrics[metric] for metrics in done if metric in metrics]
        if values:
            found[metric] = statistics.fmean(values)
            found[f"{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    found["cpu_seconds"] = statistics.fmean(
        cell["cpu_seconds"] for cell in cells if "metrics" in cell
    )
    return found


def table_of(facts: Mapping[str, Any]) -> str:
    """The means as lines of text, the highest accuracy first; then what was refused."""
    means: dict[str, dict[str, Any]] = facts["means"]
    done = {name: one for name, one in means.items() if one["runs"]}
    wide = max(4, *(len(name) for name in means))
    heads = [*MEASURES, "cpu s"]
    heads.insert(1, "sd")
    lines = [f"{'loss':{wide}}  runs" + "".join(f"{head:>10}" for head in heads)]
    for name in sorted(done, key=lambda key: -done[key]["eval_accuracy"]):
        one = done[name]
        values = [one.get(metric) for metric in MEASURES.values()]
        values.insert(1, one["eval_accuracy_sd"])
        shown = "".join(f"{_number(value):>10}" for value in [*values, one["cpu_seconds"]])
        lines.append(f"{name:{wide}}  {one['runs']:4}{shown}")
    refused = [f"{name}: {one['refused']}" for name, one in means.items() if not one["runs"]]
    return "\n".join([*lines, *refused])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
