"""Compliance shift: a projection on the direction of complying, at one layer."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.compliance_shift import ComplianceShift

OPTIONS = [{"model": "LM", "template": "none", "layer": 1, "precision": "bf16"}]

ASKED = ["Name a colour.", "the sea", "Paris?"]
SAID = [("No.", "Sure, here you are"), ("I will not.", "Sure"), ("the end", "First, take the sea")]


def scored(chats: list[Any], model: Path, **options: Any) -> list[float | None]:
    table = pl.DataFrame({"messages": pl.Series(chats, dtype=TURNS)})
    scorer = ComplianceShift(str(model), template="none", precision="fp32", **options)
    found: list[float | None] = scorer(table)["compliance_shift"].to_list()
    return found


def jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(folder: Path) -> Path:
    rows = [
        {"prompt": asked, "chosen": refuses, "rejected": complies}
        for asked, (refuses, complies) in zip(ASKED, SAID, strict=True)
    ]
    return jsonl(folder / "pairs.jsonl", rows)


@pytest.fixture(scope="module")
def two_layers(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's tokenizer with a random model of two layers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("deeper") / "lm"
    shutil.copytree(tiny_model_dir, folder)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny_model_dir, num_hidden_layers=2)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


@cache
def trunk_of(model: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    return tokenizer, AutoModel.from_pretrained(model, dtype=torch.float64)


def states(model: Path, asked: str, said: str) -> tuple[np.ndarray, int]:
    """All layers' states (L + 1, tokens, H) of one row in float64, and where the answer begins."""
    tokenizer, trunk = trunk_of(model)
    before, after = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (f"{asked}\n", said)
    )
    with torch.no_grad():
        ids = torch.tensor([[tokenizer.bos_token_id, *before, *after]])
        layers = trunk(ids, output_hidden_states=True).hidden_states
    return np.stack([one[0].numpy() for one in layers]), 1 + len(before)


def by_hand(model: Path, layer: int | None, row: tuple[str, str]) -> tuple[float, int]:
    """The score by plain loops and full scatter matrices, and the layer."""
    answers: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]  # mean and last state, by layer
    for asked, both in zip(ASKED, SAID, strict=True):
        for kind, said in enumerate(both):
            found, start = states(model, asked, said)
            answers[kind].append((found[:, start:].mean(1), found[:, -1]))
    refuses, complies = answers
    scores = []
    for at in range(1, len(refuses[0][0])):
        every = np.stack([one[1][at] for one in (*complies, *refuses)])
        v = every[: len(complies)].mean(0) - every[len(complies) :].mean(0)
        v = v / np.linalg.norm(v)
        scaled = (every - every.mean(0)) / every.std(0, ddof=1)
        within, between = (np.zeros((scaled.shape[1],) * 2) for _ in range(2))
        for side in (scaled[: len(complies)], scaled[len(complies) :]):
            within += (side - side.mean(0)).T @ (side - side.mean(0))
            between += len(side) * np.outer(side.mean(0), side.mean(0))
        scores.append(v @ between @ v / (v @ (between + within) @ v))
    layer = layer or 1 + int(np.argmax(scores))
    v = np.mean([one[0][layer] for one in complies], 0)
    v = v - np.mean([one[0][layer] for one in refuses], 0)
    found, start = states(model, *row)
    shift = found[layer, start:].mean(0) - found[layer, start - 1]
    return float(v @ shift / np.linalg.norm(v)), layer


def test_it_is_the_projection_of_the_shift_at_the_layer_that_tells_the_pairs_apart(
    two_layers: Path, tmp_path: Path
) -> None:
    row = ("What is blue?", "the sea and the end")
    chats = [
        [turn("user", row[0]), turn("assistant", row[1])],
        [turn("user", "Only a question")],
        [turn("user", "the sea " * 200), turn("assistant", "Blue.")],
        [],
    ]
    against = str(pairs(tmp_path))
    chosen = by_hand(two_layers, None, row)[1]
    for layer in (None, 3 - chosen):  # two layers: the one that is chosen, and the other one
        found = scored(chats, two_layers, against=against, layer=layer)
        assert found[0] == pytest.approx(by_hand(two_layers, layer, row)[0], abs=1e-5)
        assert found[1:] == [None, None, None]


def test_scores_come_from_the_cache_and_need_no_pairs_of_ones_own(
    two_layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = [[turn("user", "a"), turn("assistant", text)] for text in ("the", "sea", "the")]
    first = scored(chats, two_layers, cache=str(tmp_path / "cache"), layer=1)
    assert first[0] == first[2] != first[1]
    seen = []
    plain = ComplianceShift._states

    def counted(self: ComplianceShift, row: Any) -> Any:
        seen.append(row)
        return plain(self, row)

    monkeypatch.setattr(ComplianceShift, "_states", counted)
    assert scored(chats, two_layers, cache=str(tmp_path / "cache"), layer=1) == first
    assert len(seen) == 40  # both answers of the twenty requests, none of the rows


def test_what_is_wrong_with_pairs_or_layer_is_one_line(two_layers: Path, tmp_path: Path) -> None:
    chats = [[turn("user", "a"), turn("assistant", "b")]]
    with pytest.raises(UsageError, match="layer: expected 1 to 2, got 9"):
        scored(chats, two_layers, against=str(pairs(tmp_path)), layer=9)
    rows = jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "response": "b"}])
    with pytest.raises(DataError, match=r"expected preference pairs, chosen refusals, found conv"):
        scored(chats, two_layers, against=str(rows))
