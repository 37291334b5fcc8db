"""The training loop on single answers and on ranked lists of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from siftune.finetune.data.answer_collator import parts_of
from siftune.finetune.data.pair_collator import COLUMN, Batch
from siftune.finetune.losses.answer_types import AnswerLogps
from siftune.finetune.losses.list_types import ListLogps, best
from siftune.finetune.losses.types import Answers
from siftune.finetune.models.value_head import load_value_head, save_value_head, value_head_of
from siftune.finetune.training.pair_trainer import PairTrainer, Totals

__all__ = ["AnswerTrainer", "ListTrainer"]


class _Sides(Totals):
    """Totals that also tell the margin between the two sides' mean rewards, as TRL's KTO does."""

    def take(self, gather: Any) -> dict[str, float]:
        """The means over all processes; begins anew."""
        found = super().take(gather)
        sides = [found.get(f"rewards/{side}") for side in ("chosen", "rejected")]
        if sides[0] is not None and sides[1] is not None:
            found.setdefault("rewards/margins", sides[0] - sides[1])
        return found


class AnswerTrainer(PairTrainer):
    """Runs any `AnswerObjective`.

    What a loss shares over the batch (KTO's z, BCO's shift) is taken over the whole step, all
    micro-batches and processes: where there are several, a pass without gradient goes before.
    """

    def __init__(self, *given: Any, value_lr: float | None = None, **named: Any) -> None:
        """As `PairTrainer`, on `AnswerRow`; ``value_lr`` is the learning rate of a value head."""
        self.value_lr = value_lr
        super().__init__(*given, **named)
        self._totals = {"train": _Sides(), "eval": _Sides()}
        self._means: dict[str, torch.Tensor] = {}

    def create_optimizer(self, *given: Any, **named: Any) -> Any:
        """As transformers', the value head in a group of its own."""
        fresh = self.optimizer is None
        optimizer: Any = super().create_optimizer(*given, **named)
        if fresh and self.needs.value:
            own = list(value_head_of(self.model).parameters())
            for group in optimizer.param_groups:
                group["params"] = [x for x in group["params"] if all(x is not y for y in own)]
            extra = {"params": own, "weight_decay": 0.0}
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
        """Rows of one optimizer step, over all its micro-batches and processes."""
        parts = sum(len(self._parts(batch)) for batch in batch_samples)
        alone = parts == 1 and self.accelerator.num_processes == 1
        self._means = {} if alone else self._shared(batch_samples)
        return self._counted([len(batch["at"]) for batch in batch_samples], batch_samples)

    def _cut(self, batch: Batch, most: int) -> list[Batch]:
        """In parts whatever the loss shares: that is the step's, which `_shared` has taken."""
        return parts_of(batch, most)

    @contextmanager
    def sharing(self, batches: Iterable[Batch]) -> Iterator[None]:
        """What the loss shares is taken over all of ``batches`` meanwhile, for each of them."""
        self._means = self._shared(batches)
        try:
            yield
        finally:
            self._means = {}

    @torch.no_grad()
    def _shared(self, batches: Iterable[Batch]) -> dict[str, torch.Tensor]:
        """Means over the batches of what the loss shares; of what no row has there is none."""
        loss: Any = self.loss
        self._means = {}
        if not hasattr(loss, "shared"):
            return {}
        sums: dict[str, torch.Tensor] = {}
        dtype = torch.float32
        for batch in (part for whole in batches for part in self._parts(whole)):
            found = loss.shared(self.score(self.model, self._prepare_inputs(batch))[0])
            for name, values in found.items():
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

    def score(self, model: Any, batch: Batch) -> tuple[Any, dict[str, torch.Tensor]]:
        """The batch as a loss wants it, and the token values ``(R, L)`` it was made from."""
        hidden = None if self.reference is None else self.reference(batch)
        how: dict[str, Any] = {
            "statistics": self.statistics,
            "reference": hidden,
            "watched": self.watched,
        }
        if self.needs.value:
            how["value"] = True
        tokens: dict[str, torch.Tensor] = {**model(answers=batch, how=how)}
        if "reference" in batch:
            tokens["reference"] = batch["reference"][:, : tokens["policy"].shape[1]]
        wanted = self.needs.tokens
        kept = {n: v for n, v in tokens.items() if n in ("policy", "reference", *wanted)}
        reference = tokens["reference"].sum(1) if "reference" in tokens else None
        length = batch["answer_mask"][:, 1:].sum(1)
        flat = Answers(tokens["policy"].sum(1), length, reference, kept if wanted else {})
        return self._laid_out(flat, tokens, batch), tokens

    def _laid_out(self, flat: Answers, tokens: Mapping[str, torch.Tensor], batch: Batch) -> Any:
        own, strangers = batch["at"][:, 0], batch.get("strangers")
        return AnswerLogps(
            _take(flat, own),
            batch.get("label"),
            {name: value[:, 0] for name, value in _columns(batch).items()},
            value=tokens["value"][own] if "value" in tokens else None,
            mismatched=None if strangers is None else _take(flat, strangers),
            means=self._means,
        )

    def _note(
        self, mode: str, logps: Any, result: Any, tokens: dict[str, torch.Tensor], batch: Batch
    ) -> None:
        totals, answers = self._totals[mode], logps.answers
        if logps.mismatched is not None:
            totals.add("kl_estimate", logps.mismatched.ratio)
        sides: dict[str, torch.Tensor] = {}
        if logps.label is None:
            _note_side(totals, "", answers, result.reward, slice(None))
        else:
            sides = {"chosen": logps.good, "rejected": ~logps.good}
            for side, rows in sides.items():
                _note_side(totals, f"/{side}", answers, result.reward, rows)
        if logps.value is not None:
            totals.add("value", logps.value)
        self._note_own(mode, tokens, batch, sides)

    def _note_own(
        self,
        mode: str,
        tokens: Mapping[str, torch.Tensor],
        batch: Batch,
        sides: Mapping[str, torch.Tensor],
    ) -> None:
        """Token metrics over the rows' own answers, not over strangers."""
        own = int((batch["at"] >= 0).sum())
        length = batch["answer_mask"][:own, 1:].sum(1)
        width = tokens["policy"].shape[1]
        mask = torch.arange(width, device=length.device) < length[:, None]
        mine = {name: tokens[name][:own] for name in self.watched if name in tokens}
        self._note_tokens(mode, mine, mask, sides)


