"""Two launched processes train on answers as one does, what is shared over a step included."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.finetune.test_answer_training import scored
from tests.finetune.test_answers import rows_file
from tests.finetune.test_launch import entry, environment, launched, lines, succeed, words

IN_DOUBLE = """
import siftune.finetune.models.loading as models

own = models.load_causal
models.load_causal = lambda *given, **more: own(*given, **more).double()
from siftune.pipelines.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_where_two_processes_differ_from_one_it_is_by_the_order_of_sums(tiny_model_dir, tmp_path):
    """DRO-V's loss, which is of the size of its rewards' squares, by 2e-6 of it in float32."""
    rows = rows_file(tmp_path, [scored(row) for row in range(12)])
    script, found = entry(tmp_path, IN_DOUBLE), []
    for name, size in (("one", 4), ("two", 2)):
        options = {"held_out": 0.0, "batch_size": size, "beta": 1.0}
        command = [
            "finetune",
            "dro_v",
            *words(tiny_model_dir, rows, tmp_path / name, **options)[2:],
        ]
        if name == "two":
            succeed(launched("ddp.yaml", script, command))
        else:
            alone = [sys.executable, str(script), *command]
            subprocess.run(alone, env=environment(), check=True, capture_output=True)
        norms = [line["grad_norm"] for line in lines(tmp_path / name)]
        found.append((norms, load_file(tmp_path / name / "value_head.safetensors")))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-12)
    for name, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], value, rtol=0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("loss", ["kto", "dro_v"])
def test_a_launched_run_is_the_run_of_one_process(loss, tiny_model_dir, tmp_path):
    from click.testing import CliRunner

    from siftune.pipelines.cli import siftune

    rows = rows_file(tmp_path, [scored(row) for row in range(20)])
    script = entry(tmp_path, "from siftune.pipelines.cli import main\nmain()\n")

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
