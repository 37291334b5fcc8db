"""Log-probabilities of completions, in tiles: the logits of a batch never exist all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from types import MethodType
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from finetune.packing import pack, run_packed, shares_prefixes
from finetune.token_statistics import NEED_REFERENCE, STATISTICS

__all__ = [
    "Head",
    "Hidden",
    "answer_with_scores",
    "check_head",
    "measure",
    "read_answers",
    "score_answers",
]

TILE: Final = 128
"""Tokens whose logits exist at the same time; twice in training, as they are computed again."""


@dataclass(frozen=True)
class Head:
    """The way from hidden states to logits, as the model's own forward goes it."""

    project: torch.nn.Module
    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0

    @classmethod
    def of(cls, model: Any, temperature: float = 1.0, adapter: bool = True) -> Head:
        """The head of a causal model; ``adapter=False`` leaves out what an adapter put on it."""
        config = model.config.get_text_config()
        project = model.get_output_embeddings()
        if not adapter:
            project = getattr(project, "base_layer", getattr(project, "original_module", project))
        return cls(
            project, _scale(config), getattr(config, "final_logit_softcapping", None), temperature
        )

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
    """What a model multiplies its logits by; the families call it by several names."""
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
    tokens. In training a tile's logits are computed again in the backward pass. The reference
    carries no gradient, nor do the statistics that are only ``watched``, which cost less for it.
    """
    kept = tuple(dict.fromkeys(statistics))
    seen = tuple(name for name in dict.fromkeys(watched) if name not in kept)
    frozen = None if reference is None else reference.states.split(tile)
    tiles = [
        _Tile(policy.head, reference, part, None if frozen is None else frozen[at], kept, seen)
        for at, part in enumerate(labels.split(tile))
    ]
    grad = torch.is_grad_enabled() and _trains(policy)
    parts = [
        one.twice(states) if grad else one(states)
        for one, states in zip(tiles, policy.states.split(tile), strict=True)
    ]
    names = ["policy", *kept]
    found = dict(zip(names, map(torch.cat, zip(*parts, strict=True)), strict=True))
    aside = {name: torch.cat([one.aside[name] for one in tiles]) for name in tiles[0].aside}
    return {**found, **aside}


def _trains(hidden: Hidden) -> bool:
    weights = hidden.head.project.parameters()
    return hidden.states.requires_grad or any(weight.requires_grad for weight in weights)


@dataclass(frozen=True)
class _Tile:
    """A few tokens: from their hidden states to what is asked about them."""

    head: Head
    reference: Hidden | None
    labels: torch.Tensor
    frozen: torch.Tensor | None  # hidden states of the reference
    statistics: tuple[str, ...]
    watched: tuple[str, ...]
    aside: dict[str, torch.Tensor] = field(default_factory=dict)  # what carries no gradient

    def twice(self, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Like a call, but logits are not kept: the backward pass computes them again."""
        found: tuple[torch.Tensor, ...] = checkpoint(
            self, states, use_reentrant=False, preserve_rng_state=False
        )
        return found

    def __call__(self, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.head.logits(states)
        if not self.aside:  # the second pass is for gradients alone
            self._look_aside(logits.detach())
        taken = [_chosen(logits, self.labels)]
        if self.statistics:
            log_policy = torch.log_softmax(logits, -1)
            log_ref = self._log_ref(self.statistics)
            taken += [
                STATISTICS[name](log_policy, log_ref, self.labels) for name in self.statistics
            ]
        return tuple(taken)

    @torch.no_grad()
    def _look_aside(self, logits: torch.Tensor) -> None:
        if self.reference is not None and self.frozen is not None:
            ref_logits = self.reference.head.logits(self.frozen)
            self.aside["reference"] = _chosen(ref_logits, self.labels)
        if self.watched:
            log_policy, log_ref = torch.log_softmax(logits, -1), self._log_ref(self.watched)
            for name in self.watched:
                self.aside[name] = STATISTICS[name](log_policy, log_ref, self.labels)

    @torch.no_grad()
    def _log_ref(self, names: tuple[str, ...]) -> torch.Tensor | None:
        if self.reference is None or self.frozen is None or not set(names) & set(NEED_REFERENCE):
            return None
        return torch.log_softmax(self.reference.head.logits(self.frozen), -1)


def _chosen(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return -F.cross_entropy(logits, labels, reduction="none")


def score_answers(
    model: Any,
    batch: Mapping[str, torch.Tensor],
    statistics: Sequence[str] = (),
    reference: Hidden | None = None,
    watched: Sequence[str] = (),
    temperature: float = 1.0,
    value: bool = False,
) -> dict[str, torch.Tensor]:
    """``(R, L)`` values of the answer tokens of R rows, first token first, zero past each answer.

    ``batch`` holds ``input_ids``, ``attention_mask`` and ``answer_mask``, all ``(R, T)``; the mask
    is 1 on the tokens to score, which are those of the answer with its end of turn. The head is run
    on these alone, never on the prompt. ``value`` asks for ``value`` ``(R,)`` too: what the model's
    ``value_head`` (`finetune.value_head`) says where a prompt ends, no gradient to the trunk.
    """
    policy = read_answers(model, batch, temperature)
    flat = measure(policy, _labels(batch), statistics, reference, watched)
    found = {name: _by_row(each, batch["answer_mask"]) for name, each in flat.items()}
    if value:
        lengths = _scored(batch["answer_mask"]).sum(1)
        ends = policy.states[lengths.cumsum(0) - lengths].detach()  # what predicts a first token
        found["value"] = model.value_head(ends).squeeze(-1)
    return found


def read_answers(
    model: Any, batch: Mapping[str, torch.Tensor], temperature: float = 1.0, adapter: bool = True
) -> Hidden:
    """Hidden states at the positions that predict the answers' tokens, row by row.

    Where the model is prepared for it (`finetune.packing.share_prefixes`), rows with the same
    prompt run it once and padding is not run at all.
    """
    head = Head.of(model, temperature, adapter)
    if shares_prefixes(model):
        packed = pack(batch)
        return Hidden(run_packed(model, packed)[packed.predicts], head)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    states = model.base_model(**inputs, use_cache=False).last_hidden_state
    return Hidden(states[:, :-1][_scored(batch["answer_mask"])], head)


def _scored(answer_mask: torch.Tensor) -> torch.Tensor:
    """``(R, T - 1)``: True at the positions whose next token is scored."""
    return answer_mask[:, 1:].bool()


def _labels(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return batch["input_ids"][:, 1:][_scored(batch["answer_mask"])]


def _by_row(flat: torch.Tensor, answer_mask: torch.Tensor) -> torch.Tensor:
    lengths = _scored(answer_mask).sum(1)
    there = torch.arange(int(lengths.max()), device=flat.device) < lengths[:, None]
    return flat.new_zeros(there.shape).masked_scatter(there, flat)


def check_head(model: Any, input_ids: torch.Tensor) -> None:
    """Hold the way by tiles against the model's own logits on a few tokens ``(1, T)``.

    Raises:
        ValueError: they differ, as they would for a family that does more to its logits than
            `Head` knows of.
    """
    with torch.no_grad():
        own = model(input_ids=input_ids, use_cache=False).logits.float()
        states = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        ours = Head.of(model).logits(states)
    if not torch.allclose(own, ours.to(own.dtype), rtol=1e-3, atol=1e-3):
        worst = float((own - ours).abs().max())
        raise ValueError(
            f"{type(model).__name__}: logits by its output embedding differ from its own by "
            f"{worst:.3g}; this family treats its logits in a way that is not known here"
        )


def answer_with_scores(model: Any) -> None:
    """Let ``model(answers=batch, how={…})`` run `score_answers(batch, …)`; else all is as before.

    A wrapper for several processes only takes part in what goes through ``forward``, so the scores
    have to come that way. Do this before an adapter is put on.
    """
    own = model.forward

    @wraps(type(model).forward)  # `generate` reads the signature
    def forward(self: Any, *args: Any, answers: Any = None, how: Any = None, **more: Any) -> Any:
        # an adapter's wrapper adds arguments of its own, all None: they are not for the scores
        return own(*args, **more) if answers is None else score_answers(self, answers, **how or {})

    model.forward = MethodType(forward, model)
