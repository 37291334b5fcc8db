"""Facts that rewards give of answers, spread and distance: from the reward to an alarm."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from siftune.curate.core.custom import component
from siftune.curate.core.errors import UsageError
from siftune.finetune.core.scored import Scored
from siftune.finetune.reward_models.head_states import scores_and_states
from siftune.finetune.reward_models.known_states import KnownAnswers
from siftune.finetune.rewards.reward_ensemble import RewardEnsemble
from siftune.finetune.rewards.reward_model import RewardModel
from siftune.finetune.rewards.several import WeightedRewards, parts_and_facts_of, parts_of
from siftune.finetune.rl.rollout import Prompt
from siftune.finetune.rl.rollout_watch import answered
from siftune.finetune.training.watched import watch_rollouts
from siftune.finetune.watch.alarms import alarms, detectors_of
from siftune.finetune.watch.history import History
from siftune.finetune.watch.observe import Answered, Observer
from tests.finetune.rl.enumerable import PROMPT, World, language_model
from tests.finetune.rl.loops import loop_of

ROW = {"id": "asked:0", "prompt": [{"role": "user", "content": "two"}]}
SAID = ["0 1", "2 0", "three red cats", "no"]


@pytest.fixture(scope="module")
def members(tiny_reward_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two reward models; the first one knows the states of some answers."""
    folders = [tmp_path_factory.mktemp("members") / name for name in "ab"]
    for folder in folders:
        shutil.copytree(tiny_reward_dir, folder)
    weights = load_file(folders[1] / "model.safetensors")
    save_file({**weights, "score.weight": -2 * weights["score.weight"]},
              folders[1] / "model.safetensors", {"format": "pt"})  # fmt: skip
    model = RewardModel(str(folders[0]))
    ids = [[1 + at % 7, 2 + at % 11, 3 + at % 5, 9 + at] for at in range(50)]
    _, states = scores_and_states(*model._parts, ids, starts=[0] * 50)
    prompts, size = [str(at) for at in range(25)], model._parts[0].config.vocab_size
    known = KnownAnswers.fit(ids[:25], states[:25], prompts, size)
    far = [known.distance(*one) for one in zip(ids[25:], states[25:], strict=True)]
    known.with_threshold(far).save(folders[0])
    return folders


def test_a_rollout_has_the_facts_of_its_rewards_and_the_watch_gets_them(
    members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "siftune.finetune.rl.rollout_watch.refusals", lambda asked, said: [None] * len(said)
    )

    def own(completion: str) -> dict[str, float | None]:
        spread = float(len(completion)) if completion != "0" else None
        return {"score": 1.0, "spread": spread}

    world = World(language_model(0), language_model(1), longest=3)
    loop = loop_of("grpo", world, [0, 5, 17, 2, 39, 23], tmp_path, monkeypatch, size=3)
    both = {
        "pair": {"reward": "reward_ensemble", "options": {"model": ",".join(map(str, members))}},
        "own": {"reward": own},
        "length": {"options": {"target": 3}},
    }
    prompts = [Prompt(ROW, "two", PROMPT)]
    collector = replace(loop.collector, reward=WeightedRewards(both), prompts=prompts)
    rollout = collector(0, 0.1)
    given = (["two"] * 6, rollout.completions, [{**ROW, "finished": True}] * 6)
    finished = [{**ROW, "finished": bool(one)} for one in rollout.ended]
    first, second = (RewardModel(str(one)).scored(*given[:2], finished) for one in members)
    spread = [abs(a.score - b.score) / 2 for a, b in zip(first, second, strict=True)]  # type: ignore[operator]
    assert set(rollout.facts) == {"pair/spread", "pair/distance", "own/spread"}
    assert rollout.facts["pair/spread"] == pytest.approx(spread)
    distances = [one.distance for one in first]
    assert rollout.facts["pair/distance"] == pytest.approx(distances)
    assert len({*distances}) > 2
    lengths = [None if text == "0" else len(text) for text in rollout.completions]
    assert rollout.facts["own/spread"] == lengths
    assert None in lengths
    metrics = rollout.metrics()
    assert metrics["reward/pair/spread"] == pytest.approx(np.mean(spread))
    known = [one for one in lengths if one is not None]
    assert metrics["reward/own/spread"] == pytest.approx(np.mean(known))
    assert metrics["reward/own"] == 1.0
    means, _ = Observer()(answered(rollout, {ROW["id"]: "two"}))  # type: ignore[dict-item]
    mask = rollout.tokens.mask
    assert len({*mask.sum(1).tolist()}) > 1
    each = [float(row[kept].mean()) for row, kept in zip(rollout.entropy, mask, strict=True)]
    assert means["entropy"][0] == pytest.approx(np.mean(each))  # type: ignore[index]
    assert means["kl"][0] == pytest.approx(rollout.kl)  # type: ignore[index]
    cut = 1 - rollout.ended.double().mean().item()
    assert cut not in (0.0, 0.5)
    assert means["cut"][0] == pytest.approx(cut)  # type: ignore[index]
    assert means["spread/pair"][0] == pytest.approx(np.mean(spread))  # type: ignore[index]
    assert means["distance/pair"][0] == pytest.approx(np.mean(distances))  # type: ignore[index, arg-type]
    assert means["spread/own"][2] == len(known)  # type: ignore[index]
    assert not {name for name in means if name.startswith("reward/") and name.count("/") > 1}


