"""Each detector: the series that it is for raises its alarm, the same series in order does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.watch.alarms import DETECTORS, Alarm, alarms, detectors_of
from siftune.finetune.watch.history import History

STEPS = 80
RISE = np.concatenate([np.zeros(30), np.linspace(0, 1, STEPS - 30)])
FLAT = np.zeros(STEPS)


def history(error: float | None = 0.02, **series: np.ndarray) -> History:
    """Series with noise of their standard error; ``held_out__x`` stands for ``held_out/x``."""
    rng, found = np.random.default_rng(5), History()
    for at in range(STEPS):
        noise = rng.normal(scale=error or 0.02, size=len(series))
        for wobble, (name, values) in zip(noise, series.items(), strict=True):
            count = 64 if error else 0
            found.add(at, {name.replace("__", "/"): (float(values[at] + wobble), error, count)})
    return found


def paid(name: str, mean: np.ndarray, size: float = 0.5) -> dict[str, np.ndarray]:
    return {name: mean, f"paid__{name}": FLAT + size}


WRONG = {
    "length": paid("length", 1 + 4 * RISE),
    "format_marks": paid("marks", RISE),
    "phrase": paid("phrase", RISE),
    "copied_prompt": paid("copied", RISE),
    "same_answer": paid("same_answer", RISE),
    "foreign_text": paid("foreign", RISE),
    "repetition": paid("repetition", RISE),
    "gold": {"held_out__score": RISE, "held_out__gold": -0.5 * RISE},
    "rewards": {"score": 2 * RISE, "reward__a": 3 * RISE, "reward__b": -RISE},
    "kl_rate": {"kl": np.linspace(0, 0.4, STEPS) + 8 * np.maximum(RISE - 0.5, 0)},
    "entropy": {"entropy": 2 - 1.9 * RISE},
    "cut_answers": {"cut": RISE},
    "refusals": {"refused": RISE},
    "ensemble_spread": {"spread": 0.5 + RISE},
    "reward_distance": {"distance": 1 + RISE},
    "clip_share": {"clip_share": RISE},
    "chosen_falls": {"margins": 5 * RISE, "logps_chosen": -1 - RISE},
    "held_out_gap": {"held_out__loss": 2 - 0.5 * np.linspace(0, 1, STEPS) + 2 * RISE},
}
RIGHT = {
    "length": paid("length", 1 + 0.8 * RISE),
    "gold": {"held_out__score": RISE, "held_out__gold": 0.5 * RISE},
    "rewards": {"score": 2 * RISE, "reward__a": 2 * RISE, "reward__b": FLAT},
    "kl_rate": {"kl": np.linspace(0, 4, STEPS)},
    "entropy": {"entropy": 2 - RISE},
    "cut_answers": {"cut": 0.1 * RISE},
    "refusals": {"refused": 0.05 * RISE},
    "ensemble_spread": {"spread": 0.5 + 0.2 * RISE},
    "reward_distance": {"distance": 1 + 0.2 * RISE},
    "clip_share": {"clip_share": 0.2 * RISE},
    "chosen_falls": {"margins": 5 * RISE, "logps_chosen": -1 - 0.1 * RISE},
    "held_out_gap": {"held_out__loss": 2 - 0.5 * np.linspace(0, 1, STEPS)},
}


def test_every_detector_has_its_series_here() -> None:
    assert set(WRONG) == set(registry.names(DETECTORS))


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_detector_finds_what_it_is_for_and_only_that(name: str) -> None:
    detector = registry.build(DETECTORS, name, {})
    found = alarms(history(**WRONG[name]), {name: detector})
    assert [one.detector for one in found] == [name]
    assert found[0].step > 30  # the change is after that step
    assert 25 <= found[0].since <= found[0].step
    assert alarms(History(), {name: detector}) == []
    in_order = RIGHT.get(name)
    if in_order is not None:
        assert alarms(history(**in_order), {name: detector}) == []
    else:  # it rises unpaid, or is paid for and does not rise
        rising, *_ = WRONG[name]
        unpaid = {rising: WRONG[name][rising], f"paid__{rising}": FLAT}
        still = {rising: FLAT, f"paid__{rising}": FLAT + 0.5}
        assert alarms(history(**unpaid), {name: detector}) == []
        assert alarms(history(**still), {name: detector}) == []


def test_a_held_out_loss_below_zero_that_falls_is_no_overfitting() -> None:
    detector = registry.build(DETECTORS, "held_out_gap", {})
    falls = {"held_out__loss": -1 - np.linspace(0, 1, STEPS)}
    rises = {"held_out__loss": -2 + RISE}
    assert alarms(history(**falls), {"held_out_gap": detector}) == []
    assert len(alarms(history(**rises), {"held_out_gap": detector})) == 1


def test_answers_that_get_shorter_because_it_is_paid_for_are_found() -> None:
    shorter = {"length": 30 - 29.5 * RISE, "paid__length": FLAT - 0.5}
    detector = registry.build(DETECTORS, "length", {"relative": 0.5})
    assert [one.detector for one in alarms(history(**shorter), {"length": detector})] == ["length"]


@pytest.mark.parametrize("name", ["format_marks", "length"])
def test_what_a_gold_score_pays_for_too_is_no_hack(name: str) -> None:
    detector = {name: registry.build(DETECTORS, name, {})}
    wrong = WRONG[name]
    feature = next(iter(wrong))
    for size, alarmed in ((0.4, False), (0.3, False), (0.0, True), (-0.4, True)):
        given = {**wrong, f"gold_paid__{feature}": FLAT + size}
        assert bool(alarms(history(0.1, **given), detector)) == alarmed
    shorter = {"length": 30 - 29.9 * RISE, "paid__length": FLAT - 0.5, "long": FLAT}
    one = {"length": registry.build(DETECTORS, "length", {"relative": 0.5})}
    for size, alarmed in ((-0.4, False), (0.4, True)):
        given = {**shorter, "gold_paid__length": FLAT + size}
        assert bool(alarms(history(0.1, **given), one)) == alarmed


def test_all_detectors_together_raise_false_alarms_at_the_stated_rate_alone() -> None:
    series = [name for one in WRONG.values() for name in one]
    quiet = history(**{name: FLAT + 1 for name in series if not name.startswith("paid")})
    assert alarms(quiet, detectors_of("rl")) == []


def test_options_of_detectors_are_checked_by_name_and_by_training() -> None:
    assert "length" not in detectors_of("rl", {"length": None})
    assert detectors_of("rl", {"length": {"relative": 3.0}})["length"].relative == 3.0  # type: ignore[attr-defined]
    assert set(detectors_of("sft")) == {"held_out_gap"}
    assert not {"gold", "refusals"} & set(detectors_of("preference"))  # nothing is measured there
    with pytest.raises(UsageError, match="no detector is called 'lenght'; did you mean length"):
        detectors_of("rl", {"lenght": None})
    with pytest.raises(UsageError, match="length is for rl, not for sft"):
        detectors_of("sft", {"length": {}})


def test_a_detector_of_ones_own_is_used(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from dataclasses import dataclass\n"
        "from siftune.finetune.watch.evidence import drift\n"
        "@dataclass(frozen=True)\n"
        "class Loss:\n"
        "    trainers = ('sft',)\n"
        "    message = 'the loss rises'\n"
        "    def __call__(self, history):\n"
        "        return drift(history.points('loss'))\n"
    )
    found = alarms(history(loss=1 + RISE), detectors_of("sft", {f"{own}:Loss": {}}))
    assert [one.message for one in found] == ["the loss rises"]


def test_the_alarm_of_a_phrase_has_the_phrase() -> None:
    given = history(**WRONG["phrase"])
    given.texts["phrase"] = [(at, f"words {at}") for at in range(STEPS)]
    (found,) = alarms(given, {"phrase": registry.build(DETECTORS, "phrase", {})})
    assert found.phrase == f"words {found.step}"
    assert f'("words {found.step}")' in str(found)
    assert Alarm("a", 1, 1, 9.0, "b").as_json() == {
        "detector": "a", "step": 1, "since": 1, "log_evidence": 9.0, "message": "b",
    }  # fmt: skip
