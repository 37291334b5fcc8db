"""Preference optimisation on single labelled answers, or on ranked lists of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from siftune.curate.core.ranges import Positive
from siftune.curate.core.schema import Kind
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.models import loading
from siftune.finetune.training.preference_training import PolicyTraining

if TYPE_CHECKING:
    import polars as pl

    from siftune.finetune.data.token_rows import TokenRows
    from siftune.finetune.losses.types import Needs
    from siftune.finetune.runs.run_dir import Run

__all__ = ["AnswerPreference"]

_KINDS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "lists": ("ranked", "preference"),
    "labels": ("unpaired", "preference"),
    "answers": ("unpaired", "ranked", "conversation", "preference"),
}


@dataclass(frozen=True)
class AnswerPreference(PolicyTraining):
    """Trains ``model`` under ``loss``, of `finetune.losses.unpaired`, ``…token`` or ``…listwise``.

    Losses on labels take ``unpaired`` rows (an answer and whether it is a good one), others on
    single answers take any rows that have some, those on lists ``ranked`` ones; pairs are taken for
    a good and a bad answer, or for a list of two. ``columns`` says where the numbers are that a
    loss reads, as ``{reward: judge_rating}``; by default in columns (or in fields that came with
    the rows) of its own names, and for ranked rows in ``scores``.

    ``loss_options`` are the loss's own options, ``beta`` a short way to the one most have. ``also``
    adds others of the same family with a weight each, as ``{nll: 0.2}``, and with options of theirs
    as ``{nll: {weight: 0.2, mean: row}}`` (on the command line ``nll=0.2``). The reference is
    ``ref_model``, by default the model as it was; with ``lora`` (the rank of an adapter; 0
    trains all weights; ``lora_alpha`` is its scale) it is the model with the adapter off,
    and no second one is held; ``load_in_4bit`` holds that one in 4 bits (QLoRA)
    and merges the adapter into the model as it was. At the end ``adapter: merge``
    writes the model with the adapter in its weights, ``keep`` the adapter alone, ``both`` the two.
    ``precompute_reference`` runs it once before
    training and keeps what it said under ``cache`` (default: beside the checkpoints), by content.
    A loss that needs no reference gets none, unless ``track_reference`` asks for the metrics. With
    ``ref_sync_steps`` the reference follows: every so many steps ``ref_mixup_alpha`` of the policy
    is mixed into it, and KL and drift are those from the reference as it then is. With
    ``share_prefix`` a prompt is run once for all its answers, and padding not at all, where the
    model's attention allows it. A loss with a value head trains it at ``value_lr``. ``precision``
    is that of frozen weights: ``auto`` is bf16 for the base under an adapter where the processor
    multiplies it, and fp32 for a reference beside a policy of which all weights are trained, so
    that both start equal; ``bf16`` narrows that reference too (not one that follows), ``fp32``
    nothing. What is trained stays fp32.

    Rows whose prompt and longest answer exceed ``max_length`` tokens (default: what the model
    takes) are refused, or left out and listed with ``on_bad: drop``; prompts are cut to their
    last ``max_prompt_length`` tokens where that is set. ``batch_size`` counts prompts; a step is
    ``batch_size × gradient_accumulation`` of them for each process. A batch of more than
    ``micro_tokens`` tokens is run in parts, which costs less memory and changes no number but for
    rounding, which shows in bf16: what a
    loss takes over its batch (KTO's estimate of the KL) it takes over a whole step, however that is
    split, in a pass before; its answers to other prompts are drawn once, by ``seed``.
    ``max_tokens`` in place of ``epochs``: rows come in fresh orders until that many tokens of
    answers have been scored.

    ``held_out`` is the share of prompts that is kept from training and judged at every checkpoint
    (``eval_rows`` names other rows for that); with ``eval_limit`` the policy also answers as many
    of their prompts, greedily, in ``max_new_tokens``: ``answers/step-*.jsonl``. ``max_kl``, in nats
    per token, ends training once the KL to the reference on the trained answers is above it at a
    logged step; it needs the reference in memory. A checkpoint is taken every ``save_every`` steps,
    and a run that was cut off goes on from it to the same bytes. ``options`` are any other
    arguments of `transformers.TrainingArguments`. Dropout is off.
    """

    loss: str = "kto"
    value_lr: Positive = 1e-3

    stage: ClassVar = "answers"

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        super().__post_init__()
        if not self.value_lr > 0:
            raise ValueError(f"value_lr: expected more than 0, got {self.value_lr}")

    @property
    def groups(self) -> Sequence[str]:
        """The groups of losses on answers, or on lists.

        Raises:
            UsageError: no loss of these is called ``loss``.
        """
        from siftune.finetune.training.build_loss import ANSWERS, LISTS, group_of

        return LISTS if group_of(self.loss, (*ANSWERS, *LISTS)) in LISTS else ANSWERS

    @property
    def _lists(self) -> bool:
        from siftune.finetune.training.build_loss import LISTS

        return self.groups == LISTS

    @staticmethod
    def _needs(objective: Any) -> Needs:
        from siftune.finetune.losses.types import needs_of

        return needs_of(objective)

    def loaded(self, objective: Any, source: Path | str) -> pl.DataFrame:
        """The rows as the loss takes them, its numbers in columns of their own."""
        from siftune.finetune.training.answer_tables import listed, single, with_numbers

        needs = self._needs(objective)
        takes = "lists" if self._lists else "labels" if needs.label else "answers"
        table = training_rows.load(source, _KINDS[takes])
        table = with_numbers(table, needs.columns, self.columns, source)
        return listed(table) if self._lists else single(table, needs.columns)

    def asked(self, table: pl.DataFrame) -> pl.DataFrame:
        """Each prompt once, however many answers to it are rows."""
        return table.filter(training_rows.prompt_keys(table).is_first_distinct())

    def look(self, objective: Any, table: pl.DataFrame) -> None:
        """Say that all labels are alike, or that samples are not known to be the model's own."""
        from siftune.finetune.training.answer_tables import check_samples

        if "label" in table.columns and self._needs(objective).label:
            # some losses do learn from one class, so it is only said
            found = preflight.check_labels(table["label"].drop_nulls().to_list())
            preflight.refuse([replace(one, level="warning") for one in found])
        if getattr(objective, "on_policy", False):
            preflight.refuse(check_samples(table, loading.model_hash(self.model)))

    def read(
        self, objective: Any, table: pl.DataFrame, tokenizer: Any, longest: int | None, source: Any
    ) -> TokenRows[Any]:
        """The answers as token ids; a reward token needs room too."""
        from siftune.finetune.data.answer_rows import answer_rows

        needs = self._needs(objective)
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

    def trainer(
        self, objective: Any, train: Sequence[Any], test: Sequence[Any], tokenizer: Any, run: Run
    ) -> Any:
        """The loop on answers, or on lists."""
        from siftune.finetune.training.answer_setup import trainer_of

        rows = train, test
        return trainer_of(self, objective, *rows, tokenizer, run, self.value_lr, lists=self._lists)

    def judged(self, trainer: Any, table: pl.DataFrame) -> list[dict[str, Any]]:
        """What the policy makes of held-out answers."""
        from siftune.finetune.training.answer_eval import judged

        return judged(trainer, table)

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Accuracy, and means."""
        from siftune.finetune.training.answer_eval import summary

        return summary(rows)