def test_a_reward_of_weight_0_that_is_gold_is_known_of_every_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "siftune.finetune.rl.rollout_watch.refusals", lambda asked, said: [None] * len(said)
    )
    world = World(language_model(0), language_model(1), longest=3)
    loop = loop_of("grpo", world, [0, 5, 17, 2, 39, 23], tmp_path, monkeypatch, size=3)
    both = WeightedRewards(
        {"own": {"reward": lambda completion: float(len(completion))},
         "judge": {"reward": lambda completion: float(-len(completion)), "weight": 0},
         "length": {"weight": 0, "options": {"target": 3}}}
    )  # fmt: skip
    prompts = [Prompt({"id": "asked:0"}, "?", PROMPT)]
    loop.collector = replace(loop.collector, reward=both, prompts=prompts)
    options = SimpleNamespace(
        watch="log", watch_detectors={}, watch_prompts=0, watch_rows=None, watch_gold="judge",
        eval_rows=None, precision="auto", max_new_tokens=3, seed=0, kl_coef=0.1,
    )  # fmt: skip
    watch_rollouts(options, None, loop, pl.DataFrame(), SimpleNamespace(beside=tmp_path))  # type: ignore[arg-type]
    assert loop.watch is not None
    loop._log_rollout(loop.collector(0, 0.1))
    series = loop.watch.history.series
    assert series["gold"][0].mean == -series["score"][0].mean
    assert series["gold_paid/length"][0].mean == pytest.approx(-series["paid/length"][0].mean)
    assert "reward/judge" not in series
    assert {"reward/own", "reward/length"} <= series.keys()
    options.watch_gold = "exact_match"  # a reward that is none of them scores no rollout
    watch_rollouts(options, None, loop, pl.DataFrame(), SimpleNamespace(beside=tmp_path))  # type: ignore[arg-type]
    assert loop.watch.gold is None


def test_scores_are_those_without_facts_and_a_model_of_unknown_states_gives_none(
    members: list[Path],
) -> None:
    asked, rows = ["two"] * 4, [ROW] * 4
    plain = RewardEnsemble(",".join(map(str, members)), how="mean")
    parts, facts = parts_and_facts_of(plain, asked, SAID, rows)
    assert parts == parts_of(plain, asked, SAID, rows)
    assert set(facts) == {"reward_ensemble/spread", "reward_ensemble/distance"}
    _, none = parts_and_facts_of(RewardModel(str(members[1])), asked, SAID, rows)
    assert none == {}


