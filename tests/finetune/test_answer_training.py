"""The trainer on answers to its end: resumed runs, kept references, held-out rows, added heads."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from siftune.curate.core.errors import DataError, SiftuneError, UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn
from siftune.finetune.trainers.preference import Preference
from tests.finetune.test_answers import bad, base, good, preference, ranked, rows_file, unpaired

FEW = 12


def conversation(row):
    said = [turn("user", f"Say it {row}"), good(row)[0]]
    return {**base(row, "conversation"), "messages": said}


def scored(row):
    """Unpaired, with numbers that came with the row and have no column."""
    facts = {"reward": float(row % 5), "weight": 1.0 + row % 2, "win_probability": row % 4 / 4}
    return {**unpaired(row), "extra": json.dumps(facts)}


def sampled(row):
    return {**ranked(row), "win_rate": [0.2, 0.7, 0.6]}


def lists_file(folder, rows):
    """A rows table with a column more than the schema has."""
    schema = {**schema_of("ranked"), "win_rate": pl.List(pl.Float64)}
    pl.DataFrame(rows, schema).write_parquet(folder / "sampled.parquet")
    return folder / "sampled.parquet"


def train(model, rows, out, **options):
    fixed = {"lr": 1e-3, "batch_size": 4, "seed": 3, "held_out": 0.0, "log_every": 1}
    given = {"loss": "kto", **fixed, **options}
    result = Preference(model=str(model), **given)(rows, out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return result, lines


def judged(out, step):
    text = (out / "evaluation" / f"step-{step:06}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def slow(*values):
    """A parameter set of the slow suite: the quick one has another of its kind."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (unpaired, {"loss": "kto", "gradient_accumulation": 2, "batch_size": 2}),
        slow(unpaired, {"loss": "bco", "lora": 2, "precompute_reference": True}),
        slow(ranked, {"loss": "plackett_luce", "held_out": 0.25}),
        slow(scored, {"loss": "dro_v"}),
        slow(scored, {"loss": "dro_v", "lora": 2}),
        slow(scored, {"loss": "dro_v", "lora": 2, "precision": "bf16"}),
        slow(scored, {"loss": "quark", "loss_options": {"bins": 3}}),
        slow(unpaired, {"loss": "kto", "micro_tokens": 40, "max_tokens": 200}),
        (scored, {"loss": "dro_v", "lora": 2, "load_in_4bit": True, "eval_limit": 2}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_run_that_was_cut_off_ends_in_the_same_bytes(
    tiny_model_dir, tmp_path, monkeypatch, make, options
):
    from siftune.finetune.training.preference_loop import PreferenceTrainer

    rows = rows_file(tmp_path, [make(row) for row in range(FEW)])
    options = {"epochs": 2, "save_every": 2, **options}
    train(tiny_model_dir, rows, tmp_path / "whole", **options)
    own = PreferenceTrainer.training_step

    def cut(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return own(self, *args, **kwargs)

    monkeypatch.setattr(PreferenceTrainer, "training_step", cut)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_model_dir, rows, tmp_path / "cut", **options)
    assert not (tmp_path / "cut").exists()
    monkeypatch.undo()
    train(tiny_model_dir, rows, tmp_path / "cut", **options)
    names = {path.name for path in (tmp_path / "whole").iterdir() if path.is_file()}
    assert {"model.safetensors", "metrics.jsonl", "tokenizer.json"} <= names
    assert ("value_head.safetensors" in names) == (options["loss"] == "dro_v")
    for name in names - {"README.md", "siftune.json"}:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_reference_of_answers_can_follow_and_the_policy_be_stopped(tiny_model_dir, tmp_path):
    rows = rows_file(tmp_path, [ranked(row) for row in range(FEW)])
    how = {"loss": "plackett_luce", "epochs": 3}
    stays = train(tiny_model_dir, rows, tmp_path / "stays", **how)[1]
    follow = {**how, "ref_sync_steps": 1, "ref_mixup_alpha": 1.0}
    lines = train(tiny_model_dir, rows, tmp_path / "follows", **follow)[1]
    assert [line["loss"] for line in lines] == pytest.approx([lines[0]["loss"]] * len(lines))
    assert [line["kl"] for line in lines] == pytest.approx([0] * len(lines), abs=1e-7)
    limit = stays[1]["kl"]
    train(tiny_model_dir, rows, tmp_path / "stopped", **how, max_kl=limit / 2)
    facts = json.loads((tmp_path / "stopped/siftune.json").read_text())
    assert facts["stopped"] == "kl"
    assert facts["metrics"]["steps"] == 2
    with pytest.raises(UsageError, match="nll has no reference that could follow"):
        train(tiny_model_dir, rows, tmp_path / "none", loss="nll", ref_sync_steps=1)


@pytest.mark.parametrize(("loss", "make"), [("kto", unpaired), ("plackett_luce", ranked)])
def test_a_kept_reference_and_shared_prompts_change_no_number(
    tiny_model_dir, tmp_path, monkeypatch, loss, make
):
    rows = rows_file(tmp_path, [make(row) for row in range(FEW)])
    plain = {"loss": loss, "share_prefix": False}
    kept = {"loss": loss, "precompute_reference": True, "cache": str(tmp_path / "cache")}
    runs = [
        train(tiny_model_dir, rows, tmp_path / str(at), **options)[1]
        for at, options in enumerate((plain, {"loss": loss}, kept))
    ]
    for other in runs[1:]:
        for one, same in zip(runs[0], other, strict=True):
            for name in ("loss", "rewards/margins", "drift/chosen", "entropy"):
                assert one[name] == pytest.approx(same[name], abs=1e-4), name
    monkeypatch.setattr("siftune.finetune.scoring.reference.frozen", None)  # not to be run again
    again = train(tiny_model_dir, rows, tmp_path / "again", **kept)[1]
    assert again == runs[2]
    with pytest.raises(TypeError):  # of other strangers, or another order, they are other values
        train(tiny_model_dir, rows, tmp_path / "other", **kept, ref_model=str(tmp_path / "0"))


def test_a_prompt_is_run_once_for_all_answers_of_a_list(tiny_model_dir, tmp_path, monkeypatch):
    import siftune.finetune.scoring.logps as logps

    seen = []
    own = logps.run_packed

    def run(model, packed):
        seen.append(packed.input_ids.numel())
        return own(model, packed)

    monkeypatch.setattr(logps, "run_packed", run)
    rows = [ranked(row, count=4) for row in range(4)]
    train(tiny_model_dir, rows_file(tmp_path, rows), tmp_path / "out", loss="plackett_luce")
    from siftune.finetune.data.answer_rows import encode_rows
    from siftune.finetune.models.loading import load_tokenizer

    read = encode_rows(pl.DataFrame(rows, schema_of("ranked")), load_tokenizer(tiny_model_dir))
    once = sum(len(row.prompt) + sum(map(len, row.answers)) for row in read.ids)
    assert seen == [once, once]  # the reference, the policy


def test_held_out_labels_are_judged_at_every_checkpoint(tiny_model_dir, tmp_path):
    rows = rows_file(tmp_path, [unpaired(row) for row in range(16)])
    options = {"beta": 1.0, "held_out": 0.25, "save_every": 3, "epochs": 2}
    result, _ = train(tiny_model_dir, rows, tmp_path / "out", **options)
    assert result.rows == 12
    first, last = judged(tmp_path / "out", 0), judged(tmp_path / "out", 6)
    assert len(first) == len(last) == 4
    assert [row["reward"] for row in first] == pytest.approx([0] * 4, abs=1e-4)
    assert [row["loss"] for row in first] == pytest.approx([0.5] * 4, abs=1e-5)
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())["last"]
    rewards = {label: [r["reward"] for r in last if r["label"] == label] for label in (True, False)}
    wins = [float(g > b) for g in rewards[True] for b in rewards[False]]
    assert told["accuracy"] == result.metrics["eval_accuracy"] == sum(wins) / len(wins)
    assert told["drift_chosen"] == pytest.approx(sum(rewards[True]) / len(rewards[True]))
    assert told["kl_rejected"] > 0
    assert {row["id"] for row in last}.isdisjoint(
        {row["id"] for row in pl.read_parquet(rows).rows(named=True)} - {row["id"] for row in first}
    )


