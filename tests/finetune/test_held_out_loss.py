"""SFT measures the loss on held-out rows, stops early, and writes the weights that were best."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from siftune.curate.chat.encoding import Encoded
from siftune.curate.core.errors import UsageError
from siftune.finetune.models.loading import load_causal, model_hash
from siftune.finetune.runs import held_out_loss
from siftune.finetune.runs.held_out_loss import mean_loss
from siftune.finetune.runs.resumable_run import Run
from siftune.finetune.trainers.sft import SFT

SMALL: dict[str, Any] = {"batch_size": 4, "lr": 1e-2, "save_every": 2, "log_every": 2}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    listed = [{"prompt": f"Say {at}.", "completion": f"It is {at}."} for at in range(16)]
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return path


def losses(folder: Path) -> dict[int, float]:
    lines = (folder / "held_out.jsonl").read_text().splitlines()
    return {one["step"]: one["loss"] for one in map(json.loads, lines)}


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "siftune.json").read_text())
    return found


def test_the_loss_is_the_mean_over_learned_tokens_however_rows_are_batched(
    tiny_model_dir: Path,
) -> None:
    model = load_causal(tiny_model_dir)
    rows = [
        Encoded([5, 6, 7, 8, 9], [0, 0, 1, 0, 1]),
        Encoded([9, 8, 7], [1, 1, 1]),  # nothing predicts a first token
        Encoded([4, 5, 6, 7, 8, 9, 10], [0, 1, 0, 0, 1, 1, 1]),
    ]
    logps = []
    for row in rows:
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
        own = enumerate(zip(row.ids, row.mask, strict=True))
        logps += [scores[at - 1, token] for at, (token, bit) in own if bit and at]
    expected = -float(torch.stack(logps).mean())
    assert len(logps) == 8
    for size in (1, 2, 3):
        assert mean_loss(model, rows, size) == pytest.approx(expected, rel=1e-5)


def test_a_share_of_the_prompts_is_measured_before_at_checkpoints_and_after(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = SFT(str(tiny_model_dir), **SMALL, held_out=0.25, epochs=2)(rows, out)
    found = losses(out)
    assert list(found) == [0, 2, 4, 6]
    assert result.rows == 12
    assert result.metrics["held_out_loss_before"] == found[0]
    assert result.metrics["held_out_loss"] == found[6] < found[0]
    assert facts(out)["stopped"] is None


SCRIPT = {0: 3.0, 1: 2.5, 2: 2.0, 3: 2.2, 4: 2.1, 5: 1.0}
"""Losses of the first, second ... measurement; the fifth would be the best of all."""


def scripted(patch: pytest.MonkeyPatch, given: dict[int, float]) -> None:
    """Losses by the number of the measurement, as the file has them."""

    def measure(self: Any, model: Any, step: int) -> None:
        loss = given[len(self.found)]
        self.loss = lambda model: loss
        plain(self, model, step)

    plain = held_out_loss.HeldOutLoss._measure
    patch.setattr(held_out_loss.HeldOutLoss, "_measure", measure)


@pytest.mark.parametrize("lora", [0, 2])
def test_training_stops_when_the_loss_no_longer_falls_and_the_best_weights_are_written(
    lora: int,
    tiny_model_dir: Path,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scripted(monkeypatch, SCRIPT)
    early = SFT(
        str(tiny_model_dir), **SMALL, held_out=0.25, epochs=9, patience=2, keep="best", lora=lora
    )
    result = early(rows, tmp_path / "early")
    assert losses(tmp_path / "early") == {0: 3.0, 2: 2.5, 4: 2.0, 6: 2.2, 8: 2.1}
    assert result.metrics["kept_step"] == 4
    assert result.metrics["held_out_loss"] == 2.0
    assert facts(tmp_path / "early")["stopped"] == "held_out_loss"
    said = capsys.readouterr().err
    assert "stopped early: held-out loss 2.1000 at step 8, not below 2.0000 of step 4" in said
    assert "taking the weights of step 4" in said

    with monkeypatch.context() as patch:  # a run that is killed at the end of it ends there again
        patch.setattr(Run, "finish", stopped)
        with pytest.raises(KeyboardInterrupt):
            early(rows, tmp_path / "cut")
    early(rows, tmp_path / "cut")
    assert model_hash(tmp_path / "cut") == model_hash(tmp_path / "early")
    assert facts(tmp_path / "cut") == facts(tmp_path / "early")

    def at_step_four(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # the weights after four steps of the same schedule
        patch.setattr(held_out_loss.HeldOutLoss, "take_best", at_step_four)
        with pytest.raises(KeyboardInterrupt):
            early(rows, tmp_path / "other")
    kept = sorted(path.name for path in (tmp_path / "other.work").glob("checkpoint-*"))
    assert kept == ["checkpoint-4", "checkpoint-6"]
    if not lora:
        from safetensors.torch import load_file

        four = load_file(tmp_path / "other.work/checkpoint-4/model.safetensors")
        ours = load_file(tmp_path / "early/model.safetensors")
        assert all(torch.equal(ours[name], four[name]) for name in ours)


def stopped(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_rows_to_evaluate_serve_where_nothing_is_held_out(
    tiny_model_dir: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, {0: 3.0, 1: 1.0, 2: 2.0})
    given = {"eval_rows": str(rows), "eval_limit": 3, "max_new_tokens": 2, "keep": "best"}
    out = tmp_path / "out"
    result = SFT(str(tiny_model_dir), **SMALL, **given)(rows, out)
    assert result.metrics["kept_step"] == 2
    evaluated = json.loads((out / "evaluation.json").read_text())
    assert evaluated["last"]["step"] == 2
    assert [one["step"] for one in evaluated["steps"]] == [0, 2, 4]
    assert result.metrics["eval_loss"] == evaluated["steps"][1]["loss"]


def test_a_prompt_alone_has_no_loss_to_follow(tiny_model_dir: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a?", "completion": "b"}\n')
    held = tmp_path / "held.jsonl"
    held.write_text('{"messages": [{"role": "user", "content": "a?"}]}\n')
    with pytest.raises(UsageError, match=r"held\.jsonl has no answers to measure a loss on"):
        SFT(str(tiny_model_dir), patience=1, eval_rows=str(held))(rows, tmp_path / "out")


def test_documents_are_held_out_one_by_one(tiny_model_dir: Path, tmp_path: Path) -> None:
    rows = tmp_path / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": f"text {at} of all"}) + "\n" for at in range(8)))
    result = SFT(str(tiny_model_dir), **SMALL, held_out=0.25)(rows, tmp_path / "out")
    assert result.rows == 6


@pytest.mark.parametrize("given", [{"patience": 1}, {"keep": "best"}])
def test_without_held_out_rows_there_is_nothing_to_follow(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="they need held_out, a share, or eval_rows"):
        SFT("model", **given)
