"""Several rewards with weights: what the sum is, how they are named, what is refused."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import siftune as sf
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import names
from siftune.finetune.rewards.exact_match import ExactMatch
from siftune.finetune.rewards.several import WeightedRewards, parts_of, total_of
from siftune.finetune.rewards.types import check_fields, entries_of, load, reads_fields, reward_of
from siftune.pipelines.preflight import _LATER, _check_reward
from siftune.pipelines.steps import reward_key
from siftune.train import _named_reward

PROMPTS, SAID = ["a?", "b?", "c?"], ["yes", "no, no", "yes"]
ROWS: list[dict[str, Any]] = [
    {"reference": "yes", "extra": {}},
    {"reference": "yes", "extra": {}},
    {"reference": None, "extra": {}},
]
BRIEF = {"reward": "length", "weight": -2, "options": {"target": 4}}


def test_the_sum_by_hand_and_each_part() -> None:
    both = reward_of({"exact_match": 3, "brief": BRIEF}, {})
    parts = parts_of(both, PROMPTS, SAID, ROWS)
    assert parts == {"exact_match": [1.0, 0.0, None], "brief": [-0.75, -0.5, -0.75]}
    assert both(PROMPTS, SAID, ROWS) == [4.5, 1.0, None]  # 3·1 + 2·¾, 3·0 + 2·½
    assert total_of(both, parts) == [4.5, 1.0, None]


def test_a_reward_of_weight_zero_is_computed_and_takes_no_score_away() -> None:
    watched = reward_of({"exact_match": 0, "brief": BRIEF}, {})
    assert watched(PROMPTS, SAID, ROWS) == [1.5, 1.0, 1.5]
    assert parts_of(watched, PROMPTS, SAID, ROWS)["exact_match"] == [1.0, 0.0, None]


def test_one_component_may_come_twice_and_one_reward_is_its_own_part() -> None:
    twice = reward_of({"short": BRIEF, "long": {**BRIEF, "options": {"target": 1}}}, {})
    assert twice(PROMPTS[:1], SAID[:1], ROWS[:1]) == [1.5]
    alone = parts_of(ExactMatch(), PROMPTS, SAID, ROWS)
    assert alone == {"exact_match": [1.0, 0.0, None]}
    assert total_of(ExactMatch(), alone) == [1.0, 0.0, None]


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ({}, "expected at least one NAME: WEIGHT"),
        ({"exact_match": True}, "exact_match: expected a weight, such as 0.5, got True"),
        ({"exact_match": None}, "expected a weight"),
        ({"exact_match": "1"}, "expected a weight"),
        ({"exact_match": float("nan")}, "expected a weight"),
        ({"length": {"target": 3}}, "set as options: {target: VALUE}"),
        ({"length": 1}, "needs the option 'target'; set options: {target: VALUE} in its entry"),
        ({"length": {"options": [3]}}, "options: expected {KEY: VALUE}"),
        ({"exact_mach": 1}, "did you mean exact_match?"),
        ({"brief": {**BRIEF, "options": {"target": 0}}}, "expected at least 1"),
    ],
)
def test_what_cannot_be_a_sum_of_rewards_is_refused(rewards: Any, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        reward_of(rewards, {})


def test_options_of_one_reward_are_refused_beside_several() -> None:
    with pytest.raises(UsageError, match="reward_options: they are of one reward"):
        reward_of({"exact_match": 1}, {"target": 3})


def test_functions_objects_and_names_are_parts_in_python() -> None:
    def shout(completion: str, loud: float = 1.0) -> float:
        return loud * completion.count("!")

    entry = {"reward": shout, "weight": 0.5, "options": {"loud": 4}}
    sum_of = sf.reward({"shout": entry, "exact": {"reward": ExactMatch()}})
    assert sum_of(["?"], ["yes!"], [{"reference": "yes!"}]) == [3.0]
    named = _named_reward({"reward": {"shout": entry, "length": {"options": {"target": 3}}}})
    assert isinstance(named["reward"]["shout"]["reward"], str)
    again = reward_of(named["reward"], {})
    assert parts_of(again, ["?"], ["a b c!"], ROWS[:1]) == {"shout": [4.0], "length": [0.0]}


def test_fields_and_models_of_the_parts_are_checked(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text("def by(completion: str, colour: str) -> float:\n    return 1.0\n")
    named = {"exact_match": 1, "mine": {"reward": f"{own}:by"}}
    with pytest.raises(UsageError, match="no row has the field 'colour'"):
        check_fields(reward_of(named, {}), ROWS)
    assert reads_fields(named)
    assert not reads_fields({"exact_match": 1, "brief": BRIEF})
    of_text_alone = {name for name in names("finetune.rewards") if not reads_fields(name)}
    assert of_text_alone == {
        *("exact_match", "format", "length", "log_ratio", "math_answer", "policy_logp"),
        *("process_reward", "regular_expression", "repetition", "reward_ensemble"),
        *("reward_model", "text_share"),
    }
    broken = reward_of({"rm": {"reward": str(tmp_path)}}, {})
    with pytest.raises(UsageError, match="it has no config"):
        load(broken)


def test_several_survive_pickling_and_reward_models_take_the_precision() -> None:
    both = WeightedRewards({"exact_match": 1, "brief": BRIEF})
    assert pickle.loads(pickle.dumps(both))(PROMPTS, SAID, ROWS) == both(PROMPTS, SAID, ROWS)
    given = {"a": {"reward": "some/folder", "options": {"precision": "bf16"}}, "other/folder": 1}
    parts = WeightedRewards(given, "fp32").parts
    assert [part.reward.precision for part in parts] == ["bf16", "fp32"]
    assert [one.reward for one in entries_of(given)] == ["some/folder", "other/folder"]
    assert [entries_of("length", given)[0].options for given in ({"target": 3}, {}, None)] == [
        *({"target": 3}, {}, {})
    ]


def test_a_pipeline_knows_several_rewards_by_weights_and_models_not_by_places(
    tiny_reward_dir: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_reward_dir, tmp_path / "moved")
    here, there = ({"rm": {"reward": str(at)}, "brief": BRIEF} for at in (tiny_reward_dir, moved))
    heavier = {**here, "brief": {**BRIEF, "weight": 2}}
    assert reward_key(here) == reward_key(there) != reward_key(heavier)
    assert reward_key(str(moved)) == reward_key(here)[0][2]
    _check_reward({"rm": {"reward": _LATER}, "brief": BRIEF}, {})  # a step will have made it
    with pytest.raises(UsageError, match="it has no config"):
        _check_reward({"rm": {"reward": str(tmp_path)}}, {})
