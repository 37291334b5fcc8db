"""Gate of a reward model: weights of its attributes by the prompt, fitted to preference pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import Count, Natural, Positive, Share, check_ranges
from siftune.finetune.reward_models.members import GATE

__all__ = ["CHARACTERS", "Gate", "GateOptions", "facts_of_gate", "length_penalty", "load_gate"]

CHARACTERS: Final = "characters"
"""Measure of an answer's length that is no attribute: ``log(1 + characters)``."""
_VERBOSITY: Final = "verbosity"
_HALVINGS: Final = 50


@dataclass(frozen=True)
class Gate:
    """``R = Σ_a g_a(x) (r_a - λ_a v)``, with ``g = softmax(MLP(h(x)) / temperature)``.

    ArmoRM, Wang et al. 2024, arXiv:2406.12845, section 2.2: ``h(x)`` is what the head reads at the
    end of the prompt alone, so the weights of an answer are those of every answer to its prompt.
    ``r_a`` are the model's outputs, ``v`` is the answer's length, itself an output where there is
    one for it, and λ_a of equation 4 takes the correlation with it out of each output: of the
    length itself λ is 1, so it is no part of R, as in the authors' code.
    ``scale`` (their β) fits differences of R to log-odds in the training, and is no part of R.
    """

    names: tuple[str, ...]
    length: str  # an attribute, or CHARACTERS
    penalties: Tensor  # (K,): λ
    mean: Tensor  # (H,) of the states of training prompts
    deviation: Tensor  # (H,)
    layers: tuple[tuple[Tensor, Tensor], ...]  # weight and bias of each
    temperature: float
    scale: float

    def weights(self, prompts: Tensor) -> Tensor:
        """Weights of the attributes, ``(N, K)``, of prompts by their states ``(N, H)``."""
        return _weights(self.layers, (prompts - self.mean) / self.deviation, self.temperature)

    def adjusted(self, ratings: Tensor, chars: Tensor) -> Tensor:
        """The outputs ``(N, K)`` without what length explains; ``chars`` ``(N,)`` are theirs."""
        long = lengths_of(self.names, self.length, ratings, chars)
        return ratings - self.penalties * long[..., None]

    def totals(self, prompts: Tensor, ratings: Tensor, chars: Tensor) -> Tensor:
        """The reward of each answer, ``(N,)``."""
        return (self.weights(prompts) * self.adjusted(ratings, chars)).sum(-1)

    def save(self, folder: Path) -> None:
        """Write the file beside a model."""
        from safetensors.torch import save_file

        held = {
            "penalties": self.penalties,
            "mean": self.mean,
            "deviation": self.deviation,
            "numbers": torch.tensor([self.temperature, self.scale]),
        }
        for at, (weight, bias) in enumerate(self.layers):
            held |= {f"weight_{at}": weight, f"bias_{at}": bias}
        plain = {name: value.detach().float().contiguous() for name, value in held.items()}
        save_file(plain, folder / GATE, {"names": "\n".join(self.names), "length": self.length})


