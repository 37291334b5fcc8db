"""Preference optimisation on single labelled answers, or on ranked lists of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from curate.core.errors import UsageError
from curate.core.files import digest_of
from curate.core.schema import Kind
from finetune import checks, data, models
from finetune.leash import refuse_leash
from finetune.ranks import refuse_spread
from finetune.runs import Run, quiet, whole_weights
from finetune.types import TrainResult

if TYPE_CHECKING:
    import polars as pl

    from finetune.answer_rows import AnswerRow, AnswerRows
    from finetune.answers import AnswerTrainer
    from finetune.losses.types import Needs

__all__ = ["AnswerPreference"]

_KINDS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "lists": ("ranked", "preference"),
    "labels": ("unpaired", "preference"),
    "answers": ("unpaired", "ranked", "conversation", "preference"),
}


@dataclass(frozen=True)
class AnswerPreference:
    """Trains ``model`` under ``loss``, of `finetune.losses.unpaired`, ``…token`` or ``…listwise``.

    Losses on labels take ``unpaired`` rows (an answer and whether it is a good one), others on
    single answers take any rows that have some, those on lists ``ranked`` ones; pairs are taken for
    a good and a bad answer, or for a list of two. ``columns`` says where the numbers are that a
    loss reads, as ``{reward: judge_rating}``; by default in columns (or in fields that came with
    the rows) of its own names, and for ranked rows in ``scores``.

    ``loss_options`` are the loss's own options, ``beta`` a short way to the one most have;
    ``also`` adds others of the same family with their default options and a weight each. The
    reference is ``ref_model``, by default the model as it was; with ``lora`` (the rank of an
    adapter, merged at the end; ``lora_alpha`` its scale) it is the model with the adapter off.
    ``precompute_reference`` runs it once before training and keeps what it said under ``cache``
    (default: beside the checkpoints), by content. ``track_reference``, ``ref_sync_steps`` with
    ``ref_mixup_alpha``, and ``max_kl`` are those of the trainer on pairs. With ``share_prefix``
    a prompt is run once for all its answers, and padding not at all, where the model's
    attention allows it. ``batch_size`` counts prompts. What a loss takes over its batch (KTO's
    estimate of the KL) it takes over a whole step, however that is split; its answers to other
    prompts are drawn once, by ``seed``. A loss with a value head trains it at ``value_lr``.

    Rows whose prompt and longest answer exceed ``max_length`` tokens (default: what the model
    takes) are refused, or left out and listed with ``on_bad: drop``; prompts are cut to their
    last ``max_prompt_length`` tokens where that is set. ``held_out`` is the share of prompts
    that is kept from training and judged at every checkpoint (``eval_rows`` names other rows
    for that). A checkpoint is taken every ``save_every`` steps, and a run that was cut off goes
    on from it to the same bytes. ``options`` are any other arguments of
    `transformers.TrainingArguments`. Dropout is off.
    """

    model: str
    loss: str = "kto"
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    beta: float | None = None
    also: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    ref_model: str | None = None
    lora: int = 0
    lora_alpha: float = 16.0
    precompute_reference: bool = False
    track_reference: bool = False
    ref_sync_steps: int = 0
    ref_mixup_alpha: float = 0.6
    share_prefix: bool = True
    cache: str | None = None
    epochs: float = 1.0
    lr: float = 1e-6
    value_lr: float = 1e-3
    batch_size: int = 8
    gradient_accumulation: int = 1
    max_length: int | None = None
    max_prompt_length: int | None = None
    on_bad: data.OnBad = "refuse"
    held_out: float = 0.1
    eval_rows: str | None = None
    max_kl: float | None = None
    save_every: int = 100
    log_every: int = 10
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        for name in ("batch_size", "gradient_accumulation", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.lora < 0:
            raise ValueError(f"lora: expected a rank, or 0 for none, got {self.lora}")
        for name in ("epochs", "lr", "value_lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out: expected a share from 0 to below 1, got {self.held_out}")
        if self.lora and self.ref_model:
            raise ValueError("ref_model: with lora the reference is the model, its adapter off")
        refuse_leash(self)

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on the answers of ``rows`` and write the model folder ``out``.

        Raises:
            SiftuneError: a loss is not finite.
            DataError: rows cannot be trained on; the text counts and names them.
            UsageError: an option, the loss or the model does not fit, or not with these rows.
        """
        from finetune.answer_tables import check_samples

        objective = self.objective()
        table = self._table(objective, rows)
        if "label" in table.columns and self._needs(objective).label:
            # some losses do learn from one class, so it is only said
            found = checks.check_labels(table["label"].drop_nulls().to_list())
            checks.refuse([replace(one, level="warning") for one in found])
        if getattr(objective, "on_policy", False):
            checks.refuse(check_samples(table, models.model_hash(self.model)))
        run = Run.of(out, self._key(objective, table))
        with run.held():
            return run.finished() or self._train(objective, table, rows, run)

    @property
    def _groups(self) -> tuple[str, ...]:
        from curate.core import registry
        from finetune.objectives import ANSWERS, LISTS

        if any(self.loss in registry.names(group) for group in LISTS):
            return LISTS
        return ANSWERS

    @property
    def _lists(self) -> bool:
        return len(self._groups) == 1

    def objective(self) -> Any:
        """The loss with its options, and those added to it.

        Raises:
            UsageError: no such loss or option, or one that these settings cannot train.
        """
        from finetune.objectives import ANSWERS, LISTS, built, group_of, refuse_unfit

        group_of(self.loss, (*ANSWERS, *LISTS))
        beta = {} if self.beta is None else {"beta": self.beta}
        options = {**self.loss_options, **beta}
        objective = built(self.loss, options, self.also, self._groups)
        refuse_unfit(
            self.loss,
            objective,
            accumulates=False,  # what is shared over a batch is shared over the step
            keeps_reference=self.precompute_reference,
            stops_by_kl=self.max_kl is not None and not self.track_reference,
            follows=self.ref_sync_steps > 0 and not self.track_reference,
        )
        if self.lora and self._needs(objective).reward_tokens:
            raise UsageError(
                f"{self.loss} learns embeddings of its reward tokens, which an adapter leaves as "
                "they are; leave lora out"
            )
        return objective

    @staticmethod
    def _needs(objective: Any) -> Needs:
        from finetune.losses.types import needs_of

        return needs_of(objective)

    def _table(self, objective: Any, source: Path | str) -> pl.DataFrame:
        """The rows as the loss takes them, its numbers in columns of their own."""
        from finetune.answer_tables import listed, single, with_numbers

        needs = self._needs(objective)
        takes = "lists" if self._lists else "labels" if needs.label else "answers"
        table = data.load(source, _KINDS[takes])
        table = with_numbers(table, needs.columns, self.columns, source)
        return listed(table) if self._lists else single(table, needs.columns)

    def _key(self, objective: Any, table: pl.DataFrame) -> dict[str, Any]:
        from finetune.objectives import resolved

        read = self._needs(objective).columns
        key = {
            "stage": "answers",
            "loss": resolved(objective),
            "options": asdict(replace(self, cache=None)),
            "base": models.model_hash(self.model),
            "data": data.data_hash(table),
            "columns": digest_of({name: table[name].to_list() for name in read}),
        }
        if self.ref_model is not None:
            key["reference"] = models.model_hash(self.ref_model)
        if self.eval_rows is not None:
            other = self._table(objective, self.eval_rows)
            numbers = {name: other[name].to_list() for name in read}
            key["eval"] = digest_of([data.data_hash(other), numbers])
        return key

    def _train(self, objective: Any, table: pl.DataFrame, rows: Path, run: Run) -> TrainResult:
        from finetune.moving import hold
        from finetune.objectives import resolved

        tokenizer = models.load_tokenizer(self.model)
        checks.refuse(checks.check_precision(self.options, models.device().type == "cpu"))
        checks.refuse(checks.check_tokenizer(tokenizer))
        checks.refuse(checks.check_template(tokenizer))
        read = self._rows(objective, table, tokenizer, rows)
        used, test = self._split(objective, read, tokenizer)
        trainer = self._trainer(objective, read.part(used), test, tokenizer, run)
        stop = hold(self, trainer)
        metrics = run.train(trainer, self._look(trainer, test, run))
        if test.rows:
            from finetune.answer_judging import summary
            from finetune.evaluate import write_summary

            found = write_summary(run.beside, summary)
            metrics |= {f"eval_{name}": value for name, value in found.items()}
        facts = {
            "stage": "answers",
            "method": self.loss,
            "base": {"path": models.shown(self.model), "hash": models.model_hash(self.model)},
            "data": {**data.data_facts(rows, used), "dropped": read.dropped.counts()},
            "options": {**asdict(replace(self, cache=None)), "loss_options": resolved(objective)},
            "seed": self.seed,
            "metrics": metrics,
            "stopped": "kl" if stop is not None and stop.fired else None,
            "stopped_because": stop.fired if stop is not None else None,
        }
        trained = trainer.accelerator.unwrap_model(trainer.model)
        if trainer.needs.value:
            from finetune.value_head import take_value_head

            take_value_head(trained, run.beside)
        whole = trained.merge_and_unload() if self.lora else trained
        return run.finish(whole, tokenizer, facts, read.dropped, whole_weights(trainer))

    def _rows(
        self, objective: Any, table: pl.DataFrame, tokenizer: Any, source: Path | str
    ) -> AnswerRows:
        from transformers import AutoConfig

        from finetune.answer_rows import answer_rows

        config = AutoConfig.from_pretrained(models.resolve(self.model), trust_remote_code=False)
        checks.refuse(checks.check_length(self.max_length, config))
        needs = self._needs(objective)
        longest = self.max_length or getattr(config, "max_position_embeddings", None)
        room = 1 if needs.reward_tokens else 0
        return answer_rows(
            table,
            tokenizer,
            needs.columns,
            labelled=needs.label,
            max_length=None if longest is None else longest - room,
            max_prompt_length=self.max_prompt_length,
            on_bad=self.on_bad,
            source=source,
        )

    def _split(
        self, objective: Any, read: AnswerRows, tokenizer: Any
    ) -> tuple[pl.DataFrame, AnswerRows]:
        """The rows to train on, and those to judge."""
        if self.eval_rows is not None:
            other = self._table(objective, self.eval_rows)
            return read.table, self._rows(objective, other, tokenizer, self.eval_rows)
        train, test = data.held_out(read.table, self.held_out, self.seed)
        return train, replace(read, table=test, rows=read.part(test))

    def _look(
        self, trainer: AnswerTrainer, test: AnswerRows, run: Run
    ) -> Callable[[Any, int], None] | None:
        """What is done at a checkpoint: the rows of ``test`` are judged."""
        from finetune.answer_judging import judged
        from finetune.evaluate import write_step

        if not test.rows:
            return None
        return lambda model, step: write_step(run.beside, step, judged(trainer, test.table))

    def _trainer(
        self, objective: Any, train: list[AnswerRow], test: AnswerRows, tokenizer: Any, run: Run
    ) -> AnswerTrainer:
        from finetune.answer_setup import Setup
        from finetune.loop_arguments import arguments_of

        if self.lora:
            refuse_spread("lora")
        args = arguments_of(self, len(train), run)  # a wrong option is told before a model loads
        setup = Setup(
            objective,
            self.model,
            self.ref_model or self.model,
            tokenizer,
            lora=self.lora,
            lora_alpha=self.lora_alpha,
            seed=self.seed,
            share=self.share_prefix,
            reference=self._needs(objective).reference or self.track_reference,
            keep=(Path(self.cache) if self.cache else run.work)
            if self.precompute_reference
            else None,
            max_length=self.max_length,
        )
        with quiet():
            return setup.trainer(args, train, test.rows, self.value_lr, lists=self._lists)
