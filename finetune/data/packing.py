"""Packing: rows of one prompt share its tokens in one sequence, without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
import torch.nn.functional as F

from siftune.finetune.core.distributed import progress

__all__ = [
    "Packed",
    "PackedRow",
    "pack",
    "pack_rows",
    "run_packed",
    "share_prefixes",
    "shares_prefixes",
    "try_sharing",
]

_NAME: Final = "siftune_packed"
PackedRow: TypeAlias = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""A prompt, the tokens after it, and the places among those of the tokens that are scored."""

_UNKNOWN: Final = ("sliding_window", "softcap", "s_aux", "position_bias")
"""Attention arguments of some families that are not a causal softmax: not implemented here."""


@dataclass(frozen=True)
class Group:
    """One prompt of ``prompt`` tokens and the answers to it, laid out one after the other.

    ``answers`` are their lengths, ``masks`` what their tokens see: of an answer of A tokens
    ``(A, prompt + A)``, True for the prompt and for the answer up to the token itself.
    """

    prompt: int
    answers: tuple[int, ...]
    masks: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, prompt: int, answers: Sequence[int], device: torch.device) -> Group:
        """The group of a prompt and of answers of these lengths; an empty one has no part in it."""
        answers = [length for length in answers if length]
        seen = {
            length: torch.ones(length, prompt + length, dtype=torch.bool, device=device).tril(
                prompt
            )
            for length in {*answers}
        }
        return cls(prompt, tuple(answers), tuple(seen[length] for length in answers))


@dataclass(frozen=True)
class Packed:
    """Rows as one sequence of N tokens: ``input_ids`` and ``position_ids`` ``(1, N)``.

    ``predicts`` is, for each scored token of the rows, row by row, the one of the N positions that
    predicts it.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    predicts: torch.Tensor
    groups: tuple[Group, ...]


def pack(batch: Mapping[str, torch.Tensor]) -> Packed:
    """The rows of ``batch`` as a `Packed`.

    It has ``input_ids``, ``attention_mask`` and ``answer_mask``, ``(R, T)``, padded on the right.
    The prompt of a row is what comes before its first scored token. Rows with equal prompts share
    it, wherever in the batch they are.
    """
    return pack_rows(_rows(batch), batch["input_ids"].device)


def pack_rows(rows: Sequence[PackedRow], device: torch.device) -> Packed:
    """The rows as a `Packed`; those with equal prompts share it, wherever they are."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for at, (prompt, _, _) in enumerate(rows):
        by_prompt.setdefault(tuple(prompt), []).append(at)
    ids: list[int] = []
    positions: list[int] = []
    groups: list[Group] = []
    predicts: list[list[int]] = [[] for _ in rows]
    for shared, members in by_prompt.items():
        start, first = len(ids), len(shared)
        ids += shared
        positions += range(first)
        for at in members:
            _, answer, scored = rows[at]
            # the token before the first of an answer is the last of the prompt
            before = [start + first - 1, *range(len(ids), len(ids) + len(answer))]
            predicts[at] = [before[place] for place in scored]
            ids += answer
            positions += range(first, first + len(answer))
        groups.append(Group.of(first, [len(rows[at][1]) for at in members], device))
    return Packed(
        torch.tensor([ids], device=device),
        torch.tensor([positions], device=device),
        torch.tensor([at for row in predicts for at in row], device=device),
        tuple(groups),
    )


def _rows(batch: Mapping[str, torch.Tensor]) -> list[PackedRow]:
    """The rows of a batch: its tokens before the first scored one are the prompt."""
    scored = batch["answer_mask"].bool().clone()
    scored[:, 0] = False  # nothing comes before the first token to predict it
    lengths = batch["attention_mask"].sum(1).tolist()
    columns = [row.nonzero()[:, 0].tolist() for row in scored.cpu()]
    found: list[PackedRow] = []
    for ids, length, at in zip(batch["input_ids"].tolist(), lengths, columns, strict=True):
        first = at[0] if at else length
        found.append((ids[:first], ids[first:length], [place - first for place in at]))
    return found


