"""Set-up of a preference run: policy, reference, order of rows, training loop, final model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import torch
from transformers import TrainingArguments

from siftune.curate.models.model_config import positions_of
from siftune.finetune.core.distributed import progress, refuse_spread
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.answer_rows import AnswerRow, with_mismatched
from siftune.finetune.data.collator import AnswerCollator, pad_of
from siftune.finetune.data.packing import try_sharing
from siftune.finetune.data.token_budget import budget_order
from siftune.finetune.evaluation.generation_eval import GenerationEval
from siftune.finetune.losses.types import needs_of
from siftune.finetune.models import loading
from siftune.finetune.models.lora import whole_model, with_adapter
from siftune.finetune.models.precision import (
    REFERENCE,
    formats,
    frozen_dtype,
    machine_arguments,
    reference_dtype,
    report,
)
from siftune.finetune.models.value_head import add_value_head
from siftune.finetune.runs.resumable_run import Run, quiet
from siftune.finetune.scoring.lm_head import LOGITS
from siftune.finetune.scoring.logps import answer_with_scores, check_head
from siftune.finetune.scoring.reference import (
    AdapterOff,
    Frozen,
    Reference,
    frozen,
    precomputed,
    without_dropout,
)
from siftune.finetune.tools.evaluate import chosen_rows
from siftune.finetune.training.preference_loop import PreferenceTrainer
from siftune.finetune.training.reward_tokens import (
    add_reward_tokens,
    with_embeddings,
    with_reward_tokens,
)
from siftune.finetune.training.trainer_arguments import training_arguments

if TYPE_CHECKING:
    from siftune.finetune.training.policy_options import PolicyOptions

__all__ = [
    "arguments_of",
    "final_model",
    "formats_of",
    "generation_eval_of",
    "policy_of",
    "reference_of",
    "report_precision",
    "trainer_of",
    "watched_statistics",
]

_IN_4BIT: Final = "4 bits for the frozen base, fp32 for all else"


def trainer_of(
    loop: Callable[..., PreferenceTrainer],
    options: PolicyOptions,
    objective: Any,
    train: Sequence[AnswerRow],
    test: Sequence[AnswerRow],
    tokenizer: Any,
    run: Run,
    tokens: Sequence[int] = (),
) -> PreferenceTrainer:
    """A ``loop`` with its models loaded; a wrong option is refused before that.

    ``tokenizer`` gets the reward tokens that the loss needs. ``tokens`` are reward tokens that the
    policy has already and the reference has not: the prompts begin with one of them.

    Raises:
        UsageError: an argument cannot be passed on, there is too little for one step, or the rows
            or the model do not suit the loss.
    """
    args, order = _planned(options, train, run)
    needs = needs_of(objective)
    added = add_reward_tokens(tokenizer, objective.bins) if needs.reward_tokens else []
    collator = AnswerCollator(pad_of(tokenizer), frozenset(tokenizer.all_special_ids))
    policy, share = policy_of(options, train[0], added)
    if needs.value:
        add_value_head(policy)
    rows: Sequence[AnswerRow] = [*train, *test]
    if needs.mismatched:
        longest = options.max_length or positions_of(policy.config)
        rows = [
            *with_mismatched(train, options.seed, longest),
            *with_mismatched(test, options.seed, longest, among=train),
        ]
    if added:
        rows = with_reward_tokens(rows, added)
    reference, rows = reference_of(
        options, objective, policy, rows, collator, run, share, added or tokens
    )
    with quiet():
        return loop(
            policy,
            objective,
            reference,
            args,
            [rows[index] for index in order],
            rows[len(train) :],
            collator,
            watched_statistics(reference),
            options.micro_tokens,
        )


def _planned(
    options: PolicyOptions, rows: Sequence[AnswerRow], run: Run
) -> tuple[Any, Sequence[int]]:
    """Arguments of the loop, and the indexes of ``rows`` in the order they are trained on."""
    order: Sequence[int] = range(len(rows))
    more: dict[str, Any] = {}
    if options.max_tokens is not None:
        scored = [sum(map(sum, row.scored)) for row in rows]
        order = budget_order(scored, options.max_tokens, options.seed)
        more = {"num_train_epochs": 1.0, "train_sampling_strategy": "sequential"}
    if options.lora:
        refuse_spread("lora")
    return arguments_of(options, len(order), run, **more), order


def arguments_of(options: PolicyOptions, rows: int, run: Run, **more: Any) -> Any:
    """Arguments of the Hugging Face trainer, for ``rows`` rows.

    ``more`` are others, or take the place of these.
    """
    own = {
        **run.arguments(options.save_every, options.log_every, options.seed),
        "learning_rate": options.lr,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.gradient_accumulation,
        "remove_unused_columns": False,
        "prediction_loss_only": True,
        **more,
    }
    args = training_arguments(TrainingArguments, own, options.options, run.work, options.precision)
    per_step = options.batch_size * options.gradient_accumulation
    preflight.refuse(
        preflight.check_steps(rows, per_step, args.num_train_epochs, args.dataloader_drop_last)
    )
    return args


def policy_of(
    options: PolicyOptions, row: AnswerRow, tokens: Sequence[int] = ()
) -> tuple[Any, bool]:
    """The model to train with its adapter, and whether it runs equal prompts once.

    Its head is checked on ``row``; it gets embeddings of the new ``tokens``.
    """
    narrow = options.lora and not options.load_in_4bit
    dtype: loading.DType = frozen_dtype(options.precision) if narrow else "float32"
    policy: Any = loading.load_causal(options.model, dtype, in_4bit=options.load_in_4bit)
    check_head(policy, torch.tensor([[*row.prompt, *row.sequences[0]][:16]]))
    without_dropout(policy)
    if tokens:
        with_embeddings(policy, tokens)
    share = options.share_prefix and try_sharing(policy)
    answer_with_scores(policy)
    if options.lora:
        policy = with_adapter(policy, options.lora, options.lora_alpha, options.seed)
    return policy, share


def reference_of(
    options: PolicyOptions,
    objective: Any,
    policy: Any,
    rows: Sequence[AnswerRow],
    collator: AnswerCollator,
    run: Run,
    share: bool,
    tokens: Sequence[int] = (),
) -> tuple[Reference | None, Sequence[AnswerRow]]:
    """The reference (None where none is in memory), and the rows with its precomputed log-probs.

    With ``tokens`` each prompt begins with one of them, which the reference was not trained with:
    it gets embeddings of them, so that whole distributions can be compared, and is not run on them.
    """
    if not (needs_of(objective).reference or options.track_reference):
        return None, rows
    folder = options.ref_model or options.model
    dtype = _reference_dtype(options)
    if options.precompute_reference:
        cache = Path(options.cache) if options.cache else run.work
        autocast = machine_arguments(options.precision)["bf16"]
        return None, precomputed(folder, rows, collator, cache, share, dtype, autocast)
    own = options.lora and options.ref_model is None  # a teacher is another model
    reference = AdapterOff(policy) if own else frozen(folder, share, dtype)
    if tokens and isinstance(reference, Frozen):
        with_embeddings(reference.model, tokens)
        reference = replace(reference, skip=1)
    return reference, rows


def _reference_dtype(options: PolicyOptions) -> loading.DType:
    """As `precision.reference_dtype`; float32 where the reference follows by small steps."""
    if options.ref_sync_steps:
        return "float32"
    return reference_dtype(options.precision, adapter=options.lora > 0)


def report_precision(options: PolicyOptions, reference: bool) -> None:
    """Print the number formats of the models; ``reference``: whether the run has one."""
    if options.load_in_4bit:
        progress(f"precision: {_IN_4BIT}")
    else:
        report(options.precision, *_parts(options, reference))


def formats_of(options: PolicyOptions, reference: bool) -> str:
    """The number formats of the models (see `precision.formats`)."""
    if options.load_in_4bit:
        return _IN_4BIT
    return formats(options.precision, *_parts(options, reference))


def _parts(options: PolicyOptions, reference: bool) -> tuple[list[str], str]:
    """The models in the frozen format, and what is trained."""
    if options.lora:
        return ["the frozen base", *([REFERENCE] if reference else [])], "adapters"
    narrow = reference and _reference_dtype(options) == "bfloat16"
    return [REFERENCE] if narrow else [], "trained weights"


def watched_statistics(reference: Reference | None) -> tuple[str, ...]:
    """Token statistics shown as metrics; the KL where a reference is in memory."""
    return ("entropy", "top1", LOGITS, *(() if reference is None else ("kl",)))


def generation_eval_of(
    options: PolicyOptions, trainer: Any, table: pl.DataFrame, tokenizer: Any
) -> GenerationEval | None:
    """Generation on held-out prompts; the KL of the answers where a reference is in memory.

    The answers of the rows are no references: nothing is matched against them.
    """
    if not options.eval_limit or table.is_empty():
        return None
    prompts = training_rows.to_prompts(chosen_rows(table, options.eval_limit, options.seed))
    reference = trainer.reference
    comparable = isinstance(reference, Frozen) and not reference.skip
    return GenerationEval(
        tuple({**row, "reference": None} for row in prompts),
        tokenizer,
        reference.model if comparable else None,
        max_new_tokens=options.max_new_tokens,
    )


def final_model(options: PolicyOptions, trained: Any, run: Run) -> Any | None:
    """The model to write, an adapter in its float32 weights; None where the adapter alone is kept.

    A kept adapter is put beside the model.
    """
    if not options.lora:
        return trained
    load = partial(loading.load_causal, options.model)
    return whole_model(trained, options.adapter, options.model, load, run.beside)
