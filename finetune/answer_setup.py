"""From a model folder and rows of answers to a trainer that is ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune import models
from finetune.answer_reference import precomputed
from finetune.answer_rows import AnswerRow, with_strangers
from finetune.answers import AnswerCollator, AnswerTrainer, ListTrainer
from finetune.logps import answer_with_scores, check_head
from finetune.losses.types import needs_of
from finetune.packing import try_sharing
from finetune.reference import AdapterOff, Lora, Reference, frozen, with_adapter, without_dropout
from finetune.reward_tokens import add_reward_tokens, behind_reward_tokens, with_room
from finetune.value_head import add_value_head

__all__ = ["Setup"]


@dataclass(frozen=True)
class Setup:
    """What a trainer on answers is made of; for the options see `finetune.trainers.answers`.

    ``reference``: whether there is one; ``keep`` is the folder for what it said once, None to hold
    it in memory. ``tokenizer`` gets the reward tokens that the loss asks for.
    """

    objective: Any
    model: str
    ref_model: str
    tokenizer: Any
    lora: int
    lora_alpha: float
    seed: int
    share: bool
    reference: bool
    keep: Path | None
    max_length: int | None

    def trainer(
        self,
        args: Any,
        train: Sequence[AnswerRow],
        test: Sequence[AnswerRow],
        value_lr: float,
        *,
        lists: bool,
    ) -> AnswerTrainer:
        """The trainer of these rows."""
        needs, tokenizer = needs_of(self.objective), self.tokenizer
        policy: Any = models.load_causal(self.model)
        check_head(policy, torch.tensor([[*train[0].prompt, *train[0].answers[0]][:16]]))
        without_dropout(policy)
        tokens = add_reward_tokens(tokenizer, self.objective.bins) if needs.reward_tokens else []
        if tokens:
            with_room(policy, tokens)
        share = self.share and try_sharing(policy)
        answer_with_scores(policy)
        if self.lora:
            policy = with_adapter(policy, Lora(self.lora, self.lora_alpha), self.seed)
        if needs.value:
            add_value_head(policy)
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        collator = AnswerCollator(pad)
        rows = self._rows(train, test, tokens, policy.config)
        reference: Reference | None = None
        if self.reference and self.keep is not None:
            rows = precomputed(self.ref_model, rows, collator, self.keep, share)
        elif self.reference:
            reference = AdapterOff(policy) if self.lora else self._frozen(share, tokens)
        watched = ("entropy", "top1", *(() if reference is None else ("kl",)))
        return (ListTrainer if lists else AnswerTrainer)(
            policy,
            self.objective,
            reference,
            args,
            rows[: len(train)],
            rows[len(train) :],
            collator,
            watched,
            value_lr=value_lr,
        )

    def _rows(
        self,
        train: Sequence[AnswerRow],
        test: Sequence[AnswerRow],
        tokens: Sequence[int],
        config: Any,
    ) -> list[AnswerRow]:
        """All rows, those to train on first, with all that the loss asks of them."""
        rows = [*train, *test]
        if needs_of(self.objective).mismatched:
            longest = self.max_length or getattr(config, "max_position_embeddings", None)
            own = with_strangers(train, self.seed, longest)
            rows = own + with_strangers(test, self.seed, longest, among=train)
        return behind_reward_tokens(rows, tokens) if tokens else rows

    def _frozen(self, share: bool, tokens: Sequence[int]) -> Reference:
        held = frozen(self.ref_model, share)
        if tokens:
            with_room(held.model, tokens)
        return held
