from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from examples.demo import __main__ as demo
from examples.demo.world import World
from siftune.pipelines.recipe import Pipeline, load


def paths(pipeline: Pipeline) -> set[str]:
    """Every path that the recipe names."""
    recipes = [recipe for recipe in (pipeline.rows, pipeline.pairs) if recipe is not None]
    options = [stage.options for recipe in recipes for stage in recipe.stages]
    named = {str(each[key]) for each in options for key in ("model", "against") if key in each}
    sources = {source for recipe in recipes for source in recipe.source}
    return named | sources | set(pipeline.heldout.values()) | {str(pipeline.base)}


def test_the_recipe_stands_on_its_own_after_the_demo_ran_once() -> None:
    pipeline = load(demo.RECIPE)
    assert {path.split("/")[:2] == ["runs", "demo"] for path in paths(pipeline)} == {True}
    assert pipeline.name != "demo"  # its folder holds the inputs, and could not be the output's
    assert pipeline.arms is not None
    assert len(pipeline.arms.seeds) >= 3


def test_another_folder_moves_every_path(tmp_path: Path) -> None:
    world, base = World(tmp_path / "world"), tmp_path / "base"
    moved = paths(load(demo.RECIPE, demo._places(world, base)))
    assert moved == {
        str(path) for path in (base, world.pool, world.pairs, world.questions, world.held_out_pairs)
    }


@pytest.mark.parametrize(
    ("behind_low", "behind_all", "code"), [(0.1, 0.0, 0), (0.0, 0.2, 1), (0.1, -0.01, 1)]
)
def test_the_demo_fails_where_selection_did_not_pay(
    behind_low: float, behind_all: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arms: list[dict[str, Any]] = [
        {"arm": "curated"},
        {"arm": "random", "behind": 0.2, "behind_low": behind_low},
        {"arm": "all", "behind": behind_all},
    ]
    assert demo._verdict(arms) == code
    assert capsys.readouterr().out.count("NO") == code
