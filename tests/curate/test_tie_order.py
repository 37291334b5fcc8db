"""The order of rows from best to worst, against Python's own sort."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftune.curate.rows.decisions import tie_order

SCORES = st.sampled_from([None, math.nan, -math.inf, -1.5, -0.0, 0.0, 2.0, math.inf])
# Digests of ours that differ early, late or not at all, and such as no one of ours looks.
OURS = st.sampled_from([f"{high:016x}{low:016x}" for high in (0, 9 << 60) for low in (0, 1, 2)])
OTHERS = st.text(st.sampled_from("aAbé\0"), max_size=3)
ROWS = st.lists(st.tuples(SCORES, SCORES, OURS), max_size=30) | st.lists(
    st.tuples(SCORES, SCORES, OURS | OTHERS), max_size=30
)


@settings(deadline=None)
@given(ROWS, st.booleans())
def test_scores_then_digest_then_id_with_what_was_not_scored_last(rows, descending):
    def key(at: int):
        ranks = []
        for score in rows[at][:2]:
            unknown = score is None or math.isnan(score)
            ranks.append((unknown, 0.0 if unknown else -score if descending else score))
        return (*ranks, rows[at][2].encode(), f"{at % 7}:{at}")

    table = pl.DataFrame(
        {"digest": [row[2] for row in rows], "id": [f"{at % 7}:{at}" for at in range(len(rows))]},
        schema={"digest": pl.String, "id": pl.String},
    )
    by = [pl.Series([row[i] for row in rows], dtype=pl.Float64) for i in range(2)]
    order = tie_order(table, *by, descending=descending)
    assert order.tolist() == sorted(range(len(rows)), key=key)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series([2, None, 3], dtype=pl.UInt8), [2, 0, 1]),
        (pl.Series([False, True, None]), [1, 0, 2]),
        (pl.Series(["b", "a", "c"]), [2, 0, 1]),
        (pl.Series([2**63 - 1, 2**63 - 2, 0]), [0, 1, 2]),  # equal as floats
    ],
)
def test_any_column_that_sorts_can_rank(column, expected):
    table = pl.DataFrame({"digest": ["0" * 32] * 3, "id": ["a", "b", "c"]})
    assert tie_order(table, column).tolist() == expected


def test_a_slice_of_a_table_is_ordered_by_its_own_digests():
    digests = [f"{i:032x}" for i in np.random.default_rng(0).permutation(100)]
    table = pl.DataFrame({"digest": digests, "id": digests})[40:60]
    assert table["digest"].gather(tie_order(table)).to_list() == sorted(digests[40:60])
