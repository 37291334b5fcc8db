"""Preference optimisation: any loss on pairs of completions, held to a reference or not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import polars as pl

from curate.core import registry
from curate.core.errors import UsageError
from curate.core.files import digest_of, locked, write_json, write_text
from finetune import data, models
from finetune.types import TrainResult

if TYPE_CHECKING:
    from finetune.collate import PairCollator, PairIds
    from finetune.losses.types import Needs
    from finetune.pairs import PairTrainer
    from finetune.reference import Reference

__all__ = ["LOSSES", "Preference"]

LOSSES: Final = "finetune.losses.pair"
"""The registry group of losses on pairs: its names are the methods."""

_CLOCK: Final = ("runtime", "per_second", "epoch", "total_flos")  # not the same on another day
_WATCHED: Final = ("entropy", "top1")


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Trains ``model`` on preference rows under ``loss``, a component of `finetune.losses.pair`.

    ``loss_options`` are the loss's own options, ``beta`` a short way to the one most have. The
    reference is ``ref_model``, by default the model as it was; with ``lora`` (the rank of an
    adapter; 0 trains all weights; ``lora_alpha`` its scale) it is the model with the adapter off,
    and no second one is held. ``precompute_reference`` runs it once before training and keeps what
    it said under ``cache``, by content. A loss that needs no reference gets none, unless
    ``track_reference`` asks for the metrics that do.

    Rows whose prompt and longer answer exceed ``max_length`` tokens (default: what the model can
    take) are refused, or left out with ``on_bad: drop``, and prompts are cut to their last
    ``max_prompt_length`` tokens where that is set; an answer is never cut, so its end of turn is
    always learned. ``batch_size`` counts pairs; a step is ``batch_size × gradient_accumulation``
    pairs for each process. Training ends after ``epochs``, or after about ``max_tokens`` tokens
    (both sequences of a pair counted, prompts included) where that is set.

    ``eval_fraction`` of the prompts are held out and looked at every ``eval_every`` steps (0: at
    the end). ``max_kl``, in nats per token, ends training once the KL to the reference on the
    trained answers is above it; it needs the reference in memory. A checkpoint is taken every
    ``save_every`` steps beside the output (0: none), and a run that was cut off goes on from it to
    the same bytes. ``options`` are passed to `transformers.TrainingArguments`. Dropout is off.
    """

    model: str
    loss: str = "dpo"
    loss_options: dict[str, Any] | None = None
    beta: float | None = None
    ref_model: str | None = None
    lora: int = 0
    lora_alpha: float = 16.0
    precompute_reference: bool = False
    track_reference: bool = False
    cache: str | None = None
    epochs: float = 1.0
    max_tokens: int | None = None
    lr: float = 1e-6
    batch_size: int = 8
    gradient_accumulation: int = 1
    max_length: int | None = None
    max_prompt_length: int | None = None
    on_bad: data.OnBad = "refuse"
    eval_fraction: float = 0.0
    eval_every: int = 0
    max_kl: float | None = None
    log_every: int = 1
    save_every: int = 0
    seed: int = 0
    options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        for name in ("batch_size", "gradient_accumulation", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.eval_fraction < 1:
            raise ValueError(f"eval_fraction: expected [0, 1), got {self.eval_fraction}")
        if self.eval_every and not self.eval_fraction:
            raise ValueError("eval_every: there are no rows to look at; set eval_fraction too")
        if self.lora and self.ref_model:
            raise ValueError("ref_model: with lora the reference is the model, its adapter off")
        if self.max_kl is not None and self.precompute_reference:
            raise ValueError("max_kl: the KL needs the reference in memory; unset precompute")

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on the pairs of ``rows`` and write the model folder ``out``.

        Raises:
            SiftuneError: a loss is not finite.
            DataError: rows that cannot be trained on, with ``on_bad: refuse``.
            UsageError: an option that the loss or these rows cannot be trained with.
        """
        objective = self.objective()
        needs = self._needs(objective)
        table = data.load(rows, ["preference"])
        used, kept, tested = self._pairs(table, needs, rows)
        work = out.with_name(f"{out.name}.work")
        with locked(work):
            trainer = self._trainer(objective, kept, tested, work)
            stopped = self._train(trainer, work, self._run_key(used))
            return self._finish(trainer, used, rows, out, work, stopped)

    def objective(self) -> Any:
        """The loss with its options.

        Raises:
            UsageError: no such loss or option.
        """
        given = dict(self.loss_options or {})
        if self.beta is not None:
            given["beta"] = self.beta
        return registry.build(LOSSES, self.loss, given)

    def _needs(self, objective: Any) -> Needs:
        from finetune.logps import NEED_REFERENCE
        from finetune.losses.types import needs_of

        needs = needs_of(objective)
        if needs.couples_batch and self.gradient_accumulation > 1:
            raise UsageError(
                f"{self.loss} compares the pairs of a batch with each other: gradient_accumulation "
                "would change what it learns; raise batch_size instead"
            )
        asked = sorted(set(needs.tokens) & set(NEED_REFERENCE))
        if self.precompute_reference and asked:
            raise UsageError(
                f"{self.loss} needs whole distributions of the reference ({', '.join(asked)}): "
                "these are not kept; unset precompute_reference"
            )
        if self.max_kl is not None and not (needs.reference or self.track_reference):
            raise UsageError(f"max_kl: {self.loss} has no reference; set track_reference too")
        return needs

    def _run_key(self, table: pl.DataFrame) -> str:
        folders = [self.model, *([self.ref_model] if self.ref_model else [])]
        options = {**asdict(self), "cache": None}
        hashes = [models.model_hash(folder) for folder in folders]
        return digest_of({"options": options, "base": hashes, "data": data.data_hash(table)})

    def _pairs(
        self, table: pl.DataFrame, needs: Needs, rows: Path
    ) -> tuple[pl.DataFrame, list[PairIds], list[PairIds]]:
        """The rows that can be trained on, and their pairs: to train on and to test on."""
        from finetune.pair_rows import pairs_of

        used, pairs = pairs_of(
            table,
            self.model,
            needs.columns,
            max_length=self.max_length,
            max_prompt_length=self.max_prompt_length,
            on_bad=self.on_bad,
            source=rows,
        )
        train, _ = data.held_out(used, self.eval_fraction, self.seed)
        trained = set(train["id"])
        kept = [pair for pair in pairs if pair.id in trained]
        return used, kept, [pair for pair in pairs if pair.id not in trained]

    def _trainer(
        self, objective: Any, kept: list[PairIds], tested: list[PairIds], work: Path
    ) -> PairTrainer:
        import torch

        from finetune.collate import PairCollator
        from finetune.logps import answer_with_scores, check_head
        from finetune.losses.types import needs_of
        from finetune.pairs import PairTrainer
        from finetune.reference import Lora, with_adapter, without_dropout

        args = self._arguments(work, kept)  # a wrong option is told before a model loads
        tokenizer = models.load_tokenizer(self.model)
        collator = PairCollator(_pad(tokenizer), frozenset(tokenizer.all_special_ids))
        policy = models.load_causal(self.model)
        check_head(policy, torch.tensor([[*kept[0].prompt, *kept[0].chosen][:16]]))
        without_dropout(policy)
        answer_with_scores(policy)
        if self.lora:
            policy = with_adapter(policy, Lora(self.lora, self.lora_alpha), self.seed)
        wanted = needs_of(objective).reference or self.track_reference
        reference, kept, tested = self._reference(policy, kept, tested, collator, wanted)
        watched = (*_WATCHED, "kl") if wanted and not self.precompute_reference else _WATCHED
        return PairTrainer(policy, objective, reference, args, kept, tested, collator, watched)

    def _reference(
        self,
        policy: Any,
        kept: list[PairIds],
        tested: list[PairIds],
        collator: PairCollator,
        wanted: bool,
    ) -> tuple[Reference, list[PairIds], list[PairIds]]:
        from finetune.reference import AdapterOff, Frozen, Nowhere, precompute

        if not wanted:
            return Nowhere(), kept, tested
        if self.lora and not self.precompute_reference:
            return AdapterOff(policy), kept, tested
        folder = self.ref_model or self.model
        model: Any = models.load_causal(folder).requires_grad_(False)
        model.to(models.device())
        if not self.precompute_reference:
            return Frozen(model), kept, tested
        cache = Path(self.cache or Path.home() / ".cache" / "siftune")
        key = ("logps", models.model_hash(folder))
        pairs = precompute(model, [*kept, *tested], collator, key, cache)
        return Nowhere(), pairs[: len(kept)], pairs[len(kept) :]

    def _arguments(self, work: Path, kept: Sequence[PairIds]) -> Any:
        from transformers import TrainingArguments

        own: dict[str, Any] = {
            "output_dir": str(work),
            "num_train_epochs": self.epochs,
            "max_steps": self._steps(kept),
            "learning_rate": self.lr,
            "per_device_train_batch_size": self.batch_size,
            "per_device_eval_batch_size": self.batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation,
            "logging_steps": self.log_every,
            "logging_strategy": "steps",
            "eval_strategy": "steps" if self.eval_every else "no",
            "eval_steps": self.eval_every or None,
            "save_strategy": "steps" if self.save_every else "no",
            "save_steps": self.save_every or 500,
            "save_total_limit": 2,
            "remove_unused_columns": False,
            "prediction_loss_only": True,
            "report_to": [],
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "seed": self.seed,
            "data_seed": self.seed,
            **models.precision(),
        }
        try:
            return TrainingArguments(**{**own, **(self.options or {})})
        except (TypeError, ValueError) as error:
            raise UsageError(f"options: {str(error).partition(chr(10))[0]}") from None

    def _steps(self, kept: Sequence[PairIds]) -> int:
        """Steps that spend ``max_tokens``, at least one; -1: as ``epochs`` say."""
        if self.max_tokens is None:
            return -1
        each = sum(pair.tokens for pair in kept) / len(kept)
        return max(
            1, round(self.max_tokens / (each * self.batch_size * self.gradient_accumulation))
        )

    def _train(self, trainer: PairTrainer, work: Path, key: str) -> str | None:
        """Run to the end, from the last whole checkpoint if there is one; why it ended early."""
        from finetune.pairs import KLStop
        from finetune.ppo.checkpoints import claim, newest

        claim(work, key)
        start = newest(work)
        if start is not None:
            print(f"going on from {start}", file=sys.stderr)  # noqa: T201
        stop = KLStop(self.max_kl) if self.max_kl is not None else None
        if stop is not None:
            trainer.add_callback(stop)
        trainer.train(resume_from_checkpoint=None if start is None else str(start))
        if trainer.eval_dataset is not None and not _just_evaluated(trainer):
            trainer.evaluate()
        if stop is not None and stop.fired is not None:
            print(f"stopped: {stop.fired}", file=sys.stderr)  # noqa: T201
            return stop.fired
        return None

    def _finish(
        self,
        trainer: PairTrainer,
        used: pl.DataFrame,
        rows: Path,
        out: Path,
        work: Path,
        stopped: str | None,
    ) -> TrainResult:
        """Write the model folder, with its metrics, and say what came out."""
        logged = [_line(entry) for entry in trainer.state.log_history]
        beside = work / "beside"
        lines = [line for line in logged if len(line) > 1 and "train_loss" not in line]
        text = "".join(orjson.dumps(line).decode() + "\n" for line in lines)
        write_text(beside / "metrics.jsonl", text)
        last = _last(lines)
        if trainer.eval_dataset is not None:
            write_json(beside / "evaluation.json", lines[-1])
        facts = {
            "stage": "preference",
            "method": self.loss,
            "base": {"path": models.shown(self.model), "hash": models.model_hash(self.model)},
            "data": data.data_facts(rows, used),
            "options": {**asdict(self), "cache": None, "loss_options": asdict(self.objective())},
            "seed": self.seed,
            "metrics": last,
            "stopped": "kl" if stopped else None,
            "stopped_because": stopped,
        }
        model = trainer.accelerator.unwrap_model(trainer.model)
        whole = model.merge_and_unload() if self.lora else model
        models.save_model(whole, models.load_tokenizer(self.model), out, facts, beside)
        return TrainResult(out, used.height, last)


def _pad(tokenizer: Any) -> int:
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if found is None:
        raise UsageError("the tokenizer has neither a padding token nor an end token: set one")
    return int(found)


def _line(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in sorted(entry) if not key.endswith(_CLOCK)}


def _last(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The newest value of each metric."""
    return {key: value for line in lines for key, value in line.items() if key != "step"}


def _just_evaluated(trainer: PairTrainer) -> bool:
    evaluated = [line["step"] for line in trainer.state.log_history if "eval_loss" in line]
    return evaluated[-1:] == [trainer.state.global_step]
