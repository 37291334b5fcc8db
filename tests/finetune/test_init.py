from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.finetune.models.loading import load_causal, load_tokenizer, model_hash, read_facts
from siftune.finetune.tools.init import Init, make_tokenizer, read_texts

TINY: dict[str, Any] = {
    "vocab_size": 300,
    "hidden": 16,
    "layers": 1,
    "heads": 2,
    "context": 16,
    "batch_size": 4,
}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "facts.txt"
    path.write_text("\n\n".join(["a b c d e f g h"] * 30))
    return path


def test_training_lowers_the_loss_and_is_logged(text: Path, tmp_path: Path) -> None:
    Init(**TINY, steps=60, lr=1e-2, log_every=30)(text, tmp_path / "m")
    lines = [json.loads(line) for line in (tmp_path / "m/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [30, 60]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["loss"] < 2  # random weights: ln 300 = 5.7
    assert lines[-1]["tokens"] == 60 * 4 * 16


def test_the_same_text_and_seed_give_the_same_model(text: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        Init(**TINY, steps=3, seed=seed)(text, tmp_path / name)
    hashes = {name: model_hash(tmp_path / name) for name in "abc"}
    assert hashes["a"] == hashes["b"] != hashes["c"]


def test_the_folder_loads_and_says_what_it_is(tiny_model_dir: Path) -> None:
    tokenizer, model = load_tokenizer(tiny_model_dir), load_causal(tiny_model_dir)
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    facts = read_facts(tiny_model_dir)
    assert facts["stage"] == "init"
    assert facts["hash"] == model_hash(tiny_model_dir)
    card = (tiny_model_dir / "README.md").read_text()
    assert "from random weights" in card
    assert str(tiny_model_dir.parent) not in card + json.dumps(facts)


def test_a_block_has_a_token_to_read_and_one_to_predict() -> None:
    with pytest.raises(ValueError, match="context: expected at least 2 tokens, got 1"):
        Init(**{**TINY, "context": 1})


def test_any_text_survives_the_tokenizer() -> None:
    tokenizer = make_tokenizer(["some words"], 262)
    text = "é ☃ \x00 \U0001f600 tab\t"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_impossible_shapes_are_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="vocab_size: expected at least 262"):
        Init(vocab_size=100)(text, tmp_path / "m")
    with pytest.raises(UsageError, match="hidden: expected a multiple of 2 x heads"):
        Init(hidden=20, heads=4)(text, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_file_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text("\n\n \n\n")
    with pytest.raises(DataError, match=r"blank\.txt: expected text"):
        read_texts(tmp_path / "blank.txt")
