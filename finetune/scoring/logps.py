"""Log-probs of completions under a causal model, on the answer tokens alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from types import MethodType
from typing import Any

import torch

from siftune.curate.core.errors import UsageError
from siftune.finetune.data.packing import pack, run_packed, shares_prefixes
from siftune.finetune.scoring.lm_head import Head, Hidden, measure

__all__ = ["answer_with_scores", "check_head", "read_answers", "score_answers"]


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
    on these alone, never on the prompt. With ``value`` there is ``value`` ``(R,)`` too: the output
    of the model's ``value_head`` (`models.value_head`) at the end of the prompt, no gradient to the
    trunk.
    """
    policy = read_answers(model, batch, temperature)
    flat = measure(policy, _labels(batch), statistics, reference, watched)
    found = {name: _by_row(each, batch["answer_mask"]) for name, each in flat.items()}
    if value:
        lengths = _scored(batch["answer_mask"]).sum(1)
        ends = policy.states[lengths.cumsum(0) - lengths].detach()  # what predicts a first token
        found["value"] = model.value_head(ends.to(model.value_head.weight.dtype)).squeeze(-1)
    return found


def read_answers(
    model: Any, batch: Mapping[str, torch.Tensor], temperature: float = 1.0, adapter: bool = True
) -> Hidden:
    """Hidden states at the positions that predict the answers' tokens, row by row.

    Where the model is prepared for it (`packing.share_prefixes`), rows with the same
    prompt run it once and padding is not run at all.
    """
    head = Head.of(model, temperature, adapter)
    if shares_prefixes(model):
        packed = pack(batch)
        return Hidden(head.fitted(run_packed(model, packed)[packed.predicts]), head)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    states = model.base_model(**inputs, use_cache=False).last_hidden_state
    return Hidden(head.fitted(states[:, :-1][_scored(batch["answer_mask"])]), head)


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
    """Compare the logits of `Head` with the model's own on a few tokens ``(1, T)``.

    Raises:
        UsageError: the model's logits are not finite, or they differ, as for a family
            whose head does more than `Head`.
    """
    with torch.no_grad():
        own = model(input_ids=input_ids, use_cache=False).logits.float()
        states = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        head = Head.of(model)
        states = head.fitted(states)
        ours = head.logits(states)
    if not torch.isfinite(own).all():
        raise UsageError(
            "the model's logits on the first row are NaN or infinite: its weights or its "
            "config.json are damaged; start from another model"
        )
    near = 1e-3 if states.dtype.itemsize >= 4 else 5e-2  # a scale rounds bf16 logits once more
    if not torch.allclose(own, ours.to(own.dtype), rtol=near, atol=near):
        worst = float((own - ours).abs().max())
        raise UsageError(
            f"neither preferences nor PPO can be trained on {type(model).__name__}: its logits "
            f"differ by {worst:.3g} from those of its output embedding, which the losses are "
            "computed from; "
            "take a model of another family, such as Llama, Qwen or SmolLM2"
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
