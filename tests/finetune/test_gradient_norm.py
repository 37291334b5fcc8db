"""The norm of a row's gradient beside autograd on the whole logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from siftune.finetune.scorers.gradient_norm import GradientNorm
from tests.curate.lm_reference import Reference, table
from tests.finetune.influence_rows import CHATS

OPTIONS = [{"model": "LM", "template": "none", "precision": "fp32"}]


def test_it_is_the_norm_over_all_weights(tiny_model_dir: Path) -> None:
    scorer = GradientNorm(str(tiny_model_dir), precision="fp32")
    found = scorer(table(*CHATS[:2]))["gradient_norm"].to_list()
    model = Reference(tiny_model_dir).net
    rows = scorer._tokens.after_prompt(table(*CHATS[:2])["messages"])
    for row, norm in zip(rows, found, strict=True):
        assert row is not None
        ids = torch.tensor([row.ids])
        labels = torch.where(torch.tensor([row.scored]), ids, -100)
        model.zero_grad()
        model(ids, labels=labels).loss.backward()
        squares = sum(float(weight.grad.square().sum()) for weight in model.parameters())
        assert norm == pytest.approx(squares**0.5, rel=1e-4)
    assert found[0] != found[1]
