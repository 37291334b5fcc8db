"""The guard of semantic duplicates, and which row survives without a score."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.progress import run_context
from siftune.curate.core.registry import build
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn


def same_vector(*pairs: tuple[str, str]) -> pl.DataFrame:
    """Conversations f:1, f:2, ... of prompt and answer; all have one vector."""
    count = len(pairs)
    messages = [[turn("user", asked), turn("assistant", answer)] for asked, answer in pairs]
    return pl.DataFrame(
        {
            "id": [f"f:{i + 1}" for i in range(count)],
            "kind": ["conversation"] * count,
            "digest": [f"{i:05}" for i in range(count)],
            "messages": pl.Series(messages, dtype=TURNS),
            "embedding": pl.Series([[1.0, 0.0]] * count, dtype=pl.Array(pl.Float32, 2)),
        }
    )


def decided(rows: pl.DataFrame, **options: Any) -> dict[str, tuple[str, Any]]:
    """Reason and detail by id, the same in the reverse order of rows."""
    found = []
    for table in (rows, rows.reverse()):
        answer = build("curate.selectors", "semantic_dedup", options)(table)
        details = [text and json.loads(text) for text in answer["detail"]]
        reasons = zip(answer["reason"], details, strict=True)
        found.append(dict(zip(table["id"], reasons, strict=True)))
    assert found[0] == found[1]
    return found[0]


ANSWER = "it depends on what is asked"


@pytest.mark.parametrize(
    ("one", "other", "duplicates"),
    [
        (("Name a river in Peru", ANSWER), ("Which rivers flow in Peru?", ANSWER), True),
        (("Add 3 to 4", ANSWER), ("What is 3 plus 4", ANSWER), True),
        (("Add 3 to 4", ANSWER), ("Add 3 to 5", ANSWER), False),
        (("Take 3 from 4", ANSWER), ("Take 4 from 3", ANSWER), False),
        (("Name a river in Peru", ANSWER), ("Name a river in Chile", ANSWER), False),
        (("Name a river in Canada", ANSWER), ("Name a river in Cannada", ANSWER), True),
        (("Give two reasons", ANSWER), ("Give three reasons", ANSWER), False),
        (("Give one reason", ANSWER), ("Give two reasons", ANSWER), False),
        (("Give 2 reasons", ANSWER), ("Give some reasons", ANSWER), False),
        (("Two things on Peru: size, flag", ANSWER), ("Size and flag of Peru", ANSWER), True),
        (("Why is it good", ANSWER), ("Why is it not good", ANSWER), False),
        (("Its height", "It is 30 m high"), ("How high", "It is 31 m high"), False),
        (("Its height", "It is 30 m high"), ("How high", "30 m, or 98 feet"), True),
        (("Who", "We owe it to Curie"), ("Tell who", "We owe it to Meitner"), False),
        (("Who", "We owe it to Curie"), ("Tell who", "It was not Meitner but Curie"), True),
    ],
)
def test_the_guard_of_paraphrases(
    one: tuple[str, str], other: tuple[str, str], duplicates: bool
) -> None:
    rows = same_vector(one, other)
    reasons = {reason for reason, _ in decided(rows).values()}
    assert ("semantic_duplicate" in reasons) == duplicates
    assert ("kept_by_guard" in reasons) != duplicates
    without = {reason for reason, _ in decided(rows, guard="none").values()}
    assert without == {"survivor", "semantic_duplicate"}


def test_a_row_kept_by_the_guard_names_the_row_that_is_similar() -> None:
    rows = same_vector(*((f"Count to {number}", ANSWER) for number in (7, 7, 8, 9)))
    rows = rows.with_columns(
        embedding=pl.Series([[1, 0], [1, 0], [0.8, 0.6], [0, 1]], dtype=pl.Array(pl.Float32, 2))
    )
    with run_context() as context:
        found = decided(rows, threshold=0.6)
    near = {"near": "f:1", "similarity": pytest.approx(0.8)}
    assert found == {
        "f:1": ("survivor", {"group": 2}),
        "f:2": ("semantic_duplicate", {"survivor": "f:1", "similarity": 1.0}),
        "f:3": ("kept_by_guard", near),
        "f:4": ("kept_by_guard", {"near": "f:3", "similarity": pytest.approx(0.6)}),
    }
    assert context.metrics == {"kept_by_guard": 2}


def test_only_the_text_of_the_option_is_guarded() -> None:
    rows = same_vector(("Add 3 to 4", "It is 7"), ("Sum of 3 and 4", "It is 8"))
    for guard, reason in (
        ("both", "kept_by_guard"),
        ("prompt", "semantic_duplicate"),
        ("response", "kept_by_guard"),
    ):
        assert reason in {found for found, _ in decided(rows, guard=guard).values()}


@pytest.mark.parametrize(
    ("damaged", "whole"),
    [
        ("Rivers carry water. They begin high up in the hills and then", "They carry water."),
        ("Sure! Here is the answer: Rivers carry water.", "Rivers carry water."),
        ("Rivers carry water.", "Rivers carry water from the hills to the sea."),
    ],
)
def test_the_whole_row_survives_without_a_score(damaged: str, whole: str) -> None:
    rows = same_vector(("What do rivers do?", damaged), ("Tell what rivers do.", whole))
    assert decided(rows)["f:2"] == ("survivor", {"group": 2})
    assert decided(rows, guard="none")["f:1"] == ("survivor", {"group": 2})
    scored = rows.with_columns(quality=pl.Series([1.0, 0.0]))
    assert decided(scored, by="quality")["f:1"] == ("survivor", {"group": 2})


def test_near_duplicates_kept_by_the_guard_are_counted() -> None:
    """Two of four rows differ in a name; the pair with another number is never compared."""
    names = [(f"Write a short letter to {name} about rain", ANSWER) for name in ("Anna", "Peter")]
    numbers = [(f"Count the boats on lake {at} in the rain", ANSWER) for at in (1, 2)]
    with run_context() as context:
        kept = build("curate.selectors", "minhash_dedup", {})(same_vector(*names, *numbers))
    assert kept["keep"].all()
    assert context.metrics == {"kept_by_guard": 1}
