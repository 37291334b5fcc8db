"""Actor and critic as one module: log-probs, entropies and values of padded completions."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from siftune.finetune.data.packing import Packed, PackedRow, pack_rows, run_packed, shares_prefixes
from siftune.finetune.models.adapters import adapter_parameters, only
from siftune.finetune.models.loading import is_reward_model, load_causal, load_reward
from siftune.finetune.models.lora import inner_model
from siftune.finetune.scoring.lm_head import Head, Hidden, measure

__all__ = ["ActorCritic", "Scores", "Tokens", "policy_scores", "reference_of", "trunk"]


@dataclass(frozen=True)
class Tokens:
    """A batch of B rows; all prompts end, and all completions start, in the same column.

    ``input_ids`` and ``attention_mask`` are (B, P + T): prompts padded on the left to P,
    completions on the right to T. ``mask`` (B, T) is true on the tokens that the policy chose, its
    end token included.
    """

    input_ids: Tensor
    attention_mask: Tensor
    mask: Tensor

    @classmethod
    def of(
        cls, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], pad: int
    ) -> Tokens:
        """The batch of token lists; no completion may be empty.

        >>> Tokens.of([[5], [6, 7]], [[8, 2], [9]], pad=0).input_ids.tolist()
        [[0, 5, 8, 2], [6, 7, 9, 0]]
        """
        left, right = max(map(len, prompts)), max(map(len, completions))
        ids = torch.full((len(prompts), left + right), pad)
        attention = torch.zeros_like(ids, dtype=torch.bool)
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            span = slice(left - len(prompt), left + len(completion))
            ids[row, span] = torch.tensor([*prompt, *completion])
            attention[row, span] = True
        return cls(ids, attention.long(), attention[:, left:].clone())

    @property
    def completions(self) -> Tensor:
        """Token ids (B, T) of the completions."""
        return self.input_ids[:, -self.mask.shape[1] :]

    @property
    def positions(self) -> Tensor:
        """Position ids (B, P + T) that do not count the padding."""
        return (self.attention_mask.cumsum(1) - 1).clamp(min=0)

    def take(self, rows: Tensor) -> Tokens:
        """The rows with these indices, without columns in which all of them are padding."""
        mask, attention = self.mask[rows], self.attention_mask[rows]
        left = self.attention_mask.shape[1] - self.mask.shape[1]
        first = int(attention.any(0).int().argmax())
        width = int(attention[:, left:].sum(1).max())  # of the longest completion
        span = slice(first, left + width)
        return Tokens(self.input_ids[rows, span], attention[:, span], mask[:, :width])

    def to(self, device: torch.device) -> Tokens:
        """The same on ``device``."""
        return Tokens(
            self.input_ids.to(device), self.attention_mask.to(device), self.mask.to(device)
        )

    @cached_property
    def packed(self) -> Packed:
        """The rows with their prompts shared: policy, reference and critic read the same ones."""
        return pack_rows(self._rows(), self.input_ids.device)

    def _rows(self) -> list[PackedRow]:
        """Of each row its prompt, the tokens after it, and the places of the chosen ones."""
        left = self.input_ids.shape[1] - self.mask.shape[1]
        there, mask = self.attention_mask.bool().cpu(), self.mask.cpu()
        prompts, answers = self.input_ids[:, :left].cpu(), self.completions.cpu()
        return [
            (
                prompts[at][there[at, :left]].tolist(),
                answers[at][there[at, left:]].tolist(),
                mask[at].nonzero()[:, 0].tolist(),
            )
            for at in range(len(mask))
        ]

    def by_row(self, flat: Tensor) -> Tensor:
        """``(B, T)`` of one value for each chosen token, row by row; zero outside the mask."""
        return flat.new_zeros(self.mask.shape).masked_scatter(self.mask, flat)


@dataclass(frozen=True)
class Scores:
    """Log-probs and values of a batch's chosen tokens, (B, T) in float32 or wider, 0 elsewhere.

    ``logps`` are those of the distribution that is sampled from, at its temperature. ``values`` is
    V of the state before each token, None without a critic. ``entropy`` (same distribution) is
    computed on request.
    """

    logps: Tensor
    values: Tensor | None
    entropy: Tensor | None = None


class ActorCritic(nn.Module):
    """The policy, and where an advantage needs one a critic, on a trunk of its own or the policy's.

    The value head is one linear layer. It starts at zero, so that the first advantages are rewards
    and not noise, or from the head of a reward model. The module never leaves eval mode: with
    dropout the old, the new and the reference log-probabilities would be of different models.
    """

    def __init__(
        self,
        policy: Any,
        critic: Any = None,
        head: Tensor | None = None,
        values: bool = True,
        adapter: str | None = None,
    ) -> None:
        """``critic``: a trunk (an ``AutoModel``) that is the value head's alone; None shares.

        ``head``: weights (1, H) that the value head starts from. ``values`` False: no value head.
        ``adapter``: the adapter of the policy's base that is the critic's own.
        """
        super().__init__()
        self.adapter = adapter
        self.policy = policy
        self.critic = critic
        self.value_head: nn.Linear | None = None
        if values:
            width = (critic or policy).config.get_text_config().hidden_size
            self.value_head = nn.Linear(width, 1)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
            if head is not None:
                self.value_head.weight.data.copy_(head)
        self.eval()

    def train(self, mode: bool = True) -> ActorCritic:
        """Stay in eval mode whatever ``mode`` is."""
        super().train(False)
        return self

    def forward(self, tokens: Tokens, temperature: float, entropy: bool = False) -> Scores:
        """Log-probs and values of the chosen tokens, and with ``entropy`` their entropies."""
        watched = ("entropy",) if entropy else ()
        # before the policy's pass: so the backward pass has freed that when this one runs again
        own = self._adapter_states(tokens)
        found, states = policy_scores(self.policy, tokens, temperature, watched)
        if self.value_head is None:
            return Scores(found["policy"], None, found.get("entropy"))
        if self.critic is not None:
            states = _states(self.critic, tokens)
        elif own is not None:
            states = own
        flat = self.value_head(states.to(self.value_head.weight.dtype)).squeeze(-1)
        values = tokens.by_row(flat.float() if flat.dtype.itemsize < 4 else flat)
        return Scores(found["policy"], values, found.get("entropy"))

    def _adapter_states(self, tokens: Tokens) -> Tensor | None:
        """The states under the critic's own adapter; None where it has none.

        The backward pass computes them again, after it is through with the policy's pass: memory
        for the activations of one model serves both.
        """
        if self.adapter is None:
            return None

        def states() -> Tensor:
            with only(self.policy, self.adapter):
                return _states(inner_model(self.policy).base_model, tokens)

        if not torch.is_grad_enabled():
            return states()
        again: Tensor = checkpoint(states, use_reentrant=False)
        return again

    def critic_parameters(self) -> list[nn.Parameter]:
        """The parameters of the critic alone: its trunk or adapter, if any, and the value head."""
        parts = (self.critic, self.value_head)
        own = [weight for part in parts if part is not None for weight in part.parameters()]
        return (
            own if self.adapter is None else [*adapter_parameters(self.policy, self.adapter), *own]
        )


def policy_scores(
    policy: Any, tokens: Tokens, temperature: float, watched: Sequence[str] = ()
) -> tuple[dict[str, Tensor], Tensor]:
    """Log-probs ``policy`` (B, T) at ``temperature`` with the ``watched`` statistics; the states.

    The LM head is evaluated in tiles on the N chosen tokens alone (`scoring.lm_head`). The states
    are the last hidden ones, (N, H), that predict them.
    """
    model = inner_model(policy)
    states = _states(model.base_model, tokens)
    head = Head.of(model, temperature)
    labels = tokens.completions[tokens.mask]
    flat = measure(Hidden(head.fitted(states), head), labels, watched=watched)
    return {name: tokens.by_row(values) for name, values in flat.items()}, states


def _states(trunk: Any, tokens: Tokens) -> Tensor:
    """Last hidden states (N, H) of a trunk at the positions that predict the chosen tokens.

    Where the trunk is prepared for it (`packing.share_prefixes`), completions of one prompt run it
    once, and padding is not run at all.
    """
    if shares_prefixes(trunk):
        return run_packed(trunk, tokens.packed)[tokens.packed.predicts]
    known = inspect.signature(type(trunk).forward).parameters
    inputs: dict[str, Any] = {
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
    }
    if "position_ids" in known:
        inputs["position_ids"] = tokens.positions
    if "use_cache" in known:
        inputs["use_cache"] = False
    return _before(trunk(**inputs).last_hidden_state, tokens)[tokens.mask]


def _before(states: Tensor, tokens: Tokens) -> Tensor:
    """States at the positions that predict the completions' tokens, one to the left of each."""
    return states[:, -tokens.mask.shape[1] - 1 : -1]


def trunk(model: str) -> tuple[Any, Tensor | None]:
    """The trunk of a model folder, and its head where it is a reward model's."""
    if not is_reward_model(model):
        return load_causal(model).base_model, None
    rated = load_reward(model)
    head = getattr(rated, "score", None)
    return rated.base_model, head.weight.detach() if isinstance(head, nn.Linear) else None


@contextlib.contextmanager
def reference_of(policy: Any, reference: Any | None) -> Iterator[Any]:
    """The frozen model that KL is measured to: ``reference``, or the policy without its adapter."""
    with torch.no_grad():
        if reference is not None:
            yield reference
        else:
            with only(policy, None):
                yield policy
