"""Facility location: the plain greedy, evaluated lazily, then on the pairs that still matter."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.registry import build
from siftune.curate.vectors import facility_location, facility_sparse
from siftune.curate.vectors import facility_sparse as module
from siftune.curate.vectors.facility_location import (
    coverage,
    facility_picks,
    facility_picks_exact,
    greedi,
)
from siftune.curate.vectors.facility_sparse import Similarities
from siftune.curate.vectors.unit_vectors import exact_products, on_grid

STEP = 2.0**-24


def units(height: int, seed: int, width: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(12, width))[rng.integers(0, 12, height)]
    vectors = centres + rng.normal(size=(height, width))
    vectors[-10:] = vectors[:10]
    return on_grid(vectors.astype(np.float32))[0]


def similarities(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(picked, covered), in the steps that the method counts."""
    products = np.maximum(exact_products(vectors, vectors), 0) * weights[:, None]
    steps: np.ndarray = np.rint(products / STEP)
    return steps * STEP


def greedy(similar: np.ndarray, count: int) -> list[int]:
    """The method as it is defined: all gains at every step."""
    covered, picks = np.zeros(len(similar)), list[int]()
    for _ in range(count):
        gains = np.maximum(similar - covered, 0).sum(axis=1)
        gains[picks] = -1
        picks.append(int(np.argmax(gains)))
        covered = np.maximum(covered, similar[picks[-1]])
    return picks


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pairs", [0, 3000, 2**23])
@pytest.mark.parametrize("block", [1, 50, 1024])
def test_every_pair_counted_gives_the_picks_of_the_plain_greedy(
    weighted: bool, pairs: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facility_sparse, "_BLOCK", max(block, 7))
    monkeypatch.setattr(facility_location, "_BATCH", block)
    vectors = units(400, 1)
    weights = np.random.default_rng(1).random(400) if weighted else np.ones(400)
    found = facility_picks_exact(vectors, weights, np.ones(400), 60, pairs=pairs)
    assert found.picks.tolist() == greedy(similarities(vectors, weights), 60)
    assert found.gains.sum() == pytest.approx(coverage(vectors, found.picks, weights), rel=1e-12)
    assert all(later <= earlier for earlier, later in pairwise(found.gains))


@pytest.mark.parametrize("pairs", [0, 3000, 2**23])
def test_in_float32_it_covers_as_much(pairs: int) -> None:
    vectors, ones = units(300, 2), np.ones(300)
    found = facility_picks(vectors, ones, ones, 300, pairs=pairs)
    picks = greedy(similarities(vectors, ones), 40)
    # The order may differ where gains do by 1e-6.
    assert coverage(vectors, found.picks[:40], ones) == pytest.approx(
        coverage(vectors, np.array(picks), ones), rel=1e-6
    )
    assert sorted(found.picks) == list(range(300))


def test_first_picks_for_a_sample_cover_nearly_as_much() -> None:
    vectors, ones = units(2000, 3), np.ones(2000)
    near = facility_picks(vectors, ones, ones, 60, sample=400, pairs=40_000)
    every = facility_picks_exact(vectors, ones, ones, 60)
    assert near.picks.tolist() != every.picks.tolist()
    covered = coverage(vectors, near.picks, ones)
    assert covered > 0.995 * coverage(vectors, every.picks, ones)
    assert near.gains.sum() == pytest.approx(covered, rel=1e-6)
    drawn = np.random.default_rng(0).permutation(2000)[:60]
    assert covered > 1.02 * coverage(vectors, drawn, ones)


