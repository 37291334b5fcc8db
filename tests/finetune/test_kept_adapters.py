"""A trained adapter is merged, kept as PEFT loads it, or both; all three are the same model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from siftune.curate.core.errors import UsageError
from siftune.finetune.models.loading import load_causal, load_reward
from siftune.finetune.trainers.ppo import PPO
from siftune.finetune.trainers.preference import Preference
from siftune.finetune.trainers.reward_model import RewardModel
from siftune.finetune.trainers.sft import SFT

LORA: dict[str, Any] = {"lora": 2, "lr": 1e-2}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    listed = [{"prompt": f"{at}?", "chosen": f"it is {at}", "rejected": "no"} for at in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return path


def trainer_of(method: str, model: Path, kept: str) -> Any:
    given = {"model": str(model), "adapter": kept, **LORA}
    if method == "sft":
        return SFT(**given)
    if method == "reward":
        return RewardModel(**given, held_out=0.0)
    if method == "dpo":
        return Preference(**given, held_out=0.0)
    sizes = {"rollouts": 1, "batch_size": 4, "minibatches": 1, "epochs": 1, "max_new_tokens": 3}
    return PPO(reward="text_share", reward_options={"text": "e"}, **given, **sizes)


def scores(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(5, 17)[None]).logits
    return found


@pytest.mark.parametrize(
    "method", ["reward", "dpo", *(pytest.param(m, marks=pytest.mark.slow) for m in ("sft", "ppo"))]
)
def test_an_adapter_that_is_kept_beside_the_model_is_the_same_model_on_its_base(
    method: str, tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    out = tmp_path / "both"
    trainer_of(method, tiny_model_dir, "both")(rows, out)
    load: Any = load_reward if method == "reward" else load_causal
    base = load(tiny_model_dir)
    adapted = PeftModel.from_pretrained(base, out / "adapter").eval()
    torch.testing.assert_close(scores(adapted), scores(load(out)), rtol=1e-4, atol=1e-5)
    assert not torch.equal(scores(load(tiny_model_dir)), scores(load(out)))
    config = json.loads((out / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_model_dir)
    assert config["target_modules"] == sorted(config["target_modules"])


def test_an_adapter_that_is_kept_alone_is_a_folder_that_peft_loads_and_we_refuse(
    tiny_model_dir: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import AutoPeftModelForCausalLM

    both, alone = tmp_path / "both", tmp_path / "alone"
    trainer_of("sft", tiny_model_dir, "both")(rows, both)
    result = trainer_of("sft", tiny_model_dir, "keep")(rows, alone)
    assert not (alone / "model.safetensors").exists()
    assert not (alone / "config.json").exists()
    ours, theirs = (
        load_file(path / "adapter_model.safetensors") for path in (alone, both / "adapter")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    loaded = AutoPeftModelForCausalLM.from_pretrained(alone).eval()
    torch.testing.assert_close(scores(loaded), scores(load_causal(both)), rtol=1e-4, atol=1e-5)
    assert result.model == alone
    assert trainer_of("sft", tiny_model_dir, "keep")(rows, alone) == result  # it is found again
    assert "nothing to do" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"holds an adapter.*--adapter both"):
        load_causal(alone)


@pytest.mark.parametrize("method", [SFT, RewardModel, Preference])
def test_an_adapter_cannot_be_kept_where_none_is_trained(method: Any) -> None:
    with pytest.raises(ValueError, match="adapter: both needs lora"):
        method(model="m", adapter="both")
