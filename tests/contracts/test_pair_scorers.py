"""What is true of every scorer of preference pairs that asks no judge, and of whole tables."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from siftune.curate.core import registry
from siftune.curate.core.schema import BASE, schema_of
from siftune.curate.core.types import Scorer
from siftune.curate.rows import conversation_views
from siftune.curate.rows.chat import turn
from tests.own_tests import marks_of, options_of

_WORDS = (
    *("river", "stone", "cloud", "engine", "violin", "bread"),
    *("theory", "market", "forest", "signal", "copper", "window"),
)


def _is_of_pairs(name: str) -> bool:
    found = registry.declared("curate.scorers", name)
    read = found.get("needs") or found.get("content") or ()
    return ("whole" in found and "messages" not in read) or "chosen" in read


CASES = [
    pytest.param(name, given, id=f"{name}-{at}", marks=marks_of(name))
    for name in registry.names("curate.scorers")
    if _is_of_pairs(name) and not name.startswith("judge")
    for at, given in enumerate(options_of(name))
]
every_scorer = pytest.mark.parametrize(("name", "given"), CASES, indirect=["given"])


def pairs() -> pl.DataFrame:
    """Pairs of fourteen prompts: plain, copied, contradicted, refused, empty and missing sides."""
    rows = []
    for at in range(70):
        said = [
            " ".join(_WORDS[(at * step + n) % 12] for n in range(4 + at % 7)) for step in (5, 7)
        ]
        rows.append(
            (f"Tell me of {_WORDS[at % 14 % 12]}, {at % 14}.", said[0] + ".", said[1] + "!")
        )
    rows[20] = rows[6]
    rows[21] = (rows[7][0], rows[7][2], rows[7][1])
    rows[30] = (rows[30][0], "I'm sorry, but I cannot help with that.", "I cannot answer this.")
    rows[31] = (rows[31][0], "", rows[31][2])
    sides = [
        pl.Series(
            side, [[turn(role, row[at])] for row in rows], dtype=schema_of("preference")[side]
        )
        for at, (side, role) in enumerate(
            (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))
        )
    ]
    missing = pl.Series([[turn("assistant", None)]], dtype=schema_of("preference")["chosen"])
    sides[1] = pl.concat([sides[1][:40], missing, sides[1][41:]])
    height = len(rows)
    base = {
        "id": [f"made:{at}" for at in range(height)],
        "source": ["made"] * height,
        "row": range(height),
        "kind": ["preference"] * height,
        "digest": [f"{at * 7919 % 97:032x}" for at in range(height)],
        "extra": [None] * height,
    }
    table = pl.DataFrame(base, schema=dict(BASE)).with_columns(sides)
    return table.with_columns(
        pl.Series("margin", [None if at % 9 == 4 else (at % 5) - 2.0 for at in range(height)]),
        pl.Series(
            "other_margin", [float("nan") if at == 3 else at % 3 - 0.5 for at in range(height)]
        ),
        pl.Series(
            "embedding",
            [None if at % 9 == 5 else [float(at % 7), at % 5 - 2.0, 1.0] for at in range(height)],
            dtype=pl.Array(pl.Float32, 3),
        ),
        pl.Series("tags", [None if at % 11 == 3 else [f"t{at % 4}"] for at in range(height)]),
        pl.Series("votes", [["first", "second", "tie"][: at % 4] for at in range(height)]),
    )


@pytest.fixture
def given(request: pytest.FixtureRequest, tiny_model_dir: Path) -> dict[str, Any]:
    options: dict[str, Any] = request.param
    return {key: str(tiny_model_dir) if one == "LM" else one for key, one in options.items()}


def made(name: str, given: dict[str, Any]) -> Scorer:
    built: Scorer = registry.build("curate.scorers", name, given)
    return built


@every_scorer
def test_it_adds_the_columns_it_says_in_the_order_of_the_rows(
    name: str, given: dict[str, Any]
) -> None:
    scorer = made(name, given)
    scores = scorer(pairs())
    assert scores.schema == pl.Schema(scorer.adds)
    assert all(one == name or one.startswith(f"{name}_") for one in scorer.adds)
    mixed = pairs().with_row_index("at").sample(fraction=1.0, shuffle=True, seed=7)
    again = scorer(mixed).with_columns(mixed["at"]).sort("at").drop("at")
    assert_frame_equal(again, scores, check_exact=True)
    with_ids = conversation_views.score(scorer, pairs())
    assert_frame_equal(with_ids.drop("id"), scores)


@every_scorer
def test_batches_do_not_matter_unless_it_needs_the_whole_table(
    name: str, given: dict[str, Any]
) -> None:
    scorer = made(name, given)
    if not getattr(scorer, "whole", False):
        parts = pl.concat([scorer(part) for part in pairs().iter_slices(9)])
        assert_frame_equal(parts, scorer(pairs()), check_exact=True)


@every_scorer
def test_without_a_text_or_a_number_there_is_no_score_and_never_nan(
    name: str, given: dict[str, Any]
) -> None:
    scorer = made(name, given)
    scores = scorer(pairs())
    floats = scores.select(pl.col(pl.Float32, pl.Float64))
    assert not floats.select(pl.any_horizontal(pl.all().is_nan().any())).to_series().any()
    nothing = (
        pairs()
        .head(3)
        .with_columns(
            *(
                pl.lit([], pairs().schema[one]).alias(one)
                for one in ("prompt", "chosen", "rejected")
            ),
            *(pl.lit(None, pl.Float64).alias(one) for one in ("margin", "other_margin")),
            *(pl.lit(None, pl.List(pl.String)).alias(one) for one in ("tags", "votes")),
            pl.lit(None, pl.Array(pl.Float32, 3)).alias("embedding"),
        )
    )
    assert scorer(nothing).null_count().row(0) == (3,) * scores.width
    assert scorer(pairs().clear()).schema == scores.schema


@every_scorer
def test_it_survives_pickling(name: str, given: dict[str, Any]) -> None:
    scorer = made(name, given)
    before = pickle.loads(pickle.dumps(scorer))
    assert before == scorer
    assert_frame_equal(before(pairs()), scorer(pairs()))