@pytest.mark.parametrize("loss", ["kto", slow("bco")])
def test_held_out_rows_are_judged_the_same_in_any_batch(tiny_model_dir, tmp_path, loss):
    """What the loss shares is of all held-out rows, not of those that share a batch."""
    rows = rows_file(tmp_path, [unpaired(row) for row in range(16)])
    found = []
    for parts in (1, 8):
        split = {"batch_size": 8 // parts, "gradient_accumulation": parts}
        options = {"loss": loss, "beta": 1.0, "held_out": 0.5, "epochs": 3, "lr": 3e-3}
        out = tmp_path / f"out{parts}"
        train(tiny_model_dir, rows, out, **options, **split)
        found.append([row["loss"] for row in judged(out, 3)])
    assert max(found[0]) - min(found[0]) > 0.01
    assert found[1] == pytest.approx(found[0], abs=1e-5)


def test_held_out_lists_are_judged_by_the_order_of_their_rewards(tiny_model_dir, tmp_path):
    rows = rows_file(tmp_path, [ranked(row) for row in range(8)])
    (tmp_path / "others").mkdir()
    others = rows_file(tmp_path / "others", [ranked(row) for row in range(8, 11)])
    options = {"loss": "plackett_luce", "beta": 1.0, "eval_rows": str(others), "epochs": 4}
    result, _ = train(tiny_model_dir, rows, tmp_path / "out", **options)
    last = judged(tmp_path / "out", 8)
    assert [row["scores"] for row in last] == [[0.0, 2.0, 1.0]] * 3
    for row in last:
        low, high, middle = row["reward"]
        assert row["accuracy"] == ((high > low) + (high > middle) + (middle > low)) / 3
        assert row["top"] == float(high == max(row["reward"]))
    assert result.metrics["eval_accuracy"] == sum(row["accuracy"] for row in last) / 3 > 0.5
    assert result.metrics["eval_margin"] == pytest.approx(
        sum(row["reward"][1] - row["reward"][0] for row in last) / 3
    )


def test_pairs_train_kto_as_their_two_answers_do_and_a_list_of_two(tiny_model_dir, tmp_path):
    pairs = [preference(row) for row in range(6)]
    halves = [
        {**base(2 * row + at, "unpaired"), "prompt": pair["prompt"], "label": at == 0,
         "completion": pair[side]}
        for row, pair in enumerate(pairs)
        for at, side in enumerate(("chosen", "rejected"))
    ]  # fmt: skip
    files = rows_file(tmp_path, pairs), rows_file(tmp_path, halves)
    ours, theirs = (
        train(tiny_model_dir, file, tmp_path / file.stem, loss="kto", batch_size=6)[1]
        for file in files
    )
    assert [line["loss"] for line in ours] == [line["loss"] for line in theirs]
    lists = train(tiny_model_dir, files[0], tmp_path / "lists", loss="plackett_luce")[1]
    assert lists[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "make"),
    [
        *(("weighted_sft", make) for make in (scored, ranked, conversation)),
        *((loss, ranked) for loss in ("reward_weighted", "dro_v", "nash_md")),
        ("nll", conversation),
        *(slow("nll", make) for make in (scored, ranked)),
        *(
            slow(loss, make)
            for loss in ("reward_weighted", "dro_v", "nash_md")
            for make in (scored, conversation)
        ),
    ],
)
def test_single_answers_come_from_rows_of_any_kind(tiny_model_dir, tmp_path, loss, make):
    rows = [{**make(row), "extra": scored(row)["extra"]} for row in range(4)]
    columns = {"weight": "scores", "win_probability": "scores"} if make is ranked else {}
    if make is ranked:
        for row in rows:
            row["scores"] = [0.5, 1.0, 0.25]
    out = tmp_path / "out"
    result, lines = train(
        tiny_model_dir, rows_file(tmp_path, rows), out, loss=loss, columns=columns
    )
    assert result.rows == (12 if make is ranked else 4)
    assert all(math.isfinite(value) for line in lines for value in line.values())


