"""Two processes see the same loss as one: sums over pairs, divided by their global number."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = """
import json, os, sys
from pathlib import Path
import polars as pl
from transformers import TrainingArguments
from finetune import models
from finetune.collate import PairCollator
from finetune.logps import answer_with_scores
from finetune.losses.pair.dpo import DPO
from finetune.pair_rows import pairs_of
from finetune.pairs import PairTrainer
from finetune.reference import frozen

model, rows, out, size = sys.argv[1:]
tokenizer = models.load_tokenizer(model)
pairs = pairs_of(pl.read_parquet(rows), tokenizer).ids
policy = models.load_causal(model)
answer_with_scores(policy)
args = TrainingArguments(
    output_dir=out, per_device_train_batch_size=int(size), num_train_epochs=2, learning_rate=1e-3,
    use_cpu=True, logging_steps=1, save_strategy="no", report_to="none", seed=3, data_seed=3,
    remove_unused_columns=False, disable_tqdm=True, train_sampling_strategy="sequential",
    ddp_find_unused_parameters=False,
)
trainer = PairTrainer(
    policy, DPO(), frozen(model), args, pairs, [], PairCollator(tokenizer.pad_token_id), ("kl",)
)
trainer.train()
if trainer.is_world_process_zero():
    logs = {"processes": trainer.accelerator.num_processes, "log": trainer.state.log_history}
    Path(out, "log.json").write_text(json.dumps(logs))
"""


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def run(processes, model, rows, out, size):
    """The logged steps of ``processes`` that train together."""
    out.mkdir()
    (out / "train.py").write_text(SCRIPT)
    root = Path(__file__).parents[2]
    shared = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "GLOO_SOCKET_IFNAME": "lo",
        "WORLD_SIZE": str(processes),
    }
    command = [sys.executable, *map(str, (out / "train.py", model, rows, out, size))]
    started = [
        subprocess.Popen(command, cwd=root, env={**shared, "RANK": str(at), "LOCAL_RANK": str(at)})
        for at in range(processes)
    ]
    try:
        assert [process.wait(timeout=200) for process in started] == [0] * processes
    finally:
        for process in started:
            process.kill()
    logs = json.loads((out / "log.json").read_text())
    assert logs["processes"] == processes
    return [line for line in logs["log"] if "loss" in line]


def test_two_processes_train_as_one(tiny_model_dir, tmp_path):
    from tests.finetune.test_preference import rows_file

    rows = rows_file(tmp_path, 16)
    one = run(1, tiny_model_dir, rows, tmp_path / "one", 8)
    two = run(2, tiny_model_dir, rows, tmp_path / "two", 4)
    assert len(one) == len(two) == 4
    for ours, theirs in zip(one, two, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
        assert ours["rewards/margins"] == pytest.approx(theirs["rewards/margins"], abs=1e-5)
        assert ours["kl"] == pytest.approx(theirs["kl"], abs=1e-7)
        assert ours["lengths/chosen"] == theirs["lengths/chosen"]
