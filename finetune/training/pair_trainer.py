"""The training loop on pairs: a thin `transformers.Trainer` that any loss on pairs runs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from siftune.curate.core.errors import SiftuneError
from siftune.finetune.data.pair_collator import COLUMN, Batch, PairCollator, PairIds, parts_of
from siftune.finetune.losses.types import Answers, PairLogps, PairLoss, PairObjective, needs_of
from siftune.finetune.runs.finite_steps import FiniteSteps
from siftune.finetune.scoring.lm_head import LOGITS
from siftune.finetune.scoring.reference import Reference

__all__ = ["PairTrainer", "Totals", "answers_of"]

_DATA = ("formatting",)  # token values that come from the data, not from the model


@dataclass
class Totals:
    """Sums and counts of metrics since the last log: means over pairs or tokens, never of means."""

    sums: dict[str, torch.Tensor] = field(default_factory=dict)  # (sum, count), on the device

    def add(self, name: str, values: torch.Tensor) -> None:
        """Take in one value for each pair or token."""
        total = values.detach().double().sum()
        now = torch.stack([total, torch.full_like(total, values.numel())])
        self.sums[name] = self.sums[name] + now if name in self.sums else now

    def take(self, gather: Any) -> dict[str, float]:
        """The means over all processes; begins anew."""
        if not self.sums:
            return {}
        names = sorted(self.sums)
        own = torch.cat([self.sums[name] for name in names])
        total = gather(own).reshape(-1, len(names), 2).sum(0).tolist()
        self.sums.clear()
        found = zip(names, total, strict=True)
        return {name: value / count for name, (value, count) in found if count}


class PairTrainer(FiniteSteps):
    """Runs any `PairObjective`; what the loss does not ask for is not computed.

    The loss of a step is the sum of its pairs' losses over all micro-batches and processes, divided
    by their number, so splitting a batch differently does not change it.
    """

    def __init__(
        self,
        model: Any,
        loss: PairObjective,
        reference: Reference | None,
        args: TrainingArguments,
        train: Sequence[PairIds],
        test: Sequence[PairIds],
        collator: PairCollator,
        watched: Sequence[str] = (),
        micro_tokens: int | None = None,
    ) -> None:
        """``reference`` None: there is none, or its log-probs come with the pairs.

        ``watched``: statistics of `scoring.logps` to show as metrics beside what is needed.
        ``micro_tokens``: batches of pairs with more tokens are run in parts, each with a backward
        pass of its own. Not so with several processes, which wait for each other in every backward
        pass, nor for a loss that compares the pairs of a batch.
        """
        self.micro_tokens = micro_tokens
        self.loss, self.reference, self.watched = loss, reference, tuple(watched)
        self.needs = needs_of(loss)
        self.statistics = tuple(
            name for name in self.needs.tokens if name not in ("policy", "reference", *_DATA)
        )
        self._totals = {"train": Totals(), "eval": Totals()}
        super().__init__(
            model=model,
            args=args,
            train_dataset=list(train),
            eval_dataset=list(test) or None,
            data_collator=collator,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> torch.Tensor:
        """Pairs of one optimizer step, over all its micro-batches and processes."""
        return self._counted(
            [len(batch["input_ids"]) // 2 for batch in batch_samples], batch_samples
        )

    def _counted(self, rows: Sequence[int], batches: Sequence[Batch]) -> torch.Tensor:
        """The sum of ``rows`` over all processes; the tokens of ``batches`` are noted beside it."""
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        own = torch.tensor([[sum(rows), tokens]], device=self.args.device)
        every: torch.Tensor = self.accelerator.gather(own).sum(0)
        if self.args.include_num_input_tokens_seen == "no":  # else transformers counts them
            self.state.num_input_tokens_seen += int(every[1])  # which every checkpoint holds
        return every[0]

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward of one batch, in parts where it has many tokens."""
        if num_items_in_batch is None:
            return super().training_step(model, inputs, num_items_in_batch)
        parts = [
            super(FiniteSteps, self).training_step(model, part, num_items_in_batch)
            for part in self._parts(inputs)
        ]
        return self.checked(torch.stack(parts).sum())

    def _parts(self, batch: Batch) -> list[Batch]:
        """The batch, in parts of at most ``micro_tokens`` where that changes no number."""
        if self.micro_tokens is None or self.accelerator.num_processes > 1:
            return [batch]
        return self._cut(batch, self.micro_tokens)

    def _cut(self, batch: Batch, most: int) -> list[Batch]:
        return [batch] if self.needs.couples_batch else parts_of(batch, most)

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """This process's share of the step's mean loss over pairs."""
        logps, tokens = self.score(model, inputs)
        result = self._taken(logps)
        self._note("train" if model.training else "eval", logps, result, tokens, inputs)
        if num_items_in_batch is None:
            return result.loss.mean()
        # gradients are averaged over processes: what each adds is scaled up to a sum
        return result.loss.sum() * self.accelerator.num_processes / num_items_in_batch

    def score(self, model: Any, batch: Batch) -> tuple[PairLogps, dict[str, torch.Tensor]]:
        """The batch as a loss wants it, and the token values ``(2B, L)`` it was made from."""
        hidden = None if self.reference is None else self.reference(batch)
        how = {"statistics": self.statistics, "reference": hidden, "watched": self.watched}
        scored = model(answers=batch, how=how)
        tokens: dict[str, torch.Tensor] = {**scored}
        for name in ("reference", *_DATA):
            if name in batch:
                tokens[name] = batch[name]
        return answers_of(tokens, batch, self.needs.tokens), tokens

    def _taken(self, logps: Any) -> Any:
        try:
            return self.loss(logps)
        except ValueError as error:  # numbers of the rows that the loss can make nothing of
            raise SiftuneError(f"step {self.state.global_step + 1}: {error}") from None

    def _note(
        self,
        mode: str,
        logps: PairLogps,
        result: PairLoss,
        tokens: dict[str, torch.Tensor],
        batch: Batch,
    ) -> None:
        totals = self._totals[mode]
        chosen, rejected = result.chosen_reward, result.rejected_reward
        totals.add("rewards/chosen", chosen)
        totals.add("rewards/rejected", rejected)
        totals.add("rewards/margins", chosen - rejected)
        totals.add("rewards/accuracies", (chosen > rejected).double())
        for side, answers in (("chosen", logps.chosen), ("rejected", logps.rejected)):
            totals.add(f"logps/{side}", answers.policy)
            totals.add(f"lengths/{side}", answers.length)
            if answers.reference is not None:
                totals.add(f"drift/{side}", answers.ratio)
        there = torch.cat([logps.chosen.length, logps.rejected.length]).long()
        mask = torch.arange(tokens["policy"].shape[1], device=there.device) < there[:, None]
        first = torch.arange(len(mask), device=mask.device) < len(mask) // 2
        self._note_tokens(mode, tokens, mask, {"chosen": first, "rejected": ~first})

    def _note_tokens(
        self,
        mode: str,
        tokens: Mapping[str, torch.Tensor],
        mask: torch.Tensor,
        sides: Mapping[str, torch.Tensor],
    ) -> None:
        """What is watched, as means over the tokens of ``mask`` ``(R, L)``; ``sides`` are its rows.

        As in TRL, logits are shown of each side, and the accuracy is that on chosen answers, where
        sides are told apart.
        """
        totals = self._totals[mode]
        for side, rows in sides.items():
            if LOGITS in tokens:
                totals.add(f"logits/{side}", tokens[LOGITS][mask & rows[:, None]])
        if "top1" in tokens:
            right = mask & sides["chosen"][:, None] if sides else mask
            totals.add("mean_token_accuracy", tokens["top1"][right])
        for name in (one for one in self.watched if one not in (LOGITS, "top1")):
            if name in tokens:
                totals.add(name, tokens[name][mask])

    def on_device(self, pairs: Sequence[PairIds]) -> Batch:
        """The batch of these pairs, where the model is."""
        collator: Any = self.data_collator
        batch: Batch = collator(pairs)
        return {name: value.to(self.args.device) for name, value in batch.items()}

    def prediction_step(
        self,
        model: Any,
        inputs: Batch,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, None, None]:
        """The loss of a test batch; there are no logits to give."""
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the means since the last time."""
        mode = "eval" if any(name.startswith("eval_") for name in logs) else "train"
        prefix = "eval_" if mode == "eval" else ""
        found = self._totals[mode].take(self.accelerator.gather)
        logs.update({prefix + name: value for name, value in found.items()})
        if mode == "train":
            logs["num_input_tokens_seen"] = self.state.num_input_tokens_seen
        super().log(logs, start_time)


def answers_of(
    tokens: dict[str, torch.Tensor], batch: Batch, wanted: Sequence[str] = ()
) -> PairLogps:
    """A `PairLogps` from token values of 2B rows, the chosen ones first.

    ``wanted`` are the token values the loss asked for; given any, it gets the log-probs too.
    """
    length = batch["answer_mask"][:, 1:].sum(1)
    names = dict.fromkeys(("policy", "reference", *wanted))
    width = tokens["policy"].shape[1]
    kept = {name: tokens[name][:, :width] for name in names if name in tokens}
    pairs = len(length) // 2
    sides = []
    for rows in (slice(None, pairs), slice(pairs, None)):
        own = {name: value[rows] for name, value in kept.items()}
        reference = own["reference"].sum(1) if "reference" in own else None
        sides.append(Answers(own["policy"].sum(1), length[rows], reference, own if wanted else {}))
    columns = {
        name.removeprefix(COLUMN): value for name, value in batch.items() if name.startswith(COLUMN)
    }
    return PairLogps(sides[0], sides[1], columns)
