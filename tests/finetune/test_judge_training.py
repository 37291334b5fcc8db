"""`siftune finetune judge`: what it learns, how it is calibrated, and how it is served."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.judge_calls.engine import Judge as Engine
from siftune.curate.judge_calls.spec import judge_backend, named_judge
from siftune.curate.judge_calls.trained import trained_judge
from siftune.curate.judge_calls.types import Answer, Item
from siftune.curate.judge_tasks.classifier_score import ClassifierScore
from siftune.curate.judges.classifier import Classifier
from siftune.curate.judging.judge_stage import judge_stage
from siftune.finetune.cli import finetune
from siftune.finetune.judge_training import con_j
from siftune.finetune.judge_training.judge import Judge
from siftune.finetune.judge_training.judged import judge_of_pairs, judge_of_rows
from siftune.finetune.judge_training.labels import LABEL, read_labels
from siftune.finetune.runs.stop_signals import StopAtSignal
from siftune.finetune.tools.init import Init

WORDS = ["red", "blue", "green", "black", "white", "grey", "pink", "brown"]
FAST: dict[str, Any] = {"lr": 1e-2, "batch_size": 8}


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(rows: int = 100, noise: float = 0.1) -> list[dict[str, Any]]:
    """The answer that greets is the better one, but for some labels."""
    source, found = random.Random(0), []
    for at in range(rows):
        sides = [f"hello {WORDS[at % 8]}", f"the cat {WORDS[at % 8]}"]
        if source.random() < noise:
            sides.reverse()
        found.append({"prompt": f"Say {at}.", "chosen": sides[0], "rejected": sides[1]})
    return found


def rated(rows: int = 100) -> list[dict[str, Any]]:
    """The stars are the greetings in an answer of five words."""
    source, found = random.Random(0), []
    for at in range(rows):
        stars = source.randrange(1, 6)
        words = ["hello"] * stars + ["cat"] * (5 - stars)
        good = {"good": stars > 2, "verdict": "good" if stars > 2 else "bad"}
        found.append({"prompt": f"Ask {at}?", "response": " ".join(words), "stars": stars, **good})
    return found


def served(folder: Path, rows: Sequence[Item]) -> list[Mapping[str, Any]]:
    engine = Engine(judge_backend(str(folder)), ClassifierScore())
    return [verdict.values or {} for verdict in engine.verdicts(rows)]


def last_step(folder: Path) -> list[dict[str, Any]]:
    path = max((folder / "evaluation").glob("step-*.jsonl"))
    return [json.loads(line) for line in path.read_text().splitlines()]


def figures(folder: Path) -> Any:
    return json.loads((folder / "judge.json").read_text())["facts"]["figures"]


@pytest.fixture(scope="module")
def made(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A judge of pairs, moved after it was trained, and what the command printed."""
    folder = tmp_path_factory.mktemp("judges")
    rows = written(folder / "pairs.jsonl", pairs(120))
    words = ["judge", str(rows), "--model", str(tiny_model_dir), "--out", str(folder / "made")]
    words += ["--lr", "0.01", "--batch-size", "8", "--epochs", "2", "--held-out", "0.5"]
    done = CliRunner().invoke(finetune, words, catch_exceptions=False)
    shutil.move(folder / "made", folder / "moved")
    return folder / "moved", done.output


@pytest.fixture
def of_pairs(made: tuple[Path, str]) -> Path:
    return made[0]


def test_the_figures_are_printed_with_their_intervals(made: tuple[Path, str]) -> None:
    assert "on 60 held-out rows of 60 prompts, with 95 % intervals:" in made[1]
    found = figures(made[0])["accuracy"]
    line = f"{found['value']:.3f} ({found['low']:.3f} … {found['high']:.3f})"
    assert re.search(rf"accuracy +{re.escape(line)}", made[1])
    assert "siftune curate judge ROWS --judge" in made[1]


def test_a_planted_preference_is_learned_and_calibrated(of_pairs: Path) -> None:
    found = figures(of_pairs)
    assert found["accuracy"]["value"] > 0.9
    assert found["calibration_error"]["value"] < found["calibration_error_before"]["value"]
    facts = json.loads((of_pairs / "siftune.json").read_text())
    assert (facts["stage"], facts["method"]) == ("judge", "classifier")
    assert facts["command"].startswith("siftune finetune judge ")
    assert facts["metrics"]["judge_accuracy"] == found["accuracy"]["value"]
    assert facts["metrics"]["judge_accuracy_low"] == found["accuracy"]["low"]
    assert "judge.json" in facts["files"]


