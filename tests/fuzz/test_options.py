"""Odd values of options end in documented exit codes, in one line, with nothing half-written."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import rich_click as click

from tests.fuzz.commands import Done, shown
from tests.fuzz.options import Try, commands, drawn, failures, valid, workplace

_CHEAP = {"ingest", "run", "export", "explain", "length", "heuristics", "pii", "random", "longest"}
_CHEAP |= {"split", "threshold", "quota", "flags", "exact_dedup"}  # nothing is compiled for these


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SIFTUNE_CACHE", "/nonexistent/cache")


def _said(wrong):
    return [f"{shown(one.words)}: {problem}" for one, problem in wrong]


def test_odd_values_of_curate_options_are_lines(offline, tmp_path):
    cheap = [one for one in commands("curate") if one[0][-1] in _CHEAP]
    chosen = [*(valid(*one) for one in cheap), *drawn(30, 0, cheap)]
    with workplace(tmp_path, models=False) as here:
        assert _said(failures(chosen, here)) == []


def test_what_a_try_changes_is_a_failure_and_put_back(offline, tmp_path):
    named = Try("", "--out", ("curate", "ingest", "pairs.jsonl", "--out", "run"))
    another = replace(named, words=(*named.words[:-1], "./run"))
    with workplace(tmp_path, models=False) as here:
        before = (here / "run/kept.parquet").read_bytes()
        assert _said(failures([named], here)) == []  # it may: the folder is its own
        ((_, problem),) = failures([another], here)
        assert problem.startswith("run/")
        assert problem.endswith("was changed or removed")
        assert (here / "run/kept.parquet").read_bytes() == before


def test_every_command_and_each_of_its_options_is_tried():
    found = list(commands())
    chosen = drawn(6000, 0, found)
    assert len(chosen) == 6000
    of_command = {" ".join(words): set() for words, command in found if command.params}
    for one in chosen:
        of_command[one.command].add(one.flag)
    for words, command in found:
        if command.params and len(command.params) <= 25:  # of longer ones each seed has others
            assert of_command[" ".join(words)] == {
                str(one.name) if isinstance(one, click.Argument) else one.opts[0]
                for one in command.params
            }
    assert min(map(len, of_command.values())) >= 1


@pytest.mark.parametrize(
    ("code", "out", "err"),
    [
        (5, "", "siftune: x"),
        (2, "", "x"),
        (2, "text", "siftune: x"),
        (1, "", "siftune: unexpected KeyError; please report it"),
        (2, "", "siftune: r.yaml: 3 problems:\n  one\n  two"),
        (2, "", "siftune: r.yaml: 2 problems:\n  one\ntwo"),
        (0, "\x1b[2J", ""),
    ],
)
def test_what_breaks_the_contract_of_the_command_line_is_found(code, out, err):
    assert Done(code, out, err).problem() is not None


def test_a_list_of_problems_is_a_message():
    assert Done(2, "", "a warning\nsiftune: r.yaml: 2 problems:\n  one\n  two\n").problem() is None


@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_three_thousand_odd_values_of_all_commands_are_lines(offline, tmp_path):
    found = list(commands())
    chosen = drawn(6000, 0, found)
    assert len(chosen) == 6000
    chosen += [valid(*one) for one in found]
    with workplace(tmp_path) as here:
        assert _said(failures(chosen, here)) == []


def test_every_option_of_every_command_has_a_line_of_help() -> None:
    for words, command in commands():
        assert "``" not in (command.help or ""), words
        for param in command.params:
            if param.param_type_name == "option":
                text = (param.help or "").partition("[")[0]
                assert text.strip(), f"{shown(words)} {param.opts[0]}"
                assert not re.search(r"TUPLE|MAPPING|BOOL|\bSTR\b", str(param.metavar)), param.name
