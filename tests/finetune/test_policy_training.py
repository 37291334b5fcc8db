"""What the trainers on pairs, on answers and on lists have in common: parts, budgets, 4 bits."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from siftune.curate.core.errors import UsageError
from siftune.finetune.trainers.preference import Preference
from tests.finetune.test_answers import preference, ranked, rows_file, unpaired

MAKES = {"dpo": preference, "plackett_luce": ranked}
FEW = 40  # tokens: two or three answers


def trained(model, rows, out, loss, **options):
    given = {"lr": 3e-3, "batch_size": 8, "seed": 3, "held_out": 0.0, "log_every": 1, **options}
    Preference(model=str(model), loss=loss, **given)(rows, out)
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def made(folder, loss, count=16):
    return rows_file(folder, [MAKES.get(loss, unpaired)(row) for row in range(count)])


@pytest.mark.parametrize(
    ("loss", "how"),
    [
        ("dpo", {}),
        ("kto", {"beta": 2.0}),
        ("bco", {"beta": 2.0, "held_out": 0.25}),
        pytest.param("nll", {}, marks=pytest.mark.slow),
        pytest.param("plackett_luce", {"precompute_reference": True}, marks=pytest.mark.slow),
    ],
)
def test_a_batch_that_is_run_in_parts_trains_to_the_same_weights(
    tiny_model_dir, tmp_path, monkeypatch, loss, how
):
    """KTO's z, BCO's shift and the tokens of a mean are the step's, however a batch is cut."""
    from siftune.finetune.training.preference_loop import PreferenceTrainer

    own, backward = PreferenceTrainer.compute_loss, []

    def counted(self, model, *given, **named):
        backward.append(model.training)
        return own(self, model, *given, **named)

    monkeypatch.setattr(PreferenceTrainer, "compute_loss", counted)
    rows, runs, passes = made(tmp_path, loss), [], []
    for most in (10_000, FEW):
        backward.clear()
        how = {**how, "options": {"adam_epsilon": 1e-3}}  # not a sign of each gradient
        runs.append(
            trained(tiny_model_dir, rows, tmp_path / f"{most}", loss, micro_tokens=most, **how)
        )
        passes.append(sum(backward))
    assert passes[0] == len(runs[0]) == 2
    assert passes[1] >= 3 * passes[0]
    for whole, cut in zip(*runs, strict=True):
        assert whole.keys() == cut.keys()
        for name in whole.keys() - {"grad_norm", "epoch"}:
            assert cut[name] == pytest.approx(whole[name], abs=1e-6, rel=2e-5), name
        assert cut["loss"] == pytest.approx(whole["loss"], abs=1e-6)
    ours, theirs = (load_file(tmp_path / f"{most}/model.safetensors") for most in (10_000, FEW))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "loss", ["dro_v", *(pytest.param(loss, marks=pytest.mark.slow) for loss in ("dpo", "kto"))]
)
def test_what_splitting_a_step_changes_is_the_order_of_sums(
    tiny_model_dir, tmp_path, monkeypatch, loss
):
    """In float32 runs drift apart by some 1e-6 of the loss; in float64 by nothing to speak of."""
    from siftune.finetune.models import loading

    own = loading.load_causal
    monkeypatch.setattr(loading, "load_causal", lambda *a, **more: own(*a, **more).double())
    rows = [{**MAKES.get(loss, unpaired)(row), "extra": f'{{"reward": {row}}}'} for row in range(8)]
    file, runs = rows_file(tmp_path, rows), []
    for parts in (1, 4):
        split = {"batch_size": 4 // parts, "gradient_accumulation": parts, "epochs": 3}
        out = tmp_path / str(parts)
        lines = trained(tiny_model_dir, file, out, loss, **split)
        weights = load_file(out / "model.safetensors")
        if loss == "dro_v":
            weights |= load_file(out / "value_head.safetensors")
        runs.append(([line["grad_norm"] for line in lines], weights))
    for norms, weights in runs[1:]:
        assert norms == pytest.approx(runs[0][0], rel=1e-12)
        for name, value in weights.items():
            torch.testing.assert_close(value, runs[0][1][name], rtol=0, atol=1e-14)


@pytest.mark.parametrize("most", [1, 30, 80, 10_000])
def test_a_part_is_the_batch_of_its_rows(most):
    """Lists of one to three answers, with all that a batch can hold."""
    from siftune.finetune.data.answer_rows import AnswerRow
    from siftune.finetune.data.collator import AnswerCollator, parts_of

    rows = []
    for at in range(7):
        answers = [[at + 1] * (1 + (at + k) % 4) for k in range(1 + at % 3)]
        mismatched = [9] * (1 + at % 2)
        known = [[-float(at)] * len(each) for each in (*answers, mismatched)]
        score = {"score": [float(k) for k in range(len(answers))]}
        row = AnswerRow(str(at), [5] * (2 + at), answers, at % 2 == 0, score, mismatched, known)
        rows.append(row)
    collate = AnswerCollator(pad=0)
    parts = parts_of(collate(rows), most)
    assert (len(parts) == 1) == (most == 10_000)
    assert (len(parts) == 7) == (most == 1)
    start = 0
    for part in parts:
        own = rows[start : start + len(part["row_of"])]
        start += len(own)
        assert len(own) == 1 or sum(map(tokens_of, own)) <= most
        assert start == len(rows) or sum(map(tokens_of, rows[start - len(own) : start + 1])) > most
        expected = collate(own)
        assert part.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(part[name], value, msg=name)
    assert start == len(rows)


def tokens_of(row):
    return sum(len(row.prompt) + len(each) for each in row.sequences)


@pytest.mark.parametrize("loss", ["kto", "plackett_luce"])
def test_a_budget_counts_the_tokens_of_answers_and_draws_no_new_mismatched_ones(
    tiny_model_dir, tmp_path, monkeypatch, loss
):
    import siftune.finetune.training.policy as setup
    from siftune.finetune.data.answer_rows import with_mismatched
    from siftune.finetune.models.loading import load_tokenizer

    seen = []
    own = setup._planned

    def planned(options, rows, run):
        seen.extend(rows)
        return own(options, rows, run)

    drawn = []
    monkeypatch.setattr(setup, "_planned", planned)
    monkeypatch.setattr(
        setup, "with_mismatched", lambda *a, **b: drawn.append(a[0]) or with_mismatched(*a, **b)
    )
    rows = made(tmp_path, loss, 8)
    once = trained(tiny_model_dir, rows, tmp_path / "once", loss, batch_size=4)
    total = sum(len(answer) for row in seen for answer in row.answers)
    assert load_tokenizer(tiny_model_dir).eos_token_id == seen[0].answers[0][-1]  # it counts too
    thrice = trained(
        tiny_model_dir, rows, tmp_path / "thrice", loss, batch_size=4, max_tokens=3 * total
    )
    assert (len(once), len(thrice)) == (2, 6)
    assert [len(each) for each in drawn] == ([8, 0, 8, 0] if loss == "kto" else [])
    with pytest.raises(UsageError, match="max_tokens: 2 tokens are fewer than the first row has"):
        trained(tiny_model_dir, rows, tmp_path / "none", loss, max_tokens=2)


@pytest.mark.parametrize("loss", ["kto", "plackett_luce", "nll"])
def test_each_held_out_prompt_is_answered_once_at_checkpoints(tiny_model_dir, tmp_path, loss):
    """Pairs give two labelled answers each; their prompt is asked once."""
    rows, out = made(tmp_path, "dpo"), tmp_path / "out"
    how = {"held_out": 0.25, "eval_limit": 3, "max_new_tokens": 4, "save_every": 1}
    trained(tiny_model_dir, rows, out, loss, **how)
    asked = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted((out / "answers").iterdir())
    ]
    assert len(asked) > 1
    assert all(len({row["prompt"] for row in step}) == len(step) == 3 for step in asked)
    assert all(0 < row["tokens"] <= 4 and row["reference"] is None for row in asked[-1])
    if loss == "nll":  # which has no reference to be far from
        assert "kl_k3" not in asked[0][0]
    else:
        assert [row["kl_k3"] for row in asked[0]] == pytest.approx([0] * 3, abs=1e-6)
    facts = json.loads((out / "siftune.json").read_text())["metrics"]
    assert facts["answers_tokens"] == sum(row["tokens"] for row in asked[-1]) / 3


