"""The watch in a training: what it writes, what each action does, and that a resumed run agrees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn
from siftune.finetune.losses.pair.dpo import DPO
from siftune.finetune.losses.pair.sft import SFT as PairSFT
from siftune.finetune.losses.token.gkd import GKD
from siftune.finetune.losses.weighted import Weighted
from siftune.finetune.rl.loop import Loop
from siftune.finetune.rl.rollout_watch import answered
from siftune.finetune.trainers.ppo import PPO
from siftune.finetune.trainers.preference import Preference
from siftune.finetune.trainers.reward_model import RewardModel
from siftune.finetune.trainers.sft import SFT
from siftune.finetune.training.watched import _note_few_points, beta_of, watch_of
from siftune.finetune.watch.alarms import alarms, detectors_of
from siftune.finetune.watch.history import History
from siftune.finetune.watch.prompts import diverse
from siftune.finetune.watch.watching import Watch, WatchCallback

OWN = """
from siftune.finetune.watch.evidence import Evidence
import numpy as np
def late(history, at=3):
    'The loss has been there for a while.'
    points = history.points('loss')
    steps = [one.step for one in points]
    return Evidence(steps, np.array([40.0 if s >= at else -1.0 for s in steps]), steps)
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    asked = ("the sea", "a cat", "a king", "two of four", "hello there", "a mat in Paris")
    table = [
        {
            "id": f"t:{at}",
            "source": "t",
            "row": at,
            "kind": "conversation",
            "messages": [turn("user", f"Name {text}."), turn("assistant", f"It is {text}.")],
        }
        for at, text in enumerate(asked, 1)
    ]
    pl.DataFrame(table, schema_overrides=schema_of("conversation")).write_parquet(path)
    return path


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siftune.finetune.watch.prompts._MOST", 1000)


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path}/own.py:late"


