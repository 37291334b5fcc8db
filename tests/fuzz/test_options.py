"""Odd values of options end in documented exit codes, in one line, with nothing half-written."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.commands import shown
from tests.fuzz.options import commands, failures, prepare, tries

_TRAINS = "finetune"  # its commands load torch


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    prepare(tmp_path)
    return tmp_path


def _drawn(count, keep):
    every = [one for words, command in commands() if keep(words) for one in tries(words, command)]
    return random.Random(0).sample(every, min(count, len(every)))


def _said(wrong):
    return [f"{shown(one.words)}: {problem}" for one, problem in wrong]


def test_odd_values_of_curate_options_are_lines(here):
    chosen = _drawn(150, lambda words: words[0] != _TRAINS)
    assert _said(failures(chosen, here)) == []


def test_each_command_has_options_that_are_tried(here):
    tried = {words[-1] for words, command in commands() if any(tries(words, command))}
    assert {"ingest", "run", "explain", "export", "random", "sft", "ppo", "report"} <= tried


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_three_thousand_odd_values_of_all_commands_are_lines(here):
    chosen = _drawn(3000, lambda words: True)
    assert len(chosen) == 3000
    assert _said(failures(chosen, here)) == []
