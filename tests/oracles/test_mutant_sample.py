"""The sample is drawn fairly, and a mutant meets the tests that run its line."""

from __future__ import annotations

import ast

import pytest

from tests.oracles.mutant_lines import Reach, seeing
from tests.oracles.mutant_sample import PARTS, files_of, shares, within
from tests.oracles.mutant_sites import excluded, mutated, sites

SOURCE = '''"""Text."""

from dataclasses import dataclass
__all__ = ["Scale"]

@dataclass(frozen=True)
class Scale:
    times: int | None = 2

    def __call__(self, one: int) -> int:
        if one < 0:
            raise ValueError(f"got {one + 1}")
        return one * self.times

def later():
    return 3
'''


def test_every_part_has_its_least_and_each_file_one_part():
    found = shares(400)
    assert sum(found.values()) == 400
    assert min(found.values()) >= 25
    files = [file for part in PARTS for file in files_of(part)]
    assert len(files) == len(set(files)) > 200
    assert found["scorers"] > found["encoding"]


def test_types_decorators_and_messages_are_left_out():
    lines = SOURCE.splitlines()
    found = [lines[line - 1][column:] for (line, column), _ in excluded(ast.parse(SOURCE))]
    starts = [text.replace("=", " ").replace("(", " ").split()[:2] for text in sorted(found)]
    assert [" ".join(words) for words in starts] == [
        *('__all__ ["Scale"]', "dataclass frozen", "int |", "int) ->", "int:", "raise ValueError")
    ]


def test_what_is_drawn_is_a_change_of_the_same_kind():
    pytest.importorskip("cosmic_ray")
    found = sites(SOURCE)
    assert [line for line, _ in found] == [8, 11, 11, 11, 13, 16]
    times = next(fitting for (line, _), fitting in found.items() if line == 13)
    made = [str(mutated(SOURCE, site)).splitlines()[12].split("one ")[1] for site in times]
    assert made == [f"{sign} self.times" for sign in ("+", "-", "/", "//", "%", "**")]


def test_a_line_is_seen_by_what_runs_it_and_a_default_by_what_runs_its_class():
    reaches = [
        *(Reach("a::slow", 9, {"f": [11, 13]}), Reach("a::quick", 1, {"f": [13]})),
        *(Reach("a::other", 0, {"g": [1]}), Reach("b::later", 0, {"f": [16]})),
    ]

    def tests(line):
        return [one.test for one in seeing(reaches, "f", SOURCE, line)]

    assert tests(13) == ["a::quick", "a::slow"]
    assert tests(12) == [] != tests(11) == ["a::slow"]
    assert tests(8) == ["a::quick", "a::slow", "a::other"]
    assert within(seeing(reaches, "f", SOURCE, 13), 5) == [reaches[1]]
