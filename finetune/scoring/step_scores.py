"""Scores of a reward model at any token of a text, such as the ends of the steps of an answer."""

from __future__ import annotations

from typing import Any

import torch

from siftune.curate.core.errors import UsageError
from siftune.finetune.models.lora import inner_model

__all__ = ["check_reads_forward", "step_scores"]


def check_reads_forward(model: Any) -> None:
    """Refuse a backbone in which a token sees those after it: a step would see the next ones.

    Raises:
        UsageError: it is an encoder.
    """
    if not hasattr(inner_model(model), "score"):
        raise UsageError(
            "process: an encoder sees the steps after the one that it scores; start from a causal "
            "model, such as smollm2"
        )


def step_scores(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    """The score at each of ``ends`` ``(B, K)``, tokens of the text of each row; 0 where it is -1.

    It is the score of the text up to there: later tokens do not change it.
    """
    given = model(
        input_ids=input_ids,
        attention_mask=attention_mask,
        use_cache=False,
        output_hidden_states=True,
    )
    rows = torch.arange(len(ends), device=ends.device)[:, None]
    states = given.hidden_states[-1][rows, ends.clamp(min=0)]
    scores = inner_model(model).score(states.to(_weight(model).dtype)).squeeze(-1)
    return torch.where(ends >= 0, scores, 0.0)


def _weight(model: Any) -> torch.Tensor:
    weight: torch.Tensor = next(inner_model(model).score.parameters())
    return weight
