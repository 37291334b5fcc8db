"""What a stranger runs names nothing that only lies beside our own checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.runs.recipe import load as load_rows
from siftune.pipelines.recipe import load as load_pipeline

ROOT = Path(__file__).parents[1]


def tracked() -> list[Path]:
    """Files of the repository; without git, those of the packages."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name]
    places = ("benchmarks", "curate", "examples", "finetune", "pipelines")
    return [path for place in places for path in (ROOT / place).rglob("*") if path.is_file()]


def test_no_file_outside_the_tests_names_the_folder_beside_the_checkout() -> None:
    named = [
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if path.is_file()
        and path.relative_to(ROOT).parts[0] != "tests"
        and b"../shared" in path.read_bytes()
    ]
    assert named == []


@pytest.mark.parametrize(
    ("recipe", "given", "says"),
    [
        ("alpaca", [], r"source is not set: give -o source=FILE \(.*tatsu-lab/alpaca.*CC BY-NC"),
        ("preferences", [], r"exactly one of base \(a model, -o base=MODEL\)"),
        ("preferences", ["base=m"], r"rows: source is not set: give -o rows\.source=FILE \("),
        ("preferences", ["base=m", "rows.source=r"], r"pairs: .*give -o pairs\.source=FILE \("),
        ("demo_real/real", [], r"rows: source is not set: give -o rows\.source=FILE \("),
        (
            "demo_real/real",
            ["rows.source=r"],
            r"pairs: source is not set: give -o pairs\.source=FILE \(",
        ),
    ],
)
def test_a_recipe_without_its_rows_says_in_one_line_for_each_what_to_give(
    recipe: str, given: list[str], says: str
) -> None:
    load = load_rows if recipe == "alpaca" else load_pipeline
    with pytest.raises(UsageError, match=says) as told:
        load(ROOT / "examples" / f"{recipe}.yaml", given)
    first, *each = str(told.value).splitlines()
    assert not each or first.endswith(f": {len(each)} problems:")


@pytest.mark.parametrize("recipe", ["preferences", "demo_real/real"])
def test_what_the_line_says_is_all_that_is_missing(recipe: str) -> None:
    given = ["base=m", "rows.source=r", "pairs.source=p"]
    pipeline = load_pipeline(ROOT / "examples" / f"{recipe}.yaml", given)
    assert pipeline.heldout["prompts"].source == ("r",)  # type: ignore[union-attr]
    assert pipeline.heldout["pairs"].source == ("p",)  # type: ignore[union-attr]
