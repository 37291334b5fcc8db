"""What an advantage is computed from, its protocol, and the check of a user's own.

An advantage is how much better a token was than expected. The loop computes it once a rollout,
before any update, and multiplies each token's gradient with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from siftune.curate.core.adapted import Checked, FunctionComponent
from siftune.finetune.core.masked import Groups

__all__ = ["Advantage", "CheckedAdvantage", "Rewarded"]


@dataclass(frozen=True)
class Rewarded:
    """A rollout with its rewards: B completions, T tokens of the longest.

    ``scores`` (B,) are the rewards of whole completions, penalties included. ``rewards`` (B, T) are
    those of tokens: the score at the last chosen token, less ``kl_coef`` times the KL at each token
    where the KL is part of the reward. ``mask`` (B, T) is true on the tokens that the policy chose.
    Completions of one prompt have one number in ``groups`` (B,) int64. ``values`` (B, T) are the
    critic's of the state before each token; None without a critic.
    """

    scores: Tensor
    rewards: Tensor
    mask: Tensor
    groups: Tensor
    values: Tensor | None = None

    @property
    def returns(self) -> Tensor:
        """The sum of each completion's token rewards (B,), float64: its score less its KL."""
        return self.rewards.double().masked_fill(~self.mask, 0).sum(1)

    @property
    def by_prompt(self) -> Groups:
        """The groups of completions of one prompt."""
        return Groups(self.groups)

    def on_tokens(self, each: Tensor) -> Tensor:
        """One value a completion (B,) on each of its chosen tokens, (B, T); 0 elsewhere.

        >>> mask = torch.tensor([[True, False], [True, True]])
        >>> made = Rewarded(torch.ones(2), torch.zeros(2, 2), mask, torch.tensor([0, 0]))
        >>> made.on_tokens(torch.tensor([3.0, 4.0])).tolist()
        [[3.0, 0.0], [4.0, 4.0]]
        """
        wide = each.to(self.rewards.dtype).unsqueeze(1).expand_as(self.rewards)
        return wide.masked_fill(~self.mask, 0)


class Advantage(Protocol):
    """An estimator of the advantage of each token: a frozen dataclass with its options as fields.

    ``needs_critic``: it reads ``values``, so a critic is trained. ``needs_groups``: it compares the
    completions of a prompt, so each prompt has to be answered more than once.
    """

    needs_critic: ClassVar[bool]
    needs_groups: ClassVar[bool]

    def __call__(self, rewarded: Rewarded) -> Tensor:
        """Advantages (B, T), 0 outside ``rewarded.mask``."""


class _AdvantageFunction(FunctionComponent):
    """An advantage from a function of `Rewarded`.

    ``needs_critic`` and ``needs_groups`` are attributes of the function, false where it has none.
    """

    declared: ClassVar[Sequence[str]] = ("needs_critic", "needs_groups")
    needs_critic: Any = False
    needs_groups: Any = False

    def __call__(self, rewarded: Rewarded) -> Any:
        """The result of the function."""
        return self._function(rewarded, **self._options)


class CheckedAdvantage(Checked):
    """A user's advantage, whose answer is a number for each token, or for each completion."""

    required: ClassVar[Sequence[str]] = ("__call__",)
    function: ClassVar[type[FunctionComponent]] = _AdvantageFunction
    defaults: ClassVar[type[Any]] = _AdvantageFunction

    @classmethod
    def _is_as_ours(cls, own: type[Any], parameters: Sequence[str]) -> bool:
        return is_dataclass(own) or hasattr(own, "needs_critic")

    def __call__(self, rewarded: Rewarded) -> Tensor:
        """Advantages (B, T); of one value a completion, that value on each of its tokens.

        Raises:
            UsageError: it is no tensor of floats of either shape, or not finite where it counts.
        """
        own: Any = super().__call__  # type: ignore[misc]
        answer = self._call(own, rewarded)
        if not isinstance(answer, Tensor) or not answer.is_floating_point():
            found = answer.dtype if isinstance(answer, Tensor) else type(answer).__name__
            raise self._refused(f"expected a tensor of floats, got {found}")
        shape = rewarded.mask.shape
        if answer.shape not in (shape, shape[:1]):
            raise self._refused(
                f"expected the shape {tuple(shape)}, a value for each token, or {tuple(shape[:1])},"
                f" one for each completion, got {tuple(answer.shape)}"
            )
        wide = answer.detach() if answer.shape == shape else rewarded.on_tokens(answer.detach())
        wide = wide.to(rewarded.rewards).masked_fill(~rewarded.mask, 0)
        if not bool(torch.isfinite(wide).all()):
            raise self._refused("an advantage is not finite")
        return wide
