"""The policy that minimises a loss on a bandit, compared with known closed forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin, get_type_hints

import torch

from siftune.curate.core import registry
from siftune.finetune.losses.types import PairObjective, needs_of
from siftune.finetune.oracles.bandit import COLUMNS, TOKENS, Bandit, kl, land
from siftune.finetune.oracles.random_batches import log_probs, pairs_of

__all__ = [
    "OPTIMA",
    "Draw",
    "Landing",
    "Optimum",
    "distance",
    "landing",
    "nearest",
    "no_bandit",
]

Optimum: TypeAlias = Literal[
    "reference",
    "boltzmann",
    "least_squares",
    "no_reference",
    "winners",
    "length_priced",
    "per_token",
]

OPTIMA: Final[Mapping[Optimum, str]] = {
    "reference": "π_ref: it stays where it is",
    "boltzmann": "π_ref · exp(r / b)",
    "least_squares": "π_ref · exp(u / b), u the least-squares fit of 2p - 1",
    "no_reference": "exp(r / b), the reference forgotten",
    "winners": "the law of the chosen responses",
    "length_priced": "π_ref · exp((r - a · length) / b)",
    "per_token": "π_ref · exp(length · (u / b + c)), u as above",
}
"""The closed forms, the plainer ones first."""

EXACT: Final = 1e-4
"""Nats by which no log-prob may be off, for a policy to be at an optimum: KL far below 1e-6."""

_LOSSES: Final = "finetune.losses.pair"


Made: TypeAlias = Callable[[Any, torch.Tensor], Any]
Near: TypeAlias = tuple[str, float]


@dataclass(frozen=True)
class Draw:
    """A random batch: log-probs of the policy, and how they become the batch of a loss."""

    policy: torch.Tensor
    made: Made


@dataclass(frozen=True)
class Landing:
    """The policy found: its form, the form's ``b`` and ``a``, and the worst log-prob's distance.

    ``form`` is None where no known form is within `EXACT`. ``to_boltzmann`` is the KL in nats to
    ``π_ref · exp(r / β)`` with the loss's own β; None for a loss without one.
    """

    form: Optimum | None
    distance: float
    scale: float | None
    price: float | None
    to_boltzmann: float | None


def no_bandit(loss: PairObjective) -> str | None:
    """Why a loss cannot be minimised on a bandit; None where it can."""
    needs = needs_of(loss)
    if needs.couples_batch:
        return "couples_batch: it has no loss of a population"
    strange = [name for name in needs.tokens if name not in TOKENS]
    strange += [name for name in needs.columns if name not in COLUMNS]
    return f"a bandit has no {strange[0]}" if strange else None


def landing(loss: PairObjective, seed: int = 0) -> Landing:
    """Train the policy of a bandit of seven responses, of 1 to 6 tokens, to the end under ``loss``.

    Labels are Bradley–Terry by the true rewards.
    """
    bandit = Bandit.draw(size=7, seed=seed, scale=0.5, longest=6)
    found = land(loss, bandit)
    beta = getattr(loss, "beta", None)
    told = kl(found, bandit.optimum(beta)) if isinstance(beta, float | int) and beta else None
    fits = {form: _fit(form, bandit, found) for form in OPTIMA}
    near = [form for form, (worst, *_) in fits.items() if worst < EXACT]
    form = near[0] if near else min(fits, key=lambda name: fits[name][0])
    worst, scale, price = fits[form]
    return Landing(form if near else None, worst, scale, price, told)


def _fit(
    form: Optimum, bandit: Bandit, found: torch.Tensor
) -> tuple[float, float | None, float | None]:
    """How far the policy found is from the nearest of the form, its b and its a."""
    if form == "reference":
        return _worst(found, bandit.ref), None, None
    if form == "winners":
        chosen = (bandit.weight * bandit.wins).fill_diagonal_(0).sum(1)
        return _worst(found, (chosen / chosen.sum()).log()), None, None
    worth = bandit.reward if form in _BY_REWARD else (2 * bandit.wins - 1).mean(1)
    start = torch.zeros_like(found) if form == "no_reference" else bandit.ref
    each = bandit.length if form == "per_token" else torch.ones_like(found)
    features = [each * worth, each]
    if form == "length_priced":
        features.append(bandit.length)
    table = torch.stack(features, 1)
    weights = torch.linalg.lstsq(table, (found - start)[:, None]).solution.squeeze(1)
    slope = float(weights[0])
    price = -float(weights[2]) / slope if form == "length_priced" and slope else None
    worst = _worst(found, (start + table @ weights).log_softmax(0))
    return worst, 1 / slope if slope else None, price


def _worst(found: torch.Tensor, target: torch.Tensor) -> float:
    return float((found - target).abs().max())


_BY_REWARD: Final = ("boltzmann", "length_priced", "no_reference")


def nearest(loss: Any, groups: Sequence[str] = (_LOSSES,), draw: Draw | None = None) -> Near:
    """The objective of the registry's ``groups`` that is nearest to a loss, and its `distance`.

    Each is built with the β of ``loss`` and with its own, and in each of its named variants.
    """
    beta = getattr(loss, "beta", None)
    others = (each for group in groups for each in _known(group, beta))
    found = {name: distance(loss, other, draw) for name, other in others}
    name = min(found, key=lambda key: found[key])
    return name, found[name]


def distance(loss: Any, other: Any, draw: Draw | None = None) -> float:
    """How far apart two losses are on a random batch, in value or in gradient, whichever is more.

    It is the greatest difference, relative to the first's largest; ``draw`` is a batch of their
    family, by default of pairs. Losses of one value may teach different things: where a part is
    detached only the gradient tells.
    """
    draw = draw or _pairs()
    both = zip(_values(loss, draw), _values(other, draw), strict=True)
    return max(
        float((theirs - own).abs().max()) / (float(own.abs().max()) or 1.0) for own, theirs in both
    )


def _values(loss: Any, draw: Draw) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's loss, and the gradient of their sum by the policy's log-probs."""
    policy = draw.policy.clone().requires_grad_()
    value = loss(draw.made(loss, policy)).loss
    (slope,) = torch.autograd.grad(value.sum(), policy)
    return value.detach(), slope


def _pairs() -> Draw:
    policy, reference = log_probs(seed=7, scale=4.0)
    return Draw(policy, lambda loss, given: pairs_of(loss, given, reference))


def _known(group: str, beta: Any) -> Iterator[tuple[str, Any]]:
    for name in registry.names(group):
        for label, options in _variants(registry.find(group, name)):
            yield f"{name}{label}", registry.build(group, name, options)
            if beta is not None and "beta" in registry.options(registry.find(group, name)):
                given = {**options, "beta": beta}
                yield f"{name}{label} (beta={beta:g})", registry.build(group, name, given)


def _variants(component: type[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The values of each option that is a choice of words, one at a time."""
    yield "", {}
    hints = get_type_hints(component)
    for field in dataclasses.fields(component):
        if get_origin(hints[field.name]) is Literal:
            for word in get_args(hints[field.name]):
                if word != field.default:
                    yield f" ({field.name}={word})", {field.name: word}
