"""The list of bugs is one of this code: each can be put back, and the table names them all."""

from __future__ import annotations

import pytest

from tests.oracles.bugs import PAIRS
from tests.oracles.bugs_answers import ANSWERS
from tests.oracles.bugs_draws import DRAWS
from tests.oracles.bugs_known_answers import KNOWN_ANSWERS
from tests.oracles.bugs_rewards import REWARDS
from tests.oracles.bugs_rl import RL
from tests.oracles.bugs_rl_loop import RL_LOOP
from tests.oracles.bugs_run_rewards import RUN_REWARDS
from tests.oracles.bugs_text_rewards import TEXT_REWARDS
from tests.oracles.mutations import MUTATIONS, ROOT, known

OF_REWARDS = (RUN_REWARDS, TEXT_REWARDS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.bug)
def test_each_bug_can_still_be_put_back(mutation):
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.right) == 1
    changed = text.replace(mutation.right, mutation.wrong)
    compile(changed, mutation.file, "exec")
    assert all((ROOT / test.partition("::")[0]).exists() for test in mutation.tests.split())


def test_each_bug_has_a_name_of_its_own():
    names = [one.bug for one in MUTATIONS]
    assert len(names) == len(set(names)) >= 90


def test_the_kill_table_names_every_bug_and_the_test_that_caught_it():
    found = known()
    listed = {
        one.bug
        for group in (PAIRS, ANSWERS, RL, RL_LOOP, DRAWS, REWARDS, KNOWN_ANSWERS, *OF_REWARDS)
        for one in group
    }  # those in test files of losses come with them
    assert listed <= found.keys(), "run: python -m tests.oracles.mutations"
    assert found.keys() <= {one.bug for one in MUTATIONS}
    assert all(".py::test_" in by for by in found.values())
