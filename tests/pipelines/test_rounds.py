"""Steps that make rows, and rounds of steps, in a pipeline's recipe."""

import json
from pathlib import Path

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import NoProgress
from siftune.pipelines.recipe import load
from siftune.pipelines.row_steps.curate import Curate
from siftune.pipelines.run import run

ROUNDS = """
base: {base}
rows: {{source: rows.jsonl}}
train:
  - sft: {{batch_size: 6, max_length: 64, epochs: 40, lr: 2.0e-2}}
  - repeat:
      rounds: 2
      steps:
        - sample:
            {{label: answers, reward: length, reward_options: {{target: 3}}, max_new_tokens: 8}}
        - curate:
            label: chosen
            data: answers
            stages: [{{select: random, rows: 3}}]
        - spo: {{label: m, data: chosen, batch_size: 2, max_length: 64}}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"say {word}", "output": word} for word in "abcdef"]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def to_file(text: str) -> Path:
        Path("recipe.yaml").write_text(text, encoding="utf-8")
        return Path("recipe.yaml")

    return to_file


def test_each_round_starts_from_the_last_one_and_reads_what_it_made(write):
    steps = load(write(ROUNDS.format(base="some/model"))).train
    assert [(step.label, step.start, step.data, step.round) for step in steps] == [
        ("sft", "base", "rows", 0),
        ("answers-1", "sft", "rows", 1),
        ("chosen-1", "sft", "answers-1", 1),
        ("m-1", "sft", "chosen-1", 1),
        ("answers-2", "m-1", "rows", 2),
        ("chosen-2", "m-1", "answers-2", 2),
        ("m-2", "m-1", "chosen-2", 2),
    ]


def test_a_name_stands_for_the_latest_step_of_that_name(write):
    text = (
        ROUNDS.format(base="b")
        + """
  - reward: {label: reward, data: chosen}
  - ppo: {start: m, ref_model: "step:sft"}
