"""No part of a question stays behind in ``extra``: it is read, or the row is refused with a way."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from curate.core.errors import DataError
from curate.core.readers.ingest import read_rows
from curate.core.readers.keywords import could_ask, is_fact

Row = dict[str, Any]

SIDES = {"chosen": "It is Paris.", "rejected": "It is Rome."}
ASKED = {"role": "user", "content": "Which city?"}


def read(tmp_path: Path, *records: Row, **options: Any) -> tuple[list[Row], list[Row]]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    table, bad = read_rows(path, **options)
    return table.to_dicts(), bad


def refusal(tmp_path: Path, *records: Row, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        read(tmp_path, *records, **options)
    return str(error.value)


def spoken(turns: list[Row]) -> list[str]:
    return [f"{turn['role']}: {turn['content']}" for turn in turns]


def renames(flags: str) -> dict[str, str]:
    words = re.findall(r"--map ('[^']*'|[^\s;,)]+)", flags)
    return dict(shlex.split(word)[0].split("=", 1) for word in words)


PAIRS: dict[str, tuple[Row, list[str]]] = {
    "a list of one text": ({"question": ["Which city?"]}, ["user: Which city?"]),
    "an object with one text": (
        {"question": {"full_text": "Which city?", "id": "7a", "dataset": "eli5"}},
        ["user: Which city?"],
    ),
    "an input that is an object": ({"input": {"text": "Which city?"}}, ["user: Which city?"]),
}


@pytest.mark.parametrize("case", PAIRS)
def test_the_one_text_of_a_question_is_the_prompt(case: str, tmp_path: Path) -> None:
    record, prompt = PAIRS[case]
    [row], _ = read(tmp_path, record | SIDES)
    assert spoken(row["prompt"]) == prompt
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == tuple(SIDES.values())


WAYS: dict[str, tuple[Row, str]] = {
    "texts in turn": ({"dialogue": ["Hi", "Hello", "Which city?"]}, "dialogue=prompt"),
    "a list of passages": ({"context": ["France.", "Italy."]}, "context=meta_context"),
    "an object of several texts": ({"input": {"a": "A map.", "b": "Hm."}}, "input=meta_input"),
    "a post": ({"info": {"post": "Which city?", "id": "x1"}}, "info=prompt"),
    "a prompt in the metadata": ({"metadata": {"prompt": "Which city?"}}, "metadata=prompt"),
    "no prompt in the metadata": (
        {"metadata": {"prompt": "Which city?"}},
        "metadata=meta_metadata",
    ),
    "an input of a model": ({"model_input": "Which city?"}, "model_input=prompt"),
    "a task of two words": ({"task": "Write poem"}, "task=prompt"),
    "turns": ({"trajectory": [ASKED]}, "trajectory=prompt"),
    "turns that are a fact": ({"trajectory": [ASKED]}, "trajectory=meta_trajectory"),
}


@pytest.mark.parametrize("case", WAYS)
def test_what_could_ask_is_refused_and_each_way_named_works(case: str, tmp_path: Path) -> None:
    record, way = WAYS[case]
    said = refusal(tmp_path, record | SIDES)
    assert "unclear_prompt" in said
    assert f"--map {way}" in said
    [row], bad = read(tmp_path, record | SIDES, mapping=renames(f"--map {way}"))
    assert not bad
    whole = "".join(turn["content"] for turn in row["prompt"] + row["chosen"])
    assert way.endswith("=prompt") == whole.endswith("?It is Paris.") or "poem" in whole


def test_no_way_is_named_that_does_not_work(tmp_path: Path) -> None:
    said = refusal(tmp_path, {"context": ["France.", "Italy."]} | SIDES)
    assert "context=prompt" not in said


FACTS: Row = {
    "id": "a b c d e",
    "source": "web pages",
    "url": "http://a.org/x?y",
    "date": "2024-01-31",
    "category": "open qa",
    "task_type": "open ended qa",
    "chosen_model": "a large model x",
    "model": "org/model-7b",
    "tags": ["a", "b c"],
    "metadata": {"note": "Seen by two people."},
    "annotations": [{"score": 3, "rationale": "It is the better one of both."}],
    "lang": "en",
    "prompt_id": "a b c d",
    "dataset_name": "web qa",
    "is_valid": "Yes it is",
    "turns": 2,
    "created": "on a long day in May",
    "topic": "cities",
    "question_type": "open one",
}


def test_facts_beside_two_texts_are_no_question(tmp_path: Path) -> None:
    [row], _ = read(tmp_path, FACTS | SIDES)
    assert spoken(row["prompt"]) == ["user: It is "]
    assert json.loads(row["extra"]) == FACTS


def test_the_last_word_of_a_key_decides_what_it_names() -> None:
    assert not is_fact("model_input")
    assert is_fact("input_model")
    assert could_ask("task_description", "Write a poem")
    assert not could_ask("task_category", "Write a poem")
    assert not could_ask("meta_dialogue", [ASKED])
