"""What a rollout draws, keeps and leaves out, and which options a run refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from siftune.curate.chat.encoding import encode_unmasked
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build, names
from siftune.finetune.core.methods import TRAINERS
from siftune.finetune.models import loading
from siftune.finetune.rewards.reward_model import RewardModel
from siftune.finetune.rl.collector import Collector
from siftune.finetune.rl.parts import parts_record
from siftune.finetune.rl.rollout import Rollout
from siftune.finetune.training.on_policy import OnPolicy
from siftune.pipelines.cli import siftune
from tests.finetune import test_ppo
from tests.finetune.test_ppo import collector

rows, gpt2_dir, one_thread = test_ppo.rows, test_ppo.gpt2_dir, test_ppo.one_thread
GROUPS: dict[str, Any] = {"batch_size": 3, "group_size": 2}


def grouped(folder: Path, table: Path, reward: Any, **options: Any) -> Collector:
    """A collector of GRPO: no critic, three prompts of two answers."""
    made = collector(folder, table, reward)
    given = {"minibatches": 1, "max_new_tokens": 6, "micro_batch": 3, **GROUPS, **options}
    settings: Any = build(
        "finetune.trainers", "grpo", {"model": str(folder), "reward": "text_share", **given}
    )
    made.model.value_head = None
    sampling = replace(
        made.sampling, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature
    )
    return replace(made, settings=settings, sampling=sampling)


class ByPrompt:
    """Scores answers to the prompts ``told`` apart, and all others alike; keeps the rows."""

    def __init__(self, *told: str) -> None:
        self.told, self.given = told, list[dict[str, Any]]()

    def __call__(self, prompts: Any, texts: Any, given: Any) -> list[float | None]:
        self.given += given
        at = range(len(given))
        return [float(n) if given[n]["id"] in self.told else 1.0 for n in at]


def test_a_prompt_is_answered_several_times_and_rewards_know_what_was_cut(
    gpt2_dir: Path, rows: Path
) -> None:
    reward = ByPrompt("asked:0", "asked:1", "asked:2", "asked:3", "asked:4")
    made = grouped(gpt2_dir, rows, reward)(0, kl_coef=0.1)
    assert made.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert made.ids[0] == made.ids[1] != made.ids[2]
    assert len(set(made.completions)) > 3  # answers to one prompt have random numbers of their own
    assert [row["finished"] for row in reward.given] == made.ended.tolist()
    assert 0 < made.drawn["rollout/truncated"] == pytest.approx((~made.ended).double().mean())
    assert made.old.values is None is made.returns
    assert made.drawn["rollout/flat_groups"] == 0
    per_group = made.advantages[:, 0].reshape(3, 2)
    assert per_group.sum(1).abs().max() < 1e-6
    assert float(per_group.abs().min()) == pytest.approx(0.7071, abs=1e-3)  # the KL is in the loss


def test_prompts_that_teach_nothing_are_left_out_or_replaced_and_counted(
    gpt2_dir: Path, rows: Path
) -> None:
    drawn = grouped(gpt2_dir, rows, ByPrompt())
    first = list(dict.fromkeys(drawn(0, 0.0).ids))
    rest = [f"asked:{at}" for at in range(5) if f"asked:{at}" not in first]

    def made(mode: str, *told: str, **options: Any) -> Rollout:
        reward = ByPrompt(*told)
        return grouped(gpt2_dir, rows, reward, dynamic_sampling=mode, **options)(0, 0.0)

    off = made("off", first[0])
    assert (len(off.ids), off.drawn["rollout/left_out"]) == (6, 0)
    assert off.drawn["rollout/flat_groups"] == pytest.approx(2 / 3)
    out = made("leave_out", first[0])
    assert (out.ids, out.drawn["rollout/left_out"]) == ([first[0]] * 2, 4)
    assert torch.equal(out.advantages, off.advantages[off.groups == out.groups[0]])
    assert out.drawn["objective/score"] == off.drawn["objective/score"]  # of all that was drawn
    again = made("redraw", first[0], rest[0])
    assert set(again.ids) == {first[0], rest[0]}
    assert again.drawn["rollout/redrawn"] == 2  # two are missing, and two are left
    assert again.drawn["rollout/left_out"] == 6
    assert torch.equal(again.advantages, made("redraw", first[0], rest[0]).advantages)
    none = made("redraw")  # nothing teaches: all stay, with advantages of 0
    assert len(none.ids) == 10
    assert not none.advantages.any()


def test_an_answer_that_was_cut_is_left_out_of_the_loss_but_not_of_its_group(
    gpt2_dir: Path, rows: Path
) -> None:
    reward = ByPrompt(*(f"asked:{at}" for at in range(5)))
    whole = grouped(gpt2_dir, rows, reward)(0, 0.1)
    cut = ~whole.ended
    assert 0 < int(cut.sum()) < 6
    made = grouped(gpt2_dir, rows, reward, truncated="leave_out")
    left = made(0, 0.1)
    assert torch.equal(left.advantages, whole.advantages)
    assert torch.equal(left.learned, whole.tokens.mask & whole.ended.unsqueeze(1))
    assert torch.cat(left.minibatches(0, made.settings)).tolist() == (~cut).nonzero()[:, 0].tolist()
    assert left.drawn["rollout/left_out"] == int(cut.sum())


def test_penalties_of_a_cut_answer_are_in_its_score_and_flat_means_the_rewards(
    gpt2_dir: Path, rows: Path
) -> None:
    options = {"missing_eos_penalty": 0.5, "overlong": 0.5, "max_new_tokens": 12}
    options |= {"advantage": "dr_grpo", "reduction": "fixed_length"}
    made = grouped(gpt2_dir, rows, ByPrompt(), **options)(0, 0.0)
    lengths = made.tokens.mask.sum(1)
    score = 1 - 0.5 * (~made.ended).float() - ((lengths - 6) / 6).clamp(0, 1)
    pairs = score.reshape(3, 2)
    expected = (pairs - pairs.mean(1, keepdim=True)).flatten()
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(made.advantages[:, 0], expected)
    assert made.drawn["rollout/flat_groups"] == 1


def test_a_reward_model_reads_a_cut_answer_without_an_end_of_turn(tiny_reward_dir: Path) -> None:
    tokenizer: Any = loading.load_tokenizer(tiny_reward_dir)
    prompt = [{"role": "user", "content": "Say hello."}]
    chats = [
        [*prompt, {"role": "assistant", "content": said}] for said in ("hello ki", "a<|im_end|>")
    ]
    whole = encode_unmasked(tokenizer, chats)
    open_ = encode_unmasked(tokenizer, chats, finished=[False, False])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for ids, cut in zip(whole, open_, strict=True):
        assert ids[: len(cut)] == cut
        assert ids[len(cut)] == end  # the very next token was put on
        assert cut.count(end) == 1  # that of the prompt: an end in the answer stays text
    assert encode_unmasked(tokenizer, chats, finished=[True, True]) == whole
    reward = RewardModel(str(tiny_reward_dir), precision="fp32")
    given = {"prompt": prompt, "id": "r"}
    ended, cut = reward(["?"] * 2, ["hello ki"] * 2, [given, {**given, "finished": False}])
    with torch.no_grad():
        alone = loading.load_reward(tiny_reward_dir)(input_ids=torch.tensor([open_[0]])).logits
    assert cut == pytest.approx(float(alone), abs=1e-6)
    assert cut != pytest.approx(ended, abs=1e-6)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("grpo", {"vf_coef": 0.1}, "grpo: vf_coef: the advantage grpo has no critic"),
    ("grpo", {"critic": "shared"}, "critic: the advantage grpo has no critic"),
    *(
        ("grpo", {"advantage": name, "vf_coef": 0.2}, f"vf_coef: the advantage {name} has no")
        for name in ("rloo", "dr_grpo", "opo", "reinforce_pp")
    ),
    ("rloo", {"lam": 0.9}, "lam: the advantage rloo has no such option"),
    ("rloo", {"cliprange": 0.2}, "cliprange: the policy loss reinforce has no such option"),
    ("ppo", {"clip_high": 0.3}, "clip_high: the policy loss ppo_clip has no such option"),
    ("ppo", {"advantage": "grpo"}, "group_size: the advantage grpo compares .* got 1"),
    ("grpo", {"group_size": 1}, "expected at least 2, got 1"),
    *(
        ("grpo", {"group_size": 1, "advantage": name}, f"the advantage {name} compares")
        for name in ("rloo", "dr_grpo", "opo")
    ),
    ("ppo", {"dynamic_sampling": "redraw"}, "dynamic_sampling: with one answer"),
    ("grpo", {"max_redraws": 2}, "max_redraws: it is read with dynamic_sampling: redraw alone"),
    ("dapo", {"kl_in": "loss"}, "kl_in: with kl_coef 0 there is no KL"),
    ("ppo", {"kl_horizon": 50}, "kl_horizon: it is read with kl_target alone"),
    ("ppo", {"advantage": "gea"}, "no advantage is called 'gea'; did you mean gae"),
    ("ppo", {"policy_loss": "ppo"}, "no policy loss is called 'ppo'; there are: cispo"),
    ("grpo", {"advantage_options": {"epsilon": 1}}, "advantage_options: grpo has no option"),
    ("ppo", {"gamma": 0.9, "advantage_options": {"gamma": 0.8}}, "gamma: it is set twice"),
    ("ppo", {"minibatches": 65}, "minibatches: expected at most batch_size=64, got 65"),
    ("ppo", {"kl_coef": 0.0, "kl_target": 1.0}, "kl_target: with kl_coef 0"),
]


@pytest.mark.parametrize(("name", "options", "said"), REFUSED)
def test_an_option_without_effect_is_refused_in_one_line(
    name: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        build("finetune.trainers", name, {"model": "m", "reward": "exact_match", **options})
    assert "\n" not in str(refused.value)


def test_presets_are_commands_with_their_parts_and_one_set_of_options() -> None:
    of_rl = [name for name in TRAINERS if issubclass_of_rl(name)]
    assert set(of_rl) >= {"ppo", "grpo", "dapo", "dr_grpo", "rloo", "reinforce_pp", "gspo", "opo"}
    made = {
        name: build("finetune.trainers", name, {"model": "m", "reward": "exact_match"})
        for name in of_rl
    }
    assert len({tuple(one.__dataclass_fields__) for one in made.values()}) == 1
    parts = {name: parts_record(one) for name, one in made.items()}
    assert parts["grpo"]["kl"] == {"in": "loss", "estimator": "k3"}
    assert parts["ppo"]["advantage"] == {"name": "gae", "gamma": 1.0, "lam": 0.95}
    assert parts["dapo"]["policy_loss"]["clip_high"] == 0.28
    assert parts["gspo"]["policy_loss"] == {"name": "gspo", "clip_low": 3e-4, "clip_high": 4e-4}
    own = build(
        "finetune.trainers", "ppo", {"model": "m", "reward": "exact_match", "policy_loss": "gspo"}
    )
    assert parts_record(own)["policy_loss"]["clip_low"] == 3e-4  # ppo's cliprange is not its
    for name in of_rl:
        assert made[name].has_critic == (name == "ppo")
        assert made[name].method == name
    shown = CliRunner().invoke(siftune, ["finetune", "dapo", "--help"]).output
    assert "arXiv:2503.14476" in shown
    assert "Data: rows with prompts" in shown


def issubclass_of_rl(name: str) -> bool:
    if TRAINERS[name] not in names("finetune.trainers"):
        return False
    from siftune.curate.core.registry import find

    return issubclass(find("finetune.trainers", TRAINERS[name]), OnPolicy)


def test_a_run_without_a_critic_has_no_value_head_and_logs_every_reward(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    reward = {
        "e": {"reward": "text_share", "options": {"text": "e"}},
        "length": {"weight": 0, "options": {"target": 3}},
    }
    trainer = build(
        "finetune.trainers",
        "dapo",
        {"model": str(tiny_model_dir), "reward": reward, "rollouts": 1, "batch_size": 2}
        | {"group_size": 2, "minibatches": 2, "max_new_tokens": 4, "lr": 1e-2},
    )
    result = trainer(rows, tmp_path / "out")
    lines, facts = test_ppo.metrics(tmp_path / "out"), test_ppo.facts(tmp_path / "out")
    assert lines[0]["reward/e"] == pytest.approx(lines[0]["objective/score"])
    assert lines[0]["reward/length"] < 0
    assert not [key for key in lines[0] if key.startswith(("value/", "loss/value", "ppo/"))]
    assert (facts["stage"], facts["method"]) == ("rl", "dapo")
    assert facts["parts"]["policy_loss"]["name"] == "clip_higher"
    assert not test_ppo.same(tmp_path / "out", tiny_model_dir)
    assert result.metrics["rollout/truncated"] <= 1
