from __future__ import annotations

import polars as pl
import pytest

from siftune.curate.text.truncated_code import truncated_code

PYTHON = """import csv

def totals(path):
    '''Sum (up) each column.'''
    result = {}
    with open(path) as file:
        for row in csv.DictReader(file):  # one at a time (
            for name, value in row.items():
                result[name] = result.get(name, 0) + float(value) // 1
    return result

print(totals("sales.csv"))"""
SCRIPT = """function swap(pair) {
  // changes the order (in place
  const [first, second] = pair;
  return [second, first];
}

console.log(swap([1, 2])); // [2, 1]"""
QUERY = "SELECT name, COUNT(*) AS n\nFROM orders\nWHERE total > 10\nGROUP BY name"
PAGE = "<html>\n<body>\n<h1>Hello</h1>\n<p>It's (nearly) five o'clock\n</body>\n</html>"
NO_SEMICOLONS = """function area(side) {
  return side * side
}

class Shop {
  open() {
    this.isOpen = true
  }
}

console.log(area(3))"""
ONE_LINERS = "def double(n): return 2 * n\ndef half(n=f(2)) -> float: return n / 2"
SCALA = "val two = 2\ndef twice(n: Int) = two * n"
SHELL = '#!/bin/sh\nname=$1\necho "It\'s $name"\nls | wc -l\npwd'


def cut(*texts: str | None) -> list[bool | None]:
    return truncated_code(pl.Series(texts, dtype=pl.String)).to_list()


@pytest.mark.parametrize(
    "program", [PYTHON, SCRIPT, NO_SEMICOLONS, ONE_LINERS, SCALA, QUERY, PAGE, SHELL]
)
def test_a_whole_program_is_not_cut(program: str) -> None:
    assert cut(program, program + "\n") == [False, False]


@pytest.mark.parametrize(
    ("program", "after"),
    [
        (PYTHON, "with open("),
        (PYTHON, "result = {}\n    "),
        (PYTHON, "value in row.items():"),
        (PYTHON, "result.get(name, 0) +"),
        (PYTHON, "    return res"),
        (PYTHON, 'print(totals("sal'),
        (SCRIPT, "const [first, second] = pair;"),
        (SCRIPT, "}\n\ncons"),
        (NO_SEMICOLONS, "  return side *"),
        (NO_SEMICOLONS, "this.isOpen = true"),
        (ONE_LINERS, "def half(n=f(2)"),
        (ONE_LINERS, "def half(n=f(2)) -> float"),
        ("int a = 1;\nint b = 2;\nif (a) {\n  b = 3;\n}\nreturn a + b;", "return a + b"),
        (QUERY, "FROM orders\nWHERE"),
        (PAGE, "<h1>Hello"),
        (PAGE, "o'clock\n</bo"),
        (SHELL, 'echo "It'),
    ],
)
def test_a_program_that_stops_inside_is_cut(program: str, after: str) -> None:
    assert cut(program[: program.index(after) + len(after)]) == [True]


def test_most_cuts_of_programs_are_found() -> None:
    programs = [PYTHON, SCRIPT, QUERY, PAGE, SHELL]
    pieces = [p[:n] for p in programs for n in range(len(p) // 3, int(0.9 * len(p)), 3)]
    found = cut(*pieces)
    assert len(pieces) > 100
    assert found.count(True) / len(found) >= 0.7


def test_prose_and_missing_answers_are_not_judged() -> None:
    prose = "The roof (which leaks) must be mended before the winter, or else the"
    assert cut(prose, "", None) == [False, False, None]
