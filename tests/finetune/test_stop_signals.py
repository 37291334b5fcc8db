"""A signal stops a training with a checkpoint, from which it goes on to the same bytes."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from siftune.finetune.runs.resumable_run import Run
from siftune.finetune.runs.stop_signals import StopAtSignal, StopSignals, catching_signals
from siftune.finetune.trainers.ppo import PPO
from siftune.finetune.trainers.preference import Preference
from siftune.finetune.trainers.reward_model import RewardModel
from siftune.finetune.trainers.sft import SFT

COLOURS = ["red", "blue", "green", "black", "white", "grey"] * 2
SHARED = {"batch_size": 4, "epochs": 2, "log_every": 3, "save_every": 4, "lr": 1e-3}
STEPS = {"sft": (1, 4), "reward": (1, 3), "dpo": (1, 3), "kto": (1, 4), "ppo": (1, 2)}
"""Before the first checkpoint in the schedule and after it; there is a log between, or none."""


@pytest.fixture(autouse=True)
def handlers_of_a_terminal() -> Iterator[None]:
    """Both signals are handled, also where pytest runs in the background: there SIGINT is not."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    for one in before:
        signal.signal(one, signal.default_int_handler)
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("rows")
    pairs = [
        {"prompt": f"Colour {at}?", "chosen": f"It is {one}.", "rejected": "No idea"}
        for at, one in enumerate(COLOURS)
    ]
    chats = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]
    for name, listed in (("pairs", pairs), ("chats", chats)):
        text = "".join(json.dumps(row) + "\n" for row in listed)
        (folder / f"{name}.jsonl").write_text(text)
    return {name: str(folder / f"{name}.jsonl") for name in ("pairs", "chats")}


def trainer_of(method: str, model: Path, rows: dict[str, str]) -> Any:
    if method == "sft":
        return SFT(str(model), **SHARED, eval_rows=rows["chats"], eval_limit=2, max_new_tokens=2)
    if method == "reward":
        return RewardModel(str(model), **SHARED, held_out=0.3)
    if method == "dpo":
        return Preference(str(model), **SHARED, held_out=0.3)
    if method == "kto":
        return Preference(str(model), "kto", **SHARED, held_out=0.3)
    sizes = {"rollouts": 3, "batch_size": 4, "minibatches": 2, "epochs": 1, "max_new_tokens": 3}
    return PPO(
        model=str(model), reward="text_share", reward_options={"text": "e"}, save_every=2, **sizes
    )


def send(patch: pytest.MonkeyPatch, at_step: int, number: int = signal.SIGINT) -> None:
    def on_step_begin(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == at_step:
            signal.raise_signal(number)

    patch.setattr(StopAtSignal, "on_step_begin", on_step_begin)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(  # each other trainer goes on after a cut in the tests of its own file
    "method",
    [one if one in ("dpo", "ppo") else pytest.param(one, marks=pytest.mark.slow) for one in STEPS],
)
def test_a_training_that_a_signal_stops_goes_on_to_the_same_bytes_and_metrics(
    method: str,
    tiny_model_dir: Path,
    rows: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = trainer_of(method, tiny_model_dir, rows)
    source = Path(rows["pairs" if method in ("reward", "dpo", "kto") else "chats"])
    whole, cut = (tmp_path / name / "model" for name in ("whole", "cut"))
    trainer(source, whole)
    before = signal.getsignal(signal.SIGINT)
    for step in STEPS[method]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            send(patch, step)
            with pytest.raises(KeyboardInterrupt):
                trainer(source, cut)
        said = capsys.readouterr().err
        end = {"ppo": 2 * (step // 2 + 1)}.get(method, step + 1)
        checkpoint = cut.with_name("model.work") / f"checkpoint-{end}"
        assert (checkpoint / "sealed.json").is_file()
        if method == "ppo":  # in rollouts, as its progress is
            assert f"stopped after rollout {end // 2} of 3, " in said
        assert f"{checkpoint}: run the same command again to continue from it" in said
        assert signal.getsignal(signal.SIGINT) is before
        assert not cut.exists()
    with monkeypatch.context() as patch:  # and once more, before the model is written
        patch.setattr(Run, "finish", stopped)
        with pytest.raises(KeyboardInterrupt):
            trainer(source, cut)
    trainer(source, cut)
    found, expected = tree(cut), tree(whole)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def stopped(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_second_signal_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), catching_signals() as signals:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        assert signals.number == signal.SIGINT
        signal.raise_signal(signal.SIGINT)
        pytest.fail("training went on")


def test_a_signal_during_what_ends_without_a_checkpoint_has_its_effect_at_the_end() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), catching_signals():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with catching_signals() as signals:
            signal.raise_signal(signal.SIGINT)
        assert signals.number is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_launcher_that_passes_the_signal_on_does_not_count_as_a_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    reached = False
    with pytest.raises(KeyboardInterrupt), catching_signals():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        reached = True
    assert reached


def test_another_thread_trains_without_handlers() -> None:
    signals = StopSignals()
    thread = threading.Thread(target=signals.install)
    thread.start()
    thread.join()
    assert signals._before == {}
