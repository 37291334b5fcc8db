"""DSIR against counts of words in a dictionary; short rows stay, lengths are divided out."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.budget import sampling_keys
from siftune.curate.scorers.dsir import DSIR
from tests.contracts.test_scorers import table, turn

OPTIONS = [{"against": "HELD_OUT"}, {"against": "HELD_OUT", "of": "response", "buckets": 50}]
POOL = ["the cat sat", "what is two plus two", "two plus two is four", "cat", "", None]
TARGETS = ["two plus two", "what is two"]


def chats(texts: list[str | None]) -> pl.DataFrame:
    return table("conversation", messages=[[turn("assistant", text)] for text in texts])


@pytest.fixture
def targets(tmp_path: Path) -> str:
    file = tmp_path / "targets.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TARGETS))
    return str(file)


def grams(text: str | None) -> list[tuple[str, ...]]:
    words = (text or "").split()
    return [(word,) for word in words] + list(pairwise(words))


def test_weights_by_a_dictionary(targets: str) -> None:
    buckets, smoothing = 1 << 16, 0.5  # no two of these n-grams share a bucket
    counts = [Counter(gram for text in side for gram in grams(text)) for side in (TARGETS, POOL)]

    def log_p(side: Counter[tuple[str, ...]], gram: tuple[str, ...]) -> float:
        return math.log((side[gram] + smoothing) / (side.total() + smoothing * buckets))

    found = DSIR(against=targets, buckets=buckets, smoothing=smoothing)(chats(POOL))
    for at, text in enumerate(POOL[:4]):
        weight = sum(log_p(counts[0], gram) - log_p(counts[1], gram) for gram in grams(text))
        assert found["dsir"][at] == pytest.approx(weight, abs=1e-9)
        assert found["dsir_mean"][at] == pytest.approx(weight / len(grams(text)), abs=1e-9)
        assert found["dsir_ngrams"][at] == len(grams(text))
    assert found.tail(2).null_count().row(0) == (2, 2, 2)
    assert found["dsir_mean"][1] > found["dsir_mean"][0]  # the wording of the targets


def test_targets_without_a_word_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dots.jsonl").write_text('{"text": "..."}\n')
    with pytest.raises(UsageError, match="holds no text to compare with"):
        DSIR(against=str(tmp_path / "dots.jsonl"))(chats(POOL))


def test_one_over_the_deviation_is_the_temperature_of_the_paper() -> None:
    ids = [f"f:{at}" for at in range(50)]
    weight = pl.Series([math.sin(at) * at for at in range(50)])
    rows = pl.DataFrame({"id": ids, "digest": ids})
    gumbel = sampling_keys(rows, weight * 0, 1.0, 0)
    keys = sampling_keys(rows, weight, 1 / weight.std(ddof=0), 0)
    apart = keys - gumbel - weight  # Gumbel noise and the log weight, but for a constant
    assert apart.to_list() == pytest.approx([-weight.mean()] * 50)
