"""A prompt that is run once for all its answers, against a pass for each answer, in RL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from siftune.curate.core.registry import build
from siftune.finetune.data import packing
from siftune.finetune.models import loading
from siftune.finetune.rl import model as measuring
from siftune.finetune.rl.model import ActorCritic, Tokens
from siftune.finetune.rl.rollout import Rollout
from siftune.finetune.rl.settings import Settings
from tests.finetune import test_ppo
from tests.finetune.test_logps import tiny
from tests.finetune.test_ppo import metrics, weights

rows, gpt2_dir, one_thread = test_ppo.rows, test_ppo.gpt2_dir, test_ppo.one_thread

PROMPTS = [[5, 6, 7], [5, 6, 7], [9, 8, 4, 3, 12], [5, 6, 7], [9, 8, 4, 3, 12], [11]]
ANSWERS = [[8, 2], [9, 10, 11, 2], [2], [13, 14, 3], [6, 2], [4, 4, 2]]
TOKENS = Tokens.of(PROMPTS, ANSWERS, pad=0)


def measured(ac: ActorCritic, tokens: Tokens) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Log-probs, entropies and values, and the gradients of their weighted sum."""
    ac.zero_grad()
    found = ac(tokens, 0.7, entropy=True)
    assert found.values is not None
    assert found.entropy is not None
    scale = torch.linspace(-1, 2, found.logps.numel()).view_as(found.logps)
    (scale * (found.logps + found.values)).sum().backward()
    gradients = [weight.grad.clone() for weight in ac.parameters() if weight.grad is not None]
    return [found.logps, found.values, found.entropy], gradients


@pytest.mark.parametrize("own_critic", [False, True])
@pytest.mark.parametrize("family", ["Llama", "GPT2"])
def test_scores_and_gradients_are_those_of_a_pass_for_each_answer(
    family: str, own_critic: bool
) -> None:
    torch.manual_seed(0)
    policy = tiny(family)
    critic = AutoModelForCausalLM.from_config(policy.config).base_model if own_critic else None
    ac = ActorCritic(policy, critic)
    assert ac.value_head is not None
    torch.nn.init.normal_(ac.value_head.weight)
    some = TOKENS.mask & (torch.arange(TOKENS.mask.shape[1]) != 1)  # the second is not scored
    holes = replace(TOKENS, mask=some)
    plain = [measured(ac, tokens) for tokens in (TOKENS, holes)]
    assert packing.share_prefixes(policy) is None
    if critic is not None:
        assert packing.share_prefixes(critic) is None
    for tokens, expected in zip((TOKENS, holes), plain, strict=True):
        found = measured(ac, tokens)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_a_prompt_is_run_once_for_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny("Llama")
    packing.share_prefixes(policy)
    run, packed = list[int](), packing.run_packed
    monkeypatch.setattr(
        measuring,
        "run_packed",
        lambda model, rows: run.append(rows.input_ids.shape[1]) or packed(model, rows),
    )
    ActorCritic(policy, values=False)(TOKENS, 1.0)
    assert run == [3 + 5 + 1 + sum(map(len, ANSWERS))]


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_training_with_shared_prompts_is_training_without(
    method: str, gpt2_dir: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {
        "model": str(gpt2_dir),
        "reward": "text_share",
        "reward_options": {"text": "e"},
        "rollouts": 2,
        "batch_size": 4,
        "minibatches": 2,
        "micro_batch": 6,
        "epochs": 2,
        "max_new_tokens": 6,
        "lr": 1e-3,
        "watch": "off",
        **({"group_size": 3} if method == "grpo" else {"critic": "separate"}),
    }
    seen: list[bool] = []
    states = measuring._states
    monkeypatch.setattr(
        measuring,
        "_states",
        lambda trunk, tokens: seen.append(packing.shares_prefixes(trunk)) or states(trunk, tokens),
    )
    for share in (True, False):
        train: Any = build("finetune.trainers", method, {**asked, "share_prefix": share})
        train(rows, tmp_path / str(share))
    half = len(seen) // 2
    assert set(seen[:half]) == {True}  # policy, reference and critic
    assert set(seen[half:]) == {False}
    shared, plain = (weights(tmp_path / str(share)) for share in (True, False))
    start = loading.load_causal(gpt2_dir).state_dict()
    moved = max(float((plain[name] - start[name]).abs().max()) for name in plain)
    for name, weight in plain.items():
        assert float((shared[name] - weight).abs().max()) < 2e-3 * moved
    each = [metrics(tmp_path / str(share)) for share in (True, False)]
    assert [line["policy/first_ratio_deviation"] for line in each[0][:-1]] == [0.0, 0.0]
    for one, other in zip(*each, strict=True):
        assert one["objective/kl"] == pytest.approx(other["objective/kl"], rel=1e-3, abs=1e-6)


def test_answers_to_one_prompt_stay_together_in_later_passes() -> None:
    tokens = Tokens.of([[1]] * 12, [[2]] * 12, pad=0)
    blank = torch.zeros(12, 1)
    rollout: Any = Rollout(
        index=0,
        ids=["a"] * 12,
        completions=["b"] * 12,
        tokens=tokens,
        scores=blank[:, 0],
        ended=blank[:, 0] == 0,
        groups=torch.arange(12) // 4,
        learned=tokens.mask,
        old=None,  # type: ignore[arg-type]
        entropy=blank,
        ref_logps=blank,
        advantages=blank,
        returns=None,
        kl_coef=0.0,
        drawn={},
    )
    grouped = Settings(minibatches=2, group_size=4, advantage="grpo", batch_size=3)
    steps = rollout.minibatches(1, grouped)
    assert [step.tolist() for step in steps] == [sorted(step.tolist()) for step in steps]
    assert sorted(torch.cat(steps).tolist()) == [*range(12)]
    assert torch.cat(steps).tolist() != [*range(12)]  # which rows a step has is drawn
    alone = rollout.minibatches(1, Settings(minibatches=2))
    assert {*alone[0].tolist()} == {*steps[0].tolist()}
