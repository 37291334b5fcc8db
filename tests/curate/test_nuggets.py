"""Nuggets: golden scores by the definition, one pair of example and anchor at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import BASE, CONTENT
from siftune.curate.scorers.nuggets import Nuggets, _nearest_to_centers
from tests.curate.lm_reference import BOT, USER, Chat, Reference, table

OPTIONS = [{"against": "HELD_OUT", "model": "LM", "precision": "bf16"}]

ANCHORS: list[Chat] = [
    [(USER, "What is two plus two?"), (BOT, "Two plus two is four.")],
    [(USER, "Say hello."), (BOT, "Hello, king!")],
]
ROWS: list[Chat] = [
    [(USER, "Name a colour."), (BOT, "Blue is a colour.")],
    [(USER, "What is the capital?"), (BOT, "Paris"), (USER, "Thanks")],
]


def against(folder: Path, chats: list[Chat]) -> str:
    path = folder / "anchors.jsonl"
    rows = [
        {"messages": [{"role": role, "content": text} for role, text in chat]} for chat in chats
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("template", ["none", "chat"])
def test_it_is_the_share_of_anchors_that_the_row_makes_likelier(
    tiny_model_dir: Path, tmp_path: Path, template: str
) -> None:
    given = {"model": str(tiny_model_dir), "template": template}
    found = Nuggets(against=against(tmp_path, ANCHORS), **given)(table(*ROWS))  # type: ignore[arg-type]
    reference = Reference(tiny_model_dir)
    for at, row in enumerate(ROWS):
        gains = [
            reference.pair(anchor, template)[0] - reference.pair([*row[:2], *anchor], template)[0]
            for anchor in ANCHORS
        ]
        assert found[at, "nuggets"] == np.mean([gain > 0 for gain in gains])
        assert found[at, "nuggets_gain"] == pytest.approx(np.mean(gains), abs=1e-5)
        assert found[at, "nuggets_anchors"] == 2


def test_an_anchor_that_gains_nothing_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nuggets, "_anchors", ([[], [], []], np.zeros(3)))
    monkeypatch.setattr(Nuggets, "_gains", lambda *_: np.array([[0.0, 0.5, -0.25]]))
    found = Nuggets(against="none.jsonl")(table(ROWS[0]))
    assert found.row(0) == pytest.approx((1 / 3, 0.25 / 3, 3))


def test_a_row_is_not_its_own_anchor_and_long_ones_are_left_out(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    long: Chat = [(USER, "the sea " * 40), (BOT, "the mat " * 40)]
    halves: Chat = [(USER, "No answer.")]
    scorer = Nuggets(against=against(tmp_path, ANCHORS), model=str(tiny_model_dir))
    found = scorer(table(ANCHORS[0], [*long, *long, *long], halves, ROWS[0]))
    assert found["nuggets_anchors"].to_list() == [1, None, None, 2]
    assert found["nuggets"].is_null().to_list() == [False, True, True, False]


def test_anchors_without_an_answer_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    path = against(tmp_path, [[(USER, "No answer.")]])
    with pytest.raises(DataError, match="no row has a prompt and an answer"):
        Nuggets(against=path, model=str(tiny_model_dir))(table(*ROWS))


def test_anchors_are_the_rows_nearest_to_the_centers() -> None:
    angles = np.array([0.0, 0.1, 0.3, 1.5, 1.6, 1.8])  # two clusters; 0.1 and 1.6 are the middles
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    base = {"id": [f"a:{i}" for i in range(6)], "source": ["a"] * 6, "row": range(6)}
    digests = [f"{i:032x}" for i in range(6)]
    rows = pl.DataFrame(
        {
            **base,
            "kind": ["conversation"] * 6,
            "digest": digests,
            "extra": [None] * 6,
            "messages": [[]] * 6,
        },
        schema=dict(BASE) | dict(CONTENT["conversation"]),
    ).with_columns(embedding=pl.Series(vectors, dtype=pl.Array(pl.Float32, 2)))
    assert _nearest_to_centers(rows, "embedding", 2)["id"].to_list() == ["a:1", "a:4"]
