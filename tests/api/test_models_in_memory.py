"""A model and tokenizer of a notebook train and are evaluated as their folder is."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import siftune as sf
from siftune.finetune.rewards.types import reward_of
from siftune.finetune.runs.resumable_run import Run
from siftune.finetune.trainers.ppo import PPO
from siftune.finetune.training.on_policy_key import run_key
from siftune.session import session

WORDS = ["cat", "sat", "mat", "sea"]
PAIRS = [{"prompt": f"Say {w}", "chosen": f"The {w}", "rejected": f"bad {w}"} for w in WORDS]
CHATS = [{"prompt": f"Say {word}", "response": f"The {word}"} for word in WORDS]
QUICK = {"epochs": 1, "batch_size": 4, "held_out": 0, "lr": 1e-3, "max_length": 64}


class Own(LlamaForCausalLM):
    """A user's own class: its code does not travel with the weights."""


class OwnTokenizer(PreTrainedTokenizerFast):
    """As the class above."""


@pytest.fixture
def model(tiny_model_dir: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny_model_dir)


def facts(result: sf.TrainResult) -> dict:
    return json.loads((result.model / "siftune.json").read_text())


def test_it_trains_as_its_folder_does_and_stays_as_it_is(
    model, tokenizer, tiny_model_dir, tmp_path
):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    ours = sf.train.sft(CHATS, model=model, tokenizer=tokenizer, out=tmp_path / "a", **QUICK)
    theirs = sf.train.sft(CHATS, model=tiny_model_dir, out=tmp_path / "b", **QUICK)
    one, other = (load_file(each.model / "model.safetensors") for each in (ours, theirs))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert facts(ours)["base"]["path"] == "in_memory/model"
    assert "--model in_memory/model" in facts(ours)["command"]
    assert not list(session().rglob("in_memory"))  # the folder is gone


def test_the_run_is_found_again_by_its_weights(model, tokenizer, tmp_path):
    def train() -> sf.TrainResult:
        given = {"model": model, "ref_model": model, "tokenizer": tokenizer, **QUICK}
        return sf.train.dpo(PAIRS, out=tmp_path / "m", **given)

    first = facts(train())
    assert facts(train()) == first  # another temporary folder, the same run
    with torch.no_grad():
        model.lm_head.weight += 0.01
    with pytest.raises(sf.UsageError, match="made with other options or data"):
        train()


def test_it_is_evaluated(model, tokenizer, tiny_model_dir):
    found = sf.evaluate(model, CHATS, tokenizer=tokenizer, max_new_tokens=2, limit=1)
    assert found.metrics == sf.evaluate(tiny_model_dir, CHATS, max_new_tokens=2, limit=1).metrics


def test_what_cannot_be_read_back_is_refused(model, tokenizer, tmp_path):
    quantised, adapted = copy.deepcopy(model), copy.deepcopy(model)
    quantised.config.quantization_config = {"quant_method": "bitsandbytes"}
    adapted.peft_config = {}
    with torch.device("meta"):
        empty = LlamaForCausalLM(model.config)
    own = Own(model.config)
    for given, words in [
        ({"model": model}, "model is a model in memory: give its tokenizer"),
        ({"model": "m", "tokenizer": tokenizer}, "tokenizer= is for a model in memory"),
        ({"model": own, "tokenizer": tokenizer}, "model: expected .* got .*Own: .* are refused"),
        ({"model": torch.nn.Linear(1, 1), "tokenizer": tokenizer}, "got torch.*Linear"),
        ({"model": quantised, "tokenizer": tokenizer}, "model: the weights are quantised"),
        ({"model": adapted, "tokenizer": tokenizer}, "model: .* adapter on it: .*merge_and_unload"),
        ({"model": empty, "tokenizer": tokenizer}, "model: some weights are not in memory"),
        ({"model": model, "tokenizer": "t"}, "tokenizer: expected one .* got builtins.str"),
        (
            {"model": model, "tokenizer": OwnTokenizer(tokenizer_object=tokenizer._tokenizer)},
            "tokenizer: expected one .* got .*OwnTokenizer",
        ),
        (
            {"model": model, "tokenizer": tokenizer, "lora": 2, "adapter": "keep"},
            "adapter: with keep .* names its base model",
        ),
    ]:
        with pytest.raises(sf.UsageError, match=words) as refused:
            sf.train.sft(CHATS, out=tmp_path / "out", **given)
        assert "\n" not in str(refused.value)
    with pytest.raises(sf.UsageError, match=r"reward: expected a name or a folder"):
        sf.train.ppo(CHATS, model="m", reward=model, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_transformers_cannot_write_is_one_line(model, tokenizer, tmp_path):
    model.generation_config.temperature = 0.3  # without sampling: save_pretrained refuses it
    with pytest.raises(sf.UsageError, match=r"^model: .* cannot be written as a folder \(") as bad:
        sf.train.sft(CHATS, model=model, tokenizer=tokenizer, out=tmp_path / "out", **QUICK)
    assert "temperature" in str(bad.value)
    assert not (tmp_path / "out").exists()


def test_a_run_of_ppo_follows_the_weights_of_its_critic_not_its_folder(
    tiny_model_dir, tiny_reward_dir, tmp_path
):
    def key(model: Path, critic: Path) -> dict:
        trainer = PPO(model=str(model), reward="exact_match", critic_model=str(critic))
        reward = reward_of("exact_match", {}, "fp32")
        return Run.of(tmp_path, run_key(trainer, sf.read(CHATS).kept, reward, "fp32")).key

    moved = tmp_path / "moved"
    moved.symlink_to(tiny_model_dir)
    assert key(tiny_model_dir, tiny_model_dir) == key(moved, moved)
    assert key(tiny_model_dir, tiny_model_dir) != key(tiny_model_dir, tiny_reward_dir)
