"""The drop of a row's loss beside a training loop of torch and peft alone."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from siftune.curate.core.errors import DataError
from siftune.curate.lm.reference_chats import reference_chats
from siftune.curate.text.language_model import TokenRow
from siftune.finetune.models.loading import load_causal
from siftune.finetune.models.lora import with_adapter
from siftune.finetune.scorers.loss_drop import LossDrop
from tests.curate.lm_reference import table
from tests.finetune.influence_rows import CHATS, TARGETS, jsonl

SLOW_CONTRACTS = True
OPTIONS = [
    {
        "model": "LM",
        "against": "HELD_OUT",
        "template": "none",
        "precision": "fp32",
        "epochs": 1,
        "rank": 1,
    }
]


def test_it_is_the_drop_after_a_training_on_the_targets(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    target = jsonl(tmp_path / "target.jsonl", TARGETS)
    scorer = LossDrop(
        model=str(tiny_model_dir),
        against=str(target),
        precision="fp32",
        lr=0.02,
        epochs=2,
        batch_size=2,
        seed=4,
        cache=str(tmp_path / "cache"),
    )
    found = scorer(table(*CHATS))
    chats = reference_chats(str(target), "loss_drop")["messages"]
    rows = [row for row in scorer._tokens.after_prompt(chats) if row]
    model = with_adapter(load_causal(tiny_model_dir), 4, 8.0, 4)

    def loss(row: TokenRow) -> torch.Tensor:
        ids = torch.tensor([row.ids])
        losses = F.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
        return losses[torch.tensor(row.scored[1:])].mean()

    scored = [row for row in scorer._tokens.after_prompt(table(*CHATS)["messages"]) if row]
    with torch.no_grad():
        before = [float(loss(row)) for row in scored]
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    adam = torch.optim.Adam(trained)
    for epoch in range(2):
        order = np.random.default_rng([4, epoch]).permutation(3)
        for step, batch in enumerate((order[:2], order[2:])):
            adam.param_groups[0]["lr"] = 0.02 * (1 - (2 * epoch + step) / 4)
            adam.zero_grad()
            torch.stack([loss(rows[at]) for at in batch]).mean().backward()  # type: ignore[no-untyped-call]
            adam.step()
    with torch.no_grad():
        drop = [(old - float(loss(row))) / old for old, row in zip(before, scored, strict=True)]
    assert found["loss_drop_start"].to_list() == pytest.approx(before, rel=1e-5)
    assert found["loss_drop"].to_list() == pytest.approx(drop, rel=1e-2, abs=1e-4)
    assert max(map(abs, drop)) > 0.01
    assert scorer(table(*CHATS)).equals(found)
    assert pickle.loads(pickle.dumps(scorer))(table(*CHATS)).equals(found)  # from the cache
    assert math.isfinite(found["loss_drop"].sum())


def test_targets_without_an_answer_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    long = jsonl(tmp_path / "long.jsonl", [{"prompt": "a", "completion": "the cat " * 200}])
    with pytest.raises(DataError, match="no row has a prompt and an answer that fit"):
        LossDrop(model=str(tiny_model_dir), against=str(long))(table(*CHATS))
