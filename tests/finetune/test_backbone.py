"""Policy, reference, critic and reward model on one base: each as if it were a model of its own."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.finetune.models import loading
from siftune.finetune.models.adapters import adapter_parameters, add_adapter, is_adapter, only
from siftune.finetune.models.lora import inner_model, whole_model, with_adapter
from siftune.finetune.models.saving import base_facts, save_model
from siftune.finetune.rewards.reward_model import RewardModel
from siftune.finetune.rewards.several import WeightedRewards
from siftune.finetune.rl import backbone
from siftune.finetune.rl.backbone import check_adapters, load_whole, put_on_base
from siftune.finetune.rl.model import ActorCritic, Tokens, policy_scores, reference_of
from siftune.finetune.rl.prepare import actor_critic
from tests.finetune import test_ppo

asked = test_ppo.rows
TEXTS = ["yes", "the good one, yes", "no"]


def disturbed(weights: Any, seed: int) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn_like(weight) * 0.05)


@pytest.fixture(scope="module")
def rewards(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A reward model with LoRA as its training writes it: merged, and the adapter alone."""
    folder = tmp_path_factory.mktemp("rewards")
    tokenizer = loading.load_tokenizer(tiny_model_dir)

    def load() -> Any:
        return loading.load_reward(str(tiny_model_dir), seed=4)

    for kept, name in (("keep", "adapter"), ("merge", "whole")):
        trained = with_adapter(load(), 2, 4, seed=1, task="SEQ_CLS")
        disturbed((w for w in trained.parameters() if w.requires_grad), 5)
        beside = folder / f"{name}.beside"
        beside.mkdir()
        model = whole_model(trained, kept, str(tiny_model_dir), load, beside)  # type: ignore[arg-type]
        facts = {"stage": "reward", "base": base_facts(str(tiny_model_dir)), "seed": 0}
        save_model(model, tokenizer, folder / name, facts, beside)
    return folder / "adapter", folder / "whole"


def shared(folder: Path) -> ActorCritic:
    """Policy and critic on one base, both moved away from it."""
    tokenizer = loading.load_tokenizer(folder)
    made = actor_critic(loading.load_causal(folder), tokenizer, None, (2, 4), 0, on_base=True)
    disturbed(adapter_parameters(made.policy, "default"), 1)
    disturbed(made.critic_parameters(), 2)
    return made


def alone(folder: Path, of: Any, name: str) -> Any:
    """A model of its own with the weights of the adapter ``name`` of ``of``."""
    model = with_adapter(loading.load_causal(folder), 2, 4)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for key, weight in of.named_parameters():
            if f".{name}." in key:
                own[key.replace(f".{name}.", ".default.")].copy_(weight)
    return model


def batch() -> Tokens:
    return Tokens.of([[5, 6, 7], [8]], [[9, 10], [11, 12, 13]], 0)


def test_each_adapter_is_as_a_model_of_its_own(tiny_model_dir: Path) -> None:
    made, tokens = shared(tiny_model_dir), batch()
    found = made(tokens, 0.9)
    policy = policy_scores(alone(tiny_model_dir, made.policy, "default"), tokens, 0.9)[0]["policy"]
    torch.testing.assert_close(found.logps, policy, rtol=0, atol=1e-6)
    critic = ActorCritic(alone(tiny_model_dir, made.policy, "critic"))
    critic.value_head.load_state_dict(made.value_head.state_dict())
    torch.testing.assert_close(found.values, critic(tokens, 0.9).values, rtol=0, atol=1e-6)
    base = policy_scores(loading.load_causal(tiny_model_dir), tokens, 0.9)[0]["policy"]
    with reference_of(made.policy, None) as reference:
        bare = policy_scores(reference, tokens, 0.9)[0]["policy"]
    assert torch.equal(bare, base)
    assert float((bare - policy.detach()).abs().max()) > 1e-3
    again = made(tokens, 0.9)  # after the reference, policy and critic are what they were
    assert torch.equal(again.logps, found.logps)
    assert torch.equal(again.values, found.values)


def test_each_loss_trains_its_own_adapter_and_the_base_stays(tiny_model_dir: Path) -> None:
    made = shared(tiny_model_dir)
    with reference_of(made.policy, None):
        pass  # PEFT's own way would switch off what is trained
    trained = {name for name, weight in made.named_parameters() if weight.requires_grad}
    assert {name.split(".")[-2] for name in trained} == {"default", "critic", "value_head"}
    for part, grown in (("logps", {"default"}), ("values", {"critic", "value_head"})):
        made.zero_grad()  # the values' states are computed again in the backward pass
        getattr(made(batch(), 1.0), part).square().sum().backward()
        moved = {
            name.split(".")[-2]
            for name, weight in made.named_parameters()
            if weight.grad is not None and weight.grad.abs().sum() > 0
        }
        assert moved == grown
    policy = adapter_parameters(made.policy, "default")
    assert not {id(one) for one in made.critic_parameters()} & {id(one) for one in policy}