@pytest.mark.parametrize("loss", ["kto", "dro_v", "plackett_luce"])
def test_what_answers_teach_over_4_bits_is_merged_into_the_whole_model(
    tiny_model_dir, tmp_path, loss
):
    rows = [{**MAKES.get(loss, unpaired)(row), "extra": '{"reward": 1.0}'} for row in range(8)]
    how = {"lora": 4, "lr": 2e-2, "load_in_4bit": True, "epochs": 3, "held_out": 0.25}
    lines = trained(tiny_model_dir, rows_file(tmp_path, rows), tmp_path / "out", loss, **how)
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-7)  # policy and reference are both in 4 bits
    assert lines[-1]["kl"] > 1e-5
    assert all(math.isfinite(value) for line in lines for value in line.values())
    before = load_file(tiny_model_dir / "model.safetensors")
    after = load_file(tmp_path / "out/model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert after.keys() == before.keys()
    assert torch.linalg.matrix_rank(after[name] - before[name], atol=1e-5) == 4
    assert after["model.embed_tokens.weight"].equal(before["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lora": -1}, "lora: expected at least 0, at most 1,024, got -1"),
        ({"micro_tokens": 0}, "micro_tokens: expected at least 1"),
        ({"eval_limit": -1}, "eval_limit: expected at least 0"),
        ({"load_in_4bit": True}, "load_in_4bit: needs lora"),
        ({"max_kl": 0.1, "precompute_reference": True}, "max_kl needs the reference in memory"),
        ({"ref_sync_steps": 2, "lora": 2}, "ref_sync_steps: needs a reference of its own"),
        ({"ref_mixup_alpha": 0.0}, "ref_mixup_alpha: expected above 0"),
        ({"held_out": 1.0}, "held_out: expected at least 0, below 1, got 1"),
    ],
)
def test_options_out_of_range_or_against_each_other_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Preference(model="no/such/model", **options)
