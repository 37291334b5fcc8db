"""A policy ready to be trained, what it is held to, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import torch

from siftune.finetune.core.distributed import refuse_spread, tell
from siftune.finetune.data import training_rows
from siftune.finetune.data.packing import try_sharing
from siftune.finetune.data.pair_collator import Batch
from siftune.finetune.data.token_rows import TokenRow, order_of
from siftune.finetune.evaluation.generation_eval import Exam
from siftune.finetune.losses.types import needs_of
from siftune.finetune.models import loading
from siftune.finetune.models.lora import whole_model
from siftune.finetune.models.precision import (
    REFERENCE,
    formats,
    frozen_dtype,
    machine_arguments,
    reference_dtype,
    report,
)
from siftune.finetune.runs.run_dir import Run
from siftune.finetune.scoring.lm_head import LOGITS
from siftune.finetune.scoring.logps import answer_with_scores, check_head
from siftune.finetune.scoring.reference import (
    AdapterOff,
    Frozen,
    Lora,
    Reference,
    frozen,
    precomputed,
    with_adapter,
    without_dropout,
)
from siftune.finetune.tools.evaluate import chosen_rows
from siftune.finetune.training.loop_arguments import arguments_of
from siftune.finetune.training.reward_tokens import with_room

if TYPE_CHECKING:
    from siftune.finetune.training.policy_options import PolicyOptions

__all__ = [
    "exam_of",
    "finished",
    "formats_of",
    "held_to",
    "planned",
    "policy_of",
    "report_precision",
    "watched_with",
]

_IN_4BIT: Final = "4 bits for the frozen base, fp32 for all else"


def planned(
    options: PolicyOptions, rows: Sequence[TokenRow], run: Run
) -> tuple[Any, Sequence[int]]:
    """Arguments of the loop, and the places of ``rows`` in the order they are trained on.

    No model is needed for it, so a wrong option is told before one is loaded.

    Raises:
        UsageError: an argument cannot be passed on, or there is too little for one step.
    """
    order: Sequence[int] = range(len(rows))
    more: dict[str, Any] = {}
    if options.max_tokens is not None:
        order = order_of(rows, options.max_tokens, options.seed)
        more = {"num_train_epochs": 1.0, "train_sampling_strategy": "sequential"}
    if options.lora:
        refuse_spread("lora")
    return arguments_of(options, len(order), run, **more), order


def policy_of(
    options: PolicyOptions, row: TokenRow, tokens: Sequence[int] = ()
) -> tuple[Any, bool]:
    """The model to train, its adapter on it, and whether it runs equal prompts once.

    Its head is tried on ``row``; it gets embeddings of the new ``tokens``.
    """
    narrow = options.lora and not options.load_in_4bit
    dtype: loading.DType = frozen_dtype(options.precision) if narrow else "float32"
    policy: Any = loading.load_causal(options.model, dtype, in_4bit=options.load_in_4bit)
    check_head(policy, torch.tensor([[*row.prompt, *row.sequences[0]][:16]]))
    without_dropout(policy)
    if tokens:
        with_room(policy, tokens)
    share = options.share_prefix and try_sharing(policy)
    answer_with_scores(policy)
    if options.lora:
        policy = with_adapter(policy, _adapter(options), options.seed)
    return policy, share


def _adapter(options: PolicyOptions) -> Lora:
    return Lora(options.lora, options.lora_alpha)


def held_to(
    options: PolicyOptions,
    objective: Any,
    policy: Any,
    rows: Sequence[Any],
    collator: Callable[[Sequence[Any]], Batch],
    run: Run,
    share: bool,
    tokens: Sequence[int] = (),
) -> tuple[Reference | None, Sequence[Any]]:
    """The reference, None where there is none in memory, and the rows with what it said of them.

    With ``tokens`` each prompt begins with one of them, which the reference does not know: it has
    room for them, so that whole distributions can be compared, and is not shown them.
    """
    if not (needs_of(objective).reference or options.track_reference):
        return None, rows
    folder = options.ref_model or options.model
    dtype = _reference_dtype(options)
    if options.precompute_reference:
        cache = Path(options.cache) if options.cache else run.work
        autocast = machine_arguments(options.precision)["bf16"]
        return None, precomputed(folder, rows, collator, cache, share, dtype, autocast)
    held = AdapterOff(policy) if options.lora else frozen(folder, share, dtype)
    if tokens and isinstance(held, Frozen):
        with_room(held.model, tokens)
        held = replace(held, skip=1)
    return held, rows


def _reference_dtype(options: PolicyOptions) -> loading.DType:
    """float32 too where the reference follows by steps, small ones too."""
    if options.ref_sync_steps:
        return "float32"
    return reference_dtype(options.precision, adapter=options.lora > 0)


def report_precision(options: PolicyOptions, reference: bool) -> None:
    """Print what runs in which number format; ``reference``: whether the run has one."""
    if options.load_in_4bit:
        tell(f"precision: {_IN_4BIT}")
    else:
        report(options.precision, *_parts(options, reference))


def formats_of(options: PolicyOptions, reference: bool) -> str:
    """What runs in which number format (see `precision.formats`)."""
    if options.load_in_4bit:
        return _IN_4BIT
    return formats(options.precision, *_parts(options, reference))


def _parts(options: PolicyOptions, reference: bool) -> tuple[list[str], str]:
    """The models in the frozen format, and what is trained."""
    if options.lora:
        return ["the frozen base", *([REFERENCE] if reference else [])], "adapters"
    narrow = reference and _reference_dtype(options) == "bfloat16"
    return [REFERENCE] if narrow else [], "trained weights"


def watched_with(reference: Reference | None) -> tuple[str, ...]:
    """What is shown of each token; the KL where a reference is in memory."""
    return ("entropy", "top1", LOGITS, *(() if reference is None else ("kl",)))


def exam_of(
    options: PolicyOptions, trainer: Any, table: pl.DataFrame, tokenizer: Any
) -> Exam | None:
    """Prompts to answer at checkpoints; the KL of the answers where a reference is in memory.

    No answer of the rows is the one right answer, so nothing is matched against it.
    """
    if not options.eval_limit or table.is_empty():
        return None
    asked = training_rows.to_prompts(chosen_rows(table, options.eval_limit, options.seed))
    held = trainer.reference
    knows = isinstance(held, Frozen) and not held.skip
    return Exam(
        tuple({**row, "reference": None} for row in asked),
        tokenizer,
        held.model if knows else None,
        max_new_tokens=options.max_new_tokens,
    )


def finished(options: PolicyOptions, trained: Any, run: Run) -> Any | None:
    """The model to write, an adapter in its float32 weights; None where the adapter alone is kept.

    A kept adapter is put beside the model.
    """
    if not options.lora:
        return trained
    load = partial(loading.load_causal, options.model)
    return whole_model(trained, options.adapter, options.model, load, run.beside)
