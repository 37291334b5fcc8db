"""Fields of the raw rows by name: one that no row has is neither taken nor advised."""

from __future__ import annotations

import pytest

import siftune as sf

RECORDS = [
    {"prompt": "a", "response": "b", "score": 1, "meta": {"site": None}},
    {"prompt": "c", "response": "d", "topic": "x"},
]


@pytest.mark.parametrize(
    ("selector", "options"),
    [
        ("top_k", {"by": "extra.scor", "rows": 1}),
        ("top_k", {"by": "extra.score - extra.scor", "rows": 1}),
        ("quota", {"group_by": "extra.scor", "rows": 1}),
    ],
)
def test_a_field_that_no_row_has_is_refused(selector, options):
    told = r"no row has the field 'extra\.scor'; did you mean extra\.score\?"
    with pytest.raises(sf.UsageError, match=told):
        sf.read(RECORDS).select(selector, **options)
    with pytest.raises(sf.UsageError, match=told):
        sf.selector(selector, **options)(sf.read(RECORDS).kept)


def test_a_selector_by_itself_names_the_raw_field_too():
    told = r"no column 'score' in this frame; .*a field 'score' of the raw rows is extra\.score"
    with pytest.raises(sf.UsageError, match=told):
        sf.selector("top_k", by="score", rows=1)(sf.read(RECORDS).kept)


def test_one_name_in_place_of_a_list_is_refused_with_the_list():
    told = r"bees: margins: expected a list, such as \['a', 'b'\], got 'a,b'"
    with pytest.raises(sf.UsageError, match=told):
        sf.selector("bees", margins="a,b", rows=1)


def test_a_field_that_is_null_in_every_row_is_no_mistake():
    rows = sf.read(RECORDS).select("quota", group_by="extra.meta.site", rows=1)
    assert set(rows.dropped["reason"]) == {"no_group"}
    none = rows.select("random", rows=0).select("top_k", by="extra.nope", rows=1)
    assert len(none) == 0  # of no rows nothing is known


def test_no_field_is_advised_that_the_rows_lack():
    with pytest.raises(sf.UsageError) as refused:
        sf.read(RECORDS).select("top_k", by="prompt", rows=1)
    assert "extra.prompt" not in str(refused.value)
    assert "no column 'prompt'" in str(refused.value)
    with pytest.raises(sf.UsageError, match=r"a field 'topic' of the raw rows is extra\.topic"):
        sf.read(RECORDS).select("quota", group_by="topic", rows=1)
    with pytest.raises(sf.UsageError, match=r"'extra\.nope'; the raw rows have no fields"):
        sf.read([{"prompt": "a", "response": "b"}]).select("top_k", by="extra.nope", rows=1)
