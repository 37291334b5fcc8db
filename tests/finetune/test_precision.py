from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from click.testing import CliRunner

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn
from siftune.finetune.cli import finetune
from siftune.finetune.data.answer_rows import AnswerRow
from siftune.finetune.data.collator import AnswerCollator
from siftune.finetune.models import loading
from siftune.finetune.models.loading import load_causal, load_reward, read_facts
from siftune.finetune.models.lora import merge_adapter, with_adapter
from siftune.finetune.models.precision import Precision, report
from siftune.finetune.scoring.reference import precomputed
from siftune.finetune.tools.evaluate import Evaluate
from siftune.finetune.tools.sample import Sample
from siftune.finetune.trainers.ppo import PPO
from siftune.finetune.trainers.preference import Preference
from siftune.finetune.trainers.reward_model import RewardModel
from siftune.finetune.trainers.sft import SFT

COLOURS = ("red", "blue", "green", "black", "white", "grey")


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    return written(
        tmp_path / "chats.parquet",
        "conversation",
        messages=[
            [turn("user", f"Name colour {at}."), turn("assistant", f"It is {colour}.")]
            for at, colour in enumerate(COLOURS)
        ],
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return written(
        tmp_path / "pairs.parquet",
        "preference",
        prompt=[[turn("user", f"Name colour {at}.")] for at in range(6)],
        chosen=[[turn("assistant", f"It is {colour}.")] for colour in COLOURS],
        rejected=[[turn("assistant", f"No, not {colour}, no.")] for colour in COLOURS],
    )


def written(path: Path, kind: Any, **content: list[Any]) -> Path:
    height = len(next(iter(content.values())))
    base = {"id": [f"t:{at}" for at in range(height)], "source": ["t"] * height}
    rows = base | {"row": range(height), "kind": [kind] * height} | content
    pl.DataFrame(rows, schema_overrides=schema_of(kind)).write_parquet(path)
    return path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[torch.nn.Module]:
    """Every model that is loaded meanwhile."""
    found: list[torch.nn.Module] = []
    own = loading._load

    def load(*given: Any, **more: Any) -> Any:
        found.append(own(*given, **more))
        return found[-1]

    monkeypatch.setattr(loading, "_load", load)
    return found


def bf16(model: torch.nn.Module) -> bool:
    return next(model.parameters()).dtype == torch.bfloat16


SMALL: dict[str, Any] = {"batch_size": 2, "lora": 2, "lr": 1e-2, "precision": "bf16"}
TINY_PPO: dict[str, Any] = {
    "reward": "text_share",
    "reward_options": {"text": "e"},
    "rollouts": 1,
    "batch_size": 2,
    "minibatches": 1,
    "epochs": 1,
    "max_new_tokens": 4,
    "lr": 1e-2,
}


def trainer(name: str, model: Path, **options: Any) -> Any:
    """One of the four with few rows and steps, in bf16 under an adapter unless told otherwise."""
    given = SMALL | options
    if name == "sft":
        return SFT(str(model), **given)
    if name == "reward":
        return RewardModel(str(model), held_out=0.0, **given)
    if name == "dpo":
        return Preference(str(model), held_out=0.0, **given)
    given.pop("batch_size")
    return PPO(model=str(model), **(TINY_PPO | given))


every_trainer = pytest.mark.parametrize("name", ["sft", "reward", "dpo", "ppo"])


@pytest.mark.parametrize(
    "name", ["dpo", "ppo", *(pytest.param(n, marks=pytest.mark.slow) for n in ("sft", "reward"))]
)
def test_an_adapter_on_a_bf16_base_ends_in_the_fp32_weights_of_its_folder(
    name: str,
    tiny_model_dir: Path,
    pairs: Path,
    tmp_path: Path,
    loaded: list[torch.nn.Module],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The update has the adapter's rank: a base that was rounded would add noise of full rank."""
    trainer(name, tiny_model_dir)(pairs, tmp_path / "m")
    assert "precision: bf16 for the frozen base" in capsys.readouterr().err
    assert bf16(loaded[0])
    load = load_reward if name == "reward" else load_causal
    before, after = (dict(load(at).named_parameters()) for at in (tiny_model_dir, tmp_path / "m"))
    moved = 0
    for key, weight in after.items():
        change = weight.detach() - before[key].detach()
        if key == "score.weight":
            continue  # the head of a reward model is trained in full
        if "proj" in key and change.any():
            moved += 1
            sizes = torch.linalg.svdvals(change)
            assert sizes[2] < 1e-3 * sizes[0]
        else:
            assert not change.any()
    assert moved
    assert read_facts(tmp_path / "m")["precision"].startswith("bf16 for the frozen base")
    trainer(name, tiny_model_dir)(pairs, tmp_path / "again")
    found = [(tmp_path / at / "model.safetensors").read_bytes() for at in ("m", "again")]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["sft", "dpo", "ppo"])
def test_trained_weights_stay_fp32_where_all_are_trained(
    name: str,
    tiny_model_dir: Path,
    pairs: Path,
    tmp_path: Path,
    loaded: list[torch.nn.Module],
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer(name, tiny_model_dir, lora=0)(pairs, tmp_path / "m")
    assert not bf16(loaded[0])
    told, used = capsys.readouterr().err, "fp32"
    if name in ("dpo", "ppo"):
        used = "bf16 for the reference, fp32 for trained weights, optimiser and loss"
        assert "starts apart from its reference by the rounding" in told
        assert any(map(bf16, loaded))
    else:
        assert "(all weights are trained: small steps would vanish" in told
        assert not any(map(bf16, loaded))
    assert f"precision: {used} (" in told
    assert f"| precision | {used} |" in (tmp_path / "m/README.md").read_text()


@pytest.mark.parametrize("how", [{"lora": 0}, {"lora": 0, "precompute_reference": True}, {}])
def test_a_policy_starts_equal_to_its_reference_unless_bf16_is_asked_for(
    how: dict[str, Any],
    tiny_model_dir: Path,
    pairs: Path,
    tmp_path: Path,
    loaded: list[torch.nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In two formats the loss on held-out pairs is not ln 2 before the first step."""
    monkeypatch.setattr("siftune.curate.models.precision.multiplies_bf16", lambda device: True)
    started = trainer("dpo", tiny_model_dir, precision="auto", eval_rows=str(pairs), **how)
    started(pairs, tmp_path / "m")
    first = json.loads((tmp_path / "m/evaluation.json").read_text())["steps"][0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert (first["margin"], first["accuracy"]) == (0.0, 0.5)
    assert any(map(bf16, loaded)) == ("lora" not in how)


def test_ppo_starts_equal_to_its_reference(
    tiny_model_dir: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("siftune.curate.models.precision.multiplies_bf16", lambda device: True)
    trainer("ppo", tiny_model_dir, precision="auto", lora=0)(pairs, tmp_path / "m")
    first = json.loads((tmp_path / "m/metrics.jsonl").read_text().splitlines()[0])
    assert first["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert "precision: fp32 (all weights are trained" in capsys.readouterr().err


def test_kept_values_are_computed_in_the_autocast_of_the_policy(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    row = AnswerRow("a", [5, 6, 7], [[8, 9], [10]])
    collator = AnswerCollator(0)
    exact, short = (
        precomputed(str(tiny_model_dir), [row], collator, tmp_path, autocast=autocast)[0].reference
        for autocast in (False, True)
    )
    assert exact != short
    for one, other in zip(exact, short, strict=True):
        assert one == pytest.approx(other, abs=0.05)


def test_gradients_of_an_adapter_on_a_bf16_base_are_fp32_and_right(tiny_model_dir: Path) -> None:
    ids = torch.arange(5, 45).view(2, 20)

    def gradients(dtype: loading.DType) -> torch.Tensor:
        policy = with_adapter(load_causal(tiny_model_dir, dtype), 4, 16, seed=1)
        trained = [weight for weight in policy.parameters() if weight.requires_grad]
        with torch.no_grad():
            for at, weight in enumerate(trained):
                torch.manual_seed(at)
                weight.normal_(0, 0.1)
        assert {weight.dtype for weight in trained} == {torch.float32}
        policy(input_ids=ids, labels=ids).loss.backward()
        return torch.cat([weight.grad.flatten() for weight in trained])

    exact, found = gradients("float32"), gradients("bfloat16")
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(exact, found, 0) > 0.995
    assert float(found.norm()) == pytest.approx(float(exact.norm()), rel=0.02)


def test_a_small_update_survives_the_merge(tiny_model_dir: Path) -> None:
    """One of a hundredth of what bf16 can tell apart, as low learning rates make them."""
    policy = with_adapter(load_causal(tiny_model_dir, "bfloat16"), 2, 2, seed=1)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_" in name:
                weight.fill_(3e-4)
    before = load_causal(tiny_model_dir).model.layers[0].mlp.up_proj.weight
    after = merge_adapter(policy, lambda: load_causal(tiny_model_dir)).model.layers[0].mlp
    torch.testing.assert_close(
        after.up_proj.weight - before, torch.full_like(before, 1.8e-7), rtol=0, atol=2e-8
    )


def test_a_reward_model_in_bf16_scores_in_fp32(tiny_reward_dir: Path) -> None:
    exact, short = load_reward(tiny_reward_dir), load_reward(tiny_reward_dir, "bfloat16")
    assert bf16(short)
    assert torch.equal(short.score.weight, exact.score.weight)
    ids = torch.arange(5, 45).view(2, 20)
    with torch.no_grad():
        close, scores = exact(input_ids=ids).logits, short(input_ids=ids).logits
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
    torch.testing.assert_close(scores, close, rtol=0.05, atol=0.02)


def test_a_fresh_head_is_the_same_in_either_precision(tiny_model_dir: Path) -> None:
    heads = [load_reward(tiny_model_dir, dtype, seed=3).score.weight for dtype in DTYPES]
    assert torch.equal(*heads)


DTYPES: tuple[loading.DType, ...] = ("float32", "bfloat16")


def test_rewards_of_ppo_take_its_precision_unless_they_have_their_own(
    tiny_reward_dir: Path,
) -> None:
    from siftune.finetune.rewards.types import reward_of

    asked = ["Hi."], ["Hello there."], [{"prompt": [{"role": "user", "content": "Hi."}]}]
    scores = [
        reward_of(str(tiny_reward_dir), own, given)(*asked)[0]
        for own, given in (({}, "fp32"), ({}, "bf16"), ({"precision": "fp32"}, "bf16"))
    ]
    assert scores[0] == scores[2] != scores[1]
    assert scores[1] == pytest.approx(scores[0], abs=0.02)


def test_a_reference_that_follows_by_small_steps_stays_fp32(
    tiny_model_dir: Path, pairs: Path, tmp_path: Path, loaded: list[torch.nn.Module]
) -> None:
    how = {"lora": 0, "ref_sync_steps": 1, "ref_mixup_alpha": 0.01}
    trainer("dpo", tiny_model_dir, **how)(pairs, tmp_path / "m")
    assert len(loaded) == 2
    assert not any(map(bf16, loaded))


def test_kept_values_of_a_reference_are_those_of_one_precision(
    tiny_model_dir: Path, pairs: Path, tmp_path: Path
) -> None:
    for precision in ("bf16", "fp32"):
        how = {"lora": 0, "precision": precision, "precompute_reference": True}
        trainer("dpo", tiny_model_dir, cache=str(tmp_path / "kept"), **how)(
            pairs, tmp_path / precision
        )
    assert len(list((tmp_path / "kept").glob("logps-*.parquet"))) == 2


def test_a_run_of_another_precision_is_another_run(
    tiny_model_dir: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``auto`` is what it comes to here: results of two machines are not taken for the same."""
    trainer("sft", tiny_model_dir, precision="auto")(chats, tmp_path / "m")
    trainer("sft", tiny_model_dir, precision="fp32")(chats, tmp_path / "m")  # done already
    how = {"lora": 0, "precision": "fp32"}
    trainer("sft", tiny_model_dir, **how)(chats, tmp_path / "full")
    monkeypatch.setattr("siftune.curate.models.precision.multiplies_bf16", lambda device: True)
    with pytest.raises(UsageError, match="made with other options or data"):
        trainer("sft", tiny_model_dir, precision="auto")(chats, tmp_path / "m")
    trainer("sft", tiny_model_dir, **how)(chats, tmp_path / "full")  # fp32 on both


def test_evaluation_and_sampling_run_in_the_precision_they_name(
    tiny_model_dir: Path,
    chats: Path,
    tmp_path: Path,
    loaded: list[torch.nn.Module],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = str(tiny_model_dir)
    Evaluate(model, reference=model, max_new_tokens=2, precision="bf16")(chats, tmp_path / "e")
    assert json.loads((tmp_path / "e/evaluation.json").read_text())["precision"] == "bf16"
    assert len(loaded) == 2
    assert all(map(bf16, loaded))
    assert "precision: bf16 for the models, fp32 for log-softmax" in capsys.readouterr().err
    sample = Sample(model, "text_share", {"text": "e"}, count=1, max_new_tokens=1, precision="bf16")
    with pytest.raises(DataError, match="no prompt got two answers"):
        sample(chats, tmp_path / "s")
    assert all(map(bf16, loaded))
    assert len(loaded) == 3


@pytest.mark.parametrize(
    ("precision", "multiplies", "frozen", "trained", "line"),
    [
        (
            *("auto", True, ["the frozen base", "the reference"], "adapters"),
            "bf16 for the frozen base and the reference, fp32 for adapters, optimiser and loss "
            "(this CPU multiplies bf16)",
        ),
        ("auto", True, [], "trained weights", "fp32 (all weights are trained: small steps"),
        ("auto", False, ["the models"], "", "fp32 (this CPU does not multiply bf16)"),
        ("fp32", True, ["the models"], "", "fp32 (as asked for)"),
        (
            *("bf16", False, ["the models"], ""),
            "bf16 for the models, fp32 for log-softmax (as asked for; this CPU emulates bf16, and",
        ),
    ],
)
def test_precision_is_reported_in_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    multiplies: bool,
    frozen: list[str],
    trained: str,
    line: str,
) -> None:
    monkeypatch.setattr(
        "siftune.curate.models.precision.multiplies_bf16", lambda device: multiplies
    )
    report(precision, frozen, trained)
    told = capsys.readouterr().err
    assert told.startswith(f"precision: {line}")
    assert told.count("\n") == 1


def test_a_precision_that_is_none_is_refused_in_one_line(chats: Path, tmp_path: Path) -> None:
    asked = ["sft", str(chats), "--out", str(tmp_path / "m"), "--model", "m"]
    told = CliRunner().invoke(finetune, [*asked, "--precision", "fp16"])
    assert isinstance(told.exception, UsageError)
    assert "precision" in str(told.exception)
