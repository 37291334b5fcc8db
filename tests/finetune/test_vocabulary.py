"""Token ids that the model has no embedding of end no run in its middle: they are refused first."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from transformers import AutoModelForCausalLM, AutoTokenizer

from siftune.curate.core.errors import UsageError
from siftune.curate.models import token_ids
from siftune.curate.vectors.encoder import load_encoder
from siftune.finetune.models.loading import load_causal, load_tokenizer
from siftune.pipelines.cli import siftune
from tests.finetune.test_preference import rows_file

_TOLD = "--reward length --reward-options '{target: 4}' --max-new-tokens 2"
COMMANDS = {
    "sft": "finetune sft CHATS --model M",
    "sft on text": "finetune sft TEXT --model M",
    "dpo": "finetune dpo PAIRS --model M",
    "kto": "finetune kto PAIRS --model M",
    "reward": "finetune reward PAIRS --model M",
    "ppo": f"finetune ppo PAIRS --model M --rollouts 1 --batch-size 4 {_TOLD}",
    "evaluate": "finetune evaluate CHATS --model M --max-new-tokens 2",
    "sample": f"finetune sample CHATS --model M {_TOLD}",
    "ifd": "curate score CHATS ifd --model M",
    "perplexity": "curate score CHATS perplexity --model M",
}
RUNNABLE = [
    *(("unused", command) for command in ("sft", "dpo", "ifd")),
    *(("padding", command) for command in ("reward", "ppo", "evaluate")),
    *(("padded", command) for command in ("dpo", "evaluate")),
]
OTHERS = {
    "dpo --ref-model": "finetune dpo PAIRS --model M --ref-model OTHER",
    "precomputed": "finetune dpo PAIRS --model M --ref-model OTHER --precompute-reference yes",
    "evaluate": "finetune evaluate CHATS --model M --reference OTHER --max-new-tokens 2",
    "sample": f"finetune sample CHATS --model M --reference OTHER --opponents 2 {_TOLD}",
    "mixture": (
        f"finetune sample CHATS --model M --reference OTHER --opponents 2 --mixture 0.5 {_TOLD}"
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """Rows, and copies of the tiny model: ``more`` tokens, ``padded`` embeddings, ``resized``."""
    folder = tmp_path_factory.mktemp("vocabulary")
    rows_file(folder, 8)
    turns = [{"role": r, "content": c} for r, c in (("user", "Say king"), ("assistant", "is good"))]
    (folder / "chats.jsonl").write_text(4 * (json.dumps({"messages": turns}) + "\n"))
    (folder / "text.jsonl").write_text(4 * (json.dumps({"text": "the king is good"}) + "\n"))
    for name in ("unused", "more", "padding"):
        tokenizer = _copied(tiny_model_dir, folder / name)
        if name == "padding":
            tokenizer.add_special_tokens({"pad_token": "<new_pad>"})
        else:
            tokenizer.add_tokens(["zebra"] if name == "unused" else ["Say", "is good"])
        tokenizer.save_pretrained(folder / name)
    for name, of, size in (("padded", tiny_model_dir, 384), ("resized", folder / "more", 322)):
        _copied(of, folder / name)
        model: Any = AutoModelForCausalLM.from_pretrained(of)
        model.resize_token_embeddings(size, mean_resizing=False)
        model.save_pretrained(folder / name)
    return folder


def _copied(of: Path, to: Path) -> Any:
    return AutoTokenizer.from_pretrained(shutil.copytree(of, to))


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Callable[..., Result]:
    def run(command: str, model: Path, other: Path | None = None) -> Result:
        places = {
            "PAIRS": folder / "kept.parquet",
            "CHATS": folder / "chats.jsonl",
            "TEXT": folder / "text.jsonl",
            "M": model,
            "OTHER": other,
        }
        words = [str(places.get(word, word)) for word in shlex.split(command)]
        return CliRunner().invoke(siftune, [*words, "--out", str(tmp_path / "out")])

    return run


def _line(told: Result) -> str:
    assert isinstance(told.exception, UsageError), told.exception
    assert "\n" not in str(told.exception)
    return str(told.exception)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_id_without_an_embedding_is_refused_before_the_first_step(
    command: str, run: Callable[..., Result], folder: Path
) -> None:
    text = _line(run(COMMANDS[command], folder / "more"))
    assert re.search(
        r"token id 32[01] \('(Say|is good)'\), and the model's vocab_size is 320", text
    )
    assert "resize_token_embeddings(322)" in text
    assert str(folder / "more") in text


@pytest.mark.parametrize(("model", "command"), RUNNABLE)
def test_ids_that_no_row_uses_do_not_matter(
    model: str, command: str, run: Callable[..., Result], folder: Path
) -> None:
    told = run(COMMANDS[command], folder / model)
    assert told.exit_code == 0, told.exception


def test_the_templates_own_tokens_are_looked_at_too(
    run: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    tokenizer: Any = _copied(folder / "unused", tmp_path / "marked")
    tokenizer.chat_template = "zebra" + tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "marked")
    assert "token id 320 ('zebra')" in _line(run(COMMANDS["dpo"], tmp_path / "marked"))


@pytest.mark.parametrize("command", OTHERS)
def test_a_second_model_has_to_read_the_ids_too(
    command: str, run: Callable[..., Result], folder: Path, tiny_model_dir: Path
) -> None:
    assert "vocab_size" in _line(run(OTHERS[command], folder / "resized", tiny_model_dir))


def test_a_critic_reads_what_the_policy_writes(
    run: Callable[..., Result], folder: Path, tiny_model_dir: Path
) -> None:
    command = f"{COMMANDS['ppo']} --critic-model OTHER"
    text = _line(run(command, folder / "padded", tiny_model_dir))
    assert "critic_model" in text
    assert "vocab_size 320, and the policy 384" in text


def test_a_padding_token_without_an_embedding_is_none(folder: Path) -> None:
    assert load_tokenizer(folder / "padding").pad_token is None
    assert load_tokenizer(folder / "padded").pad_token == "<|pad|>"
    assert load_causal(folder / "padded").config.vocab_size == 384


def test_an_embedding_model_is_held_to_it_too(tiny_embedder: Path, tmp_path: Path) -> None:
    tokenizer: Any = _copied(tiny_embedder, tmp_path / "embedder")
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(tmp_path / "embedder")
    encoder = load_encoder(tmp_path / "embedder", "fp32", "cpu")
    assert encoder.tokenize(["a cat"])
    with pytest.raises(UsageError, match=r"token id \d+ \('zebra'\), and the model's vocab_size"):
        encoder.tokenize(["a cat", "a zebra"])


def test_the_configuration_is_made_once_and_again_where_its_file_has_changed(
    tiny_model_dir, tmp_path, monkeypatch
):
    """Each call that encodes rows looks at it, and making one takes longer than a few rows."""
    folder = shutil.copytree(tiny_model_dir, tmp_path / "model")
    tokenizer, made = load_tokenizer(folder), []
    own = token_ids.load_config
    monkeypatch.setattr(token_ids, "load_config", lambda path: made.append(path) or own(path))
    for _ in range(3):
        token_ids.check_own_ids(tokenizer, [[250]])
    assert made == [str(folder)]
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"vocab_size": 250}))
    with pytest.raises(UsageError, match="vocab_size is 250"):
        token_ids.check_own_ids(tokenizer, [[250]])
