"""Training loops on single answers and on ranked lists, and how held-out ones are evaluated."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from siftune.finetune.data.collator import Batch
from siftune.finetune.evaluation.pair_accuracy import wins
from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss
from siftune.finetune.losses.list_types import ListLogps, ListLoss, best
from siftune.finetune.losses.types import Answers
from siftune.finetune.models.value_head import load_value_head, save_value_head, value_head_of
from siftune.finetune.training.preference_loop import (
    PreferenceTrainer,
    Totals,
    columns_of,
    take,
)

__all__ = ["AnswerTrainer", "ListTrainer", "summary"]

_MEANS: Final = ("loss", "accuracy", "ratio_correct", "top", "value")
_SHOWN: Final = ("reward", "drift", "kl")
_SIDES: Final = ("chosen", "rejected")


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over evaluated rows, and how well rewards separate good answers from bad ones.

    Of labelled answers ``accuracy`` is the chance that a desirable one has a higher reward than an
    undesirable one (½ where equal) of the same prompt, or of any where no prompt has both;
    ``ratio_correct`` is the same by drift; rewards, drift and KL are means over each class
    (``drift_chosen``, ``drift_rejected``), of lists over their best and their worst answers.
    """
    found: dict[str, float] = {"rows": len(rows)}
    for name in _MEANS:
        values = [row[name] for row in rows if name in row]
        if values:
            found[name] = statistics.fmean(values)
    if "label" in rows[0]:
        found |= _of_classes(rows)
    sides = _sides(rows)
    for name in _SHOWN:
        for side, taken in sides.items():
            values = [one[name] for one in taken if name in one]
            if values:
                found[f"{name}{side}"] = statistics.fmean(values)
    if {"reward_chosen", "reward_rejected"} <= found.keys():
        found["margin"] = found["reward_chosen"] - found["reward_rejected"]
    return found


