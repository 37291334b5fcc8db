"""Own samples: drawn, scored, with the win rates that self-play trains on."""

from __future__ import annotations

import json
import math

import polars as pl
import pytest
import torch
from click.testing import CliRunner

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.scorers.pass_rate import PassRate
from siftune.finetune.cli import finetune
from siftune.finetune.generation.mixture_policy import mixed
from siftune.finetune.generation.sampled_lists import Scored
from siftune.finetune.models.loading import load_causal, model_hash
from siftune.finetune.tools.sample import Sample
from siftune.finetune.trainers.preference import Preference
from tests.finetune.test_answers import bad, good, rows_file, said, unpaired


@pytest.fixture(scope="module")
def talker(tiny_model_dir, tmp_path_factory):
    """A tiny model that has learned to say one of four things, and to stop."""
    folder = tmp_path_factory.mktemp("talker")
    answers = [said("yes yes"), said("no"), said("yes no yes"), good(0)]
    rows = [{**unpaired(row), "completion": answers[row % 4]} for row in range(16)]
    trainer = Preference(
        model=str(tiny_model_dir), loss="nll", epochs=25, lr=2e-2, held_out=0.0, batch_size=16
    )
    trainer(rows_file(folder, rows), folder / "model")
    return folder / "model"


@pytest.fixture
def asked(tmp_path):
    """Six rows of three prompts."""
    rows = [{**unpaired(row), "prompt": unpaired(row % 3)["prompt"]} for row in range(6)]
    return rows_file(tmp_path, [{**row, "completion": bad(0)} for row in rows])


def sample(model, rows, out, **options):
    given = {"reward": "text_share", "reward_options": {"text": "yes"}, "count": 5, **options}
    result = Sample(model=str(model), max_new_tokens=16, **given)(rows, out)
    return result, pl.read_parquet(out / "kept.parquet").to_dicts()


def test_samples_are_the_same_in_any_batch_and_others_with_another_seed(talker, asked, tmp_path):
    _, first = sample(talker, asked, tmp_path / "a", batch_size=2)
    _, again = sample(talker, asked, tmp_path / "b", batch_size=64)
    _, other = sample(talker, asked, tmp_path / "c", seed=1)
    assert first == again
    assert [row["completions"] for row in first] != [row["completions"] for row in other]
    assert len(first) == 3  # a prompt is asked once
    texts = {turns[0]["content"] for row in first for turns in row["completions"]}
    assert len(texts) > 1
    assert all(text.strip() for text in texts)


def test_without_a_reward_every_answer_is_kept_without_a_score(talker, asked, tmp_path):
    scored, with_scores = sample(talker, asked, tmp_path / "a")
    result, rows = sample(talker, asked, tmp_path / "b", reward=None, reward_options={})
    assert [row["completions"] for row in rows] == [row["completions"] for row in with_scores]
    assert all(row["scores"] is row["win_rate"] is row["by_reference"] is None for row in rows)
    assert result.metrics == {name: scored.metrics[name] for name in ("prompts", "answers")}
    one = {"reward": None, "reward_options": {}, "count": 1}
    _, single = sample(talker, asked, tmp_path / "c", **one)  # one was asked for, one is enough
    assert [len(row["completions"]) for row in single] == [1, 1, 1]
    with pytest.raises(ValueError, match="opponents: they need a reward"):
        Sample(model="m", reference="r", opponents=1)
    with pytest.raises(ValueError, match="pass_score: needs a reward"):
        Sample(model="m", pass_score=0.5)
    with pytest.raises(ValueError, match="pass_score: expected a finite number, got nan"):
        Sample(model="m", reward="length", pass_score=math.nan)


def test_of_several_rewards_the_sum_ranks_and_each_is_kept(talker, asked, tmp_path):
    yes, brief = {"options": {"text": "yes"}}, {"weight": 0.5, "options": {"target": 3}}
    both = {"text_share": yes, "brief": {"reward": "length", **brief}}
    result, rows = sample(talker, asked, tmp_path / "a", reward=both, reward_options={}, count=2)
    listed = []
    for row in rows:
        for score, each in zip(row["scores"], row["attributes"], strict=True):
            named = {one["name"]: one["value"] for one in each}
            assert score == pytest.approx(named["text_share"] + 0.5 * named["brief"])
            listed.append(named["brief"])
    assert result.metrics["score/brief"] == pytest.approx(sum(listed) / len(listed))


