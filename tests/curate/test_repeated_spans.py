"""Passages that several rows have word for word: against a search through all pairs of rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.truth import words_of
from siftune.curate.comparing.shingles import Hashes, TextShingles
from siftune.curate.comparing.text_pieces import column_texts
from siftune.curate.comparing.word_ids import word_ids
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.curate.core.schema import TURNS
from siftune.curate.dedup.repeated_runs import Ints, repeated_spans
from siftune.curate.rows.chat import turn
from siftune.curate.selectors import repeated_spans as repeated_spans_module

Span = tuple[int, int, int, int]


def rows(texts: Sequence[str | None]) -> pl.DataFrame:
    messages = [[turn("user", "?"), turn("assistant", text)] for text in texts]
    return pl.DataFrame(
        {
            "id": [f"f:{i}" for i in range(len(texts))],
            "kind": pl.Series(["conversation"] * len(texts), dtype=pl.String),
            "digest": [f"{i:05}" for i in range(len(texts))],
            "messages": pl.Series(messages, dtype=TURNS),
        }
    )


def told(texts: Sequence[str | None], **options: Any) -> list[tuple[str, Any]]:
    answer = build("curate.selectors", "repeated_spans", {"of": "response"} | options)(rows(texts))
    assert (answer["reason"] != "repeated_spans").to_list() == answer["keep"].to_list()
    details = [text and json.loads(text) for text in answer["detail"]]
    return list(zip(answer["reason"], details, strict=True))


def slow(texts: Sequence[str], words: int, least: int) -> list[Span]:
    """Every window of every text looked for in every other text."""
    places = [list(re.finditer(r"\w+", text)) for text in texts]
    said = [[match.group().casefold() for match in own] for own in places]
    windows = [{tuple(own[i : i + words]) for i in range(len(own) - words + 1)} for own in said]
    found: list[Span] = []
    for row, own in enumerate(said):
        inside: list[int] = []
        counts: dict[int, int] = {}
        for i in range(len(own) - words + 1):
            window = tuple(own[i : i + words])
            counts[i] = sum(window in held for j, held in enumerate(windows) if j != row)
            inside += range(i, i + words) if counts[i] >= least else []
        for word in sorted(set(inside)):
            match = places[row][word]
            starts = [i for i in counts if i == word and counts[i] >= least]
            if found and found[-1][0] == row and word - 1 in inside:
                _, start, _, others = found[-1]
                most = min([others, *(counts[i] for i in starts)])
                found[-1] = (row, start, match.end() - start, most)
            else:
                found.append((row, match.start(), match.end() - match.start(), counts[word]))
    return found


TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "B", "ß", "été", "the, ", "x! "]), max_size=12).map(" ".join),
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(
    texts=TEXTS,
    words=st.integers(1, 4),
    least=st.integers(1, 3),
)
def test_the_spans_are_those_of_comparing_all_rows(
    texts: list[str], words: int, least: int
) -> None:
    spans, _ = repeated_spans(TextShingles.of(rows(texts), "response", words, "word"), least)
    assert [tuple(span) for span in spans.iter_rows()] == slow(texts, words, least)


class Weak(TextShingles):
    """Its windows fall together: all hashes are one, or some."""

    kinds = 1

    def batches(self, rows: Ints | None = None) -> Iterator[tuple[Hashes, Ints]]:
        for values, offsets in super().batches(rows):
            yield (values % np.uint64(self.kinds)) << np.uint64(40), offsets


@settings(deadline=None, max_examples=60)
@given(
    texts=TEXTS,
    words=st.integers(1, 4),
    least=st.integers(1, 3),
    kinds=st.integers(1, 3),
)
def test_windows_of_one_hash_are_told_apart_by_their_words(
    texts: list[str], words: int, least: int, kinds: int
) -> None:
    weak = Weak.of(rows(texts), "response", words, "word")
    object.__setattr__(weak, "kinds", kinds)
    spans, _ = repeated_spans(weak, least)
    assert [tuple(span) for span in spans.iter_rows()] == slow(texts, words, least)


def test_a_row_of_another_passage_with_the_same_hash_is_not_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repeated_spans_module, "TextShingles", Weak)
    found = told(["one two three", "one two three", "four five six"], words=3, min_rows=1)
    assert [reason for reason, _ in found] == ["repeated_spans", "repeated_spans", "no_spans"]
    assert found[0][1]["spans"] == [{"others": 1, "text": "one two three"}]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(alphabet="aAbßé東京 ,-\u00ad\u0e01_1", max_size=30), max_size=12))
def test_words_have_equal_numbers_where_they_are_equal(texts: list[str]) -> None:
    said = pl.Series(texts, dtype=pl.String)
    numbers, offsets = word_ids(column_texts(said), np.arange(len(texts)))
    expected = [word for text in texts for word in words_of(text)]
    assert offsets.tolist() == [0, *np.cumsum([len(words_of(text)) for text in texts])]
    seen: dict[str, int] = {}
    assert numbers.tolist() == [seen.setdefault(word, len(seen)) for word in expected]


def test_very_many_words_are_numbered() -> None:
    every = [f"w{i}" for i in range(50_000)]
    said = pl.Series([" ".join(every), " ".join(reversed(every)), "x" * 200_000])
    numbers, _ = word_ids(column_texts(said), np.array([0, 1, 2]))
    assert numbers.tolist() == [*range(50_000), *reversed(range(50_000)), 50_000]


def test_a_passage_is_told_with_its_rows_and_its_share_of_the_text() -> None:
    """Of "Hello, one two THREE." the span has 13 of 20 characters; the last dot does not count."""
    found = told(["Hello, one two THREE.", "(one) two - three", "other"], words=3, min_rows=1)
    assert found[0] == (
        "repeated_spans",
        {"longest": 13, "share": 0.65, "spans": [{"others": 1, "text": "one two THREE"}]},
    )
    assert found[1][1]["share"] == pytest.approx(16 / 16)
    assert found[2] == ("no_spans", None)


def test_a_row_goes_from_the_share_on_and_tells_below_it() -> None:
    texts = ["one two three four", "one two five six"]
    half = told(texts, words=2, min_rows=1, share=0.44)
    assert [reason for reason, _ in half] == ["few_spans", "few_spans"]
    assert half[0][1]["share"] == pytest.approx(7 / 18)
    assert told(texts, words=2, min_rows=1, share=0.38)[0][0] == "repeated_spans"


def test_a_passage_counts_in_so_many_other_rows_and_once_a_row() -> None:
    texts = ["a b c a b c a b c", "x a b c", "y z"]
    assert [reason for reason, _ in told(texts, words=3, min_rows=1)] == [
        *["repeated_spans"] * 2,
        "no_spans",
    ]
    assert {reason for reason, _ in told(texts, words=3, min_rows=2)} == {"no_spans"}


def test_equal_texts_of_too_few_words_are_no_passage() -> None:
    assert {reason for reason, _ in told(["same here", "same here"], words=3, min_rows=1)} == {
        "no_spans"
    }


def test_characters_are_counted_not_bytes_and_scripts_without_spaces_are_words() -> None:
    found = told(["東京都の天気 x", "ここは東京都の天気"], words=6, min_rows=1)
    assert found[0][1]["spans"] == [{"others": 1, "text": "東京都の天気"}]
    assert found[0][1]["share"] == 6 / 8
    assert found[1][1]["share"] == 6 / 9


def test_the_longest_spans_are_listed_and_a_long_one_is_cut() -> None:
    long = " ".join(f"w{i}" for i in range(100))
    found = told([f"a b X {long} Y c d", f"a b . c d Z {long}"], words=2, min_rows=1, listed=2)
    first = found[0][1]["spans"]
    assert [len(span["text"]) for span in first] == [200, 3]
    assert first[1]["text"] == "a b"
    assert found[0][1]["longest"] == len(long)


def test_a_passage_in_more_rows_than_the_counts_tell() -> None:
    texts = [f"u{i} one two three" for i in range(40)]
    assert {reason for reason, _ in told(texts, words=3, min_rows=39)} == {"repeated_spans"}
    assert {reason for reason, _ in told(texts, words=3, min_rows=40)} == {"no_spans"}


def test_rows_without_text_have_no_spans() -> None:
    assert told([None, "", "!"], words=1, min_rows=1) == [("no_spans", None)] * 3


@pytest.mark.parametrize("options", [{"words": 0}, {"min_rows": 0}, {"listed": 0}, {"share": 0.0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        build("curate.selectors", "repeated_spans", options)
