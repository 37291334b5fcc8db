"""Build a loss from its name and options, alone or as a weighted sum; refuse unfit settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core import registry
from siftune.curate.core.custom_file import is_custom
from siftune.curate.core.errors import UsageError
from siftune.finetune.core.methods import family_of
from siftune.finetune.losses.types import needs_of
from siftune.finetune.losses.weighted import Weighted, WeightedAnswers, WeightedLists
from siftune.finetune.scoring.lm_head import of_both
from siftune.finetune.training.online_merging import OnlineMerging

if TYPE_CHECKING:
    from siftune.finetune.training.policy_options import PolicyOptions

__all__ = ["ANSWERS", "LISTS", "LOSSES", "built", "group_of", "refuse_unfit", "resolved"]

LOSSES: Final = "finetune.losses.pair"
"""The registry group of losses on pairs."""

ANSWERS: Final = ("finetune.losses.unpaired", "finetune.losses.token")
"""The groups of losses on single completions: labelled or scored ones, and ones to imitate."""

LISTS: Final = ("finetune.losses.listwise",)
"""The group of losses on K completions of one prompt."""

_SUMS: Final[Mapping[Sequence[str], Any]] = {
    (LOSSES,): Weighted,
    ANSWERS: WeightedAnswers,
    LISTS: WeightedLists,
}


def group_of(name: str, groups: Sequence[str]) -> str:
    """The first of the groups that has a loss of that name.

    Raises:
        UsageError: none has; the text names the closest.
    """
    if is_custom(name):
        return _group_of_custom(name, groups)
    found = next((group for group in groups if name in registry.names(group)), None)
    if found is not None:
        return found
    if len(groups) == 1:
        registry.find(groups[0], name)
    known = tuple(one for group in groups for one in registry.names(group))
    raise UsageError(f"no such loss is called {name!r}; {registry.closest(name, known)}")


def _group_of_custom(name: str, groups: Sequence[str]) -> str:
    family = family_of(name)
    if family not in groups:
        shapes = ", ".join(group.rpartition(".")[2] for group in groups)
        raise UsageError(
            f"{name} is a loss of the family {str(family).rpartition('.')[2]}, by the type of its "
            f"first parameter; expected one of {shapes}"
        )
    return str(family)


def built(
    name: str,
    options: Mapping[str, Any],
    also: Mapping[str, float | Mapping[str, Any]],
    groups: Sequence[str] = (LOSSES,),
) -> Any:
    """The loss ``name`` with ``options``; ``also`` are others by name, each with its weight.

    In place of the weight alone: ``{"weight": 0.2, ...}`` with options of that loss. All are of
    ``groups``: `LOSSES` alone, `ANSWERS` or `LISTS`. Losses of different families are given
    different rows and do not add up.

    Raises:
        UsageError: no such loss or option, or one out of range.
    """
    own = _one(name, options, groups)
    others = [_added(other, given, groups) for other, given in also.items()]
    return _SUMS[tuple(groups)](((own, 1.0), *others)) if others else own


def _one(name: str, options: Mapping[str, Any], groups: Sequence[str]) -> Any:
    loss = registry.build(group_of(name, groups), name, options)
    if not getattr(loss, "beta", 1.0) > 0:
        raise UsageError(f"{name}: beta: expected more than 0, got {loss.beta}")
    return loss


def _added(name: str, given: float | Mapping[str, Any], groups: Sequence[str]) -> tuple[Any, float]:
    options = dict(given) if isinstance(given, Mapping) else {"weight": given}
    weight: Any = options.pop("weight", None)
    # a bool is an int: `also: {sft: true}` gives no weight
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not (number and 0 < weight < math.inf):
        raise UsageError(f"also: {name}: expected a weight above 0, got {weight}")
    return _one(name, options, groups), float(weight)


def resolved(objective: Any) -> dict[str, Any]:
    """All options of the (first) loss with their defaults, as `siftune.json` records them."""
    sums = Weighted | WeightedAnswers | WeightedLists
    first: Any = objective.parts[0][0] if isinstance(objective, sums) else objective
    return asdict(first)


def refuse_unfit(name: str, objective: Any, options: PolicyOptions) -> None:
    """Refuse settings under which training would not minimise the loss.

    Raises:
        UsageError: the loss compares the pairs of a batch and gradients are accumulated; it reads
            whole distributions of the reference and only log-probs are kept; it has no reference
            and is to be stopped by the KL to one, or one is to follow; it learns embeddings and
            only an adapter is trained; it has no value head and a learning rate of one is set.
    """
    if options.online_merge:
        registry.checked(OnlineMerging, options.online_merge, "online_merge")
    needs = needs_of(objective)
    held = needs.reference or options.track_reference
    # what a loss declares as shared over the step does not change with how a step is split
    couples = needs.couples_batch and not hasattr(objective, "shared")
    if couples and options.gradient_accumulation > 1:
        raise UsageError(
            f"{name} compares the pairs of a batch with each other: gradient_accumulation would "
            "change what it learns; raise batch_size instead"
        )
    whole = of_both(needs.tokens)
    if options.precompute_reference and whole:
        raise UsageError(
            f"{name} needs whole distributions of the reference ({', '.join(whole)}), which are "
            "not kept; leave precompute_reference out"
        )
    _refuse_teacher(name, objective, options)
    if options.max_kl is not None and not held:
        raise UsageError(f"max_kl: {name} has no reference; set track_reference too")
    if options.ref_sync_steps and not held:
        raise UsageError(f"ref_sync_steps: {name} has no reference that could follow")
    if options.value_lr != type(options).value_lr and not needs.value:
        raise UsageError(f"value_lr: {name} has no value head; leave value_lr out")
    if options.lora and needs.reward_tokens:
        raise UsageError(
            f"{name} learns embeddings of its reward tokens, which an adapter leaves as they are; "
            "leave lora out"
        )


def _refuse_teacher(name: str, objective: Any, options: PolicyOptions) -> None:
    """Refuse a loss without its teacher, and another model where there is none.

    A run has one reference, so one that is a teacher is that of no other loss.
    """
    needs = needs_of(objective)
    parts = [needs_of(part) for part, _ in getattr(objective, "parts", ())]
    if needs.teacher and any(one.reference and not one.teacher for one in parts):
        raise UsageError(
            f"also: {name} sums a loss that learns from a teacher and one that needs the model "
            "before training as reference; ref_model can be only one of the two: leave one out"
        )
    if needs.teacher and options.ref_model is None:
        raise UsageError(f"{name} learns from a teacher: set ref_model, the model that is one")
    if needs.teacher and options.max_kl is not None:
        raise UsageError(
            f"max_kl: the reference of {name} is its teacher, far away at the start; leave max_kl "
            "out"
        )
    if needs.teacher and options.ref_sync_steps:
        raise UsageError(f"ref_sync_steps: the reference of {name} is its teacher, and stays")
    if options.lora and options.ref_model is not None and not needs.teacher:
        raise UsageError("ref_model: with lora the reference is the model, its adapter off")
