"""Expressions of columns: values worked by hand, nulls, whole-table functions, errors."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import run_context
from siftune.curate.core.registry import build
from siftune.curate.rows.columns import numbers, sortable
from siftune.curate.rows.expressions import names_in, needs_of, reads_of, scores, sort_keys
from tests.fuzz.commands import called

TABLE = pl.DataFrame(
    {
        "a": [1, 2, None, 4],
        "b": [0.5, -2.0, 3.0, 0.0],
        "turns": [[1.0, 3.0], [2.0], [], None],
        "extra": ['{"k": "7", "my key": "1"}', '{"k": 8}', "{}", '{"k": "9"}'],
        "my-score": [3, 2, 1, 0],
        "größe": [1, 1, 2, 2],
    }
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a + b", [1.5, 0.0, None, 4.0]),
        ("a - b - 1", [-0.5, 3.0, None, 3.0]),  # from the left
        ("1 - a * 2 + b", [-0.5, -5.0, None, -7.0]),  # products first
        ("a / b / 2", [1.0, -0.5, None, None]),  # 4 / 0 has no value
        ("-(a + b) * -2", [3.0, 0.0, None, 8.0]),
        ("2e-1*b", [0.1, -0.4, 0.6, 0.0]),
        ("--b", [0.5, -2.0, 3.0, 0.0]),
        ("1 / (1 / b)", [0.5, -2.0, 3.0, None]),  # null on the way is null in the end
        ("log(b)", [math.log(0.5), None, math.log(3), None]),
        ("exp(b * 1000)", [math.exp(500), 0.0, None, 1.0]),
        ("sqrt(b) + 0", [math.sqrt(0.5), None, math.sqrt(3), 0.0]),
        ("abs(b)", [0.5, 2.0, 3.0, 0.0]),
        ("min(a, b, 1)", [0.5, -2.0, None, 0.0]),
        ("max(a, b)", [1.0, 2.0, None, 4.0]),
        ("rank(b)", [2 / 3, 0.0, 1.0, 1 / 3]),
        ("rank(a)", [0.0, 0.5, None, 1.0]),
        ("rank(größe) + 0", [0.0, 0.0, 2 / 3, 2 / 3]),  # ties have what is strictly below
        ("z(größe)", [-1.0, -1.0, 1.0, 1.0]),
        ("z(größe - größe)", [0.0] * 4),
        ("turns.mean + extra.k", [9.0, 10.0, None, None]),
        ("`my-score` * 2", [6.0, 4.0, 2.0, 0.0]),
        ("(extra.k)", [7.0, 8.0, None, 9.0]),
        ("`extra.my key` - 1", [0.0, None, None, None]),
    ],
)
def test_an_expression_has_the_value_worked_by_hand(text: str, values: list[float | None]) -> None:
    assert scores(TABLE, text).to_list() == pytest.approx(values)
    assert scores(TABLE.reverse(), text).to_list() == scores(TABLE, text).to_list()[::-1]


def test_a_single_column_is_read_as_it_is() -> None:
    assert scores(TABLE, "a").equals(numbers(TABLE, "a"))
    assert scores(TABLE, "a").dtype == pl.Int64
    assert scores(TABLE, "extra.my key").to_list() == [1.0, None, None, None]
    assert sort_keys(TABLE, "extra").equals(sortable(TABLE, "extra"))
    with pytest.raises(UsageError, match="expected numbers, found"):
        sort_keys(pl.DataFrame({"extra": ['{"a": "x"}']}), "1 * extra.a")  # a text is no operand


def test_infinite_values_of_a_column_are_null_and_no_sum_overflows() -> None:
    table = pl.DataFrame({"x": [1e308, -1e308, math.inf, 0.0]})
    for text in ("x", "x * 1"):
        assert scores(table, text).to_list() == [1e308, -1e308, None, 0.0]
        assert sort_keys(table, text).to_list() == [1e308, -1e308, None, 0.0]
    expected = [math.sqrt(1.5), -math.sqrt(1.5), None, 0.0]
    assert scores(table, "z(x)").to_list() == pytest.approx(expected)
    empty = pl.DataFrame({"x": []}, schema={"x": pl.Float64})
    assert scores(empty, "z(x) + rank(x)").to_list() == []
    assert scores(pl.DataFrame({"x": [None, None]}), "z(x) + rank(x)").to_list() == [None, None]


def test_an_expression_without_any_value_is_told() -> None:
    table = pl.DataFrame({"x": [1e200, 2e200], "zero": [0, 0], "none": [None, None]})
    for text, told in (
        ("x * x", True),
        ("x / zero", True),
        ("x * 2", False),
        ("x + none", False),
    ):
        with run_context() as context:
            scores(table, text)
        assert ("no_value" in context.metrics) == told
    with pytest.raises(UsageError, match=r"List\(Struct\); use t.len for their number"):
        numbers(pl.DataFrame({"t": [[{"a": 1}]]}), "t")


def test_whole_table_functions_equal_a_slow_reference_in_any_order_of_rows() -> None:
    draw = random.Random(5)
    values = [draw.choice([None, round(draw.gauss(3, 2), 1)]) for _ in range(300)]
    known = [value for value in values if value is not None]
    below = [sum(other < value for other in known) / (len(known) - 1) for value in known]
    mean, deviation = statistics.fmean(known), statistics.pstdev(known)
    table = pl.DataFrame({"id": range(300), "x": values})
    ranks, standard = scores(table, "rank(x)"), scores(table, "z(x)")
    assert ranks.drop_nulls().to_list() == pytest.approx(below)
    assert standard.drop_nulls().to_list() == pytest.approx([(v - mean) / deviation for v in known])
    assert ranks.is_null().to_list() == [value is None for value in values]
    turned = table.sample(fraction=1, shuffle=True, seed=1)
    assert scores(turned, "z(x)").equals(standard.gather(turned["id"]).alias("z(x)"))


def test_random_expressions_equal_those_of_python() -> None:
    draw = random.Random(0)

    def text(depth: int) -> str:
        kind = draw.randrange(6) if depth else draw.randrange(2)
        if kind < 2:
            return draw.choice(["a", "b", "0.25", "3"])
        if kind == 2:
            return f"-{text(depth - 1)}" if draw.random() < 0.5 else f"({text(depth - 1)})"
        if kind == 3:
            return f"{draw.choice(['min', 'max'])}({text(depth - 1)}, {text(depth - 1)})"
        return f"{text(depth - 1)} {draw.choice('+-*/')} {text(depth - 1)}"

    table = pl.DataFrame({"a": [1.5], "b": [-0.75]})
    for _ in range(300):
        whole = f"{text(4)} + a"
        try:
            expected = eval(whole, {"a": 1.5, "b": -0.75, "min": min, "max": max})
        except ZeroDivisionError:
            expected = None
        assert scores(table, whole).to_list() == pytest.approx([expected]), whole


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ifd + * b", 'character 7: expected a column, number or "(", got "*"'),
        ("a +", 'character 4: expected a column, number or "(", got the end'),
        ("a * b c", 'character 7: expected an operator, got "c"'),
        ("(a + b", 'character 7: expected an operator or ")", got the end'),
        ("a)", 'character 2: expected an operator, got ")"'),
        ("(a, b)", 'character 3: expected an operator or ")", got ","'),
        ("a % b + 1", 'character 3: expected an operator, got "%"'),
        ("a ** b", 'character 4: expected a column, number or "("'),
        ("mean(a)", "character 1: expected a function (log, exp, sqrt, abs, min, max, rank, z)"),
        ("2 + log(a, b)", "character 5: expected one expression in log(...), got 2"),
        ("min(a)", "character 1: expected two expressions or more in min(...), got 1"),
        ("log()", 'character 5: expected a column, number or "(", got ")"'),
        ("1 + 2", "expected a column in the expression, got none"),
        ("a + 1e999", "character 5: expected a number in range"),
        ("`a + 1", 'got "`"'),
        ("__import__('os').system('x')", "expected a function"),
        ("(" * 60 + "a" + ")" * 60, "character 52: expected at most 50 parentheses"),
        ("a+" * 1500 + "a", "expected at most 2,000 characters, got 3,001"),
    ],
)
def test_what_is_no_expression_is_refused_at_its_place(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        build("curate.selectors", "top_k", {"by": text, "rows": 1})
    assert str(refused.value).startswith("top_k: by: ")
    assert problem in str(refused.value)


def test_a_long_chain_is_no_deep_recursion() -> None:
    assert scores(pl.DataFrame({"a": [1]}), "a" + "+a" * 900).to_list() == [901.0]
    assert scores(pl.DataFrame({"a": [1]}), "-" * 901 + "a").to_list() == [-1.0]


def test_all_columns_of_an_expression_are_asked_for() -> None:
    text = "rank(ifd.mean) + 0.5 * extra.k - `my-score` / ifd.max"
    assert names_in(text) == ("ifd.mean", "extra.k", "my-score", "ifd.max")
    assert needs_of(text, "ifd", None) == ("ifd", "extra", "my-score")
    assert reads_of("a", sortable) == (("a", sortable),)
    assert reads_of("a + b", sortable) == (("a", numbers), ("b", numbers))


def test_an_expression_selects_on_the_command_line(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        f'{{"prompt": "q", "chosen": "{"w" * n}", "rejected": "www", "n": {n}}}' for n in (1, 5)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    words = ("curate", "select", "rows.jsonl", "top_k", "--rows", "1", "--out", "run", "--by")
    assert called(*words, "-extra.n * 2").code == 0
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["row"].to_list() == [1]
    missing = called(*words, "extra.n - lenght_words")
    assert missing.code == 2
    assert "the scorer length adds such columns" in missing.message
    assert (
        'top_k: by: character 5: expected a column, number or "("'
        in called(*words, "n + *").message
    )