@pytest.mark.parametrize("gpu", [False, True])
def test_similarities_are_those_of_numpy(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU computes, on the processor: its code is that of any other device."""
    if gpu:
        pytest.importorskip("torch")
    monkeypatch.setattr(module, "_Gpu", partial(module._Gpu, device="cpu"))
    vectors = units(90, 10)
    similar = Similarities(vectors, gpu)
    some = np.array([3, 1, 80])
    for left, right in ((slice(0, 40), slice(40, 90)), (some, slice(0, 9)), (slice(5, 6), some)):
        expected = exact_products(vectors[left], vectors[right])
        np.testing.assert_allclose(similar.against(right)(left), expected, atol=1e-6)


def test_what_a_row_can_add_at_first_is_bounded() -> None:
    vectors = units(300, 8)
    weights = np.random.default_rng(8).random(300)
    true = np.rint(similarities(vectors, weights) / STEP).sum(axis=1)
    rows = np.arange(0, 300, 7)
    for kind in (np.float32, np.float64):
        similar = Similarities(vectors.astype(kind))
        dense = facility_location._Dense(similar, weights, np.arange(300), None)
        assert (dense.bounds() >= true).all()
        assert (dense.bounds() < 2 * true.max()).all()
        few = facility_location._Dense(similar, weights, np.arange(300), rows)
        assert (few.bounds() >= similarities(vectors, weights)[:, rows].sum(axis=1) / STEP).all()


@pytest.mark.parametrize("rows", [None, np.arange(1, 200, 3)])
def test_the_pairs_that_matter_are_those_above_what_covers_the_row(
    rows: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facility_sparse, "_BLOCK", 32)
    vectors, weights = units(200, 9), np.linspace(0.5, 1, 200)
    steps = np.rint(similarities(vectors, weights) / STEP)[:, slice(None) if rows is None else rows]
    covered = np.quantile(steps, 0.8, axis=0).astype(np.int64)
    left = facility_sparse.sparse_gains(
        Similarities(vectors.astype(np.float64)), weights, covered, rows
    )
    found = np.zeros_like(steps)
    for row in range(200):
        for start, stop in zip(left.first[row], left.last[row], strict=True):
            pairs = left.pairs[start:stop]
            found[row, pairs & (2**32 - 1)] = pairs >> 32
    np.testing.assert_array_equal(found, np.where(steps > covered, steps, 0))
    np.testing.assert_array_equal(left.gains, np.maximum(steps - covered, 0).sum(axis=1))


def test_of_equal_rows_the_first_is_picked() -> None:
    vectors = np.repeat(units(10, 5), 8, axis=0)
    ones = np.ones(80)
    for found in (
        facility_picks_exact(vectors, ones, ones, 10),
        facility_picks(vectors, ones, ones, 10),
    ):
        assert set(found.picks % 8) == {0}


def test_partitions_cover_nearly_as_much_and_no_less_than_their_bound() -> None:
    vectors, ones = units(600, 6), np.ones(600)
    parts = np.random.default_rng(2).integers(0, 4, 600)
    found = greedi(vectors, ones, ones, 12, parts=parts, greedy=facility_picks_exact)
    every = facility_picks_exact(vectors, ones, ones, 12)
    share = coverage(vectors, found.picks, ones) / coverage(vectors, every.picks, ones)
    assert (1 - 1 / np.e) ** 2 / 4 < 0.97 < share
    assert found.gains.sum() == pytest.approx(coverage(vectors, found.picks, ones), rel=1e-12)


def test_the_best_part_wins_where_it_covers_more() -> None:
    vectors, ones = units(60, 7), np.ones(60)
    parts = np.repeat([0, 1], 30)

    def last_rows(
        part: np.ndarray, weights: np.ndarray, costs: np.ndarray, purse: float
    ) -> facility_location.FacilityPicks:
        picks = np.arange(len(part) - 3, len(part))
        return facility_location.FacilityPicks(picks, np.zeros(3))

    found = greedi(vectors, ones, ones, 2, parts=parts, greedy=last_rows)
    # Three rows of one part cover more than the best two of the six winners.
    assert len(found.picks) == 3
    assert found.gains.sum() == pytest.approx(coverage(vectors, found.picks, ones), rel=1e-12)


def table(**columns: Any) -> pl.DataFrame:
    vectors = [[1, 0, 0], [1, 0.1, 0], [1, -0.1, 0], [0, 0, 1], None]
    embedding = pl.Series(vectors, dtype=pl.List(pl.Float32))
    base = {"id": [f"f:{i}" for i in range(1, 6)], "digest": list("abcde"), "embedding": embedding}
    return pl.DataFrame({**base, **columns})


@pytest.mark.parametrize("exact", [False, True])
def test_the_middle_of_a_group_stands_for_it(exact: bool) -> None:
    answer = build("curate.selectors", "facility_location", {"rows": 2, "exact": exact})(table())
    assert answer["reason"].to_list() == [
        "selected", "covered", "covered", "selected", "not_scored",
    ]  # fmt: skip
    first, near, _, lone = (json.loads(text) for text in answer["detail"][:4])
    cosine = 1 / 1.01**0.5
    assert first == {"gain": pytest.approx(1 + 2 * cosine, abs=1e-5), "order": 1}
    assert near == {"nearest": "f:1", "similarity": pytest.approx(cosine, abs=1e-6)}
    assert lone == {"gain": pytest.approx(1, abs=1e-6), "order": 2}


def test_a_weight_moves_the_choice_inside_a_group() -> None:
    rows = table(judge=[1.0, 5.0, 1.0, 5.0, 5.0])
    options = {"rows": 2, "by": "judge"}
    kept = build("curate.selectors", "facility_location", options)(rows)["keep"]
    assert kept.to_list() == [False, True, False, True, False]


def test_a_row_without_a_weight_is_not_scored() -> None:
    rows = table(judge=[None, 5.0, 1.0, 5.0, 5.0])
    answer = build("curate.selectors", "facility_location", {"rows": 4, "by": "judge"})(rows)
    assert answer["reason"].to_list() == ["not_scored", *["selected"] * 3, "not_scored"]


def test_a_negative_weight_is_bad_data() -> None:
    rows = table(judge=[-1.0, 5.0, 1.0, 5.0, 5.0])
    with pytest.raises(DataError, match="judge: a weight must not be negative"):
        build("curate.selectors", "facility_location", {"rows": 4, "by": "judge"})(rows)


def test_partitions_of_a_table_depend_on_its_rows_alone() -> None:
    options = {"rows": 2, "partitions": 2, "seed": 1}
    selector = build("curate.selectors", "facility_location", options)
    answer = selector(table())
    assert answer["keep"].sum() == 2
    assert selector(table().reverse()).reverse().equals(answer)


def test_all_is_solved_at_once_with_room_for_the_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []
    where = "siftune.curate.selectors.facility_location"
    real = facility_picks

    def picked(vectors: Any, *given: Any, pairs: int, **named: Any) -> Any:
        seen.append((len(vectors), pairs))
        return real(vectors, *given, pairs=pairs, **named)

    monkeypatch.setattr(f"{where}.facility_picks", picked)
    monkeypatch.setattr(f"{where}._PAIRS", 5)
    for options in ({"neighbours": 3}, {"neighbours": 1}, {}):
        build("curate.selectors", "facility_location", {"rows": 2, **options})(table())
    assert seen == [(4, 12), (4, 5), (4, 4 * 64)]


def test_fewer_than_one_neighbour_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        build("curate.selectors", "facility_location", {"rows": 1, "neighbours": 0})
