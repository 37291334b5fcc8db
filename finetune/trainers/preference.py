"""Preference optimisation: any loss on pairs of completions, held to a reference or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import checks, data, models
from finetune.evaluate import write_summary
from finetune.leash import refuse_leash
from finetune.runs import Run, whole_weights
from finetune.types import TrainResult

if TYPE_CHECKING:
    import polars as pl

    from finetune.pair_rows import Pairs

__all__ = ["Preference"]


@dataclass(frozen=True)
class Preference:
    """Trains ``model`` on preference rows under ``loss``, a component of `finetune.losses.pair`.

    ``loss_options`` are the loss's own options, ``beta`` a short way to the one most have; ``also``
    adds other losses with their default options and a weight each, as ``{sft: 0.2}``. The
    reference is ``ref_model``, by default the model as it was; with ``lora`` (the rank of an
    adapter, merged at the end; 0 trains all weights; ``lora_alpha`` its scale) it is the model with
    the adapter off, and no second one is held; ``load_in_4bit`` holds that one in 4 bits (QLoRA)
    and merges the adapter into the model as it was. ``precompute_reference`` runs it once before
    training and keeps what it said under ``cache`` (default: beside the checkpoints), by content.
    A loss that needs no reference gets none, unless ``track_reference`` asks for the metrics. With
    ``ref_sync_steps`` the reference follows: every so many steps ``ref_mixup_alpha`` of the policy
    is mixed into it (1 with a small share: a moving average), and KL and drift are those from the
    reference as it then is.
    With ``share_prefix`` the prompt of a pair is run once for both answers, and padding not at all,
    where the model's attention allows it (it is tried first; where not, that is said).

    Rows whose prompt and longer answer exceed ``max_length`` tokens (default: what the model takes)
    are refused, or left out and listed with ``on_bad: drop``; prompts are cut to their last
    ``max_prompt_length`` tokens where that is set. An answer is never cut, so its end of turn is
    always learned. ``batch_size`` counts pairs; a step is ``batch_size × gradient_accumulation``
    pairs for each process. A batch of more than ``micro_tokens`` tokens is run in parts, which
    costs less memory and changes no number. ``max_tokens`` in place of ``epochs``: rows come in
    fresh orders until that many tokens of answers, of both sides, have been scored.

    ``held_out`` is the share of prompts that is kept from training and judged at every checkpoint
    (``eval_rows`` names other pairs for that); with ``eval_limit`` the policy also answers as many
    of their prompts, greedily, in ``max_new_tokens``: ``answers/step-*.jsonl``. ``max_kl``, in nats
    per token, ends training once the KL to the reference on the trained answers is above it at a
    logged step; it needs the reference in memory. A checkpoint is taken every ``save_every`` steps,
    and a run that was cut off goes on from it to the same bytes. ``options`` are any other
    arguments of `transformers.TrainingArguments`. Dropout is off.
    """

    model: str
    loss: str = "dpo"
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    beta: float | None = None
    also: Mapping[str, float] = field(default_factory=dict)
    ref_model: str | None = None
    lora: int = 0
    lora_alpha: float = 16.0
    load_in_4bit: bool = False
    precompute_reference: bool = False
    track_reference: bool = False
    ref_sync_steps: int = 0
    ref_mixup_alpha: float = 0.6
    share_prefix: bool = True
    cache: str | None = None
    epochs: float = 1.0
    max_tokens: int | None = None
    lr: float = 1e-6
    batch_size: int = 8
    gradient_accumulation: int = 1
    micro_tokens: int = 4096
    max_length: int | None = None
    max_prompt_length: int | None = None
    on_bad: data.OnBad = "refuse"
    held_out: float = 0.1
    eval_rows: str | None = None
    eval_limit: int = 0
    max_new_tokens: int = 64
    max_kl: float | None = None
    save_every: int = 100
    log_every: int = 10
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        if self.lora < 0:
            raise ValueError(f"lora: expected a rank, or 0 for none, got {self.lora}")
        for name in (
            "batch_size",
            "gradient_accumulation",
            "micro_tokens",
            "save_every",
            "log_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("epochs", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.eval_limit < 0 or self.max_new_tokens < 1:
            raise ValueError("eval_limit: expected 0 or more; max_new_tokens: at least 1")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out: expected a share from 0 to below 1, got {self.held_out}")
        self._refuse_conflicts()

    def _refuse_conflicts(self) -> None:
        if self.lora and self.ref_model:
            raise ValueError("ref_model: with lora the reference is the model, its adapter off")
        if self.load_in_4bit and (not self.lora or self.precompute_reference):
            raise ValueError(
                "load_in_4bit: needs lora, which is what trains, and no precompute_reference, "
                "which is of the model in full"
            )
        refuse_leash(self)

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on the pairs of ``rows`` and write the model folder ``out``.

        Raises:
            SiftuneError: a loss is not finite.
            DataError: pairs cannot be trained on; the text counts and names them.
            UsageError: an option, the loss or the model does not fit, or not with these rows.
        """
        objective = self.objective()
        table = data.load(rows, ("preference",))
        run = Run.of(out, self._key(objective, table))
        with run.held():
            return run.finished() or self._train(objective, table, rows, run)

    def objective(self) -> Any:
        """The loss with its options, and those added to it.

        Raises:
            UsageError: no such loss or option, or one that these settings cannot train.
        """
        from finetune.objectives import built, refuse_unfit

        beta = {} if self.beta is None else {"beta": self.beta}
        objective = built(self.loss, {**self.loss_options, **beta}, self.also)
        refuse_unfit(
            self.loss,
            objective,
            accumulates=self.gradient_accumulation > 1,
            keeps_reference=self.precompute_reference,
            stops_by_kl=self.max_kl is not None and not self.track_reference,
            follows=self.ref_sync_steps > 0 and not self.track_reference,
        )
        return objective

    def _key(self, objective: Any, table: pl.DataFrame) -> dict[str, Any]:
        from finetune.objectives import resolved

        key = {
            "stage": "preference",
            "options": asdict(replace(self, cache=None)),
            "base": models.model_hash(self.model),
            "data": data.data_hash(table),
            "loss": resolved(objective),  # defaults too: another version may have others
        }
        if self.ref_model is not None:
            key["reference"] = models.model_hash(self.ref_model)
        if self.eval_rows is not None:
            key["eval"] = data.data_hash(data.load(self.eval_rows, ("preference",)))
        return key

    def _train(self, objective: Any, table: pl.DataFrame, rows: Path, run: Run) -> TrainResult:
        from finetune.moving import hold
        from finetune.objectives import resolved
        from finetune.pair_judging import ANSWERS, examined, summary
        from finetune.pair_setup import exam_of, merged, trainer_of

        tokenizer = models.load_tokenizer(self.model)
        checks.refuse(checks.check_precision(self.options, models.device().type == "cpu"))
        checks.refuse(checks.check_tokenizer(tokenizer))
        checks.refuse(checks.check_template(tokenizer))
        pairs = self._pairs(objective, table, tokenizer, rows)
        train, test = self._split(objective, pairs, tokenizer)
        trainer = trainer_of(self, objective, pairs.part(train), test, tokenizer, run)
        stop = hold(self, trainer)
        exam = exam_of(self, trainer, test.table, tokenizer)
        look = examined(trainer, test.table, run.beside, exam) if test.ids else None
        metrics = run.train(trainer, look)
        if test.ids:
            metrics |= {f"eval_{k}": v for k, v in write_summary(run.beside, summary).items()}
        if test.ids and exam is not None:
            means = write_summary(run.beside, name=ANSWERS)
            metrics |= {f"answers_{name}": value for name, value in means.items()}
        facts = {
            "stage": "preference",
            "method": self.loss,
            "base": {"path": models.shown(self.model), "hash": models.model_hash(self.model)},
            "data": {**data.data_facts(rows, train), "dropped": pairs.dropped.counts()},
            "options": {**asdict(replace(self, cache=None)), "loss_options": resolved(objective)},
            "seed": self.seed,
            "metrics": metrics,
            "stopped": "kl" if stop is not None and stop.fired else None,
            "stopped_because": stop.fired if stop is not None else None,
        }
        trained = trainer.accelerator.unwrap_model(trainer.model)
        whole = merged(self, trained) if self.lora else trained
        return run.finish(whole, tokenizer, facts, pairs.dropped, whole_weights(trainer))

    def _pairs(
        self, objective: Any, table: pl.DataFrame, tokenizer: Any, source: Path | str
    ) -> Pairs:
        from transformers import AutoConfig

        from finetune.losses.types import needs_of
        from finetune.pair_rows import pairs_of

        config = AutoConfig.from_pretrained(models.resolve(self.model), trust_remote_code=False)
        checks.refuse(checks.check_length(self.max_length, config))
        return pairs_of(
            table,
            tokenizer,
            needs_of(objective).columns,
            max_length=self.max_length or getattr(config, "max_position_embeddings", None),
            max_prompt_length=self.max_prompt_length,
            on_bad=self.on_bad,
            source=source,
        )

    def _split(self, objective: Any, pairs: Pairs, tokenizer: Any) -> tuple[pl.DataFrame, Pairs]:
        """The rows to train on, and the pairs to judge."""
        if self.eval_rows is not None:
            other = data.load(self.eval_rows, ("preference",))
            return pairs.table, self._pairs(objective, other, tokenizer, self.eval_rows)
        train, test = data.held_out(pairs.table, self.held_out, self.seed)
        return train, replace(pairs, table=test, ids=pairs.part(test))