def test_the_folder_serves_the_calibrated_preferences_of_the_training(of_pairs: Path) -> None:
    rows = {f"pairs:{at}": row for at, row in enumerate(pairs(120), 1)}
    held = last_step(of_pairs)
    items = [
        Item(
            (("user", rows[one["id"]]["prompt"]),),
            (rows[one["id"]]["chosen"], rows[one["id"]]["rejected"]),
        )
        for one in held
    ]
    judge = trained_judge(of_pairs)
    assert judge is not None
    slope = judge.scale.calibrator.slope
    gaps = np.array([one["reward_chosen"] - one["reward_rejected"] for one in held])
    expected = 1 / (1 + np.exp(-slope * gaps))
    values = served(of_pairs, items)
    assert [one["preference"] for one in values] == pytest.approx(expected.tolist(), abs=1e-5)
    assert slope != 1.0


def test_the_calibration_is_part_of_what_the_cache_takes_for_the_judge(
    of_pairs: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(of_pairs, tmp_path / "other")
    assert Classifier(str(other)).identity == Classifier(str(of_pairs)).identity
    facts = json.loads((other / "judge.json").read_text())
    facts["calibrator"]["slope"] *= 2
    (other / "judge.json").write_text(json.dumps(facts))
    assert Classifier(str(other)).identity != Classifier(str(of_pairs)).identity


def test_a_file_of_another_model_is_refused(of_pairs: Path, tmp_path: Path) -> None:
    other = shutil.copytree(of_pairs, tmp_path / "other")
    facts = json.loads((other / "judge.json").read_text())
    (other / "judge.json").write_text(json.dumps({**facts, "classes": [1, 2, 3]}))
    with pytest.raises(UsageError, match="of a model of 3 outputs, this one has 1"):
        served(other, [Item((("user", "q"),), ("a",))])


def test_ratings_as_classes_are_served_as_their_mean(tiny_model_dir: Path, tmp_path: Path) -> None:
    rows = written(tmp_path / "rated.jsonl", rated(60))
    out = tmp_path / "judge"
    Judge(
        str(tiny_model_dir),
        **FAST,
        label="stars",
        ratings="classes",
        epochs=4,
        held_out=0.4,
        lora=4,
    )(rows, out)
    assert figures(out)["spearman"]["value"] > 0.8
    held, judge = last_step(out), trained_judge(out)
    assert judge is not None
    assert judge.classes == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert (judge.scale.low, judge.scale.high, judge.scale.calibrator.method) == (1, 5, "linear")
    raw = {f"rated:{at}": row for at, row in enumerate(rated(60), 1)}
    items = [
        Item((("user", raw[one["id"]]["prompt"]),), (raw[one["id"]]["response"],)) for one in held
    ]
    told = judge.scale([one["raw"] for one in held])
    assert [one["score"] for one in served(out, items)] == pytest.approx(told.tolist(), abs=1e-4)
    assert {one["label"] for one in held} <= {0.0, 0.25, 0.5, 0.75, 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "figure"),
    [
        ({"label": "stars"}, "spearman"),
        ({"label": "stars", "calibration": "isotonic"}, "spearman"),
        ({"label": "good"}, "accuracy"),
        ({"label": "verdict", "positive": "good", "micro_tokens": 40}, "accuracy"),
    ],
)
def test_ratings_and_labels_of_yes_and_no_are_learned(
    options: dict[str, Any], figure: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    rows = written(tmp_path / "rated.jsonl", rated(120))
    out = tmp_path / "judge"
    Judge(str(tiny_model_dir), **FAST, epochs=5, held_out=0.4, **options)(rows, out)
    assert figures(out)[figure]["value"] > 0.9
    item = Item((("user", "Ask 7?"),), ("hello hello hello hello hello",))
    poor = Item((("user", "Ask 7?"),), ("hello cat cat cat cat",))
    high, low = (one["score"] for one in served(out, [item, poor]))
    top = 5 if figure == "spearman" else 1
    assert high - low > 0.6 * top
    assert high <= top


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"label": "stars", "ratings": "classes"}])
def test_a_training_that_a_signal_stops_goes_on_to_the_same_bytes(
    options: dict[str, Any], tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = written(tmp_path / "rows.jsonl", rated(60) if options else pairs(60))
    judge = Judge(str(tiny_model_dir), **FAST, held_out=0.4, save_every=2, **options)
    judge(rows, tmp_path / "whole" / "judge")

    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StopAtSignal, "on_step_begin", on_step_begin)
        with pytest.raises(KeyboardInterrupt):
            judge(rows, tmp_path / "cut" / "judge")
    judge(rows, tmp_path / "cut" / "judge")
    whole, cut = tmp_path / "whole" / "judge", tmp_path / "cut" / "judge"
    for path in ("judge.json", "model.safetensors", "siftune.json"):
        assert (whole / path).read_bytes() == (cut / path).read_bytes()


