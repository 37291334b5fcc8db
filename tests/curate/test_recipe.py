"""A recipe is checked to the last key before anything runs."""

from pathlib import Path

import pytest

from siftune.curate.commands.recipe_schema import recipe_schema
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import find
from siftune.curate.runs import recipe
from siftune.pipelines import recipe as pipeline

GOOD = """
name: short answers
source: rows.jsonl
stages:
  - score: length
  - select: top_k
    by: length_words
    rows: 2
"""


@pytest.fixture
def write(tmp_path: Path):
    def to_file(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def test_a_recipe_reads_as_its_stages(write):
    got = recipe.load(write(GOOD))
    assert got.source == ("rows.jsonl",)
    assert [(stage.group, stage.name) for stage in got.stages] == [
        ("score", "length"),
        ("select", "top_k"),
    ]
    assert got.stages[1].options == {"by": "length_words", "rows": 2}


def test_overrides_reach_every_depth(write):
    got = recipe.load(write(GOOD), ["source=other.csv", "seed=7", "stages.2.rows=5"])
    assert (got.source, got.seed, got.stages[1].options["rows"]) == (("other.csv",), 7, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("name:", "nmae:"), "did you mean name?"),
        ("base: m\nrows: {source: a}", "is for `siftune pipelines run` (it has base, rows)"),
        ("train: []\nsead: 1", "is for `siftune pipelines run` (it has train)"),
        (GOOD + "base: m\n", "unknown key 'base'"),
        (GOOD.replace("rows: 2", "rows: many"), "top_k"),
        (GOOD.replace("rows: 2", "rowss: 2"), "has no option 'rowss'"),
        (GOOD.replace("score: length", "score: lenght"), "did you mean length?"),
        (GOOD.replace("score: length", "scores: length"), "expected one of score, select"),
        (GOOD.replace("source: rows.jsonl", ""), "give -o source=FILE"),
        (GOOD.replace("source: rows.jsonl", "source: no"), "expected a path"),
        (GOOD + "name: again\n", "is there twice"),
        (GOOD + "seed: yes\n", "expected int, got True"),
        ("!!python/object/apply:os.system ['true']", "the YAML tag !!python/object"),
        ("a: &a [x]\nb: [" + "*a, " * 30 + "*a]", "aliases"),
        ("- just\n- a list", "expected `key: value` lines"),
        ("name: [unclosed", "not valid YAML"),
        ("name: \x00", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, text, said):
    with pytest.raises(UsageError) as error:
        recipe.load(write(text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "recipe.yaml" in str(error.value)


@pytest.mark.parametrize("override", ["k", "=3", "stages.9.k=1", "stages.x.k=1", "name.a=1"])
def test_an_override_that_reaches_nothing_is_refused(write, override):
    with pytest.raises(UsageError, match="-o"):
        recipe.load(write(GOOD), [override])


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml"):
        recipe.load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("key", [{"sides": "chosen"}, {"turns": "last"}])
def test_sides_and_turns_are_keys_of_score_stages(key: dict[str, str]) -> None:
    stage = {"select": "random", "rows": 1, **key}
    (name,) = key
    with pytest.raises(UsageError, match=f"stage 1: {name} is a key of score stages"):
        recipe.parse({"source": "a.jsonl", "stages": [stage]})
    stages = [
        one["properties"] for one in recipe_schema()["properties"]["stages"]["items"]["anyOf"]
    ]
    assert [name in one for one in stages if one.get("select", {}).get("const") == "random"] == [0]


def test_the_keys_of_recipes_are_described():
    design = (Path(recipe.__file__).parents[1] / "DESIGN.md").read_text()
    section = design.partition("## Recipes")[2].partition("\n## ")[0]
    curate_keys, pipeline_keys = section.split("`siftune pipelines run` joins")
    assert all(f"`{key}`" in curate_keys for key in (*recipe._KEYS, *recipe.GROUPS, "sides"))
    assert all(f"`{key}`" in pipeline_keys for key in (*pipeline.KEYS, "label", "start", "data"))


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("curate.formats", "no format is called 'zz'; there are: alpaca"),
        ("curate.scorers", "no scorer is called 'zz'"),
        ("finetune.losses.pair", "no pair objective is called 'zz'"),
    ],
)
def test_a_component_that_is_none_is_named_by_what_it_would_be(group, words):
    with pytest.raises(UsageError) as error:
        find(group, "zz")
    assert words in str(error.value)
    assert group not in str(error.value)


def test_a_recipe_as_plain_values_is_read_as_an_equal_one() -> None:
    raw = {
        "name": "two",
        "seed": 3,
        "source": ["a.jsonl", {"path": "b.jsonl", "format": "alpaca", "map": {"q": "prompt"}}],
        "limit": 5,
        "stages": [{"score": "length", "sides": "chosen"}, {"select": "random", "rows": 2}],
    }
    read = recipe.parse(raw)
    assert recipe.parse(read.as_mapping()) == read
    assert read.as_mapping() == raw