def test_a_file_of_prompts_and_nothing_else_is_answered(talker, tmp_path):
    file = tmp_path / "prompts.jsonl"
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say two"}]
    lines = [{"prompt": "Say cat"}, {"prompt": turns, "id": "b"}, {"prompt": "Say cat"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, rows = sample(talker, file, tmp_path / "out")
    asked = [[(one["role"], one["content"]) for one in row["prompt"]] for row in rows]
    assert asked == [[("user", "Say cat")], [("system", "Be brief."), ("user", "Say two")]]
    assert all(len(row["completions"]) > 1 for row in rows)
    trainer = Preference(
        str(talker), loss="plackett_luce", held_out=0.0, columns={"score": "scores"}
    )
    assert trainer(tmp_path / "out", tmp_path / "model").rows == 2


def test_a_reward_without_its_option_says_how_to_set_it(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Say cat"}\n')
    given = ["sample", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(finetune, [*given, "--model", "none", "--reward", "length"])
    assert str(told.exception) == (
        "length needs the option 'target'; set it with --reward-options '{target: VALUE}'"
    )


def test_rows_whose_prompt_has_another_name_are_refused_with_what_to_do(talker, tmp_path):
    (tmp_path / "asked.jsonl").write_text('{"query": "Say cat"}\n')
    with pytest.raises(DataError) as told:
        sample(talker, tmp_path / "asked.jsonl", tmp_path / "out")
    for part in ("no format fits rows with the keys query", "--map query=prompt", "prompt_only",
                 "these are options of `siftune curate ingest"):  # fmt: skip
        assert part in str(told.value)
    assert "\n" not in str(told.value)


def test_scores_are_the_rewards_and_win_rates_those_of_bradley_terry(talker, asked, tmp_path):
    result, rows = sample(talker, asked, tmp_path / "out", scale=0.5)
    for row in rows:
        texts = [turns[0]["content"] for turns in row["completions"]]
        assert row["scores"] == [text.count("yes") * 3 / len(text) for text in texts]
        for at, score in enumerate(row["scores"]):
            wins = [1 / (1 + math.exp((other - score) / 0.5)) for other in row["scores"]]
            others = wins[:at] + wins[at + 1 :]
            assert row["win_rate"][at] == pytest.approx(sum(others) / len(others))
            assert row["win_probability"][at] == pytest.approx(sum(others) / len(others))
        assert sum(row["win_rate"]) == pytest.approx(len(texts) / 2)
        assert row["by_reference"] == [0.0] * len(texts)
    facts = json.loads((tmp_path / "out" / "sampling.json").read_text())
    assert facts["means"] == result.metrics
    assert facts["model"]["hash"] == model_hash(talker)


def test_a_win_rate_is_against_the_others_of_the_list_by_hand(talker, asked):
    """Chances of log 3 apart are 3/4 and 1/4; of equals, 1/2. Itself is no opponent."""
    base, high, low = {"id": "a"}, Scored("x", math.log(3)), Scored("y", 0.0)
    rates = Sample(str(talker), "length")._row(base, [high, low, low], [])["win_rate"]
    assert rates == pytest.approx([3 / 4, 3 / 8, 3 / 8])
    drawn = Sample(str(talker), "length", reference=str(talker), opponents=2)
    joined = drawn._row(base, [high], [low, low])  # of the reference, in the same list
    assert joined["win_rate"] == pytest.approx([3 / 4, 3 / 8, 3 / 8])
    assert joined["by_reference"] == [0.0, 1.0, 1.0]
    apart = drawn._row(base, [low], [high, low])  # the opponents meet each other, not themselves
    assert apart["win_probability"] == pytest.approx([3 / 8, 3 / 4, 1 / 4])
    mixed = Sample(str(talker), "length", reference=str(talker), opponents=1, mixture=0.5)
    apart = mixed._row(base, [high, low], [low])  # of the mixture, in no list
    assert apart["win_rate"] == pytest.approx([3 / 4, 1 / 4])
    assert apart["win_probability"] == pytest.approx([3 / 4, 1 / 2])


def test_an_answer_has_ended_with_each_end_token_of_the_generation_settings(
    tiny_model_dir, monkeypatch
):
    """Also where its last token is the last that it was allowed."""
    from siftune.finetune.evaluation.generation_eval import GenerationEval
    from siftune.finetune.models.loading import load_tokenizer

    model, tokenizer = load_causal(tiny_model_dir), load_tokenizer(tiny_model_dir)
    text_end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    drawn = [[5, tokenizer.eos_token_id], [5, text_end], [5, 6], [tokenizer.eos_token_id]]
    asked = tuple(
        {"id": str(at), "prompt": [{"role": "user", "content": "Hi"}], "reference": None}
        for at in range(4)
    )
    seen = []

    def sample(policy, prompts, sampling, seeds):
        seen.append(sampling.ends)
        return drawn

    monkeypatch.setattr("siftune.curate.text.sampling.sample", sample)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, text_end]
    rows = GenerationEval(asked, tokenizer, max_new_tokens=2)(model)
    assert [row["ended"] for row in rows] == [True, True, False, True]
    assert seen == [{tokenizer.eos_token_id, text_end}]  # generation stops at both


def test_a_step_on_own_samples_raises_the_reward(talker, asked, tmp_path, capsys):
    """Self-play by hand: sample, train, sample. The reward is the share of yes."""
    drawn = {"count": 16, "batch_size": 64}
    before, _ = sample(talker, asked, tmp_path / "one", **drawn)
    trainer = Preference(model=str(talker), loss="spo", beta=0.01, lr=3e-3, epochs=4, held_out=0.0)
    trainer(tmp_path / "one", tmp_path / "policy")
    assert "not known to be samples" not in capsys.readouterr().err
    after, _ = sample(tmp_path / "policy", asked, tmp_path / "two", **drawn)
    assert after.metrics["score"] > before.metrics["score"] + 0.05
    Preference(model=str(talker), loss="dno", held_out=0.0)(tmp_path / "two", tmp_path / "stale")
    assert "3 of 3 are not known to be samples of this model" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["xpo", "nash_md"])
def test_opponents_are_drawn_from_the_reference_or_a_mixture(
    talker, tiny_model_dir, asked, tmp_path, loss, capsys
):
    mixture = 1.0 if loss == "xpo" else 0.25
    options = {"reference": str(talker), "opponents": 3, "mixture": mixture}
    _, rows = sample(talker, asked, tmp_path / "out", **options)
    assert rows
    for row in rows:
        theirs = sum(row["by_reference"])
        assert (theirs > 0) == (loss == "xpo")
        assert row["by_reference"] == sorted(row["by_reference"])
        assert all(0 < chance < 1 for chance in row["win_probability"])
    trainer = Preference(model=str(talker), loss=loss, held_out=0.0)
    assert trainer(tmp_path / "out", tmp_path / "trained").metrics["steps"] > 0
    assert "not known to be samples" not in capsys.readouterr().err
    other, objective = Preference(model=str(tiny_model_dir), loss=loss), trainer.objective()
    other._check_rows(objective, trainer._load(objective, tmp_path / "out"))
    assert "not known to be samples" in capsys.readouterr().err


def test_a_mixture_is_geometric_token_by_token_and_leaves_the_model_as_it_was(
    talker, tiny_model_dir
):
    policy, other = load_causal(talker), load_causal(tiny_model_dir)
    ids = torch.tensor([[5, 9, 12, 7]])
    plain = policy(input_ids=ids).logits.log_softmax(-1)
    beside = other(input_ids=ids).logits.log_softmax(-1)
    with mixed(policy, other, 0.3):
        both = policy(input_ids=ids).logits.log_softmax(-1)
        made = policy.generate(ids, max_new_tokens=8, do_sample=False)
        again = policy.generate(ids, max_new_tokens=8, do_sample=False)
        uncached = policy.generate(ids, max_new_tokens=8, do_sample=False, use_cache=False)
    torch.testing.assert_close(both, (0.7 * plain + 0.3 * beside).log_softmax(-1))
    torch.testing.assert_close(policy(input_ids=ids).logits.log_softmax(-1), plain)
    for _ in range(made.shape[1] - 4):  # the same without any cache
        laws = [model(input_ids=ids).logits[0, -1].log_softmax(-1) for model in (policy, other)]
        ids = torch.cat([ids, (0.7 * laws[0] + 0.3 * laws[1]).argmax()[None, None]], 1)
    assert made.tolist() == again.tolist() == uncached.tolist() == ids.tolist()


def test_what_was_cut_off_is_no_sample(talker, asked, tmp_path):
    why = r"of 12 answers 12 cut off at the most tokens .*; raise --max-new-tokens"
    with pytest.raises(DataError, match=why):
        Sample(model=str(talker), reward="length", reward_options={"target": 2}, max_new_tokens=1)(
            asked, tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_prompts_without_two_answers_are_counted_with_the_reason(talker, asked, tmp_path, capsys):
    def half(texts, answers, rows):
        return [1.0 if "2" in text else None for text in texts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("siftune.finetune.tools.sample.reward_of", lambda *_: half)
        patch.setattr("siftune.finetune.tools.sample.load", lambda reward: None)
        _, rows = sample(talker, asked, tmp_path / "out")
    assert len(rows) == 1
    told = capsys.readouterr().err
    assert "left out: 2 of 3 prompts, without two answers with a score: of 15 answers" in told
    assert "10 without a score" in told
    left = json.loads((tmp_path / "out/sampling.json").read_text())["left_out"]
    assert left["prompts"] == 2
    assert left["answers"]["without a score"] == 10


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"reward": "lenght"}, "did you mean length"),
        ({"reward_options": {}}, "text_share needs the option 'text'"),
    ],
)
def test_a_wrong_reward_is_told_before_a_model_loads(asked, tmp_path, options, expected):
    given = {"reward": "text_share", "reward_options": {"text": "yes"}, **options}
    with pytest.raises(UsageError, match=expected):
        Sample(model="no/such/model", **given)(asked, tmp_path / "out")