@pytest.mark.parametrize("loss", ["spo", "dno"])
def test_own_samples_with_their_win_rates_train(tiny_model_dir, tmp_path, loss):
    rows = lists_file(tmp_path, [sampled(row) for row in range(8)])
    out = tmp_path / "out"
    train(tiny_model_dir, rows, out, loss=loss, beta=0.5, epochs=5, batch_size=8, held_out=0.25)
    first, last = judged(out, 0), judged(out, 5)
    assert all(row["scores"] == pytest.approx([0.2, 0.7, 0.6]) for row in last)
    for row in last:  # the worst of a list has lost to the others
        assert row["reward"][0] < min(row["reward"][1:])
    assert all(reward == pytest.approx(0, abs=1e-4) for row in first for reward in row["reward"])


def test_dro_v_learns_values_that_are_kept_beside_a_plain_model(tiny_model_dir, tmp_path):
    from transformers import AutoModelForCausalLM

    rows = [{**scored(row), "extra": '{"reward": 3.0}'} for row in range(8)]
    file, out = rows_file(tmp_path, rows), tmp_path / "out"
    options = {"loss": "dro_v", "value_lr": 0.1, "epochs": 15, "lr": 1e-5, "held_out": 0.25}
    result, lines = train(tiny_model_dir, file, out, batch_size=8, **options)
    assert lines[0]["loss"] == pytest.approx(4.5, abs=1e-5)  # V 0, at the reference: 3² / 2
    assert lines[0]["value"] == 0
    assert lines[-1]["value"] > 1.5
    assert result.metrics["eval_value"] > 1.5
    head = load_file(out / "value_head.safetensors")
    assert {name: tuple(one.shape) for name, one in head.items()} == {
        "weight": (1, 32),
        "bias": (1,),
    }
    model = AutoModelForCausalLM.from_pretrained(out)
    assert not any("value_head" in name for name, _ in model.named_parameters())
    assert not any("value_head" in name for name in load_file(out / "model.safetensors"))


