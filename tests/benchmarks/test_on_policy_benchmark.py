"""The benchmark of GRPO and RLOO beside TRL: its arithmetic, and both sides on one tiny rollout."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from benchmarks import on_policy
from benchmarks.measure import Sample
from benchmarks.on_policy import against, differences

TINY: dict[str, Any] = {"width": 32, "layers": 1, "vocabulary": 64, "prompt": 8, "answer": 6}
ROLLOUT: dict[str, Any] = {"prompts": 2, "answers": 4, "rollouts": 1}


def run(rollout: float, update: float, extra: float) -> Sample:
    facts = {"tokens": 100.0, "rollout_cpu": rollout, "update_cpu": update, "extra_mb": extra}
    return Sample(cpu=9.0, wall=9.0, process_cpu=9.0, peak_mb=1.0, facts=facts)


def test_ratios_are_taken_turn_by_turn_and_part_by_part() -> None:
    own, other = [run(1, 1, 30), run(2, 2, 20)], [run(2, 4, 60), run(2, 12, 80)]
    ratios = against(own, other)
    assert (ratios["rollout"]["low"], ratios["rollout"]["high"]) == (1, 2)
    assert (ratios["update"]["low"], ratios["update"]["high"]) == (4, 6)
    assert (ratios["both"]["low"], ratios["both"]["high"]) == (3, 3.5)
    assert (ratios["memory"]["low"], ratios["memory"]["high"]) == (0.25, 0.5)


def test_gradients_of_rloo_are_compared_at_one_divisor() -> None:
    own = {"advantages": [1.0, -1.0], "gradient": [2.0, 0.5], "losses": [7.0]}
    other = {"advantages": [1.0, -0.9], "gradient": [12.0, 3.6], "losses": [0.0]}
    found = differences("rloo", own, other, 6)
    assert found == {"advantages": pytest.approx(0.1), "gradient": pytest.approx(0.6 / 12)}
    assert differences("grpo", own, other, 6) == {
        "advantages": pytest.approx(0.1),
        "gradient": pytest.approx(10 / 12),
        "loss": 7.0,
    }


def test_a_goal_that_is_missed_fails_the_run() -> None:
    def case(update: float, both: float, memory: float) -> dict[str, Any]:
        parts = {"update": update, "both": both, "memory": memory}
        return {"trl": {"ratios": {name: {"median": value} for name, value in parts.items()}}}

    same = {"grpo": {"loss": 1e-6}}
    assert on_policy._met({"a": case(2, 1.3, 0.5)}, same)
    assert not on_policy._met({"a": case(2, 1.3, 0.5)}, {"grpo": {"loss": 2e-4}})
    for missed in (case(1.9, 1.3, 0.5), case(2, 1.2, 0.5), case(2, 1.3, 0.6)):
        assert not on_policy._met({"a": case(2, 1.3, 0.5), "b": missed}, same)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed")
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_the_first_step_is_that_of_trl(method: str) -> None:
    from benchmarks.ours.on_policy import work

    options = {**TINY, **ROLLOUT, "method": method, "given": True}
    own, other = (work({**options, "way": way}) for way in ("siftune", "trl"))
    found = differences(method, own, other, TINY["answer"])
    assert max(found.values()) < 1e-4
    assert own["gradient"][0] > 0.01
    assert len(own["advantages"]) == 8


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")
def test_a_rollout_is_sampled_and_learned_from() -> None:
    from benchmarks.ours.on_policy import work

    made = work({**TINY, **ROLLOUT, "method": "grpo", "way": "siftune"})
    assert 0 < made["tokens"] <= 8 * 6
    assert made["rollout_cpu"] > 0
    assert made["update_cpu"] > 0
    assert made["gradient"] == []
