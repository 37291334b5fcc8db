"""Judgements of labelled pairs: pairs that no question can be asked about are left out, by id."""

from __future__ import annotations

import polars as pl

from siftune.curate.core.schema import schema_of
from siftune.curate.judge_calls.types import Verdict
from siftune.curate.judge_tasks.contrastive import Contrastive
from siftune.curate.judging.judgement_pairs import judgement_pairs
from siftune.curate.rows.chat import turn


def pair(number, rejected):
    return {
        **dict.fromkeys(schema_of("preference")),
        "id": f"pair:{number}",
        "prompt": [turn("user", "Which sea is that?")],
        "chosen": [turn("assistant", "The North Sea.")],
        "rejected": [turn("assistant", rejected)],
    }


def ask(task, items, ids):
    """Every question is answered: the one shown first is better, or what the hint says."""
    for item in items:
        label = item.extra.get("hint", "A")
        yield Verdict({"label": label, "text": f"Reasons. Verdict: {label}"})


def test_a_pair_with_an_empty_answer_is_left_out_and_counted():
    rows = [pair(1, "A lake."), pair(2, ""), pair(3, "A pond.")]
    frame = pl.DataFrame(rows, schema_of("preference"))
    found = judgement_pairs(frame, Contrastive(samples=1), ask, hints=True)
    assert found.rows.height == 4, "two pairs in two orders"
    assert found.left_out == {"no_answer": 1}
    assert found.lost == {"pair:2"}
    assert (found.right, found.wrong, found.hinted) == (2, 2, 4)
