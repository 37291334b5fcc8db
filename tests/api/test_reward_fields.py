"""A user's reward reads fields of the raw rows: by a parameter of the name, or in ``extra``."""

from __future__ import annotations

import polars as pl
import pytest

import siftune as sf
from siftune.curate.core.custom import name_and_options
from siftune.finetune.data.training_rows import to_prompts
from siftune.finetune.rewards.types import reward_of
from siftune.finetune.trainers.ppo import PPO
from siftune.finetune.training.on_policy_key import run_key

RECORDS = [{"prompt": "2+2?", "gold": "4", "reference": "four"}, {"prompt": "1+1?"}]


def one(completion: str, gold: str, worth: float = 1.0) -> float:
    """What a completion with the gold answer is worth."""
    return worth * (gold in completion)


def every(prompts, completions, gold):
    """As TRL calls a reward."""
    return [
        None if want is None else float(want in got)
        for got, want in zip(completions, gold, strict=True)
    ]


class Near:
    """A class whose objects are called with a field."""

    def __init__(self, worth: float) -> None:
        self.worth = worth

    def __call__(self, completion, gold):
        return self.worth * (gold in completion)


def test_rows_of_a_reward_may_be_dicts_of_a_table_of_ours():
    rows = sf.read([{"prompt": "2+2?", "response": "four", "gold": "4"}])
    assert sf.reward(one)(["2+2?"], ["4"], rows.kept.to_dicts()) == [1.0]


def test_rows_of_a_reward_may_be_a_frame():
    records = [{"prompt": "2+2?", "response": "four", "gold": "4"}]
    rows = sf.read(records)
    for given in (rows, rows.kept, rows.kept.lazy()):
        assert sf.reward("exact_match")(["2+2?"], ["four"], given) == [1.0]
        assert sf.reward(one)(["2+2?"], ["It is 4."], given) == [1.0]
    for given in (records, pl.DataFrame(records), pl.DataFrame(records).to_pandas()):
        assert sf.reward(one)(["2+2?"], ["It is 4."], given) == [1.0]


@pytest.fixture(scope="module")
def asked():
    return to_prompts(sf.read(RECORDS, format="prompt_only").kept)


def test_a_parameter_without_a_default_is_a_field_of_the_raw_row(asked):
    given = (["2+2?", "1+1?"], ["It is 4", "It is 2"], asked)
    assert sf.reward(one)(*given) == [1, None]  # the second row has no gold
    assert sf.reward(one, worth=2)(*given) == [2, None]
    assert sf.reward(every)(*given) == [1, None]
    assert sf.reward(Near, worth=3)(*given) == [3, None]
    assert sf.reward(one, gold="2")(*given) == [0, 1]  # an option goes before the field
    assert sf.reward(one)(["?"], ["4"], [{"gold": "4"}]) == [1]
    assert name_and_options(sf.reward(one))[1] == {"worth": 1.0}


def test_a_raw_reference_and_the_text_of_a_known_answer_are_read_by_name(asked):
    def equal(completion, reference):
        return completion == reference

    def known(completion, answer):
        return completion == answer

    assert sf.reward(equal)(["?"] * 2, ["four", "2"], asked) == [1, None]
    rows = to_prompts(sf.read([{"prompt": "2+2?", "response": "4"}]).kept)
    assert sf.reward(known)(["?"], ["4"], rows) == [1]


def test_row_has_the_fields_in_extra_and_a_wrong_key_is_answered_with_those_there(asked):
    def right(completion, row):
        return row["extra"].get("gold") == completion

    def wrong(completion, row):
        return row["gold"] == completion

    assert sf.reward(right)(["?"] * 2, ["4", "2"], asked) == [1, 0]
    told = r"KeyError: 'gold'; a row has id, .*tools, extra; its 'extra' has gold, reference"
    with pytest.raises(sf.UsageError, match=told):
        sf.reward(wrong)(["?"] * 2, ["4", "2"], asked)


def test_a_field_that_no_row_has_is_refused_with_those_there(asked):
    def misspelt(completion, glod):
        return 0.0

    told = "no row has the field 'glod'; did you mean gold\\?; if glod is an option"
    with pytest.raises(sf.UsageError, match=told):
        sf.reward(misspelt)(["?"] * 2, ["4", "2"], asked)


def test_the_fields_are_in_the_key_of_a_training_with_ones_own_reward(tiny_model_dir, tmp_path):
    file = tmp_path / "r.py"
    file.write_text("def one(completion, gold):\n    return 0.0\n")

    def key(gold: str, reward: str):
        rows = sf.read([{"prompt": "2+2?", "gold": gold}], format="prompt_only")
        made = PPO(model=str(tiny_model_dir), reward=reward)
        return run_key(made, rows.kept, reward_of(reward, {}, "fp32"), "fp32")

    own = f"{file}:one"
    assert key("4", own) != key("5", own)
    assert key("4", "exact_match") == key("5", "exact_match")
