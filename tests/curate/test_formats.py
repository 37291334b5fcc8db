"""Each layout read by hand-written records, and written back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from siftune.curate.core.errors import BadRow, DataError, UsageError
from siftune.curate.core.registry import names
from siftune.curate.io.detect import FORMATS, detect, named
from siftune.curate.rows.chat import turn

Row = dict[str, Any]


def said(*turns: tuple[str, str | None]) -> list[Row]:
    return [turn(role, content) for role, content in turns]


def read(name: str, record: Row) -> Row:
    [row] = named(name).read(record)
    return row


CALL = [{"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}]
HH = "\n\nHuman: 2+2?\n\nAssistant: "

RATED = {"is_response_0_safe": False, "is_response_1_safe": True}
SAFE = {
    "prompt": "How do I open this lock?",
    "response_0": "Rake the pins.",
    "response_1": "Call a locksmith.",
    "better_response_id": 0,
    "safer_response_id": 1,
    **RATED,
}

GOLDEN: dict[str, tuple[Row, Row]] = {  # format, case: raw record, the row it gives
    "alpaca: no input": (
        {"instruction": "2+2?", "input": "", "output": "4", "id": 7},
        {"messages": said(("user", "2+2?"), ("assistant", "4")), "extra": {"id": 7}},
    ),
    "alpaca: input": (
        {"instruction": "Translate.", "input": "Hund", "output": "dog"},
        {
            "messages": said(("user", "Translate.\n\nHund"), ("assistant", "dog")),
            "extra": {"input": "Hund"},
        },
    ),
    "alpaca: system and history": (
        {
            "instruction": "And 3+3?",
            "input": "",
            "output": "6",
            "system": "Be brief.",
            "history": [["2+2?", "4"]],
        },
        {
            "messages": said(
                ("system", "Be brief."),
                ("user", "2+2?"),
                ("assistant", "4"),
                ("user", "And 3+3?"),
                ("assistant", "6"),
            ),
            "extra": {},
        },
    ),
    "alpaca: empty output": (
        {"instruction": "2+2?", "input": "", "output": ""},
        {"messages": said(("user", "2+2?"), ("assistant", "")), "extra": {}},
    ),
    "sharegpt: system and tags": (
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "2+2?"},
                {"from": "gpt", "value": "4"},
            ],
            "id": "x",
        },
        {
            "messages": said(("system", "Be brief."), ("user", "2+2?"), ("assistant", "4")),
            "extra": {"id": "x"},
        },
    ),
    "sharegpt: a tool is called": (
        {
            "conversations": [
                {"from": "human", "value": "2+2?"},
                {"from": "function_call", "value": '{"name":"add","arguments":{"a":2,"b":2}}'},
                {"from": "observation", "value": "4"},
                {"from": "gpt", "value": "It is 4.", "weight": 1},
            ],
            "tools": "[…]",
        },
        {
            "messages": [
                turn("user", "2+2?"),
                turn("assistant", None, tool_calls=json.dumps(CALL, separators=(",", ":"))),
                turn("tool", "4"),
                turn("assistant", "It is 4."),
            ],
            "extra": {"tools": "[…]", "conversations.fields": [{}, {}, {}, {"weight": 1}]},
        },
    ),
    "messages: a tool is called": (
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "2+2?", "name": "ann"},
                {"role": "assistant", "content": None, "tool_calls": CALL},
                {"role": "tool", "content": "4", "name": "add", "tool_call_id": "1"},
                {"role": "assistant", "content": "4"},
            ],
            "tools": [{"name": "add"}],
        },
        {
            "messages": [
                turn("system", "Be brief."),
                turn("user", "2+2?", name="ann"),
                turn("assistant", None, tool_calls=json.dumps(CALL, separators=(",", ":"))),
                turn("tool", "4", name="add", tool_call_id="1"),
                turn("assistant", "4"),
            ],
            "extra": {"tools": [{"name": "add"}]},
        },
    ),
    "messages: other fields of a turn": (
        {
            "messages": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4", "reasoning_content": "Easy."},
            ]
        },
        {
            "messages": said(("user", "2+2?"), ("assistant", "4")),
            "extra": {"messages.fields": [{}, {"reasoning_content": "Easy."}]},
        },
    ),
    "prompt_only: a text": (
        {"prompt": "2+2?", "id": "a7", "source": "web"},
        {"messages": said(("user", "2+2?")), "extra": {"id": "a7", "source": "web"}},
    ),
    "prompt_only: turns": (
        {"prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": "2+2?"}]},
        {"messages": said(("system", "Add."), ("user", "2+2?")), "extra": {}},
    ),
    "prompt_completion: texts": (
        {"prompt": "2+2?", "completion": "4", "answer": 4},
        {"messages": said(("user", "2+2?"), ("assistant", "4")), "extra": {"answer": 4}},
    ),
    "prompt_completion: turns": (
        {
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "2+2?"},
            ],
            "completion": [{"role": "assistant", "content": "4"}],
        },
        {
            "messages": said(("system", "Be brief."), ("user", "2+2?"), ("assistant", "4")),
            "extra": {},
        },
    ),
    "text: a document": (
        {"text": "Once.\r\nUpon a time.", "title": "Tale"},
        {"messages": said(("assistant", "Once.\r\nUpon a time.")), "extra": {"title": "Tale"}},
    ),
    "preference: texts": (
        {"prompt": "2+2?", "chosen": "4", "rejected": "5", "score_chosen": 9.0, "margin": 2.5}
        | {"win_probability": 0.75, "weight": 2},
        {
            "prompt": said(("user", "2+2?")),
            "chosen": said(("assistant", "4")),
            "rejected": said(("assistant", "5")),
            "score_chosen": 9.0,
            "score_rejected": None,
            "margin": 2.5,
            "win_probability": 0.75,
            "extra": {"weight": 2},
        },
    ),
    "preference: turns": (
        {
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "2+2?"},
            ],
            "chosen": [{"role": "assistant", "content": "4"}],
            "rejected": [{"role": "assistant", "content": "5"}],
        },
        {
            "prompt": said(("system", "Be brief."), ("user", "2+2?")),
            "chosen": said(("assistant", "4")),
            "rejected": said(("assistant", "5")),
            "score_chosen": None,
            "score_rejected": None,
            "margin": None,
            "win_probability": None,
            "extra": {},
        },
    ),
    "hh_rlhf: two turns": (
        {"chosen": HH + "4", "rejected": HH + "5"},
        {
            "prompt": said(("user", "2+2?")),
            "chosen": said(("assistant", "4")),
            "rejected": said(("assistant", "5")),
            "extra": {},
        },
    ),
    "hh_rlhf: the sides part earlier": (
        {
            "chosen": HH + "4\n\nHuman: Thanks\n\nAssistant: Gladly",
            "rejected": HH + "5\n\nHuman: Thanks\n\nAssistant: ",
        },
        {
            "prompt": said(("user", "2+2?")),
            "chosen": said(("assistant", "4"), ("user", "Thanks"), ("assistant", "Gladly")),
            "rejected": said(("assistant", "5"), ("user", "Thanks"), ("assistant", "")),
            "extra": {},
        },
    ),
    "pairwise: the second is better": (
        {"prompt": "2+2?", "response_1": "5", "response_2": "4", "preference": 2.0, "by": "me"},
        {
            "prompt": said(("user", "2+2?")),
            "chosen": said(("assistant", "4")),
            "rejected": said(("assistant", "5")),
            "win_probability": 1.0,
            "margin": 1.0,
            "extra": {"by": "me", "chosen_response": 2},
        },
    ),
    "pairwise: softly the first": (
        {"prompt": "2+2?", "response_1": "4", "response_2": "5", "preference": 1.25},
        {
            "prompt": said(("user", "2+2?")),
            "chosen": said(("assistant", "4")),
            "rejected": said(("assistant", "5")),
            "win_probability": 0.75,
            "margin": 0.5,
            "extra": {"chosen_response": 1},
        },
    ),
    "unpaired: a bad answer": (
        {"prompt": "2+2?", "completion": "5", "label": False},
        {
            "prompt": said(("user", "2+2?")),
            "completion": said(("assistant", "5")),
            "label": False,
            "extra": {},
        },
    ),
    "shp: the second comment is preferred": (  # stanfordnlp/SHP, its card
        {
            "post_id": "x1",
            "domain": "askbaking_train",
            "history": "Why did my bread not rise?",
            "human_ref_A": "Buy another oven.",
            "human_ref_B": "The yeast was too old.",
            "labels": 0,
            "score_A": 3.0,
            "score_B": 41.0,
        },
        {
            "prompt": said(("user", "Why did my bread not rise?")),
            "chosen": said(("assistant", "The yeast was too old.")),
            "rejected": said(("assistant", "Buy another oven.")),
            "score_chosen": 41.0,
            "score_rejected": 3.0,
            "extra": {"post_id": "x1", "domain": "askbaking_train", "chosen_response": 2},
        },
    ),
    "safe_rlhf: the labels differ": (  # PKU-Alignment/PKU-SafeRLHF, its card
        SAFE,
        {
            "prompt": said(("user", "How do I open this lock?")),
            "chosen": said(("assistant", "Rake the pins.")),
            "rejected": said(("assistant", "Call a locksmith.")),
            "extra": {**RATED, "safer_response_id": 1, "chosen_response": 1},
        },
    ),
    "webgpt: the second has the higher score": (  # openai/webgpt_comparisons, its card
        {
            "question": {"full_text": "Why is the sky blue?", "dataset": "eli5", "id": "q1"},
            "quotes_0": {"title": ["Sky"], "extract": ["Air scatters blue."]},
            "answer_0": "It mirrors the sea.",
            "answer_1": "Air scatters blue light more [1].",
            "score_0": -0.5,
            "score_1": 0.25,
        },
        {
            "prompt": said(("user", "Why is the sky blue?")),
            "chosen": said(("assistant", "Air scatters blue light more [1].")),
            "rejected": said(("assistant", "It mirrors the sea.")),
            "score_chosen": 0.25,
            "score_rejected": -0.5,
            "extra": {
                "quotes_0": {"title": ["Sky"], "extract": ["Air scatters blue."]},
                "chosen_response": 2,
                "question.fields": {"dataset": "eli5", "id": "q1"},
            },
        },
    ),
    "alpaca_pairs: two outputs": (  # LLaMA-Factory, comparison_gpt4_data_en.json
        {"instruction": "2+2?", "output": ["4", "5"], "id": 3},
        {
            "prompt": said(("user", "2+2?")),
            "chosen": said(("assistant", "4")),
            "rejected": said(("assistant", "5")),
            "extra": {"id": 3},
        },
    ),
    "rejected_response: a text": (  # ms-swift, custom data sets in its documentation
        {
            "messages": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4"},
            ],
            "rejected_response": "5",
        },
        {
            "prompt": said(("user", "2+2?")),
            "chosen": said(("assistant", "4")),
            "rejected": said(("assistant", "5")),
            "extra": {},
        },
    ),
    "arena: a question": (  # Arena-Hard-Auto v0.1, question.jsonl
        {"question_id": "q7", "cluster": "Sums", "turns": [{"content": "2+2?"}]},
        {
            "messages": said(("user", "2+2?")),
            "extra": {"question_id": "q7", "cluster": "Sums"},
        },
    ),
    "arena_battles: the second won": (  # lmsys/chatbot_arena_conversations, its card
        {
            "question_id": "q7",
            "model_a": "small",
            "model_b": "big",
            "conversation_a": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "5"},
            ],
            "conversation_b": [
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4"},
            ],
            "winner": "model_b",
        },
        {
            "prompt": said(("user", "2+2?")),
            "chosen": said(("assistant", "4")),
            "rejected": said(("assistant", "5")),
            "extra": {
                "question_id": "q7",
                "model_a": "small",
                "model_b": "big",
                "chosen_response": 2,
            },
        },
    ),
    "verl: a ground truth": (  # verl, "Prepare Data for Post-Training" in its documentation
        {
            "data_source": "made/up",
            "prompt": [{"role": "user", "content": "2+2?"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "4"},
            "extra_info": {"split": "train", "index": 0},
        },
        {
            "messages": said(("user", "2+2?")),
            "answer": "4",
            "answer_from": "reward_model.ground_truth",
            "extra": {
                "data_source": "made/up",
                "ability": "math",
                "extra_info": {"split": "train", "index": 0},
                "reward_model.fields": {"style": "rule"},
            },
        },
    ),
    "question_answer: gsm8k": (  # openai/gsm8k, its card
        {"question": "Four bags of 300 nuts: how many?", "answer": "4*300=<<4*300>>\n#### 1,200"},
        {
            "messages": said(("user", "Four bags of 300 nuts: how many?")),
            "answer": "1200",
            "answer_from": "answer:####",
            "extra": {"solution": "4*300=<<4*300>>\n#### 1,200"},
        },
    ),
    "question_answer: a number": (  # SVAMP, as many hold it
        {"question": "2+2?", "answer": "4", "id": "chal-1", "type": "Addition"},
        {
            "messages": said(("user", "2+2?")),
            "answer": "4",
            "answer_from": "answer",
            "extra": {"id": "chal-1", "type": "Addition"},
        },
    ),
    "ranked: texts": (
        {"prompt": "2+2?", "completions": ["4", "5"], "scores": [1.5, None], "by": "me"},
        {
            "prompt": said(("user", "2+2?")),
            "completions": [said(("assistant", "4")), said(("assistant", "5"))],
            "scores": [1.5, None],
            "extra": {"by": "me"},
        },
    ),
    "ranked: turns": (
        {
            "prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": "2+2?"}],
            "completions": [
                [{"role": "assistant", "content": "4", "by": "me"}],
                [{"role": "assistant", "content": "5"}],
            ],
            "scores": [2.0, -1.0],
        },
        {
            "prompt": said(("system", "Add."), ("user", "2+2?")),
            "completions": [said(("assistant", "4")), said(("assistant", "5"))],
            "scores": [2.0, -1.0],
            "extra": {"completions[0].fields": [{"by": "me"}]},
        },
    ),
    "nectar: three ranks": (
        {
            "prompt": HH,
            "answers": [
                {"answer": "4", "rank": 1.0, "model": "a"},
                {"answer": "four", "rank": 2.0, "model": "b"},
                {"answer": "5", "rank": 3.0, "model": "c"},
            ],
            "turns": 1,
        },
        {
            "prompt": said(("user", "2+2?")),
            "completions": [said(("assistant", text)) for text in ("4", "four", "5")],
            "scores": [-1.0, -2.0, -3.0],
            "extra": {
                "turns": 1,
                "answers.fields": [{"model": "a"}, {"model": "b"}, {"model": "c"}],
            },
        },
    ),
    "ultrafeedback: aspects": (
        {
            "instruction": "2+2?",
            "source": "sums",
            "completions": [
                {
                    "response": "4",
                    "overall_score": 8.5,
                    "model": "a",
                    "annotations": {
                        "helpfulness": {"Rating": "5", "Rationale": "Right."},
                        "honesty": {"Rating": "4"},
                        "truthfulness": {"Rating": "N/A"},
                    },
                }
            ],
        },
        {
            "prompt": said(("user", "2+2?")),
            "completions": [said(("assistant", "4"))],
            "scores": [4.5],
            "attributes": [
                [
                    {"name": "helpfulness", "value": 5.0},
                    {"name": "honesty", "value": 4.0},
                    {"name": "overall_score", "value": 8.5},
                ]
            ],
            "extra": {
                "source": "sums",
                "completions.fields": [
                    {
                        "model": "a",
                        "annotations": {
                            "helpfulness": {"Rationale": "Right."},
                            "truthfulness": {"Rating": "N/A"},
                        },
                    }
                ],
            },
        },
    ),
    "helpsteer2: five attributes": (
        {
            "prompt": "2+2?",
            "response": "4",
            "helpfulness": 4.0,
            "correctness": 3.0,
            "coherence": 2.0,
            "complexity": 1.0,
            "verbosity": 0.0,
        },
        {
            "prompt": said(("user", "2+2?")),
            "completions": [said(("assistant", "4"))],
            "scores": [4.0],
            "attributes": [
                [
                    {"name": "helpfulness", "value": 4.0},
                    {"name": "correctness", "value": 3.0},
                    {"name": "coherence", "value": 2.0},
                    {"name": "complexity", "value": 1.0},
                    {"name": "verbosity", "value": 0.0},
                ]
            ],
            "extra": {},
        },
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_a_record_gives_the_row_written_beside_it(case: str) -> None:
    record, row = GOLDEN[case]
    assert read(case.partition(":")[0], record) == row


@pytest.mark.parametrize("case", GOLDEN)
def test_the_row_gives_the_record_back(case: str) -> None:
    record, row = GOLDEN[case]
    assert named(case.partition(":")[0]).write(row) == record


@pytest.mark.parametrize("case", GOLDEN)
def test_each_golden_record_is_detected(case: str) -> None:
    record, _ = GOLDEN[case]
    assert detect("here", [record])[0] == case.partition(":")[0]


def message(text: str, role: str, *replies: Row, **other: Any) -> Row:
    return {"text": text, "role": role, "replies": list(replies)} | other


TREE = {
    "message_tree_id": "t",
    "prompt": message(
        "2+2?",
        "prompter",
        message(
            "4", "assistant", message("Sure?", "prompter", message("Yes", "assistant")), rank=0
        ),
        message("5", "assistant", message("No!", "prompter"), rank=1),
        message("Buy now", "assistant", rank=2, deleted=True),
    ),
}


def test_a_tree_gives_each_way_to_a_last_answer_without_what_nobody_answered() -> None:
    rows = list(named("oasst").read(TREE))
    assert [[turn["content"] for turn in row["messages"]] for row in rows] == [
        ["2+2?", "4", "Sure?", "Yes"],
        ["2+2?", "5"],
    ]
    assert [turn["role"] for turn in rows[0]["messages"]] == ["user", "assistant"] * 2
    assert rows[1]["extra"] == {"message_tree_id": "t", "messages.fields": [{}, {"rank": 1}]}


def test_a_tree_gives_its_ranked_replies_best_scored_highest() -> None:
    [row] = named("oasst_ranked").read(TREE)
    assert row["prompt"] == said(("user", "2+2?"))
    assert row["completions"] == [said(("assistant", "4")), said(("assistant", "5"))]
    assert row["scores"] == [0, -1]


def test_a_tree_without_an_answer_is_a_bad_row() -> None:
    tree = {"prompt": message("2+2?", "prompter")}
    for name, reason in (("oasst", "no_answer"), ("oasst_ranked", "no_ranked_replies")):
        with pytest.raises(BadRow) as bad:
            list(named(name).read(tree))
        assert bad.value.reason == reason


def test_implicit_prompts_are_the_turns_both_sides_begin_with() -> None:
    begin = [{"role": "user", "content": "2+2?"}]
    record = {
        "chosen": [*begin, {"role": "assistant", "content": "4"}],
        "rejected": [*begin, {"role": "assistant", "content": "5"}],
        "messages": [*begin, {"role": "assistant", "content": "4"}],
    }
    row = read("preference", record)
    assert row["prompt"] == said(("user", "2+2?"))
    assert row["chosen"] == said(("assistant", "4"))
    assert detect("here", [record])[0] == "preference"  # UltraFeedback binarized has `messages` too
    assert read("preference", record | {"prompt": "2+2?"})["prompt"] == said(("user", "2+2?"))
    with pytest.raises(BadRow, match="prompt_mismatch"):
        read("preference", record | {"prompt": "3+3?"})


def test_implicit_prompts_of_texts_end_at_a_space() -> None:
    row = read("preference", {"chosen": "The sky is blue.", "rejected": "The sky is black."})
    assert row["prompt"] == said(("user", "The sky is "))
    assert row["rejected"] == said(("assistant", "black."))


BAD: list[tuple[str, Row, str]] = [
    ("alpaca", {"instruction": "a"}, "missing_field"),
    ("alpaca", {"instruction": None, "output": "b"}, "missing_field"),
    ("alpaca", {"instruction": "a", "output": 4}, "wrong_type"),
    ("alpaca", {"instruction": "a", "input": ["x"], "output": "b"}, "wrong_type"),
    ("alpaca", {"instruction": "a", "output": "b", "history": [["x"]]}, "wrong_type"),
    ("messages", {"messages": []}, "empty_conversation"),
    ("messages", {"messages": None}, "missing_field"),
    ("messages", {"messages": "hi"}, "wrong_type"),
    ("messages", {"messages": ["hi"]}, "wrong_type"),
    ("messages", {"messages": [{"role": "wizard", "content": "hi"}]}, "unknown_role"),
    ("messages", {"messages": [{"content": "hi"}]}, "unknown_role"),
    ("messages", {"messages": [{"role": "assistant", "content": None}]}, "missing_field"),
    ("messages", {"messages": [{"role": "user", "content": 3}]}, "wrong_type"),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "not_text"),
    ("sharegpt", {"conversations": [{"from": "human"}]}, "missing_field"),
    ("sharegpt", {"conversations": []}, "empty_conversation"),
    ("sharegpt", {"conversations": [{"from": "elf", "value": "x"}]}, "unknown_role"),
    ("sharegpt", {"conversations": [{"from": "function_call", "value": "{"}]}, "bad_tool_call"),
    ("prompt_completion", {"prompt": "a", "completion": None}, "missing_field"),
    ("prompt_completion", {"prompt": [], "completion": "b"}, "empty_conversation"),
    ("prompt_only", {"prompt": None}, "missing_field"),
    ("prompt_only", {"prompt": []}, "empty_conversation"),
    ("prompt_only", {"prompt": 4}, "wrong_type"),
    ("text", {"text": None}, "missing_field"),
    ("preference", {"prompt": "a", "chosen": "b", "rejected": "b"}, "identical_pair"),
    ("preference", {"prompt": "a", "chosen": "b", "rejected": None}, "missing_field"),
    ("preference", {"prompt": "a", "chosen": "b", "rejected": "c", "margin": "x"}, "wrong_type"),
    ("hh_rlhf", {"chosen": "4", "rejected": HH + "5"}, "no_turn_marks"),
    ("hh_rlhf", {"chosen": HH + "4\n\nHuman: and", "rejected": HH + "5"}, "no_answer"),
    (
        "pairwise",
        {"prompt": "a", "response_1": "b", "response_2": "c", "preference": 1.5},
        "tie",
    ),
    ("pairwise", {"prompt": "a", "response_1": "b", "response_2": "c", "preference": 0}, "tie"),
    (
        "pairwise",
        {"prompt": "a", "response_1": "b", "response_2": "c", "preference": 3},
        "out_of_range",
    ),
    (
        "pairwise",
        {"prompt": "a", "response_1": "b", "response_2": "c", "preference": None},
        "missing_field",
    ),
    ("unpaired", {"prompt": "a", "completion": "b", "label": "maybe"}, "wrong_type"),
    ("unpaired", {"prompt": "a", "completion": "b"}, "missing_field"),
    ("ranked", {"prompt": "a", "completions": [], "scores": []}, "no_answer"),
    ("ranked", {"prompt": "a", "completions": ["b"]}, "missing_field"),
    ("ranked", {"prompt": "a", "completions": ["b"], "scores": [1, 2]}, "wrong_type"),
    ("ranked", {"prompt": "a", "completions": ["b"], "scores": ["good"]}, "wrong_type"),
    ("ranked", {"prompt": "a", "completions": ["b", 3], "scores": [1, 2]}, "wrong_type"),
    ("ranked", {"prompt": "a", "completions": ["b", []], "scores": [1, 2]}, "empty_conversation"),
    ("ranked", {"prompt": "a", "completions": "b", "scores": [1]}, "wrong_type"),
    ("preference", {"chosen": "b", "rejected": "c", "win_probability": "x"}, "wrong_type"),
    ("nectar", {"prompt": "a", "answers": []}, "no_answer"),
    ("nectar", {"prompt": "a", "answers": [{"answer": "b"}]}, "missing_field"),
    ("ultrafeedback", {"instruction": "a", "completions": "b"}, "wrong_type"),
    ("helpsteer2", {"prompt": "a", "response": None}, "missing_field"),
    ("oasst", {"prompt": "a"}, "wrong_type"),
]


@pytest.mark.parametrize(("name", "record", "reason"), BAD)
def test_a_record_that_cannot_be_taken_says_why(name: str, record: Row, reason: str) -> None:
    with pytest.raises(BadRow) as bad:
        list(named(name).read(record))
    assert bad.value.reason == reason


NO_PLACE: list[tuple[str, Row]] = [
    ("alpaca", {"messages": said(("user", "a"))}),
    ("alpaca", {"messages": said(("system", ""), ("user", "a"), ("assistant", "b"))}),
    ("alpaca", {"messages": said(("user", "a"), ("tool", "b"))}),
    ("sharegpt", {"messages": [turn("user", "a", name="ann")]}),
    ("prompt_completion", {"messages": said(("user", "a"))}),
    ("text", {"messages": said(("user", "a"), ("assistant", "b"))}),
    ("ranked", {"prompt": [], "completions": [said(("assistant", "b"))], "scores": [1.0]}),
    ("ranked", {"prompt": said(("user", "a")), "completions": [], "scores": []}),
    (
        "hh_rlhf",
        {
            "prompt": said(("user", "a\n\nHuman: b")),
            "chosen": said(("assistant", "c")),
            "rejected": said(("assistant", "d")),
        },
    ),
]


@pytest.mark.parametrize(("name", "row"), NO_PLACE)
def test_what_a_layout_cannot_say_is_not_written(name: str, row: Row) -> None:
    with pytest.raises(BadRow, match="no_place"):
        named(name).write(row)


def test_rows_that_fit_two_formats_are_refused_with_the_flag_to_set() -> None:
    with pytest.raises(DataError, match="oasst and oasst_ranked; choose with --format oasst"):
        detect("trees.jsonl", [TREE])


@pytest.mark.parametrize("beside", [{"remark": "4"}, {"reply": ["4"]}, {"solution": {"a": 4}}])
def test_a_prompt_with_what_may_be_its_answer_is_not_taken_for_one_alone(beside: Row) -> None:
    assert detect("here", [{"prompt": "2+2?", "id": 1, "n": 2.5}])[0] == "prompt_only"
    with pytest.raises(DataError, match="no format fits rows with the keys prompt"):
        detect("here", [{"prompt": "2+2?", **beside}])


def test_rows_that_fit_no_format_are_refused_with_their_keys() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: no format fits rows with the keys cat, dog"):
        detect("rows.jsonl", [{"dog": 1, "cat": 2}])


def test_half_of_the_rows_is_not_most() -> None:
    rows = [{"instruction": "a", "output": "b"}, {"question": "c"}]
    with pytest.raises(DataError, match="only 1 of the first 2 rows fit alpaca"):
        detect("rows.jsonl", rows)
    assert detect("rows.jsonl", [*rows, rows[0]])[0] == "alpaca"


def test_an_unknown_format_names_the_closest() -> None:
    with pytest.raises(UsageError, match="did you mean alpaca"):
        named("alpacca")


def test_every_format_has_golden_rows() -> None:
    elsewhere = {"oasst", "oasst_ranked", "safe_rlhf_safety", "query_response", "self_instruct"}
    assert {case.partition(":")[0] for case in GOLDEN} | elsewhere == set(names(FORMATS))