def test_a_reward_adapter_scores_as_the_merged_reward_model(
    tiny_model_dir: Path, rewards: tuple[Path, Path]
) -> None:
    adapter, whole = rewards
    assert is_adapter(adapter)
    assert not is_adapter(whole)
    rows = [{"id": str(at), "prompt": [{"role": "user", "content": "?"}]} for at in range(3)]
    expected = RewardModel(str(whole), precision="fp32")(["?"] * 3, TEXTS, rows)
    made = shared(tiny_model_dir)
    before = made(batch(), 1.0)
    reward = WeightedRewards({"reward_model": {"weight": 1, "options": {"model": str(adapter)}}})
    check_adapters(reward, str(tiny_model_dir), 2)
    load_whole(reward)
    put_on_base(reward, made.policy)
    found = reward(["?"] * 3, TEXTS, rows)
    assert found == pytest.approx(expected, abs=1e-5)
    assert len({round(one, 3) for one in found if one is not None}) == 3
    after = made(batch(), 1.0)
    assert torch.equal(before.logps, after.logps)
    assert torch.equal(before.values, after.values)
    trained = {name for name, weight in made.named_parameters() if weight.requires_grad}
    assert {name.split(".")[-2] for name in trained} == {"default", "critic", "value_head"}
    merged = whole_model(made.policy, "merge", str(tiny_model_dir), dict, adapter)  # the policy's
    logps = policy_scores(merged, batch(), 1.0)[0]["policy"]
    torch.testing.assert_close(logps, before.logps, rtol=0, atol=1e-5)


def test_the_head_of_a_reward_adapter_follows_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    def trunk(**given: Any) -> Any:
        return SimpleNamespace(last_hidden_state=torch.zeros(2, 3, 4, device="meta"))

    policy: Any = SimpleNamespace(config=SimpleNamespace(pad_token_id=0), base_model=trunk)
    monkeypatch.setattr(backbone, "inner_model", lambda policy: policy)
    monkeypatch.setattr(backbone, "only", lambda policy, name: nullcontext())
    scorer = backbone.SharedScorer(policy, "reward0", torch.ones(1, 4))
    ids = torch.ones(2, 3, dtype=torch.long, device="meta")
    assert scorer(ids, ids).logits.shape == (2, 1)
    assert scorer.head.device.type == "meta"


def test_adapters_on_another_base_or_of_no_reward_are_refused(
    tiny_model_dir: Path, rewards: tuple[Path, Path], tmp_path: Path
) -> None:
    adapter, whole = rewards
    reward = RewardModel(str(adapter))
    with pytest.raises(UsageError, match=r"is an adapter on .*both have to be on one base"):
        check_adapters(reward, str(whole), 2)
    with pytest.raises(ValueError, match="which lies on the policy's frozen base: set lora"):
        check_adapters(reward, str(tiny_model_dir), 0)
    trained = with_adapter(loading.load_causal(tiny_model_dir), 2, 4)
    (tmp_path / "policy").mkdir()
    whole_model(trained, "keep", str(tiny_model_dir), dict, tmp_path / "policy")
    made = shared(tiny_model_dir)
    with pytest.raises(UsageError, match="no head with one output"):
        put_on_base(RewardModel(str(tmp_path / "policy")), made.policy)
    with only(made.policy, "critic"), only(made.policy, None):
        pass
    layers = [one for one in inner_model(made.policy).modules() if hasattr(one, "lora_A")]
    assert {tuple(one.active_adapters) for one in layers} == {("default",)}
    add_adapter(made.policy, "third", 1, 1, seed=0)
    assert all(one.requires_grad for one in adapter_parameters(made.policy, "default"))


@pytest.mark.slow
def test_a_run_with_four_models_on_one_base_is_that_with_the_merged_reward_model(
    tiny_model_dir: Path, rewards: tuple[Path, Path], asked: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "lora": 2, "critic": "adapter", "rollouts": 2, "batch_size": 4, "max_new_tokens": 4,
        "reward_options": None, "lr": 1e-2, "critic_lr": 1e-2, "eval_rows": str(asked),
        "eval_limit": 1,
    }  # fmt: skip
    found = {}
    for name, folder in zip(("adapter", "whole"), rewards, strict=True):
        test_ppo.ppo(tiny_model_dir, reward=str(folder), **options)(asked, tmp_path / name)
        found[name] = test_ppo.metrics(tmp_path / name)
    for one, other in zip(*found.values(), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert found["adapter"][1]["value/explained_variance"] is not None
    evaluated = test_ppo.facts(tmp_path / "adapter")["metrics"]
    assert evaluated["eval_reward"] == pytest.approx(
        test_ppo.facts(tmp_path / "whole")["metrics"]["eval_reward"], abs=1e-4
    )


def test_a_critic_on_the_base_needs_a_frozen_base(tiny_model_dir: Path) -> None:
    for given, why in (
        ({"critic": "adapter", "lora": 0}, "an adapter of its own needs lora"),
        ({"critic": "adapter", "critic_model": "m"}, "critic that is adapter has no trunk"),
    ):
        with pytest.raises(UsageError, match=why):
            test_ppo.ppo(tiny_model_dir, **{"lora": 2, **given})


def test_the_second_pass_of_the_critic_gives_the_gradient_of_a_model_of_its_own(
    tiny_model_dir: Path,
) -> None:
    """Both losses at once, as an update has them; the pass is repeated under the right adapter."""
    made = shared(tiny_model_dir)
    critic = ActorCritic(alone(tiny_model_dir, made.policy, "critic"))
    critic.value_head.load_state_dict(made.value_head.state_dict())
    found = made(batch(), 1.0)
    (found.values.square().sum() + found.logps.square().sum()).backward()
    critic(batch(), 1.0).values.square().sum().backward()
    expected = dict(critic.policy.named_parameters())
    for name, weight in made.policy.named_parameters():
        if ".critic." in name:
            own = expected[name.replace(".critic.", ".default.")].grad
            torch.testing.assert_close(weight.grad, own, rtol=1e-5, atol=1e-6)
            assert float(own.abs().sum()) > 0
