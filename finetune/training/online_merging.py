"""Online merging: every step of preference training is merged with the change of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import PositiveShare, Share, check_ranges
from siftune.curate.core.registry import checked
from siftune.finetune.core import distributed
from siftune.finetune.merging.types import dropped, keep_largest
from siftune.finetune.models import loading
from siftune.finetune.models.tensor_files import TensorFiles

if TYPE_CHECKING:
    from siftune.finetune.training.policy_options import PolicyOptions

__all__ = ["OnlineMerging", "OnlineMergingCallback", "add_online_merging"]


@dataclass(frozen=True)
class OnlineMerging:
    """The options of online merging, ``online_merge``.

    Lu et al. 2024, "Online Merging Optimizers for Boosting Rewards and Mitigating Tax in
    Alignment", arXiv:2405.17931, algorithm 1; Qwen2, arXiv:2407.10671, section 4.4. δ is the
    change of the weights by a step of the optimizer, τ that of the model that is trained (as it
    was at the start) from ``base``, the model that it was trained from:

    * ``dare`` (OnDARE): ``θ ← θ + (1 - rate) D(δ) + rate D(τ)``, D keeping each entry with the
      probability ``density`` and dividing it by that.
    * ``ties`` (OnTIES): the ``density`` largest entries of δ and of τ are kept, and of these the
      ones whose sign is that of their sum; then ``θ ← θ + (1 - rate) δ + rate τ``.

    As in the authors' code τ is thinned out once, and its entries are cut to ±1 (``dare``); the sum
    that elects the sign has no weights. Their optimizer decays weights after the merge; here the
    decay is part of δ. ``rate`` 0 is the optimizer alone: nothing is merged, nor thinned out.
    Their script has a rate of 1e-7 and a density of .01.
    """

    base: str
    method: Literal["dare", "ties"] = "dare"
    rate: Share = 1e-7
    density: PositiveShare = 0.01

    needs_base: ClassVar = True

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_ranges(self)

    def thinned(self, change: Tensor, key: tuple[int | str, ...]) -> Tensor:
        """A part of the entries of ``change``; the others are 0."""
        if self.method == "ties":
            return keep_largest(change, self.density)
        return dropped(change, self.density, key)

    def correction(self, change: Tensor, past: Tensor, key: tuple[int | str, ...]) -> Tensor:
        """What is added to weights that a step has changed by ``change``; ``past`` is τ, thinned.

        With ``rate`` 0 and ``density`` 1 of ``dare`` it is exactly 0.
        """
        own = self.thinned(change, key)
        if self.method == "ties":
            elected = torch.where(own + past >= 0, 1, -1)  # as in the authors' code
            own, past = own * (own.sign() == elected), past * (past.sign() == elected)
        return ((1 - self.rate) * own - change) + self.rate * past


class OnlineMergingCallback(TrainerCallback):
    """Merges each step of an optimizer, whichever it is.

    The random numbers are a function of the seed, the step and the weight's name, and τ one of the
    two folders, so a resumed run needs no state of it.
    """

    def __init__(self, merging: OnlineMerging, past: Mapping[str, Tensor], seed: int) -> None:
        """``past`` has the change τ of every trained weight by its name."""
        self.merging, self.seed = merging, seed
        self.past = {
            name: self._cut(merging.thinned(change, (seed, name, "past")))
            for name, change in past.items()
        }
        self.before: dict[str, Tensor] = {}

    def _cut(self, change: Tensor) -> Tensor:
        return change.clamp(-1, 1) if self.merging.method == "dare" else change

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Keep the weights."""
        self.before = {n: one.detach().clone() for n, one in _trained(model)}

    @torch.no_grad()
    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Put the merged step in the place of the optimizer's."""
        for name, weight in _trained(model):
            change = weight - self.before[name]
            key = (self.seed, name, state.global_step)
            weight += self.merging.correction(change, self.past[name].to(weight), key)
        self.before = {}


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, one) for name, one in model.named_parameters() if one.requires_grad]


def add_online_merging(options: PolicyOptions, trainer: Any) -> None:
    """Add the callback to ``trainer`` where ``options`` ask for it.

    Raises:
        UsageError: the base model is of another architecture.
    """
    if not options.online_merge:
        return
    merging = checked(OnlineMerging, options.online_merge, "online_merge")
    if merging.rate == 0:
        return
    distributed.refuse_spread("online_merge")
    start, base = (TensorFiles(loading.resolve(one)) for one in (options.model, merging.base))
    past = {}
    for name, weight in _trained(trainer.model):
        if name not in start or name not in base or base.shape(name) != tuple(weight.shape):
            raise UsageError(
                f"online_merge: base {merging.base} has no weight {name} of {options.model}'s "
                "shape: expected the model that it was trained from"
            )
        past[name] = (start[name].float() - base[name].float()).to(weight)
    trainer.add_callback(OnlineMergingCallback(merging, past, options.seed))
