"""`siftune curate methods`: what it lists comes from the files themselves; every preset runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.commands import methods as listing
from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.curate.files.packaged_recipes import FIELDS, PRESETS
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import load
from siftune.pipelines.cli import siftune
from siftune.recipes import run as siftune_run
from tests.tiny_models import quality_head, reward_model

JUDGE = """
def reply(question):
    text = question.messages[-1][1]
    if "tag" in question.messages[0][1]:
        return '[{"tag": "%s", "explanation": "why"}]' % text[:3]
    return {label: 1 + len(text) % 7 for label in question.labels} or "It is short."
"""
ROWS = [
    {"instruction": f"Describe thing {at} in {at % 4 + 2} words", "output": " ".join(["word"] * at)}
    for at in range(1, 13)
]
PAIRS = [
    {"prompt": row["instruction"], "chosen": row["output"], "rejected": f"no {row['output']}"}
    for row in ROWS
]
RANKED = [
    {"prompt": f"Describe {at}", "completions": [f"{'so ' * n}{at}" for n in range(1, 5)]}
    for at in range(4)
]
_POLICY = (
    *("stages.2.model=LM", "stages.2.reference=LM", "stages.2.template=none"),
    "stages.2.max_tokens=100",
)
_GRADIENTS = (
    *("stages.1.model=LM", "stages.1.against=ROWS", "stages.1.template=none", "stages.1.rank=1"),
    *(
        "stages.1.dimension=32",
        "stages.1.epochs=1",
        "stages.1.warmup=0.2",
        "stages.2.fraction=0.25",
    ),
)
SMALL: dict[str, list[str]] = {
    "alpagasus": ["stages.1.judge=JUDGE", "stages.2.min=0.1"],
    "bees": ["stages.1.model=RM", *_POLICY, "source=PAIRS"],
    "car": ["stages.1.judge=JUDGE", "stages.2.model=EMBEDDER", "stages.3.rows=2"],
    "cherry": ["stages.1.model=LM", "stages.2.max=100"],
    "dedup_only": [],
    "deita": [
        *("stages.1.judge=JUDGE", "stages.2.judge=JUDGE", "stages.3.model=EMBEDDER"),
        *("stages.4.rows=3", "stages.4.max_similarity=1"),
    ],
    "difficulty": [*(one.replace("s.2", "s.1") for one in _POLICY), "source=PAIRS"],
    "gist": [*_GRADIENTS],
    "half_percent": ["stages.1.model=EMBEDDER", "stages.2.clusters=2"],
    "instag": ["stages.1.judge=JUDGE", "stages.2.rows=3"],
    "less": [*_GRADIENTS],
    "lima": ["stages.4.min=5", "stages.6.model=EMBEDDER", "stages.7.rows=3"],
    "long_is_more": ["stages.1.rows=3"],
    "mig": [
        *("stages.1.judge=JUDGE", "stages.2.judge=JUDGE", "stages.3.judge=JUDGE"),
        *("stages.4.model=EMBEDDER", "stages.4.fraction=0.25"),
    ],
    "mods": [
        "stages.1.model=RM",
        "stages.2.min=-100",
        "stages.3.model=EMBEDDER",
        "stages.4.rows=3",
    ],
    "novel_select": ["stages.1.model=EMBEDDER", "stages.2.rows=3"],
    "quality_diversity": ["stages.4.model=HEAD", "stages.5.model=EMBEDDER", "stages.7.rows=3"],
    "rds_round_robin": ["stages.1.model=LM", "stages.2.against=TARGETS", "stages.2.rows=3"],
    "rip": ["stages.1.model=RM", "stages.3.max_gap=1", "stages.3.min_length=0", "source=PAIRS"],
    "selective": [
        *("stages.1.model=LM", "stages.1.template=none", "stages.1.rank=1", "stages.1.epochs=1"),
        *("stages.1.repeats=1", "stages.1.max_tokens=100", "source=PAIRS"),
    ],
    "superfilter": ["stages.1.model=LM", "stages.2.max=100"],
    "superfilter_diverse": ["stages.1.model=LM", "stages.2.max=100", "stages.4.model=EMBEDDER"],
    "sweet_spot": ["stages.1.model=RM", "source=RANKED"],
}
"""What makes each preset small: tiny models, a scripted judge, bars for made-up rows."""

KEPT = {
    "deita": 3,
    "less": 3,
    "lima": 3,
    "long_is_more": 3,
    "mig": 3,
    "mods": 3,
    "novel_select": 3,
    "quality_diversity": 3,
    "rds_round_robin": 3,
    "instag": 3,
    "bees": 1,
    "difficulty": 1,
    "gist": 3,
    "half_percent": 2,
    "cherry": 1,
    "selective": 6,
    "superfilter": 1,
    "superfilter_diverse": 1,
    "sweet_spot": 4,
}


@pytest.fixture(scope="module")
def inputs(
    tmp_path_factory: pytest.TempPathFactory, tiny_embedder: Path, tiny_model_dir: Path
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("presets")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    ranked = [{**row, "scores": [1, 2, 3, 4]} for row in RANKED]
    (folder / "ranked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ranked))
    (folder / "judge.py").write_text(JUDGE)
    model = {"score": "rds", "model": str(tiny_model_dir)}
    recipe = {"source": str(folder / "rows.jsonl"), "stages": [model], "limit": 2}
    (folder / "targets.yaml").write_text(json.dumps(recipe))
    run(load(folder / "targets.yaml"), folder / "targets")
    return {
        "JUDGE": f"{folder / 'judge.py'}:reply",
        "LM": str(tiny_model_dir),
        "EMBEDDER": str(tiny_embedder),
        "HEAD": str(quality_head(folder / "head")),
        "RM": str(reward_model(tiny_model_dir, folder / "rm")),
        "TARGETS": str(folder / "targets"),
        "PAIRS": str(folder / "pairs.jsonl"),
        "RANKED": str(folder / "ranked.jsonl"),
        "ROWS": str(folder / "rows.jsonl"),
    }


@pytest.mark.parametrize("name", sorted(PRESETS.headers))
def test_every_preset_runs(name: str, inputs: dict[str, str], tmp_path: Path) -> None:
    given = [
        f"{key}={inputs.get(value, value)}"
        for key, _, value in (one.partition("=") for one in SMALL[name])
    ]
    run(load(PRESETS.file(Path(name)), [f"source={inputs['ROWS']}", *given]), tmp_path / "out")
    kept = pl.read_parquet(tmp_path / "out" / "kept.parquet").height
    assert kept == KEPT.get(name, kept)
    assert 0 < kept <= len(ROWS)


def test_quality_diversity_takes_a_budget_of_words_for_each_source(tmp_path: Path) -> None:
    given = ["source=x.jsonl", "stages.4.model=head", "stages.7.rows=null", "stages.7.tokens=500"]
    given += ["stages.7.tokens_by=length_words", "stages.7.group_by=source"]
    last = load(PRESETS.file(Path("quality_diversity")), given).stages[-1]
    made = registry.build("curate.selectors", last.name, last.options)
    assert (made.tokens, made.rows, made.group_by) == (500, None, "source")
    before = [stage.name for stage in load(PRESETS.file(Path("quality_diversity")), given).stages]
    assert before[-2:] == ["length", "facility_location"]
    both = "got rows and tokens, of which null unsets one that a recipe sets"
    with pytest.raises(UsageError, match=both):
        registry.build("curate.selectors", last.name, {**last.options, "rows": 1000})


def test_every_preset_has_all_fields_and_a_command_that_names_it() -> None:
    for name, fields in PRESETS.headers.items():
        assert tuple(fields) == FIELDS
        assert fields["run"].startswith(f"siftune curate run {name} ROWS")
        assert load(PRESETS.file(Path(name)), ["source=x.jsonl", *SMALL[name]]).name == name


def called(*words: str) -> Any:
    return CliRunner().invoke(siftune, ["curate", *words], catch_exceptions=True)


def test_a_preset_runs_on_the_source_that_the_command_names(
    inputs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = called("run", "long_is_more", inputs["ROWS"], "-o", "stages.1.rows=2", "--out", "runs/x")
    assert done.exit_code == 0, done.exception
    kept = pl.read_parquet("runs/x/kept.parquet").sort("row")
    assert kept["row"].to_list() == [11, 12]  # numbered from 1, each a word longer
    wrong = called("run", "long_is_mor", inputs["ROWS"])
    assert "did you mean long_is_more?" in str(wrong.exception)
    lacks = called("run", "alpagasus", inputs["ROWS"])
    assert "-o stages.1.judge=VALUE" in str(lacks.exception)


def test_python_runs_a_preset_by_its_name(
    inputs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(siftune_run("long_is_more", "runs/x", source=inputs["ROWS"])) == len(ROWS)
    with pytest.raises(UsageError, match="did you mean long_is_more"):
        siftune_run("long_is_mor", "runs/y")


def test_every_method_is_listed_with_what_its_file_has() -> None:
    found = json.loads(called("methods", "--json").output)
    assert set(found) == {"presets", "scorers", "selectors"}
    for kind in ("scorers", "selectors"):
        assert tuple(found[kind]) == registry.names(f"curate.{kind}")
        for name, facts in found[kind].items():
            assert {"does", "data", "needs", "cost"} <= set(facts), name
    assert found["scorers"]["ifd"]["paper"] == "arXiv:2402.00530, arXiv:2308.12032"
    assert "short labels" in found["scorers"]["ifd"]["not for"]
    assert found["scorers"]["label_conflicts"]["data"] == "preference pairs"
    assert found["scorers"]["tags"]["cost"] == "calls of a judge for every row"
    assert found["selectors"]["k_center"]["needs"] == (
        "the column embedding, one of rows, fraction, tokens"
    )
    assert found["selectors"]["rip"]["data"] == "preference pairs"
    assert found["selectors"]["rip"]["needs"] == (
        "the columns score_rejected, rejected_length_chars, margin"
    )
    assert found["scorers"]["clusters"]["needs"] == "the column embedding"
    assert found["scorers"]["length"]["needs"] == "nothing"
    budget = "one of rows, fraction, tokens"
    assert found["selectors"]["bees"]["needs"] == f"the column margin, {budget}"
    assert found["selectors"]["deita_filter"]["needs"] == (
        f"a score (by), the column embedding, {budget}"
    )
    agreement = found["selectors"]["judge_agreement"]["needs"]
    assert agreement == "the columns judge_pairwise_winner, judge_pairwise_consistent"
    table = called("methods", "--table").output.splitlines()
    assert len(table) == 2 + sum(map(len, found.values()))
    assert called("methods").output.count("\n  deita ") == 1


def test_one_method_is_shown_in_full_and_a_recipe_can_be_edited() -> None:
    both = called("methods", "label_noise").output
    assert "label_noise (scorer): " in both
    assert "label_noise (selector): " in both
    text = called("methods", "deita", "--recipe").output
    assert text.rstrip() == PRESETS.text("deita")
    assert "  leaves out: " in called("methods", "deita").output
    assert "did you mean deita" in str(called("methods", "dieta").exception)
    with pytest.raises(UsageError, match="methods deita --recipe"):
        raise called("methods", "--recipe").exception


def test_a_new_component_is_listed_from_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "made_up.py"
    file.write_text(
        '"""Made up: a score of pairs."""\n'
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        '__all__ = ["MadeUp"]\n@dataclass(frozen=True)\nclass MadeUp:\n'
        '    """As in Doe 2024, arXiv:2401.00001.\n\n    Not for long\n    answers.\n\n'
        '    Options:\n        near: Never mind.\n    """\n'
        "    judge: str\n    near: float = 1.0\n    in_flight: int = 1\n"
        '    content: ClassVar = ("prompt", "chosen", "rejected")\n'
    )
    package = __import__("siftune.curate.scorers", fromlist=["scorers"])
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    registry.names.cache_clear()
    try:
        assert listing.component_facts("curate.scorers", "made_up") == {
            "does": "Made up: a score of pairs.",
            "paper": "arXiv:2401.00001",
            "data": "preference pairs",
            "needs": "a judge",
            "cost": "calls of a judge for every row",
            "not for": "long answers.",
        }
    finally:
        registry.names.cache_clear()
