"""What is true of every selector in the folder."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.core.types import Selector
from siftune.curate.rows.chat import turn
from siftune.curate.rows.decisions import DECISIONS
from tests.own_tests import options_of

OPTIONS: dict[str, dict[str, Any]] = {
    "balanced": {"first": "ifd", "second": "quality"},
    "bees": {"margins": ("ifd", "quality"), "rows": 20},
    "best_per_prompt": {"by": "ifd"},
    "cluster_balanced": {"rows": 20, "clusters": 5},
    "deita_filter": {"rows": 20, "by": "quality"},
    "difficulty": {"by": "ifd", "rows": 20},
    "facility_location": {"rows": 20},
    "k_center": {"rows": 20},
    "label_noise": {"by": "ifd", "min": 0.5},
    "length_matched": {"chosen": "ifd", "rejected": "quality"},
    "longest": {"rows": 20},
    "margin": {"by": "ifd", "min": 0.4},
    "mmr": {"rows": 20, "by": "quality"},
    "quota": {"group_by": "source", "rows": 7},
    "random": {"rows": 20, "seed": 3},
    "rip": {"reward": "ifd", "length": "quality", "gap": "length_tokens"},
    "selective": {"by": "ifd", "fraction": 0.3},
    "split": {"part": "train", "test_share": 0.3},
    "sweet_spot": {"chosen": "ifd", "rejected": "quality"},
    "threshold": {"by": "ifd", "min": 0.4, "max": 0.9},
    "top_fraction": {"by": "ifd", "fraction": 0.3},
    "top_k": {"by": "ifd", "rows": 20},
}
"""Options of the selectors that cannot do without; of a new one, in its own test file."""

BUDGETED = [name for name, given in OPTIONS.items() if given.get("rows") == 20 and name != "top_k"]


def _rest(name: str) -> dict[str, Any]:
    """The options of ``name`` but for its budget."""
    return {key: value for key, value in OPTIONS[name].items() if key != "rows"}


BY_SCORE = [name for name, given in OPTIONS.items() if given.get("by") == "ifd"]
ONE_PASS_IS_ENOUGH = set(registry.names("curate.selectors")) - {
    *("car", "length_matched", "rip", "selective", "top_fraction")
}
"""Selectors that keep all of what they kept. A fraction of a fraction is smaller, as it says, and
quantiles of what was kept are others."""

HEIGHT = 60


@cache
def rows() -> pl.DataFrame:
    """Sixty conversations: near and exact duplicates, ties, missing scores, missing vectors."""
    rng = np.random.default_rng(11)
    said = [f"Tell me about {word}, please." for word in _WORDS]
    answers = [" ".join(rng.choice(_WORDS, size=rng.integers(6, 40))) for _ in range(HEIGHT)]
    answers[10], answers[11] = answers[12], answers[13] + " indeed"
    messages = [
        [turn("user", said[i % 8 if i != 10 else 4]), turn("assistant", answers[i])]
        for i in range(HEIGHT)
    ]
    messages[50] = [turn("user", "No answer came.")]
    digests = [f"{(i * 7919) % 97:032x}" for i in range(HEIGHT)]
    digests[10] = digests[12]
    vectors = rng.normal(size=(HEIGHT, 8)).astype(np.float32)
    vectors[10], vectors[20] = vectors[12], vectors[21] + np.float32(0.01)
    scores = [round(float(x), 1) for x in rng.random(HEIGHT)]
    return pl.DataFrame(
        {
            "id": [f"file{i % 4}:{i}" for i in range(HEIGHT)],
            "source": [f"file{i % 4}" for i in range(HEIGHT)],
            "row": range(HEIGHT),
            "kind": ["conversation"] * HEIGHT,
            "digest": digests,
            "extra": [json.dumps({"topic": f"t{i % 3}"}) for i in range(HEIGHT)],
            "messages": pl.Series(messages, dtype=TURNS),
            "ifd": pl.Series(_without(scores, 5, nan=6), dtype=pl.Float32),
            "quality": pl.Series(_without(scores[::-1], 7), dtype=pl.Float64),
            "length_tokens": pl.Series([len(text.split()) for text in answers], dtype=pl.UInt32),
            "heuristics_flags": [[], ["too_short"], ["repeats", "too_short"], None] * 15,
            "tags": [["a", "b"], ["b"], [f"t{i}" for i in range(3)], None, []] * 12,
            "judge_pairwise_winner": ["first", "second", "tie", "tie", None] * 12,
            "judge_pairwise_consistent": [True, True, True, False, None] * 12,
            "embedding": pl.Series(_without(vectors.tolist(), 8), dtype=pl.List(pl.Float32)).cast(
                pl.Array(pl.Float32, 8)
            ),
        }
    )


def _without(items: list[Any], gap: int, nan: int | None = None) -> list[Any]:
    kept = [None if i % 13 == gap else item for i, item in enumerate(items)]
    return [float("nan") if i == nan else item for i, item in enumerate(kept)]


_WORDS = (
    *("river", "stone", "cloud", "engine", "violin", "bread", "theory", "market", "forest"),
    *("signal", "copper", "window", "harvest", "planet", "letter", "bridge", "garden", "number"),
    *("silver", "winter", "doctor", "island", "mirror", "pencil"),
)


TARGETS: dict[str, str] = {}
"""Paths of tables that rows are compared with, by what stands for them in options."""


@pytest.fixture(scope="module", autouse=True)
def targets(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Write a scored table of three rows for options that are ``TARGETS``."""
    path = tmp_path_factory.mktemp("targets") / "targets.parquet"
    kept = ("id", "source", "row", "kind", "digest", "extra", "messages", "embedding")
    rows().select(kept).head(3).write_parquet(path)
    TARGETS["TARGETS"] = str(path)


