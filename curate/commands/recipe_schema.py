"""JSON Schema (draft 2020-12) of curate recipes, so that editors complete and check them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import MISSING, Field
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from siftune.curate.commands.option_help import option_texts
from siftune.curate.core.option_values import is_required
from siftune.curate.core.ranges import Within
from siftune.curate.core.registry import find, options, summary, usable
from siftune.curate.files.source_spec import PAIRINGS
from siftune.curate.rows.conversation_views import Sides, Turns

__all__ = [
    "CUSTOM_NAME",
    "DRAFT",
    "NAME",
    "Schema",
    "component_schema",
    "options_schema",
    "recipe_parts",
    "recipe_schema",
]

Schema = dict[str, Any]
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
GROUPS: Final[Mapping[str, str]] = {"score": "curate.scorers", "select": "curate.selectors"}
_PLAIN: Final[Mapping[Any, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    NoneType: "null",
}
_TEXT: Final[Schema] = {"type": "string"}
NAME: Final[Schema] = {**_TEXT, "pattern": r"^[^./\\~][^/\\]*$"}
"""The name of a recipe, and of its folder (`check_name`)."""
_NAMES: Final[Schema] = {"type": ["object", "null"], "additionalProperties": _TEXT}
_GIVEN: Final[Schema] = {
    "type": "object",
    "properties": {"path": _TEXT, "format": {"type": ["string", "null"]}, "map": _NAMES},
    "required": ["path"],
    "additionalProperties": False,
}
_SOURCE: Final[Schema] = {
    "description": "Files, folders, globs, or names on the hub; null leaves it to -o source=FILE.",
    "anyOf": [
        {"type": ["string", "null"]},
        _GIVEN,
        {"type": "array", "minItems": 1, "items": {"anyOf": [_TEXT, _GIVEN]}},
    ],
}


def type_schema(hint: Any) -> Schema:
    """The schema of the values that an annotation takes.

    >>> type_schema(int | None), type_schema(Literal["a", "b"])
    ({'anyOf': [{'type': 'integer'}, {'type': 'null'}]}, {'enum': ['a', 'b']})
    """
    inner = [one for one in get_args(hint) if one is not Ellipsis]
    origin = get_origin(hint)
    if origin is Annotated:
        return type_schema(inner[0]) | _bounds(inner[1:])
    if origin in (Union, UnionType):
        return {"anyOf": [type_schema(one) for one in inner]}
    if origin is Literal:
        return {"enum": inner}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    return _container(origin or hint, type_schema(inner[-1]) if inner else {})


def _container(kind: Any, inner: Schema) -> Schema:
    if not isinstance(kind, type):
        return {}
    if issubclass(kind, Mapping):
        return {"type": "object", "additionalProperties": inner or True}
    if issubclass(kind, Sequence | Set):
        return {"type": "array", "items": inner}
    return {}


def _bounds(notes: Iterable[Any]) -> Schema:
    bounds: Schema = {}
    for one in notes:
        if isinstance(one, Within):
            bounds["exclusiveMinimum" if one.above else "minimum"] = one.low
            if one.high is not None:
                bounds["exclusiveMaximum" if one.below else "maximum"] = one.high
    return bounds


def options_schema(component: type[Any], shared: Mapping[str, str] | None = None) -> Schema:
    """An object with a property for each option: type, default, description; those required."""
    hints = get_type_hints(component, include_extras=True)
    texts = option_texts(component, shared)
    known = options(component)
    properties = {
        name: _option(type_schema(hints[name]), field, texts.get(name))
        for name, field in known.items()
    }
    required = [name for name, field in known.items() if is_required(field)]
    return {"type": "object", "properties": properties, "required": required}


def _option(schema: Schema, field: Field[Any], text: str | None) -> Schema:
    default = field.default
    if default is MISSING and field.default_factory is not MISSING:
        default = field.default_factory()
    told = {"description": text} if text else {}
    if default is MISSING:  # null leaves it to -o
        return {"anyOf": [schema, {"type": "null"}]} | told
    return schema | {"default": list(default) if isinstance(default, tuple) else default} | told


def component_schema(key: str, name: str) -> Schema:
    """One stage of a recipe: ``score: NAME`` or ``select: NAME``, and its options."""
    component = find(GROUPS[key], name)
    made = options_schema(component)
    views: Schema = {  # a selector decides on whole rows
        "sides": {**type_schema(Sides), "default": "both", "description": "Sides of a pair."},
        "turns": {**type_schema(Turns), "default": "last", "description": "Turns of a chat."},
    }
    properties = {key: {"const": name}, **made["properties"], **(views if key == "score" else {})}
    one_of = [{"required": [option]} for option in getattr(component, "one_of", ())]
    return {
        "title": f"{key}: {name}",
        "description": summary(GROUPS[key], name),
        "type": "object",
        "properties": properties,
        "required": [key, *made["required"]],
        **({"anyOf": one_of} if one_of else {}),
        "additionalProperties": False,
    }


CUSTOM_NAME: Final[Schema] = {"type": "string", "pattern": r"\.py:\w+$"}
"""The name of a component of the user's own."""


def _custom(key: str) -> Schema:
    """A component of the user's own, whose options are not known here."""
    return {
        "title": f"{key}: FILE.py:NAME",
        "type": "object",
        "properties": {key: CUSTOM_NAME},
        "required": [key],
    }


def recipe_parts() -> Schema:
    """The keys that a curate recipe has, as properties, for a recipe within another."""
    stages = [
        component_schema(key, name) for key, group in GROUPS.items() for name in usable(group)
    ]
    stages += [_custom(key) for key in GROUPS]
    return {
        "name": {**NAME, "description": "Name of the recipe and of its run folder."},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "default": 0},
        "source": _SOURCE,
        "source_help": {**_TEXT, "description": "What to give where source is left open."},
        "format": {
            "anyOf": [{"enum": [*usable("curate.formats"), None]}, CUSTOM_NAME],
            "description": "Raw layout of the source, where it is not found by itself.",
        },
        "map": {**_NAMES, "description": "New names of raw keys."},
        "limit": {"type": ["integer", "null"], "minimum": 1, "description": "Most rows to read."},
        "pairs": {
            "enum": [*PAIRINGS, None],
            "description": "Which pairs are made of ranked lists; null leaves these as they are.",
        },
        "stages": {"type": "array", "items": {"anyOf": stages}},
    }


def recipe_schema() -> Schema:
    """The schema of the recipes of `siftune curate run`."""
    return {
        "$schema": DRAFT,
        "title": "Recipe of siftune curate run",
        "type": "object",
        "properties": recipe_parts(),
        "additionalProperties": False,
    }
