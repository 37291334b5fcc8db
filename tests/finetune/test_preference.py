"""Training on pairs: the first loss, splitting a batch, resuming, references, refusals."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from siftune.curate.core import registry
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn
from siftune.finetune.trainers.preference import Preference

WORDS = [
    "cat",
    "sat",
    "mat",
    "looked",
    "sea",
    "capital",
    "France",
    "Paris",
    "two",
    "four",
    "king",
    "hello",
    "colour",
    "blue",
    "red",
]


def pair(row, **facts):
    word = WORDS[row % len(WORDS)]
    return {
        "id": f"made:{row}",
        "source": "made",
        "row": row,
        "kind": "preference",
        "digest": f"{row:032x}",
        "extra": None,
        "prompt": [turn("user", f"Say {word} {row}")],
        "chosen": [turn("assistant", f"The {word} is good" + " yes" * (row % 3))],
        "rejected": [turn("assistant", f"bad {word}" + " no no" * (row % 2))],
        "score_chosen": None,
        "score_rejected": None,
        "margin": None,
        "win_probability": None,
        **facts,
    }


def rows_file(folder, count=16, **facts):
    table = pl.DataFrame([pair(row, **facts) for row in range(count)], schema_of("preference"))
    table.write_parquet(folder / "kept.parquet")
    return folder / "kept.parquet"


@pytest.fixture
def rows(tmp_path):
    return rows_file(tmp_path)


def train(model, rows, out, **options):
    given = {"lr": 1e-3, "batch_size": 4, "seed": 3, "held_out": 0.0, "log_every": 1, **options}
    result = Preference(model=str(model), **given)(rows, out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return result, lines


def encoded(folder, table, **options):
    from siftune.finetune.data.answer_rows import encode_rows
    from siftune.finetune.models.loading import load_tokenizer

    return encode_rows(table, load_tokenizer(folder), **options).ids


def weights(folder):
    return load_file(folder / "model.safetensors")


IN_4BIT = {"lora": 4, "lr": 2e-2, "load_in_4bit": True}


@pytest.mark.parametrize("how", [{}, {"lora": 4, "lr": 2e-2}, {"precompute_reference": True}])
def test_dpo_begins_at_ln_2_and_learns(tiny_model_dir, rows, tmp_path, how):
    cache = str(tmp_path / "cache")
    _, lines = train(tiny_model_dir, rows, tmp_path / "out", epochs=4, cache=cache, **how)
    first, last = lines[0], lines[-1]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)
    assert first["drift/chosen"] == pytest.approx(0, abs=1e-5)
    assert last["loss"] < 0.6
    assert last["rewards/accuracies"] == 1
    if "precompute_reference" not in how:
        assert first["kl"] == pytest.approx(0, abs=1e-7)
        assert last["kl"] > 1e-4


def test_the_first_line_of_metrics_is_right_by_another_way(tiny_model_dir, rows, tmp_path):
    """Log-probs and lengths of the whole data by a plain forward pass, one answer at a time."""
    from siftune.finetune.data.training_rows import chat
    from siftune.finetune.models.loading import load_causal, load_tokenizer

    _, lines = train(tiny_model_dir, rows, tmp_path / "out", batch_size=16)
    model, tokenizer = load_causal(tiny_model_dir), load_tokenizer(tiny_model_dir)
    sums, lengths, nats, means, right = {}, {}, [], {"chosen": [], "rejected": []}, []
    for side in ("chosen", "rejected"):
        sums[side], lengths[side] = [], []
        for row in pl.read_parquet(rows).rows(named=True):
            prompt = tokenizer.apply_chat_template(
                chat(row["prompt"]), add_generation_prompt=True, tokenize=False
            )
            answer = row[side][0]["content"] + tokenizer.eos_token
            ids = [
                tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer)
            ]
            with torch.no_grad():
                plain = model(torch.tensor([ids[0] + ids[1]])).logits[0]
            logits = plain.log_softmax(-1)
            at = range(len(ids[0]) - 1, len(ids[0]) + len(ids[1]) - 1)
            sums[side].append(sum(float(logits[i, t]) for i, t in zip(at, ids[1], strict=True)))
            lengths[side].append(len(ids[1]))
            nats += [float(-(logits[i].exp() * logits[i]).sum()) for i in at]
            means[side] += [float(plain[i].mean()) for i in at]
            right += [float(plain[i].argmax() == t) for i, t in zip(at, ids[1], strict=True)
                      if side == "chosen"]  # fmt: skip
    for side in ("chosen", "rejected"):
        assert lines[0][f"logps/{side}"] == pytest.approx(sum(sums[side]) / 16, abs=1e-3)
        assert lines[0][f"lengths/{side}"] == sum(lengths[side]) / 16
        mean = sum(means[side]) / len(means[side])
        assert lines[0][f"logits/{side}"] == pytest.approx(mean, abs=1e-6)
    assert lines[0]["mean_token_accuracy"] == sum(right) / len(right)
    assert lines[0]["entropy"] == pytest.approx(sum(nats) / len(nats), abs=1e-5)


def test_the_trainers_own_evaluation_leaves_the_means_of_training_alone(
    tiny_model_dir, rows, tmp_path
):
    from siftune.finetune.data.answer_rows import encode_rows
    from siftune.finetune.models.loading import load_tokenizer
    from siftune.finetune.runs.resumable_run import Run
    from siftune.finetune.training.pair_loop import PairTrainer
    from siftune.finetune.training.policy import trainer_of

    options = Preference(model=str(tiny_model_dir), batch_size=4)
    tokenizer = load_tokenizer(tiny_model_dir)
    pairs = encode_rows(pl.read_parquet(rows), tokenizer)
    given = (
        PairTrainer,
        options,
        options.objective(),
        pairs.ids,
        pairs.ids,
        tokenizer,
        Run(tmp_path / "out", ""),
    )
    trainer = trainer_of(*given)
    found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    logged = trainer.state.log_history[-1]
    assert logged["eval_rewards/margins"] == 0
    assert logged["eval_lengths/chosen"] == sum(len(pair.answers[0]) for pair in pairs.ids) / 16
    trainer.log({})
    assert "rewards/margins" not in trainer.state.log_history[-1]


def test_tokens_are_counted_over_all_steps_and_the_last_one_is_logged(
    tiny_model_dir, rows, tmp_path
):
    result, lines = train(tiny_model_dir, rows, tmp_path / "out", log_every=3, epochs=2)
    pairs = encoded(tiny_model_dir, pl.read_parquet(rows))
    assert [line["step"] for line in lines] == [3, 6, 8]
    tokens = sum(len(pair.prompt) + len(each) for pair in pairs for each in pair.answers)
    assert result.metrics["num_input_tokens_seen"] == 2 * tokens


def test_splitting_a_batch_does_not_change_the_number(tiny_model_dir, rows, tmp_path):
    runs = {
        parts: train(
            tiny_model_dir,
            rows,
            tmp_path / f"out{parts}",
            batch_size=8 // parts,
            gradient_accumulation=parts,
            epochs=2,
        )[1]
        for parts in (1, 2, 8)
    }
    for parts in (2, 8):
        assert len(runs[parts]) == len(runs[1]) == 4
        for ours, whole in zip(runs[parts], runs[1], strict=True):
            for name in ("loss", "rewards/margins", "logps/chosen", "kl", "entropy", "grad_norm"):
                assert ours[name] == pytest.approx(whole[name], abs=1e-5, rel=1e-5), name
            assert ours["loss"] == pytest.approx(whole["loss"], abs=1e-6)


def test_a_last_step_that_is_not_full_counts_its_own_pairs(tiny_model_dir, tmp_path):
    rows = rows_file(tmp_path, 11)
    whole = train(tiny_model_dir, rows, tmp_path / "whole", batch_size=8)[1]
    split = train(tiny_model_dir, rows, tmp_path / "split", batch_size=2, gradient_accumulation=4)[
        1
    ]
    assert [line["loss"] for line in split] == pytest.approx([x["loss"] for x in whole], abs=1e-6)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"ref_sync_steps": 2, "ref_mixup_alpha": 0.3},
    ],
)
def test_a_run_that_was_cut_off_ends_in_the_same_bytes(
    tiny_model_dir, rows, tmp_path, monkeypatch, how
):
    from siftune.finetune.training.preference_loop import PreferenceTrainer

    options = {"epochs": 2, "save_every": 3, **how}
    train(tiny_model_dir, rows, tmp_path / "whole", **options)

    own = PreferenceTrainer.training_step

    def cut(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return own(self, *args, **kwargs)

    monkeypatch.setattr(PreferenceTrainer, "training_step", cut)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_model_dir, rows, tmp_path / "cut", **options)
    assert not (tmp_path / "cut").exists()
    monkeypatch.undo()
    train(tiny_model_dir, rows, tmp_path / "cut", **options)
    for name in ("model.safetensors", "metrics.jsonl", "tokenizer.json", "config.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_reference_that_takes_the_whole_policy_each_step_leaves_no_margin(
    tiny_model_dir, rows, tmp_path
):
    how = {"ref_sync_steps": 1, "ref_mixup_alpha": 1.0, "epochs": 3}
    _, lines = train(tiny_model_dir, rows, tmp_path / "out", **how)
    assert [line["loss"] for line in lines] == pytest.approx([math.log(2)] * 12, abs=1e-6)
    assert [line["kl"] for line in lines] == pytest.approx([0] * 12, abs=1e-7)
    assert len({line["logps/chosen"] for line in lines}) > 4  # and yet it learns


def test_a_following_reference_is_the_mean_worked_by_hand():
    from types import SimpleNamespace

    from siftune.finetune.training.reference_sync import ReferenceSync

    policy, reference = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    follow = ReferenceSync(reference, steps=2, alpha=0.25)
    with torch.no_grad():
        reference.weight.fill_(8.0)
    seen = []
    for step, value in ((1, 100.0), (2, 4.0), (3, 100.0), (4, -1.0)):
        with torch.no_grad():
            policy.weight.fill_(value)
        follow.on_step_end(None, SimpleNamespace(global_step=step), None, model=policy)
        seen.append(reference.weight.item())
    assert seen == [8.0, 7.0, 7.0, 5.0]  # 8 × ¾ + 4 × ¼, then 7 × ¾ - 1 × ¼


def test_a_run_of_other_defaults_is_another_run(tiny_model_dir, rows, tmp_path, monkeypatch):
    from siftune.finetune.losses.pair.dpo import DPO

    train(tiny_model_dir, rows, tmp_path / "out")
    made = DPO.__init__
    monkeypatch.setattr(DPO, "__init__", lambda self, beta=0.2: made(self, beta))
    with pytest.raises(UsageError, match="made with other options"):
        train(tiny_model_dir, rows, tmp_path / "out")


def test_what_comes_out_is_a_plain_model_folder(tiny_model_dir, rows, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result, _ = train(tiny_model_dir, rows, tmp_path / "out", lora=2)
    AutoTokenizer.from_pretrained(result.model)
    model = AutoModelForCausalLM.from_pretrained(result.model)
    assert not any("lora" in name for name, _ in model.named_parameters())
    before, after = weights(tiny_model_dir), weights(result.model)
    name = "model.layers.0.mlp.up_proj.weight"
    assert after.keys() == before.keys()
    assert torch.linalg.matrix_rank(after[name] - before[name], atol=1e-6) == 2
    facts = json.loads((result.model / "siftune.json").read_text())
    assert (facts["stage"], facts["method"], facts["data"]["rows"]) == ("preference", "dpo", 16)
    assert facts["options"]["loss_options"] == {"beta": 0.1}


@pytest.mark.parametrize("how", [{"held_out": 0.25}, {"precompute_reference": True}])
def test_held_out_pairs_are_judged_at_every_checkpoint(tiny_model_dir, rows, tmp_path, how):
    if "held_out" not in how:
        (tmp_path / "other").mkdir()
        how = {**how, "eval_rows": str(rows_file(tmp_path / "other", 5))}
    out = tmp_path / "out"
    result, _ = train(tiny_model_dir, rows, out, **how, save_every=2, epochs=2)
    steps = sorted((out / "evaluation").iterdir())
    total = 6 if "held_out" in how else 8
    named = [f"step-{at:06}.jsonl" for at in range(0, total + 1, 2)]
    assert [path.name for path in steps] == named
    first, last = ([json.loads(x) for x in steps[at].read_text().splitlines()] for at in (0, -1))
    assert all(row["loss"] == pytest.approx(math.log(2), abs=1e-6) for row in first)
    assert all(
        row["correct"] == 0.5 and row["drift_chosen"] == pytest.approx(0, abs=1e-4) for row in first
    )
    assert all(row["correct"] == float(row["margin"] > 0) for row in last)
    evaluation = json.loads((out / "evaluation.json").read_text())["last"]
    assert evaluation["pairs"] == len(last) == (4 if "held_out" in how else 5)
    assert evaluation["accuracy"] == sum(row["correct"] for row in last) / len(last)
    assert result.metrics["eval_loss"] == evaluation["loss"] < math.log(2)
    if "held_out" in how:
        facts = json.loads((out / "siftune.json").read_text())
        assert facts["data"]["rows"] == 12


def test_a_reference_of_its_own_is_measured_to(tiny_model_dir, rows, tmp_path):
    other, _ = train(tiny_model_dir, rows, tmp_path / "other", epochs=2)
    options = {"ref_model": str(other.model), "loss": "ipo", "loss_options": {"beta": 0.5}}
    _, lines = train(tiny_model_dir, rows, tmp_path / "out", **options)
    assert lines[0]["kl"] > 1e-4
    assert lines[0]["drift/chosen"] < 0


def test_kept_reference_values_are_those_of_the_model_and_found_again(
    tiny_model_dir, rows, tmp_path, monkeypatch
):
    options = {"precompute_reference": True, "cache": str(tmp_path / "cache")}
    live = train(tiny_model_dir, rows, tmp_path / "live")[1]
    kept = train(tiny_model_dir, rows, tmp_path / "kept", **options)[1]
    for one, other in zip(live, kept, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    (path,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr("siftune.finetune.scoring.reference._score", None)  # not to be called again
    again = train(tiny_model_dir, rows, tmp_path / "again", **options)[1]
    assert again == kept
    with pytest.raises(TypeError):  # of another model they are other values
        train(tiny_model_dir, rows, tmp_path / "other", ref_model=str(tmp_path / "live"), **options)
    path.unlink()
    with pytest.raises(TypeError):
        train(tiny_model_dir, rows, tmp_path / "unkept", **options)


def test_kept_reference_values_are_not_mixed_up_by_rows_of_the_same_id(tiny_model_dir, tmp_path):
    """Rows to judge with the ids of those to train on, and other answers: no drift, before all."""
    (tmp_path / "other").mkdir()
    rows, other = rows_file(tmp_path, 8), rows_file(tmp_path / "other", 8)
    swapped = pl.read_parquet(other)
    swapped.with_columns(chosen="rejected", rejected="chosen").write_parquet(other)
    how = {"precompute_reference": True, "eval_rows": str(other), "cache": str(tmp_path / "cache")}
    train(tiny_model_dir, rows, tmp_path / "out", **how)
    first = (tmp_path / "out/evaluation/step-000000.jsonl").read_text().splitlines()
    assert [json.loads(row)["drift_chosen"] for row in first] == pytest.approx([0] * 8, abs=1e-4)


def test_kept_reference_values_of_the_same_answers_are_those_behind_their_own_prompt(
    tiny_model_dir, tmp_path
):
    sides = {name: pair(0)[name] for name in ("chosen", "rejected")}
    table = pl.DataFrame([{**pair(row), **sides} for row in range(8)], schema_of("preference"))
    table.write_parquet(tmp_path / "rows.parquet")
    how = {"precompute_reference": True, "batch_size": 8}
    _, lines = train(tiny_model_dir, tmp_path / "rows.parquet", tmp_path / "out", **how)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[0]["drift/chosen"] == pytest.approx(0, abs=1e-4)


def lines_of(folder, *facts):
    """Plain pairs, as they come from anywhere, with numbers beside them."""
    told = {"prompt": "Say {}", "chosen": "yes {}", "rejected": "no {}"}
    rows = [
        {key: text.format(at) for key, text in told.items()} | one for at, one in enumerate(facts)
    ]
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_number_that_came_with_plain_pairs_reaches_the_loss(tiny_model_dir, tmp_path):
    """At the reference soft SPPO costs (β (2p - 1))² / 2β² + …: other numbers, other losses."""
    told = {}
    for name, facts, options in [
        ("own", {"win_probability": 0.9}, {}),
        ("named", {"judge": 0.9}, {"columns": {"win_probability": "judge"}}),
        (
            "named before its own",
            {"judge": 0.9, "win_probability": 0.6},
            {"columns": {"win_probability": "judge"}},
        ),
        ("other", {"win_probability": 0.6}, {}),
    ]:
        file = lines_of(tmp_path, *[facts] * 4)
        how = {"loss": "sppo_soft", "loss_options": {"beta": 0.5}, **options}
        told[name] = train(tiny_model_dir, file, tmp_path / name, **how)[1][0]["loss"]
    assert told["own"] == told["named"] == told["named before its own"]
    assert told["own"] == pytest.approx(2 * (0.4 / 0.5) ** 2, abs=1e-5)
    assert told["other"] == pytest.approx(2 * (0.1 / 0.5) ** 2, abs=1e-5)


def test_a_number_is_read_beside_an_empty_column_of_its_name(tmp_path):
    from siftune.finetune.training.preference_rows import with_numbers

    table = pl.DataFrame(
        [pair(row, extra=json.dumps({"win_probability": row / 4})) for row in range(3)],
        schema_of("preference"),
    )
    assert with_numbers(table, ["win_probability"], per_row=True)["win_probability"].to_list() == [
        0.0,
        0.25,
        0.5,
    ]


def test_a_pair_without_the_number_is_named_and_rows_without_any_are_refused(
    tiny_model_dir, tmp_path
):
    file = lines_of(tmp_path, *[{"win_probability": 0.9}] * 3, {})
    with pytest.raises(DataError, match=r"1 no_win_probability \(pairs:4\)"):
        train(tiny_model_dir, file, tmp_path / "a", loss="sppo_soft")
    result, _ = train(tiny_model_dir, file, tmp_path / "b", loss="sppo_soft", on_bad="drop")
    assert result.rows == 3
    file = lines_of(tmp_path, {}, {})
    with pytest.raises(UsageError, match="reads the column 'win_probability', and no row has it"):
        train(tiny_model_dir, file, tmp_path / "c", loss="sppo_soft")


def test_another_number_is_another_run(tiny_model_dir, tmp_path):
    how = {"loss": "sppo_soft", "columns": {"win_probability": "judge"}}
    train(tiny_model_dir, lines_of(tmp_path, *[{"judge": 0.9}] * 4), tmp_path / "out", **how)
    other = lines_of(tmp_path, *[{"judge": 0.8}] * 4)
    with pytest.raises(UsageError, match="made with other options or data"):
        train(tiny_model_dir, other, tmp_path / "out", **how)


def test_what_was_learned_over_4_bits_is_merged_into_the_whole_model(
    tiny_model_dir, rows, tmp_path
):
    """Each trained matrix is the folder's own, not its quantised form, plus a step of rank 4."""
    how = {"epochs": 4, "held_out": 0.2, "save_every": 2, **IN_4BIT}  # judged between steps
    _, lines = train(tiny_model_dir, rows, tmp_path / "out", **how)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)  # both in 4 bits
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-7)
    assert lines[-1]["loss"] < 0.6
    before, after = weights(tiny_model_dir), weights(tmp_path / "out")
    name = "model.layers.0.mlp.up_proj.weight"
    assert after[name].dtype == torch.float32
    assert torch.linalg.matrix_rank(after[name] - before[name], atol=1e-5) == 4
    assert after["model.embed_tokens.weight"].equal(before["model.embed_tokens.weight"])


