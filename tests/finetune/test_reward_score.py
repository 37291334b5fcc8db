"""The scorer of reward models in curate gives what the reward gives."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.finetune.rewards.reward_ensemble import RewardEnsemble
from siftune.finetune.rewards.reward_model import RewardModel
from siftune.finetune.scorers.reward_score import RewardScore

OPTIONS = [{"model": "RM", "precision": "fp32"}]


def test_scores_are_those_of_the_reward_with_the_reason_where_there_is_none(
    tiny_reward_dir: Path, tmp_path: Path
) -> None:
    asked = [turn("user", "Say hello to the king.")]
    chats = pl.DataFrame(
        {
            "messages": [
                [*asked, turn("assistant", "Hello, king!")],
                [*asked, turn("assistant", " ")],
                asked,
                [*asked, turn("assistant", "long " * 400)],
                [*asked, turn("tool", "12"), turn("assistant", "Hello, king!")],
            ]
        },
        schema={"messages": TURNS},
    )
    found = RewardScore(str(tiny_reward_dir), precision="fp32")(chats)
    row = {"id": "1", "prompt": [{"role": "user", "content": "Say hello to the king."}]}
    given = (["Say hello to the king."], ["Hello, king!"], [row])
    alone = RewardModel(str(tiny_reward_dir), precision="fp32")(*given)[0]
    assert found["reward_score"].to_list() == [pytest.approx(alone), None, None, None, None]
    reasons = [None, "no_answer", "no_answer", "too_long", "tool_calls"]
    assert found["reward_score_error"].to_list() == reasons
    assert found["reward_score_spread"].null_count() == 5
    listed = [{"folder": "one", "level": 0.0}, {"folder": "two", "level": 2.0}]
    (tmp_path / "ensemble.json").write_text(str({"members": listed}).replace("'", '"'))
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(tiny_reward_dir)
    both = RewardScore(str(tmp_path), precision="fp32", weight=0.5)(chats.head(1))
    # scores r and r - 2: mean r - 1, spread 1
    assert both["reward_score"][0] == pytest.approx(alone - 1 - 0.5)
    assert both["reward_score_spread"][0] == pytest.approx(1)
    worst = RewardEnsemble(str(tmp_path), how="worst", precision="fp32")(*given)[0]
    assert worst == pytest.approx(alone - 2)