def test_the_value_head_gives_the_trunk_no_gradient(tiny_model_dir):
    from siftune.finetune.data.answer_rows import AnswerRow
    from siftune.finetune.data.collator import AnswerCollator
    from siftune.finetune.models.loading import load_causal
    from siftune.finetune.models.value_head import add_value_head
    from siftune.finetune.scoring.logps import score_answers

    model = load_causal(tiny_model_dir)
    add_value_head(model)
    model.value_head.weight.data.normal_()
    batch = AnswerCollator(0)([AnswerRow("a", [5, 6], [[7, 2]]), AnswerRow("b", [5], [[8, 3, 2]])])
    found = score_answers(model, batch, value=True)["value"]
    found.sum().backward()
    assert {name for name, one in model.named_parameters() if one.grad is not None} == {
        "value_head.weight",
        "value_head.bias",
    }
    states = model.base_model(torch.tensor([[5, 6]])).last_hidden_state[0, -1]
    torch.testing.assert_close(found[0], model.value_head(states)[0])


def test_quark_learns_behind_its_reward_tokens_and_is_asked_for_the_best(tiny_model_dir, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = [{**unpaired(row), "completion": (good if row % 2 else bad)(0),
             "extra": json.dumps({"reward": float(row % 2)}), "prompt": unpaired(0)["prompt"]}
            for row in range(8)]  # fmt: skip
    out = tmp_path / "out"
    plain = {"bins": 2, "kl_weight": 0.0, "entropy_weight": 0.0}
    options = {"loss": "quark", "loss_options": plain, "epochs": 60, "lr": 2e-2}
    train(tiny_model_dir, rows_file(tmp_path, rows), out, batch_size=8, **options)
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out)
    prompt = [{"role": "user", "content": rows[0]["prompt"][0]["content"]}]
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    best, worst = tokenizer.convert_tokens_to_ids(["<|reward_0|>", "<|reward_1|>"])
    assert asked[0] == best
    said = {}
    for first in (best, worst):
        ids = torch.tensor([[first, *asked[1:]]])
        made = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        said[first] = tokenizer.decode(made, skip_special_tokens=True)
    assert said[best] == good(0)[0]["content"]
    assert said[worst] == bad(0)[0]["content"]


