"""Training loop of reward models: any loss on compared answers, each answer encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl.trainer.reward_trainer import RewardTrainer

from siftune.finetune.data.collator import COLUMN, Batch
from siftune.finetune.data.comparisons import compared_of, parts_of
from siftune.finetune.losses.length_head import correlation, decorrelation
from siftune.finetune.losses.reward_types import Compared, RewardObjective, centring
from siftune.finetune.models.reward_heads import head_of
from siftune.finetune.runs.finite_steps import FiniteSteps
from siftune.finetune.training.preference_loop import Totals

__all__ = ["RewardLoop"]


class RewardLoop(FiniteSteps, RewardTrainer):
    """TRL's RewardTrainer on prompts with K answers, with a loss of `finetune.losses.reward`.

    The loss of a step is the sum over its prompts divided by the sum of what they count for, over
    all micro-batches and processes. A batch of more than ``micro_tokens`` tokens is run in parts,
    which changes no number but for rounding; with several processes, which wait for each other in
    every backward pass, it stays whole. ``center`` is the weight of `reward_types.centring`,
    ``length_head`` that of `length_head.decorrelation`, for which the model has two outputs, the
    loss is that of their sum, and a batch stays whole.
    """

    loss_is_scaled_for_ga = True
    columns: tuple[str, ...] = ("texts", "wins", "margins", "chars")

    loss: RewardObjective
    center: float = 0.0
    micro_tokens: int = 4096
    loss_columns: Sequence[str] = ()
    length_head: float = 0.0

    def __init__(self, model: Any, **named: Any) -> None:
        labels = model.config.id2label
        model.config.num_labels = 1  # TRL takes no other, and reads it here alone
        super().__init__(model, **named)
        model.config.id2label = labels
        self._totals = {"train": Totals(), "eval": Totals()}
        limits: Any = {"train": {}, "eval": {}}  # the least and the greatest reward
        self._metrics = limits

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # its texts are token ids

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        own = (*self.columns, *(COLUMN + name for name in self.loss_columns))
        columns.extend(name for name in own if name not in columns)

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> torch.Tensor:
        """What the prompts of one optimizer step count for, over all processes."""
        counts = [batch["count"].double().sum() for batch in batch_samples]
        tokens = [batch["attention_mask"].double().sum() for batch in batch_samples]
        own = torch.stack([sum(counts, torch.zeros(())), sum(tokens, torch.zeros(()))])
        total: torch.Tensor = self.accelerator.gather(own[None].to(self.args.device)).sum(0)
        if self.args.include_num_input_tokens_seen == "no":  # else transformers counts them
            self.state.num_input_tokens_seen += int(total[1])  # which every checkpoint holds
        return total[0]

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward of one batch, in parts where it has many tokens."""
        whole = self.accelerator.num_processes > 1 or self.length_head
        parts = [inputs] if whole else self.parts(inputs)
        step: Any = super(FiniteSteps, self).training_step
        losses = [step(model, part, num_items_in_batch) for part in parts]
        return self.checked(torch.stack(losses).sum())

    def parts(self, batch: Batch) -> list[Batch]:
        """The batch in parts of at most ``micro_tokens`` tokens."""
        return parts_of(batch, self.micro_tokens)

    def compared(self, model: Any, batch: Batch) -> tuple[torch.Tensor, Compared]:
        """What the head gives for each answer, ``(B, K, H)``, and what the loss is given."""
        outputs = self.outputs(model, batch)
        return outputs, compared_of(outputs.sum(-1), batch)

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """This process's share of the step's mean loss."""
        outputs, compared = self.compared(model, inputs)
        loss = self.loss(compared)
        if self.center:
            loss = loss + self.center * inputs["count"] * centring(compared)
        self.measure("train" if model.training else "eval", compared)
        added = self._length_term(model, outputs, compared, inputs) if self.length_head else 0.0
        if num_items_in_batch is None:
            return loss.sum() / inputs["count"].sum() + added
        # gradients are averaged over processes: what each adds is scaled up to a sum
        count = torch.as_tensor(num_items_in_batch).to(loss)
        return loss.sum() * self.accelerator.num_processes / count + added

    def outputs(self, model: Any, batch: Batch) -> torch.Tensor:
        """What the head gives for each answer, ``(B, K, H)``; 0 where there is none."""
        texts = {name: batch[name] for name in ("input_ids", "attention_mask")}
        given = model(**texts, use_cache=False).logits
        row_of = batch["row_of"]
        return torch.where((row_of >= 0)[..., None], given[row_of.clamp(min=0)], 0.0)

    def _length_term(
        self, model: Any, outputs: torch.Tensor, compared: Compared, batch: Batch
    ) -> torch.Tensor:
        weight = head_of(self.accelerator.unwrap_model(model), 2).weight
        term = decorrelation(outputs, batch["chars"], compared.mask, weight)
        with torch.no_grad():
            own, chars = outputs[compared.mask][:, 0], batch["chars"][compared.mask]
            self._totals["train"].add("length_correlation", correlation(own, chars.to(own))[None])
        return self.length_head * term

    @torch.no_grad()
    def measure(self, mode: str, compared: Compared) -> None:
        """Rewards of all answers, and how the preferred ones compare, for the next log."""
        totals, limits = self._totals[mode], self._metrics[mode]
        scores = compared.scores.detach()
        own = scores[compared.mask]
        totals.add("mean_reward", own)
        gaps = scores[:, :, None] - scores[:, None, :]
        won = compared.wins > 0
        totals.add("accuracy", (gaps > 0)[won].double(), compared.wins[won])
        totals.add("margin", gaps[won], compared.wins[won])
        gathered = self.accelerator.gather(torch.stack([own.min(), own.max()])[None])
        for name, pick, value in (
            ("min_reward", min, gathered[:, 0].min()),
            ("max_reward", max, gathered[:, 1].max()),
        ):
            limits[name] = [pick([*limits.get(name, []), float(value)])]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the means since the last time."""
        model: Any = self.model
        mode = "train" if model.training else "eval"
        found = self._totals[mode].take(self.accelerator.gather)
        found |= {name: values[0] for name, values in self._metrics[mode].items()}
        self._metrics[mode].clear()
        if mode == "train" and found:
            found["num_tokens"] = self.state.num_input_tokens_seen
        prefix = "eval_" if mode == "eval" else ""
        logs.update({prefix + name: value for name, value in found.items()})
        super(RewardTrainer, self).log(logs, start_time)
