from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from siftune.curate.chat.encoding import encode_answers
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn
from siftune.curate.text.answer_match import contains, exact_match
from siftune.finetune.data import training_rows
from siftune.finetune.evaluation.generation_eval import GenerationEval
from siftune.finetune.models.loading import load_causal, load_tokenizer
from siftune.finetune.models.saving import save_model
from siftune.finetune.tools.evaluate import (
    Evaluate,
    chosen_rows,
    summary,
    write_step,
    write_summary,
)
from siftune.finetune.tools.sample import Sample
from siftune.finetune.trainers.ppo import PPO
from tests.curate.test_pretrained import edited

QUESTIONS = ["Name a colour.", "What is two plus two?", "Say hello to the king of the sea.", "Hi"]


def asked(*questions: str, reference: str | None = "blue") -> tuple[dict[str, Any], ...]:
    return tuple(
        {"id": f"q:{at}", "prompt": [{"role": "user", "content": text}], "reference": reference}
        for at, text in enumerate(questions, 1)
    )


@pytest.fixture
def build_eval(tiny_model_dir: Path) -> Any:
    def build(questions: tuple[str, ...] = tuple(QUESTIONS), **options: Any) -> GenerationEval:
        rows = asked(*questions)
        return GenerationEval(rows, load_tokenizer(tiny_model_dir), max_new_tokens=8, **options)

    return build


@pytest.fixture
def other(tiny_model_dir: Path) -> Any:
    """The tiny model with its weights moved a little."""
    model = load_causal(tiny_model_dir)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=generator))
    return model


