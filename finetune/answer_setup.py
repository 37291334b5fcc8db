"""A run on answers put together: policy, reference, added heads and tokens, data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curate.core.model_config import positions_of
from finetune.answer_collate import AnswerCollator
from finetune.answer_rows import AnswerRow, with_strangers
from finetune.answers import AnswerTrainer, ListTrainer
from finetune.collate import pad_of
from finetune.losses.types import needs_of
from finetune.policy import held_to, planned, policy_of, watched_with
from finetune.reward_tokens import add_reward_tokens, behind_reward_tokens
from finetune.runs import Run, quiet
from finetune.value_head import add_value_head

if TYPE_CHECKING:
    from finetune.policy_options import PolicyOptions

__all__ = ["trainer_of"]


def trainer_of(
    options: PolicyOptions,
    objective: Any,
    train: Sequence[AnswerRow],
    test: Sequence[AnswerRow],
    tokenizer: Any,
    run: Run,
    value_lr: float,
    *,
    lists: bool,
) -> AnswerTrainer:
    """The trainer of these rows; a wrong option is told before a model is loaded.

    ``tokenizer`` gets the reward tokens that the loss asks for.
    """
    args, order = planned(options, train, run)
    needs = needs_of(objective)
    tokens = add_reward_tokens(tokenizer, objective.bins) if needs.reward_tokens else []
    collator = AnswerCollator(pad_of(tokenizer))
    policy, share = policy_of(options, train[0], tokens)
    if needs.value:
        add_value_head(policy)
    rows: Sequence[AnswerRow] = [*train, *test]
    if needs.mismatched:
        longest = options.max_length or positions_of(policy.config)
        own = with_strangers(train, options.seed, longest)
        rows = own + with_strangers(test, options.seed, longest, among=train)
    if tokens:
        rows = behind_reward_tokens(rows, tokens)
    reference, rows = held_to(options, objective, policy, rows, collator, run, share, tokens)
    with quiet():
        return (ListTrainer if lists else AnswerTrainer)(
            policy,
            objective,
            reference,
            args,
            [rows[at] for at in order],
            rows[len(train) :],
            collator,
            watched_with(reference),
            options.micro_tokens,
            value_lr=value_lr,
        )
