"""A language model so small that all of its answers are listed: exact laws, values, gradients.

Vocabulary of four, the first token ends an answer, the longest answer is of two or three tokens:
13 or 40 answers. What is computed here reads the model's plain logits, and none of our code.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

__all__ = ["END", "PROMPT", "World", "all_answers", "language_model", "relative"]

END, VOCABULARY = 0, 4
PROMPT = (1, 2)


def all_answers(longest: int, end: int = END, vocabulary: int = VOCABULARY) -> list[list[int]]:
    """Every completion: those that come to the end token, and those that are cut."""
    done, open_ones = [], [[token] for token in range(vocabulary)]
    for length in range(1, longest + 1):
        done += [s for s in open_ones if s[-1] == end or length == longest]
        still = [s for s in open_ones if s[-1] != end]
        open_ones = [[*s, token] for s in still for token in range(vocabulary)]
    return done


def language_model(seed: int, uniform: bool = False) -> Any:
    """A Llama of one layer in float64; ``uniform``: it gives every token a quarter."""
    model = copy.deepcopy(_random_model(seed))
    if uniform:
        torch.nn.init.zeros_(model.lm_head.weight)
    return model


@cache
def _random_model(seed: int) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.5,
        eos_token_id=END,
        bos_token_id=1,
        pad_token_id=3,
    )
    return LlamaForCausalLM(config).double().eval()


def relative(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The norm of the difference, relative to what is wanted."""
    one, other = (torch.cat([part.double().flatten() for part in each]) for each in (found, wanted))
    return float((one - other).norm() / other.norm())


@dataclass
class World:
    """A policy, its reference, and all answers with their scores."""

    policy: Any
    reference: Any
    longest: int = 2
    temperature: float = 1.0
    scores: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers = all_answers(self.longest)
        if not self.scores:
            generator = torch.Generator().manual_seed(5)
            self.scores = torch.randn(len(self.answers), generator=generator).tolist()

    def token_logps(self, model: Any) -> list[Tensor]:
        """The log-prob of each token of each answer, with gradients."""
        width = self.longest
        ids = [[*PROMPT, *answer, *[1] * (width - len(answer))] for answer in self.answers]
        logits = model(torch.tensor(ids)).logits[:, len(PROMPT) - 1 : -1]
        logps = torch.log_softmax(logits / self.temperature, -1)
        return [
            torch.stack([logps[at, t, token] for t, token in enumerate(answer)])
            for at, answer in enumerate(self.answers)
        ]

    def law(self, model: Any) -> Tensor:
        """The log-prob of each answer."""
        return torch.stack([each.sum() for each in self.token_logps(model)])

    def optimum(self, beta: float) -> Tensor:
        """Log-probs of ``π_ref · exp(r / β)``."""
        with torch.no_grad():
            return (self.law(self.reference) + torch.tensor(self.scores) / beta).log_softmax(0)

    def objective(self, beta: float) -> Tensor:
        """``E[r] - β KL(π ‖ π_ref)``, with its gradient in the policy's weights."""
        ours = self.law(self.policy)
        with torch.no_grad():
            theirs = self.law(self.reference)
        return (ours.exp() * (torch.tensor(self.scores).double() - beta * (ours - theirs))).sum()

    def gradient(self, value: Tensor) -> list[Tensor]:
        """Of a number in the policy's weights."""
        found = torch.autograd.grad(value, list(self.policy.parameters()), allow_unused=True)
        pairs = zip(found, self.policy.parameters(), strict=True)
        return [torch.zeros_like(weight) if one is None else one for one, weight in pairs]

    def atoms(self) -> list[int]:
        """Answers by number, each as often as a uniform policy says it; equally likely each."""
        return [
            at
            for at, answer in enumerate(self.answers)
            for _ in range(VOCABULARY ** (self.longest - len(answer)))
        ]

    def groups(self, size: int) -> list[int]:
        """All groups of ``size`` answers of a uniform policy, one after another, equally likely."""
        return [at for group in itertools.product(self.atoms(), repeat=size) for at in group]

    def values(self, critic: Any, head: Tensor) -> list[Tensor]:
        """The critic's value before each token of each answer, with gradients."""
        ids = [[*PROMPT, *answer, *[1] * (self.longest - len(answer))] for answer in self.answers]
        states = critic(torch.tensor(ids)).last_hidden_state[:, len(PROMPT) - 1 : -1]
        return [
            states[at, : len(answer)] @ head.flatten() for at, answer in enumerate(self.answers)
        ]
