"""A folder that does not hold a whole model is refused by the names of its tensors."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from siftune.curate.core.errors import UsageError
from siftune.curate.models.pretrained import load_pretrained, non_finite
from siftune.curate.text.language_model import CausalLM
from siftune.curate.vectors.embed_model import load_model
from siftune.finetune.models.loading import load_causal, load_reward

Weights = dict[str, torch.Tensor]
Edit = Callable[[Weights], Any]


def edited(model: Path, folder: Path, edit: Edit | None = None, **config: Any) -> Path:
    """A copy of a model folder with other weights, or another configuration."""
    shutil.copytree(model, folder)
    if edit is not None:
        weights = load_file(folder / "model.safetensors")
        edit(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def causal(folder: Path) -> Any:
    return load_causal(folder)


def scorer(folder: Path) -> Any:
    return CausalLM(str(folder)).mean_nll(["What?"], ["Blue."])


def fresh_reward(folder: Path) -> Any:
    return load_reward(folder)


def embedding(folder: Path) -> Any:
    return load_model(folder, "cpu")


LLAMA, BERT = "model.layers.0.mlp.up_proj.weight", "encoder.layer.0.output.dense.weight"
LOADS = [
    pytest.param(causal, "tiny_model_dir", LLAMA, id="causal"),
    pytest.param(scorer, "tiny_model_dir", LLAMA, id="scorer"),
    pytest.param(fresh_reward, "tiny_model_dir", LLAMA, id="reward-of-causal"),
    pytest.param(fresh_reward, "tiny_reward_dir", LLAMA, id="reward"),
    pytest.param(fresh_reward, "tiny_embedder", BERT, id="reward-of-encoder"),
    pytest.param(embedding, "tiny_embedder", BERT, id="embedding"),
]


def _drop(name: str) -> Edit:
    return lambda weights: weights.pop(name)


def _turn(name: str) -> Edit:
    return lambda weights: weights.update({name: weights[name].T.contiguous()})


def _put(name: str, value: float) -> Edit:
    def edit(weights: Weights) -> None:
        weights[name].view(-1)[7] = value

    return edit


def _deeper(name: str) -> Edit:
    """The first layer's tensors once more, as those of one that config.json does not have."""

    def edit(weights: Weights) -> None:
        first = {key: value for key, value in weights.items() if ".0." in key}
        weights.update({key.replace(".0.", ".9."): value.clone() for key, value in first.items()})

    return edit


