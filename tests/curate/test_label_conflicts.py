"""Contradictions between labels: opposites, cycles, ties, copies; by hand and by brute force."""

from __future__ import annotations

import itertools
import random

import polars as pl

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.label_conflicts import LabelConflicts


def table(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return pl.DataFrame(
        {
            name: pl.Series([[turn(role, row[at])] for row in rows], dtype=TURNS)
            for at, (name, role) in enumerate(roles.items())
        }
    )


def test_opposites_copies_and_ties() -> None:
    rows = [
        ("Q?", "Yes.", "No."),
        ("q", "yes", "NO"),  # a copy but for case and punctuation
        ("Q?", "No.", "Yes."),
        ("Another?", "No.", "Yes."),
        ("Q?", "Perhaps.", "Never."),
        ("Q?", "Never.", "Perhaps."),
        ("Q?", "Same!", "same"),
    ]
    scores = LabelConflicts()(table(rows))
    assert scores["label_conflicts"].to_list() == [True, True, True, False, True, True, False]
    assert scores["label_conflicts_same"].to_list() == [1, 1, 0, 0, 0, 0, 0]
    assert scores["label_conflicts_opposite"].to_list() == [1, 1, 2, 0, 1, 1, 0]
    assert scores["label_conflicts_tie"].to_list() == [False] * 4 + [True, True, False]
    assert scores["label_conflicts_within"].to_list() == [False] * 6 + [True]


def test_a_cycle_of_three_and_what_hangs_on_it() -> None:
    rows = [("Q", *pair) for pair in ("AB", "BC", "CA", "AD", "DE")]
    scores = LabelConflicts()(table([*rows, ("Other", "A", "B"), ("Other", "B", "C")]))
    assert scores["label_conflicts_cycle"].to_list() == [True] * 3 + [False] * 4
    assert scores["label_conflicts"].to_list() == [True] * 3 + [False] * 4
    assert scores["label_conflicts_opposite"].sum() == 0


def test_near_answers_count_as_one_where_that_is_asked() -> None:
    long = "one two three four five six seven eight nine ten"
    rows = [("Q", long, "short"), ("Q", "short", long + " eleven")]
    assert LabelConflicts()(table(rows))["label_conflicts"].to_list() == [False, False]
    near = LabelConflicts(near=0.9)(table(rows))  # 10 of 11 words
    assert near["label_conflicts_opposite"].to_list() == [1, 1]


def test_cycles_equal_a_search_of_all_paths() -> None:
    draw = random.Random(5)
    for _ in range(15):
        pairs = [p for p in itertools.permutations("ABCDE", 2) if draw.random() < 0.25]
        rows = [("Q", *pair) for pair in pairs] or [("Q", "A", "B")]
        found = LabelConflicts()(table(rows))["label_conflicts_cycle"].to_list()
        edges = {(low, high) for _, high, low in rows}
        reach = {one: {one} for one in "ABCDE"}
        for _ in range(5):
            for low, high in edges:
                for one in "ABCDE":
                    if low in reach[one]:
                        reach[one].add(high)
        assert found == [low in reach[high] for _, high, low in rows]
