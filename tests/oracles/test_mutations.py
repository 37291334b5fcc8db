"""The list of bugs is one of this code: each can be put back, and the table names them all."""

from __future__ import annotations

import ast

from tests.oracles.bugs import PAIRS
from tests.oracles.bugs_answers import ANSWERS
from tests.oracles.bugs_draws import DRAWS
from tests.oracles.bugs_known_answers import KNOWN_ANSWERS
from tests.oracles.bugs_rewards import REWARDS
from tests.oracles.bugs_rl import RL
from tests.oracles.bugs_rl_loop import RL_LOOP
from tests.oracles.bugs_run_rewards import RUN_REWARDS
from tests.oracles.bugs_text_rewards import TEXT_REWARDS
from tests.oracles.bugs_watch import WATCH
from tests.oracles.mutations import MUTATIONS, ROOT, known

MORE = (RUN_REWARDS, TEXT_REWARDS, WATCH)


def test_each_bug_can_still_be_put_back():
    """In one test: a test for each of some hundred bugs takes longer than what it looks at."""
    texts = {name: (ROOT / name).read_text("utf-8") for name in {one.file for one in MUTATIONS}}
    unfit = [one.bug for one in MUTATIONS if texts[one.file].count(one.right) != 1]
    assert not unfit
    for one in MUTATIONS:
        changed = texts[one.file].replace(one.right, one.wrong)
        compile(changed, f"{one.file}: {one.bug}", "exec", ast.PyCF_ONLY_AST)
    named = {test.partition("::")[0] for one in MUTATIONS for test in one.tests.split()}
    assert not [file for file in named if not (ROOT / file).exists()]


def test_each_bug_has_a_name_of_its_own():
    names = [one.bug for one in MUTATIONS]
    assert len(names) == len(set(names)) >= 90


def test_the_kill_table_names_every_bug_and_the_test_that_caught_it():
    found = known()
    listed = {
        one.bug
        for group in (PAIRS, ANSWERS, RL, RL_LOOP, DRAWS, REWARDS, KNOWN_ANSWERS, *MORE)
        for one in group
    }  # those in test files of losses come with them
    assert listed <= found.keys(), "run: python -m tests.oracles.mutations"
    assert found.keys() <= {one.bug for one in MUTATIONS}
    assert all(".py::test_" in by for by in found.values())
