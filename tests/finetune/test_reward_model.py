from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from siftune.curate.chat.templates import ENCODER
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.registry import build
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn
from siftune.finetune.data import training_rows
from siftune.finetune.data.comparisons import (
    ComparisonCollator,
    comparisons,
    length_balance,
    parts_of,
    rows_without,
    safety_of,
)
from siftune.finetune.data.prompt_truncation import Scored
from siftune.finetune.evaluation.pair_accuracy import (
    accuracy,
    encode_sides,
    scored_pairs,
    uncomparable,
)
from siftune.finetune.models.loading import load_causal, load_reward, load_tokenizer, read_facts
from siftune.finetune.models.saving import save_model
from siftune.finetune.reward_models.head_states import recorded_states
from siftune.finetune.runs.resumable_run import Run
from siftune.finetune.trainers.reward_model import RewardModel
from siftune.finetune.training.reward_steps import RewardSteps, _parts

WORDS = ["red", "blue", "green", "black", "white", "grey", "pink", "brown"]


def pairs(
    sides: list[tuple[str, str | None, str | None]], margin: float | None = 1.0
) -> pl.DataFrame:
    rows = [
        {
            "id": f"p:{at}",
            "source": "p",
            "row": at,
            "kind": "preference",
            "prompt": [turn("user", prompt)],
            "chosen": [turn("assistant", chosen)],
            "rejected": [turn("assistant", rejected)],
            "margin": margin,
        }
        for at, (prompt, chosen, rejected) in enumerate(sides, 1)
    ]
    return pl.DataFrame(rows, schema_overrides=schema_of("preference"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """The side that says hello is the better one, long or short."""
    path = tmp_path / "pairs.parquet"
    sides: list[tuple[str, str | None, str | None]] = []
    for at, word in enumerate(WORDS * 3):
        more = " and so on" * (at % 2)
        sides.append((f"Say {word} {at % 8}.", f"hello {word}", f"the cat {word}{more}"))
    pairs(sides).write_parquet(path)
    return path


@pytest.fixture
def reward(tiny_model_dir: Path) -> Callable[..., RewardModel]:
    def build(**options: Any) -> RewardModel:
        given = {"lr": 1e-2, "batch_size": 8, "log_every": 1, "held_out": 0.25, **options}
        return RewardModel(**{"model": str(tiny_model_dir), **given})

    return build


def logged(model: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_to_tell_the_better_side_of_unseen_prompts(
    reward: Callable[..., RewardModel], rows: Path, tmp_path: Path
) -> None:
    result = reward(epochs=8)(rows, tmp_path / "m")
    assert result.rows == 18  # two of eight prompts, three pairs each, are held out
    assert result.metrics["eval_pairs"] == 6
    assert result.metrics["eval_accuracy"] == 1.0
    assert result.metrics["eval_longer_wins"] < 0.5
    found = json.loads((tmp_path / "m" / "evaluation.json").read_text())
    assert [step["step"] for step in found["steps"]] == [0, 24]
    model, tokenizer = load_reward(tmp_path / "m"), load_tokenizer(tmp_path / "m")
    scores = []
    for said in ("hello pink", "the cat pink"):
        turns = [{"role": "user", "content": "Say pink."}, {"role": "assistant", "content": said}]
        ids: Any = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            scores.append(float(model(**ids).logits))
    assert scores[0] > scores[1]
    assert read_facts(tmp_path / "m")["method"] == "bradley_terry"


def test_the_first_loss_is_minus_log_sigmoid_less_the_margin(
    reward: Callable[..., RewardModel], rows: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one.parquet"
    pl.read_parquet(rows).head(1).write_parquet(one)
    given = {"held_out": 0.0, "lr": 1e-9}
    reward(**given)(one, tmp_path / "plain")
    reward(**given, use_margin=True)(one, tmp_path / "margin")
    reward(**given, center=0.5)(one, tmp_path / "centred")
    plain, margin, centred = (logged(tmp_path / n)[0] for n in ("plain", "margin", "centred"))
    gap = plain["margin"]  # TRL's name for r_chosen - r_rejected
    assert plain["loss"] == pytest.approx(math.log1p(math.exp(-gap)), rel=1e-5)
    assert margin["loss"] == pytest.approx(math.log1p(math.exp(1.0 - gap)), rel=1e-5)
    total = 2 * plain["mean_reward"]
    assert centred["loss"] == pytest.approx(plain["loss"] + 0.5 * total**2, rel=1e-4)


def test_pairs_that_say_nothing_are_refused_by_name(
    reward: Callable[..., RewardModel], tmp_path: Path
) -> None:
    path = tmp_path / "bad.parquet"
    long = "very " * 60
    pairs([("a", "b", "c"), ("a", "b", "b"), ("a", "", "c"), ("a", long, "c")]).write_parquet(path)
    with pytest.raises(DataError, match=r"chosen_is_rejected \(p:2\).*empty_chosen \(p:3\).*p:4"):
        reward(max_length=32)(path, tmp_path / "m")


def test_a_margin_that_is_not_there_is_named(
    reward: Callable[..., RewardModel], tmp_path: Path
) -> None:
    path = tmp_path / "pairs.parquet"
    pairs([("a", "b", "c")], margin=None).write_parquet(path)
    with pytest.raises(DataError, match=r"1 no_margin \(p:1\)"):
        reward(use_margin=True)(path, tmp_path / "m")


def test_a_classifier_of_several_classes_is_refused(
    rows: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_dir, num_labels=3)
    save_model(model, load_tokenizer(tiny_model_dir), tmp_path / "three", {})
    with pytest.raises(UsageError, match="classifier of 3 classes"):
        RewardModel(model=str(tmp_path / "three"))(rows, tmp_path / "m")


def test_an_encoder_can_be_the_backbone(rows: Path, tmp_path: Path) -> None:
    out = RewardModel(
        model=str(encoder(tmp_path / "bert")), lr=5e-3, epochs=12, batch_size=8, held_out=0.25
    )(rows, tmp_path / "m")
    assert out.metrics["eval_accuracy"] == 1.0
    tokenizer = load_tokenizer(tmp_path / "m")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], tokenize=False
    )
    assert text == "[CLS]a[SEP]b[SEP]"


def encoder(folder: Path, layers: int = 1) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "say", "hello", "the", "cat", *WORDS]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    save_model(BertModel(config), tokenizer, folder, {})
    return folder


def test_frozen_layers_stay_as_they_are_and_the_others_learn(
    reward: Callable[..., RewardModel], rows: Path, tmp_path: Path, tiny_model_dir: Path
) -> None:
    RewardModel(model=str(encoder(tmp_path / "bert", layers=2)), lr=1e-2, freeze=1)(
        rows, tmp_path / "m"
    )
    before, after = (load_reward(tmp_path / name).base_model for name in ("bert", "m"))
    changed = {
        name
        for (name, one), (_, other) in zip(
            before.named_parameters(), after.named_parameters(), strict=True
        )
        if not one.equal(other)
    }
    assert changed == {name for name, _ in after.named_parameters() if _learns(name)}


def _learns(name: str) -> bool:
    return name.startswith(("encoder.layer.1.", "pooler."))


def test_more_frozen_layers_than_there_are_is_refused(
    reward: Callable[..., RewardModel], rows: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="freeze: expected 0 to 1, the layers of the model, got 2"):
        reward(freeze=2)(rows, tmp_path / "m")


def test_a_model_is_judged_later_on_as_much_of_a_text_as_it_was_trained_on(
    reward: Callable[..., RewardModel], tmp_path: Path
) -> None:
    path, long = tmp_path / "pairs.parquet", "and so on " * 20
    pairs([(long + "a", "b", "c")] * 2).write_parquet(path)
    reward(max_length=24, held_out=0.0)(path, tmp_path / "m")
    model, tokenizer = load_reward(tmp_path / "m"), load_tokenizer(tmp_path / "m")
    assert tokenizer.model_max_length == 24
    table = pl.read_parquet(path).head(1)
    whole, cut = (
        scored_pairs(model, tokenizer, table),
        scored_pairs(model, tokenizer, table, max_length=24),
    )
    assert whole == cut
    assert scored_pairs(model, tokenizer, table, max_length=100) != cut


def test_a_long_prompt_loses_its_start_and_an_answer_nothing(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    causal, bert = load_tokenizer(tiny_model_dir), load_tokenizer(encoder(tmp_path / "bert"))
    bert.chat_template = ENCODER
    long = "the cat " * 40 + "blue"
    table = pairs(
        [(long, "hello red", "hello red green"), ("say", "the " * 30, "cat"), ("a", "b", "c")]
    )
    rows = training_rows.to_pairs(table)
    for tokenizer in (causal, bert):
        whole = encode_sides(tokenizer, rows, None)
        most = len(whole[1][0].ids) - 2
        cut = encode_sides(tokenizer, rows, most)
        for one, full in zip(cut[0], whole[0], strict=True):
            assert len(one.ids) == most
            assert one.cut == len(full.ids) - most
            first = int(tokenizer is bert)  # what an encoder's state is read from
            assert one.ids == full.ids[:first] + full.ids[first - most :]
        assert cut[2] == whole[2]
    short = encode_sides(bert, rows, 8)
    assert [len(one.ids) for one in short[0]] == [8, 8]
    assert bert.decode(short[0][1].ids) == "[CLS] cat blue [SEP] hello red green [SEP]"
    assert short[1] == (Scored([], 3), short[1][1])  # never half an answer
    assert uncomparable(rows, short).rows() == [
        ("p:2", "answer_over_max_length"),
        ("p:3", "same_within_max_length"),  # two words that the encoder does not know
    ]


def test_pairs_that_a_length_makes_incomparable_are_refused_or_left_out(
    reward: Callable[..., RewardModel], rows: Path, tmp_path: Path
) -> None:
    """Answers that differ in their last words only are told apart, however long the prompt is."""
    long = "and so on " * 20
    table = pairs([(long, "red", "blue"), ("a", long + "red", long + "blue"), ("c", "d", "e")])
    path, heldout = tmp_path / "pairs.parquet", tmp_path / "held_out.parquet"
    table.write_parquet(path)
    with pytest.raises(DataError, match=r"1 rows cannot be trained on: 1 answer_over_max_.*p:2"):
        reward(max_length=32)(path, tmp_path / "m")
    pl.read_parquet(rows).head(8).write_parquet(heldout)
    table.with_columns(id="q" + pl.col("id")).write_parquet(path)
    given = {"max_length": 32, "eval_rows": str(path), "on_bad": "drop"}
    found = reward(**given)(heldout, tmp_path / "m").metrics
    assert (found["eval_pairs"], found["eval_unscored"], found["eval_cut"]) == (2, 1, 1)


def test_an_answer_in_several_pairs_is_read_once_and_scored_in_each(
    tiny_reward_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = load_reward(tiny_reward_dir), load_tokenizer(tiny_reward_dir)
    table = pairs([("a", "b", "c"), ("a", "b", "the cat"), ("z", "b", "c")])
    alone = [scored_pairs(model, tokenizer, table[at])[0] for at in range(3)]
    read: list[int] = []
    forward = model.forward

    def counted(**given: Any) -> Any:
        read.append(len(given["input_ids"]))
        return forward(**given)

    monkeypatch.setattr(model, "forward", counted)
    together = scored_pairs(model, tokenizer, table)
    assert sum(read) == 5  # of six sides: "b" after "a" is there twice
    for one, other in zip(alone, together, strict=True):
        for side in ("reward_chosen", "reward_rejected"):
            assert one[side] == pytest.approx(other[side], abs=1e-5)


def test_an_adapter_is_merged_into_the_reward_model(
    reward: Callable[..., RewardModel], rows: Path, tmp_path: Path, tiny_model_dir: Path
) -> None:
    reward(lora=4, epochs=2)(rows, tmp_path / "m")
    before, after = load_causal(tiny_model_dir).model, load_reward(tmp_path / "m").model
    assert not before.layers[0].mlp.up_proj.weight.equal(after.layers[0].mlp.up_proj.weight)
    assert before.embed_tokens.weight.equal(after.embed_tokens.weight)


def test_accuracy_leaves_ties_out_and_takes_near_pairs_apart() -> None:
    def row(key: str, correct: float | None, chars: tuple[int, int], longer: float) -> Any:
        rewards = {"reward_chosen": correct, "reward_rejected": 0.5}
        lengths = {"chars_chosen": chars[0], "chars_rejected": chars[1]}
        return {"prompt_key": key, "correct": correct, **rewards, **lengths, "longer": longer}

    rows = [row("a", 1, (100, 95), 1), row("a", 0.5, (90, 100), 0), row("b", 0, (10, 100), 0)]
    rows += [row("b", 1, (100, 100), 0.5), {"prompt_key": "c", "correct": None, "reason": "long"}]
    found = accuracy(rows)
    assert (found["pairs"], found["near_pairs"], found["unscored"]) == (4, 3, 1)
    assert (found["ties"], found["near_ties"], found["longer_ties"]) == (1, 1, 1)
    assert found["accuracy"] == pytest.approx(2 / 3)  # of three that are decided
    assert found["right"] == pytest.approx(2 / 4)  # of all that have rewards
    assert (found["accuracy_low"], found["accuracy_high"]) == (0.5, 1.0)  # only b drawn, only a
    assert found["longer_wins"] == pytest.approx(1 / 3)
    assert (found["longer_wins_low"], found["longer_wins_high"]) == (0.0, 0.5)
    assert found["near_accuracy"] == 1.0
    assert found["near_longer_wins"] == pytest.approx(0.5)
    halves = accuracy(rows, ties="half")
    assert halves["accuracy"] == pytest.approx(2.5 / 4)
    assert "accuracy" not in accuracy([rows[1]])  # nothing is decided: neither right nor wrong
    assert accuracy([rows[1]])["right"] == 0


def test_correlations_with_length_are_those_of_all_answers_by_value_and_by_rank() -> None:
    rng = torch.Generator().manual_seed(0)
    rewards = torch.randn(60, generator=rng).round(decimals=1)  # some are equal
    chars = (rewards * 30 + 200 + 20 * torch.randn(60, generator=rng)).round()
    rows = [
        {
            "prompt_key": f"{at // 3}",
            "correct": 1.0,
            "longer": 1.0,
            "reward_chosen": float(rewards[at]),
            "reward_rejected": float(rewards[at + 1]),
            "chars_chosen": int(chars[at]),
            "chars_rejected": int(chars[at + 1]),
        }
        for at in range(0, 60, 2)
    ]
    found = accuracy(rows)
    both = torch.stack([rewards, chars])
    ranks = torch.tensor([pl.Series(one.tolist()).rank().to_list() for one in both])
    assert found["length_pearson"] == pytest.approx(float(torch.corrcoef(both)[0, 1]), abs=1e-5)
    assert found["length_spearman"] == pytest.approx(float(torch.corrcoef(ranks)[0, 1]), abs=1e-5)
    for name in ("length_pearson", "length_spearman"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"] < 1
    flat = [{**row, "reward_chosen": 1.0, "reward_rejected": 1.0} for row in rows]
    assert "length_pearson" not in accuracy(flat)  # what does not vary has none


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"use_margin": True, "center": 0.5},
        pytest.param({"options": {"gradient_accumulation_steps": 2}}, marks=pytest.mark.slow),
    ],
)
def test_a_batch_in_parts_is_the_whole_batch(
    more: dict[str, Any], reward: Callable[..., RewardModel], rows: Path, tmp_path: Path
) -> None:
    """Loss, gradient norm, metrics and weights: equal but for rounding, whatever the parts are."""
    given = {"held_out": 0.0, "lr": 1e-3, "epochs": 2, "batch_size": 5, **more}
    ran = []
    for most in (100_000, 100, 1):  # the whole batch, some pairs, one pair at a time
        reward(**given, micro_tokens=most)(rows, tmp_path / f"{most}")
        weights = load_file(tmp_path / f"{most}" / "model.safetensors")
        ran.append((logged(tmp_path / f"{most}"), weights))
    (whole, wanted), *others = ran
    for lines, weights in others:
        assert len(lines) == len(whole)
        for line, own in zip(lines, whole, strict=True):
            kept = {name: value for name, value in own.items() if "per_second" not in name}
            assert {name: line[name] for name in kept} == pytest.approx(kept, rel=1e-3, abs=1e-5)
        for name, weight in weights.items():
            torch.testing.assert_close(weight, wanted[name], rtol=1e-3, atol=2e-4)


def test_no_part_has_more_tokens_than_asked_for(
    reward: Callable[..., RewardModel],
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from siftune.finetune.training.reward_loop import RewardLoop

    seen: list[tuple[int, int]] = []
    own = RewardLoop.outputs

    def noted(self: Any, model: Any, batch: Any) -> Any:
        mask = batch["attention_mask"]
        seen.append((len(mask), int(mask.sum())))
        assert mask.sum(1).max() == mask.shape[1]  # nobody is padded for a row of another part
        return own(self, model, batch)

    monkeypatch.setattr(RewardLoop, "outputs", noted)
    reward(held_out=0.0, micro_tokens=120)(rows, tmp_path / "m")
    assert sum(count for count, _ in seen) == 48  # both sides of 24 pairs
    assert all(tokens <= 120 or count == 2 for count, tokens in seen)
    assert len(seen) > 3  # more than the batches


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Ranked lists of 2 to 4 answers of different lengths, two of which tie."""
    answers = ["hello red green", "hello", "the cat", "the black cat of pink"]
    path = tmp_path / "lists.jsonl"
    made = [
        {
            "prompt": f"Say {word} {at}",
            "completions": answers[: 2 + at % 3],
            "scores": [3, 1 + at % 2, 1, 0][: 2 + at % 3],
        }
        for at, word in enumerate(WORDS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def test_lists_are_encoded_once_and_cost_what_their_scores_say(
    reward: Callable[..., RewardModel],
    lists: Path,
    tmp_path: Path,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loss of a step over ragged lists, in parts: from scores of each text by itself."""
    from siftune.finetune.training.reward_loop import RewardLoop

    seen: list[int] = []
    own = RewardLoop.outputs

    def noted(self: Any, model: Any, batch: Any) -> Any:
        seen.append(len(batch["input_ids"]))
        return own(self, model, batch)

    monkeypatch.setattr(RewardLoop, "outputs", noted)
    model, tokenizer = load_reward(tiny_model_dir), load_tokenizer(tiny_model_dir)

    def score(prompt: str, said: str) -> float:
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": said}]
        ids: Any = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            return float(model(**ids).logits)

    raw = [json.loads(line) for line in lists.read_text().splitlines()]
    kwise, every, squares, gaps, rewards = [], [], [], [], []
    for row in raw:
        r = [score(row["prompt"], said) for said in row["completions"]]
        better = [
            (i, j)
            for i in range(len(r))
            for j in range(len(r))
            if row["scores"][i] > row["scores"][j]
        ]
        losses = [math.log1p(math.exp(r[j] - r[i])) for i, j in better]
        kwise.append(sum(losses) / math.comb(len(r), 2))
        every += losses
        gaps += [r[i] - r[j] for i, j in better]
        rewards += r
        squares += [(r[i] + r[j]) ** 2 for i, j in better]
    given = {"held_out": 0.0, "lr": 1e-9, "batch_size": 8, "micro_tokens": 60}
    reward(**given, objective="k_wise")(lists, tmp_path / "k")
    first = logged(tmp_path / "k")[0]
    assert first["loss"] == pytest.approx(sum(kwise) / 8, rel=1e-4)
    metrics = {
        "accuracy": sum(gap > 0 for gap in gaps) / len(gaps),
        "margin": sum(gaps) / len(gaps),
        "mean_reward": sum(rewards) / len(rewards),
        "min_reward": min(rewards),
        "max_reward": max(rewards),
    }
    assert {name: first[name] for name in metrics} == pytest.approx(metrics, abs=1e-5)
    assert sum(seen) == sum(len(row["completions"]) for row in raw)  # each answer once
    assert len(seen) > 2  # in parts
    seen.clear()
    reward(**given, center=0.1, by_prompt=True)(lists, tmp_path / "b")
    wanted = sum(every) / len(every) + 0.1 * sum(squares) / len(every)
    assert logged(tmp_path / "b")[0]["loss"] == pytest.approx(wanted, rel=1e-4)
    assert sum(seen) == sum(len(row["completions"]) for row in raw)


def test_unequal_micro_batches_count_by_their_pairs(
    reward: Callable[..., RewardModel], lists: Path, tmp_path: Path
) -> None:
    """Two accumulated batches of prompts with other numbers of pairs are one step of all pairs."""
    given = {"held_out": 0.0, "lr": 1e-3, "by_prompt": True}
    reward(**given, batch_size=8)(lists, tmp_path / "one")
    more = {"batch_size": 4, "options": {"gradient_accumulation_steps": 2}}
    reward(**given, **more)(lists, tmp_path / "two")
    one, two = (logged(tmp_path / name)[0] for name in ("one", "two"))
    for name in ("loss", "grad_norm", "accuracy", "margin", "mean_reward", "min_reward"):
        assert two[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6)


def test_comparisons_of_a_prompt_are_put_together_with_their_weights(tmp_path: Path) -> None:
    table = pairs([("a", "b b", "c"), ("a", "c", "b b"), ("a", "b b", "d d d"), ("e", "f", "g g")])
    sides = [([1], [2]), ([2], [1]), ([1], [3]), ([4], [5])]
    found = comparisons(
        table, sides, "rows", by_prompt=True, shares=[0.8, 0.6, 1.0, 1.0], margins=[2, 1, 3, 4]
    )
    assert [one["texts"] for one in found] == [[[1], [2], [3]], [[4], [5]]]
    assert [one["chars"] for one in found] == [[3, 1, 5], [1, 3]]
    assert [one["rows"] for one in found] == [[0, 1, 2], [3]]
    wins, by = (torch.tensor(found[0][name]) for name in ("wins", "margins"))
    torch.testing.assert_close(wins, torch.tensor([[0, 1.2, 1], [0.8, 0, 0], [0, 0, 0]]))
    up = (0.8 * 2 - 0.4 * 1) / 1.2  # the mean of both opinions' margins
    down = (0.6 * 1 - 0.2 * 2) / 0.8
    torch.testing.assert_close(by, torch.tensor([[0, up, 3], [down, 0, 0], [0, 0, 0.0]]))


def test_a_batch_of_ragged_prompts_holds_each_answer_once_and_its_parts_the_same() -> None:
    won = [[0.0, 1.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.5, 0.0]]
    two = {"texts": [[1, 2, 3], [4]], "wins": [[0, 0], [2, 0]], "margins": [[0, 0], [3, 0]]}
    three = {"texts": [[5, 6], [7, 8], [1]], "wins": won, "margins": [[0.0] * 3] * 3}
    collate = ComparisonCollator(9, build("finetune.losses.reward", "bradley_terry", {}))
    batch = collate([two | {"chars": [30, 10]}, three | {"chars": [20, 21, 11]}])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [5, 6, 9], [4, 9, 9], [7, 8, 9], [1, 9, 9]]
    assert batch["attention_mask"].sum(1).tolist() == [3, 2, 1, 2, 1]
    assert batch["row_of"].tolist() == [[0, 2, -1], [1, 3, 4]]
    assert batch["count"].tolist() == [2, 2]
    assert batch["margins"][0].tolist() == [[0, 0, 0], [3, 0, 0], [0, 0, 0]]
    first, second = parts_of(batch, 4)
    assert (first["row_of"].tolist(), second["row_of"].tolist()) == ([[0, 1]], [[0, 1, 2]])
    assert first["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert second["input_ids"].tolist() == [[5, 6], [7, 8], [1, 9]]
    assert (first["wins"][0].tolist(), second["wins"][0].tolist()) == ([[0, 0], [2, 0]], won)
    assert second["chars"].tolist() == [[20, 21, 11]]


def test_length_matched_pairs_are_won_by_the_longer_answer_half_the_time() -> None:
    table = pairs(
        [
            ("a", "b b", "c"),
            ("b", "b b", "c"),
            ("c", "b b", "c"),
            ("d", "e", "f f"),
            ("g", "h", "i"),
        ]
    )
    shares = [1.0, 0.9, 1.0, 0.7, 1.0]
    longer, shorter = length_balance(table, shares)
    assert (longer, shorter) == pytest.approx((2 / 3.2, 2 / 0.8))
    sides = [([at], [at + 10]) for at in range(5)]
    found = comparisons(table, sides, "rows", shares=shares, balance=(longer, shorter))
    won = {1: 0.0, 0: 0.0, -1: 0.0}
    for one in found:
        for i, j in ((0, 1), (1, 0)):
            sign = (one["chars"][i] > one["chars"][j]) - (one["chars"][i] < one["chars"][j])
            won[sign] += one["wins"][i][j]
    assert (won[1], won[-1], won[0]) == pytest.approx((2.0, 2.0, 1.0))
    with pytest.raises(UsageError, match="the longer answer won all comparisons"):
        length_balance(table.head(1), [1.0])


def test_options_that_an_objective_has_no_place_for_are_refused(
    reward: Callable[..., RewardModel], rows: Path, tmp_path: Path
) -> None:
    for option in ("use_margin", "win_rates", "length_matched"):
        with pytest.raises(UsageError, match=f"{option}: plackett_luce has no place for it"):
            reward(objective="plackett_luce", **{option: True})(rows, tmp_path / "m")
    with pytest.raises(UsageError, match=r"called 'bradley'"):
        reward(objective="bradley")(rows, tmp_path / "m")
    with pytest.raises(DataError, match=r"24 no_win_probability"):
        reward(win_rates=True)(rows, tmp_path / "m")


def test_of_a_model_with_a_length_head_the_first_output_is_kept(
    reward: Callable[..., RewardModel], rows: Path, tmp_path: Path
) -> None:
    """The step has both terms; the folder is a plain reward model that scores as the first head."""
    given = {"length_head": 0.5, "epochs": 2, "lora": 2}
    result = reward(**given)(rows, tmp_path / "m")
    model, tokenizer = load_reward(tmp_path / "m"), load_tokenizer(tmp_path / "m")
    assert model.config.num_labels == 1
    last = json.loads((tmp_path / "m" / "evaluation.json").read_text())["last"]
    path = next((tmp_path / "m" / "evaluation").glob(f"step-{last['step']:06}.jsonl"))
    known = [json.loads(line) for line in path.read_text().splitlines()]
    table = pl.read_parquet(rows).filter(pl.col("id").is_in([row["id"] for row in known]))
    for own, row in zip(scored_pairs(model, tokenizer, table), known, strict=True):
        assert own["reward_chosen"] == pytest.approx(row["reward_chosen"], abs=1e-5)
    assert "length_correlation" in logged(tmp_path / "m")[0]
    assert result.metrics["eval_pairs"] == 6
    with pytest.raises(UsageError, match="length_head: it is a correlation over a batch"):
        reward(length_head=1.0, options={"gradient_accumulation_steps": 2})(rows, tmp_path / "n")
    with pytest.raises(ValueError, match="length_head: its output is taken out"):
        reward(length_head=1.0, lora=2, adapter="keep")


def test_safety_is_read_from_columns_and_from_the_fields_of_pku() -> None:
    table = pairs([("a", "b", "c")] * 3)
    extra = ['{"safe_chosen": true, "safe_rejected": false}']
    raw = {"is_response_0_safe": False, "is_response_1_safe": True}
    extra += [json.dumps(raw | {"chosen_response": 2}), json.dumps(raw)]
    table = table.with_columns(extra=pl.Series(extra))
    found = safety_of(table)
    assert found[:2] == [(1.0, 0.0), (1.0, 0.0)]
    assert all(map(math.isnan, found[2]))  # which of the two was chosen is not known
    assert rows_without(table, [], ["safe"]).rows() == [("p:3", "no_safe")]


def test_a_batch_in_parts_is_the_batch_of_its_pairs_each_as_wide_as_it_needs() -> None:
    lengths = torch.tensor([2, 4, 3, 3, 1, 1])  # of three chosen answers, then three rejected
    mask = torch.arange(4) < lengths[:, None]
    ids = torch.arange(24).view(6, 4) * mask
    batch = {"input_ids": ids, "attention_mask": mask.long(), "margin": torch.tensor([5, 6, 7])}
    parts = _parts(batch, most=9, sides=2)
    assert [part["margin"].tolist() for part in parts] == [[5], [6, 7]]
    assert [part["input_ids"].tolist() for part in parts] == [
        [[0, 1, 0], [12, 13, 14]],
        [[4, 5, 6, 7], [8, 9, 10, 0], [16, 0, 0, 0], [20, 0, 0, 0]],
    ]
    assert all((part["input_ids"] > 0).sum() <= part["attention_mask"].sum() for part in parts)
    steps = SimpleNamespace(_metrics={"train": {"loss": [9.0, 1.0, 4.0], "min_reward": [2.0, 3.0]}})
    RewardSteps._join(steps, [0.25, 0.75])  # type: ignore[arg-type]
    assert steps._metrics["train"] == {"loss": [9.0, 3.25], "min_reward": [2.0]}


@torch.no_grad()
def test_states_are_recorded_until_the_context_ends(tiny_reward_dir: Path) -> None:
    model = load_reward(tiny_reward_dir)
    ids, there = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.long)
    starts = {(5, 6, 7): 1, (6, 7, 8): 1}
    with recorded_states(model, starts, lambda text, states: (text, len(states))) as found:
        model(input_ids=ids, attention_mask=there)
    model(input_ids=ids + 1, attention_mask=there)
    assert found == {(5, 6, 7): ((6, 7), 2)}


def test_an_encoder_without_a_template_is_given_ours_and_nothing_else_is(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    own = tokenizer.chat_template
    monkeypatch.setattr("siftune.finetune.models.loading.load_tokenizer", lambda model: tokenizer)
    monkeypatch.setattr(RewardModel, "_load", lambda *_: pytest.fail("enough"))
    for template, sep, made in ((own, "<|pad|>", own), (None, "<|pad|>", ENCODER), (None,) * 3):
        tokenizer.chat_template, tokenizer.sep_token = template, sep
        with pytest.raises(pytest.fail.Exception, match="enough"):
            RewardModel("m").train(pl.DataFrame(), Path(), Run(Path("model"), ""))
        assert tokenizer.chat_template == made
