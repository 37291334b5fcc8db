"""Near neighbours by cosine against all cosines in double precision."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.native import gemm
from siftune.curate.native.gemm import is_wide
from siftune.curate.vectors import cosine_neighbors, ivf_neighbors
from siftune.curate.vectors.cosine_neighbors import (
    Dtype,
    Products,
    cover_vectors,
    pairs_above,
    products,
    some_pairs_above,
)
from siftune.curate.vectors.ivf_neighbors import cover_clustered
from siftune.curate.vectors.unit_vectors import on_grid
from tests.curate import cover_rule
from tests.curate.cover_rule import as_dict


def groups(rows: int, size: int = 24, seed: int = 0) -> np.ndarray:
    """Unit vectors around common directions, with cosines on both sides of 0.9; some equal."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(rows // 8 + 1, size))
    spread = random.choice([0, 0.05, 0.1, 0.2], size=(rows, 1))
    near = centres[random.integers(len(centres), size=rows)]
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    units, _ = on_grid((near + spread * random.normal(size=(rows, size))).astype(np.float32))
    return units


def all_pairs(units: np.ndarray, threshold: float) -> dict[tuple[int, int], float]:
    exact = units.astype(np.float64)
    lengths = np.sqrt((exact * exact).sum(axis=1))
    cosine = exact @ exact.T / np.outer(lengths, lengths)
    left, right = np.nonzero(np.tril(cosine >= threshold, -1))
    return {(int(i), int(j)): float(cosine[i, j]) for i, j in zip(left, right, strict=True)}


def slow_cover(units: np.ndarray, threshold: float) -> dict[int, tuple[int, float]]:
    pairs = all_pairs(units, threshold)
    both = pairs | {(j, i): value for (i, j), value in pairs.items()}
    return cover_rule.slow_cover(both, range(len(units)))


def engines() -> list[Products]:
    """The last runs on the processor what a GPU would: its branch is that of any other device."""
    return [products("float32", 0), products("bfloat16", 0), cosine_neighbors._Bfloat16("cpu:0")]


@pytest.mark.parametrize("threshold", [0.7, 0.9, 0.97])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pairs_are_those_of_all_cosines(threshold: float, dtype: Dtype) -> None:
    units = groups(300)
    left, right, cosine = pairs_above(units, threshold, products(dtype, 300))
    expected = all_pairs(units, threshold)
    assert len(expected) > 50
    found = dict(zip(zip(left.tolist(), right.tolist(), strict=True), cosine, strict=True))
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_type_multiplied_in_changes_nothing() -> None:
    units = groups(2_500)
    single, *others = (cover_vectors(units, 0.9, engine) for engine in engines())
    assert (single.survivor >= 0).sum() > 500
    for other in others:
        np.testing.assert_array_equal(single.survivor, other.survivor)
        np.testing.assert_array_equal(single.similarity, other.similarity)


@pytest.mark.skipif(not is_wide(), reason="numpy's product is the only one here")
def test_the_processor_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    units = groups(2_500)
    wide = cover_vectors(units, 0.9, engines()[0])
    monkeypatch.setattr(gemm, "is_wide", lambda: False)
    narrow = cover_vectors(units, 0.9, engines()[0])
    np.testing.assert_array_equal(wide.survivor, narrow.survivor)
    np.testing.assert_array_equal(wide.similarity, narrow.similarity)


def test_blocks_and_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    units = groups(700)
    whole = as_dict(cover_vectors(units, 0.9, engines()[0]))
    monkeypatch.setattr(cosine_neighbors, "_BLOCK", 37)
    monkeypatch.setattr(cosine_neighbors, "_TILE", 11)
    assert as_dict(cover_vectors(units, 0.9, engines()[0])) == whole


def test_the_cover_is_that_of_all_pairs() -> None:
    units = groups(1_500, seed=3)
    found, expected = as_dict(cover_vectors(units, 0.9, engines()[1])), slow_cover(units, 0.9)
    assert {row: other for row, (other, _) in found.items()} == {
        row: other for row, (other, _) in expected.items()
    }
    for row, (_, similarity) in found.items():
        assert similarity == pytest.approx(expected[row][1], abs=1e-12)


def test_equal_vectors_have_a_cosine_of_one() -> None:
    """To the last bit: a threshold of 1 drops copies and nothing else."""
    units = np.repeat(groups(50, seed=9), 2, axis=0)
    found = as_dict(cover_vectors(units, 1.0, engines()[1]))
    assert {row for row in found if row % 2} == set(range(1, 100, 2))
    assert {cosine for _, cosine in found.values()} == {1.0}


def test_reference_rows_stay_whatever_they_resemble() -> None:
    units = np.repeat(groups(1, seed=2), 4, axis=0)
    found = as_dict(cover_vectors(units, 0.9, engines()[0], fixed=2))
    assert found == {2: (0, 1.0), 3: (0, 1.0)}


def test_clusters_find_the_share_of_pairs_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ivf_neighbors, "_BLOCK", 256)
    units = groups(3_000, seed=5)
    cover, share = cover_clustered(units, 0.9, engines()[0], recall=0.99)
    assert share >= 0.99
    kept = cover.survivor < 0
    pairs = all_pairs(units, 0.9)
    surviving = sum(bool(kept[i] and kept[j]) for i, j in pairs)
    assert surviving <= 0.02 * len(pairs)
    for row, (other, similarity) in as_dict(cover).items():
        assert pairs[row, other] == pytest.approx(similarity, abs=1e-12)
        assert kept[other]


