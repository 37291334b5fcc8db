"""Families of models: what one cannot do ends in a line that names it, what it can do is done."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from siftune.finetune.models.loading import load_causal
from tests.finetune.test_preference import rows_file
from tests.fuzz.commands import Done, called

_USUAL = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 3,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "Mamba": {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 8},
    "Bert": {**_USUAL, "is_decoder": True},
    "Cohere": _USUAL,
    "Gemma2": {**_USUAL, "num_key_value_heads": 1, "head_dim": 16},
    "Reformer": {
        "vocab_size": 320,
        "hidden_size": 32,
        "is_decoder": True,
        "axial_pos_shape": [8, 16],
        "axial_pos_embds_dim": [16, 16],
        "num_attention_heads": 2,
        "feed_forward_size": 64,
        "attn_layers": ["local"],
        "local_attn_chunk_length": 16,
        "max_position_embeddings": 128,
    },
    "T5": {"vocab_size": 320, "d_model": 32, "num_layers": 1, "num_heads": 2, "d_ff": 32},
    "XLNet": {"vocab_size": 320, "d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 64},
}
_PPO = "ppo ROWS --model M --reward exact_match --rollouts 1 --batch-size 4 --max-new-tokens 2"
REFUSED = [
    ("Mamba", "sft ROWS --model M --lora 2", "an adapter does not fit models of the family mamba"),
    ("Mamba", f"{_PPO} --lora 2", "an adapter does not fit models of the family mamba"),
    ("Mamba", "reward ROWS --model M", "no sequence classifier, which a reward model is, of the"),
    ("Cohere", "reward ROWS --model M", "family cohere"),
    ("T5", "sft ROWS --model M", "no causal language model of the family t5"),
    ("T5", "evaluate ROWS --model M", "no causal language model of the family t5"),
    ("Bert", "dpo ROWS --model M", "neither preferences nor PPO can be trained on BertLMHeadModel"),
    ("Reformer", "sft ROWS --model M", "models of the family reformer cannot be used so (Value"),
    ("Reformer", "reward ROWS --model M", "models of the family reformer cannot be used so"),
]
DONE = [
    ("XLNet", "finetune sft ROWS --model M"),  # its limit of positions is -1
    ("Gemma2", "curate score CHATS ifd --model M"),  # it has no sdpa attention
    ("Mamba", "curate score CHATS ifd --model M"),  # it has no attention
    ("Mamba", "finetune evaluate ROWS --model M --precision bf16 --max-new-tokens 2"),
    ("Mamba", "finetune dpo ROWS --model M --precision bf16"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Callable[[str], Path]:
    """A model folder of a family, with the tiny model's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    folder = tmp_path_factory.mktemp("families")
    rows_file(folder, 4)
    turns = [{"role": r, "content": c} for r, c in (("user", "Say king"), ("assistant", "King."))]
    (folder / "chats.jsonl").write_text(2 * (json.dumps({"messages": turns}) + "\n"))

    def make(name: str) -> Path:
        if not (folder / name).is_dir():
            config = getattr(transformers, f"{name}Config")(**CONFIGS[name])
            ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
            for key, value in ends.items():
                setattr(config, key, value)
            torch.manual_seed(0)
            kind = transformers.AutoModel if name == "T5" else AutoModelForCausalLM
            kind.from_config(config).save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)
        return folder / name

    return make


@pytest.fixture
def run(made: Callable[[str], Path], tmp_path: Path) -> Callable[[str, str], Done]:
    def run(name: str, command: str) -> Done:
        model = made(name)
        rows = {"ROWS": model.parent / "kept.parquet", "CHATS": model.parent / "chats.jsonl"}
        words = [str({**rows, "M": model}.get(word, word)) for word in shlex.split(command)]
        return called(*words, "--out", tmp_path / "out")

    return run


@pytest.mark.parametrize(("name", "command", "says"), REFUSED)
def test_what_a_family_cannot_do_is_one_line(
    name: str, command: str, says: str, run: Callable[[str, str], Done]
) -> None:
    done = run(name, f"finetune {command}")
    assert done.code == 2, done.message
    assert says in done.message
    assert "another" in done.message
    assert done.problem() is None


@pytest.mark.parametrize(("name", "command"), DONE)
def test_what_a_family_can_do_is_done(
    name: str, command: str, run: Callable[[str, str], Done]
) -> None:
    done = run(name, command)
    assert done.code == 0, done.message


def test_an_error_of_ours_is_laid_to_no_family(
    run: Callable[[str, str], Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise ValueError("ours")

    monkeypatch.setattr("siftune.finetune.training.sft_rows.encode_chats", wrong)
    done = run("Gemma2", "finetune sft ROWS --model M")
    assert done.code == 1
    assert "unexpected ValueError" in done.message


def test_a_head_is_given_states_of_its_own_number_format(made: Callable[[str], Path]) -> None:
    from siftune.finetune.scoring.logps import check_head

    model: Any = load_causal(made("Mamba"), "bfloat16")
    states = model.base_model(input_ids=torch.tensor([[1, 2, 3]])).last_hidden_state
    assert states.dtype == torch.float32  # else there is nothing to see here
    check_head(model, torch.tensor([[1, 2, 3]]))
