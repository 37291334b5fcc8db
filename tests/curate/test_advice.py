"""Advised new names of keys read the rows, whole; where none do, none are advised."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.io.detect import detect
from siftune.curate.records.map_advice import advice, renamed

Row = dict[str, Any]

WHY, SO = "Why is the sea salt?", "So it is, for a long time."


def said(*records: Row) -> str:
    with pytest.raises(DataError) as error:
        detect("here", list(records))
    return str(error.value)


def advised(*records: Row) -> dict[str, str]:
    found = said(*records).partition("rename keys with ")[2].partition(", or set")[0]
    words = re.findall(r"--map ('[^']*'|\S+)", found)
    return dict(shlex.split(word)[0].split("=", 1) for word in words if "KEY=NAME" not in word)


READ: dict[str, tuple[Row, str, list[str]]] = {
    "two questions": (
        {"instruction": "Be brief.", "question": WHY, "response": SO},
        "alpaca",
        [f"Be brief.\n\n{WHY}", SO],
    ),
    "capitals": (
        {"Instruction": "Be brief.", "Input": WHY, "Output": SO},
        "alpaca",
        [f"Be brief.\n\n{WHY}", SO],
    ),
    "letters for a question and an answer": (
        {"q_text": WHY, "a_text": SO},
        "prompt_completion",
        [WHY, SO],
    ),
    # HuggingFaceTB/cosmopedia, its card: a number of tokens comes first
    "cosmopedia": (
        {"text_token_length": 9, "prompt": WHY, "text": SO, "seed_data": "web", "format": "post_x"},
        "prompt_completion",
        [WHY, SO],
    ),
    # nvidia/OpenMathInstruct-2, its card
    "a worked solution beside the answer to check by": (
        {"problem": WHY, "generated_solution": SO, "expected_answer": "5", "problem_source": "gsm"},
        "prompt_completion",
        [WHY, SO],
    ),
    "passage and question": (
        {"passage_text": "A story.", "question": WHY, "answer": SO},
        "alpaca",
        [f"{WHY}\n\nA story.", SO],
    ),
    "an answer that is short": ({"question": WHY, "reply": "7"}, "prompt_completion", [WHY, "7"]),
    "turns under another key": (
        {"talk": [{"role": "user", "content": WHY}, {"role": "assistant", "content": SO}], "n": 1},
        "messages",
        [WHY, SO],
    ),
    # microsoft/presidio-research, its generated data: a second form of the text
    "a masked text beside": ({"full_text": SO, "masked": "So it is.", "n": 3}, "text", [SO]),
    "a document": (
        {"content": SO, "title": "Of the sea", "url": "http://a.org"},
        "text",
        [SO],
    ),
}


@pytest.mark.parametrize("case", READ)
def test_the_advice_reads_the_whole_row(case: str) -> None:
    record, name, turns = READ[case]
    moved = renamed(record, advised(record))
    found, form, _ = detect("here", [moved])
    [row] = form.read(moved)
    assert found == name
    assert [turn["content"] for turn in row["messages"]] == turns


def test_pairs_keep_what_their_question_is_about() -> None:
    record = {"context": "A story.", "ask": WHY, "better_answer": SO, "worse_answer": "No."}
    moved = renamed(record, advised(record))
    [row] = detect("here", [moved])[1].read(moved)
    assert row["prompt"][0]["content"] == f"{WHY}\n\nA story."
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == (SO, "No.")


@pytest.mark.parametrize("key", ["query", "prompt"])
@pytest.mark.parametrize("answers", ["responses", "outputs"])
def test_answers_with_scores_are_advised_as_a_ranked_list(key: str, answers: str) -> None:
    record = {key: WHY, answers: [SO, "No."], "scores": [1, 0.5]}
    moved = renamed(record, advised(record))
    name, form, _ = detect("here", [moved])
    [row] = form.read(moved)
    assert (name, row["scores"]) == ("ranked", [1, 0.5])


@pytest.mark.parametrize(
    "record",
    [
        # rajpurkar/squad and google/boolq, their cards
        {"context": "A story.", "question": WHY, "answers": {"text": [SO], "answer_start": [1]}},
        {"question": WHY, "answer": True, "passage": "A story."},
        {"prompt": WHY, "completions": [SO, "No."]},
        {"prompt": WHY, "raw_generation_responses": [SO]},
        {"Definition": ["Do."], "Input": WHY, "Output": [SO]},
        {"question": WHY, "options": ["a", "b"], "answer": SO},
        {"context": "A story.", "instruction": "Be brief.", "question": WHY, "response": SO},
        {"first_text": WHY, "second_text": SO},
        {
            "systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]},
            "contents": [{"role": "user", "parts": [{"text": WHY}]}],
        },
    ],
)
def test_no_names_are_advised_with_which_rows_are_lost(record: Row) -> None:
    assert advised(record) == {}


def test_advice_that_sets_most_rows_aside_is_none() -> None:
    rows: list[Row] = [{"query": WHY, "reply": ""}] * 2 + [{"query": WHY, "reply": [1]}] * 3
    assert advice(rows, lambda _: []) == {}
    assert advised(*rows) == {}


@pytest.mark.parametrize("answer", ["5", r"So it is \boxed{5}, and nothing else here."])
def test_the_format_for_answers_to_check_by_is_offered(answer: str) -> None:
    record = {"question": WHY, "generated_solution": SO, "expected_answer": answer}
    assert "set --format question_answer" in said(record)
    assert "--format question_answer (" not in said(record | {"choices": ["a", "b"]})


def test_a_verdict_on_an_answer_is_no_answer() -> None:  # AI-MO/NuminaMath-1.5, its card
    record = {"problem": WHY, "solution": "2 + 3", "answer": "5", "problem_type": "Algebra"}
    record |= {"problem_is_valid": "Yes", "solution_is_valid": "Yes", "source": "olympiads"}
    assert detect("here", [record])[0] == "question_answer"
