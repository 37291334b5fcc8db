"""A run on pairs put together: policy, reference, data, and what watches them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from siftune.finetune.data.pair_collator import PairCollator, PairIds, pad_of
from siftune.finetune.runs.run_dir import Run, quiet
from siftune.finetune.training.pair_trainer import PairTrainer
from siftune.finetune.training.policy import held_to, planned, policy_of, watched_with

if TYPE_CHECKING:
    from siftune.finetune.training.policy_options import PolicyOptions

__all__ = ["trainer_of"]


def trainer_of(
    options: PolicyOptions,
    objective: Any,
    train: Sequence[PairIds],
    test: Sequence[PairIds],
    tokenizer: Any,
    run: Run,
    tokens: Sequence[int] = (),
) -> PairTrainer:
    """The trainer, all loaded; a wrong option is told before a model is.

    ``tokens`` are those of the policy that the reference does not know: the prompts of the pairs
    begin with one of them (`training.reward_tokens`).
    """
    args, order = planned(options, train, run)
    collator = PairCollator(pad_of(tokenizer), frozenset(tokenizer.all_special_ids))
    policy, share = policy_of(options, train[0])
    reference, rows = held_to(
        options, objective, policy, [*train, *test], collator, run, share, tokens
    )
    with quiet():
        return PairTrainer(
            policy,
            objective,
            reference,
            args,
            [rows[at] for at in order],
            rows[len(train) :],
            collator,
            watched_with(reference),
            options.micro_tokens,
        )
