"""Pass rates of samples, joined to rows by id; LIM and the balanced filter on top of them."""

from __future__ import annotations

import json

import polars as pl
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.rows.pass_rates import FILE, pass_rates
from siftune.curate.scorers.pass_rate import PassRate


def rates(path, rows):
    """A file of rates: of each id p and, where given, the number of answers."""
    names = ("id", "pass_rate", "pass_rate_samples")
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=False))) + "\n" for row in rows))
    return str(path)


def test_rates_are_joined_by_id_and_several_samples_are_pooled(tmp_path):
    first = rates(tmp_path / "a.jsonl", [("q:1", 0.5, 4), ("q:2", 1.0, 4), ("q:4", None, 0)])
    folder = tmp_path / "samples"
    folder.mkdir()
    table = pl.DataFrame({"id": ["q:2", "q:3"]}).hstack(pass_rates([2, 0], [12, 3]))
    table.write_parquet(folder / FILE)
    rows = pl.DataFrame({"id": ["q:3", "q:2", "q:1", "q:4", "q:5"]})
    found = PassRate((first, str(folder)))(rows)
    assert found.rows() == [
        (0.0, 0.0, 3),
        (6 / 16, 6 / 16 * 10 / 16, 16),  # 4 of 4 and 2 of 12
        (0.5, 0.25, 4),
        (None, None, None),  # no answer of it was checked
        (None, None, None),  # in no sample
    ]
    assert found.schema == PassRate.adds
    assert PassRate((first,)).describe() != PassRate((str(folder),)).describe()


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([("q:1", 1.5)], "a share from 0 to 1, got 1.5 of 'q:1'"),
        ([("q:1", 0.5), ("q:1", 0.2)], "the id 'q:1' is there more than once"),
        ([("q:1",)], "pass_rate is not there, there are id"),
        ([("q:1", "half")], "pass_rate and pass_rate_samples"),
    ],
)
def test_rates_that_are_none_are_refused_with_the_file(tmp_path, rows, why):
    with pytest.raises(DataError, match=why) as told:
        PassRate((rates(tmp_path / "a.jsonl", rows),))(pl.DataFrame({"id": ["q:1"]}))
    assert "a.jsonl" in str(told.value)
    with pytest.raises(DataError, match=r"nowhere is not there: expected a folder that `siftune"):
        PassRate((str(tmp_path / "nowhere"),)).describe()
    with pytest.raises(UsageError, match="name a folder of samples"):
        PassRate(())
