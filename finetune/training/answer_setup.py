"""A run on answers put together: policy, reference, added heads and tokens, data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from siftune.curate.models.model_config import positions_of
from siftune.finetune.data.answer_collator import AnswerCollator
from siftune.finetune.data.answer_rows import AnswerRow, with_strangers
from siftune.finetune.data.pair_collator import pad_of
from siftune.finetune.losses.types import needs_of
from siftune.finetune.models.value_head import add_value_head
from siftune.finetune.runs.run_dir import Run, quiet
from siftune.finetune.training.answer_trainer import AnswerTrainer, ListTrainer
from siftune.finetune.training.policy import held_to, planned, policy_of, watched_with
from siftune.finetune.training.reward_tokens import add_reward_tokens, behind_reward_tokens

if TYPE_CHECKING:
    from siftune.finetune.training.policy_options import PolicyOptions

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
