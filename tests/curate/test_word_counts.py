"""Words counted by compiled code: what the pattern says, letter by letter, whatever the text."""

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from siftune.curate.text.word_counts import word_counts
from siftune.curate.text.words import count_words, words_of

# A letter of each class the pattern knows, those that join, and some beyond the table.
LETTERS = "ab19 .,'’é_²ΣⅣ٣你々ーก็ำ๒๓။ကាខ\n\u0301\u20dd\u200d\U0001f600\U00020000\U0001d400"


def by_pattern(texts: pl.Series) -> pl.Series:
    return texts.to_frame("text").select(count_words(pl.col("text"))).to_series()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.none() | st.text(st.sampled_from(LETTERS), max_size=14), max_size=20))
@example(["1.5a", "1.5'a", "1,000,000", "it''s", "a.1.b", "'tis", "o’clock’", "ก็1.๒"])
def test_the_count_is_that_of_the_pattern(texts):
    series = pl.Series("text", texts, dtype=pl.String)
    assert word_counts(series).equals(by_pattern(series), check_dtypes=True)


PIECES = ["a", "1", ".", "'", ",", " ", "-", "é", "’", "你", "\u0301", "\U00020000"]
PIECES += ["word " * 11, "a" * 59, "1" * 61, "x1.5" * 15, "it's " * 12, "-" * 63, " 1,234.5b" * 7]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=9).map("".join), min_size=1, max_size=6))
@example(["1." + "2" * n + "b" for n in range(130)])  # a number that ends at every place
@example(["a" * n + "'" + "b" for n in range(130)])
@example([" " * n + "a.5" + "'" * (n % 3) + "c é d" for n in range(130)])
@example(["x" * n + "é " + "y" * n + "\U00020000" for n in range(130)])
def test_many_letters_at_a_time_are_counted_as_one_by_one(texts):
    series = pl.Series([*texts, "." * 64])  # behind the last text there is nothing to be read
    assert word_counts(series).equals(by_pattern(series))


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1))
def test_any_text_at_all_is_counted_as_the_pattern_would(texts):
    series = pl.Series("text", texts)
    assert word_counts(series[1:]).equals(by_pattern(series[1:]))


@pytest.mark.parametrize("copies", [1, 60_000])
def test_much_text_and_little_are_counted_alike(copies):
    texts = pl.Series("text", ["It isn't 1,000 km to 北京.", None, ""] * copies)
    assert words_of(texts).to_list() == [7, None, 0] * copies
