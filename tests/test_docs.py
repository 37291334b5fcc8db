"""Python of the documentation that is run as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
import yaml
from click.testing import CliRunner

import siftune as sf
from siftune.curate.core.registry import find, names, options
from siftune.pipelines.cli import siftune as command

DOCS = Path(__file__).parents[1] / "docs"


def block(page: str, words: str) -> str:
    """The Python block of a page that has ``words`` in it."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)
    (found,) = [one for one in blocks if words in one]
    return found


def test_functions_that_read_raw_fields_or_add_two_columns_run_as_written():
    space = {"sf": sf}
    exec(block("api.md", "sides.adds"), space)
    (row,) = space["rows"].kept.to_dicts()
    assert (row["question"], row["growth"], row["halved"]) == (True, 0.75, 3.5)


def test_calls_of_losses_run_as_written():
    calls = block("api.md", "mismatched=mismatched")
    space = {"sf": sf, "torch": torch, "found": {}}
    exec(re.sub(r'^(sf\.loss\("(\w+)"\))', r'found["\2"] = \1', calls, flags=re.M), space)
    assert len(space["found"]) == 6
    assert all(torch.isfinite(loss).all() for loss in space["found"].values())


def test_the_table_of_rewards_has_each_with_its_options():
    page = (DOCS / "rl.md").read_text(encoding="utf-8")
    judges = re.search(r'^"The judge\'s" are ([^(]+) \(', page, flags=re.M)
    page = page.replace("| the judge's", f"| {judges[1]}".replace("\n", " "))
    lines = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", page, flags=re.M))
    rewards = {name: find("finetune.rewards", name) for name in names("finetune.rewards")}
    found = {name: re.findall(r"`(\w+)`", lines[name]) for name in rewards}
    assert found == {name: [*options(reward)] for name, reward in rewards.items()}


def test_the_reward_of_the_page_is_one():
    space = {}
    exec(block("rl.md", "def my_reward"), space)
    rows = [{"reference": "Paris"}, {"reference": None}]
    score = sf.reward(space["my_reward"], weight=2.0)
    assert score(["?", "?"], ["It is paris.", "x"], rows) == [2.0, None]


def test_help_says_how_losses_and_rewards_of_a_file_are_named():
    runs = (["finetune", "--help"], ["finetune", "ppo", "--help"])
    said = [CliRunner().invoke(command, call).stdout for call in runs]
    assert "siftune finetune FILE.py:NAME PAIRS" in " ".join(said[0].split())
    assert "FILE.py:NAME" in said[1]


def test_the_recipe_of_preferences_takes_pairs_in_any_layout(tmp_path):
    recipe = yaml.safe_load((DOCS.parent / "examples/preferences.yaml").read_text())["pairs"]
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{n}?", "chosen": "yes " * n, "rejected": "no"} for n in range(1, 9)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {key: value for key, value in recipe.items() if key in ("format", "map", "stages")}
    run = sf.run({"name": "pairs", **given, "source": str(pairs)}, tmp_path / "run")
    assert (run.kind, run.counts["quarantined"]) == ("preference", 0)
