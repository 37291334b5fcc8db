"""A loss on pairs by its name: with its options, with others added, and what it cannot go with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from curate.core import registry
from curate.core.errors import UsageError
from finetune.losses.types import needs_of
from finetune.losses.weighted import Weighted
from finetune.token_statistics import NEED_REFERENCE

__all__ = ["LOSSES", "built", "refuse_unfit", "resolved"]

LOSSES: Final = "finetune.losses.pair"
"""The registry group of losses on pairs: its names are the methods."""


def built(name: str, options: Mapping[str, Any], also: Mapping[str, float]) -> Any:
    """The loss ``name`` with ``options``; ``also`` are others by name, each with its weight.

    Raises:
        UsageError: no such loss or option.
    """
    own = registry.build(LOSSES, name, options)
    if not getattr(own, "beta", 1.0) > 0:
        raise UsageError(f"{name}: beta: expected more than 0, got {own.beta}")
    if not also:
        return own
    others = [(registry.build(LOSSES, other, {}), weight) for other, weight in also.items()]
    return Weighted(((own, 1.0), *others))


def resolved(objective: Any) -> dict[str, Any]:
    """All options of the (first) loss, defaults too, for the record."""
    own: Any = objective.parts[0][0] if isinstance(objective, Weighted) else objective
    return asdict(own)


def refuse_unfit(
    name: str, objective: Any, *, accumulates: bool, keeps_reference: bool, stops_by_kl: bool
) -> None:
    """Refuse settings that would train something else than the loss.

    Raises:
        UsageError: the loss compares the pairs of a batch and gradients are accumulated; it reads
            whole distributions of the reference and only log-probs are kept; it has no reference
            and is to be stopped by the KL to one.
    """
    needs = needs_of(objective)
    if needs.couples_batch and accumulates:
        raise UsageError(
            f"{name} compares the pairs of a batch with each other: gradient_accumulation would "
            "change what it learns; raise batch_size instead"
        )
    whole = sorted(set(needs.tokens) & set(NEED_REFERENCE))
    if keeps_reference and whole:
        raise UsageError(
            f"{name} needs whole distributions of the reference ({', '.join(whole)}), which are "
            "not kept; leave precompute_reference out"
        )
    if stops_by_kl and not needs.reference:
        raise UsageError(f"max_kl: {name} has no reference; set track_reference too")