def test_4_bits_without_the_library_are_told_of_in_a_line(
    tiny_model_dir, rows, tmp_path, monkeypatch
):
    monkeypatch.setattr("siftune.finetune.models.loading.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install 'siftune"):
        train(tiny_model_dir, rows, tmp_path / "out", **IN_4BIT)


def test_dropout_is_off(tiny_model_dir, rows, tmp_path):
    """A base that asks for dropout still begins at ln 2: policy and reference are the same."""
    import shutil

    shutil.copytree(tiny_model_dir, tmp_path / "wet")
    config = json.loads((tmp_path / "wet" / "config.json").read_text())
    (tmp_path / "wet" / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    _, lines = train(tmp_path / "wet", rows, tmp_path / "out", share_prefix=False)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("loss", registry.names("finetune.losses.pair"))
def test_every_loss_trains(loss, tiny_model_dir, tmp_path):
    facts = {"score_chosen": 0.8, "score_rejected": 0.3, "margin": 0.5, "win_probability": 0.9}
    rows = rows_file(tmp_path, 4, **facts)
    result, lines = train(tiny_model_dir, rows, tmp_path / "out", loss=loss, epochs=2)
    assert all(math.isfinite(value) for line in lines for value in line.values())
    before, after = weights(tiny_model_dir), weights(result.model)
    assert any((before[name] - after[name]).abs().max() > 1e-5 for name in after)


def test_a_second_loss_is_added_with_its_weight(tiny_model_dir, rows, tmp_path):
    alone = train(tiny_model_dir, rows, tmp_path / "alone", loss="sft")[1]
    result, both = train(tiny_model_dir, rows, tmp_path / "both", also={"sft": 0.5})
    assert both[0]["loss"] == pytest.approx(math.log(2) + 0.5 * alone[0]["loss"], abs=1e-5)
    options = json.loads((result.model / "siftune.json").read_text())["options"]
    assert (options["loss_options"], options["also"]) == ({"beta": 0.1}, {"sft": 0.5})
    with pytest.raises(UsageError, match="objective is called 'sff'; did you mean sft"):
        train(tiny_model_dir, rows, tmp_path / "none", also={"sff": 0.5})


def test_a_loss_without_reference_holds_none_in_memory(tiny_model_dir, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("siftune.finetune.training.policy.frozen", None)
    _, lines = train(tiny_model_dir, rows, tmp_path / "out", loss="simpo")
    assert "kl" not in lines[0]
    assert "drift/chosen" not in lines[0]
    with pytest.raises(TypeError):
        train(tiny_model_dir, rows, tmp_path / "two", loss="simpo", track_reference=True)


def test_a_kl_above_the_limit_ends_the_run(tiny_model_dir, rows, tmp_path, capsys):
    result, lines = train(tiny_model_dir, rows, tmp_path / "out", epochs=20, lr=1e-2, max_kl=0.05)
    assert lines[-1]["kl"] > 0.05
    assert all(line["kl"] <= 0.05 for line in lines[:-1])
    assert lines[-1]["step"] < 20
    facts = json.loads((result.model / "siftune.json").read_text())
    assert facts["stopped"] == "kl"
    assert "above max_kl=0.05" in capsys.readouterr().err


def test_a_budget_of_tokens_sets_the_steps(tiny_model_dir, rows, tmp_path):
    once = train(tiny_model_dir, rows, tmp_path / "once")[1]
    pairs = encoded(tiny_model_dir, pl.read_parquet(rows))
    tokens = sum(sum(map(len, pair.answers)) for pair in pairs)
    twice = train(tiny_model_dir, rows, tmp_path / "twice", max_tokens=2 * tokens)[1]
    assert (len(once), len(twice)) == (4, 8)
    with pytest.raises(UsageError, match="max_tokens: 3 tokens are fewer than the first row has"):
        train(tiny_model_dir, rows, tmp_path / "none", max_tokens=3)


def test_answers_keep_their_end_and_prompts_are_not_scored(tiny_model_dir, rows):
    """What a mask off by one, a lost end of turn or a counted prompt would change."""
    from siftune.finetune.data.collator import AnswerCollator
    from siftune.finetune.models.loading import load_tokenizer

    tokenizer = load_tokenizer(tiny_model_dir)
    pairs = encoded(tiny_model_dir, pl.read_parquet(rows))
    batch = AnswerCollator(tokenizer.pad_token_id)(pairs[:4])
    for row in range(8):
        scored = batch["input_ids"][row][batch["answer_mask"][row].bool()].tolist()
        made = pair(row % 4)["chosen" if row < 4 else "rejected"][0]["content"]
        assert tokenizer.decode(scored) == made + tokenizer.eos_token
    assert (batch["answer_mask"] <= batch["attention_mask"]).all()


def test_long_prompts_lose_their_beginning_and_answers_nothing(tiny_model_dir, rows):
    table = pl.read_parquet(rows)
    whole = encoded(tiny_model_dir, table)
    cut = encoded(tiny_model_dir, table, max_prompt_length=3)
    for one, other in zip(whole, cut, strict=True):
        assert other.prompt == one.prompt[-3:]
        assert other.answers == one.answers


def test_a_row_that_is_too_long_is_named_or_left_out(tiny_model_dir, tmp_path):
    long = pair(99) | {"chosen": [turn("assistant", "yes " * 200)]}
    table = pl.DataFrame([pair(0), long, pair(2)], schema_of("preference"))
    table.write_parquet(tmp_path / "kept.parquet")
    with pytest.raises(DataError, match=r"1 too_long \(made:99\)"):
        train(tiny_model_dir, tmp_path / "kept.parquet", tmp_path / "out")
    result, _ = train(tiny_model_dir, tmp_path / "kept.parquet", tmp_path / "out", on_bad="drop")
    assert result.rows == 2
    dropped = json.loads((result.model / "dropped.jsonl").read_text())
    assert dropped == {"id": "made:99", "reason": "too_long"}


def test_chosen_that_is_rejected_is_named(tiny_model_dir, tmp_path):
    same = pair(5) | {"rejected": pair(5)["chosen"]}
    pl.DataFrame([pair(0), same], schema_of("preference")).write_parquet(tmp_path / "kept.parquet")
    with pytest.raises(DataError, match=r"chosen_is_rejected \(made:5\)"):
        train(tiny_model_dir, tmp_path / "kept.parquet", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "dpo_p"}, r"no such loss is called 'dpo_p'; did you mean dpop\?"),
        ({"loss_options": {"betta": 1.0}}, r"dpo has no option 'betta'; did you mean beta\?"),
        ({"loss": "simpo", "max_kl": 1.0}, "max_kl: simpo has no reference; set track_reference"),
        ({"loss": "simpo", "ref_sync_steps": 1}, "simpo has no reference that could follow"),
        (
            {"options": {"lerning_rate": 1}},
            "TrainingArguments has no argument 'lerning_rate'; did you mean learning_rate",
        ),
    ],
)
def test_a_wrong_option_is_one_line_before_a_model_loads(
    tiny_model_dir, rows, tmp_path, options, said, monkeypatch
):
    monkeypatch.setattr("siftune.finetune.models.loading.load_causal", None)
    with pytest.raises(UsageError, match=said) as error:
        train(tiny_model_dir, rows, tmp_path / "out", **options)
    assert "\n" not in str(error.value)
