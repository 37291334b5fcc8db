"""LM head evaluated in tiles over tokens: log-probs and statistics without the full logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import torch
from torch.utils.checkpoint import checkpoint

from siftune.finetune.scoring.chunked_logps import label_logps, normalised

__all__ = [
    "LOGITS",
    "STATISTICS",
    "TILE",
    "Head",
    "Hidden",
    "measure",
    "of_both",
]

_Measured: TypeAlias = Callable[..., torch.Tensor]


def _entropy(policy: torch.Tensor, _: torch.Tensor | None, __: torch.Tensor) -> torch.Tensor:
    return -(policy.exp() * policy).sum(-1)


def _log_sum_squares(
    policy: torch.Tensor, _: torch.Tensor | None, __: torch.Tensor
) -> torch.Tensor:
    return torch.logsumexp(2 * policy, -1)


def _kl(policy: torch.Tensor, reference: torch.Tensor | None, _: torch.Tensor) -> torch.Tensor:
    return (policy.exp() * (policy - _given(reference))).sum(-1)


def _ref_kl(policy: torch.Tensor, reference: torch.Tensor | None, _: torch.Tensor) -> torch.Tensor:
    reference = _given(reference)
    return (reference.exp() * (reference - policy)).sum(-1)


def _jsd(
    policy: torch.Tensor, reference: torch.Tensor | None, _: torch.Tensor, beta: float = 0.5
) -> torch.Tensor:
    reference = _given(reference)
    mixed = torch.logaddexp(reference + math.log(beta), policy + math.log1p(-beta))
    of_reference = (reference.exp() * (reference - mixed)).sum(-1)
    return beta * of_reference + (1 - beta) * (policy.exp() * (policy - mixed)).sum(-1)


def _top1(policy: torch.Tensor, _: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
    return (policy.argmax(-1) == labels).to(policy.dtype)


STATISTICS: Final[Mapping[str, _Measured]] = {
    "entropy": _entropy,
    "log_sum_squares": _log_sum_squares,
    "top1": _top1,
    "kl": _kl,
    "ref_kl": _ref_kl,
    "jsd": _jsd,
}
"""What is read off a token's whole distribution: log-softmaxes ``(N, V)``, labels ``(N,)`` to (N,).

``entropy``; ``log_sum_squares`` = log Σ p²; ``top1`` = 1 where the label is the likeliest token;
``kl`` = KL(π ‖ π_ref); ``ref_kl`` = KL(π_ref ‖ π); ``jsd`` = β KL(π_ref ‖ m) + (1 - β) KL(π ‖ m)
with m = β π_ref + (1 - β) π, β being .5 or, as in ``jsd:0.1``, named. In nats, and with gradients
to the policy.
"""

_NEED_REFERENCE: Final = ("kl", "ref_kl", "jsd")


def of_both(names: Iterable[str]) -> list[str]:
    """Those of the statistics that are of the reference's whole distribution too, sorted."""
    return sorted(name for name in {*names} if name.partition(":")[0] in _NEED_REFERENCE)


def _measured(
    name: str, policy: torch.Tensor, reference: torch.Tensor | None, labels: torch.Tensor
) -> torch.Tensor:
    """The statistic of a name, which may have a number after a colon."""
    kind, _, number = name.partition(":")
    return STATISTICS[kind](policy, reference, labels, *([float(number)] if number else []))


def _given(reference: torch.Tensor | None) -> torch.Tensor:
    if reference is None:
        raise TypeError("a KL needs the reference's hidden states")
    return reference


LOGITS: Final = "logits"
"""Watched by this name: the mean over the vocabulary of a token's logits, as TRL shows it."""

TILE: Final = 128
"""Tokens whose logits exist at the same time."""


@dataclass(frozen=True)
class Head:
    """The LM head with scale, softcap and temperature: hidden states to the model's logits."""

    project: torch.nn.Module
    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0

    @classmethod
    def of(cls, model: Any, temperature: float = 1.0, adapter: bool = True) -> Head:
        """The head of a causal model; ``adapter=False`` leaves out an adapter on it."""
        config = model.config.get_text_config()
        project = model.get_output_embeddings()
        if not adapter:
            project = getattr(project, "base_layer", getattr(project, "original_module", project))
        return cls(
            project, _scale(config), getattr(config, "final_logit_softcapping", None), temperature
        )

    @property
    def factor(self) -> float | None:
        """``c`` where logits are ``c · h Wᵀ``; None for another head."""
        plain = type(self.project) is torch.nn.Linear and self.project.bias is None
        return self.scale / self.temperature if plain and self.softcap is None else None

    @torch.no_grad()
    def mean_logits(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """Means over the vocabulary ``(N,)`` of the logits of ``(N, H)``, without the logits.

        The mean of a matrix' rows stands for all of them. None where logits are more than that.
        """
        if type(self.project) is not torch.nn.Linear or self.softcap is not None:
            return None
        mean = hidden.float() @ self.project.weight.float().mean(0)
        if self.project.bias is not None:
            mean = mean + self.project.bias.float().mean()
        return mean * (self.scale / self.temperature)

    def fitted(self, states: torch.Tensor) -> torch.Tensor:
        """``states`` in the number format of the head, where a family leaves them in a wider one.

        Mamba has float32 between its layers in bf16 too.
        """
        wanted = getattr(self.project.weight, "dtype", states.dtype)
        narrow = wanted in (torch.float16, torch.bfloat16) and states.dtype == torch.float32
        return states.to(wanted) if narrow else states

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, V)`` of hidden states ``(N, H)``, in float32 or wider."""
        logits: torch.Tensor = self.project(hidden)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits if self.temperature == 1.0 else logits / self.temperature


def _scale(config: Any) -> float:
    """The factor of a model's logits, which families configure under several names."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        value = getattr(config, name, None)
        if value is not None:
            return float(value)
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1 / float(divisor)