def options_for(name: str) -> dict[str, Any]:
    given = OPTIONS.get(name) or options_of(name)[0]
    return {key: TARGETS.get(str(value), value) for key, value in given.items()}


@pytest.fixture(params=registry.names("curate.selectors"))
def selector(request: pytest.FixtureRequest) -> Selector:
    made: Selector = registry.build("curate.selectors", request.param, options_for(request.param))
    return made


def chosen(selector: Selector, table: pl.DataFrame) -> pl.DataFrame:
    """The decisions beside the ids."""
    return table.select("id").hstack(selector(table))


def test_every_row_gets_a_decision_and_a_reason(selector: Selector) -> None:
    decisions = selector(rows())
    assert decisions.schema == pl.Schema({**DECISIONS, **getattr(selector, "adds", {})})
    assert decisions.height == HEIGHT
    assert decisions["keep"].null_count() == 0
    assert decisions["reason"].null_count() == 0
    assert decisions["reason"].str.contains("^[a-z][a-z_]*$").all()


def test_no_reason_stands_for_both_decisions(selector: Selector) -> None:
    decisions = selector(rows()).group_by("reason").agg(pl.col("keep").n_unique())
    assert decisions["keep"].to_list() == [1] * decisions.height


def test_a_detail_is_a_json_object_or_null(selector: Selector) -> None:
    for text in selector(rows())["detail"].drop_nulls():
        assert isinstance(json.loads(text), dict)


def test_the_same_rows_get_the_same_answer(selector: Selector) -> None:
    assert_frame_equal(selector(rows()), selector(rows()))


def test_the_order_of_rows_does_not_matter(selector: Selector) -> None:
    expected = chosen(selector, rows()).sort("id")
    for seed in range(5):
        shuffled = rows().sample(fraction=1, shuffle=True, seed=seed)
        assert_frame_equal(chosen(selector, shuffled).sort("id"), expected)


def test_only_needed_columns_are_read(selector: Selector) -> None:
    table = rows()
    named = {*selector.needs, *set(getattr(selector, "wants", ())).intersection(table.columns)}
    content = ["messages"] if "content" in named else []
    read = ["id", "kind", "digest", *content, *(name for name in named if name != "content")]
    only = table.select(*dict.fromkeys(read))
    assert_frame_equal(chosen(selector, only), chosen(selector, table))


def test_an_empty_table_is_answered(selector: Selector) -> None:
    expected = pl.Schema({**DECISIONS, **getattr(selector, "adds", {})})
    assert selector(rows().clear()).schema == expected
    assert selector(rows().clear()).is_empty()


def test_one_row_is_answered(selector: Selector) -> None:
    assert selector(rows().head(1)).height == 1


@pytest.mark.parametrize("name", sorted(ONE_PASS_IS_ENOUGH))
def test_what_was_kept_is_kept_again(name: str) -> None:
    selector = registry.build("curate.selectors", name, options_for(name))
    kept = rows().filter(selector(rows())["keep"])
    again = selector(kept)
    assert kept.height > 0
    assert again["keep"].all(), kept.filter(~again["keep"])["id"].to_list()


