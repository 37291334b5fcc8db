"""Two launched processes train on answers as one does, what is shared over a step included."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.finetune.test_answer_training import scored
from tests.finetune.test_answers import rows_file
from tests.finetune.test_launch import entry, launched, lines, succeed, words


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("loss", ["kto", "dro_v"])
def test_a_launched_run_is_the_run_of_one_process(loss, tiny_model_dir, tmp_path):
    from click.testing import CliRunner

    from pipelines.cli import siftune

    rows = rows_file(tmp_path, [scored(row) for row in range(20)])
    script = entry(tmp_path, "from pipelines.cli import main\nmain()\n")

    def command(name, size):
        options = {"held_out": 0.2, "batch_size": size, "beta": 1.0}
        return ["finetune", loss, *words(tiny_model_dir, rows, tmp_path / name, **options)[2:]]

    alone = CliRunner().invoke(siftune, command("one", 4))
    assert alone.exit_code == 0, alone.output
    succeed(launched("ddp.yaml", script, command("two", 2)))
    for ours, theirs in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        for name in ("loss", "kl", "entropy"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-6, rel=1e-5), name
    ours, theirs = (load_file(tmp_path / at / "model.safetensors") for at in ("one", "two"))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-5)
    told = [json.loads((tmp_path / at / "evaluation.json").read_text()) for at in ("one", "two")]
    assert told[0]["last"] == pytest.approx(told[1]["last"], abs=1e-5)
