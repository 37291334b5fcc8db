"""A policy and its critic as one module, the log-probabilities of what it wrote, its reference."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from siftune.finetune.models.loading import is_reward_model, load_causal, load_reward
from siftune.finetune.rl.padded_batch import Tokens

__all__ = [
    "ActorCritic",
    "Scores",
    "adapted",
    "policy_scores",
    "reference_of",
    "trunk",
]


@dataclass(frozen=True)
class Scores:
    """What the models say of a batch's completions, each (B, T) in float32 or wider.

    ``logps`` and ``entropy`` are those of the distribution that is sampled from, at its
    temperature. ``values`` is V of the state before each token. Outside the mask they mean nothing.
    """

    logps: Tensor
    entropy: Tensor
    values: Tensor


class ActorCritic(nn.Module):
    """The policy, and a critic with a trunk of its own or the policy's.

    The value head is one linear layer. It starts at zero, so that the first advantages are rewards
    and not noise, or from the head of a reward model. The module never leaves eval mode: with
    dropout the old, the new and the reference log-probabilities would be of different models.
    """

    def __init__(self, policy: Any, critic: Any = None, head: Tensor | None = None) -> None:
        """``critic``: a trunk (an ``AutoModel``) that is the value head's alone; None shares.

        ``head``: weights (1, H) that the value head starts from.
        """
        super().__init__()
        self.policy = policy
        self.critic = critic
        self.value_head = nn.Linear((critic or policy).config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        if head is not None:
            self.value_head.weight.data.copy_(head)
        self.eval()

    def train(self, mode: bool = True) -> ActorCritic:
        """Stay in eval mode, whatever is asked."""
        super().train(False)
        return self

    def forward(self, tokens: Tokens, temperature: float) -> Scores:
        """Log-probabilities, entropies and values of the completions' tokens."""
        shared = self.critic is None
        logps, entropy, hidden = policy_scores(self.policy, tokens, temperature, shared)
        if self.critic is not None:
            states = self.critic(**_inputs(self.critic, tokens)).last_hidden_state
            hidden = _before(states, tokens)
        values = self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1)
        return Scores(logps, entropy, values.float() if values.dtype.itemsize < 4 else values)

    def critic_parameters(self) -> list[nn.Parameter]:
        """What the critic alone owns: its trunk, if it has one, and the value head."""
        trunk = [] if self.critic is None else list(self.critic.parameters())
        return [*trunk, *self.value_head.parameters()]


def policy_scores(
    policy: Any, tokens: Tokens, temperature: float, hidden: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs and entropies (B, T) at ``temperature``; last hidden states (B, T, H) if asked."""
    inputs = _inputs(policy, tokens)
    if "logits_to_keep" in _parameters(policy):
        inputs["logits_to_keep"] = tokens.mask.shape[1] + 1
    output = policy(**inputs, output_hidden_states=hidden)
    logits = _before(output.logits, tokens)
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    log_softmax = torch.log_softmax(logits / temperature, -1)
    logps = log_softmax.gather(-1, tokens.completions.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        entropy = -(log_softmax.exp() * log_softmax).sum(-1)
    return logps, entropy, _before(output.hidden_states[-1], tokens) if hidden else logits[:0]


def _before(states: Tensor, tokens: Tokens) -> Tensor:
    """States at the positions that predict the completions' tokens, one to the left of each."""
    return states[:, -tokens.mask.shape[1] - 1 : -1]


def _inputs(model: Any, tokens: Tokens) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
    }
    known = _parameters(model)
    if "position_ids" in known:
        inputs["position_ids"] = tokens.positions
    if "use_cache" in known:
        inputs["use_cache"] = False
    return inputs


def _parameters(model: Any) -> set[str]:
    """Names of what the architecture's own forward takes, under an adapter too."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return set(inspect.signature(type(base).forward).parameters)


def adapted(policy: Any, rank: int, alpha: int, seed: int) -> Any:
    """``policy``, frozen, with trainable low-rank adapters on linear layers (arXiv:2106.09685)."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # peft's
        torch.manual_seed(seed)
        return get_peft_model(policy, config)


def trunk(model: str) -> tuple[Any, Tensor | None]:
    """The trunk of a model folder, and its head where it is a reward model's."""
    if not is_reward_model(model):
        return load_causal(model).base_model, None
    rated = load_reward(model)
    head = getattr(rated, "score", None)
    return rated.base_model, head.weight.detach() if isinstance(head, nn.Linear) else None


@contextlib.contextmanager
def reference_of(policy: Any, reference: Any | None) -> Iterator[Any]:
    """The frozen model that KL is measured to: ``reference``, or the policy less its adapter."""
    with torch.no_grad():
        if reference is not None:
            yield reference
        else:
            with policy.disable_adapter():
                yield policy
