"""Tool calls and JSON against declared schemas: each fault by its name, and hostile schemas."""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.json_schema import JSONSchema
from siftune.curate.text.json_checks import _checker

NO_PATHS = ["tools", "schema"]

WEATHER = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TOOLS = [{"type": "function", "function": WEATHER}]
POINT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}


def scored(
    answer: str | None = None, calls: Any = None, *, tools: Any = None, schema: Any = None
) -> dict[str, Any]:
    pytest.importorskip("jsonschema")
    called = None if calls is None else json.dumps(calls)
    messages = [[turn("user", "Do it."), turn("assistant", answer, tool_calls=called)]]
    extra = json.dumps({"tools": tools, "response_format": schema})
    table = {"messages": pl.Series(messages, dtype=TURNS), "extra": [extra]}
    return JSONSchema()(pl.DataFrame(table)).row(0, named=True)


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("made", "flags"),
    [
        (call("weather", '{"city": "Oslo", "days": 2}'), []),
        (call("weather", {"city": "Oslo"}), []),
        (call("weather", {"days": 2}), ["bad_arguments"]),
        (call("weather", {"city": "Oslo", "days": 0}), ["bad_arguments"]),
        (call("weather", {"city": "Oslo", "town": "x"}), ["bad_arguments"]),
        (call("weather", '{"city": '), ["bad_arguments"]),
        (call("weather", "[1]"), ["bad_arguments"]),
        (call("whether", {"city": "Oslo"}), ["unknown_function"]),
        ({"function": {"arguments": "{}"}}, ["bad_call"]),
    ],
)
def test_a_call_is_checked_against_the_function(made: Any, flags: list[str]) -> None:
    found = scored(None, [made], tools=TOOLS)
    assert found["json_schema_flags"] == flags
    assert found["json_schema"] == (0.0 if flags else 1.0)
    assert (found["json_schema_first_wrong"] is None) == (not flags)


def test_the_share_is_of_all_calls_and_blocks() -> None:
    good, bad = call("weather", {"city": "Oslo"}), call("weather", {})
    found = scored('```json\n{"x": 1}\n```\n', [good, bad, good], tools=TOOLS)
    assert (found["json_schema"], found["json_schema_checked"]) == (0.75, 4)
    assert found["json_schema_first_wrong"] == "weather: $: 'city' is a required property"


def test_calls_in_the_text_and_functions_of_anthropic_are_read() -> None:
    tools = [{"name": "weather", "input_schema": WEATHER["parameters"]}]
    text = 'I look.<tool_call>\n{"name": "weather", "arguments": {"days": 1}}\n</tool_call>'
    assert scored(text, tools=tools)["json_schema_flags"] == ["bad_arguments"]
    assert scored(text)["json_schema_flags"] == []


@pytest.mark.parametrize(
    ("answer", "flags"),
    [
        ('{"x": 1.5}', []),
        ('Here:\n```json\n{"x": 1}\n```', []),
        ('{"x": "1"}', ["bad_answer"]),
        ('{"x": 1', ["bad_json"]),
        ("x is 1", ["bad_json"]),
        ('{"x": 1, "x": 1}', ["bad_json"]),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_answer_is_checked_against_the_schema(
    answer: str, flags: list[str], wrapped: bool
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "point", "schema": POINT}}
    found = scored(answer, schema=form if wrapped else POINT)
    assert (found["json_schema_flags"], found["json_schema_checked"]) == (flags, 1)


def test_what_has_nothing_to_check_is_null() -> None:
    found = scored("Just words.", tools=TOOLS)
    assert (found["json_schema"], found["json_schema_checked"]) == (None, 0)
    assert scored(None)["json_schema_checked"] is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "no such"},
        {"properties": 3},
        [1],
        {"type": "object", "required": "x"},
        {"$schema": []},
        {"components": {"s": {"type": "date"}}, "items": {"$ref": "#/components/s"}},
        {"components": {"s": {"items": [3]}}, "anyOf": [{"$ref": "#/components/s"}]},
    ],
)
def test_a_schema_that_is_none_is_named_and_checks_nothing(schema: Any) -> None:
    found = scored('{"x": 1}', schema=schema)
    assert (found["json_schema"], found["json_schema_flags"]) == (None, ["bad_schema"])


def test_a_type_that_draft_3_allows_and_nobody_knows_is_named() -> None:
    schema = {"$schema": "http://json-schema.org/draft-03/schema#", "type": "date"}
    found = scored('{"x": 1}', schema=schema)
    assert found["json_schema_flags"] == ["bad_schema"]
    assert found["json_schema_first_wrong"] == "schema: no type is called 'date'"


LOST = [
    {"properties": {"a": {"$ref": "#/$defs/none"}}},
    {"properties": {"a": {"$ref": "#there"}}, "$defs": {"x": {"$anchor": "here"}}},
    {"anyOf": [True, {"$ref": "http://example.org/s.json"}]},
    {"foo": {"items": {"$ref": "#/nope"}}, "items": {"$ref": "#/foo"}},  # behind another one
    {"items": {"$ref": "#/minItems"}, "minItems": 0},
    {"$schema": "http://json-schema.org/draft-07/schema#", "items": {"$ref": "#/definitions/b"}},
]
FOUND = [
    {"properties": {"a": {"$ref": "#here"}}, "$defs": {"x": {"$anchor": "here"}}},
    {"$id": "http://a.b/c", "$defs": {"x": {"$id": "d", "type": "string"}}, "items": {"$ref": "d"}},
    {"enum": [{}, {"$ref": "#/none"}]},  # a value, no reference
    {"properties": {"$ref": {"type": "string"}, "child": {"$ref": "#"}}},
    {"anyOf": [True, {"$ref": "https://json-schema.org/draft/2020-12/schema"}]},
]


@pytest.mark.parametrize(
    ("schema", "is_lost"), [(s, True) for s in LOST] + [(s, False) for s in FOUND]
)
def test_a_reference_to_nothing_is_found_before_an_answer_needs_it(
    schema: Any, is_lost: bool
) -> None:
    found = scored("{}", schema=schema)
    wanted = (None, ["bad_schema"]) if is_lost else (1, [])
    assert (found["json_schema"], found["json_schema_flags"]) == wanted
    if is_lost:
        assert "a reference" in found["json_schema_first_wrong"]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": schema}}]
    called = scored(calls=[call("weather", {})], tools=tools)
    assert called["json_schema_flags"] == (["bad_schema"] if is_lost else [])


def test_a_hostile_schema_neither_fetches_nor_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_: pytest.fail("it was fetched"))
    found = scored("1", schema={"$ref": "http://example.org/s.json"})
    assert (found["json_schema"], found["json_schema_flags"]) == (None, ["bad_schema"])
    assert scored("1", schema={"$ref": "#"})["json_schema"] == 1
    start = perf_counter()
    slow = {"type": "string", "pattern": "^(a+)+$"}
    assert scored(json.dumps("a" * 40 + "!"), schema=slow)["json_schema_flags"] == ["bad_answer"]
    keys = {"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}
    assert scored(json.dumps({"a" * 40 + "!": 1}), schema=keys)["json_schema"] == 1
    assert perf_counter() - start < 5


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(UsageError, match=r"pip install 'siftune\[schema\]'"):
        _checker.__wrapped__("{}")
