"""NovelSelect, against its formula summed pick by pick."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.selectors.novel_select import NovelSelect

OPTIONS = [{"rows": 20, "by": "quality"}]
NO_PATHS = ("by", "embedding")


def table(height: int = 40) -> pl.DataFrame:
    draw = np.random.default_rng(5)
    vectors = draw.normal(size=(height, 3)).astype(np.float32)
    vectors[11] = vectors[12]
    return pl.DataFrame(
        {
            "id": [f"a:{at}" for at in range(height)],
            "digest": [f"{at:032x}" for at in range(height)],
            "embedding": vectors,
            "score": draw.random(height),
            "length_tokens": draw.integers(5, 20, height),
        }
    )


def picked(decisions: pl.DataFrame) -> list[int]:
    found = decisions.with_row_index("at").filter("keep")
    order = found["detail"].str.json_path_match("$.order").cast(pl.Int64)
    return found["at"].gather(order.arg_sort()).to_list()


@pytest.mark.parametrize(("alpha", "beta", "by"), [(1, 0.5, None), (2, 1, "score"), (0, 0, None)])
def test_it_equals_the_formula(alpha: float, beta: float, by: str | None) -> None:
    rows = table()
    given = rows["embedding"].to_numpy().astype(np.float64)
    units = given / np.linalg.norm(given, axis=1, keepdims=True)
    gaps = np.clip(1 - units @ units.T, 0, None)
    density = []
    for at, row in enumerate(gaps):
        near = sorted(gap for other, gap in enumerate(row) if other != at and gap > 1e-6)[:4]
        density.append(1 / np.mean(near))
    decided = NovelSelect(
        rows=12, by=by, neighbours=4, density_power=beta, distance_power=alpha, seed=3
    )(rows)
    found = picked(decided)
    expected = found[:1]
    for _ in range(11):
        value = []
        for at in range(len(gaps)):
            near = sorted(expected, key=lambda pick: gaps[at, pick])
            terms = (
                gaps[at, pick] * density[pick] ** beta / rank**alpha
                for rank, pick in enumerate(near, 1)
            )
            total = sum(terms) * (1 if by is None else rows["score"][at])
            value.append(-1.0 if at in expected else total)
        expected.append(int(np.argmax(value)))
    assert found == expected
    last = json.loads(decided["detail"][found[-1]])
    assert last["novelty"] == pytest.approx(max(value), rel=1e-5)
    dropped = next(at for at in range(len(gaps)) if at not in found)
    detail = json.loads(decided["detail"][dropped])
    nearest = min(found, key=lambda pick: gaps[dropped, pick])
    assert detail["nearest"] == f"a:{nearest}"
    assert detail["distance"] == pytest.approx(gaps[dropped, nearest], abs=1e-6)
    assert decided["reason"][dropped] == "not_picked"


def test_the_first_row_follows_the_seed_and_tokens_are_a_budget() -> None:
    rows = table()
    firsts = {picked(NovelSelect(rows=1, seed=seed)(rows))[0] for seed in range(6)}
    assert len(firsts) > 1
    kept = rows.filter(NovelSelect(tokens=100)(rows)["keep"])
    assert 80 < kept["length_tokens"].sum() <= 100
    with pytest.raises(DataError, match="not negative"):
        NovelSelect(rows=2, by="-score")(rows)
