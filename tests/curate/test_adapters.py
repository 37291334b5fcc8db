"""Scorers under a LoRA adapter: the scores of the merged model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.curate.models.resolve import folder_hash
from siftune.curate.scorers.classifier import Classifier
from siftune.curate.scorers.policy_logp import PolicyLogp
from siftune.finetune.models.loading import load_causal, load_reward, load_tokenizer
from siftune.finetune.models.lora import with_adapter
from tests.curate.lm_reference import BOT, USER, Chat, table

CHATS: list[Chat] = [[(USER, "Name a colour."), (BOT, "Blue.")], [(USER, "Hi"), (BOT, "Hello!")]]


def adapter(model: Path, folder: Path, task: str) -> tuple[Path, Path]:
    """An adapter that changes its base, and the merged model."""
    load = load_causal if task == "CAUSAL_LM" else load_reward
    trained = with_adapter(load(model), 2, 4.0, seed=1, task=task)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                weight.normal_(std=0.3)
    trained.save_pretrained(folder / "adapter", save_embedding_layers=False)
    trained.merge_and_unload().save_pretrained(folder / "merged")
    for name in ("adapter", "merged"):
        load_tokenizer(model).save_pretrained(folder / name)
    return folder / "adapter", folder / "merged"


def test_a_policy_is_its_base_with_the_adapter(tiny_model_dir: Path, tmp_path: Path) -> None:
    alone, merged = adapter(tiny_model_dir, tmp_path, "CAUSAL_LM")
    found, expected, base = (
        PolicyLogp(str(one), precision="fp32")(table(*CHATS))["policy_logp"].to_list()
        for one in (alone, merged, tiny_model_dir)
    )
    assert found == pytest.approx(expected, abs=1e-5)
    assert found != pytest.approx(base, abs=1e-3)


def test_a_reward_model_is_its_base_with_adapter_and_head(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    alone, merged = adapter(tiny_model_dir, tmp_path, "SEQ_CLS")
    found, expected = (
        Classifier(str(one), precision="fp32")(table(*CHATS))["classifier"].to_list()
        for one in (alone, merged)
    )
    assert found == pytest.approx(expected, abs=1e-5)
    assert found[0] != pytest.approx(found[1], abs=1e-3)


def test_an_adapter_that_is_no_safetensors_file_is_not_loaded(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    settings = f'{{"base_model_name_or_path": "{tiny_model_dir}", "task_type": "SEQ_CLS"}}'
    (tmp_path / "adapter_config.json").write_text(settings)
    (tmp_path / "adapter_model.bin").write_bytes(b"no tensors")
    load_tokenizer(tiny_model_dir).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is an adapter without adapter_model"):
        Classifier(str(tmp_path))(table(*CHATS))


def test_the_identity_of_an_adapter_has_its_base(tiny_model_dir: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{base}"}}')
    before = folder_hash(alone)
    (base / "config.json").write_text('{"a": 1}')
    assert folder_hash(alone) != before
    (alone / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="names no base model"):
        folder_hash(alone)
