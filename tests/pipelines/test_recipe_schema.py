"""The JSON Schemas of recipes: every recipe of ours is valid, and a wrong one is not."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from siftune.curate.core.registry import names
from siftune.curate.files.yaml_text import read_yaml
from siftune.pipelines.cli import siftune
from tests.json_schema import problems

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    path
    for path in (ROOT / "examples").rglob("*.yaml")
    if path.parent.name != "accelerate"
    and not path.name.startswith("arena_")  # which has no schema
)


@cache
def schema(group: str) -> Any:
    printed = CliRunner().invoke(siftune, [group, "schema"], catch_exceptions=False)
    found = json.loads(printed.stdout)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    return found


def of(raw: dict[str, Any]) -> Any:
    return schema("curate" if "stages" in raw else "pipelines")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_of_ours_is_valid(path: Path) -> None:
    raw = read_yaml(path)
    assert list(problems(raw, of(raw))) == []


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"source": "a.jsonl", "stages": [{"select": "top_k", "by": "x"}]}, "lacks rows"),
        ({"source": "a.jsonl", "stages": [{"select": "topk"}]}, "$.stages[0]"),
        ({"source": "a.jsonl", "stages": [{"select": "exact_dedup", "rank_by": "x"}]}, "rank_by"),
        ({"source": "a.jsonl", "stages": [{"score": "length", "of": "all"}]}, "of"),
        (
            {"source": "a.jsonl", "stages": [{"select": "top_fraction", "by": "x", "fraction": 2}]},
            "2",
        ),
        ({"stages": [{"select": "threshold", "by": "x"}]}, "lacks min"),
        ({"stages": [{"select": "random", "seed": 1}]}, "lacks rows"),
        ({"name": "a/b", "stages": []}, "$.name: 'a/b' does not match"),
        ({"name": ".a", "base": "m", "train": []}, "$.name: '.a' does not match"),
        ({"source": {"file": "a.jsonl"}, "stages": []}, "$.source"),
        ({"sauce": "a.jsonl", "stages": []}, "$.sauce"),
        ({"base": "m", "train": [{"dpo": {"learning_rate": 1.0}}]}, "learning_rate"),
        ({"base": "m", "train": [{"dpo": {"lr": 0}}]}, "lr"),
        ({"base": "m", "train": [{"dpo": {"held_out": 1.0}}]}, "held_out: 1.0 is not below 1"),
        ({"base": "m", "train": [{"dpp": None}]}, "$.train[0]"),
        ({"base": "m", "train": [], "heldout": {"rows": "a"}}, "$.heldout.rows"),
        ({"base": "m", "train": [], "evaluate": {"limits": 3}}, "limits"),
        ({"base": "m", "train": [], "arms": {"names": ["best"]}}, "$.arms.names[0]"),
    ],
)
def test_a_wrong_recipe_is_not_valid(raw: dict[str, Any], problem: str) -> None:
    assert problem in " ".join(problems(raw, of(raw)))


def test_every_option_of_every_component_has_a_type_and_a_description() -> None:
    stages = schema("curate")["properties"]["stages"]["items"]["anyOf"]
    steps = schema("pipelines")["$defs"]["step"]["anyOf"]
    found = {one["title"]: one["properties"] for one in stages}
    for key, group in (("score", "curate.scorers"), ("select", "curate.selectors")):
        for name in names(group):
            views = {"sides", "turns"} & found[f"{key}: {name}"].keys()
            assert key in found[f"{key}: {name}"]
            assert len(views) == (2 if key == "score" else 0)
    methods = [given for step in steps for given in step.get("properties", {}).values()]
    listed = [one for properties in found.values() for one in properties.values()]
    listed += [one for step in methods for one in step["properties"].values()]
    assert all("description" in one or {"const", "pattern"} & one.keys() for one in listed)
    assert all({"type", "enum", "anyOf", "const"} & one.keys() for one in listed)


def test_defaults_are_values_that_the_schema_takes() -> None:
    for one in schema("curate")["properties"]["stages"]["items"]["anyOf"]:
        for name, option in one["properties"].items():
            if "default" in option:
                assert list(problems(option["default"], option)) == [], name


def test_a_component_of_ones_own_is_valid() -> None:
    raw = {"source": "a.jsonl", "stages": [{"score": "mine.py:Rude", "words": 3}]}
    assert list(problems(raw, of(raw))) == []
