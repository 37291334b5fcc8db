"""The values of TRL 1.16's own ``DPOTrainer._compute_loss`` on given log-probs, with no model."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import torch

__all__ = ["trl_loss"]


class _Answers(torch.nn.Module):
    """Stands for a model: whatever it is asked, it returns these token values."""

    is_gradient_checkpointing = False

    def __init__(self, log_probs, log_sum_squares=None):
        super().__init__()
        nothing = torch.zeros_like(log_probs)
        self.outputs = SimpleNamespace(
            log_probs=log_probs,
            entropy=nothing,
            mean_logits=nothing,
            is_top1=nothing.bool(),
            log_sum_sq_probs=nothing if log_sum_squares is None else log_sum_squares,
        )

    def forward(self, **_):
        return self.outputs


def trl_loss(kind, policy, reference, lengths, *, beta=0.1, log_sum_squares=None, **settings):
    """TRL's mean loss of ``loss_type=kind``.

    ``policy``, ``reference`` and ``log_sum_squares`` are ``(2, B, T)`` token values, ``lengths``
    is ``(2, B)``; ``settings`` are the trainer's own attributes.
    """
    from trl import DPOTrainer

    width = policy.shape[-1]
    there = torch.arange(width) < lengths.reshape(-1)[:, None]
    rows = len(there)
    flat = [
        None if value is None else value.reshape(rows, width) * there
        for value in (policy, reference, log_sum_squares)
    ]
    alone = SimpleNamespace(
        device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x
    )
    defaults = {
        "aux_loss_enabled": False,
        "ld_alpha": None,
        "precompute_ref_logps": False,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "label_smoothing": 0.0,
        "use_weighting": False,
        "loss_weights": [1.0],
    }
    trainer = SimpleNamespace(
        **{**defaults, **settings},
        model=_Answers(flat[0], flat[2]).eval(),
        ref_model=_Answers(flat[1]),
        accelerator=alone,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05),
        loss_types=[kind],
        beta=beta,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    prompt = torch.zeros(rows, 1)  # one token, not scored
    inputs = {
        "input_ids": torch.ones(rows, width + 1, dtype=torch.long),
        "attention_mask": torch.ones(rows, width + 1),
        "completion_mask": torch.cat([prompt, there.to(policy.dtype)], 1),
    }
    return DPOTrainer._compute_loss(trainer, trainer.model, inputs, return_outputs=False)
