"""Options that hold a policy and its reference together, and which of them exclude each other."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Leash", "refuse_leash"]


class Leash(Protocol):
    """The options of a trainer that say how policy and reference are held together."""

    @property
    def lora(self) -> int:
        """The rank of an adapter, with which the reference is the model without it; 0: none."""

    @property
    def precompute_reference(self) -> bool:
        """Whether the reference is run once before training, and then let go."""

    @property
    def ref_sync_steps(self) -> int:
        """Steps between two moves of the reference; 0: it stays."""

    @property
    def ref_mixup_alpha(self) -> float:
        """The share of the policy that a move takes in."""

    @property
    def max_kl(self) -> float | None:
        """Nats per token at which training ends."""


def refuse_leash(options: Leash) -> None:
    """Refuse options that hold policy and reference together in ways that cannot be.

    Raises:
        ValueError: one is out of range, or asks for a reference that the others leave out.
    """
    if options.ref_sync_steps < 0 or not 0 < options.ref_mixup_alpha <= 1:
        raise ValueError("ref_sync_steps: expected 0 or more; ref_mixup_alpha: above 0, to 1")
    if options.ref_sync_steps and (options.lora or options.precompute_reference):
        raise ValueError(
            "ref_sync_steps: needs a reference of its own in memory, and neither lora nor "
            "precompute_reference leaves one there"
        )
    if options.max_kl is not None and options.precompute_reference:
        raise ValueError("max_kl needs the reference in memory, precompute_reference takes it out")
