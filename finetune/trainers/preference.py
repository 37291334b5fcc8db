"""Preference optimisation: any loss on pairs of completions, held to a reference or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from siftune.finetune.data import training_rows
from siftune.finetune.training.preference_training import PolicyTraining

if TYPE_CHECKING:
    import polars as pl

    from siftune.finetune.data.token_rows import TokenRows
    from siftune.finetune.runs.run_dir import Run

__all__ = ["Preference"]


@dataclass(frozen=True)
class Preference(PolicyTraining):
    """Trains ``model`` on preference rows under ``loss``, a component of `finetune.losses.pair`.

    ``columns`` says where the numbers are that a loss reads, as ``{win_probability: judge_says}``;
    by default in columns (or in fields that came with the rows) of its own names.
    ``loss_options`` are the loss's own options, ``beta`` a short way to the one most have. ``also``
    adds other losses with a weight each, as ``{sft: 0.2}``, and with options of theirs as ``{ipo:
    {weight: 0.2, ratios: sum}}`` (on the command line ``sft=0.2``). The reference is ``ref_model``,
    by default the model as it was; with ``lora`` (the rank of an adapter; 0
    trains all weights; ``lora_alpha`` is its scale) it is the model with the adapter off, and no
    second one is held; ``load_in_4bit`` holds that one in 4 bits (QLoRA) and merges the adapter
    into the model as it was. At the end ``adapter: merge``
    writes the model with the adapter in its weights, ``keep`` the adapter alone, ``both`` the two.
    ``precompute_reference`` runs it once before training and keeps what
    it said under ``cache`` (default: beside the checkpoints), by content. A loss that needs no
    reference gets none, unless ``track_reference`` asks for the metrics. With ``ref_sync_steps``
    the reference follows: every so many steps ``ref_mixup_alpha`` of the policy is mixed into it (1
    with a small share: a moving average), and KL and drift are those from the reference as it then
    is.
    With ``share_prefix`` the prompt of a pair is run once for both answers, and padding not at all,
    where the model's attention allows it (it is tried first; where not, that is said).
    ``precision`` is that of frozen weights: ``auto`` is bf16 for the base under an adapter where
    the processor multiplies it, and fp32 for a reference beside a policy of which all weights are
    trained, so that both start equal; ``bf16`` narrows that reference too (not one that follows),
    ``fp32`` nothing. What is trained stays fp32.

    Rows whose prompt and longer answer exceed ``max_length`` tokens (default: what the model takes)
    are refused, or left out and listed with ``on_bad: drop``; prompts are cut to their last
    ``max_prompt_length`` tokens where that is set. An answer is never cut, so its end of turn is
    always learned. ``batch_size`` counts pairs; a step is ``batch_size × gradient_accumulation``
    pairs for each process. A batch of more than ``micro_tokens`` tokens is run in parts, which
    costs less memory and changes no number but for rounding, which shows in bf16. ``max_tokens`` in
    place of ``epochs``: rows come in fresh orders until that many tokens of answers, of both sides,
    have been scored.

    ``held_out`` is the share of prompts that is kept from training and judged at every checkpoint
    (``eval_rows`` names other pairs for that); with ``eval_limit`` the policy also answers as many
    of their prompts, greedily, in ``max_new_tokens``: ``answers/step-*.jsonl``. ``max_kl``, in nats
    per token, ends training once the KL to the reference on the trained answers is above it at a
    logged step; it needs the reference in memory. A checkpoint is taken every ``save_every`` steps,
    and a run that was cut off goes on from it to the same bytes. ``options`` are any other
    arguments of `transformers.TrainingArguments`. Dropout is off.
    """

    stage: ClassVar = "preference"

    @property
    def groups(self) -> Sequence[str]:
        """Losses on pairs."""
        from siftune.finetune.training.build_loss import LOSSES

        return (LOSSES,)

    def loaded(self, objective: Any, source: Path | str) -> pl.DataFrame:
        """The pairs of ``source``, the numbers that the loss reads in columns of their own."""
        from siftune.finetune.data.row_numbers import with_pair_numbers
        from siftune.finetune.losses.types import needs_of

        table = training_rows.load(source, ("preference",))
        return with_pair_numbers(table, needs_of(objective).columns, self.columns, source)

    def read(
        self, objective: Any, table: pl.DataFrame, tokenizer: Any, longest: int | None, source: Any
    ) -> TokenRows[Any]:
        """The pairs as token ids."""
        from siftune.finetune.data.pair_rows import pairs_of
        from siftune.finetune.losses.types import needs_of

        return pairs_of(
            table,
            tokenizer,
            needs_of(objective).columns,
            max_length=longest,
            max_prompt_length=self.max_prompt_length,
            on_bad=self.on_bad,
            source=source,
        )

    def trainer(
        self, objective: Any, train: Sequence[Any], test: Sequence[Any], tokenizer: Any, run: Run
    ) -> Any:
        """The loop on pairs."""
        from siftune.finetune.training.pair_setup import trainer_of

        return trainer_of(self, objective, train, test, tokenizer, run)

    def judged(self, trainer: Any, table: pl.DataFrame) -> list[dict[str, Any]]:
        """What the policy makes of held-out pairs."""
        from siftune.finetune.training.pair_eval import judged

        return judged(trainer, table)

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Pair accuracy, and means."""
        from siftune.finetune.training.pair_eval import summary

        return summary(rows)