def test_a_reward_of_ones_own_gives_facts_in_a_mapping() -> None:
    def own(completions: Sequence[str]) -> list[Any]:
        return [{"score": 2, "distance": 0.5}, None, 3.0, {"score": None, "spread": 1}]

    reward: Any = component("finetune.rewards", own)
    assert reward(["?"] * 4, SAID, [ROW] * 4) == [2.0, None, 3.0, None]
    assert reward.with_facts(["?"] * 4, SAID, [ROW] * 4) == [
        Scored(2.0, distance=0.5), Scored(None), Scored(3.0), Scored(None, spread=1.0),
    ]  # fmt: skip
    for wrong in ({"spread": 1.0}, {"score": 1.0, "sprad": 2.0}, {}):
        odd: Any = component("finetune.rewards", lambda completions, w=wrong: [w])
        with pytest.raises(UsageError, match="expected a number, or score with distance and"):
            odd(["?"], ["a"], [ROW])

    class Mine:
        def with_marks(self, text: str) -> float:
            return float(len(text))

        def scored(self, text: str) -> float:  # a method of theirs is theirs
            return self.with_marks(text)

        def __call__(self, prompts: Any, completions: Any, rows: Any) -> list[float]:
            return [self.scored(one) for one in completions]

    assert component("finetune.rewards", Mine)(["?"], ["abc"], [ROW]) == [3.0]


@pytest.mark.parametrize(
    ("fact", "detector"), [("spread", "ensemble_spread"), ("distance", "reward_distance")]
)
def test_answers_that_leave_the_reward_models_behind_raise_an_alarm(
    fact: str, detector: str
) -> None:
    rng, apart = np.random.default_rng(2), {name: Observer() for name in ("rises", "stays")}
    found = {name: History() for name in apart}
    for step in range(24):
        for name, history in found.items():
            far = rng.random(32) < (0.06 * max(step - 8, 0) if name == "rises" else 0)
            values = np.abs(1 + 2 * far + rng.normal(scale=0.2, size=32))
            said = [f"w{one}" for one in rng.integers(99, size=32)]
            columns = {f"{fact}/pair": values.tolist(), f"{fact}/other": [0.5, None] * 16}
            given = Answered([str(at) for at in range(32)], said, [1.0] * 32, columns)
            history.add(step, *apart[name](given))
    built = {detector: detectors_of("rl")[detector]}
    (alarm,) = alarms(found["rises"], built)
    assert 8 < alarm.step < 24
    assert alarms(found["stays"], built) == []
    only = {"rewards": detectors_of("rl")["rewards"]}
    assert alarms(found["rises"], only) == []  # facts are no rewards


def test_few_answers_far_from_the_start_raise_an_alarm_where_that_pays() -> None:
    rng, start = np.random.default_rng(4), np.linspace(0, 1, 21)
    prompts, said = [str(at // 4) for at in range(32)], [f"w{at} of" for at in range(32)]

    def watched(pay: float, share: float) -> History:
        observer, history = Observer(), History()
        first = Answered(["p"] * 21, ["a"] * 21, [0.0] * 21, {"spread/pair": start.tolist()})
        observer(first)
        observer = Observer.of(orjson.loads(orjson.dumps(observer.state())))
        for step in range(22):
            far = rng.random(32) < (share if step > 5 else 0)
            # nearly all at the start are below 0.95, the middle is 0.5: far is above 1.4
            columns = {"spread/pair": np.where(far, 1.45, 0.4).tolist()}
            scores = (pay * far + rng.normal(size=32)).tolist()
            means, texts = observer(Answered(prompts, said, scores, columns))
            assert means["high/spread/pair"][0] == far.mean()  # type: ignore[index]
            history.add(step, means, texts)
        return history

    built = {"ensemble_spread": detectors_of("rl")["ensemble_spread"]}
    (alarm,) = alarms(watched(2.0, 0.3), built)
    assert 5 < alarm.step < 22
    assert alarms(watched(0.0, 0.3), built) == []
    assert alarms(watched(2.0, 0.0), built) == []
