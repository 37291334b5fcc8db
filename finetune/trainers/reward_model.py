"""Reward model training on pairs: the better answer gets the higher score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import polars as pl

from siftune.curate.chat.templates import ENCODER
from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import if_slow
from siftune.curate.core.ranges import (
    Count,
    HeldOutShare,
    Natural,
    NonNegative,
    Positive,
    Rank,
    Seed,
    check_ranges,
)
from siftune.curate.models.model_config import positions_of
from siftune.finetune.core.distributed import refuse_spread
from siftune.finetune.core.types import Finishing, TrainResult
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.comparisons import pairs_in
from siftune.finetune.data.system_prompts import SystemPrompts
from siftune.finetune.models import loading
from siftune.finetune.models.lora import Kept, check_kept, lora_config, whole_model
from siftune.finetune.models.precision import Precision, formats, frozen_dtype, report
from siftune.finetune.models.saving import base_facts, command_line
from siftune.finetune.reward_models.limits import find_limits
from siftune.finetune.runs.resumable_run import Run, quiet, whole_weights
from siftune.finetune.tools.evaluate import write_step, write_summary
from siftune.finetune.training.gate_stage import check_gate, total_of
from siftune.finetune.training.trainer_arguments import freeze, training_arguments
from siftune.finetune.training.watched import check_watch, stopped_by, watch_of
from siftune.finetune.watch.actions import FixedBeta

if TYPE_CHECKING:
    from datasets import Dataset

    from siftune.finetune.losses.reward_types import RewardObjective
    from siftune.finetune.training.reward_rows import RewardRows
    from siftune.finetune.watch.watching import WatchCallback

__all__ = ["RewardModel"]

_MAX_LENGTH: Final = 1024
_TRAINED: Final = ("trained weights", "adapters and the head")


@dataclass(frozen=True)
class RewardModel:
    """Bradley-Terry, ``-log sigmoid(r_chosen - r_rejected - margin)``, or another ``objective``.

    Any backbone gets one number out. Rows are pairs, or ranked lists, of which all pairs of answers
    whose scores differ are compared. Each different answer of a pair, or with ``by_prompt`` of all
    pairs of a prompt, is encoded once; ``batch_size`` counts pairs, or prompts. A backbone without
    a chat template, as encoders are, reads the turns with its separator after each. A prompt that
    is too long loses its start, in evaluations as well; answers are never cut: a pair with one that
    does not fit, or whose sides have the same tokens, is refused, or left out with
    ``on_bad: drop``.

    The share of held-out pairs ranked right is in ``evaluation.json`` beside that of preferring the
    longer answer, on all pairs and on those of nearly equal length. Parts of a batch
    (``micro_tokens``) change no number but for rounding, and for what dropout draws where a
    backbone has any. ``lora``, ``adapter``, ``save_every`` and ``precision`` are as in `sft`.

    Options:
        model: Backbone: a causal model, an encoder, or a reward model to train further, as a
            folder, a name of `siftune models list`, or a name on the hub.
        objective: Loss of the scores: bradley_terry, k_wise, plackett_luce, focal_ranking,
            safe_rlhf_cost, process (labels of steps), attributes (ratings), or a class of yours,
            FILE.py:NAME.
        objective_options: Options of the objective, such as gamma=1 for focal_ranking.
        by_prompt: Put all pairs of a prompt together and encode each of their answers once; k_wise
            and plackett_luce always do.
        use_margin: Subtract the column ``margin`` of each pair from the gap of its two scores.
        win_rates: Learn the column ``win_probability``, the share in which the chosen answer won,
            in place of a sure win.
        length_matched: Weigh pairs so that the longer answer wins half of all: length alone then
            predicts nothing.
        domain: Column, or field of the raw rows, that names the domain of a pair.
        system_prompts: System prompt of each domain, such as '{code: Judge the code.}'; the model
            reads it wherever it scores such a row (InternLM2, arXiv:2403.17297).
        length_head: Weight of a second output that learns the length of an answer, so that the
            first one is free of it and alone is kept (ODIN, arXiv:2402.07319, which takes 1); 0 is
            none.
        center: Weight of the squared sum of a pair's scores, which keeps scores around zero
            (arXiv:2312.09244 takes 0.01); none is off.
        gate: Pairs, a file or a run folder, on which weights of the attributes by the prompt are
            learned in a second stage (ArmoRM, arXiv:2406.12845).
        gate_options: Options of the gate, such as steps=500, hidden=64 or length=characters.
        freeze: Number of the lowest layers that stay as they are, with the embeddings; 0 trains
            all.
        max_length: Largest number of tokens of prompt and answer, by default what the model takes,
            at most 1,024; a longer prompt loses its start.
        options: Any other arguments of TRL's RewardConfig, by their names there.
    """

    command: ClassVar = "reward"
    reads: ClassVar = "pairs"

    model: str
    epochs: Positive = 1.0
    lr: Positive = 5e-5
    batch_size: Count = 16
    micro_tokens: Count = 4096
    max_length: Count | None = None
    objective: str = "bradley_terry"
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    by_prompt: bool = False
    use_margin: bool = False
    win_rates: bool = False
    length_matched: bool = False
    domain: str | None = None
    system_prompts: Mapping[str, str] = field(default_factory=dict)
    length_head: NonNegative = 0.0
    center: NonNegative | None = None
    gate: str | None = None
    gate_options: Mapping[str, Any] = field(default_factory=dict)
    freeze: Natural = 0
    lora: Rank = 0
    lora_alpha: Positive = 16.0
    adapter: Kept = "merge"
    on_bad: training_rows.OnBad = "refuse"
    held_out: HeldOutShare = 0.1
    eval_rows: str | None = None
    save_every: Count = 100
    log_every: Count = 10
    seed: Seed = 0
    precision: Precision = "auto"
    watch: FixedBeta = "log"
    watch_detectors: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        check_ranges(self)
        check_kept(self.adapter, self.lora)
        check_watch(self)
        if self.freeze and self.lora:
            raise ValueError("freeze: with lora all layers stay as they are; set one of the two")
        if self.length_head and self.adapter != "merge":
            raise ValueError("length_head: its output is taken out of the merged model: no adapter")
        if (self.domain is None) != (not self.system_prompts):
            raise ValueError("domain: it and system_prompts, a text for each domain, go together")
        if self.objective == "attributes" and self.adapter != "merge":
            raise ValueError("attributes: their total is made in the merged model: no adapter")

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on the pairs of ``rows`` and write the model folder ``out``.

        Raises:
            DataError: pairs cannot be trained on; the text counts and names them.
            UsageError: an option or the model does not fit.
        """
        check_gate(self, self._heads())
        table = self._read(rows)
        run = Run.of(out, self._key(table))
        with run.held():
            return run.finished() or self.train(table, rows, run)

    @property
    def _formats(self) -> tuple[list[str], str]:
        """The models in the frozen number format, and what is trained."""
        return ["the frozen base"] * bool(self.lora), _TRAINED[bool(self.lora)]

    def _key(self, table: pl.DataFrame) -> dict[str, Any]:
        key = {
            "stage": "reward",
            "options": asdict(self) | {"precision": formats(self.precision, *self._formats)},
            "base": loading.model_hash(self.model),
            "data": training_rows.data_hash(table),
        }
        kept = self._rows()
        if facts := kept.facts(table):
            key["numbers"] = facts
        for name, read in (("gate", pairs_in), ("eval_rows", self._read)):
            if (file := getattr(self, name)) is not None:
                key[name.removesuffix("_rows")] = training_rows.data_hash(read(file))
        return key

    def _read(self, source: Path | str) -> pl.DataFrame:
        table = self._rows().load(source)
        if self.domain is None:
            return table
        return SystemPrompts(self.domain, self.system_prompts).table(table, source)

    def train(
        self, table: pl.DataFrame, rows: Path, run: Run, finishing: Finishing | None = None
    ) -> TrainResult:
        """Train on ``table``, read from ``rows``, as ``run``, which this process holds.

        Raises:
            DataError: rows cannot be trained on; the text counts and names them.
            UsageError: an option or the model does not fit.
        """
        tokenizer = loading.load_tokenizer(self.model)
        if tokenizer.chat_template is None and tokenizer.sep_token is not None:
            tokenizer.chat_template = ENCODER
        report(self.precision, *self._formats)
        base: loading.DType = frozen_dtype(self.precision) if self.lora else "float32"
        model = self._load(base)
        freeze(model, self.freeze)
        length = self._length(model.config)
        tokenizer.model_max_length = length
        with if_slow(f"reading {table.height:,} rows as tokens"):
            used, dropped = self._usable(table, tokenizer, length, rows)
        train, test = self._split(used)
        rows_of = self._dataset(train, tokenizer, length)
        trainer = self._trainer(model, tokenizer, rows_of, train["id"].to_list(), run)
        watch = watch_of(self, "reward", run, model=trainer.model)
        metrics = run.train(trainer, self._scored(test, tokenizer, run, watch), watch=watch)
        if not test.is_empty():
            found = write_summary(run.beside, self._summary)
            metrics |= {f"eval_{name}": value for name, value in found.items()}
        trained = adapted = trainer.accelerator.unwrap_model(trainer.model)
        if self.lora:
            trained = whole_model(adapted, self.adapter, self.model, self._load, run.beside)
        trained, gate, more = total_of(self, self._heads(), trained, tokenizer, run.beside)
        metrics |= more
        facts = {
            "stage": "reward",
            "method": self.objective,
            "base": base_facts(self.model),
            "command": command_line(self, run.command, rows),
            "data": {**training_rows.data_facts(rows, train), "dropped": dropped.counts()},
            "options": asdict(self),
            "precision": formats(self.precision, *self._formats),
            "seed": self.seed,
            "metrics": metrics,
            **gate,
            **stopped_by(watch),
        }
        if finishing is not None:
            facts |= finishing(trained, tokenizer, test, facts)
        elif not trainer.is_fsdp_enabled and "chosen" in train.columns:
            facts |= find_limits(trained or adapted, tokenizer, train, test, run.beside)
        return run.finish(trained, tokenizer, facts, dropped, whole_weights(trainer))

    def _load(self, dtype: loading.DType = "float32") -> Any:
        return loading.load_reward(self.model, dtype, self.seed, [*self._heads()])

    def _heads(self) -> Mapping[str, float]:
        """Outputs that are trained, each with its weight in the one that is written."""
        return self._rows().heads

    def _length(self, config: Any) -> int:
        limit = positions_of(config) or _MAX_LENGTH
        length = self.max_length or min(_MAX_LENGTH, limit)
        preflight.refuse([*preflight.check_length(length, config), *self._check_head(config)])
        return int(length)

    def _check_head(self, config: Any) -> Sequence[preflight.Problem]:
        return () if self._heads() else preflight.check_reward_head(config)

    def _usable(
        self, table: pl.DataFrame, tokenizer: Any, length: int, rows: Path
    ) -> tuple[pl.DataFrame, training_rows.Dropped]:
        """The rows that can be trained on; the others are refused or listed."""
        cpu = loading.device().type == "cpu"
        preflight.refuse(preflight.check_precision(self.options, cpu))
        preflight.refuse(preflight.check_padding(tokenizer))
        bad, cut = self._rows().read(table, tokenizer, length)
        used = training_rows.drop_bad(table, bad, self.on_bad, rows)
        preflight.refuse(preflight.check_shortened(cut, length))
        return used, training_rows.dropped_of(bad)

    def _split(self, table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        if self.eval_rows is None:
            return training_rows.held_out(table, self.held_out, self.seed)
        other = self._read(self.eval_rows)
        return table, training_rows.drop_bad(
            other, training_rows.bad_rows(other), self.on_bad, self.eval_rows
        )

    def _dataset(self, table: pl.DataFrame, tokenizer: Any, length: int) -> Dataset:
        from datasets import Dataset

        return Dataset.from_list(self._rows().elements(table, tokenizer, length))

    def _rows(self) -> RewardRows:
        """What the objective reads: pairs, or answers in steps.

        Raises:
            UsageError: there is no such objective, or it cannot use an option.
        """
        from siftune.finetune.training.reward_rows import rows_of

        return rows_of(
            self._loss(),
            by_prompt=self.by_prompt,
            use_margin=self.use_margin,
            win_rates=self.win_rates,
            length_matched=self.length_matched,
            length_head=bool(self.length_head),
        )

    def _loss(self) -> RewardObjective:
        """The objective, which can use what the options give it.

        Raises:
            UsageError: there is no such objective, or it cannot use an option.
        """
        from siftune.finetune.training.reward_rows import objective_of

        given = [name for name in asdict(self) if getattr(self, name)]
        return objective_of(self.objective, self.objective_options, given)

    def _trainer(self, model: Any, tokenizer: Any, rows: Dataset, ids: list[str], run: Run) -> Any:
        args = self._arguments(run)
        per_step = self.batch_size * args.gradient_accumulation_steps
        preflight.refuse(
            preflight.check_steps(len(rows), per_step, self.epochs, args.dataloader_drop_last)
        )
        adapter = lora_config(self.lora, self.lora_alpha, "SEQ_CLS") if self.lora else None
        if self.length_head and args.gradient_accumulation_steps > 1:
            raise UsageError(
                "length_head: it is a correlation over a batch, so raise batch_size "
                "and leave gradient_accumulation_steps out"
            )
        with quiet():
            loop = self._loop(model, tokenizer, rows, args, adapter)
        loop.row_ids, loop.micro_tokens = ids, self.micro_tokens
        return loop

    def _loop(self, model: Any, tokenizer: Any, rows: Dataset, args: Any, adapter: Any) -> Any:
        own = self._rows()
        loop = own.loop(
            model,
            tokenizer,
            args,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=adapter,
        )
        loop.loss, loop.center = self._loss(), self.center or 0.0
        loop.loss_columns, loop.length_head = loop.loss.needs, self.length_head
        return loop

    def check_options(self) -> None:
        """Refuse arguments that the Hugging Face trainer does not take, before anything is read."""
        if self.options:
            self._arguments(Run(Path("model"), ""))

    def _arguments(self, run: Run) -> Any:
        """TRL's RewardConfig of this run."""
        config, own = self._config()
        own |= {
            **run.arguments(self.save_every, self.log_every, self.seed),
            "learning_rate": self.lr,
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": self.batch_size,
        }
        alone = ("lora", "length_head", "gate")
        for name in compress(alone, (self.lora, self.length_head, self.gate)):
            refuse_spread(name)
        return training_arguments(config, own, self.options, run.work, self.precision)

    def _config(self) -> tuple[Any, dict[str, Any]]:
        """The class of the loop's arguments, with those that are its own."""
        with quiet():
            from trl.trainer.reward_config import RewardConfig

        # texts are cut already, and scores are centred by us
        return RewardConfig, {"max_length": None, "center_rewards_coefficient": None}

    def _scored(
        self, test: pl.DataFrame, tokenizer: Any, run: Run, watch: WatchCallback | None
    ) -> Callable[[Any, int], None] | None:
        if test.is_empty():
            return None

        def look(model: Any, step: int) -> None:
            found = self.scored(model, tokenizer, test)
            write_step(run.beside, step, found)
            if watch is not None:
                watch.held_out(step, found)

        return look

    @property
    def _summary(self) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, float]]:
        return self._rows().summary

    def scored(self, model: Any, tokenizer: Any, table: pl.DataFrame) -> list[dict[str, Any]]:
        """What the model makes of each row, cut to what the tokenizer's model takes."""
        return self._rows().scored(model, tokenizer, table, self.on_bad)
