"""k-center: the step-by-step greedy, whatever the blocks."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.registry import build
from siftune.curate.native import gemm
from siftune.curate.selectors.k_center import _central
from siftune.curate.vectors import farthest_points, nearest_centers
from siftune.curate.vectors.farthest_points import farthest_first
from siftune.curate.vectors.nearest_centers import NearestCenters
from siftune.curate.vectors.unit_vectors import GRID, exact_products, on_grid, slack, vectors_of


def greedy(units: np.ndarray, first: int, count: int) -> list[int]:
    """The method as it is defined: one pick after the other, all distances, in float64."""
    wide = units.astype(np.float64)
    halves = (wide * wide).sum(axis=1) / 2
    gap, picks = np.full(len(wide), np.inf), [first]
    while len(picks) < count:
        last = picks[-1]
        gap = np.minimum(gap, halves + halves[last] - wide @ wide[last])
        gap[picks] = -1
        picks.append(int(np.argmax(gap)))
    return picks


def units(kind: str, height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors: np.ndarray = rng.normal(size=(height, width))
    if kind == "clustered":
        vectors = 3 * rng.normal(size=(20, width))[rng.integers(0, 20, height)] + 0.2 * vectors
    if kind == "duplicated":
        vectors = vectors[rng.integers(0, height // 3, height)]
    if kind == "near copies":
        vectors[height // 2 :] = vectors[: height - height // 2] + 1e-6 * vectors[height // 2 :]
    if kind == "tight":  # groups within a few steps of the grid, below what float32 can tell
        vectors = rng.normal(size=(20, width))[rng.integers(0, 20, height)] + 1e-6 * vectors
    if kind == "tied":  # few distinct directions at few distinct distances
        vectors = rng.integers(-1, 2, size=(height, width)) + 0.0
        vectors[:, 0] = 1
    found, usable = on_grid(vectors.astype(np.float32))
    assert usable.all()
    return found


KINDS = ["random", "clustered", "duplicated", "near copies", "tight", "tied"]


@pytest.mark.parametrize("width", [3, 48])
@pytest.mark.parametrize("kind", KINDS)
def test_the_picks_are_those_of_the_step_by_step_greedy(kind: str, width: int) -> None:
    vectors = units(kind, 3000, width)
    found = farthest_first(vectors, 7, np.ones(3000), 400)
    assert found.picks.tolist() == greedy(vectors, 7, 400)


@pytest.mark.parametrize("kind", KINDS)
def test_small_blocks_give_the_same_picks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farthest_points, "_CANDIDATES", 16)
    vectors = units(kind, 500, 6)
    found = farthest_first(vectors, 7, np.ones(500), 500)
    assert found.picks.tolist() == greedy(vectors, 7, 500)


def test_all_rows_are_compared_once_more_at_most_when_float32_cannot_tell_them_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The picks beyond one a group go on among all rows; they are not worth a comparison each."""
    compared: list[int] = []
    add = NearestCenters.add
    monkeypatch.setattr(
        NearestCenters, "add", lambda self, new: (compared.append(len(new)), add(self, new))
    )
    vectors = units("tight", 10_000, 12)
    passes = {}
    for count in (20, 300):
        compared.clear()
        found = farthest_first(vectors, 7, np.ones(len(vectors)), count)
        assert found.picks.tolist() == greedy(vectors, 7, count)
        assert sum(compared) == count
        passes[count] = len(compared)
    assert passes[300] <= passes[20] + 1


