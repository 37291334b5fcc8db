from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn
from siftune.finetune.models.loading import load_causal, load_tokenizer, model_hash, read_facts
from siftune.finetune.trainers.sft import SFT

COLOURS = ["red", "blue", "green", "black", "white", "grey"]


def chats(answers: list[str | None]) -> pl.DataFrame:
    rows = [
        {
            "id": f"t:{at}",
            "source": "t",
            "row": at,
            "kind": "conversation",
            "messages": [turn("user", f"Name colour {at}."), turn("assistant", answer)],
        }
        for at, answer in enumerate(answers, 1)
    ]
    return pl.DataFrame(rows, schema_overrides=schema_of("conversation"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    chats([f"It is {colour}." for colour in COLOURS * 2]).write_parquet(path)
    return path


@pytest.fixture
def sft(tiny_model_dir: Path) -> Callable[..., SFT]:
    def build(**options: Any) -> SFT:
        given = {"lr": 1e-2, "batch_size": 4, "log_every": 1, "max_length": 64, **options}
        return SFT(model=str(tiny_model_dir), **given)

    return build


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_model_learns_loads_and_says_what_it_saw(
    sft: Callable[..., SFT],
    rows: Path,
    tmp_path: Path,
    tiny_model_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "m"
    result = sft(epochs=4)(rows, out)
    told = capsys.readouterr()
    assert told.out == ""
    assert "step 12 of 12, loss" in told.err
    assert "shards" not in told.err
    logged = lines(out / "metrics.jsonl")
    assert [line["step"] for line in logged] == list(range(1, 13))
    assert logged[-1]["loss"] < 0.7 * logged[0]["loss"]
    assert result.rows == 12
    facts = read_facts(out)
    assert facts["base"]["hash"] == model_hash(tiny_model_dir)
    assert facts["data"]["rows"] == 12
    assert facts["hash"] == model_hash(out) != facts["base"]["hash"]
    assert load_causal(out).config.vocab_size == len(load_tokenizer(out))
    assert not (tmp_path / "m.work").exists()
    text = (out / "siftune.json").read_text() + (out / "README.md").read_text()
    assert str(tmp_path) not in text
    assert str(tiny_model_dir.parent) not in text


def test_the_first_loss_is_the_mean_over_the_answers_tokens(
    sft: Callable[..., SFT], rows: Path, tmp_path: Path, tiny_model_dir: Path
) -> None:
    import torch

    sft(batch_size=12)(rows, tmp_path / "m")
    tokenizer, model = load_tokenizer(tiny_model_dir), load_causal(tiny_model_dir)
    total, count = 0.0, 0
    for messages in pl.read_parquet(rows)["messages"]:
        asked, said = (each["content"] for each in messages)
        head = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
        start = len(tokenizer.encode(head))
        ids = torch.tensor([tokenizer.encode(f"{head}{said}<|im_end|>")])
        with torch.no_grad():
            logps = model(ids).logits.log_softmax(-1)[0, :-1]
        nll = -logps.gather(1, ids[0, 1:, None])[start - 1 :, 0]
        total, count = total + float(nll.sum()), count + len(nll)
    first = lines(tmp_path / "m" / "metrics.jsonl")[0]["loss"]
    assert first == pytest.approx(total / count, rel=1e-4)


def test_accumulated_batches_give_the_loss_of_one_large_batch(
    sft: Callable[..., SFT], tmp_path: Path
) -> None:
    uneven = tmp_path / "uneven.parquet"
    chats(["a", "b", "c " * 20, "d"]).write_parquet(uneven)
    sft(batch_size=4)(uneven, tmp_path / "one")
    sft(batch_size=1, options={"gradient_accumulation_steps": 4})(uneven, tmp_path / "four")
    one, four = (lines(tmp_path / name / "metrics.jsonl")[0] for name in ("one", "four"))
    assert four["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert four["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)


def test_packed_rows_have_the_loss_of_padded_rows(
    sft: Callable[..., SFT], rows: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sft(batch_size=12, max_length=128)(rows, tmp_path / "padded")
    sft(batch_size=12, max_length=128, packing=True)(rows, tmp_path / "packed")
    padded, packed = (lines(tmp_path / n / "metrics.jsonl") for n in ("padded", "packed"))
    assert packed[0]["loss"] == pytest.approx(padded[0]["loss"], rel=1e-4)
    assert "\r" not in capfd.readouterr().err  # no progress bar of a library


def test_a_run_cut_off_ends_in_the_same_bytes(
    sft: Callable[..., SFT],
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = sft(
        epochs=3, save_every=2, log_every=3, eval_rows=str(rows), eval_limit=3, max_new_tokens=4
    )
    trainer(rows, tmp_path / "whole")
    cut_at_step(8, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        trainer(rows, tmp_path / "cut")
    monkeypatch.undo()
    work = tmp_path / "cut.work"
    torn = work / "checkpoint-6" / "optimizer.pt"
    torn.write_bytes(torn.read_bytes()[:100])
    capsys.readouterr()
    trainer(rows, tmp_path / "cut")
    told = capsys.readouterr().err
    assert "checkpoint-6 is torn" in told
    assert "checkpoint-4\n" in told
    assert "step 6 of 9" in told
    assert "step 4 of 9" not in told
    whole, cut = (tree(tmp_path / name) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    differ = [name for name in whole if whole[name] != cut[name]]
    assert differ == ["README.md"]  # its heading is the folder's name
    steps = [path.name for path in sorted((tmp_path / "cut" / "evaluation").iterdir())]
    assert steps == [f"step-{step:06}.jsonl" for step in (0, 2, 4, 6, 8, 9)]


def cut_at_step(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from siftune.finetune.runs.callbacks import Metrics

    log = Metrics.on_log

    def stop(self: Metrics, args: Any, state: Any, *more: Any, **named: Any) -> None:
        log(self, args, state, *more, **named)
        if state.global_step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Metrics, "on_log", stop)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_same_run_again_does_no_work_and_another_is_refused(
    sft: Callable[..., SFT], rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = sft()(rows, tmp_path / "m")
    capsys.readouterr()
    again = sft()(rows, tmp_path / "m")
    assert "nothing to do" in capsys.readouterr().err
    assert again.metrics == first.metrics
    assert not (tmp_path / "m.work").exists()
    with pytest.raises(UsageError, match="is there already, made with other options"):
        sft(seed=1)(rows, tmp_path / "m")


def test_a_token_budget_sets_the_length_of_training(
    sft: Callable[..., SFT], rows: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small.parquet"
    pl.read_parquet(rows).head(3).write_parquet(small)
    long = sft(max_tokens=300)(rows, tmp_path / "long")
    short = sft(max_tokens=300)(small, tmp_path / "short")
    for result in (long, short):
        assert 280 <= result.metrics["trained_tokens"] <= 300
    with pytest.raises(UsageError, match="max_tokens: 1 tokens are fewer"):
        sft(max_tokens=1)(rows, tmp_path / "none")


def test_an_adapter_is_merged_into_the_model(
    sft: Callable[..., SFT], rows: Path, tmp_path: Path, tiny_model_dir: Path
) -> None:
    sft(lora=4, epochs=2)(rows, tmp_path / "m")
    base, tuned = load_causal(tiny_model_dir), load_causal(tmp_path / "m")
    names = [name for name, _ in base.named_parameters()]
    assert names == [name for name, _ in tuned.named_parameters()]
    moved = [
        name
        for name, weights in base.named_parameters()
        if not weights.equal(tuned.get_parameter(name))
    ]
    assert moved
    assert all("proj" in name for name in moved)


def test_rows_that_cannot_be_learned_are_refused_or_listed(
    sft: Callable[..., SFT], tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed.parquet"
    table = chats(["It is red.", "", None, "It is blue."])
    long = chats(["x"]).with_columns(
        id=pl.lit("t:9"), messages=chats(["x"])["messages"].implode().first()
    )
    asked = [turn("user", "very " * 80), turn("assistant", "yes")]
    long = long.with_columns(messages=pl.Series([asked], dtype=table.schema["messages"]))
    pl.concat([table, long]).write_parquet(mixed)
    with pytest.raises(DataError, match=r"empty_answer \(t:2\).*null_answer \(t:3\).*\(t:9\)"):
        sft()(mixed, tmp_path / "m")
    result = sft(on_bad="drop")(mixed, tmp_path / "m")
    assert result.rows == 2
    assert read_facts(tmp_path / "m")["data"]["dropped"] == {
        "empty_answer": 1,
        "null_answer": 1,
        "prompt_over_max_length": 1,
    }
    listed = [line["id"] for line in lines(tmp_path / "m" / "dropped.jsonl")]
    assert listed == ["t:2", "t:3", "t:9"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"warmup_step": 3}}, "no argument 'warmup_step'; did you mean warmup_steps"),
        ({"options": {"learning_rate": 1.0}}, "the option lr sets it"),
        ({"options": {"output_dir": "x"}}, "--out names the folder"),
        ({"options": {"bf16": True}}, "bf16: there is no GPU here"),
        ({"options": {"lr_scheduler_type": "zigzag"}}, "refuses these arguments"),
        ({"options": {"max_grad_norm": "much"}}, "max_grad_norm: expected a number, got 'much'"),
        ({"options": {"max_grad_norm": "nan"}}, "max_grad_norm: expected a number, got 'nan'"),
        ({"max_length": 10_000}, "max_length: 10000, the model takes 512"),
    ],
)
def test_options_that_cannot_work_are_refused_before_training(
    sft: Callable[..., SFT], rows: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        sft(**options)(rows, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_the_frozen_base_is_named_where_an_adapter_is_trained() -> None:
    assert SFT("m")._formats == ([], "trained weights")
    assert SFT("m", lora=2)._formats == (["the frozen base"], "adapters")


def test_a_budget_of_tokens_is_trained_on_once() -> None:
    assert SFT("m", epochs=3)._trained([5, 7, 9], [0, 1]) == 36
    assert SFT("m", epochs=3, max_tokens=12)._trained([5, 7, 9], [0, 1]) == 12