def test_pairs_too_rare_for_the_sample_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four sampled pairs all may be met by chance: that is no share of 0.99."""
    monkeypatch.setattr(ivf_neighbors, "_PART", 200)
    monkeypatch.setattr(ivf_neighbors, "_SAMPLE", 400)
    random = np.random.default_rng(1)
    raw = random.normal(size=(4_000, 64))
    raw[40:80] = raw[:40] + 0.68 * raw[40:80]
    units, _ = on_grid(random.permutation(raw).astype(np.float32))
    pairs = all_pairs(units, 0.75)
    assert 30 <= len(pairs) <= 60
    cover, share = cover_clustered(units, 0.75, engines()[0])
    assert share == 1.0
    assert not any(cover.survivor[i] < 0 and cover.survivor[j] < 0 for i, j in pairs)


def test_the_least_share_is_that_of_clopper_and_pearson() -> None:
    assert ivf_neighbors._lower_bound(1.0, 298) == pytest.approx(0.05 ** (1 / 298))  # all of them
    assert ivf_neighbors._lower_bound(1.0, 298) < 0.99 < ivf_neighbors._lower_bound(1.0, 299)
    assert ivf_neighbors._lower_bound(0.8, 10) == pytest.approx(
        0.4931, abs=1e-4
    )  # 8 of 10, from a table
    assert ivf_neighbors._lower_bound(1.0, 0) == ivf_neighbors._lower_bound(0.0, 5) == 0.0


def test_many_copies_are_held_in_parts_and_decided_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units = groups(3_000, seed=8)
    units[500:1_100] = units[500]
    whole = cover_clustered(units, 0.9, engines()[0])[0]
    most = []

    class Watched(cosine_neighbors._Single):
        def candidates(
            self, left: np.ndarray, right: np.ndarray, threshold: float
        ) -> cosine_neighbors.Pairs:
            found: cosine_neighbors.Pairs = super().candidates(left, right, threshold)
            most.append((len(left) * len(right), len(found[0])))
            return found

    monkeypatch.setattr(ivf_neighbors, "some_pairs_above", some_of(engines()[0]))
    monkeypatch.setattr(ivf_neighbors, "_PRODUCTS", 500)
    monkeypatch.setattr(ivf_neighbors, "_PAIRS", 300)
    parts = cover_clustered(units, 0.9, Watched())[0]
    np.testing.assert_array_equal(whole.survivor, parts.survivor)
    np.testing.assert_array_equal(whole.similarity, parts.similarity)
    # A row is not cut, so one with more members than that is a product of its own.
    assert max(size for size, _ in most) <= 700
    assert sum(pairs for _, pairs in most) < 80_000  # 370,000 if each pair of copies is listed


def some_of(engine: Products) -> Any:
    """The sample's pairs by this engine, whatever is given."""

    def pairs(units: np.ndarray, threshold: float, _: Any, held: Any, rows: np.ndarray) -> Any:
        return some_pairs_above(units, threshold, engine, held, rows)

    return pairs


def test_looking_into_every_cluster_is_exact() -> None:
    units = groups(900, seed=6)
    cover, share = cover_clustered(units, 0.6, engines()[1], recall=1.0)
    exact = cover_vectors(units, 0.6, engines()[1])
    assert share == 1.0
    np.testing.assert_array_equal(cover.survivor, exact.survivor)


_CLUSTERED = """
import sys, faiss, numpy as np
from hashlib import sha256
from siftune.curate.vectors import ivf_neighbors
from siftune.curate.vectors.unit_vectors import on_grid
units, _ = on_grid(np.random.default_rng(0).normal(size=(8_000, 384)).astype(np.float32))
ivf_neighbors._BLOCK = 5_000
trained = ivf_neighbors._Clusters(units)
nearest = trained.nearest(units, trained.count)
if not (ivf_neighbors.threads() == faiss.omp_get_max_threads() == int(sys.argv[1])):
    sys.exit("the number of threads was not taken, or it was changed for others")
print(sha256(nearest.tobytes() + trained._kmeans.centroids.tobytes()).hexdigest())
"""


def test_how_many_threads_there_are_changes_no_cluster() -> None:
    """Left to itself faiss orders a few otherwise: two threads multiply with other last bits."""
    pytest.importorskip("faiss", reason="the extra embed is not installed")
    found = set()
    for many in ("1", "2"):
        env = os.environ | {"OMP_NUM_THREADS": many, "NUMBA_NUM_THREADS": many}
        command = [sys.executable, "-c", _CLUSTERED, many]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_a_few_rows_can_be_clustered_too(rows: int, capfd: pytest.CaptureFixture[str]) -> None:
    units = np.repeat(groups(1), rows, axis=0)
    cover, share = cover_clustered(units, 0.9, engines()[0])
    assert cover.survivor.tolist() == [-1] + [0] * (rows - 1)
    assert share == 1.0
    assert capfd.readouterr() == ("", "")


def test_clusters_without_faiss_name_the_extra_and_the_way_around(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    expected = r"20 rows needs faiss: pip install 'siftune\[embed\]'.*set exact_to to 20 or more"
    with pytest.raises(UsageError, match=expected):
        cover_clustered(groups(20), 0.9, engines()[0])
