"""Tool calls, tools, reasoning and weights of rows as templates and trainers get them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siftune.curate.chat.template_turns import WEIGHTS, chat, columns_of, tools_of
from siftune.curate.core.errors import DataError
from siftune.finetune.data import training_rows

ASK = {"role": "user", "content": "Light on, please"}
SAID = {"role": "assistant", "content": "Done."}
SHARED = Path(__file__).parents[3] / "shared" / "cases"


def call(arguments: Any, name: str = "light") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*each: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(each), **beside}


def table(path: Path, *records: dict[str, Any]) -> pl.DataFrame:
    file = path / "rows.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    kinds: Any = ("conversation", "preference", "unpaired", "ranked")
    return training_rows.load(file, kinds)


def first_call(path: Path, turn: dict[str, Any], **beside: Any) -> Any:
    (row,) = training_rows.to_conversations(table(path, {"messages": [ASK, turn], **beside}))
    return row["messages"][1]["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ('{"on": true}', {"on": True}),
        ({"on": True}, {"on": True}),
        (json.dumps('{"on": true}'), {"on": True}),
        ('{"at": null, "n": 12345678901234567890123}', {"at": None, "n": 12345678901234567890123}),
        ({"at": None, "where": {"room": 1, "floor": None}}, {"where": {"room": 1}}),
        ({"list": [1, None]}, {"list": [1, None]}),
        ("on, please", "on, please"),
        ("[1, 2]", "[1, 2]"),
        ('{"x": NaN}', '{"x": NaN}'),
        ("", {}),
        (None, {}),
    ],
)
def test_arguments_are_an_object_where_they_are_one(tmp_path: Path, given: Any, right: Any) -> None:
    assert first_call(tmp_path, calls(call(given))) == right


def test_a_call_is_the_same_whatever_api_wrote_it(tmp_path: Path) -> None:
    bare = {"name": "light", "arguments": '{"on": true}'}
    said = [
        calls(call('{"on": true}')),
        calls(bare),
        {"role": "assistant", "content": None, "function_call": bare},
        {"role": "function_call", "content": json.dumps({**bare, "arguments": {"on": True}})},
    ]
    rows = training_rows.to_conversations(
        table(tmp_path, *({"messages": [ASK, turn]} for turn in said))
    )
    assert [row["messages"][1] for row in rows] == [
        {"role": "assistant", "content": "", "tool_calls": [call({"on": True})]}
    ] * 4


def test_a_sharegpt_call_is_the_same_as_one_of_the_openai_api(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": ASK["content"]},
        {"from": "function_call", "value": '{"name": "light", "arguments": {"on": true}}'},
        {"from": "observation", "value": "done"},
    ]
    (row,) = training_rows.to_conversations(table(tmp_path, {"conversations": turns}))
    assert row["messages"][1]["tool_calls"] == [call({"on": True})]
    assert row["messages"][2] == {"role": "tool", "content": "done", "name": "light"}


def test_the_result_of_a_call_is_named_after_it_by_id_or_by_place(tmp_path: Path) -> None:
    def names(ids: list[str | None], results: list[dict[str, Any]]) -> list[str | None]:
        each = [{**call({}, name), "id": own} for name, own in zip("ab", ids, strict=True)]
        tools = [{"role": "tool", "content": "1", **result} for result in results]
        (row,) = training_rows.to_conversations(
            table(tmp_path, {"messages": [ASK, calls(*each), *tools]})
        )
        return [turn.get("name") for turn in row["messages"][2:]]

    assert names([None, None], [{}, {}, {}]) == ["a", "b", None]
    assert names(["1", "2"], [{"tool_call_id": "2"}, {"tool_call_id": "1"}]) == ["b", "a"]
    assert names(["1", "2"], [{"tool_call_id": "3"}, {"name": "c"}]) == [None, "c"]


FUNCTION = {"name": "light", "description": "Switch", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}


@pytest.mark.parametrize(
    "extra",
    [
        {"tools": [TOOL]},
        {"tools": json.dumps([TOOL])},
        {"tools": TOOL},
        {"tools": [FUNCTION]},
        {"tools": [{"type": "function", **FUNCTION}]},
        {"tools": [json.dumps(FUNCTION)]},
        {"functions": [FUNCTION]},
        {"tools": [], "functions": json.dumps([FUNCTION])},
        {"tools": [{**TOOL, "function": {**FUNCTION, "strict": None}}]},
    ],
)
def test_tools_have_one_shape(extra: dict[str, Any]) -> None:
    assert tools_of(extra) == [TOOL]


@pytest.mark.parametrize("given", [None, [], "[]", "", "search, calc", ["search"], [{"id": 1}], 3])
def test_what_is_no_list_of_functions_is_no_tool(given: Any) -> None:
    assert tools_of({"tools": given}) is None


def test_tools_that_are_no_functions_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"messages": [ASK, SAID]}
    table(tmp_path, row | {"tools": ["search"]}, row | {"tools": []}, row | {"tools": [TOOL]})
    assert "the tools of 1 rows (rows:1, ...) are not used" in capsys.readouterr().err


def test_every_kind_of_rows_keeps_its_tools(tmp_path: Path) -> None:
    beside = {"tools": [FUNCTION]}
    pair = {"prompt": [ASK], "chosen": [SAID], "rejected": [calls(call({}))], **beside}
    assert training_rows.to_pairs(table(tmp_path, pair))[0]["tools"] == [TOOL]
    assert training_rows.to_conversations(table(tmp_path, pair))[0]["tools"] == [TOOL]
    answer = {"prompt": [ASK], "completion": [SAID], "label": True, **beside}
    assert training_rows.to_unpaired(table(tmp_path, answer))[0]["tools"] == [TOOL]
    assert training_rows.to_prompts(table(tmp_path, answer))[0]["tools"] == [TOOL]
    listed = {"prompt": [ASK], "completions": [[SAID], [calls(call({}))]], "scores": [1, 0]}
    assert training_rows.to_ranked(table(tmp_path, listed | beside))[0]["tools"] == [TOOL]
    assert training_rows.to_ranked(table(tmp_path, listed))[0]["tools"] is None


def weighed(path: Path, *fields: dict[str, Any]) -> list[Any]:
    turns = [turn for each in fields for turn in (ASK, {**SAID, **each})]
    (row,) = training_rows.to_conversations(table(path, {"messages": turns}))
    return [turn.get("weight") for turn in row["messages"][1::2]]


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_turn_is_learned_or_not_by_any_spelling(tmp_path: Path, name: str) -> None:
    given = [0, 0.0, False, "0", "false", 1, True, "True", None]
    found = weighed(tmp_path, *({name: value} for value in given))
    assert found == [0, 0, 0, 0, 0, 1, 1, 1, None]


def test_a_turn_that_one_of_two_fields_leaves_out_is_left_out(tmp_path: Path) -> None:
    assert weighed(tmp_path, {"weight": 1, "train": False}, {"loss": 1}) == [0, 1]


@pytest.mark.parametrize("weight", [0.5, 2, -1, "high", [1]])
def test_another_weight_is_refused_with_the_first_row_and_their_number(
    tmp_path: Path, weight: Any
) -> None:
    row = {"messages": [ASK, {**SAID, "weight": weight}]}
    with pytest.raises(DataError, match=r"2 turns have a weight .* the first in row rows:2"):
        training_rows.to_conversations(table(tmp_path, {"messages": [ASK, SAID]}, row, row))


def test_weights_are_those_of_the_sides_of_a_pair_and_of_each_answer(tmp_path: Path) -> None:
    again = [ASK, {**SAID, "weight": 0}, ASK]
    pair = {"chosen": [*again, SAID], "rejected": [*again, {**SAID, "content": "No.", "loss": 1}]}
    (row,) = training_rows.to_pairs(table(tmp_path, pair))
    assert [turn.get("weight") for turn in row["prompt"]] == [None, 0, None]
    assert [row[side][0].get("weight") for side in ("chosen", "rejected")] == [None, 1]
    two = [[{**SAID, "train": False}, ASK, SAID], [{**SAID, "content": "No."}]]
    listed = {"prompt": [ASK], "completions": two, "scores": [1, 0]}
    (row,) = training_rows.to_ranked(table(tmp_path, listed))
    assert [turn.get("weight") for turn in row["completions"][0]] == [0, None, None]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_a_key_of_an_answer(tmp_path: Path, name: str) -> None:
    turns = [{**ASK, name: "a note"}, {**SAID, name: "Easy."}, ASK, {**SAID, name: {"effort": 1}}]
    (row,) = training_rows.to_conversations(table(tmp_path, {"messages": turns}))
    assert [turn.get("reasoning_content") for turn in row["messages"]] == [
        None,
        "Easy.",
        None,
        None,
    ]
    prompt = training_rows.to_prompts(table(tmp_path, {"messages": turns}))[0]["prompt"]
    assert prompt[1]["reasoning_content"] == "Easy."


def test_the_data_hash_sees_tools_weights_and_reasoning_and_nothing_else(tmp_path: Path) -> None:
    def hashed(beside: dict[str, Any] | None = None, **fields: Any) -> str:
        record = {"messages": [ASK, {**SAID, **fields}], **(beside or {})}
        return training_rows.data_hash(table(tmp_path, record))

    plain = hashed()
    assert plain == hashed({"url": "x"}) == hashed(timestamp=3) == hashed({"tools": []})
    others = [hashed(weight=0), hashed(reasoning="Easy."), hashed({"tools": [FUNCTION]})]
    assert len({plain, *others}) == 4
    assert others[0] == hashed(train=False)


def test_an_answer_that_is_a_call_is_no_text_to_compare_with(tmp_path: Path) -> None:
    turns = [ASK, calls(call({"on": True}))]
    (row,) = training_rows.to_prompts(table(tmp_path, {"messages": turns}))
    assert row["reference"] is None
    (row,) = training_rows.to_prompts(table(tmp_path, {"messages": [ASK, SAID]}))
    assert row["reference"] == "Done."


def test_prompts_with_other_tools_or_calls_are_other_prompts(tmp_path: Path) -> None:
    prompts = [[ASK], [ASK, calls(call({"on": True})), ASK], [ASK, calls(call({"on": False})), ASK]]
    rows = [
        {"prompt": prompt, "chosen": [SAID], "rejected": [calls(call({}))]} for prompt in prompts
    ]
    with_tools = rows[0] | {"tools": [FUNCTION]}
    keys = training_rows.prompt_keys(table(tmp_path, *rows, with_tools, rows[0] | {"url": "x"}))
    assert keys.n_unique() == 4
    assert keys[0] == keys[4]


def test_columns_are_the_inverse_of_turns() -> None:
    turns = [ASK, {**SAID, "tool_calls": [call({"on": True})], "reasoning_content": "Easy."}]
    made, beside = columns_of(turns)
    assert beside == {"prompt.fields": [{}, {"reasoning_content": "Easy."}]}
    assert chat(made, beside["prompt.fields"]) == turns
    assert columns_of([ASK])[1] == {}


def test_answers_that_are_calls_are_answers(tmp_path: Path) -> None:
    called, other = [calls(call({"on": True}))], [calls(call({"on": False}))]
    rows = [
        {"prompt": [ASK], "chosen": called, "rejected": other},
        {"prompt": [ASK], "completion": called, "label": False},
        {"prompt": [ASK], "completions": [called, other, [SAID]], "scores": [1, 0, 2]},
    ]
    for record in rows:
        assert training_rows.bad_rows(table(tmp_path, record)).is_empty()


def test_string_arguments_of_the_shared_case_are_an_object() -> None:
    file = SHARED / "09-string-arguments-encoded-twice" / "rows.jsonl"
    if not file.is_file():
        pytest.skip(f"no {file}: the shared cases are not here")
    (row,) = training_rows.to_conversations(training_rows.load(file, ("conversation",)))
    assert row["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"on": True}


@pytest.mark.parametrize(
    "given",
    [
        {"name": "get", "parameters": {"x": 1}},
        {"type": "tool_use", "id": "c1", "name": "get", "input": {"x": 1}},
        {"function": {"name": "get", "args": {"x": 1}}},
        {"function": {"name": "get", "Arguments": '{"x": 1}'}},
    ],
)
def test_arguments_under_their_other_names_are_arguments(tmp_path: Path, given: Any) -> None:
    turn = {"role": "assistant", "content": "", "tool_calls": [given]}
    assert first_call(tmp_path, turn) == {"x": 1}


@pytest.mark.parametrize("text", ["[" * 3000, '{"x": "\\ud800"}', '{"x": 1e999}', '{"x": NaN}'])
def test_arguments_that_are_no_json_object_stay_the_text_they_are(text: str) -> None:
    stored = json.dumps([{"function": {"name": "get", "arguments": text}}])
    (turn,) = chat([{"role": "assistant", "content": "", "tool_calls": stored}])
    assert turn["tool_calls"][0]["function"]["arguments"] == text
