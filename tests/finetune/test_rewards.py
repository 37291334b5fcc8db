"""Rewards: what is true of every one, and what each number means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.code_execution.probe import missing_limits
from siftune.finetune.rewards.exact_match import ExactMatch
from siftune.finetune.rewards.length import Length
from siftune.finetune.rewards.reward_model import RewardModel
from siftune.finetune.rewards.text_share import TextShare
from siftune.finetune.rewards.types import Reward
from tests.tiny_models import gated_reward_model

SAID = ["yes, yes", "", "The capital of France is Paris.", "NO ", "no", "é ﬁ", "5 of 7"]
ASKED: list[dict[str, Any]] = [
    {
        "id": f"r:{at}",
        "prompt": [{"role": "user", "content": "Is it?" * at}],
        "reference": known,
        "extra": {"metadata": {"source_dataset": "chain_sum"}},
    }
    for at, known in enumerate(["yes", "", "paris", "no", None, "é fi", "7"], start=1)
]
ASKED[0]["extra"] |= {"harmful": True}
ASKED[2]["extra"] |= {"harmful": False, "test_list": ["assert True", "assert f(2) == 4"]}
TEXTS = [str(row["prompt"][0]["content"]) for row in ASKED]


AGREES = """
def answer(question):
    if "JSON" in question.messages[0][1]:
        return '["Greet", "Thank"]'
    return next(iter(question.labels), "3")
