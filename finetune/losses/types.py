"""Batches of log-probabilities that losses take, and the loss of each pair that they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch

from siftune.curate.core.errors import UsageError

__all__ = [
    "Answers",
    "MissingInputError",
    "Needs",
    "Numbers",
    "PairLogps",
    "PairLoss",
    "PairObjective",
    "answers_of",
    "column_of",
    "needs_of",
    "tensor_of",
    "vector_of",
]

Numbers: TypeAlias = float | Sequence[float] | Sequence[Sequence[float]] | torch.Tensor


class MissingInputError(TypeError):
    """A loss reads what it was not given."""


@dataclass(frozen=True)
class Answers:
    """B completions under the policy and the reference, in nats.

    ``policy`` and ``reference`` are ``(B,)`` log-probabilities summed over the completion's tokens
    (the end of turn counts, the prompt does not); ``lengths`` ``(B,)``, the tokens in those sums.
    ``tokens`` holds the values of each token that a loss needs, ``(B, T)``, first token first and
    zero from ``length`` on: ``policy`` and ``reference`` log-probabilities always, and by the names
    of `lm_head.STATISTICS` what the loss lists in ``needs_tokens``.
    """

    policy: torch.Tensor
    lengths: torch.Tensor | None = None
    reference: torch.Tensor | None = None
    tokens: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of_tokens(
        cls,
        policy: Numbers,
        mask: Numbers,
        ref: Numbers | None = None,
        like: torch.Tensor | None = None,
        **values: Numbers,
    ) -> Answers:
        """Completions from values of tokens, each ``(B, T)``, where ``mask`` is True.

        ``policy`` and ``ref`` are log-probabilities, ``values`` what the loss lists in
        ``needs_tokens``. A completion may begin anywhere in its row, as after a prompt. Tensors
        keep their dtype, device and gradients; what is no float becomes as ``like``, or ``policy``.

        >>> logps = torch.tensor([[-9.0, -1.0, -2.0], [-9.0, -4.0, 0.0]])
        >>> answers = Answers.of_tokens(logps, mask=[[0, 1, 1], [0, 1, 0]])
        >>> answers.policy.tolist(), answers.length.tolist(), answers.token("policy").tolist()
        ([-3.0, -4.0], [2.0, 1.0], [[-1.0, -2.0, 0.0], [-4.0, 0.0, 0.0]])

        Raises:
            UsageError: shapes differ, or ``mask`` has a row without a token.
        """
        logps = torch.atleast_2d(tensor_of(policy, like))
        given = {"policy": logps, **({} if ref is None else {"reference": ref}), **values}
        found = {name: torch.atleast_2d(tensor_of(one, logps)) for name, one in given.items()}
        inside = torch.atleast_2d(torch.as_tensor(mask, device=logps.device)).bool()
        for name, one in found.items():
            if one.shape != inside.shape:
                shapes = f"{tuple(one.shape)} of {name}, {tuple(inside.shape)} of mask"
                raise UsageError(f"expected values of tokens and a mask of one shape, got {shapes}")
        if not inside.any(-1).all():
            raise UsageError("mask: expected at least one token in each row")
        order = torch.argsort((~inside).to(torch.uint8), dim=-1, stable=True)  # the tokens first
        tokens = {
            name: torch.where(inside, one, torch.zeros_like(one)).gather(-1, order)
            for name, one in found.items()
        }
        sums = {name: tokens[name].sum(-1) for name in ("policy", "reference") if name in tokens}
        return cls(sums["policy"], inside.sum(-1).to(logps), sums.get("reference"), tokens)

    @property
    def length(self) -> torch.Tensor:
        """The tokens in each sum, ``(B,)``.

        Raises:
            MissingInputError: they were not given.
        """
        if self.lengths is None:
            raise MissingInputError(
                "the loss reads lengths: give length=, the number of tokens in each sum of policy"
            )
        return self.lengths

    @property
    def ref(self) -> torch.Tensor:
        """Summed log-probabilities under the reference.

        Raises:
            MissingInputError: none were given.
        """
        if self.reference is None:
            raise MissingInputError(
                "no reference log-probs were given: give ref=; for training, a loss of your own "
                "has to set needs_reference = True"
            )
        return self.reference

    @property
    def ratio(self) -> torch.Tensor:
        """``log π(y|x) - log π_ref(y|x)``, ``(B,)``."""
        return self.policy - self.ref

    @property
    def mean(self) -> torch.Tensor:
        """Policy log-probability per token, ``(B,)``."""
        return self.policy / self.length

    @property
    def mask(self) -> torch.Tensor:
        """``(B, T)``: True where ``tokens`` hold a token and not padding."""
        width = self.token("policy").shape[-1]
        return torch.arange(width, device=self.length.device) < self.length[..., None]

    def token(self, name: str) -> torch.Tensor:
        """The ``(B, T)`` values called ``name``.

        Raises:
            MissingInputError: they were not given.
        """
        if name not in self.tokens:
            raise MissingInputError(
                f"no token values {name!r} were given: list them in needs_tokens, and give mask= "
                f"and tokens={{{name!r}: ...}} where you call the loss"
            )
        return self.tokens[name]

    def summed(self, name: str) -> torch.Tensor:
        """``(B,)``: the `token` values called ``name``, summed over each completion."""
        return (self.token(name) * self.mask).sum(1)


@dataclass(frozen=True)
class PairLogps:
    """A batch of B pairs, and the columns of their rows that the loss needs, each ``(B,)``."""

    chosen: Answers
    rejected: Answers
    columns: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        policy: tuple[Numbers, Numbers],
        ref: tuple[Numbers, Numbers] | None = None,
        length: tuple[Numbers, Numbers] | None = None,
        mask: tuple[Numbers, Numbers] | None = None,
        tokens: Mapping[str, tuple[Numbers, Numbers]] | None = None,
        **columns: Numbers,
    ) -> PairLogps:
        """Pairs from plain numbers: ``(chosen, rejected)``, each one pair's or a list of pairs'.

        With ``mask`` (and ``tokens``, other values of each token) they are of single tokens,
        ``(B, T)``, as in `Answers.of_tokens`; the two sides may differ in T. Tensors keep their
        dtype, device and gradients; other numbers become tensors of that dtype. ``length`` are the
        tokens in each sum, which some losses divide by; a number in it, or in a column, is that of
        all pairs.

        >>> PairLogps.of(policy=(-6, -9), ref=(-5, -7)).chosen.ratio
        tensor([-1.], dtype=torch.float64)

        Raises:
            UsageError: the shapes do not fit together.
        """
        given = {"policy": policy, "ref": ref, "length": length, "mask": mask, **(tokens or {})}
        for name, value in given.items():
            if value is not None and not (isinstance(value, tuple | list) and len(value) == 2):
                raise UsageError(f"{name}: expected (chosen, rejected), got {_shown(value)}")
        like = next((side for side in policy if isinstance(side, torch.Tensor)), None)
        sides = [
            answers_of(
                policy[side],
                None if ref is None else ref[side],
                None if length is None else length[side],
                None if mask is None else mask[side],
                {name: values[side] for name, values in (tokens or {}).items()},
                like,
            )
            for side in (0, 1)
        ]
        chosen, rejected = (one.policy for one in sides)
        if len(chosen) != len(rejected):
            raise UsageError(
                f"policy: expected as many rejected completions as chosen ones, {len(chosen):,}, "
                f"got {len(rejected):,}"
            )
        count = len(chosen)
        vectors = {name: vector_of(v, name, chosen, count, True) for name, v in columns.items()}
        return cls(sides[0], sides[1], vectors)

    @property
    def policy_chosen(self) -> torch.Tensor:
        """``log π(chosen|x)``, ``(B,)``."""
        return self.chosen.policy

    @property
    def policy_rejected(self) -> torch.Tensor:
        """``log π(rejected|x)``, ``(B,)``."""
        return self.rejected.policy

    @property
    def ref_chosen(self) -> torch.Tensor:
        """``log π_ref(chosen|x)``, ``(B,)``."""
        return self.chosen.ref

    @property
    def ref_rejected(self) -> torch.Tensor:
        """``log π_ref(rejected|x)``, ``(B,)``."""
        return self.rejected.ref

    @property
    def gap(self) -> torch.Tensor:
        """Δ of the papers: the log-ratio of ``chosen`` less the log-ratio of ``rejected``."""
        return self.chosen.ratio - self.rejected.ratio

    def column(self, name: str) -> torch.Tensor:
        """The rows' column ``name``, ``(B,)``.

        Raises:
            MissingInputError: it was not given.
        """
        return column_of(self.columns, name)


@dataclass(frozen=True)
class PairLoss:
    """One loss a pair, ``(B,)``, not reduced; and the rewards that the metrics show, detached."""

    loss: torch.Tensor
    chosen_reward: torch.Tensor
    rejected_reward: torch.Tensor


class PairObjective(Protocol):
    """A loss on pairs: a frozen dataclass whose fields are its options."""

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""


@dataclass(frozen=True)
class Needs:
    """The inputs that a loss reads; the trainer computes these and no others.

    ``couples_batch``: the loss of a pair depends on the other pairs of its batch, so the size of a
    batch is part of the objective and gradient accumulation would change it.
    ``value``: the value head's output for each prompt. ``mismatched``: answers to other prompts,
    under the policy and the reference. ``label``: whether a completion is desirable.
    ``reward_tokens``: the policy's prompt begins with the token of the completion's reward bin, of
    which there are ``bins`` (an option of the loss). ``teacher``: the reference is another model,
    which is learned from.
    """

    reference: bool = False
    tokens: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    couples_batch: bool = False
    value: bool = False
    mismatched: bool = False
    label: bool = False
    reward_tokens: bool = False
    teacher: bool = False


def needs_of(loss: Any) -> Needs:
    """What ``loss`` (a component or its class) declares in its class variables.

    ``needs_reference``, ``needs_tokens``, ``needs_columns``, ``needs_value``, ``needs_mismatched``,
    ``needs_label``, ``needs_reward_tokens``, ``needs_teacher`` and ``couples_batch``; what is left
    out is not needed.
    """
    return Needs(
        reference=getattr(loss, "needs_reference", False),
        tokens=tuple(getattr(loss, "needs_tokens", ())),
        columns=tuple(getattr(loss, "needs_columns", ())),
        couples_batch=getattr(loss, "couples_batch", False),
        value=getattr(loss, "needs_value", False),
        mismatched=getattr(loss, "needs_mismatched", False),
        label=getattr(loss, "needs_label", False),
        reward_tokens=getattr(loss, "needs_reward_tokens", False),
        teacher=getattr(loss, "needs_teacher", False),
    )


def column_of(columns: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """A column of the rows.

    Raises:
        MissingInputError: it was not given.
    """
    if name not in columns:
        raise MissingInputError(
            f"no column {name!r} was given: list it in needs_columns, and give {name}= where you "
            "call the loss"
        )
    return columns[name]


def answers_of(
    policy: Numbers,
    ref: Numbers | None,
    length: Numbers | None,
    mask: Numbers | None,
    tokens: Mapping[str, Numbers] | None,
    like: torch.Tensor | None = None,
) -> Answers:
    """Completions from plain numbers: sums over tokens, or of single tokens with ``mask``.

    Raises:
        UsageError: the shapes do not fit together.
    """
    if mask is not None:
        return Answers.of_tokens(policy, mask, ref, like, **(tokens or {}))
    logps = vector_of(policy, "policy", like)
    return Answers(
        policy=logps,
        lengths=None if length is None else vector_of(length, "length", logps, len(logps), True),
        reference=None if ref is None else vector_of(ref, "ref", logps, len(logps)),
    )


def vector_of(
    value: Numbers,
    name: str,
    like: torch.Tensor | None = None,
    count: int | None = None,
    one_for_all: bool = False,
) -> torch.Tensor:
    """Numbers as a vector; a tensor of floats as it is, all else in the dtype of ``like``.

    Raises:
        UsageError: it has more dimensions, or other than ``count`` numbers (with ``one_for_all`` a
            number without dimension is all of them).
    """
    found = tensor_of(value, like)
    if found.dim() > 1:
        raise UsageError(
            f"{name}: expected one number a completion, got the shape {tuple(found.shape)}; "
            "log-probabilities of single tokens need mask="
        )
    if found.dim() == 0 and one_for_all and count is not None:
        return found.expand(count)
    if count not in (None, found.numel()):
        raise UsageError(
            f"{name}: expected {count:,} numbers, as many as in policy, got {found.numel():,}"
        )
    return found.reshape(-1)


def tensor_of(value: Numbers, like: torch.Tensor | None) -> torch.Tensor:
    """Numbers as a tensor; one of floats as it is, all else in the dtype of ``like``."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value
    dtype, device = (torch.float64, None) if like is None else (like.dtype, like.device)
    return torch.as_tensor(value, dtype=dtype, device=device)


def _shown(value: Any) -> str:
    several = isinstance(value, tuple | list)
    return f"{len(value)} values" if several else type(value).__name__
