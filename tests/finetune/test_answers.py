"""Training on labelled and on ranked answers: first losses, splits, refusals."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest
from safetensors.torch import load_file

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn
from siftune.finetune.data.answer_rows import AnswerRow, with_mismatched
from siftune.finetune.trainers.preference import Preference

WORDS = ["cat", "sat", "mat", "sea", "capital", "Paris", "two", "king", "hello", "blue", "red"]


def base(row, kind):
    return {
        "id": f"made:{row}",
        "source": "made",
        "row": row,
        "kind": kind,
        "digest": f"{row:032x}",
        "extra": None,
        "prompt": [turn("user", f"Say {WORDS[row % len(WORDS)]} {row}")],
    }


def said(text):
    return [turn("assistant", text)]


def good(row):
    return said(f"The {WORDS[row % len(WORDS)]} is good" + " yes" * (row % 3))


def bad(row):
    return said(f"bad {WORDS[row % len(WORDS)]}" + " no no" * (row % 2))


def unpaired(row):
    label = row % 3 != 0
    answer = good(row) if label else bad(row)
    return {**base(row, "unpaired"), "completion": answer, "label": label}


def ranked(row, count=3):
    answers = [bad(row), good(row), said(f"so so {WORDS[row % len(WORDS)]}"), said("none")][:count]
    scores = [0.0, 2.0, 1.0, -1.0][:count]
    return {**base(row, "ranked"), "completions": answers, "scores": scores, "attributes": None}


def preference(row):
    facts = dict.fromkeys(("score_chosen", "score_rejected", "margin", "win_probability"))
    return {**base(row, "preference"), "chosen": good(row), "rejected": bad(row), **facts}


def rows_file(folder, rows):
    table = pl.DataFrame(rows, schema_of(rows[0]["kind"]))
    table.write_parquet(folder / f"{rows[0]['kind']}.parquet")
    return folder / f"{rows[0]['kind']}.parquet"


def train(model, rows, out, **options):
    fixed = {"lr": 1e-3, "batch_size": 4, "seed": 3, "held_out": 0.0, "log_every": 1}
    given = {"loss": "kto", **fixed, **options}
    result = Preference(model=str(model), **given)(rows, out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return result, [line for line in lines if "rewards/margins" in line]


@pytest.mark.parametrize("how", [{}, {"lora": 4, "lr": 2e-2}])
def test_kto_begins_at_a_half_and_learns(tiny_model_dir, tmp_path, how):
    rows = rows_file(tmp_path, [unpaired(row) for row in range(16)])
    _, lines = train(tiny_model_dir, rows, tmp_path / "out", beta=1.0, epochs=4, **how)
    assert lines[0]["loss"] == pytest.approx(0.5, abs=1e-6)  # 1 - σ(0), z being 0
    assert lines[0]["kl_estimate"] == pytest.approx(0, abs=1e-5)
    assert lines[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["loss"] < 0.4
    assert lines[-1]["rewards/chosen"] > lines[-1]["rewards/rejected"]
    assert lines[-1]["kl"] > 1e-4


def test_plackett_luce_begins_at_the_log_of_all_orders_and_learns_them(tiny_model_dir, tmp_path):
    rows = [ranked(row, count=2 + row % 3) for row in range(12)]  # lists of 2, 3 and 4
    out = tmp_path / "out"
    options = {"loss": "plackett_luce", "beta": 1.0, "epochs": 6, "batch_size": 12}
    _, lines = train(tiny_model_dir, rows_file(tmp_path, rows), out, **options)
    expected = sum(math.log(math.factorial(2 + row % 3)) for row in range(12)) / 12
    assert lines[0]["loss"] == pytest.approx(expected, abs=1e-5)
    assert lines[-1]["loss"] < expected - 0.3
    assert lines[-1]["rewards/order"] > 0.9
    assert lines[-1]["rewards/accuracies"] == 1


def test_a_ranking_of_two_trains_as_its_pair_does_under_dpo(tiny_model_dir, tmp_path):
    """Two loops, one loss: equal step for step."""
    lists = rows_file(tmp_path, [ranked(row, count=2) for row in range(8)])
    pairs = rows_file(tmp_path, [preference(row) for row in range(8)])
    options = {"beta": 0.5, "epochs": 2}
    _, ours = train(tiny_model_dir, lists, tmp_path / "a", loss="plackett_luce", **options)
    _, theirs = train(tiny_model_dir, pairs, tmp_path / "b", loss="dpo", **options)
    assert len(ours) == len(theirs) == 4
    for mine, other in zip(ours, theirs, strict=True):
        for name in ("loss", "rewards/margins", "logps/chosen", "lengths/rejected", "entropy"):
            assert mine[name] == pytest.approx(other[name], abs=1e-4)


@pytest.mark.parametrize(
    "loss", ["kto", "bco", pytest.param("plackett_luce", marks=pytest.mark.slow)]
)
def test_splitting_a_step_does_not_change_the_number(tiny_model_dir, tmp_path, loss):
    """KTO's z and BCO's shift are the step's, not the micro-batch's."""
    make = ranked if loss == "plackett_luce" else unpaired
    rows = rows_file(tmp_path, [make(row) for row in range(16)])
    runs = []
    for parts in (1, 8):
        split = {"batch_size": 8 // parts, "gradient_accumulation": parts}
        options = {"loss": loss, "beta": 2.0, "epochs": 2, "lr": 3e-3, **split}
        _, lines = train(tiny_model_dir, rows, tmp_path / f"out{parts}", **options)
        runs.append([line["loss"] for line in lines])
    assert len(runs[0]) == 4
    assert runs[1] == pytest.approx(runs[0], abs=2e-5)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("bco", {}),
        ("apo_zero_unpaired", {}),
        ("npo", {"retain_weight": 1.0}),
        ("npo_kl", {}),
        ("rrhf", {}),
        ("best_of_k", {}),
        ("d2o", {}),
    ],
)
def test_each_loss_moves_the_model(tiny_model_dir, tmp_path, loss, options):
    make = ranked if loss in ("rrhf", "best_of_k", "d2o") else unpaired
    rows = rows_file(tmp_path, [make(row) for row in range(8)])
    out = tmp_path / "out"
    given = {"loss": loss, "loss_options": options, "batch_size": 8, "epochs": 3}
    result, lines = train(tiny_model_dir, rows, out, **given)
    assert result.rows == 8
    assert lines[-1]["loss"] < lines[0]["loss"]
    before, after = (
        load_file(tiny_model_dir / "model.safetensors"),
        load_file(out / "model.safetensors"),
    )
    assert any((before[name] != after[name]).any() for name in after)
    assert json.loads((out / "siftune.json").read_text())["method"] == loss


@pytest.mark.parametrize(
    ("loss", "make", "expected"),
    [
        ("kto", ranked, "expected unpaired or preference rows, these are ranked rows"),
        ("rrhf", unpaired, "expected ranked or preference rows, these are unpaired rows"),
    ],
)
def test_rows_of_another_kind_are_refused_before_a_model_is_looked_for(
    tmp_path, loss, make, expected
):
    rows = rows_file(tmp_path, [make(row) for row in range(3)])
    with pytest.raises(UsageError, match=expected):
        Preference(model="no/such/model", loss=loss)(rows, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"loss": "ktoo"}, "did you mean kto?"),
        ({"loss": "kto", "loss_options": {"alpha": 1}}, "has no option 'alpha'"),
        ({"loss": "rrhf", "beta": 0.1}, "has no option 'beta'"),
        ({"loss": "quark", "lora": 4}, "leave lora out"),
        ({"loss": "kto", "value_lr": 0.1}, "value_lr: kto has no value head"),
        ({"loss": "npo_kl", "precompute_reference": True}, "whole distributions"),
        ({"loss": "kto", "also": {"rrhf": 1.0}}, "no such loss is called 'rrhf'"),
    ],
)
def test_a_loss_that_cannot_be_trained_is_refused_at_once(tmp_path, options, expected):
    with pytest.raises(UsageError, match=expected):
        Preference(model="no/such/model", **options)(tmp_path / "none", tmp_path / "out")


def test_lists_without_a_score_for_each_answer_are_refused_or_left_out(tiny_model_dir, tmp_path):
    rows = [ranked(row) for row in range(6)]
    rows[1]["scores"] = [1.0, 2.0]
    rows[2]["scores"] = [1.0, float("nan"), 2.0]
    rows[3]["completions"] = [good(3), said(" "), bad(3)]
    file = rows_file(tmp_path, rows)
    with pytest.raises(DataError, match=r"2 no_score .*made:1, made:2"):
        train(tiny_model_dir, file, tmp_path / "a", loss="rrhf")
    result, _ = train(tiny_model_dir, file, tmp_path / "b", loss="rrhf", on_bad="drop")
    assert result.rows == 3
    facts = json.loads((tmp_path / "b" / "siftune.json").read_text())
    assert facts["data"]["dropped"] == {"empty_completion": 1, "no_score": 2}
    for row in rows:
        row["scores"] = None
    with pytest.raises(UsageError, match="reads the column 'scores', and no row has it"):
        train(tiny_model_dir, rows_file(tmp_path, rows), tmp_path / "c", loss="rrhf")


def test_mismatched_answers_are_to_another_prompt_and_are_the_same_for_a_seed():
    rows = [AnswerRow(str(at), [at // 2], [[100 + at, 1, 2, 3]]) for at in range(8)]
    given = with_mismatched(rows, seed=5)
    assert all((row.mismatched[0] - 100) // 2 != row.prompt[0] for row in given)
    assert given == with_mismatched(rows, seed=5)
    assert given != with_mismatched(rows, seed=6)
    assert [len(row.mismatched) for row in with_mismatched(rows, seed=5, max_length=3)] == [2] * 8
    with pytest.raises(UsageError, match="at least two different prompts"):
        with_mismatched(rows[:2], seed=5)


def test_a_batch_ends_with_the_mismatched_answers_behind_the_prompts_of_their_rows():
    from siftune.finetune.data.collator import AnswerCollator

    rows = [
        AnswerRow("a", [5], [[7, 2]], True, mismatched=[9]),
        AnswerRow("b", [6], [[8]], False, mismatched=[7, 2]),
    ]
    batch = AnswerCollator(pad=0)(rows)
    assert batch["input_ids"][batch["mismatched"]].tolist() == [[5, 9, 0], [6, 7, 2]]
    assert batch["answer_mask"][batch["mismatched"]].tolist() == [[0, 1, 0], [0, 1, 1]]
    assert batch["row_of"].tolist() == [[0], [1]]
