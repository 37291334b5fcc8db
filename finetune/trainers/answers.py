"""Preference optimisation on single labelled answers, or on ranked lists of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from curate.core import registry
from curate.core.errors import UsageError
from curate.core.files import digest_of
from curate.core.schema import Kind
from finetune import checks, data, models
from finetune.arguments import training_arguments
from finetune.runs import Run, quiet
from finetune.types import TrainResult

if TYPE_CHECKING:
    import polars as pl

    from finetune.answer_rows import AnswerRow, AnswerRows

__all__ = ["AnswerPreference"]

_KINDS: Final[Mapping[str, Kind]] = {
    "finetune.losses.unpaired": "unpaired",
    "finetune.losses.listwise": "ranked",
}


@dataclass(frozen=True)
class AnswerPreference:
    """Trains ``model`` under ``loss``: one of `finetune.losses.unpaired` or of ``…listwise``.

    The first take rows of one answer and a label (``unpaired``), the others rows of ranked answers
    (``ranked``, with ``scores``). ``loss_options`` are the loss's own options, ``beta`` a short way
    to the one most have. The reference is ``ref_model``, by default the model as it was; with
    ``lora`` (the rank of an adapter, merged at the end; ``lora_alpha`` its scale) it is the model
    with the adapter off. ``batch_size`` counts prompts. What a loss takes over its batch (KTO's
    estimate of the KL) it takes over a whole step, however that is split; its answers to other
    prompts are drawn once, by ``seed``.

    Rows whose prompt and longest answer exceed ``max_length`` tokens (default: what the model
    takes) are refused, or left out and listed with ``on_bad: drop``; prompts are cut to their last
    ``max_prompt_length`` tokens where that is set. A checkpoint is taken every ``save_every``
    steps, and a run that was cut off goes on from it. ``options`` are any other arguments of
    `transformers.TrainingArguments`. Dropout is off.
    """

    model: str
    loss: str = "kto"
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    beta: float | None = None
    ref_model: str | None = None
    lora: int = 0
    lora_alpha: float = 16.0
    epochs: float = 1.0
    lr: float = 1e-6
    batch_size: int = 8
    gradient_accumulation: int = 1
    max_length: int | None = None
    max_prompt_length: int | None = None
    on_bad: data.OnBad = "refuse"
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
        for name in ("epochs", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.lora and self.ref_model:
            raise ValueError("ref_model: with lora the reference is the model, its adapter off")

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on the answers of ``rows`` and write the model folder ``out``.

        Raises:
            SiftuneError: a loss is not finite.
            DataError: rows cannot be trained on; the text counts and names them.
            UsageError: an option, the loss or the model does not fit, or not with these rows.
        """
        objective = self.objective()
        table = data.load(rows, (_KINDS[self._group],))
        if "label" in table.columns:  # some losses do learn from one class, so it is only said
            found = checks.check_labels(table["label"].drop_nulls().to_list())
            checks.refuse([replace(one, level="warning") for one in found])
        run = Run.of(out, self._key(table))
        with run.held():
            return run.finished() or self._train(objective, table, rows, run)

    @property
    def _group(self) -> str:
        found = [group for group in _KINDS if self.loss in registry.names(group)]
        if found:
            return found[0]
        known = tuple(name for group in _KINDS for name in registry.names(group))
        raise UsageError(
            f"no loss on single or ranked answers is called {self.loss!r}; "
            f"{registry.closest(self.loss, known)}"
        )

    def objective(self) -> Any:
        """The loss with its options.

        Raises:
            UsageError: no such loss or option, or one that cannot be trained on rows alone.
        """
        from finetune.losses.types import needs_of

        beta = {} if self.beta is None else {"beta": self.beta}
        objective = registry.build(self._group, self.loss, {**self.loss_options, **beta})
        if not getattr(objective, "beta", 1.0) > 0:
            raise UsageError(f"{self.loss}: beta: expected more than 0, got {objective.beta}")
        if getattr(objective, "on_policy", False):
            raise UsageError(
                f"{self.loss} learns from answers sampled anew from the policy, with a judge's win "
                "rates; this trainer samples nothing"
            )
        if needs_of(objective).value:
            raise UsageError(f"{self.loss} trains a value head, which this trainer has none of")
        return objective

    def _key(self, table: pl.DataFrame) -> dict[str, Any]:
        scores = table["scores"].to_list() if "scores" in table.columns else None
        key = {
            "stage": "answers",
            "options": asdict(self),
            "base": models.model_hash(self.model),
            "data": data.data_hash(table),
            "scores": digest_of(scores),
        }
        if self.ref_model is not None:
            key["reference"] = models.model_hash(self.ref_model)
        return key

    def _train(self, objective: Any, table: pl.DataFrame, rows: Path, run: Run) -> TrainResult:
        tokenizer = models.load_tokenizer(self.model)
        checks.refuse(checks.check_precision(self.options, models.device().type == "cpu"))
        checks.refuse(checks.check_tokenizer(tokenizer))
        checks.refuse(checks.check_template(tokenizer))
        read = self._rows(objective, table, tokenizer, rows)
        trainer = self._trainer(objective, read.rows, tokenizer, run)
        metrics = run.train(trainer)
        facts = {
            "stage": "answers",
            "method": self.loss,
            "base": {"path": models.shown(self.model), "hash": models.model_hash(self.model)},
            "data": {**data.data_facts(rows, read.table), "dropped": read.dropped.counts()},
            "options": {**asdict(self), "loss_options": asdict(objective)},
            "seed": self.seed,
            "metrics": metrics,
        }
        trained = trainer.accelerator.unwrap_model(trainer.model)
        whole = trained.merge_and_unload() if self.lora else trained
        return run.finish(whole, tokenizer, facts, read.dropped)

    def _rows(
        self, objective: Any, table: pl.DataFrame, tokenizer: Any, source: Path
    ) -> AnswerRows:
        from dataclasses import replace

        from transformers import AutoConfig

        from finetune.answer_rows import answer_rows, with_strangers
        from finetune.losses.types import needs_of

        config = AutoConfig.from_pretrained(models.resolve(self.model), trust_remote_code=False)
        checks.refuse(checks.check_length(self.max_length, config))
        longest = self.max_length or getattr(config, "max_position_embeddings", None)
        needs = needs_of(objective)
        read = answer_rows(
            table,
            tokenizer,
            needs.columns,
            max_length=longest,
            max_prompt_length=self.max_prompt_length,
            on_bad=self.on_bad,
            source=source,
        )
        if not needs.mismatched:
            return read
        return replace(read, rows=with_strangers(read.rows, self.seed, longest))

    def _trainer(self, objective: Any, train: list[AnswerRow], tokenizer: Any, run: Run) -> Any:
        import torch

        from finetune.answers import AnswerCollator, AnswerTrainer, ListTrainer
        from finetune.logps import answer_with_scores, check_head
        from finetune.losses.types import needs_of
        from finetune.reference import AdapterOff, Lora, frozen, with_adapter, without_dropout

        args = self._arguments(len(train), run)  # a wrong option is told before a model loads
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        policy: Any = models.load_causal(self.model)
        check_head(policy, torch.tensor([[*train[0].prompt, *train[0].answers[0]][:16]]))
        without_dropout(policy)
        answer_with_scores(policy)
        if self.lora:
            policy = with_adapter(policy, Lora(self.lora, self.lora_alpha), self.seed)
        reference: Any = None
        if needs_of(objective).reference:
            reference = AdapterOff(policy) if self.lora else frozen(self.ref_model or self.model)
        watched = ("entropy", "top1", *(() if reference is None else ("kl",)))
        trainer = AnswerTrainer if _KINDS[self._group] == "unpaired" else ListTrainer
        with quiet():
            return trainer(
                policy, objective, reference, args, train, (), AnswerCollator(pad), watched
            )

    def _arguments(self, rows: int, run: Run) -> Any:
        from transformers import TrainingArguments

        own = {
            **run.arguments(self.save_every, self.log_every, self.seed),
            "learning_rate": self.lr,
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": self.batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation,
            "remove_unused_columns": False,
        }
        args = training_arguments(TrainingArguments, own, self.options, run.work)
        per_step = self.batch_size * self.gradient_accumulation
        checks.refuse(checks.check_steps(rows, per_step, self.epochs, args.dataloader_drop_last))
        return args
