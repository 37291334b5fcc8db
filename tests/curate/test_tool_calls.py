"""Tool calls, tools and fields of turns: read in every spelling, kept, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.cli import curate
from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.io.detect import named
from siftune.curate.io.ingest import read_rows
from siftune.curate.rows.turn_fields import fields_of

ASK = {"role": "user", "content": "Light on, please"}
ARGUMENTS = '{"on": true}'
CALL = {"type": "function", "function": {"name": "light", "arguments": ARGUMENTS}}


def messages(*turns: Row, **beside: Any) -> Row:
    return {"messages": [ASK, *turns], **beside}


def read(record: Row, name: str = "messages") -> Row:
    (row,) = named(name).read(record)
    return row


def calls_in(row: Row, column: str = "messages", at: int = 1) -> Any:
    return orjson.loads(row[column][at]["tool_calls"])


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL], "function_call": None},
        {"role": "assistant", "content": None, "tool_calls": CALL},
        {"role": "assistant", "content": None, "tool_calls": orjson.dumps([CALL]).decode()},
        {"role": "assistant", "content": None, "tool_calls": [orjson.dumps(CALL).decode()]},
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "assistant", "content": "", "tool_calls": [], "function_call": CALL["function"]},
        {"role": "function_call", "content": orjson.dumps(CALL["function"]).decode()},
        {"role": "tool_call", "content": orjson.dumps([CALL["function"]]).decode()},
    ],
)
def test_a_call_is_read_in_every_spelling(turn: Row) -> None:
    row = read(messages(turn))
    assert calls_in(row) == [CALL]
    assert row["messages"][1]["role"] == "assistant"
    assert not row["messages"][1]["content"]
    assert row["extra"] == {}


def test_the_result_of_an_old_function_call_is_a_tool_turn() -> None:
    called = {"role": "assistant", "content": None, "function_call": CALL["function"]}
    row = read(messages(called, {"role": "function", "name": "light", "content": "done"}))
    assert (row["messages"][2]["role"], row["messages"][2]["name"]) == ("tool", "light")


def test_a_turn_with_both_kinds_of_calls_keeps_the_old_one_as_a_field() -> None:
    both = {"role": "assistant", "tool_calls": [CALL], "function_call": {"name": "off"}}
    row = read(messages(both))
    assert calls_in(row) == [CALL]
    assert row["extra"] == {"messages.fields": [{}, {"function_call": {"name": "off"}}]}


@pytest.mark.parametrize(
    "field",
    [
        {"tool_calls": "light(on)"},
        {"tool_calls": [{"arguments": {}}]},
        {"tool_calls": ["light"]},
        {"tool_calls": [{"function": "light"}]},
        {"function_call": {"arguments": "{}"}},
        {"function_call": "auto"},
        {"tool_calls": [{"name": "light", "with": {"on": True}}]},
    ],
)
def test_a_call_without_a_name_or_arguments_is_quarantined(field: Row) -> None:
    with pytest.raises(BadRow) as bad:
        read(messages({"role": "assistant", "content": None, **field}))
    assert bad.value.reason == "bad_tool_call"


def test_a_turn_without_content_and_call_is_still_quarantined() -> None:
    with pytest.raises(BadRow) as bad:
        read(messages({"role": "assistant", "content": None, "tool_calls": []}))
    assert bad.value.reason == "missing_field"


def light(**arguments: Any) -> Row:
    return {"type": "function", "function": {"name": "light", "arguments": arguments}}


def test_nulls_that_a_struct_column_fills_in_are_not_read(tmp_path: Path) -> None:
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"properties": properties}}}
        for name, properties in (
            ("light", {"on": {"type": "boolean"}}),
            ("dim", {"to": {"enum": [1]}}),
        )
    ]
    records = [
        messages({"role": "assistant", "content": "", "tool_calls": [light(on=True)]}, tools=tools),
        messages({"role": "assistant", "content": "", "tool_calls": [light(to=3)]}, tools=tools),
    ]
    pl.DataFrame(records, infer_schema_length=None).write_parquet(tmp_path / "rows.parquet")
    rows, bad = read_rows(tmp_path / "rows.parquet")
    assert not bad
    found = [orjson.loads(turns[1]["tool_calls"]) for turns in rows["messages"].to_list()]
    assert found == [[light(on=True)], [light(to=3)]]
    assert orjson.loads(rows["extra"][0]) == {"tools": tools}


FUNCTION = {"name": "light", "parameters": {"type": "object", "properties": {}}}
FIELDS = {"weight": 0, "reasoning_content": "Easy."}
SAID = {"role": "assistant", "content": "4"}
ROUND_TRIPS: dict[str, tuple[str, Row]] = {
    "messages": ("messages", messages({**SAID, **FIELDS}, tools=[{"name": "light"}])),
    "conversations": (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "2"},
                {"from": "gpt", "value": "4", **FIELDS},
            ]
        },
    ),
    "a prompt and a completion": (
        "prompt_completion",
        {"prompt": [ASK, {**SAID, **FIELDS}, ASK], "completion": [{**SAID, "loss": True}]},
    ),
    "a prompt": ("prompt_only", {"prompt": [{**ASK, "weight": 1}]}),
    "a pair": (
        "preference",
        {"prompt": [ASK], "chosen": [{**SAID, **FIELDS}], "rejected": [{**SAID, "content": "5"}]},
    ),
    "an answer": ("unpaired", {"prompt": [ASK], "completion": [{**SAID, **FIELDS}], "label": True}),
    "answers": (
        "ranked",
        {
            "prompt": [ASK],
            "completions": [[{**SAID, **FIELDS}], [{**SAID, "content": "5"}]],
            "scores": [1.0, 0.0],
        },
    ),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_fields_of_turns_are_written_back(name: str) -> None:
    layout, record = ROUND_TRIPS[name]
    assert named(layout).write(read(record, layout)) == record


def test_a_pair_that_shares_its_prompt_parts_the_fields_too() -> None:
    shared = [ASK, {**SAID, "weight": 0}, ASK]
    record = {
        "chosen": [*shared, {**SAID, "reasoning_content": "Two and two."}],
        "rejected": [*shared, {**SAID, "content": "5"}],
    }
    row = read(record, "preference")
    assert fields_of(row["extra"], "prompt", 3) == [{}, {"weight": 0}, {}]
    assert fields_of(row["extra"], "chosen", 1) == [{"reasoning_content": "Two and two."}]
    written = named("preference").write(row)
    assert written["prompt"] == shared
    assert written["chosen"] == record["chosen"][3:]


def test_a_conversation_from_any_layout_is_exported_as_messages_with_its_fields() -> None:
    for name in ("conversations", "a prompt and a completion"):
        layout, record = ROUND_TRIPS[name]
        written = named("messages").write(read(record, layout))
        assert [key for turn in written["messages"] for key in turn if key == "weight"] == [
            "weight"
        ]
        assert written.keys() == {"messages"}


def test_too_few_fields_belong_to_other_turns() -> None:
    assert fields_of({"messages.fields": [{"weight": 0}]}, "messages", 2) == [{}, {}]
    assert fields_of({"chosen.fields": [{}, {"weight": 0}]}, "chosen", 1) == [{"weight": 0}]


@pytest.mark.parametrize("container", ["jsonl", "parquet", "datasets"])
def test_calls_with_other_arguments_are_exported_unchanged(tmp_path: Path, container: str) -> None:
    records = [
        messages(
            {"role": "assistant", "content": "", "tool_calls": [light(to=3)]}, tools=[FUNCTION]
        ),
        messages({"role": "assistant", "content": "", "tool_calls": [light(to="off", all=True)]}),
        messages({**SAID, "weight": 0}, functions=[FUNCTION | {"strict": True}]),
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, records)))
    for command in (
        ["ingest", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "in")],
        ["export", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--to", container],
    ):
        CliRunner().invoke(curate, command, catch_exceptions=False)
    written = tmp_path / "out" / ("" if container == "datasets" else f"train.{container}")
    again, bad = read_rows(written)
    assert not bad
    turns = again["messages"].to_list()
    found = [orjson.loads(each[1]["tool_calls"])[0] for each in turns[:2]]
    found = [call["function"]["arguments"] for call in found]
    known = [orjson.loads(each) if isinstance(each, str) else each for each in found]
    assert known == [{"to": 3}, {"to": "off", "all": True}]
    extras = [orjson.loads(text) for text in again["extra"]]
    tools = extras[0]["tools"]
    wrapped = [{"type": "function", "function": FUNCTION}]
    assert (orjson.loads(tools) if isinstance(tools, str) else tools) == wrapped
    assert fields_of(extras[2], "messages", 2) == [{}, {"weight": 0}]


def test_the_best_and_the_worst_answer_keep_their_fields_as_a_pair(tmp_path: Path) -> None:
    answers = [[{**SAID, "content": str(at), "reasoning": f"r{at}"}] for at in range(3)]
    record = {"prompt": [ASK], "completions": answers, "scores": [0.5, 0.0, 1.0]}
    (tmp_path / "rows.jsonl").write_bytes(orjson.dumps(record))
    for command in (
        ["ingest", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "in")],
        ["export", str(tmp_path / "in"), "--out", str(tmp_path / "out")],
    ):
        CliRunner().invoke(curate, command, catch_exceptions=False)
    written = orjson.loads((tmp_path / "out" / "train.jsonl").read_bytes())
    for side, at in (("chosen", 2), ("rejected", 1)):
        assert written[side] == [{**SAID, "content": str(at), "reasoning_content": f"r{at}"}]
    assert not any(key.endswith(".fields") for key in written)