@pytest.fixture
def sft(tiny_model_dir: Path) -> Callable[..., SFT]:
    def build(**options: Any) -> SFT:
        given = {"lr": 1e-2, "batch_size": 2, "log_every": 1, "save_every": 2, "epochs": 2}
        few = {"max_length": 64, "max_new_tokens": 4, "watch_prompts": 3}
        return SFT(model=str(tiny_model_dir), **{**given, **few, **options})

    return build


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_checkpoint_has_answers_to_the_same_prompts_and_its_series(
    sft: Callable[..., SFT], rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    sft(held_out=0.3, seed=1)(rows, out)
    answers = {path.stem: lines(path) for path in sorted((out / "watch").iterdir())}
    assert next(iter(answers)) == "step-000000"
    assert [*answers][-1] == f"step-{max(one['step'] for one in lines(out / 'metrics.jsonl')):06}"
    ids = [[row["id"] for row in one] for one in answers.values()]
    assert len({*map(tuple, ids)}) == 1
    assert len(ids[0]) == 3
    assert all(row["completion"] is not None for one in answers.values() for row in one)
    series = {name for line in lines(out / "watch.jsonl") for name in line["series"]}
    assert {"loss", "held_out/loss", "held_out/length", "held_out/cut"} <= series
    assert json.loads((out / "alarms.json").read_text()) == {"action": "log", "alarms": []}
    assert json.loads((out / "siftune.json").read_text())["watch"]["alarms"] == []


def test_an_alarm_is_logged_or_stops_or_puts_back_the_weights_before_it(
    sft: Callable[..., SFT], rows: Path, tmp_path: Path, own: str, tiny_model_dir: Path
) -> None:
    def run(out: str, action: str, at: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        given = {"watch_detectors": {own: {"at": at}}, "watch_prompts": 0}
        sft(**given, watch=action)(rows, tmp_path / out)
        facts = json.loads((tmp_path / out / "siftune.json").read_text())
        return facts, load_file(tmp_path / out / "model.safetensors")

    logged, last = run("log", "log", 3)
    stopped, second = run("stop", "stop", 2)
    back, kept = run("back", "roll_back", 3)
    anew, first = run("none", "roll_back", 1)
    (alarm,) = logged["watch"]["alarms"]
    assert (alarm["step"], alarm["message"]) == (3, "The loss has been there for a while.")
    assert (logged["metrics"]["steps"], logged["stopped"]) == (6, None)
    assert (stopped["metrics"]["steps"], stopped["stopped"]) == (2, "watch")
    assert "step 2: The loss has been there" in stopped["stopped_because"]
    assert (back["metrics"]["steps"], back["metrics"]["kept_step"]) == (3, 2)
    assert anew["metrics"]["kept_step"] == 0
    start = load_file(tiny_model_dir / "model.safetensors")
    assert all(torch.equal(first[name], start[name]) for name in start)
    assert all(torch.equal(kept[name], second[name]) for name in start)
    assert any(not torch.equal(kept[name], start[name]) for name in start)
    assert any(not torch.equal(kept[name], last[name]) for name in start)


def test_beta_is_doubled_once_an_alarm_and_a_run_that_continues_has_it_too(
    tmp_path: Path, own: str
) -> None:
    trainer = SimpleNamespace(loss=DPO(beta=0.1))
    more = beta_of(trainer)
    assert more is not None
    watch = Watch(tmp_path, "preference", "raise_beta", {own: {"at": 3}}, more)
    watch.begin(0, None)
    betas = []
    for step in range(1, 7):
        watch.add(step, {"loss": 1.0})
        watch.act(None)
        betas.append(trainer.loss.beta)
        if step == 5:
            watch.save(tmp_path)
    # after an alarm the detectors begin anew: this one finds the next step wrong again
    assert betas == pytest.approx([0.1, 0.1, 0.2, 0.4, 0.8, 1.6])
    again = SimpleNamespace(loss=DPO(beta=0.1))
    resumed = Watch(tmp_path, "preference", "raise_beta", {own: {"at": 3}}, beta_of(again))
    resumed.begin(5, tmp_path)
    assert again.loss.beta == pytest.approx(0.8)
    assert resumed.found == watch.found[:3]
    both = SimpleNamespace(loss=Weighted(((DPO(beta=0.5), 1.0), (PairSFT(), 0.5))))
    multiply = beta_of(both)
    assert multiply is not None
    multiply(2.0)
    assert both.loss.parts[0][0].beta == 1.0
    assert beta_of(SimpleNamespace(loss=PairSFT())) is None
    assert beta_of(SimpleNamespace(loss=GKD())) is None  # a share of its mixture


def test_an_alarm_of_the_evaluation_at_a_checkpoint_is_acted_on_after_a_resume(
    tmp_path: Path, own: str
) -> None:
    def begun(action: Any, betas: list[float], step: int) -> Watch:
        watch = Watch(tmp_path, "preference", action, {own: {"at": 3}}, betas.append)
        watch.begin(step, tmp_path if step else None)
        return watch

    for action in ("stop", "roll_back", "raise_beta"):
        first, betas = begun(action, [], 0), list[float]()
        first.add(3, {"loss": 1.0})
        first.save(tmp_path)
        resumed = begun(action, betas, 3)
        assert (resumed.ended, betas) == (None, [])
        resumed.act(None)
        assert (resumed.ended is not None) == (action != "raise_beta")
        assert betas == ([2.0] if action == "raise_beta" else [])
        resumed.save(tmp_path)  # it is handled: once more, and β alone is as it was
        again = list[float]()
        later = begun(action, again, 3)
        later.act(None)
        assert (later.ended, again) == (None, betas)


def test_a_run_that_continues_has_the_alarms_and_beta_of_the_unbroken_one(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN + OWN.replace("late", "other").replace("'loss'", "'kl'"))
    own = {f"{tmp_path}/own.py:{name}": {"at": 2} for name in ("late", "other")}

    def begun(step: int, betas: list[float]) -> Watch:
        watch = Watch(tmp_path, "preference", "raise_beta", own, betas.append)
        watch.begin(step, tmp_path if step else None)
        return watch

    def went_on(watch: Watch, step: int) -> None:
        watch.add(step, {"loss": 1.0})  # from here on the detectors begin anew, so that
        watch.add(step, {"kl": 1.0})  # this, which is of the same step, raises no alarm
        watch.act(None)

    betas, again = list[float](), list[float]()
    whole = begun(0, betas)
    for step in (1, 2, 3):
        went_on(whole, step)
    whole.save(tmp_path)
    assert [(one.detector[-4:], one.step) for one in whole.found] == [("late", 2), ("late", 3)]
    assert betas == [2.0, 2.0]
    resumed = begun(3, again)
    assert resumed.found == whole.found
    assert again == [4.0]
    for watch in (whole, resumed):
        watch.add(4, {"kl": 1.0})
        watch.act(None)
    assert resumed.found == whole.found
    assert len(whole.found) == 3
    assert begun(0, []).found == []  # and one that begins anew has none


def test_an_alarm_of_the_last_evaluation_ends_the_training(tmp_path: Path, own: str) -> None:
    given: Any = SimpleNamespace()
    betas = list[float]()
    for action in ("stop", "raise_beta"):
        watch = Watch(tmp_path, "preference", action, {own: {"at": 3}}, betas.append)
        watch.begin(0, None)
        watch.add(3, {"loss": 1.0})
        WatchCallback(watch).on_train_end(given, given, SimpleNamespace())  # type: ignore[arg-type]
        assert (watch.ended is not None, betas) == (action == "stop", [])


def test_an_alarm_of_the_evaluation_of_rl_ends_it_without_a_checkpoint(
    tmp_path: Path, own: str
) -> None:
    watch = Watch(tmp_path, "rl", "roll_back", {own: {"at": 3}})
    watch.begin(0, None)
    loop = SimpleNamespace(
        _current=SimpleNamespace(index=0, kl=0.0, scores=[], drawn={}),
        _log_rollout=lambda done: None,
        _next=lambda: None,
        at_save=lambda step: watch.add(step, {"loss": 1.0}),
        kl_coef=0.0,
        save_every=1,
        settings=SimpleNamespace(controller=lambda coef, kl, n: coef, rollouts=4),
        state=SimpleNamespace(global_step=3),
        watch=watch,
    )
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    Loop.end_of_rollout(loop, control)  # type: ignore[arg-type]
    assert (control.should_save, control.should_training_stop) == (False, True)


def test_a_gold_score_that_is_measured_too_rarely_for_an_alarm_is_noticed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def worst(points: int) -> list[str]:
        history = History()
        for at in range(points):
            own = {"held_out/score": (9.0 * at, 0.01, 10_000)}
            history.add(at, {**own, "held_out/gold": (-9.0 * at, 0.01, 10_000)})
        return [one.detector for one in alarms(history, detectors_of("rl"))]

    assert (worst(9), worst(10)) == ([], ["gold"])
    _note_few_points(90, 10)
    assert capsys.readouterr().err == ""
    _note_few_points(81, 11)
    assert "is measured 9 times in this run, and its detector needs 10" in capsys.readouterr().err


def test_a_reward_of_rollouts_that_falls_while_the_sum_rises_raises_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = "siftune.finetune.rl.rollout_watch.refusals"  # its patterns take seconds to compile
    monkeypatch.setattr(none, lambda asked, said: [None] * len(said))
    leave_out = {name: None for name in detectors_of("rl") if name != "rewards"}
    watch = Watch(tmp_path, "rl", "log", leave_out)
    watch.begin(0, None)
    each = torch.linspace(-0.1, 0.1, 8)
    for step in range(20):
        rises, falls = 3.0 * step + each, -1.0 * step + each
        rollout: Any = SimpleNamespace(
            tokens=SimpleNamespace(mask=torch.ones(8, 1, dtype=torch.bool)),
            ids=["a"] * 8,
            completions=["It is."] * 8,
            token_kl=torch.zeros(8, 1),
            entropy=torch.ones(8, 1),
            ended=torch.ones(8, dtype=torch.bool),
            scores=rises + falls,
            parts={"rises": rises.tolist(), "falls": falls.tolist()},
            facts={},
        )
        watch.answered(step, answered(rollout, {"a": "What is it?"}))
    assert [one.detector for one in watch.found] == ["rewards"]


def test_held_out_rows_that_are_measured_again_at_a_step_count_once(tmp_path: Path) -> None:
    watch = Watch(tmp_path, "sft")
    watch.begin(0, None)
    for value in (1.0, 2.0):
        watch.add(3, {"held_out/loss": value})
    watch.add(4, {"held_out/loss": 3.0, "loss": None})
    assert [one.mean for one in watch.history.points("held_out/loss")] == [1.0, 3.0]
    assert len(lines(tmp_path / "watch.jsonl")) == 2
    assert watch.history == History.read(tmp_path / "watch.jsonl")


def test_the_good_checkpoint_is_the_newest_with_less_than_half_the_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(
        "from siftune.finetune.watch.evidence import Evidence\n"
        "import numpy as np\n"
        "def grows(history):\n"
        "    steps = [one.step for one in history.points('loss')]\n"
        "    each = [one.mean for one in history.points('loss')]\n"
        "    return Evidence(steps, np.array(each), steps)\n"
    )
    left_out = dict.fromkeys(detectors_of("sft"))
    watch = Watch(tmp_path, "sft", "roll_back", {**left_out, f"{tmp_path}/own.py:grows": {}})
    watch.begin(0, None)
    for step, share in enumerate((0.1, 0.45, 0.55, 0.9), 1):
        watch.add(step, {"loss": share * 2.9957})  # of log 20
    found = [tmp_path / f"checkpoint-{at}" for at in (1, 2, 3, 4)]
    monkeypatch.setattr("siftune.finetune.runs.checkpoints.checkpoints", lambda work: found)
    assert watch.good(tmp_path) == 2
    assert watch.spared(tmp_path) == (2,)


def test_an_action_that_the_training_does_not_have_is_refused(tmp_path: Path) -> None:
    options: Any = SimpleNamespace(watch="raise_beta", watch_detectors={}, seed=0)
    run: Any = SimpleNamespace(beside=tmp_path)
    with pytest.raises(UsageError, match="raise_beta needs a loss with beta"):
        watch_of(options, "preference", run)


def test_options_of_a_watch_that_is_off_are_refused() -> None:
    trainers: tuple[Any, ...] = (SFT, RewardModel, Preference)
    for trainer in trainers:
        with pytest.raises(ValueError, match="watch_detectors: there is no watch"):
            trainer(model="m", watch="off", watch_detectors={"length": {}})
    SFT(model="m", watch="off", watch_prompts=0)


def test_the_prompts_are_unlike_each_other_and_the_same_in_any_order() -> None:
    texts = ["name a cat", "name a cat now", "name the cat", "solve 3 + 4", "write of the sea"]
    rows = [{"id": str(at), "prompt": [{"content": text}]} for at, text in enumerate(texts)]
    for seed in range(3):
        chosen = [row["id"] for row in diverse(rows, 3, seed)]
        assert {"3", "4"} <= set(chosen)
        assert [row["id"] for row in diverse(rows[::-1], 3, seed)] == chosen
    assert len(diverse([*rows, {"id": "9", "prompt": rows[0]["prompt"]}], 9)) == 5


@pytest.mark.slow
def test_rl_gives_the_watch_its_rollouts_and_an_alarm_raises_the_weight_of_the_kl(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("'loss'", "'score'").replace("at=3", "at=2"))
    (tmp_path / "gold.py").write_text(
        "def has_e(prompts, completions, rows):\n"
        "    return [float('e' in text) for text in completions]\n"
    )
    settings: dict[str, Any] = {
        "reward": {
            "text_share": {"options": {"text": "e"}},
            "length": {"options": {"target": 4}},
        },
        "rollouts": 3,
        "batch_size": 4,
        "minibatches": 1,
        "epochs": 1,
        "max_new_tokens": 4,
        "kl_coef": 0.1,
        "save_every": 1,
        "watch_prompts": 2,
        "watch_gold": f"{tmp_path}/gold.py:has_e",
        "watch_detectors": {f"{tmp_path}/own.py:late": {}},
    }
    PPO(model=str(tiny_model_dir), **settings, watch="raise_beta")(rows, tmp_path / "m")
    logged = lines(tmp_path / "m" / "metrics.jsonl")
    assert [one["objective/kl_coef"] for one in logged] == pytest.approx([0.1, 0.1, 0.2, 0.4])
    series = lines(tmp_path / "m" / "watch.jsonl")
    first = next(one["series"] for one in series if one["step"] == 1 and "score" in one["series"])
    names = {"kl", "entropy", "cut", "length", "refused", "reward/text_share", "reward/length"}
    assert names <= first.keys()
    assert first["score"][0] == pytest.approx(logged[0]["objective/score"], rel=1e-5)
    share = first["reward/text_share"]  # of 4 answers, with a standard error
    assert share[0] == pytest.approx(logged[0]["reward/text_share"], rel=1e-5)
    assert share[1] is not None
    assert share[2] == 4
    assert first["kl"][0] == pytest.approx(logged[0]["objective/kl"], abs=1e-5)
    assert first["cut"][0] == logged[0]["rollout/truncated"]
    assert len(list((tmp_path / "m" / "watch").iterdir())) == 4
    facts = json.loads((tmp_path / "m" / "siftune.json").read_text())
    assert [one["step"] for one in facts["watch"]["alarms"]] == [2, 3]
    held = [one["series"] for one in series if "held_out/gold" in one["series"]]
    assert len(held) == 4
    shown = lines(tmp_path / "m" / "watch" / "step-000000.jsonl")
    assert held[0]["held_out/gold"][0] == pytest.approx(sum(one["gold"] for one in shown) / 2)
    assert all(one["gold"] == float("e" in one["completion"]) for one in shown)
    assert all(one["reward"] != one["gold"] for one in shown)
    free = {**settings, "kl_coef": 0.0}
    with pytest.raises(UsageError, match="raise_beta needs a loss with beta, or kl_coef"):
        PPO(model=str(tiny_model_dir), **free, watch="raise_beta")(rows, tmp_path / "n")
    back = PPO(model=str(tiny_model_dir), **settings, watch="roll_back")
    back(rows, tmp_path / "back")
    facts = json.loads((tmp_path / "back" / "siftune.json").read_text())
    assert (facts["stopped"], len(lines(tmp_path / "back" / "metrics.jsonl"))) == ("watch", 2)
