"""The metrics of a training that is resumed, and the names in its card."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest


def test_a_run_that_resumes_with_nothing_left_to_do_keeps_its_last_metrics(tmp_path: Path) -> None:
    from siftune.finetune.runs.callbacks import Metrics

    lines = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    metrics, nothing = Metrics(path), SimpleNamespace()
    state: Any = SimpleNamespace(global_step=2, num_input_tokens_seen=0)
    metrics.on_train_begin(nothing, state, nothing)  # type: ignore[arg-type]
    assert metrics.last == lines[1]
    assert len(path.read_bytes().splitlines()) == 2


def test_names_in_a_model_card_are_text_and_not_markup() -> None:
    from siftune.finetune.models.saving import card

    hostile = "<script>alert(1)</script>|`x`"
    facts = {
        "stage": "sft",
        "base": {"path": hostile, "hash": "0"},
        "options": {hostile: hostile},
        "metrics": {"loss": 0.5},
    }
    text = card(hostile, facts)
    assert "<script>" not in text
    assert "`x`" not in text
    assert "| loss | 0.5 |" in text


def test_a_card_has_the_command_the_base_its_licence_and_the_number_format_that_was_used() -> None:
    from siftune.finetune.models.saving import card

    facts = {
        "stage": "sft",
        "base": {"path": "org/base", "hash": "0", "licence": "apache-2.0"},
        "command": "siftune finetune sft rows.parquet --model org/base --epochs 2.0",
        "data": {"path": "rows.parquet", "rows": 7, "sources": {"alpaca": 4, "dolly": 3}},
        "options": {"precision": "auto", "epochs": 2.0},
        "precision": "bf16",
        "seed": 0,
    }
    text = card("my model", facts)
    assert "\nlicense: apache-2.0\n---\n" in text
    command = "siftune finetune sft rows.parquet --model org/base --epochs 2.0 --out 'my model'"
    assert f"    {command}\n" in text
    assert "The licence of the base model is apache-2.0" in text
    assert "Absolute paths are shortened to their last two names" in text
    assert "| sources | alpaca: 4, dolly: 3 |" in text
    assert "| precision | bf16 |" in text
    assert "| epochs | 2 |" in text
    unknown = card("m", facts | {"base": {"path": "b", "hash": "0"}})
    assert "\nlicense:" not in unknown
    assert "The licence of the base model is not stated" in unknown


def test_the_command_has_what_differs_from_the_defaults() -> None:
    from siftune.finetune.models.saving import command_line
    from siftune.finetune.trainers.preference import Preference
    from siftune.finetune.trainers.sft import SFT

    sft = SFT("/home/me/models/a b", epochs=3, held_out=0.1, options={"warmup_steps": 2})
    assert command_line(sft, "finetune sft", Path("/data/runs/x/kept.parquet")) == (
        "siftune finetune sft x/kept.parquet --model 'models/a b' --epochs 3 --held-out 0.1 "
        "-o warmup_steps=2"
    )
    dpo = Preference("m", "dpo", loss_options={"beta": 0.3}, also={"sft": 0.2}, share_prefix=False)
    assert command_line(dpo, "finetune dpo", "p.jsonl") == (
        "siftune finetune dpo p.jsonl --model m --beta 0.3 --also sft=0.2 --share-prefix false"
    )


def test_the_licence_of_a_model_is_that_of_its_card_or_of_what_it_was_trained_from(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    import shutil

    from siftune.finetune.models.saving import licence_of

    assert licence_of(tiny_model_dir) is None
    stated = tmp_path / "stated"
    shutil.copytree(tiny_model_dir, stated)
    (stated / "README.md").write_text("---\nlicense: mit\ntags: [a]\n---\nlicense: none\n")
    assert licence_of(stated) == "mit"
    (stated / "README.md").write_text("license: mit\n")
    assert licence_of(stated) is None
    (stated / "siftune.json").write_bytes(orjson.dumps({"base": {"licence": "gpl-3.0"}}))
    assert licence_of(stated) == "gpl-3.0"


def test_the_facts_of_rows_count_them_by_source() -> None:
    import polars as pl

    from siftune.finetune.data.training_rows import _sources

    named = ["b"] * 3 + ["a"] * 5 + ["c"] * 3
    assert list(_sources(pl.Series("source", named)).items()) == [("a", 5), ("b", 3), ("c", 3)]
    many = _sources(pl.Series("source", ["z", "z", *map(str, range(30))]))
    assert len(many) == 21
    assert many["z"] == 2
    assert many["11 other sources"] == 11


def test_a_training_announces_its_steps_and_slow_evaluations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first logged step can be minutes away."""
    from siftune.curate.core.progress import announcing, if_slow
    from siftune.finetune.runs.callbacks import Evaluations, Metrics

    monkeypatch.setattr(if_slow.__wrapped__, "__defaults__", (0.01,))  # type: ignore[attr-defined]
    state: Any = SimpleNamespace(global_step=0, max_steps=1_200, num_input_tokens_seen=0)
    model: Any = SimpleNamespace(training=True, eval=lambda: None, train=lambda mode: None)
    nothing: Any = None
    said: list[str] = []
    Metrics(tmp_path / "metrics.jsonl").on_train_begin(nothing, state, nothing)
    with announcing(said.append):
        slow = Evaluations(lambda model, step: time.sleep(0.1))
        slow.on_train_begin(nothing, state, nothing, model=model)
    assert said == ["evaluating held-out rows at step 0"]
    assert capsys.readouterr().err == "training: 1,200 steps\n"
