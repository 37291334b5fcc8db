"""Mutated files of every container are refused in a line, or no record of them is lost."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.containers import CONTAINERS, main, mutated, problem_of, whole, write


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_undamaged_file_is_read_whole(container, tmp_path):
    content = whole(container)
    assert problem_of(write(container, content, tmp_path), container, content) is None


@pytest.mark.parametrize("container", CONTAINERS)
def test_mutated_files_lose_no_record_in_silence(container, tmp_path):
    wrong = []
    for seed in range(60):
        content = mutated(whole(container), random.Random(f"{container}-{seed}"))
        problem = problem_of(write(container, content, tmp_path), container, content)
        wrong += [(seed, problem)] if problem else []
    assert wrong == []


@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_ten_thousand_mutated_files_of_each_container(monkeypatch):
    monkeypatch.setattr("sys.argv", ["containers", "--count", "10000"])
    assert main() == 0