def test_greedy_answers_are_those_of_plain_transformers(
    build_eval: Any, tiny_model_dir: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    model: Any = load_causal(tiny_model_dir)
    for row in build_eval()(model):
        ids: Any = tokenizer(row["prompt"], add_special_tokens=False, return_tensors="pt")
        out: Any = model.generate(**ids, max_new_tokens=8, do_sample=False)
        said = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert row["completion"] == said


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_the_batch(
    build_eval: Any, tiny_model_dir: Path, temperature: float
) -> None:
    model = load_causal(tiny_model_dir)
    together = build_eval(temperature=temperature)(model)
    again = build_eval(temperature=temperature)(model)
    alone = build_eval(temperature=temperature, batch_size=1)(model)
    assert together == again
    assert [row["completion"] for row in together] == [row["completion"] for row in alone]


def test_samples_depend_on_the_seed(build_eval: Any, tiny_model_dir: Path) -> None:
    model = load_causal(tiny_model_dir)
    first, second = (build_eval(temperature=1.0, seed=seed)(model) for seed in (0, 1))
    assert [row["completion"] for row in first] != [row["completion"] for row in second]


def test_kl_is_the_sum_over_the_answers_tokens(
    build_eval: Any, other: Any, tiny_model_dir: Path
) -> None:
    reference, tokenizer = load_causal(tiny_model_dir), load_tokenizer(tiny_model_dir)
    one = build_eval(("Name a colour.",), reference=reference)
    (row,) = one(other)
    prompt = one._prompts[0]
    answer = one._answers(other)[0]
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        both = [model(ids).logits.log_softmax(-1)[0] for model in (other, reference)]
    gaps = [
        float(both[0][at - 1, ids[0, at]] - both[1][at - 1, ids[0, at]])
        for at in range(len(prompt), len(prompt) + len(answer))
    ]
    assert tokenizer.decode(prompt) == row["prompt"]
    assert row["kl_k1"] == pytest.approx(sum(gaps), abs=1e-4)
    expected = sum(math.exp(-gap) - 1 + gap for gap in gaps)
    assert row["kl_k3"] == pytest.approx(expected, abs=1e-4)


def test_a_model_is_no_distance_from_itself(build_eval: Any, tiny_model_dir: Path) -> None:
    model = load_causal(tiny_model_dir)
    for row in build_eval(reference=load_causal(tiny_model_dir))(model):
        assert (row["kl_k1"], row["kl_k3"]) == (0, 0)


def test_a_prompt_over_the_context_is_told_not_lost(build_eval: Any, tiny_model_dir: Path) -> None:
    model = load_causal(tiny_model_dir)
    found = build_eval(("Hi", "very " * 600))(model)
    assert found[1]["completion"] is None
    assert found[1]["error"] == "prompt_over_context"
    assert summary(found)["unanswered"] == 1


def test_answers_are_compared_by_what_they_say() -> None:
    assert exact_match("  The\nANSWER. ", "the answer")
    assert exact_match("ﬁve", "five")  # NFKC
    assert not exact_match("", "five")
    assert contains("I say: five!", "Five")
    assert not contains("fiveteen", "five")
    assert not contains("anything", "")


def test_a_summary_leaves_out_what_was_not_measured() -> None:
    rows: list[dict[str, Any]] = [
        {"completion": "a", "exact_match": True, "tokens": 1},
        {"completion": "b", "exact_match": None, "tokens": 4},
    ]
    found = summary([row | {"prompt": str(at)} for at, row in enumerate(rows)])
    assert found.pop("tokens_low") == 1
    assert found.pop("tokens_high") == 4
    assert found == {"rows": 2, "unanswered": 0, "exact_match": 1.0, "tokens": 2.5}


def test_the_loss_is_a_mean_over_tokens_not_over_answers() -> None:
    rows: list[dict[str, Any]] = [
        {"completion": "", "prompt": "a", "loss": 1.0, "loss_tokens": 1},
        {"completion": "", "prompt": "b", "loss": 3.0, "loss_tokens": 3},
    ]
    assert summary(rows)["loss"] == 2.5


def test_the_loss_is_the_cross_entropy_of_the_known_answer(
    build_eval: Any, other: Any, tiny_model_dir: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    rows = build_eval(("Hi", "Name a colour of the sea."))(other)
    for row in rows:
        before: Any = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        answer: Any = tokenizer("blue<|im_end|>", add_special_tokens=False)["input_ids"]
        labels = torch.tensor([[-100] * len(before) + answer])
        with torch.no_grad():
            expected = other(torch.tensor([before + answer]), labels=labels).loss
        assert row["loss"] == pytest.approx(float(expected), abs=1e-5)
        assert row["loss_tokens"] == len(answer)


def test_an_answer_that_is_not_known_has_no_loss(build_eval: Any, tiny_model_dir: Path) -> None:
    one = GenerationEval(
        asked("Hi", reference=None), load_tokenizer(tiny_model_dir), max_new_tokens=2
    )
    (row,) = one(load_causal(tiny_model_dir))
    assert "loss" not in row
    assert "loss" not in summary([row])


def test_the_summary_file_has_every_step(tmp_path: Path) -> None:
    for step, right in ((0, False), (10, True)):
        write_step(tmp_path, step, [{"completion": "a", "exact_match": right}])
    assert write_summary(tmp_path)["exact_match"] == 1.0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert [(step["step"], step["exact_match"]) for step in found["steps"]] == [(0, 0.0), (10, 1.0)]
    assert found["last"]["step"] == 10


def conversations(count: int) -> pl.DataFrame:
    rows = [
        {
            "id": f"t:{at}",
            "kind": "conversation",
            "messages": [turn("user", f"Name colour {at}."), turn("assistant", "Blue")],
        }
        for at in range(count)
    ]
    schema = schema_of("conversation")
    return pl.DataFrame(rows, schema={name: schema[name] for name in rows[0]})


def test_which_rows_are_asked_does_not_depend_on_their_order() -> None:
    table = conversations(50)
    drawn = chosen_rows(table, 5, seed=0)
    assert set(drawn["id"]) == set(chosen_rows(table.reverse(), 5, seed=0)["id"])
    assert set(drawn["id"]) != set(chosen_rows(table, 5, seed=1)["id"])
    assert chosen_rows(table, 0, seed=0).height == 50


def test_a_causal_model_answers_and_its_answers_are_rewarded(
    tiny_model_dir: Path, tiny_reward_dir: Path, tmp_path: Path
) -> None:
    conversations(4).write_parquet(tmp_path / "rows.parquet")
    brief = {"options": {"target": 4}}
    result = Evaluate(
        str(tiny_model_dir),
        reference=str(tiny_model_dir),
        reward={"rm": {"reward": str(tiny_reward_dir), "weight": -2}, "length": brief},
        max_new_tokens=8,
        limit=3,
    )(tmp_path / "rows.parquet", tmp_path / "out")
    found = [json.loads(line) for line in (tmp_path / "out/rows.jsonl").read_text().splitlines()]
    assert len(found) == result.rows == 3
    assert all(isinstance(row["reward"], float) for row in found)
    last = json.loads((tmp_path / "out/evaluation.json").read_text())["last"]
    assert last["kl_k1"] == 0
    assert last["reward"] == pytest.approx(sum(row["reward"] for row in found) / 3)
    for row in found:
        assert row["reward"] == pytest.approx(row["reward/length"] - 2 * row["reward/rm"])
        assert row["reward/length"] == -abs(len(row["completion"].split()) - 4) / 4
    assert last["reward/rm"] == pytest.approx(sum(row["reward/rm"] for row in found) / 3)


def test_a_reward_model_is_asked_which_side_is_better(
    tiny_reward_dir: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "id": f"p:{at}",
            "kind": "preference",
            "prompt": [turn("user", f"Say {at}.")],
            "chosen": [turn("assistant", "yes, of course")],
            "rejected": [turn("assistant", "no")],
        }
        for at in range(3)
    ]
    schema = schema_of("preference")
    table = pl.DataFrame(rows, schema={name: schema[name] for name in rows[0]})
    table.write_parquet(tmp_path / "pairs.parquet")
    judged = Evaluate(str(tiny_reward_dir))(tmp_path / "pairs.parquet", tmp_path / "out")
    flipped = table.rename({"chosen": "rejected", "rejected": "chosen"})
    flipped.write_parquet(tmp_path / "flipped.parquet")
    back = Evaluate(str(tiny_reward_dir))(tmp_path / "flipped.parquet", tmp_path / "back")
    assert judged.metrics["longer_wins"] == 1.0
    assert back.metrics["longer_wins"] == 0.0
    assert judged.metrics["accuracy"] + back.metrics["accuracy"] == pytest.approx(1)


def test_pairs_that_tie_or_do_not_fit_are_counted_and_categories_shown(
    tiny_reward_dir: Path, tmp_path: Path
) -> None:
    answers = [("yes", "no", "easy"), ("x " * 300, "no", "easy"), ("same", "same ", "hard")]
    answers += [("no", "yes, of course", "hard")]
    rows = [
        {
            "prompt": "the cat " * 200 if at == 3 else "Say",
            "chosen": chosen,
            "rejected": rejected,
            "subset": subset,
        }
        for at, (chosen, rejected, subset) in enumerate(answers)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = Evaluate(str(tiny_reward_dir), by="subset")(path, tmp_path / "out")
    found = [json.loads(line) for line in (tmp_path / "out/rows.jsonl").read_text().splitlines()]
    assert [row.get("reason") for row in found] == [None, "answer_over_max_length", None, None]
    assert [row.get("cut") for row in found] == [False, None, False, True]
    metrics = result.metrics
    assert (metrics["pairs"], metrics["unscored"], metrics["cut"]) == (3, 1, 1)
    assert (metrics["pairs/easy"], metrics["pairs/hard"]) == (1, 2)
    assert metrics["accuracy/easy"] == found[0]["correct"]
    with pytest.raises(DataError, match=r"rows cannot be compared: 1 answer_over_max_length"):
        Evaluate(str(tiny_reward_dir), on_bad="refuse")(path, tmp_path / "no")
    listed = {"prompt": "Say", "completions": ["yes", "no", "of course"], "scores": [2, 1, 1]}
    (tmp_path / "lists.jsonl").write_text(json.dumps(listed) + "\n")
    ranked = Evaluate(str(tiny_reward_dir))(tmp_path / "lists.jsonl", tmp_path / "ranked")
    assert ranked.metrics["pairs"] == 2  # of three, one of which ties by its scores
    with pytest.raises(UsageError, match="by: no row has the column or field 'sub'"):
        Evaluate(str(tiny_reward_dir), by="sub")(path, tmp_path / "no")


def test_a_policy_judges_pairs_by_its_log_ratio_to_the_reference(
    other: Any, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """Against the sum of log-probs that the models' own logits give; equal models tie."""
    answers = ("yes, of course", "no"), ("sure", "never"), ("x" * 4000, "no")
    rows = [
        {
            "id": f"p:{at}",
            "kind": "preference",
            "prompt": [turn("user", f"Say {at}.")],
            "chosen": [turn("assistant", chosen)],
            "rejected": [turn("assistant", rejected)],
        }
        for at, (chosen, rejected) in enumerate(answers)
    ]
    schema, path = schema_of("preference"), tmp_path / "pairs.parquet"
    pl.DataFrame(rows, schema={name: schema[name] for name in rows[0]}).write_parquet(path)
    save_model(other, load_tokenizer(tiny_model_dir), tmp_path / "m", {"stage": "x"})
    base, policy = str(tiny_model_dir), str(tmp_path / "m")
    result = Evaluate(policy, base, judge_pairs=True, batch_size=1)(path, tmp_path / "out")
    found = [json.loads(line) for line in (tmp_path / "out/rows.jsonl").read_text().splitlines()]
    assert found[2]["correct"] is None
    assert found[2]["reason"] == "too_long"
    tokenizer = load_tokenizer(tiny_model_dir)
    for row, (chosen, rejected) in zip(found[:2], answers, strict=False):
        prompt = [{"role": "user", "content": f"Say {row['id'][2:]}."}]
        for side, answer in (("chosen", chosen), ("rejected", rejected)):
            (ids,) = encode_answers(
                tokenizer, [prompt], [[{"role": "assistant", "content": answer}]]
            )
            whole = torch.tensor([[*ids.prompt, *ids.ids]])
            scored = torch.tensor(ids.mask, dtype=torch.bool)
            logps = []
            for model in (other, load_causal(tiny_model_dir)):
                with torch.no_grad():
                    values = model(whole).logits[0, :-1].log_softmax(-1)
                every = values.gather(1, whole[0, 1:, None])[len(ids.prompt) - 1 :, 0]
                logps.append(float(every[scored].sum()))
            assert row[f"reward_{side}"] == pytest.approx(logps[0] - logps[1], abs=1e-3)
        assert row["correct"] == float(row["margin"] > 0)
    assert (result.metrics["pairs"], result.metrics["unscored"]) == (2, 1)
    same = Evaluate(base, base, judge_pairs=True)(path, tmp_path / "same").metrics
    assert (same["ties"], same["right"], same["margin"]) == (2, 0.0, 0.0)
    assert "accuracy" not in same  # equal models rank nothing


def test_what_is_saved_is_loaded_as_it_was(
    other: Any, tiny_model_dir: Path, tmp_path: Path
) -> None:
    save_model(other, load_tokenizer(tiny_model_dir), tmp_path / "m", {"stage": "x"})
    for name, weights in load_causal(tmp_path / "m").named_parameters():
        assert weights.equal(other.get_parameter(name))


@pytest.mark.parametrize("what", ["evaluate", "sample", "ppo"])
def test_a_broken_reward_model_is_refused_before_an_answer_is_drawn(
    what: str,
    tiny_model_dir: Path,
    tiny_reward_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = edited(tiny_reward_dir, tmp_path / "broken", lambda one: one.pop("score.weight"))
    for place in (
        "siftune.curate.text.sampling.sample",
        "siftune.finetune.rl.rollouts.in_process.sample",
    ):
        monkeypatch.setattr(place, lambda *_, **__: pytest.fail("the policy answered"))
    conversations(4).write_parquet(tmp_path / "rows.parquet")
    run: Any = {
        "evaluate": Evaluate(model=str(tiny_model_dir), reward=str(broken)),
        "sample": Sample(model=str(tiny_model_dir), reward=str(broken)),
        "ppo": PPO(model=str(tiny_model_dir), reward=str(broken), max_new_tokens=4),
    }[what]
    with pytest.raises(UsageError, match=r"score\.weight\) missing"):
        run(tmp_path / "rows.parquet", tmp_path / "out")


def test_a_known_answer_of_weight_0_has_no_loss(tiny_model_dir: Path, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Blue.", "weight": 0},
    ]
    rows = [{"messages": turns}, {"messages": [turns[0], {**turns[1], "weight": 1}]}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = training_rows.to_prompts(training_rows.load(path, ("conversation",)))
    build_eval = GenerationEval(tuple(asked), load_tokenizer(tiny_model_dir), max_new_tokens=2)
    assert [row.get("loss") is None for row in build_eval(load_causal(tiny_model_dir))] == [
        True,
        False,
    ]
    assert all("weight" not in turn for row in asked for turn in row["prompt"])
