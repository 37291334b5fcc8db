"""Several processes that a launcher starts train one model, write it once, and go on when cut."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.finetune.core import distributed
from siftune.finetune.runs.checkpoints import newest
from siftune.finetune.runs.resumable_run import Run
from tests.finetune.rl.apart import run_apart

ROOT = Path(__file__).parents[2]
SPREAD = """
from accelerate import state
from accelerate.utils import DistributedType

own = state.PartialState.__init__

def init(self, *args, **more):
    own(self, *args, **more)
    if self._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
        self._shared_state["distributed_type"] = DistributedType.MULTI_GPU

state.PartialState.__init__ = init

import siftune.finetune.trainers.preference as training

def spread(trainer, known=training.whole_weights):
    assert trainer.is_fsdp_enabled
    assert type(trainer.model).__name__.startswith("FSDP")
    return known(trainer)

training.whole_weights = spread
from siftune.pipelines.cli import main
main()
"""
"""`siftune` for FSDP on CPUs, which accelerate only does on GPUs: it takes these for such."""


def environment():
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def launched(config, script, words):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    given = ["--config_file", str(ROOT / "examples/accelerate" / config)]
    given += ["--main_process_port", str(port)]
    command = [sys.executable, "-m", "accelerate.commands.launch", *given, str(script), *words]
    environ = environment() | {"GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def succeed(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err.decode()
    return out.decode()


def words(model, rows, out, **options):
    given = {"lr": 1e-3, "seed": 3, "log_every": 1, "save_every": 2, "epochs": 2, **options}
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in given.items()]
    named = ["--model", str(model), "--out", str(out), *(word for pair in pairs for word in pair)]
    return ["finetune", "dpo", str(rows), *named]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same(one, two):
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-6)


def entry(folder, text):
    script = folder / "entry.py"
    script.write_text(text)
    return script


@pytest.fixture
def rows(tmp_path):
    from tests.finetune.test_preference import rows_file

    return rows_file(tmp_path, 20)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("config", "text"),
    [("ddp.yaml", "from siftune.pipelines.cli import main\nmain()\n"), ("fsdp.yaml", SPREAD)],
)
def test_a_launched_run_is_the_run_of_one_process(config, text, tiny_model_dir, rows, tmp_path):
    script = entry(tmp_path, text)
    half = {"held_out": 0.2, "batch_size": 2}
    alone = words(tiny_model_dir, rows, tmp_path / "one", held_out=0.2, batch_size=4)
    subprocess.run(
        [sys.executable, "-c", "from siftune.pipelines.cli import main; main()", *alone],
        env=environment(),
        check=True,
        capture_output=True,
    )
    together = words(tiny_model_dir, rows, tmp_path / "two", **half)
    assert succeed(launched(config, script, together)).count("16 rows") == 1
    for ours, theirs in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
        assert ours["kl"] == pytest.approx(theirs["kl"], abs=1e-6)
    same(tmp_path / "one", tmp_path / "two")

    broken = words(tiny_model_dir, rows, tmp_path / "cut", **half)
    process = launched(config, script, broken)
    while not (tmp_path / "cut.work/checkpoint-2/sealed.json").exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert not (tmp_path / "cut").exists()
    succeed(launched(config, script, broken))
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (
        tmp_path / "two/metrics.jsonl"
    ).read_bytes()
    whole = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("cut", "two")]
    assert whole[0] == whole[1]
    assert [path.name for path in (tmp_path / "cut.work").glob("beside*")] == []


def test_the_first_process_alone_holds_the_folder(monkeypatch, tmp_path):
    run = Run(tmp_path / "model", "key")
    with run.held():
        monkeypatch.setenv("RANK", "1")
        with run.held():  # not refused: it trains beside the first
            assert run.beside.name == "beside.1"
        assert run.work.is_dir()  # and leaves the first one's work where it is
        monkeypatch.delenv("RANK")


def test_only_the_first_process_speaks(monkeypatch, capsys):
    distributed.notify("heard")
    monkeypatch.setenv("RANK", "1")
    distributed.notify("unheard")
    assert capsys.readouterr().err == "heard\n"


OF_RL = {
    "reward": "text_share", "reward_options": {"text": "e"}, "rollouts": 3, "batch_size": 3,
    "group_size": 2, "minibatches": 2, "micro_batch": 2, "max_new_tokens": 6, "lr": 1e-2,
    "save_every": 1, "precision": "fp32",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dapo", {}),
        ("ppo", {"group_size": 1, "batch_size": 5, "ptx_coef": 0.5, "lora": 2}),
    ],
)
def test_rollouts_and_updates_are_shared_by_processes(
    method, options, tiny_model_dir, rows, tmp_path
):
    """Odd numbers of answers: 6 or 5 in two mini-batches of two processes.

    They are forked, with the environment of a launcher, which the tests above start themselves. A
    run that was killed ends in the bytes of the unbroken one of two processes.
    """
    given = {"model": str(tiny_model_dir), **OF_RL, **options}
    given |= {"ptx_rows": str(rows)} if "ptx_coef" in options else {}
    trainer = build("finetune.trainers", method, given)
    one, two, cut = (tmp_path / name / "out" for name in ("one", "two", "cut"))
    run_apart(trainer, rows, one)
    _, calls = run_apart(trainer, rows, two, processes=2)
    for ours, theirs in zip(lines(one), lines(two), strict=True):
        assert theirs == pytest.approx(ours, abs=1e-5)
    ours, theirs = (load_file(out / "model.safetensors") for out in (one, two))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-5)

    killed, _ = run_apart(trainer, rows, cut, "update", calls["update"] // 2, processes=2)
    assert killed
    assert newest(cut.with_name("out.work")) is not None
    run_apart(trainer, rows, cut, processes=2)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (cut / name).read_bytes() == (two / name).read_bytes()


def test_an_error_of_one_process_is_raised_in_all_and_shares_are_the_whole(monkeypatch):
    shares = []
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(distributed.share_of(range(8)))
    assert shares == [[0, 1, 2], [3, 4, 5], [6, 7]]
    monkeypatch.setattr("accelerate.PartialState", lambda: None)

    def gather(found, own):
        found[:] = [(1, None), (None, UsageError("broken in another")), own]

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    with pytest.raises(UsageError, match="broken in another"):
        distributed.from_all(lambda: 3)
    monkeypatch.setattr(
        "torch.distributed.all_gather_object",
        lambda found, own: found.__setitem__(slice(3), [own] * 3),
    )
    assert distributed.from_all(lambda: 3) == [3, 3, 3]
    with pytest.raises(KeyError):
        distributed.from_all(lambda: {}["own"])


def test_an_adapter_is_refused_where_weights_are_spread(
    monkeypatch, tiny_model_dir, rows, tmp_path
):
    from siftune.finetune.trainers.preference import Preference

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match="lora needs the whole model in every process"):
        Preference(model=str(tiny_model_dir), lora=2)(rows, tmp_path / "out")
