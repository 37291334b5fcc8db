"""Checks of JSON and of tool calls in answers against schemas that come with the data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.tool_calls import arguments_key
from siftune.curate.text.code_blocks import code_blocks

__all__ = ["check_json"]

_SHOWN: Final = 200
_DEEP: Final = 30  # levels of a value
_Fault = tuple[str, str]  # flag and message
_Found = _Fault | None


def check_json(turns: Any, tools: str | None, schema: str | None) -> tuple[Any, ...]:
    """Share of the pieces of ``turns`` that are right, their number, faults, the first in words.

    Pieces are calls of all assistant turns, and JSON of the last. ``tools`` and ``schema`` are JSON
    texts.
    """
    said = [turn for turn in turns if turn["role"] == "assistant"]
    answer = said[-1]["content"] if said else None
    if all(turn["content"] is None and turn["tool_calls"] is None for turn in said):
        return (None,) * 4
    functions, bad_tools = _functions(tools)
    wanted, bad_schema = _wanted(schema)
    found = [_call_fault(call, functions) for turn in said for call in _calls(turn)]
    found += [_json_fault(text, wanted) for text in _json_texts(answer or "", wanted is not None)]
    faults = [one for one in found if one is not None]
    wrong = sum(flag != "bad_schema" for flag, _ in faults)
    share = 1 - wrong / len(found) if found else None
    noted = [*faults, *(("bad_schema", bad) for bad in (bad_tools, bad_schema) if bad)]
    flags = sorted({flag for flag, _ in noted})
    return share, len(found), flags, noted[0][1][:_SHOWN] if noted else None


def _calls(turn: Mapping[str, Any]) -> Iterator[Any]:
    """The calls of a turn; the text of one that is no JSON."""
    if turn["tool_calls"] is not None:
        given = _loaded(turn["tool_calls"])
        yield from given if isinstance(given, list) else [given]
    for text in _between(turn["content"] or "", "<tool_call>", "</tool_call>"):
        yield _loaded(text)


def _between(text: str, opening: str, closing: str) -> Iterator[str]:
    """The text between each pair of tags, in linear time, as a lazy pattern is not."""
    end = 0
    while (start := text.find(opening, end)) >= 0:
        end = text.find(closing, start)
        if end < 0:
            return
        yield text[start + len(opening) : end]


def _loaded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _call_fault(call: Any, functions: Mapping[str, Any] | None) -> _Found:
    function = call.get("function", call) if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        return "bad_call", f"expected a call with a name, got {call!r}"
    if functions is not None and name not in functions:
        return "unknown_function", f"{name!r} is none of {', '.join(functions) or 'no tools'}"
    called: dict[str, Any] = function or {}
    key = arguments_key(called)
    given = called[key] if key else {}
    arguments = _loaded(given or "{}") if isinstance(given, str) else given
    if not isinstance(arguments, dict):
        return "bad_arguments", f"{name}: expected a JSON object of arguments, got {given!r}"
    if isinstance(given, str) and (twice := _key_given_twice(given)):
        return "bad_arguments", f"{name}: the key {twice!r} is given twice"
    try:
        wrong = _mismatch(arguments, (functions or {}).get(name))
    except _SchemaUnusableError as error:
        return "bad_schema", f"{name}: {error}"
    return None if wrong is None else ("bad_arguments", f"{name}: {wrong}")


def _functions(tools: str | None) -> tuple[dict[str, str | None] | None, str | None]:
    """Parameters of each function, as JSON text, and what is wrong with the list."""
    listed = None if tools is None else _loaded(tools)
    if listed is None:
        return None, None
    known = {}
    for tool in listed if isinstance(listed, list) else [listed]:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return None, f"tools: expected functions with a name, got {tool!r}"
        parameters = function.get("parameters", function.get("input_schema"))
        known[function["name"]] = None if parameters is None else _text(parameters)
    wrong = (f"{name}: {bad}" for name, text in known.items() if (bad := _fault_of(text)))
    return known, next(wrong, None)


def _wanted(schema: str | None) -> tuple[str | None, str | None]:
    """The schema of the answer as JSON text, and what is wrong with it."""
    value = None if schema is None else _loaded(schema)
    for key in ("json_schema", "schema"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    if value is None or value in ({"type": "text"}, "text"):
        return None, None
    if value == {"type": "json_object"}:
        value = {"type": "object"}
    text = _text(value)
    wrong = _fault_of(text)
    return (None, f"schema: {wrong}") if wrong else (text, None)


def _text(schema: Any) -> str:
    """A schema as JSON; what is nested too deeply for that is no schema."""
    try:
        return orjson.dumps(schema).decode()
    except orjson.JSONEncodeError:
        return '"nested too deeply"'


def _json_texts(answer: str, wanted: bool) -> list[str]:
    blocks = [block.code for block in code_blocks(answer) if block.language == "json"]
    return blocks or ([answer] if wanted else [])


def _json_fault(text: str, wanted: str | None) -> _Found:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return "bad_json", f"no JSON: {error}"
    if twice := _key_given_twice(text):
        return "bad_json", f"the key {twice!r} is given twice"
    try:
        wrong = _mismatch(value, wanted)
    except _SchemaUnusableError as error:
        return "bad_schema", f"schema: {error}"
    return None if wrong is None else ("bad_answer", wrong)


def _key_given_twice(text: str) -> str | None:
    """The first key that an object of a JSON text has twice: which value holds is not defined.

    >>> _key_given_twice('[{"a": 1, "b": {"a": 2}}]'), _key_given_twice('{"a": 1, "a": 2}')
    (None, 'a')
    """
    found: list[str] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        found.extend(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)

    try:
        json.loads(text, object_pairs_hook=keep)
    except (ValueError, RecursionError):
        return None
    return found[0] if found else None


class _SchemaUnusableError(Exception):
    """A schema in the right form with which a value cannot be checked."""


def _mismatch(value: Any, schema: str | None) -> str | None:
    """The first way in which a value is not as a schema demands; a bad schema demands nothing.

    Raises:
        _SchemaUnusableError: it refers to what is not there or to itself, or has a pattern that the
            engine lacks, or a type that is none.
    """
    checker = None if schema is None else _checker(schema)
    if checker is None or isinstance(checker, str):
        return None
    from jsonschema.exceptions import UnknownType
    from referencing.exceptions import Unresolvable

    try:
        errors = sorted(checker.iter_errors(value), key=lambda one: [*map(str, one.absolute_path)])
    except Unresolvable as error:
        raise _SchemaUnusableError(f"a reference that is not in it: {error}") from None
    except UnknownType as error:  # draft 3 allows any name of a type
        raise _SchemaUnusableError(f"no type is called {error.type!r}") from None
    except RecursionError:
        if _is_deep(value):
            return "$: it is nested too deeply"
        raise _SchemaUnusableError("it refers to itself") from None
    except OverflowError as error:  # of a number in the value
        return f"$: {error}"
    except (TypeError, ValueError, AttributeError) as error:  # of a schema that passed
        raise _SchemaUnusableError(str(error)) from None
    return f"{errors[0].json_path}: {errors[0].message}" if errors else None


def _is_deep(value: Any) -> bool:
    """Whether a value has more levels than a check of a sound schema is sure to follow."""
    level = [value]
    for _ in range(_DEEP):
        parts = (one.values() if isinstance(one, dict) else one for one in level)
        level = [own for part in parts if isinstance(part, Iterable) for own in part]
        level = [own for own in level if isinstance(own, dict | list)]
        if not level:
            return False
    return True


def _fault_of(schema: str | None) -> str | None:
    checker = None if schema is None else _checker(schema)
    return checker if isinstance(checker, str) else None


@lru_cache(256)
def _checker(schema: str) -> Any:
    """The validator of a schema, or what is wrong with that."""
    library = _library()
    from referencing import Registry

    given = orjson.loads(schema)
    if not isinstance(given, dict | bool):
        return f"expected a JSON schema, got {schema[:_SHOWN]}"
    try:
        kind = library.validators.validator_for(given, library.Draft202012Validator)
        kind.check_schema(given)
        if wrong := _bad_reference(kind, given):
            return wrong
    except library.SchemaError as error:
        return f"{error.json_path}: {error.message}"
    except RecursionError:
        return "it is nested too deeply"
    except (
        TypeError,
        ValueError,
        AttributeError,
    ) as error:  # $schema or $id is of another type, or no address
        return f"it is no JSON schema: {error}"
    rules = {"pattern": _pattern, "patternProperties": _no_rule, "uniqueItems": _unique}
    if "patternProperties" in schema:
        rules["additionalProperties"] = _no_rule  # which keys are additional depends on patterns
    return library.validators.extend(kind, rules)(given, registry=Registry())


def _bad_reference(kind: Any, schema: Any) -> str | None:
    """What is wrong with the first reference of a schema that leads to no schema in it.

    What references lead to is checked as well, wherever it is, so that no answer finds one later:
    the check of the whole leaves out what no keyword marks as a schema.

    Raises:
        jsonschema.SchemaError: a reference leads to what is not in the form of a schema.
    """
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    draft = specification_with(kind.META_SCHEMA["$schema"])
    resource = draft.create_resource(schema)
    registry = _library().validators.SPECIFICATIONS.combine(Registry())
    waiting, seen = [(resource, registry.resolver_with_root(resource))], set()
    while waiting:
        resource, resolver = waiting.pop()
        if id(resource.contents) in seen or not isinstance(resource.contents, dict):
            continue
        seen.add(id(resource.contents))
        waiting += [(one, resolver.in_subresource(one)) for one in resource.subresources()]
        for key in ("$ref", "$dynamicRef", "$recursiveRef"):
            reference = resource.contents.get(key)
            if not isinstance(reference, str):
                continue
            try:
                found = resolver.lookup(reference)
            except Unresolvable:
                return f"a reference that is not in it: {reference!r}"
            if not isinstance(found.contents, dict | bool):
                return f"a reference to what is no schema: {reference!r}"
            if id(found.contents) not in seen:
                own = _library().validators.validator_for(found.contents, kind)
                own.check_schema(found.contents)
            waiting.append((draft.create_resource(found.contents), found.resolver))
    return None


def _no_rule(*_: Any) -> Iterator[Any]:
    yield from ()


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[Any]:
    """The rule of ``pattern`` in an engine of linear time."""
    if not isinstance(value, str):
        return
    try:
        found = pl.Series([value]).str.contains(pattern).item()
    except pl.exceptions.ComputeError:
        raise _SchemaUnusableError(f"no pattern of linear time: {pattern!r}") from None
    if not found:
        yield _library().ValidationError(f"{value!r} does not match {pattern!r}")


def _unique(_: Any, wanted: Any, value: Any, __: Any) -> Iterator[Any]:
    """The rule of ``uniqueItems`` in linear time; the library's may compare all pairs."""
    if wanted is not True or not isinstance(value, list):
        return
    texts = {orjson.dumps(_plain(one), option=orjson.OPT_SORT_KEYS) for one in value}
    if len(texts) < len(value):
        yield _library().ValidationError("it has an item twice")


def _plain(value: Any) -> Any:
    """A JSON value in which equal numbers are of one type: 1.0 is 1."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _library() -> Any:
    try:
        import jsonschema
    except ImportError:
        raise UsageError(
            "json_schema: jsonschema is not installed: pip install 'siftune[schema]'"
        ) from None
    return jsonschema
