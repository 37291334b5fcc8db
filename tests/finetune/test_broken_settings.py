"""A broken settings file of a model is one line that names it, whoever reads it first."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from siftune.curate.chat.control_tokens import end_tokens
from siftune.curate.core.errors import UsageError
from siftune.curate.models.token_ids import end_ids
from siftune.curate.text.language_model import CausalLM
from siftune.finetune.models import loading
from siftune.pipelines.cli import siftune
from tests.finetune.test_preference import rows_file

NO_OBJECTS = ["{bad", "", "[]", '"x"', "5", "null", "\udcff", "[" * 100_000]
"""Texts of files that hold no JSON object; of one the bytes are no UTF-8."""
WRONG_TYPES: list[dict[str, Any]] = [
    {"architectures": [1]},
    {"architectures": "LlamaForCausalLM"},
    {"model_type": ["llama"]},
    {"model_type": None},
    {"num_hidden_layers": "two"},
    {"num_hidden_layers": None},
    {"num_attention_heads": 0},
    {"vocab_size": "300"},
    {"eos_token_id": "x"},
    {"max_position_embeddings": "256"},
    {"id2label": 5},
]


WRONG_NUMBERS: list[tuple[dict[str, Any], str]] = [
    *(({key: 0}, f"{key}: expected at least 1") for key in ("vocab_size", "num_hidden_layers")),
    *(({"max_position_embeddings": n}, "embeddings: expected at least 1") for n in (0, -3)),
    ({"hidden_size": -32}, "hidden_size: expected at least 1, found -32"),
    ({"text_config": {"head_dim": 0}}, "head_dim: expected at least 1"),
    ({"rms_norm_eps": math.nan}, "rms_norm_eps: expected a finite number, found nan"),
    ({"attention_dropout": math.inf}, "attention_dropout: expected a finite number"),
    ({"own": [1.0, math.nan]}, "own: expected a finite number"),
    ({"rope_parameters": {"rope_theta": math.nan}}, "rope_parameters.rope_theta: expected a fin"),
    ({"rope_parameters": {"rope_theta": 0.0}}, "rope_parameters.rope_theta: expected more than 0"),
    ({"quantization_config": {"quant_method": "gptq"}}, "the weights are quantised (gptq)"),
]


@pytest.fixture
def copied(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "copied"))


def _refused(run: Callable[[], object], name: str) -> None:
    with pytest.raises(UsageError) as refused:
        run()
    text = str(refused.value)
    assert name in text
    assert "\n" not in text


def _readers(folder: Path) -> list[Callable[[], object]]:
    return [
        lambda: loading.load_tokenizer(folder),
        lambda: loading.load_reward(folder),
        lambda: loading.load_causal(folder),
    ]


@pytest.mark.parametrize("text", NO_OBJECTS, ids=lambda text: ascii(text[:9]))
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"]
)
def test_a_file_that_holds_no_object_is_named(name: str, text: str, copied: Path) -> None:
    tokenizer = loading.load_tokenizer(copied)
    (copied / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    if name == "tokenizer.json":
        return _refused(_readers(copied)[0], "tokenizer")
    for read in _readers(copied):
        _refused(read, name)
    if name == "generation_config.json":
        _refused(lambda: end_tokens(tokenizer), name)
    return None


@pytest.mark.parametrize("value", WRONG_TYPES, ids=str)
def test_a_value_of_a_wrong_type_is_laid_to_the_configuration(
    value: dict[str, Any], copied: Path
) -> None:
    path = copied / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | value))
    for read in _readers(copied)[:2]:
        _refused(read, "config.json")


@pytest.mark.parametrize(("value", "says"), WRONG_NUMBERS, ids=str)
def test_a_number_that_no_model_computes_with_is_refused_by_its_key(
    value: dict[str, Any], says: str, copied: Path
) -> None:
    path = copied / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | value))
    for read in [*_readers(copied), lambda: CausalLM(str(copied)).mean_nll(["a"], ["b"])]:
        _refused(read, f"{path}: ")
        _refused(read, says)


@pytest.mark.parametrize("value", [{"max_new_tokens": -1}, {"suppress_tokens": 5}], ids=str)
def test_a_wrong_generation_setting_is_laid_to_its_own_file(
    value: dict[str, Any], copied: Path
) -> None:
    (copied / "generation_config.json").write_text(json.dumps(value))
    _refused(lambda: loading.load_causal(copied), "generation_config.json cannot be loaded")


def test_end_tokens_beyond_the_vocabulary_end_nothing(copied: Path) -> None:
    path = copied / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [99_999, 7]}))
    model, tokenizer = loading.load_causal(copied), loading.load_tokenizer(copied)
    assert end_ids(model, tokenizer) == {7, tokenizer.eos_token_id}
    for config in (model.config, model.generation_config, tokenizer):
        config.eos_token_id = 99_999  # type: ignore[union-attr]
    _refused(lambda: end_ids(model, tokenizer), "end token")


def test_a_start_token_beyond_the_vocabulary_starts_nothing(copied: Path) -> None:
    path = copied / "config.json"
    settings = json.loads(path.read_text())
    for wrong in (-4, 99_999):
        path.write_text(json.dumps(settings | {"bos_token_id": wrong}))
        ended = CausalLM(str(copied), precision="fp32").mean_nll(["a"], ["b"])
        path.write_text(json.dumps(settings | {"bos_token_id": settings["eos_token_id"]}))
        assert ended == CausalLM(str(copied), precision="fp32").mean_nll(["a"], ["b"])
        path.write_text(json.dumps(settings | {"bos_token_id": wrong, "eos_token_id": None}))
        _refused(lambda: CausalLM(str(copied)).mean_nll(["a"], ["b"]), "neither a bos nor an eos")


@pytest.mark.parametrize("ends", ["x", [1, "x"], {"a": 1}, 1.5, True, -5, [7, -1]])
def test_end_tokens_that_are_no_numbers_are_refused(ends: object, copied: Path) -> None:
    (copied / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    for read in _readers(copied):
        _refused(read, "generation_config.json: eos_token_id: expected a token id")


@pytest.mark.parametrize("text", NO_OBJECTS[:-1], ids=ascii)
def test_an_index_that_holds_no_object_is_named(text: str, copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "part.safetensors")
    index = copied / "model.safetensors.index.json"
    index.write_bytes(text.encode("utf-8", "surrogateescape"))
    for read in _readers(copied)[1:]:
        _refused(read, index.name)


def test_a_number_that_strict_json_has_no_word_for_is_read(copied: Path) -> None:
    path = copied / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"own": [0.0, float("inf")]}))
    assert loading.config_of(copied).own == [0.0, float("inf")]


@pytest.mark.parametrize(
    "command",
    [
        "finetune sft ROWS --model M",
        "finetune dpo ROWS --model M",
        "finetune reward ROWS --model M",
        "finetune ppo ROWS --model M --reward exact_match",
        "finetune evaluate ROWS --model M",
        "finetune sample ROWS --model M --reward exact_match",
        "curate score ROWS ifd --model M",
    ],
)
def test_every_command_that_loads_a_model_says_so_in_one_line(
    command: str, copied: Path, tmp_path: Path
) -> None:
    path = copied / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": "two"}))
    rows_file(tmp_path)
    places = {"ROWS": tmp_path / "kept.parquet", "M": copied}
    words = [str(places.get(word, word)) for word in command.split()]
    told = CliRunner().invoke(siftune, [*words, "--out", str(tmp_path / "out")])
    assert isinstance(told.exception, UsageError), told.exception
    assert "config.json" in str(told.exception)
    assert "\n" not in str(told.exception)
