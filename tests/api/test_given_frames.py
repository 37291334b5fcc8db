"""Frames and records as they are given: values of lists, tables of ours read again, pairs alone."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import polars as pl
import pytest
import torch

import siftune as sf
from siftune.curate.core import registry
from tests.own_tests import options_of

pd = pytest.importorskip("pandas")  # no requirement of ours

RECORDS = [{"prompt": f"Say {n}", "response": f"{n} is said"} for n in range(3)]


def extra(value: object) -> object:
    return json.loads(sf.read([{"prompt": "a", "response": "b", "e": value}]).kept["extra"][0])["e"]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.arange(2000.0), list(range(2000))),
        (torch.ones(2, requires_grad=True), [1, 1]),
        ({"deep": [np.int64(2), np.bool_(True)]}, {"deep": [2, True]}),
        (pl.Series([1, None]), [1, None]),
        (pd.NA, None),
    ],
)
def test_numbers_of_arrays_stay_numbers(value, kept):
    assert extra(value) == kept


def test_turns_in_an_array_are_turns():
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert len(sf.read([{"messages": np.array(turns, dtype=object)}])) == 1


@pytest.mark.parametrize("value", [object(), {1}, [len]])
def test_a_value_that_no_file_has_is_refused_by_name(value):
    with pytest.raises(sf.UsageError, match=r"^'e' of record 2 holds a value of type \w+, which"):
        sf.read([RECORDS[0], {**RECORDS[1], "e": value}])


def test_dropped_rows_are_read_again_any_number_of_times():
    rows = sf.read([*RECORDS, *RECORDS]).dedup("exact")
    first = rows.dropped.columns
    for _ in range(3):
        rows = sf.read(rows.dropped).select("random", rows=0)
    assert rows.dropped.columns[:3] == ["id", "stage", "reason"]
    assert set(rows.dropped["stage"]) == {"1:random"}
    assert set(rows.dropped["row_stage"]) == {"1:exact_dedup"}
    assert {*first} < {*rows.dropped.columns}


def test_a_score_called_as_a_column_of_ours_is_beside_it():
    def decision(response: str) -> str:
        return "mine"

    rows = sf.read(RECORDS).score(decision).select("random", rows=1)
    table = rows.to_polars("all")
    assert sorted(table["decision"]) == ["dropped", "dropped", "kept"]
    assert set(table["row_decision"]) == {"mine"}


PAIRS = [{"prompt": "Hi", "chosen": "a b", "rejected": "c"}]
RANKED = [{"prompt": "Hi", "completions": ["a b", "c"], "scores": [2.0, 1.0]}]
UNPAIRED = [{"prompt": "Hi", "completion": "a b", "label": True}]


@pytest.mark.parametrize("records", [RECORDS, PAIRS, RANKED, UNPAIRED])
def test_a_table_of_ours_comes_back_from_pandas(records):
    rows = sf.read(records)
    assert sf.read(rows.kept.to_pandas()).kept.equals(rows.kept)
    turns = "messages" if rows.kind == "conversation" else "prompt"
    with pytest.raises(sf.DataError, match=rf"but '{turns}' is Null; expected List"):
        sf.read(rows.kept.with_columns(pl.lit(None).alias(turns)))


@cache
def of_pairs() -> list[str]:
    group = "curate.scorers"
    needs = {
        name: getattr(registry.find(group, name), "needs", ()) for name in registry.names(group)
    }
    return [name for name, one in needs.items() if isinstance(one, tuple) and "chosen" in one]


@pytest.mark.parametrize(
    ("records", "kind"),
    [
        (RECORDS, "conversations"),
        ([{"text": "a"}], "plain texts"),
        (RANKED, "ranked lists"),
        (UNPAIRED, "unpaired answers"),
    ],
)
def test_a_scorer_of_pairs_names_the_rows_that_are_none(records, kind):
    told = rf"it reads preference pairs \(.*\), and these rows are {kind}$"
    names = of_pairs()
    assert {"pair_text", "label_noise", "label_conflicts"} <= {*names}
    rows = sf.read(records)
    for name in names:
        scorer = registry.build("curate.scorers", name, options_of(name)[0])
        for frame in (pl.DataFrame(records), rows.kept):
            with pytest.raises(sf.UsageError, match=told):
                scorer(frame)
    with pytest.raises(sf.UsageError, match=rf"^stage 1:pair_text: {told}"):
        rows.score("pair_text")


def test_a_reference_in_memory_is_named_without_its_temporary_folder():
    rows = sf.read(RECORDS).dedup("exact", against=RECORDS[:2])
    (name,) = rows.dropped["reference"].unique()
    assert name.startswith("references/against-")


def test_an_empty_frame_has_no_decisions():
    empty = pl.DataFrame(RECORDS)[:0]
    decided = sf.selector("minhash_dedup")(empty)
    assert decided.schema == {"keep": pl.Boolean, "reason": pl.String, "detail": pl.String}
    assert sf.scorer("length")(empty).height == decided.height == 0


def test_digests_may_be_null_and_names_of_columns_may_not_be_twice():
    table = sf.read(RECORDS).kept.with_columns(digest=pl.lit(None))
    assert sf.selector("exact_dedup")(table)["keep"].all()
    with pytest.raises(sf.UsageError, match=r"this frame cannot be read: .*non-unique"):
        sf.read(pd.DataFrame([["a", "b", "c"]], columns=["prompt", "response", "response"]))