def test_ranked_lists_are_all_pairs_whose_scores_differ(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "completions": ["a", "b", "c"], "scores": [2, 3, 2]}]
    found = read_labels(written(tmp_path / "ranked.jsonl", rows), None, None)
    assert found.table["id"].to_list() == ["ranked:1#2-1", "ranked:1#2-3"]
    sides = [
        found.table[side].list.first().struct.field("content").to_list()
        for side in ("chosen", "rejected")
    ]
    assert sides == [["b", "b"], ["a", "c"]]


def test_a_label_of_pairs_puts_the_better_answer_first(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"q{at}", "chosen": "a", "rejected": "b", "winner": winner}
        for at, winner in enumerate(["first", "second", "tie", None, 0.2])
    ]
    found = read_labels(written(tmp_path / "pairs.jsonl", rows), "winner", None)
    chosen = found.table["chosen"].list.first().struct.field("content").to_list()
    assert (chosen, found.left_out) == (["a", "b", "b"], 2)


def test_labels_are_from_0_to_1_in_their_range(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"q{at}", "response": "a", "stars": stars}
        for at, stars in enumerate([2, 5, 3, None])
    ]
    found = read_labels(written(tmp_path / "rated.jsonl", rows), "stars", None)
    assert found.table[LABEL].to_list() == pytest.approx([0, 1, 1 / 3])
    assert (found.kind, found.low, found.high, found.left_out) == ("rating", 2, 5, 1)
    assert found.values == (2, 3, 5)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (rated(40), {"label": "star"}, "no column or field 'star'; did you mean stars"),
        (rated(40), {}, "--label COLUMN"),
        (rated(40), {"label": "response"}, "no column or field 'response'"),
        (rated(40), {"label": "verdict"}, "verdict is '.*': expected a number, or true or false"),
        (rated(40), {"label": "stars", "kind": "con_j"}, "con_j compares two answers"),
        (rated(40), {"label": "stars", "calibration": "platt"}, "ratings are fitted with linear"),
        (pairs(40), {"calibration": "isotonic"}, "pairs are fitted with platt"),
        (pairs(40), {}, "40 labelled rows, of which 8 of 8 prompts are held out"),
        ([{**row, "stars": 3} for row in rated(40)], {"label": "stars"}, "all labels are 3"),
        ([{**row, "stars": None} for row in rated(40)], {"label": "stars"}, "no row has a label"),
        (
            [{**row, "stars": at} for at, row in enumerate(rated(40))],
            {"label": "stars", "ratings": "classes"},
            "40 different ratings, at most 20",
        ),
    ],
)
def test_rows_that_no_judge_can_learn_from_are_refused(
    rows: Any, options: dict[str, Any], message: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises((DataError, UsageError), match=message) as refused:
        Judge(str(tiny_model_dir), **options)(written(tmp_path / "r.jsonl", rows), tmp_path / "j")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--held-out", "0"], "held_out: expected above 0"),
        (["--kind", "con_j", "--freeze", "1"], "freeze: it is of a classifier"),
        (["--task-options", "samples=2"], "task_options: they are of kind con_j"),
        (["--lora", "4", "--freeze", "1"], "freeze: with lora all layers"),
        (["--kind", "con_j", "--task-options", "sample=2"], "did you mean samples"),
    ],
)
def test_options_against_each_other_are_refused(
    words: list[str], message: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    rows = written(tmp_path / "pairs.jsonl", pairs(40))
    given = ["judge", str(rows), "--model", str(tiny_model_dir), "--out", str(tmp_path / "j")]
    result = CliRunner().invoke(finetune, [*given, *words])
    assert isinstance(result.exception, SystemExit | UsageError | ValueError)
    assert message in f"{result.exception} {result.output}".replace("\n", " ")


def test_a_folder_is_the_judge_that_a_file_in_it_names(
    of_pairs: Path, tiny_model_dir: Path, tiny_reward_dir: Path, tmp_path: Path
) -> None:
    assert named_judge(str(of_pairs)) == ("classifier", {"model": str(of_pairs)})
    assert named_judge(str(tiny_model_dir))[0] == "local_model"
    with pytest.raises(UsageError, match=r"a reward model or classifier.*name it classifier:"):
        named_judge(str(tiny_reward_dir))
    (tmp_path / "head.json").write_text("{}")
    assert named_judge(str(tmp_path))[0] == "fitted"
    assert judge_stage("preference", str(tmp_path))[1]["task"] == "classifier_score"
    assert judge_stage("conversation", str(of_pairs))[1]["task"] == "classifier_score"
    assert judge_stage("preference", str(of_pairs))[0] == "judge_pairwise"
    with pytest.raises(UsageError, match="answers no question: take the task classifier_score"):
        judge_stage("conversation", str(of_pairs), "deita_quality")


def test_a_judge_without_a_calibration_gives_what_it_was_trained_for() -> None:
    few = judge_of_pairs(np.array([1.0, 2.0]), ["a", "b"])
    assert few.why_not is not None
    assert few.scale(0.5) == 0.5
    same = judge_of_rows("rating", np.full(9, 0.5), np.linspace(0, 1, 9), range(9), "linear", 1, 5)
    assert same.why_not == "the judge gave every row the same score"
    assert same.scale(0.25) == 2.0
    lost = judge_of_pairs(np.full(30, np.nan), range(30))
    assert (lost.rows, lost.without) == (0, 30)
    assert lost.figures["accuracy"]["value"] is None


def test_a_judge_worse_than_chance_is_not_reversed() -> None:
    """Its accuracy is its own, and its scores stay as they are, of whatever it was trained on."""
    raw = np.where(np.arange(60) % 15 < 4, 1.0, -1.0) * np.linspace(0.5, 2, 60)  # 16 of 60 right
    found = judge_of_pairs(raw, range(60))
    assert found.figures["accuracy"]["value"] == pytest.approx(16 / 60)
    assert found.scale(raw).tolist() == raw.tolist()
    assert "no better than chance on held-out rows (slope -" in (found.why_not or "")
    labels = (raw < 0).astype(float)
    of_rows = judge_of_rows("binary", raw, labels, range(60), "platt", 0, 1)
    assert of_rows.figures["accuracy"]["value"] == 0
    assert np.all(np.diff(of_rows.scale(np.sort(raw))) > 0)
    flat = judge_of_rows("binary", raw, labels, range(60), "isotonic", 0, 1)
    assert "one probability for all scores" in (flat.why_not or "")
    rated = judge_of_rows("rating", (raw + 2) / 4, labels, range(60), "linear", 1, 5)
    assert rated.scale(0.25) == 2.0


def test_accuracy_near_chance_is_that_of_the_raw_scores() -> None:
    """Folds of few rows may have curves that fall, whose probabilities are reversed."""
    raw = np.where(np.arange(40) % 20 < 11, 1.0, -1.0)
    found = judge_of_pairs(raw, range(40))
    assert found.why_not is None
    assert found.figures["accuracy"]["value"] == 22 / 40


class Writer:
    """Prefers the answer that greets; with a hint it writes reasons alone."""

    identity = "writer"

    def answer(self, questions: Any) -> list[Answer]:
        return [Answer(self.text(one), input_tokens=1, output_tokens=1) for one in questions]

    def text(self, question: Any) -> str:
        asked = question.messages[-1][1]
        if "the better one" in asked:
            return "It is short."
        first = asked.index("hello") < asked.index("cat")
        return f"One of them greets.\nVerdict: {'A' if first else 'B'}"


@pytest.mark.slow
def test_judgements_are_learned_and_the_verdicts_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(con_j, "build", lambda *_: Writer())
    text = tmp_path / "text.txt"
    text.write_text("Say hello to the cat.\n\nOne of them greets. It is short.")
    Init(vocab_size=320, hidden=32, layers=1, heads=2, context=4096, steps=0)(text, Path("lm"))
    rows = written(tmp_path / "pairs.jsonl", pairs(80, noise=0.2))
    judge = Judge("lm", kind="con_j", lr=1e-3, held_out=0.7, task_options={"max_tokens": 60})
    judge(rows, tmp_path / "judge")
    found = trained_judge(tmp_path / "judge")
    assert found is not None
    assert (found.backend, found.task) == ("local_model", "contrastive")
    accuracy = found.facts["figures"]["accuracy"]["value"]
    assert 0.7 < accuracy < 0.95  # that of the labels
    slope = found.task_options["calibration"]  # a unanimous verdict is as probable as it is right
    assert 1 / (1 + np.exp(-slope)) == pytest.approx(accuracy, abs=0.02)
    told = found.facts["judgements"]
    assert told["right"] + told["wrong"] == 2 * 24
    assert told["hinted"] == 2 * 24  # each order lacks one of the two
    assert named_judge(str(tmp_path / "judge"))[0] == "local_model"
