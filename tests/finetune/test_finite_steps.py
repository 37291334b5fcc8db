"""Every trainer stops at NaN and infinity before the optimizer does, and names the rows."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from siftune.finetune.models.loading import load_tokenizer
from siftune.finetune.runs.finite_steps import NonFiniteError
from siftune.finetune.tools.init import Init
from siftune.finetune.trainers.ppo import PPO
from siftune.finetune.trainers.preference import Preference
from siftune.finetune.trainers.reward_model import RewardModel
from siftune.finetune.trainers.sft import SFT

BAD = 7
"""The row that holds a Z, whose embedding is finite and overflows in the first layer norm."""


@pytest.fixture(scope="module")
def overflowing(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 that gives NaN for texts with a Z, and finite numbers for all others."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("overflow") / "model"
    shutil.copytree(tiny_model_dir, folder)
    tokenizer = load_tokenizer(tiny_model_dir)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=128,
        n_embd=16,
        n_layer=1,
        n_head=2,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    ids: Any = tokenizer("Z", add_special_tokens=False)["input_ids"]
    model.transformer.wte.weight.data[ids[0]] = 3e38
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    rows = [
        {"prompt": f"q{at}?", "chosen": f"yes {at}" + "Z" * (at == BAD), "rejected": f"no no {at}"}
        for at in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


BATCH: dict[str, Any] = {"batch_size": 3, "log_every": 1, "lr": 1e-6}
TRAINERS = [
    pytest.param(lambda m: SFT(m, **BATCH), id="sft"),
    pytest.param(lambda m: SFT(m, **BATCH, packing=True, max_length=32), id="sft-packed"),
    pytest.param(lambda m: SFT(m, **BATCH, lora=2), id="sft-lora"),
    pytest.param(lambda m: RewardModel(m, **BATCH, held_out=0.0), id="reward"),
    pytest.param(lambda m: Preference(m, **BATCH, held_out=0.0), id="preference"),
    pytest.param(lambda m: Preference(m, **BATCH, held_out=0.0, micro_tokens=32), id="parts"),
    pytest.param(lambda m: Preference(m, loss="kto", **BATCH, held_out=0.0), id="answers"),
]


@pytest.mark.parametrize("make", TRAINERS)
def test_a_batch_whose_loss_is_not_finite_stops_the_run_and_is_named(
    make: Any, overflowing: Path, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(NonFiniteError, match=r"the loss is nan at step \d+, on rows") as stopped:
        make(str(overflowing))(pairs, out)
    assert stopped.value.exit_code == 1
    named = str(stopped.value).partition("on rows ")[2].partition(":" + " no model")[0].split(", ")
    assert any(name.startswith(f"pairs:{BAD + 1}") for name in named), named
    assert len(named) < 12  # of the batch, not of the run
    assert not out.exists()


def test_the_micro_batch_of_the_loss_is_named_and_not_the_whole_step(
    overflowing: Path, pairs: Path, tmp_path: Path
) -> None:
    trainer = SFT(
        str(overflowing), lr=1e-6, batch_size=1, options={"gradient_accumulation_steps": 12}
    )
    with pytest.raises(NonFiniteError, match=rf"step 1, on rows pairs:{BAD + 1}: no model"):
        trainer(pairs, tmp_path / "out")


def test_checkpoints_before_it_are_kept(overflowing: Path, pairs: Path, tmp_path: Path) -> None:
    trainer = SFT(str(overflowing), lr=1e-6, batch_size=1, save_every=1, epochs=1)
    with pytest.raises(NonFiniteError) as stopped:
        trainer(pairs, tmp_path / "out")
    step = int(str(stopped.value).partition("at step ")[2].partition(",")[0])
    assert step > 1  # of the order of seed 0
    assert (tmp_path / f"out.work/checkpoint-{step - 1}/sealed.json").is_file()


def test_a_gradient_that_is_not_finite_stops_the_run_though_the_loss_is(
    tiny_model_dir: Path, pairs: Path, tmp_path: Path
) -> None:
    """RMSNorm maps the huge embedding to zeros; its gradient is infinity times zero."""
    from siftune.finetune.models.loading import load_reward
    from siftune.finetune.models.saving import save_model

    tokenizer = load_tokenizer(tiny_model_dir)
    model = load_reward(tiny_model_dir)
    ids: Any = tokenizer("Z", add_special_tokens=False)["input_ids"]
    model.get_input_embeddings().weight.data[ids[0]] = 3e38
    save_model(model, tokenizer, tmp_path / "huge", {"stage": "reward", "method": "", "seed": 0})
    for clipped in (1.0, 0.0):
        trainer = RewardModel(
            str(tmp_path / "huge"),
            batch_size=2,
            held_out=0.0,
            options={"max_grad_norm": clipped},
        )
        with pytest.raises(NonFiniteError, match=rf"gradient.*on rows.*pairs:{BAD + 1}\b"):
            trainer(pairs, tmp_path / "out")


@pytest.mark.parametrize("lr", [1e20, 1e38])
def test_a_run_that_diverges_stops(
    tiny_model_dir: Path, pairs: Path, tmp_path: Path, lr: float
) -> None:
    trainer = SFT(
        str(tiny_model_dir), lr=lr, batch_size=4, options={"lr_scheduler_type": "constant"}
    )
    with pytest.raises(NonFiniteError, match="at step"):
        trainer(pairs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_the_last_step_breaks_are_not_written(
    tiny_model_dir: Path, pairs: Path, tmp_path: Path
) -> None:
    trainer = SFT(
        str(tiny_model_dir), lr=1e39, batch_size=12, options={"lr_scheduler_type": "constant"}
    )
    with pytest.raises(NonFiniteError, match=r"the weight \S+ is not finite at step 1, on rows"):
        trainer(pairs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_made_from_text_stops_too(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"The cat sat on mat {at}." for at in range(30)))
    options = {"vocab_size": 320, "hidden": 16, "layers": 1, "heads": 2, "context": 16}
    with pytest.raises(NonFiniteError, match=r"at step [2-9], on rows text \d+, text"):
        Init(**options, steps=9, lr=1e30, batch_size=2)(text, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ppo_names_the_rows_of_a_rollout_whose_numbers_are_not_finite(
    overflowing: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "asked.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": f"q{at}" + "Z" * (at == 2)}]})
            + "\n"
            for at in range(4)
        )
    )
    trainer = PPO(
        model=str(overflowing), reward="length", reward_options={"target": 4}, rollouts=1,
        batch_size=4, minibatches=1, micro_batch=4, epochs=1, max_new_tokens=4, temperature=0.01,
    )  # fmt: skip
    with pytest.raises(NonFiniteError, match=r"rollout 0 is not finite.*on rows asked:3: no model"):
        trainer(rows, tmp_path / "out")


def test_ppo_stops_at_a_supervised_loss_that_is_not_finite(
    overflowing: Path, pairs: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "asked.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "q"}]}) + "\n")
    trainer = PPO(
        model=str(overflowing), reward="length", reward_options={"target": 4}, rollouts=1,
        batch_size=12, minibatches=1, micro_batch=12, epochs=1, max_new_tokens=4, temperature=0.01,
        ptx_rows=str(pairs), ptx_coef=1.0, kl_stop=None,
    )  # fmt: skip
    with pytest.raises(NonFiniteError, match=rf"supervised loss is nan.*pairs:{BAD + 1}\b"):
        trainer(rows, tmp_path / "out")


def test_no_more_names_than_can_be_read_are_shown() -> None:
    text = str(NonFiniteError("the loss is nan", 3, [f"a:{at}" for at in range(100)]))
    assert "a:31 and 68 more" in text
    assert math.isclose(text.count("a:"), 32)
