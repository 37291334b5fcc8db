"""A preference run put together: policy, reference, data, and what watches them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from finetune import data, models
from finetune.checkpoints import put_back
from finetune.checkpoints import trained as trained_weights
from finetune.collate import PairCollator, PairIds
from finetune.evaluate import chosen_rows
from finetune.exam import Exam
from finetune.logps import answer_with_scores, check_head
from finetune.loop_arguments import arguments_of
from finetune.losses.types import needs_of
from finetune.packing import try_sharing
from finetune.pair_rows import Pairs, order_of
from finetune.pairs import PairTrainer
from finetune.ranks import refuse_spread
from finetune.reference import (
    AdapterOff,
    Frozen,
    Lora,
    frozen,
    precomputed,
    with_adapter,
    without_dropout,
)
from finetune.runs import Run, quiet

if TYPE_CHECKING:
    import polars as pl

    from finetune.trainers.preference import Preference

__all__ = ["exam_of", "merged", "trainer_of"]

_WATCHED: Final = ("entropy", "top1")


def trainer_of(
    options: Preference, objective: Any, train: list[PairIds], test: Pairs, tokenizer: Any, run: Run
) -> PairTrainer:
    """The trainer, all loaded; a wrong option is told before a model is."""
    if options.max_tokens is not None:
        train = order_of(train, options.max_tokens, options.seed)
    if options.lora:
        refuse_spread("lora")
    budget = {"num_train_epochs": 1.0, "train_sampling_strategy": "sequential"}
    more = {} if options.max_tokens is None else budget
    args = arguments_of(
        options, len(train), run, **more
    )  # a wrong option is told before a model loads
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    collator = PairCollator(pad, frozenset(tokenizer.all_special_ids))
    policy: Any = models.load_causal(options.model, in_4bit=options.load_in_4bit)
    check_head(policy, torch.tensor([[*train[0].prompt, *train[0].chosen][:16]]))
    without_dropout(policy)
    share = options.share_prefix and try_sharing(policy)
    answer_with_scores(policy)
    if options.lora:
        policy = with_adapter(policy, Lora(options.lora, options.lora_alpha), options.seed)
    folder = options.ref_model or options.model
    reference, tested = None, test.ids
    if needs_of(objective).reference or options.track_reference:
        if options.precompute_reference:
            cache = Path(options.cache) if options.cache else run.work
            train, tested = precomputed(folder, train, tested, collator, cache, share)
        else:
            reference = AdapterOff(policy) if options.lora else frozen(folder, share)
    watched = _WATCHED if reference is None else (*_WATCHED, "kl")
    with quiet():
        return PairTrainer(
            policy,
            objective,
            reference,
            args,
            train,
            tested,
            collator,
            watched,
            options.micro_tokens,
        )


def exam_of(
    options: Preference, trainer: PairTrainer, table: pl.DataFrame, tokenizer: Any
) -> Exam | None:
    """Prompts to answer at checkpoints; the KL of the answers where a reference is in memory.

    A pair's chosen answer is not the one right answer, so nothing is matched against it.
    """
    if not options.eval_limit or table.is_empty():
        return None
    asked = data.to_prompts(chosen_rows(table, options.eval_limit, options.seed))
    held = trainer.reference
    return Exam(
        tuple({**row, "reference": None} for row in asked),
        tokenizer,
        held.model if isinstance(held, Frozen) else None,
        max_new_tokens=options.max_new_tokens,
    )


def merged(options: Preference, trained: Any) -> Any:
    """The model with its adapter merged into its weights, at the precision of its folder."""
    if not options.load_in_4bit:
        return trained.merge_and_unload()
    whole = models.load_causal(options.model)
    with_its = with_adapter(whole, Lora(options.lora, options.lora_alpha), options.seed)
    put_back(trained_weights(trained), with_its)
    return with_its.merge_and_unload()