@pytest.mark.parametrize(
    "wrong", [{"opponents": 2}, {"reference": "x"}, {"mixture": 1.5}, {"count": 0}, {"scale": 0}]
)
def test_options_that_do_not_go_together_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected|go together"):
        Sample(model="m", reward="length", **wrong)


def test_full_scores_pass_whatever_their_weighted_sum_is_rounded_to():
    asking = pl.DataFrame({"id": ["a"], "prompt_key": ["k"]})
    some = [Scored("x", 0.6 + 0.3 + 0.1), Scored("y", 0.999)]
    assert some[0].score < 1
    found = Sample._pass_rates(Sample(model="m"), asking["prompt_key"], asking, [some], [0])
    assert found["pass_rate"].to_list() == [0.5]


def test_rewards_are_given_that_the_answers_are_whole():
    given = []

    def reward(prompts, completions, rows):
        given.extend(rows)
        return [1.0] * len(rows)

    Sample._scored(reward, [{"id": "a", "prompt": [{"content": "?"}]}], [["yes", "no"]])
    assert [row["finished"] for row in given] == [True, True]


def test_sampling_is_a_command(talker, asked, tmp_path):
    given = ["sample", str(asked), "--out", str(tmp_path / "out"), "--model", str(talker)]
    more = ["--reward", "text_share", "--reward-options", "{text: 'yes'}", "--count", "3"]
    told = CliRunner().invoke(finetune, [*given, *more, "--max-new-tokens", "16"])
    assert told.exit_code == 0, told.output
    assert "rows; prompts 3" in told.output


