"""A validator of the part of JSON Schema (draft 2020-12) that our schemas use: `problems`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

__all__ = ["problems"]

TYPES: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
    "array": list,
    "object": dict,
}
KNOWN = {
    *("$schema", "$defs", "$ref", "title", "description", "default", "type", "enum", "const"),
    *("anyOf", "properties", "required", "additionalProperties", "items", "minItems", "pattern"),
    *("patternProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}


_OTHER = ", another alternative"
"""How the problem ends that a value is not the one that an alternative is for."""


def problems(value: Any, schema: Any, root: Any = None, at: str = "$") -> Iterator[str]:
    """What is wrong with ``value``, each as a line that begins with its place."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        yield from [] if schema else [f"{at}: not allowed"]
        return
    assert not schema.keys() - KNOWN, schema.keys() - KNOWN
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from problems(value, target, root, at)
    listed = schema.get("type", [])
    kinds = [listed] if isinstance(listed, str) else listed
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{at}: expected {kinds}, got {value!r}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: expected one of {schema['enum']}, got {value!r}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: expected {schema['const']}{_OTHER}"
    if "anyOf" in schema:
        tried = [list(problems(value, one, root, at)) for one in schema["anyOf"]]
        if all(tried):
            yield min(tried, key=lambda found: (_OTHER in found[0], len(found)))[0]
    yield from _numbers(value, schema, at)
    yield from _inside(value, schema, root, at)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind])


def _numbers(value: Any, schema: Any, at: str) -> Iterator[str]:
    if isinstance(value, int | float):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            yield f"{at}: {value} is out of range"
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            yield f"{at}: {value} is not above {schema['exclusiveMinimum']}"
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            yield f"{at}: {value} is not below {schema['exclusiveMaximum']}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at}: {value!r} does not match"
    if isinstance(value, list) and len(value) < schema.get("minItems", 0):
        yield f"{at}: too short"


def _inside(value: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from problems(item, schema["items"], root, f"{at}[{number}]")
    if isinstance(value, dict):
        yield from (f"{at}: lacks {key}" for key in schema.get("required", ()) if key not in value)
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        patterns = schema.get("patternProperties", {})
        for key, item in value.items():
            fits = [one for name, one in patterns.items() if re.search(name, key)]
            inner = known.get(key, fits[0] if fits else more)
            yield from problems(item, inner, root, f"{at}.{key}")
