"""One word for one thing over all selectors; old names are answered with the new ones."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.curate.rows.columns import groups, numbers, sortable
from siftune.curate.vectors.unit_vectors import vector_column
from siftune.pipelines.cli import siftune
from tests.own_tests import options_of

READERS = {
    "by": (numbers, sortable),
    "embedding": (vector_column,),
    "group_by": (groups,),
    "tokens_by": (numbers,),
}
NEEDED: dict[str, dict[str, Any]] = {
    "balanced": {"first": "f", "second": "s"},
    "margin": {"min": 0, "unit": "quantiles"},
    "pareto": {"by": ["column_of_by"]},
    "split": {"part": "train"},
    "stratified": {"value": "v"},
    "threshold": {"min": 0},
    "top_fraction": {"fraction": 0.5},
}


@pytest.mark.parametrize("name", registry.names("curate.selectors"))
def test_an_option_of_one_name_is_read_in_one_way(name: str) -> None:
    known = registry.options(registry.find("curate.selectors", name))
    named = {option: f"column_of_{option}" for option in READERS if option in known}
    given: dict[str, Any] = {**options_of(name)[0], **named, **NEEDED.get(name, {})}
    if "rows" in known:
        given["rows"] = 1
    if name == "k_center":
        given["start"] = "best"
    if "tokens" in known:
        given = {key: value for key, value in given.items() if key != "rows"} | {"tokens": 1}
    made = registry.build("curate.selectors", name, given)
    reads = dict(getattr(made, "reads", ()))
    for option, column in named.items():
        assert reads[column] in READERS[option]
        assert column in made.needs


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("mmr", {"rows": 1, "rank_by": "x"}, "no option 'rank_by'; did you mean by?"),
        ("semantic_dedup", {"rank_by": "x"}, "no option 'rank_by'; did you mean by?"),
        ("flags", {"by": "pii_kinds"}, "no option 'by'; did you mean column?"),
        ("judge_agreement", {"by": "judge"}, "no option 'by'; did you mean prefix?"),
        (
            "quota",
            {"by": "source", "rows": 1},
            "needs the option 'group_by': --group-by VALUE ('by' has another meaning now",
        ),
        ("k_center", {"rows": 1, "by": "embedding"}, r"\(the column of vectors is embedding\)"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one(name: str, given: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("('", r"\('").replace("?", r"\?")):
        registry.build("curate.selectors", name, given)


@pytest.mark.parametrize("dtype", [pl.List(pl.Float32), pl.Array(pl.Float32, 2)])
@pytest.mark.parametrize("read", [numbers, sortable])
def test_vectors_where_a_score_is_wanted_are_told_their_option(read: Any, dtype: Any) -> None:
    table = pl.DataFrame({"embedding": pl.Series([[1.0, 0.0]], dtype=dtype)})
    with pytest.raises(UsageError, match="for the option embedding of k_center"):
        read(table, "embedding")
    counts = pl.DataFrame({"counts": [[1, 2]], "extra": ['{"v": [0.1, 0.2]}']})
    with pytest.raises(UsageError, match=r"use counts\.mean, counts\.max, \.\.\.$"):
        read(counts, "counts")
    with pytest.raises(UsageError, match="vectors are for the option embedding"):
        numbers(counts, "extra.v")


def test_the_command_line_knows_what_an_option_was_called(tmp_path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "q", "completion": "a"}\n')
    words = ["curate", "select", str(rows), "quota", "--by", "source", "--rows", "1"]
    told = CliRunner().invoke(siftune, [*words, "--out", str(tmp_path / "out")])
    assert "--group-by VALUE ('by' has another meaning now)" in str(told.exception)