def test_the_reference_of_quark_never_sees_a_reward_token(tiny_model_dir, tmp_path, monkeypatch):
    import siftune.finetune.scoring.reference as reference

    seen = []
    own = reference.read_answers

    def read(model, batch, *rest, **more):
        seen.append(int(batch["input_ids"].max()))
        return own(model, batch, *rest, **more)

    monkeypatch.setattr(reference, "read_answers", read)
    rows = rows_file(tmp_path, [scored(row) for row in range(6)])
    train(tiny_model_dir, rows, tmp_path / "out", loss="quark")
    from siftune.finetune.models.loading import load_tokenizer

    assert seen
    assert max(seen) < len(load_tokenizer(tiny_model_dir))
    with pytest.raises(UsageError, match="bins: expected at most one a row, got 9 for 6"):
        train(tiny_model_dir, rows, tmp_path / "no", loss="quark", loss_options={"bins": 9})


def test_losses_of_a_family_add_up_with_their_weights(tiny_model_dir, tmp_path):
    rows = rows_file(tmp_path, [unpaired(row) for row in range(8)])
    runs = {
        name: train(tiny_model_dir, rows, tmp_path / name, **options)[1][0]["loss"]
        for name, options in {
            "kto": {"loss": "kto"},
            "nll": {"loss": "nll"},
            "both": {"loss": "kto", "also": {"nll": 0.5}},
            "split": {"loss": "kto", "also": {"nll": 0.5}, "batch_size": 1,
                      "gradient_accumulation": 4},
        }.items()
    }  # fmt: skip
    assert runs["both"] == pytest.approx(runs["kto"] + 0.5 * runs["nll"], abs=1e-5)
    assert runs["split"] == pytest.approx(runs["both"], abs=1e-5)


def test_answers_to_other_prompts_are_in_no_metric(tiny_model_dir, tmp_path):
    """KTO reads them, APO-zero does not: before the first step both say the same of the rows."""
    rows = rows_file(tmp_path, [unpaired(row) for row in range(8)])
    with_them, without = (
        train(tiny_model_dir, rows, tmp_path / loss, loss=loss)[1][0]
        for loss in ("kto", "apo_zero_unpaired")
    )
    for name in ("entropy", "mean_token_accuracy", "logps/chosen", "lengths/rejected"):
        assert with_them[name] == pytest.approx(without[name], abs=1e-6), name


def test_other_scores_are_other_data(tiny_model_dir, tmp_path):
    rows = [ranked(row) for row in range(4)]
    file = rows_file(tmp_path, rows)
    train(tiny_model_dir, file, tmp_path / "out", loss="rrhf")
    hashed = json.loads((tmp_path / "out" / "siftune.json").read_text())["data"]["hash"]
    rows[2]["scores"] = [3.0, 2.0, 1.0]
    rows_file(tmp_path, rows)
    with pytest.raises(UsageError, match="made with other options or data"):
        train(tiny_model_dir, file, tmp_path / "out", loss="rrhf")
    train(tiny_model_dir, file, tmp_path / "new", loss="rrhf")
    assert json.loads((tmp_path / "new" / "siftune.json").read_text())["data"]["hash"] != hashed


def test_numbers_are_found_by_the_name_that_is_given_and_a_row_without_is_named(
    tiny_model_dir, tmp_path
):
    rows = [{**unpaired(row), "extra": json.dumps({"stars": row or None})} for row in range(4)]
    file = rows_file(tmp_path, rows)
    options = {"loss": "reward_weighted", "columns": {"reward": "stars"}}
    with pytest.raises(DataError, match=r"1 no_reward \(made:0\)"):
        train(tiny_model_dir, file, tmp_path / "a", **options)
    result, _ = train(tiny_model_dir, file, tmp_path / "b", **options, on_bad="drop")
    assert result.rows == 3
    with pytest.raises(UsageError, match="reads the column 'moons', and no row has it"):
        train(
            tiny_model_dir,
            file,
            tmp_path / "c",
            loss="reward_weighted",
            columns={"reward": "moons"},
        )


