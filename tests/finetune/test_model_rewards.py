"""Rewards from log-probabilities and from a known answer: numbers by hand, or by plain models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.finetune.rewards.log_ratio import LogRatio
from siftune.finetune.rewards.policy_logp import PolicyLogp
from siftune.finetune.rewards.reference_difference import ReferenceDifference

SAID = ["The cat sat.", "no", "Blue is a colour, red is another."]
ROWS: list[dict[str, Any]] = [
    {"id": f"r:{at}", "prompt": [{"role": "user", "content": text}], "reference": None}
    for at, text in enumerate(["Who sat?", "Is it?", "Name a colour."])
]


def by_hand(folder: Path, row: dict[str, Any], said: str, ended: bool) -> tuple[float, int]:
    """Sum of log-softmax over the answer's tokens, from the logits of the whole sequence."""
    from siftune.finetune.models.loading import load_causal, load_tokenizer

    tokenizer: Any = load_tokenizer(folder)
    model: Any = load_causal(folder)
    asked = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    text = asked + said + ("<|im_end|>" if ended else "")
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    start = len(tokenizer(asked, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        logps = model(ids).logits.double().log_softmax(-1)
    chosen = [float(logps[0, at - 1, ids[0, at]]) for at in range(start, ids.shape[1])]
    return sum(chosen), len(chosen)


def test_log_probs_are_means_over_the_completions_own_tokens(tiny_model_dir: Path) -> None:
    rows = [ROWS[0], {**ROWS[1], "finished": False}, ROWS[2]]
    reward = PolicyLogp(str(tiny_model_dir), batch_size=2, precision="fp32")
    expected = []
    for row, said in zip(rows, SAID, strict=True):
        total, count = by_hand(tiny_model_dir, row, said, row.get("finished", True))
        expected.append(total / count)
    assert reward(SAID, SAID, rows) == pytest.approx(expected, abs=1e-5)
    backwards = reward(SAID[::-1], SAID[::-1], rows[::-1])[::-1]
    assert backwards == pytest.approx(expected, abs=1e-5)
    assert reward(["?"], ["x " * 500], ROWS[:1]) == [None]  # its window is 128 tokens
    cut = {**ROWS[0], "finished": False}
    assert reward(["?"], [""], [cut]) == [None]  # no token, not even an end


def test_the_log_ratio_is_a_difference_of_sums(tiny_model_dir: Path, tmp_path: Path) -> None:
    from siftune.finetune.models.loading import load_causal, load_tokenizer
    from siftune.finetune.models.saving import save_model

    model: Any = load_causal(tiny_model_dir)
    with torch.no_grad():
        model.lm_head.weight.add_(0.05 * torch.randn_like(model.lm_head.weight))
    other = tmp_path / "other"
    save_model(model, load_tokenizer(tiny_model_dir), other, {"stage": "test", "seed": 0})
    reward = LogRatio(str(other), str(tiny_model_dir), beta=0.5, precision="fp32")
    expected = [
        0.5 * (by_hand(other, row, said, True)[0] - by_hand(tiny_model_dir, row, said, True)[0])
        for row, said in zip(ROWS, SAID, strict=True)
    ]
    assert reward(SAID, SAID, ROWS) == pytest.approx(expected, abs=1e-5)
    assert abs(expected[0]) > 1e-3
    same = LogRatio(str(other), str(other), precision="fp32")
    assert same(SAID, SAID, ROWS) == [0, 0, 0]
    with pytest.raises(UsageError):
        LogRatio(str(other), str(tmp_path / "none")).load()


def test_the_difference_to_the_rows_own_answer() -> None:
    rows = [{"id": str(at), "reference": known} for at, known in enumerate(["a", None, "a b c d"])]
    reward = ReferenceDifference("length", {"target": 4})
    said = ["a b", "a b", "a b"]
    assert reward(said, said, rows) == [0.25, None, -0.5]
    both = ReferenceDifference({"length": {"options": {"target": 4}}, "exact_match": 2})
    assert both(said, said, rows) == [0.25 - 2, None, -2.5]
    assert reward([], [], []) == []
    with pytest.raises(UsageError, match="needs the option 'target'"):
        ReferenceDifference("length")


def test_each_known_answer_is_scored_once() -> None:
    scored: list[str] = []

    class Counts:
        def __call__(self, prompts: Any, completions: Any, rows: Any) -> list[float | None]:
            scored.extend(completions)
            return [float(len(said)) for said in completions]

    reward = ReferenceDifference("length", {"target": 4})
    reward.__dict__["_reward"] = Counts()
    group = [{"id": "g", "reference": "abc"}] * 3
    assert reward(["?"] * 3, ["a", "abcd", "abc"], group) == [-2, 1, 0]
    assert scored == ["a", "abcd", "abc", "abc"]


def test_what_a_reward_depends_on_is_part_of_a_trainings_key(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Files, models and judges by their content: a name says nothing of it."""
    from siftune.finetune.models.loading import model_hash
    from siftune.finetune.rewards.types import facts_of, reward_of

    file = tmp_path / "reward.py"
    file.write_text("def reward(prompt, completion, row): return 1")
    weights = tmp_path / "weights.json"
    weights.write_text('{"weights": [1.0]}')
    (tmp_path / "judge.py").write_text("def answer(messages): return 'Yes'")
    judge = {"judge": f"scripted:{tmp_path / 'judge.py'}:answer"}
    rules = {"propositions": ["it is kind"], "weights_file": str(weights), **judge}
    named = {
        "code_reward": {"options": {"file": str(file)}},
        "policy_logp": {"options": {"model": str(tiny_model_dir)}},
        "rule_based": {"options": rules},
        "exact_match": 1,
    }
    first = facts_of(reward_of(named, {}))
    assert first.keys() == {"code_reward", "policy_logp", "rule_based"}
    assert first["policy_logp"] == {"model": model_hash(tiny_model_dir)}
    file.write_text("def reward(prompt, completion, row): return 2")
    weights.write_text('{"weights": [2.0]}')
    second = facts_of(reward_of(named, {}))
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"code_reward", "rule_based"}
    inner = ReferenceDifference("code_reward", {"file": str(file)})
    assert facts_of(inner) == {"reward": second["code_reward"]}
