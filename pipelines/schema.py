"""JSON Schema (draft 2020-12) of the recipes of pipelines, for editors."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from siftune.curate.commands.recipe_schema import (
    CUSTOM_NAME,
    DRAFT,
    NAME,
    Schema,
    options_schema,
    recipe_parts,
)
from siftune.curate.core.registry import find, summary, usable
from siftune.curate.judge_stats.drift import Limits
from siftune.finetune.core.methods import FAMILIES, PREFERENCE, TOOLS, TRAINER_GROUP, TRAINERS
from siftune.finetune.option_texts import OPTION_TEXTS
from siftune.pipelines.recipe import ARMS, KEYS
from siftune.pipelines.train_steps import MERGE, ROW_STEPS

__all__ = ["pipeline_schema"]

_TEXT: Schema = {"type": "string"}
_COSTS: Final = {
    "max_cost": "Dollars that the judge's answers may cost, in all steps that ask one.",
    "price_input": "Dollars a million input tokens of the judge.",
    "price_output": "Dollars a million output tokens of the judge.",
    "most_per_call": "Most dollars that one answer costs, where the server states its cost.",
}


def pipeline_schema() -> Schema:
    """The schema of the recipes of `siftune pipelines run`."""
    properties = {
        "name": {**NAME, "description": "Name of the pipeline and of its run folder."},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "default": 0},
        "base": {
            "type": ["string", "null"],
            "description": "Model that training starts from; null leaves it to -o base=MODEL.",
        },
        "init": _made_base(),
        "judge": {
            "type": ["string", "null"],
            "description": "LLM judge of the steps that ask one: a model, or URL#MODEL.",
        },
        "second": {
            "type": ["string", "null"],
            "description": "Another judge of the steps `judge`, whose agreement is measured.",
        },
        **{
            key: {"type": ["number", "null"], "minimum": 0, "description": text}
            for key, text in _COSTS.items()
        },
        "rows": {"$ref": "#/$defs/recipe", "description": "Rows that sft and ppo train on."},
        "pairs": {"$ref": "#/$defs/recipe", "description": "Pairs that all others train on."},
        "heldout": _heldout(),
        "train": {
            "type": "array",
            "items": {"anyOf": [{"$ref": "#/$defs/step"}, {"$ref": "#/$defs/repeat"}]},
        },
        "evaluate": _tool("evaluate", without=("model",)),
        "arms": _arms(),
    }
    assert properties.keys() == set(KEYS)
    return {
        "$schema": DRAFT,
        "title": "Recipe of siftune pipelines run",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {
            "recipe": {
                "type": ["object", "null"],
                "properties": recipe_parts(),
                "additionalProperties": False,
            },
            "repeat": _repeat(),
            "step": {
                "anyOf": [
                    *(_step(method, *place) for method, place in _methods().items()),
                    _OWN_LOSS,
                ]
            },
        },
    }


def _repeat() -> Schema:
    """``- repeat: {rounds: N, steps: [...]}``."""
    inner = {
        "type": "object",
        "properties": {
            "rounds": {"type": "integer", "minimum": 1, "maximum": 100},
            "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
            "stop": {
                "type": ["object", "null"],
                "description": "Largest drift from the first round; beyond it the rounds end.",
                "properties": {
                    one.name: {"type": ["number", "null"], "exclusiveMinimum": 0}
                    for one in fields(Limits)
                },
                "additionalProperties": False,
            },
        },
        "required": ["rounds", "steps"],
        "additionalProperties": False,
    }
    return {
        "title": "repeat",
        "description": "Steps that are run several times, each round on what the last one made.",
        "type": "object",
        "properties": {"repeat": inner},
        "required": ["repeat"],
        "additionalProperties": False,
    }


_OWN_LOSS: Final[Schema] = {
    "title": "FILE.py:NAME",
    "description": "A loss of the user's own, whose options are not known here.",
    "type": "object",
    "patternProperties": {CUSTOM_NAME["pattern"]: {"type": ["object", "null"]}},
    "additionalProperties": False,
}


def _methods() -> dict[str, tuple[tuple[str, str], ...]]:
    """Each method by its name: the components that its options are those of, its own first."""
    losses = {
        name: ((group, name), (TRAINER_GROUP, PREFERENCE))
        for group in FAMILIES
        for name in usable(group)
    }
    single = {name: (TRAINER_GROUP, trainer) for name, trainer in TRAINERS.items()}
    single |= {name: (ROW_STEPS, name) for name in usable(ROW_STEPS)}
    single[MERGE] = TOOLS[MERGE]
    return {**losses, **{name: (place,) for name, place in single.items()}}


def _step(method: str, *components: tuple[str, str]) -> Schema:
    """``- METHOD: {options}``; what the pipeline itself gives, such as the model, is optional."""
    given: Schema = {}
    for group, name in reversed(components):
        given |= options_schema(find(group, name), OPTION_TEXTS)["properties"]
    own = {
        "label": {**_TEXT, "default": method, "description": "Name of what the step makes."},
        "start": {
            **_TEXT,
            "description": "Model to start from: base, an earlier label, or latest.",
        },
        "data": {
            **_TEXT,
            "description": "Rows that are read: rows, pairs, or those of an earlier label.",
        },
    }
    step = {
        "type": ["object", "null"],
        "properties": {**given, **own},
        "additionalProperties": False,
    }
    return {
        "title": method,
        "description": summary(*components[0]),
        "type": "object",
        "properties": {method: step},
        "required": [method],
        "additionalProperties": False,
    }


def _tool(command: str, without: tuple[str, ...] = ()) -> Schema:
    made = options_schema(find(*TOOLS[command]), OPTION_TEXTS)
    properties = {name: one for name, one in made["properties"].items() if name not in without}
    return {
        "type": ["object", "null"],
        "description": summary(*TOOLS[command]),
        "properties": properties,
        "additionalProperties": False,
    }


def _made_base() -> Schema:
    made = _tool("init")
    text = {**_TEXT, "description": "File of text that the model learns from."}
    return {**made, "properties": {"text": text, **made["properties"]}, "required": ["text"]}


def _heldout() -> Schema:
    rows: Schema = {"anyOf": [_TEXT, {"$ref": "#/$defs/recipe"}]}
    return {
        "type": ["object", "null"],
        "description": "Rows that no training sees: a file, or a recipe that selects them.",
        "properties": {"prompts": rows, "pairs": rows},
        "additionalProperties": False,
    }


def _arms() -> Schema:
    sft: Any = _step("sft", (TRAINER_GROUP, "sft"))["properties"]["sft"]
    return {
        "type": ["object", "null"],
        "description": "Selections to compare, each trained like the sft step on equal tokens.",
        "properties": {
            "names": {"type": "array", "items": {"enum": list(ARMS)}, "default": list(ARMS)},
            "seeds": {"type": "array", "items": {"type": "integer"}, "default": [0, 1, 2]},
            "metric": {**_TEXT, "default": "exact_match"},
            "options": {**sft, "description": "Options over those of the sft step."},
        },
        "additionalProperties": False,
    }