@pytest.mark.parametrize(
    ("facts", "name", "given", "expected"),
    [
        ({"win_probability": 0.75}, "win_probability", {}, [0.75, 0.25]),
        ({"judge": 0.75}, "win_probability", {"win_probability": "judge"}, [0.75, 0.25]),
        ({"weight": 2}, "weight", {}, [2.0, 2.0]),
        ({"weight": 9, "weight_chosen": 2, "weight_rejected": 1}, "weight", {}, [2.0, 1.0]),
        ({"reward_chosen": 3, "reward_rejected": 1}, "reward", {}, [3.0, 1.0]),
        ({"score_chosen": 3, "score_rejected": 1}, "reward", {}, [3.0, 1.0]),
        ({"stars_chosen": 3, "stars_rejected": 1}, "reward", {"reward": "stars"}, [3.0, 1.0]),
        ({}, "score", {}, [1.0, 0.0]),
    ],
)
def test_the_numbers_of_plain_pairs_are_those_of_both_answers(facts, name, given, expected):
    from siftune.finetune.training.preference_rows import with_numbers

    table = pl.DataFrame([{**preference(0), "extra": json.dumps(facts)}], schema_of("preference"))
    assert with_numbers(table, [name], given)[name].to_list() == [expected]


def test_one_reward_of_a_pair_does_not_say_of_which_answer():
    from siftune.finetune.training.preference_rows import with_numbers

    table = pl.DataFrame([{**preference(0), "extra": '{"reward": 2}'}], schema_of("preference"))
    with pytest.raises(UsageError, match="'reward' of each answer, and the pairs have one; expect"):
        with_numbers(table, ["reward"])


@pytest.mark.parametrize("on_bad", ["refuse", "drop"])
@pytest.mark.parametrize("make", [preference, ranked, unpaired])
def test_rows_that_are_all_bad_are_told_of_in_a_line(make, on_bad, tiny_model_dir, tmp_path):
    rows = [{**make(row), "prompt": [], "extra": '{"win_probability": 0.5}'} for row in range(4)]
    file = rows_file(tmp_path, [{**row, "win_rate": [0.5] * 3} for row in rows])
    given = {"columns": {"win_probability": "scores"}} if make is ranked else {}
    with pytest.raises(DataError, match="prompt"):
        train(tiny_model_dir, file, tmp_path / "out", loss="nash_md", on_bad=on_bad, **given)


def test_quark_refuses_bins_that_are_none_before_a_model_loads(tmp_path):
    for bins in (0, -1):
        options = {"loss": "quark", "loss_options": {"bins": bins}}
        with pytest.raises(UsageError, match=r"bins is in \[1, inf\)"):
            Preference(model="no such model", **options)(tmp_path / "none", tmp_path / "out")


def test_accuracy_is_within_a_prompt_where_one_has_both_sides_else_over_all():
    from siftune.finetune.training.answer_loop import summary

    def row(prompt, label, reward):
        return {"prompt_key": prompt, "label": label, "reward": reward, "loss": 1.0}

    numbers = [("a", 1.0, 0.0), ("b", 5.0, 0.5), ("c", 0.25, 0.75)]
    pairs = [row(key, side == 0, pair[side]) for key, *pair in numbers for side in (0, 1)]
    assert summary(pairs)["accuracy"] == pytest.approx(2 / 3)  # over all it would be 7 of 9
    apart = [row("a", True, 1.0), row("b", False, 1.0), row("c", False, 0.0), row("d", True, 2.0)]
    assert summary(apart)["accuracy"] == (0.5 + 1 + 1 + 1) / 4
    assert "accuracy" not in summary([row("a", True, 1.0)])


def test_a_step_that_the_loss_refuses_is_one_line(tiny_model_dir, tmp_path):
    rows = rows_file(tmp_path, [{**scored(row), "extra": '{"weight": -2}'} for row in range(FEW)])
    with pytest.raises(SiftuneError, match=r"step 1: weight: expected 0 or more .*, got -2$"):
        train(tiny_model_dir, rows, tmp_path / "out", loss="weighted_sft")


def test_steps_whose_weights_are_all_nought_change_nothing(tiny_model_dir, tmp_path):
    rows = rows_file(tmp_path, [{**scored(row), "extra": '{"weight": 0}'} for row in range(FEW)])
    train(tiny_model_dir, rows, tmp_path / "out", loss="weighted_sft")
    before, after = (load_file(f / "model.safetensors") for f in (tiny_model_dir, tmp_path / "out"))
    assert all(torch.equal(after[name], before[name]) for name in after)
