"""A model that is made in a second, for every test that needs one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SENTENCES = [
    "The cat sat on the mat and looked at the sea.",
    "What is the capital of France? The capital of France is Paris.",
    "What is two plus two? Two plus two is four.",
    "Say hello to the king. Hello, king!",
    "Name a colour. Blue is a colour, red is another.",
    "user assistant system question answer yes no good bad long short",
]


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model folder: Llama of width 32, one layer, some 300 tokens, random weights."""
    from finetune.init import Init

    folder = tmp_path_factory.mktemp("models")
    text = folder / "text.txt"
    text.write_text("\n\n".join(SENTENCES))
    Init(vocab_size=320, hidden=32, layers=1, heads=2, context=128, steps=0)(text, folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="session")
def tiny_reward_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved reward model with the tiny model's tokenizer and trunk, and a random head."""
    from finetune.models import load_reward, load_tokenizer, save_model

    out = tmp_path_factory.mktemp("models") / "tiny-reward"
    facts = {"stage": "reward", "method": "none", "seed": 0}
    save_model(load_reward(tiny_model_dir), load_tokenizer(tiny_model_dir), out, facts)
    return out