@pytest.mark.parametrize("name", BY_SCORE)
def test_a_row_without_a_score_is_dropped_as_such(name: str) -> None:
    table = rows()
    decisions = registry.build("curate.selectors", name, OPTIONS[name])(table)
    unscored = table["ifd"].is_null() | table["ifd"].is_nan().fill_null(False)
    assert unscored.sum() == 6
    assert (decisions["reason"] == "not_scored").to_list() == unscored.to_list()
    assert not decisions.filter(unscored)["keep"].any()


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize(
    "budget", [{"rows": 20}, {"rows": 0}, {"fraction": 0.25}, {"tokens": 300}], ids=str
)
def test_a_budget_is_spent_and_not_more(name: str, budget: dict[str, float]) -> None:
    table = rows()
    selector = registry.build("curate.selectors", name, {**_rest(name), **budget})
    kept = table.filter(selector(table)["keep"])
    if "tokens" in budget:
        longest = int(table["length_tokens"].max())  # type: ignore[arg-type]
        assert 300 - longest < kept["length_tokens"].sum() <= 300
    else:
        assert kept.height == budget.get("rows", 15)


@pytest.mark.parametrize("name", BUDGETED)
def test_rows_of_unknown_length_are_not_paid_for(name: str) -> None:
    unknown = pl.col("row") % 2 == 0
    table = rows().with_columns(length_tokens=pl.when(~unknown).then("length_tokens"))
    decisions = registry.build("curate.selectors", name, {**_rest(name), "tokens": 100})(table)
    kept = table.filter(decisions["keep"])
    assert 0 < kept["length_tokens"].sum() <= 100
    assert kept["length_tokens"].null_count() == 0
    assert (decisions["reason"] == "not_scored").sum() >= 30


@pytest.mark.parametrize("name", BUDGETED)
def test_more_rows_than_there_are_keeps_all_that_can_be_compared(name: str) -> None:
    decisions = registry.build("curate.selectors", name, {**_rest(name), "rows": 1000})(rows())
    assert decisions.filter(~pl.col("keep"))["reason"].is_in(["not_scored", "too_similar"]).all()


@pytest.mark.parametrize("name", registry.names("curate.selectors"))
def test_a_score_or_a_length_may_be_an_expression_of_columns(name: str) -> None:
    known = registry.options(registry.find("curate.selectors", name))
    given = options_for(name)
    given |= {"start": "best"} if name == "k_center" else {}
    for option, column in (("by", "quality"), ("tokens_by", "length_tokens")):
        if option not in known:
            continue
        if option == "tokens_by":
            given = {key: value for key, value in given.items() if key != "rows"} | {"tokens": 300}
        texts = [
            [text] if name == "pareto" and option == "by" else text
            for text in (column, f"{column} * 2 / 2")
        ]
        plain, same = (
            registry.build("curate.selectors", name, given | {option: text}) for text in texts
        )
        assert column in same.needs
        assert same(rows())["keep"].to_list() == plain(rows())["keep"].to_list()
        given |= {option: texts[0]}


@pytest.mark.parametrize("name", BUDGETED)
def test_groups_are_tables_by_themselves_with_a_budget_each(name: str) -> None:
    table = rows().with_columns(topic=pl.Series([None, "a", "b", "b", "c"] * 12))
    given = _rest(name) | {"group_by": "topic"}
    alone = {
        topic: registry.build("curate.selectors", name, _rest(name) | {"rows": count})
        for topic, count in (("a", 3), ("b", 5))
    }
    grouped = registry.build("curate.selectors", name, given | {"rows": {"a": 3, "b": 5}})
    decided = chosen(grouped, table)
    for topic, selector in alone.items():
        own = table.filter(pl.col("topic") == topic)
        expected, found = chosen(selector, own), decided.filter(table["topic"] == topic)
        assert found.drop("detail").equals(expected.drop("detail"))
        assert 0 < found["keep"].sum() <= selector.rows
        details = found["detail"].drop_nulls()
        assert {json.loads(text)["group"] for text in details} == {topic}
    assert set(decided.filter(table["topic"] == "c")["reason"]) == {"not_in_quota"}
    assert set(decided.filter(table["topic"].is_null())["reason"]) == {"no_group"}
    turned = table.sample(fraction=1, shuffle=True, seed=2)
    assert_frame_equal(chosen(grouped, turned).sort("id"), decided.sort("id"))
    each = registry.build("curate.selectors", name, given | {"rows": 2})
    assert each(table).filter("keep").height == 6
    assert "topic" in each.needs
    assert each.most_kept(60) == 60
    assert grouped.most_kept(60) == 8
    assert (
        registry.build(
            "curate.selectors", name, given | {"rows": 2, "group_by": "source"}
        ).most_kept(60, 4)
        == 8
    )
    with pytest.raises(UsageError, match="rows: no row has one of the values d in 'topic'; there"):
        registry.build("curate.selectors", name, given | {"rows": {"d": 1}})(table)
    with pytest.raises(UsageError, match="need group_by, the column of the groups"):
        registry.build("curate.selectors", name, _rest(name) | {"rows": {"d": 1}})