def _sides(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The answers that count as chosen and as rejected, or all where there is no such class."""
    if "label" in rows[0]:
        good = {side: side == "chosen" for side in _SIDES}
        return {f"_{s}": [row for row in rows if row["label"] == good[s]] for s in _SIDES}
    if not isinstance(rows[0]["reward"], list):
        return {"": list(rows)}
    ends = {"_chosen": max, "_rejected": min}
    return {
        side: [
            {name: row[name][i] for name in _SHOWN if name in row}
            for row in rows
            for i, score in enumerate(row["scores"])
            if score == end(row["scores"])
        ]
        for side, end in ends.items()
    }


def _of_classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found = {}
    for name, column in (("accuracy", "reward"), ("ratio_correct", "drift")):
        sides: dict[str, tuple[list[float], list[float]]] = {}
        for row in rows:
            if column in row:
                good, bad = sides.setdefault(row["prompt_key"], ([], []))
                (good if row["label"] else bad).append(row[column])
        all_good, all_bad = (
            [value for pair in sides.values() for value in pair[i]] for i in (0, 1)
        )
        both = [pair for pair in sides.values() if all(pair)]
        won = [win for pair in both or [(all_good, all_bad)] for win in _comparisons(*pair)]
        if won:
            found[name] = statistics.fmean(won)
    return found


def _comparisons(good: Sequence[float], bad: Sequence[float]) -> list[float]:
    """Of each good value the share of the bad ones below it, once for each bad one."""
    if not bad:
        return []
    ordered = np.sort(bad)
    below = np.searchsorted(ordered, good, side="left")
    upto = np.searchsorted(ordered, good, side="right")
    shares: list[float] = np.repeat((below + upto) / 2 / len(bad), len(bad)).tolist()
    return shares


class AnswerTrainer(PreferenceTrainer):
    """Runs any `AnswerObjective`; trains a value head where the loss needs one.

    What a loss shares over the batch (KTO's z, BCO's shift) is taken over the whole step, all
    micro-batches and processes: where there are several, a pass without gradient goes before.
    """

    value_lr: float | None = None
    """Learning rate of the value head; None: that of the policy."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """As `PreferenceTrainer`."""
        super().__init__(*given, **named)
        self._means: dict[str, torch.Tensor] = {}

    def create_optimizer(self, *given: Any, **named: Any) -> Any:
        """As transformers', the value head in a group of its own."""
        fresh = self.optimizer is None
        optimizer: Any = super().create_optimizer(*given, **named)
        if fresh and self.needs.value:
            head = list(value_head_of(self.model).parameters())
            for group in optimizer.param_groups:
                group["params"] = [x for x in group["params"] if all(x is not y for y in head)]
            extra = {"params": head, "weight_decay": 0.0}
            optimizer.add_param_group({**extra, "lr": self.value_lr or self.args.learning_rate})
        return optimizer

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write a checkpoint, the value head in a file of its own: an adapter's has no other."""
        super()._save(output_dir, state_dict)
        if self.needs.value and self.args.should_save:
            save_value_head(self.model, Path(str(output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.needs.value:
            load_value_head(self.model, Path(resume_from_checkpoint))

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> torch.Tensor:
        """As `PreferenceTrainer`'s; what the loss shares over the step is taken first."""
        parts = sum(len(self.parts(batch)) for batch in batch_samples)
        alone = parts == 1 and self.accelerator.num_processes == 1
        self._means = {} if alone else self._shared(batch_samples)
        return super()._get_num_items_in_batch(batch_samples, device)

    @contextmanager
    def sharing(self, batches: Iterable[Batch]) -> Iterator[None]:
        """A context in which what the loss shares is taken over all of ``batches``."""
        self._means = self._shared(batches)
        try:
            yield
        finally:
            self._means = {}

    @torch.no_grad()
    def _shared(self, batches: Iterable[Batch]) -> dict[str, torch.Tensor]:
        """Means over the batches of what the loss shares; of what no row has there is none."""
        self._means = {}
        if not hasattr(self.loss, "shared"):
            return {}
        sums: dict[str, torch.Tensor] = {}
        dtype = torch.float32
        for batch in (part for whole in batches for part in self.parts(whole)):
            shared = self.loss.shared(self.score(self.model, self._prepare_inputs(batch))[0])
            for name, values in shared.items():
                part = torch.stack([values.sum(), values.new_tensor(values.numel())]).double()
                dtype = torch.promote_types(dtype, values.dtype)
                sums[name] = sums[name] + part if name in sums else part
        if not sums:
            return {}
        names = sorted(sums)
        gathered: torch.Tensor = self.accelerator.gather(torch.cat([sums[name] for name in names]))
        total = gathered.reshape(-1, len(names), 2).sum(0).to(dtype)
        return {
            name: each[0] / each[1] for name, each in zip(names, total, strict=True) if each[1] > 0
        }

    def given_to_loss(
        self, answers: Answers, tokens: Mapping[str, torch.Tensor], batch: Batch
    ) -> AnswerLogps:
        """The one answer of each prompt, ``(B,)``."""
        rows, mismatched = batch["row_of"][:, 0], batch.get("mismatched")
        return AnswerLogps(
            take(answers, rows),
            batch.get("label"),
            {name: value[:, 0] for name, value in columns_of(batch).items()},
            value=tokens["value"][rows] if "value" in tokens else None,
            mismatched=None if mismatched is None else take(answers, mismatched),
            means=self._means,
        )

    def add_metrics(
        self,
        mode: str,
        logps: AnswerLogps,
        result: AnswerLoss,
        tokens: dict[str, torch.Tensor],
        batch: Batch,
    ) -> None:
        """Rewards, log-probs, lengths and drift, of each class where there are labels."""
        totals, answers = self._totals[mode], logps.answers
        if logps.mismatched is not None:
            totals.add("kl_estimate", logps.mismatched.ratio)
        sides: dict[str, torch.Tensor] = {}
        if logps.label is None:
            _add_side(totals, "", answers, result.reward, slice(None))
        else:
            sides = {"chosen": logps.good, "rejected": ~logps.good}
            for side, rows in sides.items():
                _add_side(totals, f"/{side}", answers, result.reward, rows)
        if logps.value is not None:
            totals.add("value", logps.value)
        self.add_token_metrics(mode, tokens, batch, sides)

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Means over evaluated rows: `summary`."""
        return summary(rows)

    def evaluate_batch(self, batch: Batch) -> list[dict[str, Any]]:
        """Loss of each answer and the numbers of `_of_answers`; its label and value, if any."""
        logps, tokens = self.score(self.model, batch)
        result = self.loss(logps)
        columns = _of_answers(logps.answers, result.reward, tokens, batch["row_of"][:, 0])
        columns |= {"loss": result.loss}
        columns |= {"label": logps.label} if logps.label is not None else {}
        columns |= {"value": logps.value} if logps.value is not None else {}
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in values]


class ListTrainer(PreferenceTrainer):
    """Runs any `ListObjective`; the best and the worst answer of a list are the metrics' sides."""

    def given_to_loss(
        self, answers: Answers, tokens: Mapping[str, torch.Tensor], batch: Batch
    ) -> ListLogps:
        """All answers of each prompt, ``(B, K)``."""
        row_of = batch["row_of"]
        mask = row_of >= 0
        taken = take(answers, row_of.clamp(min=0))
        listed = Answers(
            taken.policy * mask,
            torch.where(mask, taken.length, 1),
            None if taken.reference is None else taken.reference * mask,
            {name: value * mask[..., None] for name, value in taken.tokens.items()},
        )
        return ListLogps(listed, mask, columns_of(batch))

    def add_metrics(
        self,
        mode: str,
        logps: ListLogps,
        result: ListLoss,
        tokens: dict[str, torch.Tensor],
        batch: Batch,
    ) -> None:
        """Rewards, log-probs, lengths and drift of the best and the worst answers; their order."""
        totals, answers = self._totals[mode], logps.answers
        ends = {"chosen": best(logps), "rejected": best(logps, sign=-1)}
        rewards = {side: (weight * result.reward).sum(-1) for side, weight in ends.items()}
        for side, weight in ends.items():
            _add_side(totals, f"/{side}", answers, result.reward, weight > 0)
        totals.add("rewards/accuracies", (rewards["chosen"] > rewards["rejected"]).double())
        right = result.reward[..., :, None] > result.reward[..., None, :]
        totals.add("rewards/order", right[logps.better].double())
        mask = (batch["row_of"] >= 0).T  # rows are laid out answer by answer
        sides = {side: (weight > 0).T[mask] for side, weight in ends.items()}
        self.add_token_metrics(mode, tokens, batch, sides)

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Means over evaluated rows: `summary`."""
        return summary(rows)

    def evaluate_batch(self, batch: Batch) -> list[dict[str, Any]]:
        """Numbers of each list: those of `_of_answers` as lists, its loss, scores and order.

        ``accuracy`` is the share of its pairs of different scores whose rewards are in their order
        (½ where equal), ``ratio_correct`` the same by drift, ``top`` whether the best answer has
        the highest reward.
        """
        logps, tokens = self.score(self.model, batch)
        result = self.loss(logps)
        row_of = batch["row_of"]
        columns = _of_answers(logps.answers, result.reward, tokens, row_of.clamp(min=0))
        evaluated: list[dict[str, Any]] = []
        for row, count in enumerate((row_of >= 0).sum(1).tolist()):
            one = {name: value[row, :count].tolist() for name, value in columns.items()}
            scores = logps.scores[row, :count].tolist()
            evaluated.append(
                {**one, "loss": float(result.loss[row]), "scores": scores, **_order(scores, one)}
            )
        return evaluated


def _add_side(totals: Totals, side: str, answers: Answers, reward: torch.Tensor, rows: Any) -> None:
    totals.add(f"rewards{side}", reward[rows])
    totals.add(f"logps{side}", answers.policy[rows])
    totals.add(f"lengths{side}", answers.length[rows])
    if answers.reference is not None:
        totals.add(f"drift{side}", answers.ratio[rows])


def _of_answers(
    answers: Answers, reward: torch.Tensor, tokens: Mapping[str, torch.Tensor], rows: torch.Tensor
) -> dict[str, torch.Tensor]:
    """``reward``, log-prob, length in tokens, drift in nats, KL in nats per token of answers.

    ``rows`` are their row numbers, of the shape of the answers.
    """
    columns = {"reward": reward, "logps": answers.policy, "tokens": answers.length}
    if answers.reference is not None:
        columns["drift"] = answers.ratio
    if "kl" in tokens:
        columns["kl"] = tokens["kl"].sum(1)[rows] / answers.length
    return columns


def _order(scores: Sequence[float], one: Mapping[str, Sequence[float]]) -> dict[str, float]:
    found = {}
    for name, column in (("accuracy", "reward"), ("ratio_correct", "drift")):
        won = [
            wins(one[column][i], one[column][j])
            for i, first in enumerate(scores)
            for j, second in enumerate(scores)
            if column in one and first > second
        ]
        if won:
            found[name] = statistics.fmean(won)
    if len(set(scores)) > 1:
        top = [i for i, reward in enumerate(one["reward"]) if reward == max(one["reward"])]
        found["top"] = statistics.fmean(float(scores[i] == max(scores)) for i in top)
    return found