def load_gate(folder: str | Path) -> Gate:
    """The gate that a model folder holds.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / GATE
    if not path.is_file():
        raise UsageError(
            f"{folder} has no {GATE}: train it with `siftune finetune reward --objective "
            "attributes --gate PAIRS`"
        )
    try:
        with safe_open(path, "pt") as file:
            stated = dict(file.metadata() or {})
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        names, length = tuple(stated["names"].split("\n")), stated["length"]
        count = sum(name.startswith("weight_") for name in held)
        layers = tuple((held[f"weight_{at}"], held[f"bias_{at}"]) for at in range(count))
        temperature, scale = held["numbers"].tolist()
        penalties, mean, deviation = (held[one] for one in _VECTORS)
        gate = Gate(names, length, penalties, mean, deviation, layers, temperature, scale)
        _check(gate)
    except (KeyError, ValueError, IndexError, OSError, SafetensorError) as error:
        raise UsageError(f"{path} is damaged ({error}): train the reward model again") from None
    return gate


_VECTORS: Final = ("penalties", "mean", "deviation")


def _check(gate: Gate) -> None:
    """Refuse numbers that are not finite, and layers that do not fit together.

    Raises:
        ValueError: there are some.
    """
    tensors = (gate.penalties, gate.mean, gate.deviation, *sum(gate.layers, ()))
    if not all(bool(one.isfinite().all()) for one in tensors):
        raise ValueError("numbers that are not finite")
    if gate.length not in (CHARACTERS, *gate.names):
        raise ValueError(f"no attribute is called {gate.length}")
    width = len(gate.mean)
    for weight, bias in gate.layers:
        if weight.shape != (len(bias), width):
            raise ValueError("its layers do not fit together")
        width = len(bias)
    if width != len(gate.names) or len(gate.penalties) != width:
        raise ValueError(f"expected {len(gate.names)} weights, found {width}")


@dataclass(frozen=True)
class GateOptions:
    """Training of a `Gate` with the reward model as it is, its backbone and head frozen.

    The loss is ``-log σ(β (R_chosen - R_rejected))`` with β learned. Defaults are those of the
    authors' code but for ``hidden``, 1,024 there, where there are more prompts than most have here.
    States of prompts are standardised, which it leaves out.

    Options:
        length: Attribute whose output measures the length of an answer, or characters; by default
            verbosity where there is such an attribute.
        hidden: Units of each hidden layer.
        layers: Number of hidden layers; 0 makes the weights' logits linear in the prompt's state.
        steps: Number of optimizer steps.
        batch_size: Pairs of a step, drawn with replacement.
        lr: Learning rate, which falls along a cosine.
        temperature: Number that logits are divided by before the softmax.
        dropout: Share of hidden units that are dropped in training.
    """

    length: str = ""
    hidden: Count = 64
    layers: Natural = 3
    steps: Count = 2_000
    batch_size: Count = 1_024
    lr: Positive = 1e-3
    temperature: Positive = 10.0
    dropout: Share = 0.2

    def __post_init__(self) -> None:
        check_ranges(self)

    def length_in(self, names: Sequence[str]) -> str:
        """The measure of length for attributes of these ``names``.

        Raises:
            UsageError: ``length`` is none of them.
        """
        chosen = self.length or (_VERBOSITY if _VERBOSITY in names else CHARACTERS)
        if chosen not in (CHARACTERS, *names):
            raise UsageError(
                f"gate_options: length: expected {CHARACTERS} or one of the attributes, "
                f"{', '.join(names)}, got {chosen}"
            )
        return chosen

    def fit(
        self, names: Sequence[str], prompts: Tensor, ratings: Tensor, chars: Tensor, seed: int = 0
    ) -> Gate:
        """The gate of N pairs: states ``(N, H)``, ``ratings`` ``(N, 2, K)``, chosen first.

        ``chars`` ``(N, 2)`` are the lengths of the answers in characters.

        Raises:
            DataError: an output of the model is not finite.
        """
        prompts, ratings, chars = prompts.float(), ratings.float(), chars.float()
        if not (bool(ratings.isfinite().all()) and bool(prompts.isfinite().all())):
            raise DataError("gate: an output of the reward model is not finite")
        length = self.length_in(names)
        long = lengths_of(names, length, ratings, chars)
        penalties = torch.tensor(
            [
                1.0
                if name == length
                else length_penalty(ratings[..., at].flatten(), long.flatten())
                for at, name in enumerate(names)
            ]
        )
        gaps = ratings - penalties * long[..., None]
        mean, deviation = prompts.mean(0), prompts.std(0, correction=0)
        deviation = torch.where(deviation > 0, deviation, 1.0)
        layers, scale = self._trained((prompts - mean) / deviation, gaps[:, 0] - gaps[:, 1], seed)
        return Gate(
            tuple(names), length, penalties, mean, deviation, layers, self.temperature, scale
        )

    def _trained(
        self, states: Tensor, gaps: Tensor, seed: int
    ) -> tuple[tuple[tuple[Tensor, Tensor], ...], float]:
        """The layers and β of standardised ``states`` and the adjusted differences ``gaps``."""
        sizes = [states.shape[1], *[self.hidden] * self.layers, gaps.shape[1]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = [torch.nn.Linear(one, two) for one, two in pairwise(sizes)]
            log_scale = torch.zeros((), requires_grad=True)
            layers = tuple((one.weight, one.bias) for one in made)
            learned = [*sum(layers, ()), log_scale]
            optimizer = torch.optim.AdamW(learned, lr=self.lr, weight_decay=0.0)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            for _ in range(self.steps):
                drawn = torch.randint(len(states), (min(self.batch_size, len(states)),))
                weights = _weights(layers, states[drawn], self.temperature, self.dropout)
                margin = log_scale.exp() * (weights * gaps[drawn]).sum(-1)
                loss = -F.logsigmoid(margin).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return tuple((w.detach(), b.detach()) for w, b in layers), float(log_scale.detach().exp())


def lengths_of(names: Sequence[str], length: str, ratings: Tensor, chars: Tensor) -> Tensor:
    """The length of each answer, by the attribute ``length`` of ``ratings`` or by characters."""
    if length == CHARACTERS:
        return chars.to(ratings).log1p()
    return ratings[..., list(names).index(length)]


def length_penalty(ratings: Tensor, lengths: Tensor) -> float:
    """λ ≥ 0 with which ``ratings - λ lengths`` and ``lengths`` are not correlated by rank.

    Equation 4 of arXiv:2406.12845, whose correlation is Spearman's. Each exchange of ranks that a
    larger λ makes puts a longer answer below a shorter one, so the correlation falls with λ, and
    the smallest λ without a positive one is found by halving. It is 0 where there is none to start
    with, as in the authors' code: length is not rewarded either.

    >>> length_penalty(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([4.0, 3.0, 2.0, 1.0]))
    0.0
    >>> lengths = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> rest = torch.tensor([0.0, 1.0, -1.0, 1.0, 0.0])
    >>> found = length_penalty(2 * lengths + rest, lengths)
    >>> 1.9 < found < 2.1
    True
    """
    first, second = ratings.double().numpy(), lengths.double().numpy()
    if np.ptp(second) == 0 or _rank_correlation(first, second) <= 0:
        return 0.0
    high = float(np.ptp(first) / np.ptp(second)) or 1.0
    for _ in range(_HALVINGS):
        if _rank_correlation(first - high * second, second) <= 0:
            break
        high *= 2
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _rank_correlation(first - middle * second, second) <= 0:
            high = middle
        else:
            low = middle
    return high


def _rank_correlation(first: Any, second: Any) -> float:
    """Spearman's; 0 where all of ``first`` are equal."""
    from scipy.stats import rankdata

    one, two = rankdata(first), rankdata(second)
    if np.ptp(one) == 0:
        return 0.0
    return float(np.corrcoef(one, two)[0, 1])


def _weights(
    layers: Sequence[tuple[Tensor, Tensor]],
    states: Tensor,
    temperature: float,
    dropout: float = 0.0,
) -> Tensor:
    """Softmax of a perceptron with ReLU; ``dropout`` is for the training."""
    for at, (weight, bias) in enumerate(layers):
        if at:
            states = F.dropout(states.relu(), dropout, training=dropout > 0)
        states = F.linear(states, weight, bias)
    return (states / temperature).softmax(-1)


def facts_of_gate(gate: Gate, prompts: Tensor) -> Mapping[str, Any]:
    """λ and the mean weight of each attribute over ``prompts``, for the facts of a model."""
    means = gate.weights(prompts).mean(0)
    return {
        "length": gate.length,
        "penalties": dict(zip(gate.names, gate.penalties.tolist(), strict=True)),
        "weights": dict(zip(gate.names, means.tolist(), strict=True)),
        "scale": gate.scale if math.isfinite(gate.scale) else None,
    }
