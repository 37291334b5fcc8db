"""RL killed while it saves, or with a damaged newest checkpoint, ends in the same bytes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siftune.finetune.runs import checkpoints
from tests.finetune import test_backbone, test_ppo

asked = test_ppo.rows
rewards = test_backbone.rewards
KILLS = 10
RUNS: dict[str, dict[str, Any]] = {
    "full": {"kl_target": 0.1, "kl_horizon": 50},
    "one_base": {"lora": 2, "critic": "adapter", "lr": 1e-2},
}


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class KilledError(BaseException):
    """The process is dead: whatever it still tries to change on the disk fails."""


class Disk:
    """Counts changes of checkpoints, and lets none take place from number ``at`` on.

    A change is the opening of a file to write, a rename, a removal or a new folder, which Python
    tells an audit hook of. A process that is killed at it leaves the same behind; clean-up code,
    which such a process has no time for, changes nothing here either.
    """

    def __init__(self, folder: Path, at: int = -1) -> None:
        self.folder, self.at, self.seen, self.on = str(folder), at, 0, True
        sys.addaudithook(self)

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        path = _changed(event, given) if self.on else ""
        if not path.startswith(self.folder):
            return
        self.seen += "checkpoint-" in path
        if 0 < self.at <= self.seen:
            raise KilledError(path)


def _changed(event: str, given: tuple[Any, ...]) -> str:
    """The path that an event of Python's audit changes; empty of any other event."""
    if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
        return ""
    if event == "open" and not (
        isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_CREAT)
    ):
        return ""
    return "" if isinstance(given[0], int) else os.path.abspath(os.fsdecode(given[0]))  # noqa: PTH100


def run(trainer: Any, rows: Path, out: Path, at: int = -1) -> int:
    """Train, killed at the change number ``at`` of a checkpoint; how many changes there were."""
    disk = Disk(out.parent, at)
    try:
        with pytest.raises(KilledError) if at > 0 else contextlib.nullcontext():
            trainer(rows, out)
    finally:
        disk.on = False
    return disk.seen


def trainer_of(name: str, model: Path, reward: Path) -> Any:
    options = dict(RUNS[name])
    if name == "one_base":
        options |= {"reward": str(reward), "reward_options": None}
    return test_ppo.ppo(model, max_new_tokens=4, batch_size=4, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_while_it_saves_goes_on_to_the_same_weights_and_metrics(
    name: str, tiny_model_dir: Path, rewards: tuple[Path, Path], asked: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(name, tiny_model_dir, rewards[0])
    changes = run(trainer, asked, tmp_path / "whole/out")
    whole = tree(tmp_path / "whole/out")
    assert {"model.safetensors", "metrics.jsonl"} <= whole.keys()
    for at in random.Random(name).sample(range(1, changes + 1), KILLS):
        out = tmp_path / str(at) / "out"
        run(trainer, asked, out, at)  # the last changes are removals, once the model is written
        run(trainer, asked, out)
        assert tree(out) == whole, f"killed at change {at} of {changes}"


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, flipped, Path.unlink])
def test_any_damaged_file_of_the_newest_checkpoint_is_told_and_the_one_before_serves(
    damage: Callable[[Path], Any],
    tiny_model_dir: Path,
    rewards: tuple[Path, Path],
    asked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Weights (of all adapters), optimiser, state of the trainer, KL coefficient, the seal."""
    trainer = trainer_of("full", tiny_model_dir, rewards[0])
    trainer(asked, tmp_path / "whole")
    with monkeypatch.context() as patch:
        test_ppo.interrupted(patch, at_call=4)
        with pytest.raises(KeyboardInterrupt):
            trainer(asked, tmp_path / "cut")
    state = tree(tmp_path / "cut.work")
    newest = checkpoints.newest(tmp_path / "cut.work")
    assert newest is not None
    for path in [one for one in newest.iterdir() if not one.name.startswith(".siftune")]:
        if path.stat().st_size:
            damage(path)
        capsys.readouterr()
        trainer(asked, tmp_path / "cut")
        told = capsys.readouterr().err
        assert f"{newest} is torn: removed, going on from the one before it" in told, path.name
        for name in ("model.safetensors", "metrics.jsonl", "siftune.json"):  # a card has the name
            unbroken = (tmp_path / "whole" / name).read_bytes()
            assert (tmp_path / "cut" / name).read_bytes() == unbroken, (path.name, name)
        _restore(tmp_path, state)


def _restore(folder: Path, state: dict[str, bytes]) -> None:
    """The checkpoints of the cut run, as they were; its result is removed."""
    for name in ("cut", "cut.work"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder / name)
    for name, content in state.items():
        path = folder / "cut.work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.slow
def test_a_value_that_is_no_number_stops_with_the_rows_and_keeps_checkpoints(
    tiny_model_dir: Path,
    rewards: tuple[Path, Path],
    asked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The critic's own adapter: NaN in it is in no log-probability of the policy."""
    from siftune.curate.core.errors import SiftuneError
    from siftune.finetune.rl import model

    calls = iter(range(1000))
    own = model.ActorCritic.forward

    def planted(self: Any, *args: Any, **named: Any) -> Any:
        if next(calls) == 9:
            weights = [w for n, w in self.named_parameters() if ".critic." in n]
            weights[0].data.fill_(float("nan"))
        return own(self, *args, **named)

    monkeypatch.setattr(model.ActorCritic, "forward", planted)
    trainer = trainer_of("one_base", tiny_model_dir, rewards[0])
    with pytest.raises(SiftuneError, match=r"on rows asked:\d.*no model is written"):
        trainer(asked, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert checkpoints.newest(tmp_path / "out.work") is not None