"""
    )
    steps = load(write(text)).train
    reward, ppo = steps[-2:]
    assert (reward.data, ppo.start, ppo.reward) == ("chosen-2", "m-2", "reward")
    assert ppo.options["ref_model"] == "step:sft"
    named = load(write(ROUNDS.format(base="b").replace("reward: length", "reward: step:latest")))
    assert [s.options["reward"] for s in named.train if s.name == "answers"] == [
        "step:sft",
        "step:m-1",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rounds: 2", "rounds: 0", "rounds: expected a whole number from 1 to 100, got 0"),
        ("rounds: 2", "round: 2", "unknown key 'round'; did you mean rounds?"),
        ("data: answers", "data: answer", "no rows are called 'answer'; did you mean answers?"),
        ("label: m,", "label: latest,", "'latest' is the model that was trained last"),
        ("label: m,", "label: sft,", None),
        ("reward: length", "reward: step:dpo", "no model 'dpo' yet; there are base, sft, latest"),
        ("label: chosen", "label: answers", "a second rows called 'answers-1'"),
        ("rounds: 2", "rounds: 2\n      stop: {lenght: 2}", "did you mean length"),
        ("rounds: 2", "rounds: 2\n      stop: {length: 0}", "expected a number above 0 or null"),
        ("data: chosen", "data: heldout-prompts", "held-out rows, which no training sees"),
        ("data: answers", "data: heldout-prompts", "held-out rows, which no training sees"),
        ("- spo: ", "- repeat: ", "a repeat cannot be inside another"),
    ],
)
def test_mistakes_in_rounds_are_named(write, old: str, new: str, said: str | None):
    path = write(ROUNDS.format(base="some/model").replace(old, new))
    if said is None:  # the label of a round has its number
        assert [step.label for step in load(path).train][-1] == "sft-2"
        return
    with pytest.raises(UsageError, match="repeat") as caught:
        load(path)
    assert said in str(caught.value)


def test_rounds_run_and_what_is_made_is_made_once(write, tiny_model_dir, tmp_path):
    path = write(ROUNDS.format(base=tiny_model_dir))
    manifest = run(load(path), tmp_path / "out")
    assert [model["label"] for model in manifest["models"]] == ["base", "sft", "m-1", "m-2"][1:]
    made = {one["label"]: one for one in manifest["made"]}
    assert list(made) == ["answers-1", "chosen-1", "answers-2", "chosen-2"]
    hashes = {model["label"]: model["hash"] for model in manifest["models"]}
    assert made["answers-1"]["inputs"]["models"] == {"sft": hashes["sft"]}
    assert made["answers-2"]["inputs"]["models"] == {"m-1": hashes["m-1"]}
    kept = pl.read_parquet(tmp_path / "out" / made["chosen-2"]["path"] / "kept.parquet")
    assert kept.height == made["chosen-2"]["rows"] == 3

    lines: list[str] = []
    again = run(load(path), tmp_path / "out", say=lines.append)
    assert again == manifest
    assert all("done before" in line for line in lines if not line.startswith("rows:"))


def test_rows_that_a_step_does_not_take_are_refused_before_anything_runs(
    write, tiny_model_dir, tmp_path
):
    text = ROUNDS.format(base=tiny_model_dir)
    for old, new, said in (
        ("spo:", "dpo:", "`chosen-1` has ranked rows"),
        ("reward_options: {target: 3}", "reward_options: {}", "length needs the option 'target'"),
        ("reward: length", "reward: nowhere", "nowhere"),
        ("reward: length", "reward: {length: 1}", "reward_options: they are of one reward"),
        ("select: random", "select: randon", "did you mean random"),
    ):
        assert old in text
        with pytest.raises(UsageError, match=said):
            run(load(write(text.replace(old, new))), tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_drift_beyond_its_limit_ends_the_rounds(monkeypatch, write, tiny_model_dir, tmp_path):
    figures = iter([10.0, 30.0, 50.0])

    def judged(self, rows, out):
        made = curate(self, rows, out)
        value = next(figures)
        length = {"value": value, "low": value - 1, "high": value + 1, "rows": 9, "prompts": 9}
        (out / "judging.json").write_text(json.dumps({"figures": {"length": length}}))
        return made

    curate = Curate.__call__
    monkeypatch.setattr(Curate, "__call__", judged)
    text = ROUNDS.format(base=tiny_model_dir).replace("rounds: 2", "rounds: 3")
    more = "  - spo: {label: last, start: m, data: chosen, batch_size: 2, max_length: 64}\n"
    lines: list[str] = []

    class Told(NoProgress):
        def __call__(self, line: str) -> None:
            lines.append(line)

    manifest = run(load(write(text + more)), tmp_path / "out", say=Told())
    assert [one["label"] for one in manifest["models"]] == ["sft", "m-1", "last"]
    assert [one["label"] for one in manifest["made"]][-1] == "chosen-2"
    (stopped,) = manifest["rounds"]["stopped"]
    assert (stopped["loop"], stopped["round"], stopped["label"]) == (1, 2, "chosen-2")
    assert "answers grew to 3.000 (" in stopped["reasons"][0]
    assert any(line.startswith("chosen-2: the rounds end here") for line in lines)
    last, first = (one for one in reversed(manifest["models"][1:]))
    assert last["inputs"]["start"] == first["hash"]

    free = load(write(text.replace("rounds: 3", "rounds: 3\n      stop: null")))
    figures = iter([10.0, 30.0, 50.0])
    manifest = run(free, tmp_path / "free")
    assert [one["label"] for one in manifest["models"]] == ["sft", "m-1", "m-2", "m-3"]
    changes = [one["changes"]["length"]["value"] for one in manifest["rounds"]["measured"][1:]]
    assert changes == pytest.approx([3.0, 5.0])
    assert manifest["rounds"]["stopped"] == []