def run_packed(model: Any, packed: Packed) -> torch.Tensor:
    """Hidden states ``(N, H)`` of a model that `share_prefixes` has prepared."""
    # a mask of four dimensions is handed on as it is, and our attention does not read it
    unread = torch.zeros(1, 1, 1, 1, dtype=model.dtype, device=packed.input_ids.device)
    states: torch.Tensor = model.base_model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=unread,
        use_cache=False,
        packed=packed.groups,
    ).last_hidden_state
    return states[0]


def shares_prefixes(model: Any) -> bool:
    """Whether `share_prefixes` has prepared ``model``."""
    return bool(model.config._attn_implementation == _NAME)


def share_prefixes(model: Any) -> str | None:
    """Prepare ``model`` for `run_packed`; do this before an adapter is put on.

    A few tokens are run both ways first. Returned is the reason why the model cannot do it, and
    then it is unchanged; None: it can. Every other call of the model is as before.
    """
    own = model.config._attn_implementation
    if own == _NAME:
        return None
    if own != "sdpa":
        return f"its attention is {own}, not sdpa"
    _register()
    model.set_attn_implementation(_NAME)
    try:
        why = _difference(model)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if why is not None:
        model.set_attn_implementation(own)
    return why


def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)


@torch.no_grad()
def _difference(model: Any) -> str | None:
    """The difference between both ways on rows of two prompts, in words; None: none."""
    prompts, answers = [[1, 2, 3, 4, 5], [3, 1, 2]], [[4, 2, 3], [5, 4], [2, 5, 1, 3]]
    made = [prompt + answer for prompt in prompts for answer in answers]
    width, device = max(map(len, made)), next(model.parameters()).device
    ids = torch.tensor([row + [0] * (width - len(row)) for row in made], device=device)
    there = torch.tensor([[int(at < len(row)) for at in range(width)] for row in made])
    scored = there * (torch.arange(width) >= torch.tensor([5] * 3 + [3] * 3)[:, None])
    batch = {"input_ids": ids, "attention_mask": there.to(device), "answer_mask": scored.to(device)}
    training = model.training
    model.eval()
    plain = model.base_model(
        input_ids=ids, attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state[:, :-1][batch["answer_mask"][:, 1:].bool()]
    packed = pack(batch)
    shared = run_packed(model, packed)[packed.predicts]
    model.train(training)
    worst = float((plain - shared).abs().max() / plain.abs().max())
    allowed = 1e-4 if plain.dtype in (torch.float32, torch.float64) else 5e-2
    return None if worst <= allowed else f"hidden states differ by {worst:.2g} of the largest"


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packed: tuple[Group, ...] | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """The attention of a layer, ``(1, heads, N, width)`` in, ``(1, N, heads, width)`` out."""
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    if packed is None:
        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **more
        )
        return plain
    odd = [name for name in _UNKNOWN if more.get(name) is not None]
    if odd:
        raise ValueError(f"its attention has {', '.join(odd)}")
    repeats = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
    out = _by_group(query, key, value, packed, more.get("scaling"))
    return out.transpose(1, 2).contiguous(), None


def _by_group(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: tuple[Group, ...],
    scale: float | None,
) -> torch.Tensor:
    """Prompts attend to themselves, each answer to its prompt and itself; no N x N mask.

    Answers one by one: over all of a group at once, the time would grow with their number squared.
    """
    sizes = [size for group in groups for size in (group.prompt, *group.answers)]
    q, k, v = (iter(part.split(sizes, 2)) for part in (query, key, value))
    parts = []
    for group in groups:
        asked, keys, values = next(q), next(k), next(v)
        parts.append(
            F.scaled_dot_product_attention(asked, keys, values, is_causal=True, scale=scale)
        )
        for mask in group.masks:
            seen = torch.cat([keys, next(k)], 2), torch.cat([values, next(v)], 2)
            parts.append(
                F.scaled_dot_product_attention(next(q), *seen, attn_mask=mask, scale=scale)
            )
    return torch.cat(parts, 2)


def try_sharing(policy: Any) -> bool:
    """`share_prefixes`; False where the model cannot, with the reason on stderr."""
    why = share_prefixes(policy)
    if why is not None:
        progress(
            f"share_prefix: {type(policy).__name__} runs a prompt for each of its answers: {why}"
        )
    return why is None
