"""Supervised fine-tuning on the assistant turns of conversations, on pairs or on texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

import polars as pl

from siftune.curate.chat.encoding import Encoded
from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import if_slow, no_dataset_bars
from siftune.curate.core.ranges import (
    Count,
    HeldOutShare,
    Natural,
    Positive,
    Rank,
    Seed,
    check_ranges,
)
from siftune.curate.core.schema import KINDS
from siftune.curate.models.model_config import positions_of
from siftune.finetune.core.distributed import refuse_spread
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.token_budget import budget_order
from siftune.finetune.evaluation.generation_eval import GenerationEval
from siftune.finetune.models import loading
from siftune.finetune.models.lora import Kept, check_kept, lora_config, whole_model
from siftune.finetune.models.precision import (
    REFERENCE,
    Precision,
    formats,
    frozen_dtype,
    reference_dtype,
    report,
)
from siftune.finetune.models.saving import base_facts, command_line
from siftune.finetune.runs.resumable_run import Run, quiet, whole_weights
from siftune.finetune.tools.evaluate import chosen_rows, write_step, write_summary
from siftune.finetune.training.sft_rows import Learned, SFTRows, dataset_of
from siftune.finetune.training.trainer_arguments import training_arguments
from siftune.finetune.training.watched import ask_of, check_watch, stopped_by, watch_of
from siftune.finetune.watch.actions import FixedBeta

if TYPE_CHECKING:
    from siftune.finetune.runs.held_out_loss import HeldOutLoss
    from siftune.finetune.watch.watching import WatchCallback

__all__ = ["SFT"]

_KINDS: Final = ("conversation", "text", "preference")
_MAX_LENGTH: Final = 1024

KeptWeights: TypeAlias = Literal["last", "best"]
"""Which weights are written: those of the last step, or of the lowest held-out loss."""


@dataclass(frozen=True)
class SFT:
    """Token cross-entropy on answers, averaged over all tokens of a step; TRL's SFTTrainer.

    Of conversations, and of the chosen side of pairs, every assistant turn is learned with its
    calls and its end, except where the data gives it ``weight`` 0; text rows are learned whole. A
    row of which nothing is left to learn after it is cut, or that cannot be learned from, is
    refused, or left out and listed with ``on_bad: drop``.

    ``options: {gradient_accumulation_steps: n}`` makes n batches a step, the same as one large
    batch. With ``max_tokens`` rows come in fresh orders, as often as it takes, so that selections
    of any size train equally long. An adapter written alone is loaded by `peft` on its base model.
    The loss on held-out answers is measured before, at each checkpoint and after; so are the
    answers to ``eval_rows``, and where nothing else is held out, ``patience`` and ``keep`` follow
    the loss on these. A run that was cut off continues from its last whole checkpoint.
    ``precision: auto`` is bf16 for the base under an adapter where the processor multiplies it;
    ``bf16`` narrows the reference of ``eval_rows`` too. Trained weights are fp32.

    Options:
        packing: Join short rows into one sequence, in which they do not see each other.
        patience: Number of measurements in a row without a lower held-out loss after which training
            ends; 0 never ends it.
        keep: Write the weights of the last step (last), or of the checkpoint with the lowest
            held-out loss (best).
        max_length: Largest number of tokens of a row, cut at its end; by default what the model
            takes, at most 1,024.
        options: Any other arguments of TRL's SFTConfig, by their names there.
    """

    reads: ClassVar = "rows"

    model: str
    epochs: Positive = 1.0
    max_tokens: Count | None = None
    lr: Positive = 2e-5
    batch_size: Count = 8
    max_length: Count | None = None
    assistant_only_loss: bool = True
    packing: bool = False
    lora: Rank = 0
    lora_alpha: Positive = 16.0
    adapter: Kept = "merge"
    on_bad: training_rows.OnBad = "refuse"
    held_out: HeldOutShare = 0.0
    patience: Natural = 0
    keep: KeptWeights = "last"
    eval_rows: str | None = None
    eval_limit: Count = 64
    max_new_tokens: Count = 64
    save_every: Count = 100
    log_every: Count = 10
    seed: Seed = 0
    precision: Precision = "auto"
    watch: FixedBeta = "log"
    watch_detectors: Mapping[str, Any] = field(default_factory=dict)
    watch_prompts: Natural = 8
    watch_rows: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        check_ranges(self)
        check_kept(self.adapter, self.lora)
        check_watch(self)
        if self._follows_loss and not (self.held_out or self.eval_rows):
            raise ValueError("patience and keep: they need held_out, a share, or eval_rows")

    @property
    def _follows_loss(self) -> bool:
        return self.patience > 0 or self.keep == "best"

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on ``rows`` and write the model folder ``out``.

        Raises:
            DataError: rows cannot be trained on; the text counts and names them.
            UsageError: an option, the model or its template does not fit.
        """
        table = training_rows.load(rows, _KINDS)
        run = Run.of(out, self._key(table))
        with run.held():
            return run.finished() or self._train(table, rows, run)

    @property
    def _formats(self) -> tuple[list[str], str]:
        """The models in the frozen number format, and what is trained."""
        base = ["the frozen base"] if self.lora else []
        narrow = self.lora > 0 or self.precision == "bf16"
        reference = [REFERENCE] if self.eval_rows is not None and narrow else []
        return base + reference, "adapters" if self.lora else "trained weights"

    def _key(self, table: pl.DataFrame) -> dict[str, Any]:
        key = {
            "stage": "sft",
            "options": asdict(self) | {"precision": formats(self.precision, *self._formats)},
            "base": loading.model_hash(self.model),
            "data": training_rows.data_hash(table),
        }
        if self.eval_rows is not None:
            key["eval"] = training_rows.data_hash(training_rows.load(self.eval_rows, KINDS))
        return key

    def _train(self, table: pl.DataFrame, rows: Path, run: Run) -> TrainResult:
        tokenizer = loading.load_tokenizer(self.model)
        report(self.precision, *self._formats)
        base: loading.DType = frozen_dtype(self.precision) if self.lora else "float32"
        model = loading.load_causal(self.model, base)
        length = self._length(model.config)
        with if_slow(f"reading {table.height:,} rows as tokens"):
            cpu = loading.device().type == "cpu"
            preflight.refuse(preflight.check_precision(self.options, cpu))
            reader = SFTRows(tokenizer, length, self.assistant_only_loss)
            used = reader.learned(table, self.on_bad, rows)
        used, held = self._hold_out(used, reader, run)
        learned = [sum(row.mask) for row in used.encoded]
        order = self._order(learned)
        trainer = self._trainer(model, tokenizer, used, order, run)
        watch = self._watch(trainer, used, tokenizer, held, run)
        metrics = run.train(trainer, self._examined(tokenizer, run), held, watch)
        if self.eval_rows is not None:
            kept = None if held is None else held.kept
            found = write_summary(run.beside, kept=kept)
            metrics |= {f"eval_{name}": v for name, v in found.items()}
        facts = {
            "stage": "sft",
            "method": "sft",
            "base": base_facts(self.model),
            "command": command_line(self, run.command, rows),
            "data": {
                **training_rows.data_facts(rows, used.table),
                "dropped": used.dropped.counts(),
            },
            "options": asdict(self),
            "precision": formats(self.precision, *self._formats),
            "seed": self.seed,
            "metrics": {**metrics, "trained_tokens": self._trained(learned, order)},
            **self._stopped(held, watch),
        }
        trained = trainer.accelerator.unwrap_model(trainer.model)
        load = partial(loading.load_causal, self.model)
        if self.lora:
            trained = whole_model(trained, self.adapter, self.model, load, run.beside)
        return run.finish(trained, tokenizer, facts, used.dropped, whole_weights(trainer))

    def _watch(
        self, trainer: Any, used: Learned, tokenizer: Any, held: HeldOutLoss | None, run: Run
    ) -> WatchCallback | None:
        """The watch, with prompts of eval_rows, or without any of the rows that are learned."""
        if self.watch == "off":
            return None
        table = used.table
        if self.eval_rows is not None:
            table = training_rows.load(self.eval_rows, KINDS)
        ask = ask_of(
            table, tokenizer, self.watch_prompts, self.seed, self.max_new_tokens, self.watch_rows
        )

        def loss(step: int) -> dict[str, float]:
            found = {} if held is None else held.found
            return {"held_out/loss": found[step]} if step in found else {}

        return watch_of(self, "sft", run, ask, model=trainer.model, more=loss)

    @staticmethod
    def _stopped(held: HeldOutLoss | None, watch: WatchCallback | None) -> dict[str, Any]:
        """Why training ended early, and the alarms of the watch, as facts of the model."""
        facts: dict[str, Any] = {"stopped": None, "stopped_because": None}
        if held is not None and held.stopped:
            facts = {"stopped": "held_out_loss", "stopped_because": held.stopped}
        return facts | stopped_by(watch)

    def _length(self, config: Any) -> int:
        limit = positions_of(config) or _MAX_LENGTH
        length = self.max_length or min(_MAX_LENGTH, limit)
        preflight.refuse(preflight.check_length(length, config))
        return int(length)

    def _hold_out(
        self, used: Learned, reader: SFTRows, run: Run
    ) -> tuple[Learned, HeldOutLoss | None]:
        """The rows to train on, and what measures the loss on the others, if there are any."""
        if not self.held_out:
            rows = self._held_rows(reader) if self._follows_loss else []
        else:
            train, test = training_rows.held_out(used.table, self.held_out, self.seed)
            encoded = dict(zip(used.table["id"], used.encoded, strict=True))
            rows = [encoded[key] for key in test["id"]]
            used = replace(used, table=train, encoded=[encoded[key] for key in train["id"]])
            if not rows:
                raise UsageError("held_out: all rows have one prompt, so none can be held out")
        if not rows:
            return used, None
        from siftune.finetune.runs.held_out_loss import HELD_OUT_FILE, HeldOutLoss, mean_loss

        loss = partial(mean_loss, rows=rows, batch_size=self.batch_size)
        return used, HeldOutLoss(loss, run.beside / HELD_OUT_FILE, self.patience, self.keep)

    def _held_rows(self, reader: SFTRows) -> list[Encoded]:
        """Answers of ``eval_rows``, as tokens."""
        source = str(self.eval_rows)
        table = chosen_rows(training_rows.load(source, _KINDS), self.eval_limit, self.seed)
        return reader.held_out(table, source)

    def _order(self, learned: Sequence[int]) -> list[int]:
        """Row indexes in the order they are trained on."""
        if self.max_tokens is None:
            return list(range(len(learned)))
        return budget_order(learned, self.max_tokens, self.seed)

    def _trained(self, learned: Sequence[int], order: Sequence[int]) -> float:
        epochs = self.epochs if self.max_tokens is None else 1.0
        return epochs * sum(learned[at] for at in order)

    def _trainer(
        self, model: Any, tokenizer: Any, used: Learned, order: Sequence[int], run: Run
    ) -> Any:
        with quiet():
            from trl.data_utils import pack_dataset
            from trl.trainer.sft_trainer import SFTTrainer

            from siftune.finetune.runs.finite_steps import FiniteSteps

        class Loop(FiniteSteps, SFTTrainer):
            row_ids = used.table["id"].to_list()

        args = self._arguments(run)
        rows = dataset_of(used.encoded, order)
        if self.packing:
            with no_dataset_bars():
                rows = pack_dataset(rows, self._length(model.config), args.packing_strategy)
        per_step = self.batch_size * args.gradient_accumulation_steps
        epochs = args.num_train_epochs
        preflight.refuse(
            preflight.check_steps(len(rows), per_step, epochs, args.dataloader_drop_last)
        )
        with quiet():
            return Loop(
                model=model,
                args=args,
                train_dataset=rows,
                processing_class=tokenizer,
                peft_config=lora_config(self.lora, self.lora_alpha) if self.lora else None,
            )

    def check_options(self) -> None:
        """Refuse arguments that the Hugging Face trainer does not take, before anything is read."""
        if self.options:
            self._arguments(Run(Path("model"), ""))

    def _arguments(self, run: Run) -> Any:
        """TRL's SFTConfig of this run."""
        with quiet():
            from trl.trainer.sft_config import SFTConfig

        ordered = self.max_tokens is not None and not self.packing
        own = {
            **run.arguments(self.save_every, self.log_every, self.seed),
            "learning_rate": self.lr,
            "num_train_epochs": self.epochs if self.max_tokens is None else 1.0,
            "per_device_train_batch_size": self.batch_size,
            "max_length": None,  # rows are cut already
            "packing": self.packing,
            "dataset_kwargs": {"skip_prepare_dataset": True},
            **({"train_sampling_strategy": "sequential"} if ordered else {}),
        }
        if self.lora:
            refuse_spread("lora")
        return training_arguments(SFTConfig, own, self.options, run.work, self.precision)

    def _examined(self, tokenizer: Any, run: Run) -> Callable[[Any, int], None] | None:
        if self.eval_rows is None:
            return None
        table = chosen_rows(training_rows.load(self.eval_rows, KINDS), self.eval_limit, self.seed)
        dtype = reference_dtype(self.precision, adapter=self.lora > 0)
        reference = loading.placed(loading.load_causal(self.model, dtype))
        generation_eval = GenerationEval(
            tuple(training_rows.to_prompts(table)),
            tokenizer,
            reference,
            max_new_tokens=self.max_new_tokens,
        )
        return lambda model, step: write_step(run.beside, step, generation_eval(model))