@dataclass(frozen=True)
class Hidden:
    """Hidden states ``(N, H)`` that predict the N tokens of a batch's answers, and their head."""

    states: torch.Tensor
    head: Head


def measure(
    policy: Hidden,
    labels: torch.Tensor,
    statistics: Sequence[str] = (),
    reference: Hidden | None = None,
    watched: Sequence[str] = (),
    tile: int = TILE,
) -> dict[str, torch.Tensor]:
    """``policy`` and, where there is a reference, ``reference``: log-probs ``(N,)`` of ``labels``.

    With them each of ``statistics`` (names in `STATISTICS`), all in one pass over tiles of ``tile``
    tokens, whose logits are not kept for the backward pass (but see `scoring.chunked_logps`). The
    reference carries no gradient, nor do the statistics that are only ``watched``, which cost less
    for it; `LOGITS` can be watched too.
    """
    kept = tuple(dict.fromkeys(statistics))
    seen = tuple(name for name in dict.fromkeys(watched) if name not in (*kept, LOGITS))
    aside = _Aside(reference, labels, seen)
    factor = policy.head.factor
    if factor is None or kept or torch.is_autocast_enabled(labels.device.type):
        found = _by_tiles(policy, labels, kept, aside, tile)
    else:
        weight: Any = policy.head.project.weight
        look = aside if aside.looks else None
        found = {"policy": label_logps(policy.states, weight, labels, factor, tile, look)}
    found |= {name: torch.cat(parts) for name, parts in aside.found.items()}
    means = policy.head.mean_logits(policy.states) if LOGITS in watched else None
    return found if means is None else {**found, LOGITS: means}


@dataclass(frozen=True)
class _Aside:
    """Statistics and reference log-probs without gradient, computed tile by tile."""

    reference: Hidden | None
    labels: torch.Tensor
    watched: tuple[str, ...]
    found: dict[str, list[torch.Tensor]] = field(default_factory=dict)

    @property
    def looks(self) -> bool:
        """Whether there is anything to compute."""
        return self.reference is not None or bool(self.watched)

    @torch.no_grad()
    def __call__(self, part: slice, log_policy: torch.Tensor) -> None:
        """Compute them for the tokens ``part``, whose log-probs are ``log_policy`` ``(n, V)``."""
        labels = self.labels[part]
        log_ref = None if self.reference is None else _log_probs(self.reference, part)
        if log_ref is not None:
            self.found.setdefault("reference", []).append(_chosen(log_ref, labels))
        for name in self.watched:
            self.found.setdefault(name, []).append(_measured(name, log_policy, log_ref, labels))


def _by_tiles(
    policy: Hidden, labels: torch.Tensor, statistics: tuple[str, ...], aside: _Aside, tile: int
) -> dict[str, torch.Tensor]:
    """Any head and statistics with gradient: the backward pass runs each tile again."""
    grad = torch.is_grad_enabled() and _trains(policy)
    parts = []
    for start in range(0, len(labels), tile):
        one = _Tile(policy.head, labels, slice(start, start + tile), statistics, aside)
        states = policy.states[one.part]
        parts.append(one.twice(states) if grad else one(states))
    names = ["policy", *statistics]
    return dict(zip(names, map(torch.cat, zip(*parts, strict=True)), strict=True))


def _trains(hidden: Hidden) -> bool:
    weights = hidden.head.project.parameters()
    return hidden.states.requires_grad or any(weight.requires_grad for weight in weights)


@dataclass
class _Tile:
    """Log-probs and statistics of a few tokens from their hidden states."""

    head: Head
    labels: torch.Tensor  # of all tokens
    part: slice
    statistics: tuple[str, ...]
    aside: _Aside
    seen: bool = False

    def twice(self, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Like a call, but logits are not kept: the backward pass computes them again."""
        found: tuple[torch.Tensor, ...] = checkpoint(
            self, states, use_reentrant=False, preserve_rng_state=False
        )
        return found

    def __call__(self, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        log_policy = normalised(self.head.logits(states))
        if not self.seen and self.aside.looks:  # the second pass is for gradients alone
            self.aside(self.part, log_policy.detach())
        self.seen = True
        labels = self.labels[self.part]
        log_ref = self._log_ref()
        taken = [_measured(name, log_policy, log_ref, labels) for name in self.statistics]
        return (_chosen(log_policy, labels), *taken)

    @torch.no_grad()
    def _log_ref(self) -> torch.Tensor | None:
        reference = self.aside.reference
        if reference is None or not of_both(self.statistics):
            return None
        return _log_probs(reference, self.part)


def _log_probs(hidden: Hidden, part: slice) -> torch.Tensor:
    return normalised(hidden.head.logits(hidden.states[part]))


def _chosen(log_probs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return log_probs.gather(1, labels[:, None])[:, 0]
