"""MIG, against the sums of its paper."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.selectors.mig import MIG
from siftune.curate.vectors.embed import Embedded, Embedder

OPTIONS = [{"rows": 20, "similarity": 1, "by": "quality"}]
NO_PATHS = ("by", "tags", "model")


def table(tags: list[list[str] | None], **more: Any) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"a:{at}" for at in range(len(tags))],
            "digest": [f"{at:032x}" for at in range(len(tags))],
            "tags": pl.Series(tags, dtype=pl.List(pl.String)),
            **more,
        }
    )


def kept(decisions: pl.DataFrame) -> list[int]:
    """Row numbers in the order in which they were picked."""
    found = decisions.with_row_index("at").filter("keep")
    order = found["detail"].str.json_path_match("$.order").cast(pl.Int64)
    return found["at"].gather(order.arg_sort()).to_list()


def test_the_first_gains_by_hand() -> None:
    """φ' is 0.8 x^-0.2: of two tags that have nothing more than of two that have 1 each."""
    rows = table([["a", "b"], ["a"], ["c"], ["a", "b"], [], None])
    found = MIG(rows=3, similarity=1)(rows)
    assert kept(found) == [0, 2, 3]
    details = [json.loads(text) for text in found["detail"].drop_nulls()]
    empty, full = 0.8 * 1e-6**-0.2, 0.8 * (1 + 1e-6) ** -0.2
    assert [one["gain"] for one in details] == pytest.approx([2 * empty, empty, 2 * full])
    assert found["reason"].to_list()[4:] == ["no_tags", "not_scored"]
    assert found["reason"][1] == "over_budget"


def as_defined(
    tags: list[list[str]], score: list[float], links: np.ndarray, names: list[str], count: int
) -> list[int]:
    """The algorithm with dense matrices, as in the paper's code."""
    spread = links / links.sum(axis=0)
    binary = np.array([[name in own for name in names] for own in tags], dtype=float)
    given = (binary * np.array(score)[:, None]) @ spread
    x, picked = np.zeros(len(names)), list[int]()
    for _ in range(count):
        gain = given @ (0.8 * (x + 1e-6) ** -0.2)
        gain[picked] = -np.inf
        picked.append(int(gain.argmax()))
        x = x + given[picked[-1]]
    return picked


def test_it_equals_the_dense_matrices_with_linked_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(4)
    names = [f"t{at}" for at in range(12)]
    vectors = draw.normal(size=(12, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    monkeypatch.setattr(
        Embedder,
        "encode",
        lambda _, texts: Embedded(vectors[[names.index(one) for one in texts]], np.zeros(12)),
    )
    tags = [[names[at] for at in draw.choice(12, draw.integers(1, 5), False)] for _ in range(40)]
    score = draw.random(40).tolist()
    cosines = vectors @ vectors.T
    links = np.where(cosines >= 0.6, cosines, 0)
    assert (links > 0).sum() > 20  # some are linked
    decided = MIG(rows=15, by="score", similarity=0.6)(table([*tags], score=score))
    assert kept(decided) == as_defined(tags, score, links, names, 15)
    alone = MIG(rows=15, by="score", similarity=1)(table([*tags], score=score))
    assert kept(alone) == as_defined(tags, score, np.eye(12), names, 15) != kept(decided)


def test_wrong_columns_are_refused() -> None:
    rows = table([["a"], ["b"]], score=[1.0, -1.0], n=[1, 2])
    with pytest.raises(DataError, match="not negative"):
        MIG(rows=1, by="score", similarity=1)(rows)
    with pytest.raises(UsageError, match="expected a list of tags a row"):
        MIG(rows=1, tags="n")(rows)
