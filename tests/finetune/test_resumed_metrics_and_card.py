"""The metrics of a training that is resumed, and the names in its card."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson


def test_a_run_that_resumes_with_nothing_left_to_do_keeps_its_last_metrics(tmp_path: Path) -> None:
    from finetune.callbacks import Metrics

    lines = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    metrics, nothing = Metrics(path), SimpleNamespace()
    state: Any = SimpleNamespace(global_step=2)
    metrics.on_train_begin(nothing, state, nothing)  # type: ignore[arg-type]
    assert metrics.last == lines[1]
    assert len(path.read_bytes().splitlines()) == 2


def test_names_in_a_model_card_are_text_and_not_markup() -> None:
    from finetune.card import card

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