def test_pass_rates_are_of_every_row_that_asks_and_count_what_was_cut(talker, asked, tmp_path):
    """With few tokens "no" ends, longer answers are cut and do not pass."""
    found = {}
    for name, most in (("cut", 5), ("whole", 16)):
        Sample(
            model=str(talker), max_new_tokens=most, count=8, pass_score=0.5,
            reward="text_share", reward_options={"text": "no"},
        )(asked, tmp_path / name)  # fmt: skip
        found[name] = pl.read_parquet(tmp_path / name / "pass_rates.parquet")
    kept = pl.read_parquet(tmp_path / "whole/kept.parquet")
    ids = pl.read_parquet(asked)["id"] if asked.suffix == ".parquet" else found["whole"]["id"]
    assert found["whole"]["id"].to_list() == ids.to_list()
    assert len(ids) == 6
    for name, rates in found.items():
        assert rates["pass_rate_samples"].to_list() == [8] * 6, name
        first, second = rates.head(3).drop("id"), rates.tail(3).drop("id")
        assert first.equals(second)  # rows 3 to 5 ask what rows 0 to 2 do
        p = rates["pass_rate"]
        assert rates["pass_rate_variance"].to_list() == (p * (1 - p)).to_list()
    for row in kept.iter_rows(named=True):
        passed = sum(score >= 0.5 for score in row["scores"])
        rate = found["whole"].filter(pl.col("id") == row["id"])["pass_rate"].item()
        assert rate == passed / 8
    joined = PassRate((str(tmp_path / "cut"),))(found["whole"].select("id"))
    assert joined.equals(found["cut"].drop("id"))
