"""Tools, earlier calls and reasoning are in what every trainer and every evaluation reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siftune.curate.chat.encoding import encode_answers
from siftune.curate.core.errors import DataError, UsageError
from siftune.finetune.core.scored import EMPTY, Scored
from siftune.finetune.data import training_rows
from siftune.finetune.data.answer_rows import encode_rows
from siftune.finetune.evaluation.generation_eval import GenerationEval
from siftune.finetune.evaluation.pair_accuracy import encode_sides
from siftune.finetune.models.loading import load_causal, load_tokenizer
from siftune.finetune.rewards.reward_model import RewardModel
from siftune.finetune.rl.prepare import prompts_of, supervised_rows
from siftune.finetune.tools.sample import Sample
from siftune.finetune.training.sft_rows import SFTRows

ASK = {"role": "user", "content": "Light on?"}
CALLED = {
    "role": "assistant",
    "content": None,
    "reasoning_content": "Hm.",
    "tool_calls": [{"function": {"name": "light", "arguments": '{"on": true}'}}],
}
RESULT = {"role": "tool", "content": "done"}
DONE, NO = {"role": "assistant", "content": "yes"}, {"role": "assistant", "content": "no"}
PROMPT = [ASK, CALLED, RESULT]
BESIDE = {"tools": [{"name": "light", "parameters": {"type": "object"}}]}
DECLARED = '{"type": "function", "function": {"name": "light"'
CALL = '<tool_call>\n{"name": "light", "arguments": {"on": true}}\n</tool_call>'

CONVERSATION = {"messages": [*PROMPT, DONE], **BESIDE}
PAIR = {"prompt": PROMPT, "chosen": [DONE], "rejected": [NO], **BESIDE}
ANSWER = {"prompt": PROMPT, "completion": [DONE], "label": True, **BESIDE}
LISTED = {"prompt": PROMPT, "completions": [[DONE], [NO]], "scores": [1.0, 0.0], **BESIDE}


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    return load_tokenizer(tiny_model_dir)


@pytest.fixture
def rows(tmp_path: Path) -> Any:
    def write(*records: dict[str, Any]) -> Path:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        return file

    return write


@pytest.fixture
def table(rows: Any) -> Any:
    kinds: Any = ("conversation", "preference", "unpaired", "ranked")

    def read(*records: dict[str, Any]) -> pl.DataFrame:
        return training_rows.load(rows(*records), kinds)

    return read


def has_all(text: str) -> bool:
    return DECLARED in text and f"<think>\nHm.\n</think>\n\n{CALL}" in text and "done" in text


def test_sft_reads_them(tokenizer: Any, table: Any) -> None:
    (row,) = SFTRows(tokenizer, 512, assistant_only_loss=True).encoded(table(CONVERSATION))
    assert has_all(tokenizer.decode(row.ids))
    bits = zip(row.ids, row.mask, strict=True)
    assert tokenizer.decode([token for token, bit in bits if bit]).count("<|im_end|>") == 2


def test_pairs_and_answers_read_them(tokenizer: Any, table: Any) -> None:
    (pair,) = encode_rows(table(PAIR), tokenizer).ids
    (answer,) = encode_rows(table(ANSWER), tokenizer, labelled=True).ids
    (listed,) = encode_rows(table(LISTED), tokenizer).ids
    for prompt in (pair.prompt, answer.prompt, listed.prompt):
        assert has_all(tokenizer.decode(prompt))


def test_ppo_and_its_supervised_rows_read_them(tokenizer: Any, table: Any, rows: Any) -> None:
    _, _, (prompt,) = prompts_of(table(CONVERSATION), tokenizer, None, "refuse", "rows")
    assert has_all(prompt.text)
    assert prompt.row["tools"][0]["function"]["name"] == "light"
    made = supervised_rows(str(rows(CONVERSATION)), tokenizer, 3, None, "refuse")
    assert has_all(tokenizer.decode(made.rows[0].prompt))


def test_a_call_is_a_supervised_answer_of_ppo(tokenizer: Any, rows: Any) -> None:
    source = str(rows({"messages": [ASK, CALLED]}))
    made = supervised_rows(source, tokenizer, 3, None, "refuse")
    room = len(made.rows[0].prompt) + len(made.rows[0].ids)
    assert supervised_rows(source, tokenizer, 3, room, "refuse").rows == made.rows
    with pytest.raises(DataError, match="too_long"):
        supervised_rows(source, tokenizer, 3, room - 1, "refuse")
    assert CALL in tokenizer.decode(made.rows[0].ids)


def test_reward_models_read_them(
    tokenizer: Any, table: Any, tiny_reward_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((chosen, rejected),) = encode_sides(tokenizer, training_rows.to_pairs(table(PAIR)), None)
    assert has_all(tokenizer.decode(chosen.ids))
    assert has_all(tokenizer.decode(rejected.ids))
    reward = RewardModel(str(tiny_reward_dir))
    (ids,) = reward._ids(["yes"], training_rows.to_prompts(table(CONVERSATION)))
    assert has_all(tokenizer.decode(ids))
    reward._parts[
        1
    ].chat_template = (
        "{% for m in messages %}{% if m.role != 'tool' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    for prompt in ([ASK, RESULT], [RESULT]):  # without a call before it too
        with pytest.raises(UsageError, match="results of tools"):
            reward._ids(["yes"], [{"id": "r", "prompt": prompt, "tools": None}])
    reward._parts[1].chat_template = "{{ '' }}"  # writes nothing, so there is nothing to score
    assert reward.scored(["?"], ["yes"], [{"prompt": [ASK]}]) == [Scored(None, EMPTY)]


def test_an_evaluation_reads_them_and_knows_the_answer(
    tokenizer: Any, table: Any, tiny_model_dir: Path
) -> None:
    asked = training_rows.to_prompts(table(CONVERSATION, {"messages": [ASK, CALLED], **BESIDE}))
    first, second = GenerationEval(tuple(asked), tokenizer, max_new_tokens=1)(
        load_causal(tiny_model_dir)
    )
    assert has_all(first["prompt"])
    assert DECLARED in second["prompt"]
    assert second["reference"] is None
    assert second["exact_match"] is None
    reasoned = f"<think>\nHm.\n</think>\n\n{CALL}<|im_end|>"
    assert second["loss_tokens"] == len(tokenizer(reasoned, add_special_tokens=False)["input_ids"])


def test_sampled_rows_keep_them(
    rows: Any, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(_: Any, __: Any, ___: Any, asked: Iterable[Any], *____: Any) -> Any:
        said = [["yes", "yes yes"] for _ in asked]
        return said, [0 for _ in said]  # none cut off or empty

    monkeypatch.setattr(Sample, "_answers", answers)
    other = {**CONVERSATION, "tools": [{"name": "dim"}]}  # the same words are another prompt
    Sample(str(tiny_model_dir), reward="length", reward_options={"target": 3}, count=2)(
        rows(CONVERSATION, other), tmp_path / "out"
    )
    first, second = training_rows.to_ranked(training_rows.load(tmp_path / "out", ("ranked",)))
    (known, _) = training_rows.to_prompts(
        training_rows.load(rows(CONVERSATION, other), ("conversation",))
    )
    assert (first["prompt"], first["tools"]) == (known["prompt"], known["tools"])
    assert second["tools"][0]["function"]["name"] == "dim"


UNLEARNED = {"role": "assistant", "content": "yes", "weight": 0}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": [ASK], "chosen": [UNLEARNED], "rejected": [NO]},
        {"prompt": [ASK], "chosen": [DONE], "rejected": [{**NO, "train": False}]},
        {"prompt": [ASK], "completion": [UNLEARNED, ASK, UNLEARNED], "label": True},
        {"prompt": [ASK], "completions": [[DONE], [UNLEARNED]], "scores": [1, 0]},
    ],
)
def test_an_answer_of_which_nothing_is_learned_is_named(
    tokenizer: Any, table: Any, record: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=r"1 no_trained_tokens \(rows:1\)"):
        encode_rows(table(record), tokenizer)


def test_a_turn_of_weight_0_in_a_side_of_a_pair_is_not_scored(tokenizer: Any, table: Any) -> None:
    again = {"role": "assistant", "content": "yes yes"}
    record = {"prompt": [ASK], "chosen": [UNLEARNED, ASK, again], "rejected": [NO]}
    (row,) = training_rows.to_pairs(table(record))
    (side,) = encode_answers(tokenizer, [row["prompt"]], [row["chosen"]])
    scored = [token for token, bit in zip(side.ids, side.mask, strict=True) if bit]
    assert tokenizer.decode(scored) == "yes yes<|im_end|>"
