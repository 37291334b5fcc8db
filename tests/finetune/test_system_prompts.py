"""One reward model for several domains, each named by a system prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.core.errors import UsageError
from siftune.finetune.models.loading import load_reward, load_tokenizer
from siftune.finetune.models.saving import save_model
from siftune.finetune.rewards.reward_model import RewardModel as Reward
from siftune.finetune.tools.evaluate import Evaluate
from siftune.finetune.trainers.reward_model import RewardModel

PROMPTS = {"code": "Judge the code.", "maths": "Judge the maths."}


def test_a_row_is_scored_after_the_system_prompt_of_its_domain(
    tiny_reward_dir: Path, tmp_path: Path
) -> None:
    """By the reward, by evaluate and in the rows that a training reads."""
    model, tokenizer = load_reward(tiny_reward_dir), load_tokenizer(tiny_reward_dir)
    options = {"domain": "topic", "system_prompts": PROMPTS}
    folder = tmp_path / "m"
    save_model(model, tokenizer, folder, {"stage": "reward", "seed": 0, "options": options})
    ask = {"role": "user", "content": "Say hello"}
    rows: list[dict[str, Any]] = [
        {"prompt": [ask], "extra": {"topic": "code"}},
        {"prompt": [ask], "extra": {"topic": "verse"}},
        {"prompt": [{"role": "system", "content": "Be kind."}, ask], "topic": "maths"},
    ]
    found = Reward(str(folder))([""] * 3, ["hello"] * 3, rows)
    written = [{"role": "system", "content": text} for text in ("Judge the code.", "")]
    written[1]["content"] = "Judge the maths.\n\nBe kind."
    asked = [[written[0], ask], [ask], [written[1], ask]]
    plain = Reward(str(tiny_reward_dir))([""] * 3, ["hello"] * 3, [{"prompt": x} for x in asked])
    assert found == pytest.approx(plain, abs=1e-6)
    assert len(set(plain)) == 3

    path = tmp_path / "pairs.jsonl"
    pairs = [
        {"prompt": "Say hello", "chosen": "hello", "rejected": "no", "topic": topic}
        for topic in ("code", "verse")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    Evaluate(str(folder))(path, tmp_path / "e")
    lines = [json.loads(line) for line in (tmp_path / "e/rows.jsonl").read_text().splitlines()]
    assert [line["reward_chosen"] for line in lines] == pytest.approx(plain[:2], abs=1e-5)

    trained = RewardModel(str(tiny_reward_dir), **options)._read(path)
    assert [[turn["role"] for turn in turns] for turns in trained["prompt"].to_list()] == [
        ["system", "user"],
        ["user"],
    ]
    with pytest.raises(UsageError, match="no row has code, maths in the column or field 'kind_of'"):
        RewardModel(str(tiny_reward_dir), domain="kind_of", system_prompts=PROMPTS)._read(path)
    with pytest.raises(ValueError, match="domain: it and system_prompts"):
        RewardModel(str(tiny_reward_dir), domain="topic")
