"""RDS: the position-weighted mean of hidden states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.rds import RDS

OPTIONS = [{"model": "LM", "precision": "bf16"}]

CHATS = [
    [turn("user", "Name a colour."), turn("assistant", "Blue.")],
    [turn("user", "What is the capital of France?"), turn("assistant", "Paris " * 20)],
    [turn("user", "Only a question")],
    [turn("user", "the sea " * 200), turn("assistant", "Blue.")],
    [],
]


def vectors(model: Path, precision: str = "fp32") -> list[np.ndarray | None]:
    table = pl.DataFrame({"messages": pl.Series(CHATS, dtype=TURNS)})
    found = RDS(str(model), precision=precision)(table)["rds"]  # type: ignore[arg-type]
    return [None if one is None else np.array(one) for one in found.to_list()]


def by_hand(model: Path, text: list[str]) -> np.ndarray:
    """Σ t h_t / Σ t over one row, with no batch; its direction."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = [tokenizer.bos_token_id]
    for part in text:
        ids += tokenizer(part, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        trunk = AutoModel.from_pretrained(model, dtype=torch.float64)
        states = trunk(torch.tensor([ids])).last_hidden_state[0].numpy()
    total = sum((t + 1) * state for t, state in enumerate(states)) / sum(range(1, len(ids) + 1))
    return np.asarray(total / np.linalg.norm(total))


def test_it_is_the_weighted_mean_of_prompt_and_answer(tiny_model_dir: Path) -> None:
    found = vectors(tiny_model_dir)
    for vector, text in zip(
        found,
        (["Name a colour.\n", "Blue."], ["What is the capital of France?\n", "Paris " * 20]),
        strict=False,
    ):
        assert vector == pytest.approx(by_hand(tiny_model_dir, text), abs=1e-5)
    assert found[2] == pytest.approx(by_hand(tiny_model_dir, ["Only a question"]), abs=1e-5)


def test_what_is_too_long_or_empty_is_null_and_the_rest_are_unit_vectors(
    tiny_model_dir: Path,
) -> None:
    found = vectors(tiny_model_dir)
    assert [one is None for one in found] == [False, False, False, True, True]
    assert [np.linalg.norm(one) for one in found[:3]] == pytest.approx([1, 1, 1], abs=1e-6)  # type: ignore[arg-type]


def test_padding_does_not_matter(tiny_model_dir: Path) -> None:
    table = pl.DataFrame({"messages": pl.Series(CHATS[:1], dtype=TURNS)})
    alone = np.array(RDS(str(tiny_model_dir))(table)["rds"].to_list()[0])
    beside_a_longer_one = vectors(tiny_model_dir)[0]
    assert beside_a_longer_one == pytest.approx(alone, abs=1e-6)