@pytest.mark.parametrize(("load", "model", "name"), LOADS)
@pytest.mark.parametrize(
    ("edit", "what"),
    [
        pytest.param(_drop, "missing", id="missing"),
        pytest.param(_deeper, "not expected by config.json", id="layers-too-many"),
        pytest.param(_turn, "of another shape", id="shape"),
        pytest.param(lambda name: _put(name, math.nan), "NaN or infinity in 1 tensor", id="nan"),
        pytest.param(lambda name: _put(name, -math.inf), "NaN or infinity in 1 tensor", id="inf"),
    ],
)
def test_a_tensor_that_is_wrong_is_named(
    load: Callable[[Path], Any],
    model: str,
    name: str,
    edit: Callable[[str], Edit],
    what: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    broken = edited(request.getfixturevalue(model), tmp_path / "broken", edit(name))
    with pytest.raises(UsageError) as refused:
        load(broken)
    text = str(refused.value)
    assert what in text
    assert (name if edit is not _deeper else name.partition(".0.")[0] + ".9.") in text
    assert "\n" not in text


@pytest.mark.parametrize(("load", "model", "name"), LOADS)
def test_layers_that_the_weights_lack_are_named(
    load: Callable[[Path], Any],
    model: str,
    name: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    broken = edited(request.getfixturevalue(model), tmp_path / "broken", num_hidden_layers=3)
    with pytest.raises(UsageError, match=r"tensors \(\S*layers?\.\d.*\.\.\.\) missing"):
        load(broken)


@pytest.mark.parametrize(("load", "model", "name"), LOADS)
def test_a_tensor_too_many_is_named(
    load: Callable[[Path], Any],
    model: str,
    name: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    def edit(weights: Weights) -> None:
        weights["extra.weight"] = torch.ones(2)

    broken = edited(request.getfixturevalue(model), tmp_path / "broken", edit)
    with pytest.raises(UsageError, match=r"1 tensor \(extra\.weight\) not expected"):
        load(broken)


def test_a_head_is_new_as_a_whole_or_not_at_all(tiny_reward_dir: Path, tmp_path: Path) -> None:
    headless = edited(tiny_reward_dir, tmp_path / "headless", _drop("score.weight"))
    with pytest.raises(UsageError, match=r"\(score\.weight\) missing"):
        load_reward(headless)
    with pytest.raises(UsageError, match=r"\(score\.weight\) not expected"):
        load_causal(tiny_reward_dir)


def test_tied_embeddings_are_missing_only_where_both_are(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    def rename(weights: Weights) -> None:
        weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")

    moved = load_causal(edited(tiny_model_dir, tmp_path / "moved", rename))
    whole = load_causal(tiny_model_dir)
    assert torch.equal(moved.get_input_embeddings().weight, whole.get_input_embeddings().weight)
    gone = edited(tiny_model_dir, tmp_path / "gone", _drop("model.embed_tokens.weight"))
    with pytest.raises(UsageError, match=r"lm_head\.weight, model\.embed_tokens\.weight\) missing"):
        load_causal(gone)


def _bert(kind: str, folder: Path) -> Path:
    import transformers

    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)
    return folder


def test_the_head_of_another_task_and_a_pooler_that_is_not_there_are_no_faults(
    tmp_path: Path,
) -> None:
    from transformers import AutoModel, AutoModelForSequenceClassification

    masked = _bert("BertForMaskedLM", tmp_path / "masked")  # has a head, and no pooler
    load_pretrained(AutoModelForSequenceClassification, masked, backbone=True, num_labels=1)
    load_pretrained(AutoModel, masked, backbone=True)
    half = edited(
        _bert("BertModel", tmp_path / "whole"), tmp_path / "half", _drop("pooler.dense.bias")
    )
    with pytest.raises(UsageError, match=r"\(pooler\.dense\.bias\) missing"):
        load_pretrained(AutoModel, half, backbone=True)


def _neox(folder: Path) -> Path:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16}
    config = GPTNeoXConfig(num_hidden_layers=1, num_attention_heads=2, **sizes)
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_head_is_known_by_its_name_in_the_file(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = _neox(tmp_path / "neox")
    assert "embed_out.weight" in load_file(folder / "model.safetensors")  # lm_head of the module
    load_pretrained(AutoModelForSequenceClassification, folder, backbone=True, num_labels=1)
    for edit, name in (
        (_deeper(""), r"gpt_neox\.layers\.9\."),
        (lambda weights: weights.update(spare=torch.ones(1)), "spare"),
    ):
        broken = edited(folder, tmp_path / name, edit)
        with pytest.raises(UsageError, match=rf"\({name}.*\) not expected by config"):
            load_pretrained(AutoModelForSequenceClassification, broken, backbone=True, num_labels=1)


def test_a_constant_that_older_files_of_gpt2_hold_is_no_fault(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=20, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    constants = {f"transformer.h.0.attn.{name}": torch.ones(1) for name in ("bias", "masked_bias")}
    old = edited(tmp_path / "gpt2", tmp_path / "old", lambda weights: weights.update(constants))
    causal(old)


def test_bert_as_its_authors_published_it_is_a_sound_trunk(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    both = _bert("BertForPreTraining", tmp_path / "both")  # named BertForMaskedLM on the hub
    folder = edited(both, tmp_path / "named", architectures=["BertForMaskedLM"])
    assert "cls.seq_relationship.weight" in load_file(folder / "model.safetensors")
    load_pretrained(AutoModelForSequenceClassification, folder, backbone=True, num_labels=1)


@pytest.fixture
def sharded(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """The tiny model in several files under an index."""
    folder = tmp_path / "sharded"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "model.safetensors").unlink()
    load_causal(tiny_model_dir).save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


def test_shards_make_the_same_model(sharded: Path, tiny_model_dir: Path) -> None:
    one, other = load_causal(sharded).state_dict(), load_causal(tiny_model_dir).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_shard_that_is_missing_is_named_with_its_tensors(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    name = next(iter(load_file(shard)))
    shard.unlink()
    with pytest.raises(UsageError, match=rf"{shard.name}, which is not there.*{name}"):
        load_causal(sharded)


def test_a_shard_that_the_index_leaves_out_is_missed(sharded: Path) -> None:
    path = sharded / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    last = sorted(set(index["weight_map"].values()))[-1]
    kept = {name: place for name, place in index["weight_map"].items() if place != last}
    path.write_text(json.dumps(index | {"weight_map": kept}))
    with pytest.raises(UsageError, match="missing"):
        load_causal(sharded)


@pytest.mark.parametrize("places", [{}, ["a"], {"a": "../model.safetensors"}, {"a": 3}, None])
def test_an_index_that_is_none_is_refused(sharded: Path, places: Any) -> None:
    path = sharded / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(UsageError, match="expected a weight_map"):
        load_causal(sharded)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
@pytest.mark.parametrize("load", [causal, scorer, fresh_reward])
def test_a_file_that_was_cut_off_is_named(
    load: Callable[[Path], Any], keep: int, tiny_model_dir: Path, tmp_path: Path
) -> None:
    broken = edited(tiny_model_dir, tmp_path / "broken")
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"model\.safetensors is not a whole safetensors file"):
        load(broken)


def test_a_header_that_lies_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    broken = edited(tiny_model_dir, tmp_path / "broken")
    path = broken / "model.safetensors"
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    header["model.norm.weight"]["shape"] = [31]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
    with pytest.raises(UsageError, match="is not a whole safetensors file"):
        load_causal(broken)


def test_an_adapter_is_no_model_though_it_names_one(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = edited(tiny_model_dir, tmp_path / "adapter")
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "elsewhere", "peft_type": "LORA"})
    )
    for load in (causal, scorer, fresh_reward):
        with pytest.raises(UsageError, match="is an adapter"):
            load(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": "2"},
        {"hidden_size": 33},
        {"num_attention_heads": 0},
        {"hidden_act": "no such thing"},
        {"model_type": "no such thing"},
        {"vocab_size": -1},
        {"rope_parameters": {"rope_type": "no such thing"}},
    ],
)
def test_a_configuration_that_makes_no_model_is_one_line(
    config: dict[str, Any], tiny_model_dir: Path, tmp_path: Path
) -> None:
    broken = edited(tiny_model_dir, tmp_path / "broken", None, **config)
    for load in (causal, scorer):
        with pytest.raises(UsageError, match=r"broken") as refused:
            load(broken)
        assert "\n" not in str(refused.value)


def test_an_expert_that_is_missing_is_named_by_its_layer(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path / "whole")
    load_pretrained(AutoModelForCausalLM, tmp_path / "whole")
    name = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    broken = edited(tmp_path / "whole", tmp_path / "broken", _drop(name))
    with pytest.raises(UsageError, match=r"layers\.0\.mlp\.experts\.gate_up_proj.*missing or of"):
        load_pretrained(AutoModelForCausalLM, broken)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_of_many_is_found(dtype: torch.dtype, value: float) -> None:
    for at in np.random.default_rng(0).integers(0, 4097, 8).tolist():
        tensor = torch.randn(4097).to(dtype)
        assert non_finite([("a", tensor)]) == []
        tensor[at] = value
        assert non_finite([("a", tensor), ("b", torch.ones(0)), ("c", torch.ones(2).long())]) == [
            "a"
        ]


def test_a_saved_buffer_is_looked_at_and_one_that_is_computed_is_not() -> None:
    from siftune.curate.models.pretrained import weights_of

    module = torch.nn.Linear(1, 1)
    module.register_buffer("bias_of_router", torch.tensor([math.nan]))
    module.register_buffer("mask", torch.tensor([-math.inf]), persistent=False)
    assert non_finite(weights_of(module)) == ["bias_of_router"]


@pytest.mark.parametrize(("load", "model", "name"), LOADS)
@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int64, torch.bool], ids=str)
def test_whole_numbers_in_the_place_of_weights_are_refused_by_name(
    load: Callable[[Path], Any],
    model: str,
    name: str,
    kind: torch.dtype,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    def edit(weights: Weights) -> None:
        weights[name] = (100 * weights[name]).to(kind)

    broken = edited(request.getfixturevalue(model), tmp_path / "broken", edit)
    with pytest.raises(UsageError, match=rf"1 tensor \({re.escape(name)}\) of whole numbers"):
        load(broken)


def test_a_model_that_makes_nan_of_finite_weights_is_refused(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    broken = edited(tiny_model_dir, tmp_path / "broken", rms_norm_eps=-1.0)
    for load in (causal, scorer, fresh_reward):
        with pytest.raises(UsageError, match="gives NaN or infinity for the tokens 1 and 2"):
            load(broken)


def test_the_size_of_a_small_model_is_told_in_megabytes(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        "siftune.curate.models.pretrained.if_slow", lambda text: nullcontext(said.append(text))
    )
    load_pretrained(AutoModelForCausalLM, tiny_model_dir)
    assert re.fullmatch(rf"loading {re.escape(str(tiny_model_dir))} \(0\.[1-9] MB\)", said[0])