@pytest.mark.parametrize("kind", KINDS)
def test_products_by_numpy_give_the_same_picks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on processors without 512-bit instructions."""
    monkeypatch.setattr(gemm, "is_wide", lambda: False)
    vectors = units(kind, 1500, 48)
    found = farthest_first(vectors, 7, np.ones(1500), 300)
    assert found.picks.tolist() == greedy(vectors, 7, 300)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_gpu_computes_gives_the_same_picks(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code, run on the processor."""
    pytest.importorskip("torch")
    monkeypatch.setattr(nearest_centers, "_ON_GPU", 300)
    monkeypatch.setattr(nearest_centers, "_Gpu", partial(nearest_centers._Gpu, device="cpu"))
    vectors = units(kind, 1500, 48)
    found = farthest_first(vectors, 7, np.ones(1500), 300, gpu=True)
    assert found.picks.tolist() == greedy(vectors, 7, 300)


@pytest.mark.parametrize("kind", KINDS)
def test_the_centre_is_the_one_that_exact_products_find(kind: str) -> None:
    vectors = units(kind, 1000, 48)
    direction, _ = on_grid(vectors.sum(axis=0, dtype=np.float64)[None])
    assert _central(vectors) == int(np.argmax(exact_products(vectors, direction)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**20), st.data())
def test_any_few_vectors_give_the_picks_of_the_greedy(
    height: int, width: int, seed: int, data: st.DataObject
) -> None:
    grid = np.random.default_rng(seed).integers(-2, 3, size=(height, width))
    vectors = on_grid(np.hstack([grid, np.ones((height, 1))]).astype(np.float32))[0]
    first = data.draw(st.integers(0, height - 1))
    found = farthest_first(vectors, first, np.ones(height), height)
    assert found.picks.tolist() == greedy(vectors, first, height)


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_names_its_nearest_centre(kind: str) -> None:
    vectors = units(kind, 1500, 12)
    found = farthest_first(vectors, 0, np.ones(1500), 60)
    wide = vectors.astype(np.float64)
    halves = (wide * wide).sum(axis=1) / 2
    gaps = halves[:, None] + halves[found.picks] - wide @ wide[found.picks].T
    assert found.nearest.tolist() == gaps.argmin(axis=1).tolist()
    assert found.distance.tolist() == gaps.min(axis=1).tolist()
    assert found.distance.max() <= found.reach[-1]


def test_the_reach_never_grows() -> None:
    found = farthest_first(units("random", 300, 5), 0, np.ones(300), 300)
    assert all(later <= earlier for earlier, later in pairwise(found.reach))


def test_products_on_the_grid_do_not_depend_on_the_order_of_the_sum() -> None:
    vectors = units("random", 200, 384)
    backwards = np.ascontiguousarray(vectors[:, ::-1])
    alone = [float(np.dot(vectors[3].astype(float), row.astype(float))) for row in vectors]
    products = exact_products(vectors, vectors)
    assert (products == exact_products(backwards, backwards)).all()
    assert products[3].tolist() == alone
    assert (vectors / GRID == np.rint(vectors / GRID)).all()


def test_float32_stays_within_the_stated_error() -> None:
    vectors = units("clustered", 800, 384)
    exact = exact_products(vectors, vectors)
    halves = np.diag(exact) / 2
    gaps = halves[:, None] + halves - exact
    assert np.abs(1 - vectors @ vectors.T - gaps).max() < slack(384)


def test_what_float32_cannot_tell_is_settled_exactly() -> None:
    centre = units("random", 1, 64)
    close = np.repeat(centre, 9, axis=0)
    close[np.arange(1, 9), np.arange(1, 9)] += np.float32(GRID) * np.arange(1, 9, dtype=np.float32)
    seen = NearestCenters(close)
    seen.add(close[4:])
    seen.add(close[:4])
    index, gaps = seen.resolve(np.vstack([close[4:], close[:4]]))
    assert index.tolist() == [5, 6, 7, 8, 0, 1, 2, 3, 4]
    assert not gaps.any()


def table(vectors: list[Any], **columns: Any) -> pl.DataFrame:
    """Rows f:1, f:2, ... of digests a, b, ..."""
    count = len(vectors)
    base = {"id": [f"f:{i}" for i in range(1, count + 1)], "digest": list("abcdefgh"[:count])}
    embedding = pl.Series(vectors, dtype=pl.List(pl.Float32))
    return pl.DataFrame({**base, "embedding": embedding, **columns})


