"""Layouts of public chat data, each read by a few rows of the same shape, in words of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.io.ingest import ingest, read_rows

Row = dict[str, Any]
Turns = list[tuple[str, str | None]]

QUESTION = ("user", "How far is the moon?")
ANSWER = ("assistant", "384,400 km.")
MORE = [("user", "In miles?"), ("assistant", "238,900.")]
SYSTEM = ("system", "Be brief.")
ROLES = [
    {"role": "user", "content": QUESTION[1]},
    {"role": "assistant", "content": ANSWER[1]},
]

LAYOUTS: dict[str, tuple[str, Any, Turns, Row]] = {
    # source: format, record, turns, extra
    "UltraChat, thunlp/UltraChat README: data": (
        "messages",
        {"id": "0", "data": [QUESTION[1], ANSWER[1], *(text for _, text in MORE)]},
        [QUESTION, ANSWER, *MORE],
        {"id": "0"},
    ),
    "LIMA, arXiv:2305.11206: conversations of texts": (
        "messages",
        {"conversations": [QUESTION[1], ANSWER[1]], "source": "wikihow"},
        [QUESTION, ANSWER],
        {"source": "wikihow"},
    ),
    "LIMA, its test part: a question alone": (
        "messages",
        {"conversations": [QUESTION[1]], "source": "test"},
        [QUESTION],
        {"source": "test"},
    ),
    "TÜLU 3 mix, allenai/tulu-3-sft-mixture": (
        "messages",
        {"id": "a_1", "messages": ROLES, "source": "ai2/wildchat"},
        [QUESTION, ANSWER],
        {"id": "a_1", "source": "ai2/wildchat"},
    ),
    "Firefly, YeungNLP/moss-003-sft-data: human and assistant": (
        "messages",
        {
            "conversation_id": 1,
            "conversation": [
                {"human": QUESTION[1], "assistant": ANSWER[1]},
                {"human": MORE[0][1], "assistant": MORE[1][1]},
            ],
        },
        [QUESTION, ANSWER, *MORE],
        {"conversation_id": 1},
    ),
    "Capybara, LDJnr/Capybara: input and output": (
        "messages",
        {"source": "x", "conversation": [{"output": ANSWER[1], "input": QUESTION[1]}]},
        [QUESTION, ANSWER],
        {"source": "x"},
    ),
    "xtuner, docs of its single- and multi-turn sets: system in the turn": (
        "messages",
        {"conversation": [{"system": SYSTEM[1], "input": QUESTION[1], "output": ANSWER[1]}]},
        [SYSTEM, QUESTION, ANSWER],
        {},
    ),
    "InternLM and xtuner: a line that is an array of turns": (
        "messages",
        ROLES,
        [QUESTION, ANSWER],
        {},
    ),
    "WildChat, allenai/WildChat: turns with other fields": (
        "messages",
        {"conversation": [{**ROLES[0], "language": "en"}, ROLES[1]], "turn": 1},
        [QUESTION, ANSWER],
        {"turn": 1, "messages.fields": [{"language": "en"}, {}]},
    ),
    "ms-swift, docs of custom data sets: query, response, history, system": (
        "query_response",
        {
            "system": SYSTEM[1],
            "history": [[QUESTION[1], ANSWER[1]]],
            "query": MORE[0][1],
            "response": MORE[1][1],
        },
        [SYSTEM, QUESTION, ANSWER, *MORE],
        {},
    ),
    "Dolly, databricks/databricks-dolly-15k: instruction, context, response": (
        "query_response",
        {
            "instruction": "How far?",
            "context": "The moon.",
            "response": ANSWER[1],
            "category": "c",
        },
        [("user", "How far?\n\nThe moon."), ANSWER],
        {"category": "c"},
    ),
    "OpenOrca, arXiv:2306.02707: system_prompt, question, response": (
        "query_response",
        {"id": 1, "system_prompt": SYSTEM[1], "question": QUESTION[1], "response": ANSWER[1]},
        [SYSTEM, QUESTION, ANSWER],
        {"id": 1},
    ),
    "ShareGPT with a struct of lists, as `datasets.Sequence` of a dict": (
        "messages",
        {"conversations": {"from": ["human", "gpt"], "value": [QUESTION[1], ANSWER[1]]}},
        [QUESTION, ANSWER],
        {},
    ),
    "messages as JSON text, as parquet and CSV files have them": (
        "messages",
        {"messages": json.dumps(ROLES)},
        [QUESTION, ANSWER],
        {},
    ),
    "Cohere and old ChatML: other names of roles, in capitals": (
        "messages",
        {"messages": [{"role": "USER", "message": QUESTION[1]}, {"role": "Chatbot", **ROLES[1]}]},
        [QUESTION, ANSWER],
        {},
    ),
    "Gemini API: parts": (
        "messages",
        {
            "messages": [
                {"role": "user", "parts": [{"text": "How far "}, {"text": "is the moon?"}]},
                {"role": "model", "parts": [{"text": ANSWER[1]}]},
            ]
        },
        [QUESTION, ANSWER],
        {},
    ),
    "OpenAI API: content parts, and under `value`": (
        "messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": QUESTION[1]}]},
                {"role": "assistant", "content": [{"type": "output_text", "text": ANSWER[1]}]},
            ]
        },
        [QUESTION, ANSWER],
        {},
    ),
    "ShareGPT: roles in another letter case, content parts": (
        "sharegpt",
        {
            "conversations": [
                {"from": "Human", "value": [{"type": "text", "text": QUESTION[1]}]},
                {"from": "GPT", "value": ANSWER[1]},
            ]
        },
        [QUESTION, ANSWER],
        {},
    ),
}


def lines(path: Path, *records: Any) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def said(messages: list[Row]) -> Turns:
    return [(turn["role"], turn["content"]) for turn in messages]


@pytest.mark.parametrize("source", LAYOUTS)
def test_a_public_layout_is_read_right(source: str, tmp_path: Path) -> None:
    name, record, turns, extra = LAYOUTS[source]
    done = ingest([lines(tmp_path / "rows.jsonl", record, record)], tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out/rows.parquet")
    assert [*done.format.values()] == [name]
    assert [said(messages) for messages in rows["messages"].to_list()] == [turns, turns]
    assert [json.loads(text or "{}") for text in rows["extra"].to_list()] == [extra, extra]


def test_a_self_instruct_task_gives_a_conversation_for_each_instance(tmp_path: Path) -> None:
    """yizhongw/self-instruct seed_tasks.jsonl, and Unnatural Instructions."""
    task = {
        "id": "seed_task_0",
        "instruction": "Double it.",
        "instances": [{"input": "2", "output": "4"}, {"input": "", "output": "Twice what?"}],
    }
    unnatural = {
        "instruction": "Halve it.",
        "instances": [{"instruction_with_input": "Halve 8.", "input": "8", "output": "4"}],
    }
    rows, bad = read_rows(lines(tmp_path / "rows.jsonl", task, unnatural))
    assert not bad
    assert [said(messages) for messages in rows["messages"].to_list()] == [
        [("user", "Double it.\n\n2"), ("assistant", "4")],
        [("user", "Double it."), ("assistant", "Twice what?")],
        [("user", "Halve 8."), ("assistant", "4")],
    ]
    assert rows["id"].to_list() == ["rows:1.1", "rows:1.2", "rows:2.1"]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROLES),
        json.dumps(ROLES, indent=1).replace("\n", " ") + "\n" + json.dumps(ROLES),
        json.dumps([ROLES, ROLES], indent=1),
        json.dumps([[{**ROLES[0], "content": "x" * 70_000}, ROLES[1]]]),
    ],
    ids=["one line", "two lines", "an array of arrays", "longer than the head"],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_an_array_of_turns_is_one_conversation(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    rows, bad = read_rows(tmp_path / name)
    assert not bad
    assert {len(messages) for messages in rows["messages"].to_list()} == {2}


@pytest.mark.parametrize("key", ["data", "conversations", "messages", "rows"])
@pytest.mark.parametrize(
    "record",
    [
        {"instruction": "Q?", "output": "A."},
        {"instruction": "Q?", "input": "I", "output": "A."},
        {"prompt": "Q?", "chosen": "A.", "rejected": "B."},
    ],
    ids=lambda record: " ".join(record),
)
def test_a_file_whose_one_object_holds_the_rows_is_refused_with_the_way_to_them(
    key: str, record: Row, tmp_path: Path
) -> None:
    (tmp_path / "d.json").write_text(json.dumps({"version": "1", key: [record, record]}))
    way = rf"{key!r} is a list of 2 objects .*jq -c '\.\[\"{key}\"\]\[\]' FILE"
    with pytest.raises(DataError, match=way):
        read_rows(tmp_path / "d.json")


def test_pages_of_rows_are_refused_with_the_way_to_them(tmp_path: Path) -> None:
    page = {"data": [{"instruction": "Q?", "output": "A."}]}
    with pytest.raises(DataError, match="'data' is a list of 1 objects"):
        read_rows(lines(tmp_path / "rows.jsonl", page, page))


def test_a_way_to_rename_the_keys_comes_before_the_way_to_rows_inside(tmp_path: Path) -> None:
    record = {"ask": "Q?", "reply": "A.", "notes": [{"by": "me"}]}
    with pytest.raises(DataError, match="--map") as error:
        read_rows(lines(tmp_path / "rows.jsonl", record))
    assert "jq" not in str(error.value)


def test_questions_with_answers_are_turns_under_a_key_of_conversations_alone(
    tmp_path: Path,
) -> None:
    asked = [{"question": "q1", "answer": "a1"}, {"question": "q2", "answer": "a2"}]
    rows, _ = read_rows(lines(tmp_path / "rows.jsonl", {"conversations": asked}))
    assert said(rows["messages"][0].to_list())[1:3] == [("assistant", "a1"), ("user", "q2")]
    for records in (asked, [["q1", "a1"], ["q2", "a2"]]):
        with pytest.raises(DataError, match="data"):
            read_rows(lines(tmp_path / "rows.jsonl", {"data": records}))


def test_messages_as_structs_of_lists_in_parquet_are_turns(tmp_path: Path) -> None:
    table = pa.table({"conversations": [{"from": ["human", "gpt"], "value": ["q", "a"]}] * 2})
    pq.write_table(table, tmp_path / "rows.parquet")
    rows, bad = read_rows(tmp_path / "rows.parquet")
    assert not bad
    assert said(rows["messages"][0].to_list()) == [("user", "q"), ("assistant", "a")]


SYSTEM_BESIDE: dict[str, Row] = {
    "messages": {"messages": ROLES},
    "prompt_completion": {"prompt": QUESTION[1], "completion": ANSWER[1]},
    "unpaired": {"prompt": QUESTION[1], "completion": ANSWER[1], "label": True},
    "preference": {"prompt": QUESTION[1], "chosen": ANSWER[1], "rejected": "Far."},
    "preference of turns": {"chosen": ROLES, "rejected": [ROLES[0], {**ROLES[1], "content": "?"}]},
    "prompt_only": {"prompt": QUESTION[1]},
    "pairwise": {"prompt": QUESTION[1], "response_1": "a", "response_2": "b", "preference": 1},
    "ranked": {"prompt": QUESTION[1], "completions": ["a", "b"], "scores": [1, 2]},
    "sharegpt": {"conversations": [{"from": "human", "value": QUESTION[1]}]},
    "alpaca": {"instruction": QUESTION[1], "output": ANSWER[1]},
}


@pytest.mark.parametrize("layout", SYSTEM_BESIDE)
def test_a_system_text_beside_the_turns_is_the_first_turn(layout: str, tmp_path: Path) -> None:
    record = {"system": SYSTEM[1], **SYSTEM_BESIDE[layout]}
    name = layout.partition(" ")[0]
    rows, bad = read_rows(lines(tmp_path / "rows.jsonl", record, record), format=name)
    assert not bad
    turns = rows["messages" if "messages" in rows else "prompt"][0].to_list()
    assert said(turns)[:2] == [SYSTEM, QUESTION]
    assert rows["extra"][0] is None or "system" not in json.loads(rows["extra"][0])


def test_a_system_turn_that_is_there_is_not_repeated_and_fields_keep_their_turn(
    tmp_path: Path,
) -> None:
    first = {"role": "system", "content": SYSTEM[1]}
    there = {"system": SYSTEM[1], "messages": [first, *ROLES]}
    fields = {"system": SYSTEM[1], "messages": [ROLES[0], {**ROLES[1], "weight": 0}]}
    rows, _ = read_rows(lines(tmp_path / "rows.jsonl", there, fields))
    assert [said(turns) for turns in rows["messages"].to_list()] == [[SYSTEM, QUESTION, ANSWER]] * 2
    assert json.loads(rows["extra"][1]) == {"messages.fields": [{}, {}, {"weight": 0}]}


def test_a_system_field_that_is_no_text_is_quarantined(tmp_path: Path) -> None:
    good, wrong = {"messages": ROLES}, {"system": 3, "messages": ROLES}
    _, [bad] = read_rows(lines(tmp_path / "rows.jsonl", good, wrong))
    assert (bad["line"], bad["reason"]) == (2, "wrong_type")


@pytest.mark.parametrize("key", ["image", "images", "audio", "audios", "video", "videos"])
@pytest.mark.parametrize("layout", SYSTEM_BESIDE)
def test_media_beside_the_turns_are_set_aside(layout: str, key: str, tmp_path: Path) -> None:
    record, name = SYSTEM_BESIDE[layout], layout.partition(" ")[0]
    source = lines(tmp_path / "rows.jsonl", record | {key: ["cat.png"]}, record | {key: []}, record)
    rows, [bad] = read_rows(source, format=name)
    assert (bad["line"], bad["reason"], rows.height) == (1, "not_text", 2)
    assert f"rename it with --map {key}=metadata" in bad["detail"]


def test_renamed_media_are_kept_as_a_field(tmp_path: Path) -> None:
    source = lines(tmp_path / "rows.jsonl", {"messages": ROLES, "image": "python:3.12"})
    rows, bad = read_rows(source, mapping={"image": "docker"})
    assert (bad, json.loads(rows["extra"][0])) == ([], {"docker": "python:3.12"})


UNREADABLE = {"messages": [ROLES[0], {"role": "wizard", "content": "x"}]}


def test_a_source_of_which_every_row_is_set_aside_is_refused(tmp_path: Path) -> None:
    source = lines(
        tmp_path / "rows.jsonl", UNREADABLE, UNREADABLE, {"messages": ROLES, "images": ["a.png"]}
    )
    with pytest.raises(DataError) as error:
        ingest([source], tmp_path / "out")
    message = str(error.value)
    assert "2 unknown_role (rows, line 1: role 'wizard'" in message
    assert "1 not_text (rows, line 3: 'images'" in message
    assert message.index("unknown_role") < message.index("not_text")
    assert "\n" not in message
    assert not [*(tmp_path / "out").glob("*")]


def test_rows_that_are_set_aside_among_others_are_said(tmp_path: Path) -> None:
    done = ingest(
        [lines(tmp_path / "rows.jsonl", {"messages": ROLES}, UNREADABLE)], tmp_path / "out"
    )
    assert done.said[-1].startswith("1 of 2 rows set aside: 1 unknown_role (rows, line 2:")


@pytest.mark.parametrize(
    ("value", "what"), [("a text", "a text"), ({"a": 1}, "an object"), (["a", "b"], "a list")]
)
def test_turns_that_are_something_else_are_said(value: Any, what: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"'messages' is {what}; expected a list of turns"):
        read_rows(lines(tmp_path / "rows.jsonl", {"messages": value}))
