"""No part of a question stays behind in ``extra``: it is read, or the row is refused with a way."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.io.ingest import read_rows
from siftune.curate.records.field_names import could_ask, is_fact
from siftune.curate.records.final_answers import checkable

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


PAIR = {"prompt": "Which city?", "completion": "Rome, I think."}


@pytest.mark.parametrize(
    ("label", "means"),
    [(-1, False), (1.0, True), ("undesirable", False), ("Good", True), ("thumbs down", False)],
)
def test_a_label_may_be_a_sign_or_a_word(label: Any, means: bool, tmp_path: Path) -> None:
    [row], _ = read(tmp_path, PAIR | {"label": label})
    assert (row["kind"], row["label"]) == ("unpaired", means)


@pytest.mark.parametrize("label", ["sports", 2, "1st", None])
def test_a_class_is_no_judgement(label: Any, tmp_path: Path) -> None:
    [row], _ = read(tmp_path, PAIR | {"label": label})
    assert (row["kind"], json.loads(row["extra"])) == ("conversation", {"label": label})


def test_labels_of_some_rows_are_not_read_as_nothing(tmp_path: Path) -> None:
    chat = {"messages": [ASKED, {"role": "assistant", "content": "Rome."}]}
    records = [chat | {"label": label} for label in (None, None, None, False, False)]
    said = refusal(tmp_path, *records)
    assert "2 of the first 5 rows fit unpaired" in said
    rows, bad = read(tmp_path, *records, format="unpaired")
    assert ([row["label"] for row in rows], len(bad)) == ([False, False], 3)
    assert len(read(tmp_path, *records, format="messages")[0]) == 5


BATTLE = {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("[null]", "no_answer"),
        ('["Rome.", null]', "no_answer"),
        (r'["Rome \ud83d"]', "lone_surrogate"),
        ("[1, 2]", ""),
        ("[Rome]", ""),
    ],
)
def test_an_answer_of_an_arena_battle_is_never_the_text_of_its_list(
    answer: str, reason: str, tmp_path: Path
) -> None:
    asked = '["Which city?", "Why?"]' if "," in answer and reason else '["Which city?"]'
    fine = {"prompt": '["Which city?"]', "response_a": '["Paris."]', "response_b": '["Rome."]'}
    record = {"prompt": asked, "response_a": '["Paris.", "So."]', "response_b": answer}
    if '"Why?"' not in asked:
        record["response_a"] = '["Paris."]'
    rows, bad = read(tmp_path, fine | BATTLE, record | BATTLE)
    assert [line["reason"] for line in bad] == [reason] * bool(reason)
    assert reason or spoken(rows[1]["rejected"]) == [f"assistant: {answer}"]


def test_sides_of_which_a_later_turn_of_the_user_differs_are_no_pair(tmp_path: Path) -> None:
    def side(first: str, asked: str) -> list[Row]:
        said = [("assistant", first), ("user", asked), ("assistant", "Yes.")]
        return [ASKED, *({"role": role, "content": text} for role, text in said)]

    pairs = [{"chosen": side("Paris.", "Sure?"), "rejected": side("Rome.", "Sure?")}]
    pairs.append({"chosen": side("Paris.", "Sure?"), "rejected": side("Rome.", "Really?")})
    rows, [bad] = read(tmp_path, *pairs)
    assert (len(rows), bad["line"], bad["reason"]) == (1, 2, "prompt_mismatch")


CHAT = [
    {"role": "user", "content": "Why is it dark?"},
    {"role": "assistant", "content": "Out."},
]
STORY, WHY = "A fox ate the moon.", "Why is it dark?"
LEFT: dict[str, tuple[Row, str]] = {
    "context": (
        {"context": STORY, "prompt": WHY, "completion": "Out."},
        "--map prompt=instruction --map context=input --map completion=output",
    ),
    "passage": (
        {"passage": STORY, "query": WHY, "response": "Out."},
        "--map query=instruction --map passage=input --map response=output",
    ),
    "an article under a name of several words": (
        {"source_article": STORY, "question": WHY, "response": "Out."},
        "--map question=instruction --map source_article=input --map response=output",
    ),
    "text": ({"instruction": WHY, "text": STORY, "output": "Out."}, "--map text=input"),
    "an empty input": (
        {"instruction": WHY, "input": "", "context": STORY, "output": "Out."},
        "--map context=input --map input=meta_input",
    ),
    "a question beside a prompt": (
        {"prompt": WHY, "question": STORY, "completion": "Out."},
        "--map prompt=instruction --map question=input --map completion=output",
    ),
    # Muennighoff/natural-instructions, its card
    "definition": (
        {"definition": WHY, "inputs": STORY, "targets": "Out.", "task_name": "task1_qa"},
        "--map definition=instruction --map inputs=input --map targets=output",
    ),
    "task": (
        {"task": "Ask why", "input": STORY, "output": "Out."},
        "--map task=instruction",
    ),
    "pairs": (
        {"prompt": WHY, "context": STORY, "chosen": "Out.", "rejected": "In."},
        "--map prompt=instruction --map context=input",
    ),
    "labelled answers": (
        {"question": WHY, "context": STORY, "completion": "Out.", "label": 1},
        "--map question=instruction --map context=input",
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_a_part_of_a_question_beside_it_is_refused_and_the_flags_read_it(
    case: str, tmp_path: Path
) -> None:
    record, flags = LEFT[case]
    said = refusal(tmp_path, record)
    assert flags in said
    [row], _ = read(tmp_path, record, mapping=renames(flags))
    asked = row.get("prompt") or row["messages"][:1]
    assert spoken(asked) == [f"user: {record.get('task', WHY)}\n\n{STORY}"]


TURNS = {"history": [["Dark?", "Yes."]]}
EARLIER: dict[str, tuple[Row, str]] = {
    "an answer": (
        {"prompt": WHY, "completion": "Out."} | TURNS,
        "--map prompt=query --map completion=response",
    ),
    "a pair": ({"prompt": WHY, "chosen": "Out.", "rejected": "In."} | TURNS, "--map prompt=query"),
    "another key": (
        {"instruction": WHY, "output": "Out.", "chat_history": TURNS["history"]},
        "--map chat_history=history",
    ),
}


@pytest.mark.parametrize("case", EARLIER)
def test_earlier_turns_beside_a_question_are_refused_and_the_flags_read_them(
    case: str, tmp_path: Path
) -> None:
    record, flags = EARLIER[case]
    assert f"read both with {flags}, or" in refusal(tmp_path, record)
    [row], _ = read(tmp_path, record, mapping=renames(flags))
    turns = row.get("prompt") or row["messages"]
    assert spoken(turns)[:3] == ["user: Dark?", "assistant: Yes.", f"user: {WHY}"]


def test_an_empty_prompt_is_no_prompt_where_a_field_could_ask(tmp_path: Path) -> None:
    for empty in ("", None):
        record = {"prompt": empty, "dialogue": ["Dark?", "Yes.", WHY]} | SIDES
        flags = "--map dialogue=prompt --map prompt=meta_prompt"
        assert flags in refusal(tmp_path, record)
        [row], _ = read(tmp_path, record, mapping=renames(flags))
        assert spoken(row["prompt"]) == ["user: Dark?", "assistant: Yes.", f"user: {WHY}"]
    record = {"prompt": "", "question": WHY, "completion": "Out."}
    flags = "--map prompt=meta_prompt --map question=prompt"
    assert flags in refusal(tmp_path, record)
    [row], _ = read(tmp_path, record, mapping=renames(flags))
    assert spoken(row["messages"]) == [f"user: {WHY}", "assistant: Out."]


def test_a_question_of_an_answer_with_a_rejected_one_is_not_lost(tmp_path: Path) -> None:
    answer = {"messages": [{"role": "assistant", "content": "Out."}], "rejected_response": "In."}
    [row], _ = read(tmp_path, {"question": WHY} | answer)
    assert spoken(row["prompt"]) == [f"user: {WHY}"]
    said = refusal(tmp_path, {"ask": WHY, "response": "Out.", "rejected_response": "In."})
    assert "--map ask=prompt" in said


def test_a_question_may_be_the_json_of_turns(tmp_path: Path) -> None:
    turns = [*CHAT, {"role": "user", "content": "Sure?"}]
    [row], _ = read(tmp_path, {"question": json.dumps(turns)} | SIDES)
    assert spoken(row["prompt"]) == [f"user: {WHY}", "assistant: Out.", "user: Sure?"]


HALVES: dict[str, tuple[Row, str]] = {
    "a question beside an answer": (
        {"question": WHY, "messages": [{"role": "assistant", "content": "Out."}]},
        "--map question=prompt --map messages=completion",
    ),
    "an answer beside a question": (
        {"messages": [{"role": "user", "content": WHY}], "response": "Out."},
        "--map response=completion --map messages=prompt",
    ),
    "an answer beside a question of ShareGPT": (
        {"conversations": [{"from": "human", "value": WHY}], "output": "Out."},
        "--map output=completion --map conversations=prompt",
    ),
    "a prompt of that name": (
        {"prompt": WHY, "messages": [{"role": "assistant", "content": "Out."}]},
        "--map messages=completion",
    ),
}


@pytest.mark.parametrize("case", HALVES)
def test_the_other_half_of_a_conversation_is_not_left_beside_it(case: str, tmp_path: Path) -> None:
    record, flags = HALVES[case]
    assert f"read both with {flags}, or" in refusal(tmp_path, record)
    [row], _ = read(tmp_path, record, mapping=renames(flags))
    assert spoken(row["messages"]) == [f"user: {WHY}", "assistant: Out."]


SOUND: list[Row] = [
    # tatsu-lab/alpaca; iamtarun/python_code_instructions_18k_alpaca: the whole prompt beside
    {"instruction": WHY, "input": "", "output": "Out.", "text": f"Below.\n{WHY}\n### Out."},
    {"instruction": WHY, "input": "", "output": "Out.", "prompt": f"Below: {WHY}"},
    # meta-math/MetaMathQA
    {"query": WHY, "response": "Out.", "type": "GSM_Rephrased", "original_question": STORY},
    # allenai/no_robots; Magpie-Align: the question beside whole turns
    {"prompt": WHY, "prompt_id": "x", "messages": CHAT, "category": "Open QA"},
    {"messages": CHAT, "question": STORY, "response": "Else.", "knowledge": "k"},
    {"inputs": WHY, "targets": "Out.", "task": "summarization", "dataset_name": "web qa set"},
    {"prompt": f"{STORY} {WHY}", "completion": "Out.", "context": STORY, "question": WHY},
    {"prompt": WHY, "completion": "Out.", "document_id": "a b", "context_length": "a long one"},
    {"prompt": WHY, "completion": "Out.", "title": "Of a fox", "topic": "foxes", "context": ""},
    {"prompt": WHY, "completion": "Out.", "context": "doc_17", "user": "Ann", "image_count": 2},
    {"messages": CHAT, "image_caption": "A red fox.", "has_image": "no image"},
    # ms-swift, GRPO: what a reward checks by
    {"messages": CHAT[:1], "solution": "It is not known."},
]


@pytest.mark.parametrize("record", SOUND)
def test_what_is_no_part_of_a_question_does_not_hinder(record: Row, tmp_path: Path) -> None:
    [row], _ = read(tmp_path, record)
    whole = spoken(row["messages"])
    assert whole[0].endswith(WHY)
    assert whole[1:] == ["assistant: Out."] * (len(row["messages"]) - 1)


@pytest.mark.parametrize(
    "beside", [{"image_path": "a.png"}, {"img": ["a.png"]}, {"inputImage": {"bytes": "x"}}]
)
def test_a_picture_under_any_name_is_not_read(beside: Row, tmp_path: Path) -> None:
    assert "not_text" in refusal(tmp_path, {"messages": CHAT} | beside)


@pytest.mark.parametrize("key", ["system", "system_prompt", "system_message"])
def test_a_system_text_may_stand_beside_a_prompt_alone(key: str, tmp_path: Path) -> None:
    [row], _ = read(tmp_path, {key: "Be brief.", "prompt": WHY})
    assert spoken(row["messages"]) == ["system: Be brief.", f"user: {WHY}"]


@pytest.mark.parametrize(
    ("own", "whole"),
    [("", "Be brief."), ("Be brief. And kind.", "Be brief. And kind."), ("Be brief.", "Be brief.")],
)
def test_a_conversation_has_one_system_turn(own: str, whole: str, tmp_path: Path) -> None:
    turns = [{"role": "system", "content": own}, *CHAT]
    tagged = [{"from": "system", "value": own}, {"from": "human", "value": WHY}]
    [row], _ = read(tmp_path, {"system": "Be brief.", "messages": turns})
    assert spoken(row["messages"])[:2] == [f"system: {whole}", f"user: {WHY}"]
    [row], _ = read(tmp_path, {"system": "Be brief.", "conversations": tagged})
    assert spoken(row["messages"]) == [f"system: {whole}", f"user: {WHY}"]


def test_two_system_texts_are_set_aside_with_the_flag(tmp_path: Path) -> None:
    record = {"system": "Be long.", "messages": [{"role": "system", "content": "Be brief."}, *CHAT]}
    assert "two_system_texts" in refusal(tmp_path, record)
    [row], _ = read(tmp_path, record, mapping={"system": "meta_system"})
    assert spoken(row["messages"])[0] == "system: Be brief."


@pytest.mark.parametrize(
    "names",
    [
        ("chosen_rating", "rejected_rating"),
        ("chosen-rating", "rejected-rating"),
        ("chosen_score", "rejected_score"),
        ("reward_chosen", "reward_rejected"),
    ],
)
def test_scores_of_both_sides_are_found_under_their_usual_names(
    names: tuple[str, str], tmp_path: Path
) -> None:
    record = {"prompt": WHY} | SIDES | dict(zip(names, (4, "2.5"), strict=True))
    [row], _ = read(tmp_path, record)
    assert (row["score_chosen"], row["score_rejected"], row["margin"]) == (4, 2.5, 1.5)
    [row], _ = read(tmp_path, record | {names[0]: "unknown"})
    assert (row["score_chosen"], row["margin"]) == (None, None)


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"We get that $x = \boxed 5$. So it is." + "\nMore.", "5"),
        (r"So \boxed \frac12 is it", r"\frac12 is it"),
        (r"First \boxed{4}, then \boxed 5.", "4"),
    ],
)
def test_a_box_without_braces_holds_the_rest_of_its_formula(solution: str, answer: str) -> None:
    assert checkable(solution) == (answer, "boxed")


DIALOGUE = f"\n\nHuman: {WHY}\n\nAssistant:"
ASKED_ONCE: list[Row] = [
    # Dahoas/full-hh-rlhf and Dahoas/static-hh: the marks are in the prompt alone
    {"prompt": DIALOGUE, "chosen": "Out.", "rejected": "In."},
    # HH-RLHF with the prompt taken out beside the whole dialogues
    {"prompt": DIALOGUE, "chosen": f"{DIALOGUE} Out.", "rejected": f"{DIALOGUE} In."},
    {"prompt": WHY, "chosen": f"{DIALOGUE} Out.", "rejected": f"{DIALOGUE} In."},
]


@pytest.mark.parametrize("record", ASKED_ONCE)
def test_a_prompt_that_is_a_dialogue_is_parted_and_stands_once(record: Row, tmp_path: Path) -> None:
    [row], _ = read(tmp_path, record)
    assert spoken(row["prompt"]) == [f"user: {WHY}"]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("Out.", "In.")
    assert row["extra"] is None


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": DIALOGUE, "completion": "Out."},
        {"prompt": DIALOGUE, "completion": "Out.", "label": True},
        {"prompt": DIALOGUE},
        {"prompt": DIALOGUE, "completions": ["Out.", "In."], "scores": [1, 0]},
        {"prompt": DIALOGUE, "response_1": "Out.", "response_2": "In.", "preference": 1},
    ],
)
def test_a_dialogue_is_parted_in_every_layout_with_a_prompt(record: Row, tmp_path: Path) -> None:
    [row], _ = read(tmp_path, record)
    assert spoken(row.get("prompt") or row["messages"])[0] == f"user: {WHY}"


def test_a_dialogue_beside_another_prompt_is_no_pair(tmp_path: Path) -> None:
    record = {"prompt": "How?", "chosen": f"{DIALOGUE} Out.", "rejected": f"{DIALOGUE} In."}
    assert "prompt_mismatch" in refusal(tmp_path, record)
    [row], _ = read(tmp_path, {"prompt": "Human:none", "chosen": "a b", "rejected": "c"})
    assert spoken(row["prompt"]) == ["user: Human:none"]


@pytest.mark.parametrize("roles", [("question", "answer"), ("query", "response"), ("User", "LLM")])
def test_roles_may_be_called_what_their_texts_are(roles: tuple[str, str], tmp_path: Path) -> None:
    turns = [
        {"role": role, "content": turn["content"]} for role, turn in zip(roles, CHAT, strict=True)
    ]
    [row], _ = read(tmp_path, {"messages": turns})
    assert spoken(row["messages"]) == [f"user: {WHY}", "assistant: Out."]
