"""`make test` fails above its budget of CPU seconds, and for no time that a clock shows."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from tests.cpu_budget import main


def test_a_suite_over_its_budget_fails_and_says_by_how_much(capfd):
    assert main(["0.01", "--version"]) == 1
    told = capfd.readouterr()
    assert "CPU seconds: " in told.out
    assert "0.01 are allowed" in told.err


def test_within_the_budget_the_exit_status_is_that_of_pytest(capfd):
    assert main(["100000", "--version"]) == 0
    assert main(["100000", "--no-such-option"]) == 4
    assert "allowed" not in capfd.readouterr().err


@given(st.just(0.3))
def test_an_example_of_a_property_may_take_its_time_on_a_busy_machine(seconds):
    time.sleep(seconds)