class ListTrainer(AnswerTrainer):
    """Runs any `ListObjective`; the best and the worst answer of a list are the metrics' sides."""

    def _laid_out(self, flat: Answers, tokens: Mapping[str, torch.Tensor], batch: Batch) -> Any:
        at = batch["at"]
        there = at >= 0
        taken = _take(flat, at.clamp(min=0))
        tokens = {name: value * there[..., None] for name, value in taken.tokens.items()}
        answers = Answers(
            taken.policy * there,
            torch.where(there, taken.length, 1),
            None if taken.reference is None else taken.reference * there,
            tokens,
        )
        return ListLogps(answers, there, _columns(batch))

    def _note(
        self, mode: str, logps: Any, result: Any, tokens: dict[str, torch.Tensor], batch: Batch
    ) -> None:
        totals, answers = self._totals[mode], logps.answers
        ends = {"chosen": best(logps), "rejected": best(logps, sign=-1)}
        rewards = {side: (weight * result.reward).sum(-1) for side, weight in ends.items()}
        for side, weight in ends.items():
            _note_side(totals, f"/{side}", answers, result.reward, weight > 0)
        totals.add("rewards/accuracies", (rewards["chosen"] > rewards["rejected"]).double())
        right = result.reward[..., :, None] > result.reward[..., None, :]
        totals.add("rewards/order", right[logps.better].double())
        there = batch["at"] >= 0  # whose rows stand in this order
        sides = {side: (weight > 0)[there] for side, weight in ends.items()}
        self._note_own(mode, tokens, batch, sides)


def _note_side(
    totals: Totals, side: str, answers: Answers, reward: torch.Tensor, rows: Any
) -> None:
    totals.add(f"rewards{side}", reward[rows])
    totals.add(f"logps{side}", answers.policy[rows])
    totals.add(f"lengths{side}", answers.length[rows])
    if answers.reference is not None:
        totals.add(f"drift{side}", answers.ratio[rows])


def _take(flat: Answers, rows: torch.Tensor) -> Answers:
    return Answers(
        flat.policy[rows],
        flat.length[rows],
        None if flat.reference is None else flat.reference[rows],
        {name: value[rows] for name, value in flat.tokens.items()},
    )


def _columns(batch: Batch) -> dict[str, torch.Tensor]:
    return {n.removeprefix(COLUMN): v for n, v in batch.items() if n.startswith(COLUMN)}
