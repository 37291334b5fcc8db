"""Training loop of preference losses: a thin `transformers.Trainer` that any loss runs in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import torch
from transformers import TrainingArguments

from siftune.curate.core.errors import SiftuneError
from siftune.finetune.data import training_rows
from siftune.finetune.data.answer_rows import AnswerRow
from siftune.finetune.data.collator import COLUMN, AnswerCollator, Batch, parts_of
from siftune.finetune.losses.types import Answers, needs_of
from siftune.finetune.runs.finite_steps import FiniteSteps
from siftune.finetune.scoring.lm_head import LOGITS
from siftune.finetune.scoring.reference import Reference

__all__ = ["PreferenceTrainer", "Totals", "answers_of", "columns_of", "take"]

_FROM_BATCH = ("reference", "formatting")  # token values that come with the rows


@dataclass
class Totals:
    """Sums and counts of metrics since the last log: means over pairs or tokens, never of means."""

    sums: dict[str, torch.Tensor] = field(default_factory=dict)  # (sum, count), on the device

    def add(self, name: str, values: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        """Add one value for each pair or token; with ``weights`` it counts for so much."""
        own = values.detach().double()
        by = torch.ones_like(own) if weights is None else weights.to(own)
        now = torch.stack([(own * by).sum(), by.sum()])
        self.sums[name] = self.sums[name] + now if name in self.sums else now

    def take(self, gather: Any) -> dict[str, float]:
        """The means over all processes; the sums begin anew.

        ``rewards/margins`` is the difference of the mean rewards of both sides where it is not a
        mean over pairs, as in TRL's KTO.
        """
        if not self.sums:
            return {}
        names = sorted(self.sums)
        own = torch.cat([self.sums[name] for name in names])
        totals = gather(own).reshape(-1, len(names), 2).sum(0).tolist()
        self.sums.clear()
        means = {n: value / count for n, (value, count) in zip(names, totals, strict=True) if count}
        if {"rewards/chosen", "rewards/rejected"} <= means.keys():
            means.setdefault("rewards/margins", means["rewards/chosen"] - means["rewards/rejected"])
        return means


class PreferenceTrainer(FiniteSteps):
    """Runs any loss on prompts with answers; what the loss does not declare is not computed.

    The loss of a step is the sum over its prompts divided by their number, over all micro-batches
    and processes, so splitting a batch differently does not change it. Subclasses differ in what a
    loss is given, which metrics there are, and how held-out rows are evaluated.
    """

    def __init__(
        self,
        model: Any,
        loss: Any,
        reference: Reference | None,
        args: TrainingArguments,
        train: Sequence[AnswerRow],
        test: Sequence[AnswerRow],
        collator: AnswerCollator,
        watched: Sequence[str] = (),
        micro_tokens: int | None = None,
    ) -> None:
        """``reference`` None: there is none, or its log-probs come with the rows.

        ``watched``: statistics of `scoring.logps` to show as metrics beside what is needed.
        ``micro_tokens``: batches with more tokens are run in parts, each with a backward pass of
        its own. Not so with several processes, which wait for each other in every backward pass,
        nor for a loss that compares the prompts of a batch.
        """
        self.micro_tokens = micro_tokens
        self.loss, self.reference, self.watched = loss, reference, tuple(watched)
        self.needs = needs_of(loss)
        self.statistics = tuple(
            name for name in self.needs.tokens if name not in ("policy", *_FROM_BATCH)
        )
        self._totals = {"train": Totals(), "eval": Totals()}
        super().__init__(
            model=model,
            args=args,
            train_dataset=list(train),
            eval_dataset=list(test) or None,
            data_collator=collator,
        )

    @abstractmethod
    def given_to_loss(
        self, answers: Answers, tokens: Mapping[str, torch.Tensor], batch: Batch
    ) -> Any:
        """What the loss is called with, from the R rows of a batch."""

    @abstractmethod
    def add_metrics(
        self, mode: str, logps: Any, result: Any, tokens: dict[str, torch.Tensor], batch: Batch
    ) -> None:
        """Add a batch to the means of ``mode`` (train, eval)."""

    @abstractmethod
    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Means over evaluated rows."""

    @abstractmethod
    def evaluate_batch(self, batch: Batch) -> list[dict[str, Any]]:
        """Numbers of each prompt of a held-out batch, without gradient."""

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> torch.Tensor:
        """Prompts of one optimizer step, over all its micro-batches and processes.

        Their tokens are added to those seen.
        """
        prompts = [len(batch["row_of"]) for batch in batch_samples]
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batch_samples)
        own = torch.tensor([[sum(prompts), tokens]], device=self.args.device)
        total: torch.Tensor = self.accelerator.gather(own).sum(0)
        if self.args.include_num_input_tokens_seen == "no":  # else transformers counts them
            self.state.num_input_tokens_seen += int(total[1])  # which every checkpoint holds
        return total[0]

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward of one batch, in parts where it has many tokens."""
        if num_items_in_batch is None:
            return super().training_step(model, inputs, num_items_in_batch)
        parts = [
            super(FiniteSteps, self).training_step(model, part, num_items_in_batch)
            for part in self.parts(inputs)
        ]
        return self.checked(torch.stack(parts).sum())

    def parts(self, batch: Batch) -> list[Batch]:
        """The batch, in parts of at most ``micro_tokens`` where that changes no number."""
        # what a loss declares as shared over the step does not change with how a step is split
        couples = self.needs.couples_batch and not hasattr(self.loss, "shared")
        if self.micro_tokens is None or self.accelerator.num_processes > 1 or couples:
            return [batch]
        return parts_of(batch, self.micro_tokens)

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """This process's share of the step's mean loss over prompts."""
        logps, tokens = self.score(model, inputs)
        try:
            result = self.loss(logps)
        except ValueError as error:  # numbers of the rows that the loss refuses
            raise SiftuneError(f"step {self.state.global_step + 1}: {error}") from None
        self.add_metrics("train" if model.training else "eval", logps, result, tokens, inputs)
        if num_items_in_batch is None:
            return result.loss.mean()
        # gradients are averaged over processes: what each adds is scaled up to a sum
        return result.loss.sum() * self.accelerator.num_processes / num_items_in_batch

    def score(self, model: Any, batch: Batch) -> tuple[Any, dict[str, torch.Tensor]]:
        """What the loss is called with, and the token values ``(R, L)`` it was made from."""
        hidden = None if self.reference is None else self.reference(batch)
        how: dict[str, Any] = {
            "statistics": self.statistics,
            "reference": hidden,
            "watched": self.watched,
        }
        if self.needs.value:
            how["value"] = True
        tokens: dict[str, torch.Tensor] = {**model(answers=batch, how=how)}
        width = tokens["policy"].shape[1]
        tokens |= {name: batch[name][:, :width] for name in _FROM_BATCH if name in batch}
        answers = answers_of(tokens, batch, self.needs.tokens)
        return self.given_to_loss(answers, tokens, batch), tokens

    def add_token_metrics(
        self,
        mode: str,
        tokens: Mapping[str, torch.Tensor],
        batch: Batch,
        sides: Mapping[str, torch.Tensor],
    ) -> None:
        """Means of the watched statistics over the scored tokens of the rows' own answers.

        Answers to other prompts are left out. ``sides`` are masks ``(R,)`` of chosen and rejected
        answers: as in TRL, logits are shown of each side, and the accuracy is that on chosen ones.
        """
        totals = self._totals[mode]
        rows = int((batch["row_of"] >= 0).sum())  # those of other prompts come after them
        length = batch["answer_mask"][:rows, 1:].sum(1)
        mask = torch.arange(tokens["policy"].shape[1], device=length.device) < length[:, None]
        for name in self.watched:
            if name not in tokens:
                continue
            values = tokens[name][:rows]
            if name == LOGITS:
                for side, chosen in sides.items():
                    totals.add(f"logits/{side}", values[mask & chosen[:, None]])
            elif name == "top1":
                right = mask & sides["chosen"][:, None] if sides else mask
                totals.add("mean_token_accuracy", values[right])
            else:
                totals.add(name, values[mask])

    def evaluated(self, table: pl.DataFrame) -> list[dict[str, Any]]:
        """One object for each held-out row, in the order of ``table``: its id, prompt and numbers.

        What a loss shares over a batch is taken over all held-out rows.
        """
        rows: Any = self.eval_dataset
        collator: Any = self.data_collator
        size, device = self.args.per_device_eval_batch_size, self.args.device
        batches = [
            {name: value.to(device) for name, value in collator(rows[at : at + size]).items()}
            for at in range(0, len(rows), size)
        ]
        with torch.no_grad(), self.sharing(batches):
            numbers = [row for batch in batches for row in self.evaluate_batch(batch)]
        by_id = dict(zip((row.id for row in rows), numbers, strict=True))
        keys = zip(table["id"], training_rows.prompt_keys(table), strict=True)
        return [{"id": key, "prompt_key": prompt, **by_id[key]} for key, prompt in keys]

    def sharing(self, batches: Iterable[Batch]) -> AbstractContextManager[None]:
        """A context in which what the loss shares is taken over all of ``batches``."""
        return nullcontext()

    def prediction_step(
        self,
        model: Any,
        inputs: Batch,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, None, None]:
        """The loss of a test batch; no logits are kept."""
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the means since the last time."""
        mode = "eval" if any(name.startswith("eval_") for name in logs) else "train"
        prefix = "eval_" if mode == "eval" else ""
        means = self._totals[mode].take(self.accelerator.gather)
        logs.update({prefix + name: value for name, value in means.items()})
        if mode == "train":
            logs["num_input_tokens_seen"] = self.state.num_input_tokens_seen
        super().log(logs, start_time)


def answers_of(
    tokens: Mapping[str, torch.Tensor], batch: Batch, wanted: Sequence[str] = ()
) -> Answers:
    """Sums ``(R,)`` of token values ``(R, L)``; ``wanted`` are token values that the loss reads.

    Given any, it gets the token log-probs too.
    """
    names = dict.fromkeys(("policy", "reference", *wanted)) if wanted else {}
    reference = tokens["reference"].sum(1) if "reference" in tokens else None
    return Answers(
        tokens["policy"].sum(1),
        batch["answer_mask"][:, 1:].sum(1),
        reference,
        {name: tokens[name] for name in names if name in tokens},
    )


def columns_of(batch: Batch) -> dict[str, torch.Tensor]:
    """The columns of a batch by the names that the loss reads, ``(B, K)`` or ``(B, 1)``."""
    return {n.removeprefix(COLUMN): v for n, v in batch.items() if n.startswith(COLUMN)}


def take(answers: Answers, rows: torch.Tensor) -> Answers:
    """The answers of some rows; ``rows`` are indexes of any shape."""
    return Answers(
        answers.policy[rows],
        answers.length[rows],
        None if answers.reference is None else answers.reference[rows],
        {name: value[rows] for name, value in answers.tokens.items()},
    )
