"""Errors in Python name what Python takes, and following them works."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import siftune as sf
from siftune.curate.core.terminal import echo
from siftune.finetune.cli import finetune
from siftune.session import python_errors

PROMPTS = [{"prompt": "a"}]


def refused(call, kind=sf.UsageError) -> str:
    with pytest.raises(kind) as error:
        call()
    return str(error.value)


def test_an_option_of_a_reward_is_set_as_advised(tmp_path):
    def trained(**options):
        out = tmp_path / "out"
        asked = {"model": str(tmp_path), "reward": "text_share", "out": out, **options}
        return refused(lambda: sf.train.ppo(PROMPTS, **asked))

    assert trained().endswith('set it with reward_options={"text": VALUE}')
    assert "is not a model folder" in trained(reward_options={"text": "x"})


@pytest.mark.parametrize(
    ("train", "name"),
    [(sf.train.dpo, "warmup_steps"), (sf.train.dpo, "warmup_ratio"), (sf.train.sft, "optim")],
)
def test_an_argument_of_the_hugging_face_trainer_is_passed_on_as_advised(train, name, tmp_path):
    def trained(**options):
        given = {"model": "m", "out": tmp_path / "o", **options}
        return refused(lambda: train("gone.jsonl", **given), sf.SiftuneError)

    advised = trained(**{name: 1}).rpartition(" given as ")[2]
    key = "warmup_steps" if name == "warmup_ratio" else name
    assert advised == f'options={{"{key}": VALUE}}'
    value = "sgd" if name == "optim" else 0.1
    assert trained(options={key: value}).startswith("gone.jsonl")  # it is taken, rows are read


def test_flags_in_texts_of_other_libraries_stay(tmp_path):
    given = {"model": "m", "out": tmp_path / "o", "options": {"load_best_model_at_end": True}}
    told = refused(lambda: sf.train.dpo("gone.jsonl", **given))
    assert "--load_best_model_at_end requires" in told


@pytest.mark.parametrize(
    ("train", "name", "advice"),
    [
        (sf.train.dpo, "lora_dropout", "set lora and lora_alpha"),
        (sf.train.sft, "peft_config", "set lora and lora_alpha"),
        (sf.train.dpo, "attn_implementation", "the one that transformers takes"),
        (sf.train.dpo, "processing_class", "tokenizer="),
        (sf.train.dpo, "args", "as options such as lr"),
        (sf.train.dpo, "reward_model", "only ppo and sample take a reward"),
        (sf.train.ppo, "reward_model", "did you mean reward=?"),
        (sf.train.ppo, "lr_scheduler_type", "did you mean schedule=?"),
        (sf.train.sft, "label_smoothing", "training on preferences of its own: siftune.train.cdpo"),
        (sf.train.dpo, "train_dataset", "the rows are the first argument: siftune.train.dpo(ROWS)"),
    ],
)
def test_what_trl_has_and_we_have_not_is_answered(train, name, advice):
    told = refused(lambda: train(PROMPTS, model="m", out="o", **{name: 1}))
    assert advice in told
    assert "there are:" not in told


def test_rows_that_need_a_format_are_read_first_as_advised():
    records = [{"prompt": "a", "gold": "b"}]
    given = {"model": "m", "reward": "length", "out": "o"}
    for call in (lambda: sf.train.ppo(records, **given), lambda: sf.score(records, "length")):
        told = refused(call, sf.DataError)
        assert 'set format="prompt_only"' in told
        assert told.endswith("these are arguments of siftune.read, whose rows are taken here")
    assert len(sf.read(records, format="prompt_only")) == 1
    assert "whose rows" not in refused(lambda: sf.read(records), sf.DataError)


def test_a_component_of_the_other_kind_is_called_so():
    rows = sf.read(PROMPTS, format="prompt_only")
    assert refused(lambda: rows.select("length")).endswith("'length'; length is a scorer")
    assert refused(lambda: rows.score("top_k")).endswith("'top_k'; top_k is a selector")
    assert refused(lambda: rows.score("exact")).endswith("exact_dedup is a selector")
    assert refused(lambda: rows.score("lenght")).endswith("did you mean length?")


def test_a_format_of_ones_own_may_call_the_completion_response_or_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("f.py").write_text(
        "def q(row, name='response'):\n    return {'prompt': row['q'], name: row['a']}\n\n"
        "def r(row):\n    return q(row, 'answer')\n"
    )
    for name in ("q", "r"):
        rows = sf.read([{"q": "2+2?", "a": "4"}], format=f"f.py:{name}")
        assert [turn["content"] for turn in rows.kept["messages"][0]] == ["2+2?", "4"]


def test_messages_on_standard_error_name_arguments_as_errors_do(capsys):
    with python_errors():
        echo("left out: 2 (--max-new-tokens 4); raise --max-new-tokens", err=True)
    echo("raise --count", err=True)
    assert capsys.readouterr().err.splitlines() == [
        "left out: 2 (max_new_tokens=4); raise max_new_tokens=",
        "raise --count",
    ]


def test_a_misspelt_new_name_of_a_column_is_advised_once():
    records = [{"q": "a", "a": "b"}]
    told = refused(lambda: sf.read(records, map={"q": "prompt", "a": "respons"}))
    assert told.startswith(
        'map={"a": "respons"}: no layout reads a field \'respons\'; did you mean'
    )
    assert 'did you mean map={"a": "response"}? (' in told
    assert len(sf.read(records, map={"q": "prompt", "a": "response"})) == 1


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        ({"prompt": ["a"], "response": ["b"]}, "make a frame of its columns: polars.DataFrame"),
        ({"prompt": "a", "response": "b"}, "put the one row into a list"),
        ({"messages": [{"role": "user", "content": "a"}]}, "put the one row into a list"),
        (iter([]), "make a list of it"),
    ],
)
def test_what_is_no_frame_is_made_one(data, advice):
    assert advice in refused(lambda: sf.read(data))


def test_a_path_is_read_before_a_scorer_is_called_with_its_rows():
    for path in ("rows.jsonl", Path("rows.jsonl")):
        told = refused(lambda path=path: sf.scorer("length")(path))
        assert told.endswith("read a file first: siftune.read(...).kept")


def test_a_reward_whose_only_parameter_may_be_anything_is_renamed_as_advised():
    told = refused(lambda: sf.reward(lambda text: len(text)))
    assert "name its parameter completion to be given one completion" in told
    assert sf.reward(lambda completion: len(completion))(["?"], ["abc"]) == [3]
    assert sf.reward(lambda response: len(response))(["?"], ["abc"]) == [3]
    assert sf.reward(lambda responses: [1.0] * len(responses))(["?"], ["abc"]) == [1]


def test_a_value_that_is_no_component_is_named_in_short():
    frame = pl.DataFrame(PROMPTS)
    for call in (sf.scorer, sf.selector, sf.reward, sf.loss, sf.read(PROMPTS).score):
        told = refused(lambda call=call: call(frame))
        assert told.startswith("expected ")
        assert told.endswith(", got a value of type DataFrame")


def test_a_judge_task_is_called_so():
    told = refused(lambda: sf.read(PROMPTS).judge(lambda messages: "5", task="alpagassus"))
    assert told == "no judge task is called 'alpagassus'; did you mean alpagasus?"


def test_case_is_no_other_name():
    assert "did you mean dpo?" in refused(lambda: sf.loss("DPO"))
    assert "did you mean DPO?" in refused(lambda: sf.losses.Dpo, AttributeError)
    assert "did you mean dpo?" in refused(lambda: sf.train.DPO, AttributeError)
    assert "did you mean grpo?" in refused(lambda: sf.train.GRPO, AttributeError)
    told = CliRunner().invoke(finetune, ["DPO"]).exception
    assert str(told).endswith("did you mean dpo?")
