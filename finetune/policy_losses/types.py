"""What a policy loss is computed from, its protocol, and the check of a user's own.

A policy loss turns the log-probabilities of a rollout's tokens and their advantages into one loss a
token. It is not reduced: the loop sums the tokens that count and divides by a count over the whole
mini-batch (`rl.reduction`), so that splitting a batch does not change the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from siftune.curate.core.adapted import Checked, FunctionComponent

__all__ = ["CheckedPolicyLoss", "PolicyBatch", "PolicyLoss"]


@dataclass(frozen=True)
class PolicyBatch:
    """Tokens of whole completions, all (B, T): B completions, T tokens of the longest.

    ``logps`` are under the policy as it is now and have the gradient; ``old_logps`` are those of
    the policy that wrote the tokens, at the same temperature. ``mask`` is true on the tokens that
    the policy chose; elsewhere the others are 0.
    """

    logps: Tensor
    old_logps: Tensor
    advantages: Tensor
    mask: Tensor

    @property
    def log_ratios(self) -> Tensor:
        """``log π - log π_old`` of each token; 0 outside the mask."""
        return (self.logps - self.old_logps).masked_fill(~self.mask, 0)

    @property
    def ratios(self) -> Tensor:
        """``ρ_t = π / π_old`` of each token; 1 outside the mask."""
        return self.log_ratios.exp()


class PolicyLoss(Protocol):
    """A policy objective: a frozen dataclass with its options as fields.

    It may have ``clipped(batch)``, bool (B, T): the tokens whose ratio is outside of its limits.
    Their share is then in the metrics.
    """

    def __call__(self, batch: PolicyBatch) -> Tensor:
        """Loss (B, T) of each token, to be minimised; what is outside the mask does not count."""


class _PolicyLossFunction(FunctionComponent):
    """A policy loss from a function of `PolicyBatch`."""

    def __call__(self, batch: PolicyBatch) -> Any:
        """The result of the function."""
        return self._function(batch, **self._options)


class CheckedPolicyLoss(Checked):
    """A user's policy loss, whose answer is one loss a token."""

    required: ClassVar[Sequence[str]] = ("__call__",)
    function: ClassVar[type[FunctionComponent]] = _PolicyLossFunction

    @classmethod
    def _is_as_ours(cls, own: type[Any], parameters: Sequence[str]) -> bool:
        return is_dataclass(own)

    def __call__(self, batch: PolicyBatch) -> Tensor:
        """Loss (B, T) of each token.

        Raises:
            UsageError: it is no tensor of floats of that shape, or has no gradient.
        """
        own: Any = super().__call__  # type: ignore[misc]
        loss = self._call(own, batch)
        if not isinstance(loss, Tensor) or not loss.is_floating_point():
            found = loss.dtype if isinstance(loss, Tensor) else type(loss).__name__
            raise self._refused(f"expected a tensor of losses, one a token, got {found}")
        if loss.shape != batch.mask.shape:
            raise self._refused(
                f"expected one loss for each token, {tuple(batch.mask.shape)}, got the shape "
                f"{tuple(loss.shape)}; do not reduce it"
            )
        if torch.is_grad_enabled() and batch.logps.requires_grad and not loss.requires_grad:
            raise self._refused(
                "the loss has no gradient, so nothing would be learned: compute it of logps, "
                "without detach(), item() or numpy()"
            )
        return loss
