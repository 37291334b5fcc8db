"""Groups in given shares of one budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import run_context
from siftune.curate.core.registry import build
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse
from tests.curate.test_run_context import Lines

OPTIONS = [
    {"rows": 20, "shares": {"file0": 3, "file1": 1}},
    {"tokens": 300, "power": 0.5, "fill": False},
]
NO_PATHS = ("by", "group_by")


def rows(**counts: int) -> pl.DataFrame:
    """So many rows of each source, of 1, 2, 3, ... tokens."""
    sources = [name for name, count in counts.items() for _ in range(count)]
    tokens = [at for count in counts.values() for at in range(1, count + 1)]
    ids = [f"f:{at:03}" for at in range(len(sources))]
    columns = {"id": ids, "digest": ids, "source": sources, "length_tokens": tokens}
    return pl.DataFrame(columns, schema_overrides={"source": pl.String})


def kept(table: pl.DataFrame, **options: Any) -> dict[str, int]:
    answer = build("curate.selectors", "mixture", options)(table)
    counts = table.filter(answer["keep"])["source"].value_counts()
    return dict(sorted(counts.iter_rows()))


def sainte_lague(shares: dict[str, float], sizes: dict[str, int], seats: int) -> dict[str, int]:
    """Seats one by one to the largest share / (2 · seats + 1), as the method is defined."""
    won = dict.fromkeys(shares, 0)
    for _ in range(seats):
        open_ = [name for name in won if won[name] < sizes[name]]
        best = max(open_, key=lambda name: shares[name] / (2 * won[name] + 1))
        won[best] += 1
    return won


@pytest.mark.parametrize("seats", [1, 7, 20, 60])
def test_rows_are_given_out_by_the_method_of_sainte_lague(seats: int) -> None:
    sizes, shares = {"a": 50, "b": 8, "c": 30}, {"a": 0.53, "b": 0.31, "c": 0.16}
    expected = sainte_lague(shares, sizes, seats)
    found = kept(rows(**sizes), shares=shares, rows=seats)
    assert found == {name: count for name, count in expected.items() if count}


def test_a_group_that_is_too_small_is_filled_up_or_ends_all() -> None:
    table, shares = rows(web=40, books=5, code=40), {"web": 2, "books": 1}
    assert kept(table, shares=shares, rows=30) == {"web": 25, "books": 5}
    assert kept(table, shares=shares, rows=30, fill=False) == {"web": 10, "books": 5}
    assert kept(table, shares=shares, rows=9, fill=False) == {"web": 6, "books": 3}


def test_shares_of_a_group_without_a_scored_row_cannot_be_kept() -> None:
    table = rows(web=9, books=3).with_columns(s=pl.when(pl.col("source") == "web").then(1.0))
    given = {"shares": {"web": 1, "books": 1}, "rows": 6, "by": "s"}
    assert kept(table, **given) == {"web": 6}
    with pytest.raises(UsageError, match="mixture: no row of books can be kept"):
        kept(table, fill=False, **given)
    assert kept(table.clear(), fill=False, **given) == {}


@pytest.mark.parametrize(
    ("power", "counts"), [(0, {"a": 10, "b": 10}), (1, {"a": 16, "b": 4}), (0.5, {"a": 13, "b": 7})]
)
def test_without_shares_a_power_of_the_size_is_the_share(power: float, counts: Any) -> None:
    assert kept(rows(a=64, b=16), power=power, rows=20) == counts  # 0.5: 8 to 4, of 20: 13.3


def test_tokens_are_shared_and_the_best_rows_of_a_group_kept() -> None:
    table = rows(a=20, b=20)
    answer = build(
        "curate.selectors",
        "mixture",
        {"shares": {"a": 3, "b": 1}, "tokens": 80, "by": "-length_tokens"},
    )(table)
    spent = table.filter(answer["keep"]).group_by("source").agg(pl.sum("length_tokens"))
    assert dict(spent.iter_rows()) == {"a": 55, "b": 21}  # 1 + … + 10; 1 + … + 6; then 11: 87
    assert json.loads(answer["detail"][9]) == {"group": "a", "rank": 10, "size": 20}


def test_every_row_that_is_not_kept_has_its_reason() -> None:
    table = rows(a=3, b=2, c=1).with_columns(
        source=pl.Series(["a", "a", "a", "b", None, "c"]), s=pl.Series([3, 2, None, 1, 1, 1])
    )
    answer = build(
        "curate.selectors", "mixture", {"shares": {"a": 1, "b": 1, "d": 1}, "rows": 2, "by": "s"}
    )(table)
    assert answer["reason"].to_list() == [
        *("selected", "over_quota", "not_scored", "selected", "no_group", "not_in_mixture"),
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("quota", {"group_by": "source", "rows": 9}),
        ("random", {"group_by": "source", "rows": 9}),
        ("stratified", {"value": "length_tokens", "bins": 2, "rows": 9}),
    ],
)
def test_the_seed_is_0_without_an_option(name: str, options: dict[str, Any]) -> None:
    table = rows(web=40)
    plain, zero, one = (
        build("curate.selectors", name, {**options, **seed})(table)["keep"].to_list()
        for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert plain == zero != one


def test_names_that_no_row_has_are_told(tmp_path: Path) -> None:
    table = rows(web=20, books=20)
    for name, given in (
        ("mixture", {"shares": {"web": 3, "boks": 1}, "rows": 12}),
        ("quota", {"group_by": "source", "rows": {"web": 3, "boks": 1}}),
        ("random", {"group_by": "source", "rows": {"web": 3, "boks": 1}}),
    ):
        with run_context() as context:
            build("curate.selectors", name, given)(table)
        option = "shares" if name == "mixture" else "rows"
        expected = f"no row has boks in 'source'; not named in {option} are books"
        assert context.metrics == {"no_such_group": expected}
    lines = Lines()
    shares = {"conversation": 1, "conversion": 1}
    stage = {"select": "mixture", "shares": shares, "group_by": "kind", "rows": 1}
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "p", "response": "r"}\n')
    run(parse({"source": str(file), "stages": [stage]}), tmp_path / "out", say=lines)
    told = "1:mixture: no_such_group: no row has conversion in 'kind'"
    assert [line for line in lines.lines if "conversion" in line] == [told]
    with run_context() as context:
        kept(table, shares={"web": 1, "books": 2}, rows=12)
    assert not context.metrics


def test_wrong_options_are_explained() -> None:
    for options, words in (
        ({"shares": {"x": 1}}, "shares: no row has one of the values x in 'source'; there are a"),
        ({"shares": {"a": 0}}, "expected a share above 0"),
        ({"shares": {"a": -1}}, "shares: expected at least 0, got -1"),
        ({"power": 2}, "power: expected at least 0, at most 1"),
    ):
        with pytest.raises(UsageError, match=words):
            kept(rows(a=2), rows=1, **options)
