"""Runs that are broken end, run again, in the bytes and metrics of unbroken ones."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


def _faults(*words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: it forks, which a process with threads cannot."""
    command = [sys.executable, "-m", "tests.faults", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_curate_run_that_is_killed_or_out_of_disk_ends_in_the_same_bytes():
    done = _faults("--only", "curate", "--trials", "1", "--faults", "kill,full", "--middle")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 trials, 0 failed" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_three_hundred_broken_runs_of_five_methods_end_in_the_same_bytes():
    done = _faults("--trials", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    trials = re.search(r"^(\d+) trials, 0 failed$", done.stdout, re.MULTILINE)
    assert trials is not None
    assert int(trials[1]) >= 300
