"""Which prompts RL draws by their pass rates: order, bounds, replay; the same after a restart."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import DataError
from siftune.finetune.rl.curriculum import Curriculum, PromptOrder
from siftune.finetune.rl.draw_options import DrawOptions
from siftune.finetune.rl.rollout import stream
from tests.finetune import test_ppo
from tests.finetune.test_ppo import metrics, ppo

asked_rows = test_ppo.rows
RATES = [0.0, 0.1, 0.3, 0.5, 0.5, 0.5, 0.9, 1.0]


def test_without_a_curriculum_the_order_is_that_of_before() -> None:
    """One permutation after another, each from the seed and its number."""
    expected = [
        int(at)
        for number in range(3)
        for at in np.random.default_rng([3, 7, 0, number]).permutation(8)
    ]
    assert PromptOrder(tuple(range(8)), 7)(0, 24) == stream(8, 0, 24, 7) == expected


@pytest.mark.parametrize("order", ["easy_first", "hard_first"])
def test_each_pass_is_sorted_by_rate_and_holds_every_prompt(order: str) -> None:
    drawn = Curriculum(order).order_of(RATES, seed=3, total=20)  # type: ignore[arg-type]
    passes = [drawn(0, 8), drawn(8, 8), drawn(16, 4)]
    for one in passes:
        rates = [RATES[at] for at in one]
        assert rates == sorted(rates, reverse=order == "easy_first")
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(8))
    assert len(set(passes[2])) == 4  # of the last pass only four: sorted among themselves
    equal = [tuple(at for at in one if at in (3, 4, 5)) for one in passes[:2]]
    assert len({*equal, *(tuple(drawn(8 * n, 8)[2:5]) for n in range(9, 20))}) > 1  # shuffled
    shuffled = Curriculum().order_of(RATES, seed=3)
    assert set(shuffled(16, 4)) == set(passes[2])  # the same prompts, in another order


def test_any_part_of_the_order_is_that_of_the_whole_and_of_the_seed() -> None:
    options = Curriculum("easy_first", replay_below=0.4, replay_times=3)
    whole = options.order_of(RATES, seed=5, total=30)(0, 30)
    again = options.order_of(RATES, seed=5, total=30)
    assert [at for start in range(0, 30, 5) for at in again(start, 5)] == whole
    assert options.order_of(RATES, seed=6, total=30)(0, 30) != whole


def test_draws_before_a_position_are_counted_by_prompt() -> None:
    for order in (PromptOrder((0, 0, 2, 5), 3), PromptOrder((0, 1, 2), 0, (0.3, 0.1, 0.2), 10)):
        for start in range(14):
            assert order.draws_before(start) == Counter(order(0, start))


def test_hard_prompts_are_drawn_again_and_hopeless_ones_are_not() -> None:
    order = Curriculum(replay_below=0.3, replay_times=4).order_of(RATES, seed=0)
    assert Counter(order(0, 11)) == {0: 1, 1: 4, **dict.fromkeys(range(2, 8), 1)}  # .3 is not below
    inside = Curriculum(low=0.1, high=0.5, replay_below=1.0, replay_times=2).order_of(RATES, 0)
    assert Counter(inside(0, 10)) == dict.fromkeys(range(1, 6), 2)


def test_options_without_those_they_need_are_refused() -> None:
    for given, why in (
        ({"prompt_order": "easy_first"}, "prompt_order: needs pass_rate"),
        ({"replay_below": 0.2}, "replay_below: needs pass_rate"),
        ({"pass_rate": "p"}, "pass_rate: is read by prompt_order"),
        ({"pass_rate": "p", "max_pass_rate": 0.8, "replay_times": 2}, "needs replay_below"),
        ({"pass_rate": "p", "min_pass_rate": 0.8, "max_pass_rate": 0.2}, "0.8 is above"),
        ({"importance_cap": 3.0}, "importance_cap: needs rollouts_from"),
        ({"rollout_options": {"tries": 2}}, "rollout_options: needs rollouts_from"),
        ({"rollout_options": {"tries": 2}, "rollouts_from": "x"}, "are those of a server"),
    ):
        with pytest.raises(ValueError, match=why):
            DrawOptions(**given).check_draws()  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"none of the 2 prompts has a pass rate \(p\) from 0.4 to"):
        DrawOptions(pass_rate="p", min_pass_rate=0.4).order_of(
            ["a", "b"], {"a": 0.1, "b": 0.3}, seed=0, total=4
        )


def test_a_run_draws_by_the_column_and_names_rows_without_a_rate(
    tiny_model_dir, asked_rows, tmp_path, capsys
) -> None:
    """Rates 0, .2, .6, 1 and none: easy first within .1 to 1, the prompt of .2 three times."""
    table = pl.read_parquet(asked_rows).with_columns(
        pass_rate=pl.Series([0.0, 0.2, 0.6, 1.0, None])
    )
    table.write_parquet(tmp_path / "rated.parquet")
    options = {
        "pass_rate": "pass_rate", "min_pass_rate": 0.1, "replay_below": 0.5, "replay_times": 2,
        "prompt_order": "easy_first", "rollouts": 1, "batch_size": 4, "max_new_tokens": 4,
    }  # fmt: skip
    with pytest.raises(DataError, match="no_pass_rate"):
        ppo(tiny_model_dir, **options)(tmp_path / "rated.parquet", tmp_path / "refused")
    asked: list[str] = []

    class Reward:
        def __call__(self, prompts, completions, rows):
            asked.extend(row["id"] for row in rows)
            return [float(len(text)) for text in completions]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("siftune.finetune.training.on_policy.reward_of", lambda *_: Reward())
        trainer = ppo(tiny_model_dir, on_bad="drop", **options)
        trainer(tmp_path / "rated.parquet", tmp_path / "out")
    assert asked[:4] == ["asked:3", "asked:2", "asked:1", "asked:1"]
    assert "3 of 4 prompts have a pass rate (pass_rate) from 0.1 to 1" in capsys.readouterr().err
    assert metrics(tmp_path / "out")[0]["rollout/length"] > 0