CORNERS = [[1, 0], [0.8, 0.6], [0, 1], [-1, 0], None, [0, 0]]


def test_the_corners_are_picked_and_the_rest_is_covered() -> None:
    scores = [0.9, 0.1, 0.2, 0.3, 1.0, 1.0]
    selector = build("curate.selectors", "k_center", {"rows": 3, "start": "best", "by": "ifd"})
    answer = selector(table(CORNERS, ifd=scores))
    assert answer["reason"].to_list() == [
        "selected", "covered", "selected", "selected", "not_scored", "not_scored",
    ]  # fmt: skip
    first, between, last, second = (json.loads(text) for text in answer["detail"][:4])
    assert first == {"distance": None, "order": 1}
    assert second == {"distance": 2, "order": 2}
    assert last == {"distance": 1, "order": 3}
    assert between["nearest"] == "f:1"
    assert between["distance"] == pytest.approx(0.2, abs=1e-7)
    assert answer["detail"][4:].to_list() == [None, None]


def test_center_starts_with_the_row_nearest_to_the_mean() -> None:
    selector = build("curate.selectors", "k_center", {"rows": 1})
    assert selector(table([[1, 0], [1, 1], [0, 1]]))["keep"].to_list() == [False, True, False]


def test_vectors_that_cancel_out_start_with_the_smallest_digest() -> None:
    selector = build("curate.selectors", "k_center", {"rows": 1})
    assert selector(table([[1, 0], [-1, 0]]))["keep"].to_list() == [True, False]


def test_another_seed_starts_elsewhere() -> None:
    rows = table([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1]])
    options = {"rows": 1, "start": "random"}
    made = [build("curate.selectors", "k_center", {**options, "seed": seed}) for seed in range(8)]
    starts = {tuple(selector(rows)["keep"]) for selector in made}
    assert len(starts) > 1


def test_tokens_stop_the_picks_when_the_next_costs_too_much() -> None:
    rows = table([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], n=[10, 1, 1, 10])
    options = {"tokens": 15, "tokens_by": "n", "start": "best", "by": "n"}
    answer = build("curate.selectors", "k_center", options)(rows)
    assert answer["keep"].to_list() == [True, False, False, False]  # the next, f:4, costs 10


def test_a_first_row_that_costs_too_much_leaves_nothing() -> None:
    answer = build("curate.selectors", "k_center", {"tokens": 5, "tokens_by": "n"})(
        table([[1, 0], [1, 0]], n=[9, 9])
    )
    assert answer["reason"].to_list() == ["over_budget", "over_budget"]


def test_vectors_of_different_lengths_are_bad_data() -> None:
    with pytest.raises(DataError, match=r"embedding: .* one length, found \[1, 2\]"):
        vectors_of(table([[1, 0], [1]]), "embedding")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": 1, "embedding": "n"}, "expected a vector a row"),
        ({"rows": 1, "start": "best"}, "go together"),
        ({"rows": 1, "by": "n"}, "go together"),
        ({}, "exactly one"),
    ],
)
def test_a_wrong_option_is_explained(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build("curate.selectors", "k_center", options)(table([[1, 0]], n=[1]))


def test_asking_for_a_gpu_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="no GPU"):
        nearest_centers.on_gpu("cuda", 1.0)
    assert not nearest_centers.on_gpu("auto", 1e15)


@pytest.mark.gpu
def test_a_gpu_picks_the_same_rows() -> None:
    vectors = units("clustered", 20_000, 384)
    ones = np.ones(len(vectors))
    here, there = (farthest_first(vectors, 0, ones, 500, gpu) for gpu in (False, True))
    assert here.picks.tolist() == there.picks.tolist()
    assert here.nearest.tolist() == there.nearest.tolist()
    assert here.distance.tolist() == there.distance.tolist()