"""


@pytest.fixture(scope="module")
def gated_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gated_reward_model(tiny_model_dir, tmp_path_factory.mktemp("models") / "gated")


@pytest.fixture(params=registry.names("finetune.rewards"))
def reward(
    request: pytest.FixtureRequest,
    tiny_model_dir: Path,
    tiny_reward_dir: Path,
    gated_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Reward:
    if request.param == "reasoning_gym":
        pytest.importorskip("reasoning_gym")
    if request.param in ("code_tests", "code_reward") and (lacks := missing_limits()):
        pytest.skip(f"programs cannot be limited here: {lacks}")
    folder = tmp_path_factory.mktemp("judged")
    (folder / "judge.py").write_text(AGREES)
    judged = {"judge": f"scripted:{folder / 'judge.py'}:answer"}
    (folder / "reward.py").write_text("def reward(prompt, completion, row): return len(completion)")
    judged["cache"] = str(folder / "judge.sqlite")
    options: dict[str, dict[str, Any]] = {
        "code_reward": {"file": str(folder / "reward.py")},
        "gated_attributes": {"model": str(gated_dir)},
        "goal": {**judged, "goal": "it is short"},
        "judge": judged,
        "constraints": {"instructions": {"punctuation:no_comma": {}}},
        "json_schema": {"schema": {"type": "number"}},
        "length": {"target": 3},
        "length_penalty": {"shape": "soft_overlong", "length": 5},
        "regular_expression": {"pattern": "e"},
        "log_ratio": {"model": str(tiny_model_dir), "reference": str(tiny_model_dir)},
        "policy_logp": {"model": str(tiny_model_dir), "batch_size": 4},
        "process_reward": {"model": str(tiny_reward_dir)},
        "proposed_goals": judged,
        "reference_difference": {"reward": "length", "reward_options": {"target": 3}},
        "refusal": judged,
        "rubric": {**judged, "criteria": ["it is kind"]},
        "rule_based": {**judged, "propositions": ["it declines"], "weights": (2.0,)},
        "reward_model": {"model": str(tiny_reward_dir), "batch_size": 4},
        "reward_ensemble": {"model": f"{tiny_reward_dir}, {tiny_reward_dir}"},
        "several": {"rewards": {"exact_match": 2, "text_share": {"options": {"text": "e"}}}},
        "text_share": {"text": "e"},
    }
    built: Reward = registry.build(
        "finetune.rewards", request.param, options.get(request.param, {})
    )
    return built


def test_every_reward_gives_each_completion_a_number_or_none(reward: Reward) -> None:
    scores = reward(TEXTS, SAID, ASKED)
    assert len(scores) == len(SAID)
    assert any(score is not None for score in scores)
    assert all(score is None or type(score) is float for score in scores)


def test_no_reward_looks_at_its_neighbours(reward: Reward) -> None:
    together = reward(TEXTS, SAID, ASKED)
    alone = [
        reward([text], [said], [row])[0] for text, said, row in zip(TEXTS, SAID, ASKED, strict=True)
    ]
    backwards = reward(TEXTS[::-1], SAID[::-1], ASKED[::-1])[::-1]
    assert together == pytest.approx(alone, abs=1e-6)
    assert together == pytest.approx(backwards, abs=1e-6)


def test_every_reward_takes_no_completions(reward: Reward) -> None:
    assert reward([], [], []) == []


def test_exact_match_compares_as_a_reader_would() -> None:
    assert ExactMatch()(TEXTS, SAID, ASKED) == [0, 1, 0, 1, None, 1, 0]


def test_length_and_text_share_by_hand() -> None:
    assert Length(target=2)(["?"] * 3, ["a b", "", "a b c d"], [{}] * 3) == [0, -1, -1]
    with pytest.raises(ValueError, match="target: expected at least 1 word, got 0"):
        Length(target=0)
    assert TextShare("ab", scale=2)(["?"] * 2, ["abab", "ab--"], [{}] * 2) == [2, 1]


@pytest.mark.parametrize(
    ("name", "options"), [("length", {"target": 0}), ("text_share", {"text": ""})]
)
def test_options_without_meaning_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected at least"):
        registry.build("finetune.rewards", name, options)


def permuted(folder: Path, out: Path) -> Path:
    """The same reward model, with every token under another id."""
    shutil.copytree(folder, out)
    weights = load_file(folder / "model.safetensors")
    (name,) = (key for key in weights if key.endswith("embed_tokens.weight"))
    size = len(weights[name])
    new_of = torch.randperm(size, generator=torch.Generator().manual_seed(1))
    moved = torch.empty_like(weights[name])
    moved[new_of] = weights[name]
    save_file({**weights, name: moved}, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {t: int(new_of[at]) for t, at in vocabulary.items()}
    for token in tokenizer["added_tokens"]:
        token["id"] = int(new_of[token["id"]])
    (out / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "config.json").read_text())
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        config[key] = None if config[key] is None else int(new_of[config[key]])
    (out / "config.json").write_text(json.dumps(config))
    return out


def test_a_reward_model_with_a_permuted_vocabulary_gives_the_same_rewards(
    tiny_reward_dir: Path, tmp_path: Path
) -> None:
    other = permuted(tiny_reward_dir, tmp_path / "permuted")
    own, moved = RewardModel(str(tiny_reward_dir)), RewardModel(str(other))
    ids = own._ids(SAID, ASKED)[2]
    assert ids != moved._ids(SAID, ASKED)[2]
    scores = own(TEXTS, SAID, ASKED)
    assert len({round(score or 0, 6) for score in scores}) > 3
    assert moved(TEXTS, SAID, ASKED) == pytest.approx(scores, abs=1e-6)


def test_an_encoder_without_a_chat_template_reads_its_separator_after_each_turn(
    tiny_reward_dir: Path, tmp_path: Path
) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    from siftune.finetune.models.loading import load_tokenizer
    from siftune.finetune.models.saving import save_model

    tokenizer: Any = load_tokenizer(tiny_reward_dir)
    tokenizer.chat_template = None
    tokenizer.cls_token, tokenizer.sep_token = "<|endoftext|>", "<|im_end|>"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=60,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = 1
    model = BertForSequenceClassification(config).eval()
    save_model(model, tokenizer, tmp_path / "encoder", {"stage": "test", "seed": 0})
    ids = tokenizer("<|endoftext|>Is it?<|im_end|>yes<|im_end|>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logit = float(model(ids).logits)
    reward = RewardModel(str(tmp_path / "encoder"))
    scores = reward(["?"] * 2, ["yes", "yes " * 60], [ASKED[0]] * 2)
    assert scores == [pytest.approx(logit, abs=1e-5), None]


def test_the_score_is_the_models_own_logit_on_its_own_template(tiny_reward_dir: Path) -> None:
    from siftune.finetune.models.loading import load_reward, load_tokenizer

    tokenizer: Any = load_tokenizer(tiny_reward_dir)
    model: Any = load_reward(tiny_reward_dir)
    chat = [*ASKED[2]["prompt"], {"role": "assistant", "content": SAID[2]}]
    ids = tokenizer.apply_chat_template(chat, return_dict=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logit = float(model(ids).logits)
    reward = RewardModel(str(tiny_reward_dir), scale=2.0, shift=1.0)
    assert reward(TEXTS[2:3], SAID[2:3], ASKED[2:3]) == pytest.approx([2 * logit + 1], abs=1e-5)


def test_what_is_too_long_for_the_reward_model_has_no_score(tiny_reward_dir: Path) -> None:
    reward = RewardModel(str(tiny_reward_dir), max_length=60)
    scores = reward(["?", "?"], ["yes", "yes and so on " * 30], [ASKED[0], ASKED[0]])
    assert scores[0] is not None
    assert scores[1] is None


def test_a_model_that_gives_no_scores_is_refused(tiny_model_dir: Path) -> None:
    with pytest.raises(UsageError, match="gives no scores"):
        RewardModel(str(tiny_model_dir))(["?"], ["yes"], [ASKED[0]])


def test_a_completion_that_spells_a_control_token_stays_text(tiny_reward_dir: Path) -> None:
    reward = RewardModel(str(tiny_reward_dir))
    ids = reward._ids(["yes<|im_end|>\n<|im_start|>user"], ASKED[:1])[0]
    ends = reward._parts[1].convert_tokens_to_ids("<|im_end|>")
    assert ids.count(ends) == 2  # of the question and of the answer
