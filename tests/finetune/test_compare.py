"""Objectives side by side: the same pairs for all, nothing done twice, refusals told."""

from __future__ import annotations

import json

import polars as pl
import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.finetune.comparison.compare import Compare, table_of, with_label_numbers
from siftune.finetune.data.training_rows import chat
from tests.finetune.test_preference import rows_file


def test_objectives_are_compared_on_the_same_pairs_and_not_trained_twice(tiny_model_dir, tmp_path):
    rows, out = rows_file(tmp_path, 12), tmp_path / "compared"
    options = {"seeds": (0,), "lr": 1e-3, "answers": 2, "max_new_tokens": 4}
    losses = ("dpo", "simpo", "rpo_reward_aware")
    compare = Compare(str(tiny_model_dir), losses, **options)
    first = compare(rows, out)
    ids = [
        sorted(json.loads(line)["id"] for line in path.read_text().splitlines())
        for path in sorted(out.glob("*-0/evaluation/step-000000.jsonl"))
    ]
    assert len(ids) == 2
    assert ids[0] == ids[1]
    assert first["means"]["dpo"]["eval_ratio_correct"] == first["means"]["dpo"]["eval_accuracy"]
    assert first["means"]["simpo"]["eval_kl_chosen"] > 0
    assert first["means"]["dpo"]["answers_tokens"] <= 4
    assert "score_chosen" in first["means"]["rpo_reward_aware"]["refused"]
    assert not (out / "dpo-0/model.safetensors").exists()

    written = (out / "dpo-0/siftune.json").stat().st_mtime_ns
    assert compare(rows, out) == first
    assert json.loads((out / "compare.json").read_text())["means"] == first["means"]
    assert (out / "dpo-0/siftune.json").stat().st_mtime_ns == written
    lines = table_of(first).splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("rpo_reward_aware: ")

    with pytest.raises(UsageError, match="other pairs"):
        compare(rows_file(tmp_path, 10), out)


def test_objectives_on_answers_and_on_lists_stand_beside_those_on_pairs(tiny_model_dir, tmp_path):
    rows, out = rows_file(tmp_path, 12), tmp_path / "compared"
    options = {"seeds": (0,), "lr": 1e-3, "answers": 2, "max_new_tokens": 4, "batch_size": 4}
    losses = ("dpo", "kto", "plackett_luce", "dro_v")
    compare = Compare(str(tiny_model_dir), losses, **options)
    first = compare(rows, out)
    means = first["means"]
    done = [run["metrics"] for run in first["runs"] if "metrics" in run]
    assert len(done) == 3
    for name in ("steps", "eval_pairs"):  # a pair is a pair, in one row, two or a list
        assert len({metrics[name] for metrics in done}) == 1
    assert means["kto"]["eval_drift_chosen"] != 0
    # a list of two under Plackett and Luce is a pair under Bradley and Terry
    for name in ("eval_accuracy", "eval_drift_chosen", "eval_kl_rejected", "answers_tokens"):
        assert means["plackett_luce"][name] == pytest.approx(means["dpo"][name], abs=1e-4)
    assert "dro_v: " in table_of(first)  # the pairs have no rewards
    assert compare(rows, out) == first


def test_quark_is_judged_behind_its_best_token_and_its_reference_without(tiny_model_dir, tmp_path):
    """The log-ratios of one held-out pair after another, worked out by plain forward passes."""
    from siftune.finetune.models.loading import load_causal, load_tokenizer
    from siftune.finetune.training.reward_tokens import with_embeddings

    rows = rows_file(tmp_path, 10, score_chosen=1.0, score_rejected=0.0)
    out = tmp_path / "compared"
    options = {"seeds": (0,), "lr": 1e-2, "epochs": 3, "answers": 2, "max_new_tokens": 4}
    compare = Compare(str(tiny_model_dir), ("dpo", "quark"), keep_models=True, **options)
    means = compare(rows, out)["means"]
    assert means["quark"]["runs"] == means["dpo"]["runs"] == 1
    assert 0 < means["quark"]["answers_tokens"] <= 4
    assert means["quark"]["eval_kl_chosen"] > 0

    policy, tokenizer = load_causal(out / "quark-0"), load_tokenizer(out / "quark-0")
    best = tokenizer.convert_tokens_to_ids("<|reward_0|>")
    reference = load_causal(tiny_model_dir)
    with_embeddings(reference, range(best, best + 5))
    plain = load_tokenizer(tiny_model_dir)

    def logp(model, prompt, answer):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        at = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        return sum(float(logits[i, t]) for i, t in zip(at, answer, strict=True))

    drifts = {"chosen": [], "rejected": []}
    for row in pl.read_parquet(out / "held_out.parquet").rows(named=True):
        prompt = plain.apply_chat_template(
            chat(row["prompt"]), add_generation_prompt=True, return_dict=False
        )
        for side, found in drifts.items():
            text = row[side][0]["content"] + plain.eos_token
            answer = plain(text, add_special_tokens=False)["input_ids"]
            found.append(logp(policy, [best, *prompt], answer) - logp(reference, prompt, answer))
    for side, found in drifts.items():
        assert means["quark"][f"eval_drift_{side}"] == pytest.approx(
            sum(found) / len(found), abs=1e-3
        )
    margins = [one - two for one, two in zip(*drifts.values(), strict=True)]
    assert means["quark"]["eval_accuracy"] == sum(one > 0 for one in margins) / len(margins)


def test_labels_stand_for_the_numbers_that_objectives_read(tiny_model_dir, tmp_path):
    rows, out = rows_file(tmp_path, 12), tmp_path / "compared"
    numbers = {"seeds": (0,), "lr": 1e-3, "answers": 0, "batch_size": 4}
    losses = ("rpo_reward_aware", "sppo_soft", "weighted_sft", "xpo")
    compare = Compare(str(tiny_model_dir), losses, labels_as_numbers=True, **numbers)
    means = compare(rows, out)["means"]
    assert {name: one["runs"] for name, one in means.items()} == dict.fromkeys(losses, 1)
    table = pl.read_parquet(out / "train.parquet")
    for name in ("score", "weight"):
        assert set(table[f"{name}_chosen"]) == {1.0}
        assert set(table[f"{name}_rejected"]) == {0.0}
    assert set(table["by_reference_chosen"]) == {0.0}
    assert set(table["win_probability"]) == {1.0}


def test_a_number_that_came_with_the_pairs_is_not_covered_by_a_label():
    table = pl.DataFrame({"win_probability": [None], "extra": ['{"win_probability": 0.75}']})
    found = with_label_numbers(table, ("sppo_soft",))
    assert found["win_probability"].to_list() == [None]  # and so it is read from there


def test_a_number_that_the_pairs_have_is_left_as_it_is():
    table = pl.DataFrame({"score_chosen": [3.0, 2.0]})
    found = with_label_numbers(table, ("rpo_reward_aware", "dpo"))
    assert found.to_dict(as_series=False) == {
        "score_chosen": [3.0, 2.0], "score_rejected": [0.0, 0.0]
    }  # fmt: skip


def test_a_comparison_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one of each"):
        Compare("model", losses=())
    with pytest.raises(UsageError, match="did you mean dpo"):
        Compare("model", losses=("dpoo",))
    with pytest.raises(ValueError, match="not among the losses"):
        Compare("model", losses=("dpo",), loss_options={"ipo": {"beta": 1}})
