"""Shingle hashes against a slow reading of the same rules."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftune.curate.comparing.shingles import Shingles, TextShingles, Unit, shingle
from siftune.curate.comparing.text_pieces import column_texts
from siftune.curate.core.schema import KINDS, Kind, content_columns, schema_of
from siftune.curate.rows.chat import Part, text_of, turn

IGNORED = {0xAD, 0x200C, 0x200D, 0x2060, 0xFEFF, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
SINGLE = [
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
]  # fmt: skip


def fold(letter: str) -> str:
    return letter.casefold() if len(letter.casefold()) == 1 else letter


def is_single(letter: str) -> bool:
    return any(low <= ord(letter) <= high for low, high in SINGLE)


def is_letter(letter: str) -> bool:
    if ord(letter) >= 0x40000:
        return False
    return ord(letter) >= 0x20000 or unicodedata.category(letter)[0] in "LNM" or letter == "_"


def words(text: str) -> list[str]:
    """The rules of the module docstring, one letter at a time."""
    found, word = [], ""
    for letter in text:
        if ord(letter) in IGNORED:
            continue
        if not is_letter(letter) or is_single(letter):
            found += [word] if word else []
            word = ""
            found += [letter] if is_letter(letter) else []
        else:
            word += fold(letter)
    return found + ([word] if word else [])


def chars(text: str) -> list[str]:
    """Letters, with one blank for what stands between."""
    seen = [letter for letter in text if ord(letter) not in IGNORED]
    spaced = "".join(fold(letter) if is_letter(letter) else " " for letter in seen)
    return list(" ".join(part for part in spaced.split(" ") if part))


def slow(text: str, ngram: int, unit: Unit) -> list[tuple[str, ...]]:
    units = words(text) if unit == "word" else chars(text)
    size = min(ngram, len(units))
    return [tuple(units[i : i + size]) for i in range(len(units) - size + 1)] if units else []


def hashes(texts: list[str | None], ngram: int = 5, unit: Unit = "word") -> list[list[int]]:
    values, offsets = shingle(pl.Series(texts, dtype=pl.String), ngram, unit)
    return [values[a:b].tolist() for a, b in pairwise(offsets.tolist())]


ALPHABET = (
    "aAzZ09_ .,-'\n\tßÉéΣσςЯяİıſ中文字かカｶกขาำကខ한국어é\u0301\u200d\ufe0f\xad"
    "\U00020000\U000e0100😀\U0001d400"
)
TEXTS = st.lists(st.text(st.sampled_from(ALPHABET) | st.characters(codec="utf-8")), max_size=8)


@settings(deadline=None)  # the first call compiles
@given(texts=TEXTS, ngram=st.integers(1, 6), unit=st.sampled_from(["word", "char"]))
def test_equal_shingles_and_only_those_have_equal_hashes(
    texts: list[str], ngram: int, unit: Unit
) -> None:
    expected = [gram for text in texts for gram in slow(text, ngram, unit)]
    found = [value for text in hashes(list(texts), ngram, unit) for value in text]
    assert len(found) == len(expected)
    assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))


@settings(deadline=None)  # the first call compiles
@given(texts=TEXTS)
def test_each_text_has_as_many_shingles_as_the_slow_reading(texts: list[str]) -> None:
    assert [len(text) for text in hashes(list(texts), 3)] == [
        len(slow(text, 3, "word")) for text in texts
    ]


def test_words_fold_case_and_ignore_what_stands_between() -> None:
    first, second, third = hashes(
        ["Straße, ÉCOLE -- Σοφία!", "straße école σοφία", "strasse école"]
    )
    assert first == second != third


def test_scripts_without_spaces_make_each_character_a_word() -> None:
    assert [len(found) for found in hashes(["我喜欢吃苹果", "ฉันรัก", "한국어 문장"], 2)] == [5, 5, 1]


def test_a_soft_hyphen_or_joiner_does_not_end_a_word() -> None:
    joined, plain = hashes(["co\xadoperate می\u200cخواهم", "cooperate میخواهم"], 1)
    assert joined == plain


def test_a_short_text_is_one_shingle_and_differs_from_a_longer_one() -> None:
    short, other, whole = hashes(["a b", "b a", "a b c d e"])
    assert [len(short), len(other), len(whole)] == [1, 1, 1]
    assert len({*short, *other, *whole}) == 3


@pytest.mark.parametrize("text", [None, "", " \n", "!?", "\ufeff"])
def test_a_text_without_a_word_has_no_shingle(text: str | None) -> None:
    assert hashes([text, "a"]) == [[], hashes(["a"])[0]]


def test_a_slice_of_a_series_is_read_where_it_lies() -> None:
    texts = pl.Series(["one two", None, "three four", "five"])
    assert (
        shingle(texts[2:], 1)[0].tolist()
        == shingle(pl.Series(["three four", "five"]), 1)[0].tolist()
    )


def test_batches_hold_the_asked_number_of_bytes_or_one_row() -> None:
    texts = column_texts(pl.Series(["aaaa", None, "bb", "c" * 20, "d"]))
    assert [rows.tolist() for rows in texts.batches(6)] == [[0, 1, 2], [3], [4]]
    assert [rows.tolist() for rows in texts.batches(6, np.array([0, 2, 4]))] == [[0, 2], [4]]


PIECE = st.none() | st.text(st.sampled_from("ab é中\n"), max_size=20)
TURN = st.builds(turn, st.sampled_from(["user", "assistant"]), PIECE)


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    kind=st.sampled_from(KINDS),
    part=st.sampled_from(["prompt", "response", "both"]),
)
def test_rows_are_read_where_they_lie_as_if_their_turns_were_joined(
    data: st.DataObject, kind: Kind, part: Part
) -> None:
    """In any chunks, all rows or some of them."""
    height = data.draw(st.integers(1, 6))
    schema = schema_of(kind)
    columns = {}
    turns = st.lists(TURN, max_size=3)
    for name in content_columns(kind):
        cell = {"completions": st.lists(turns, max_size=2), "label": st.booleans()}.get(
            name, st.none() | turns
        )
        cells = data.draw(st.lists(cell, min_size=height, max_size=height))
        columns[name] = pl.Series(cells, dtype=schema[name])
    rows = pl.DataFrame({"kind": [kind] * height, **columns})
    cut = data.draw(st.integers(0, height))
    rows = pl.concat([rows[:cut], rows[cut:]], rechunk=False)
    some = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=height, max_size=height)))
    for unit in get_args(Unit):
        values, offsets = shingle(text_of(rows, part), 2, unit)
        expected = [values[a:b].tolist() for a, b in pairwise(offsets.tolist())]
        texts = TextShingles.of(rows, part, 2, unit)
        assert _lists(texts.batches()) == expected
        assert _lists(texts.batches(some)) == [expected[at] for at in some]


def _lists(parts: Iterator[Shingles]) -> list[list[int]]:
    return [
        values[a:b].tolist() for values, offsets in parts for a, b in pairwise(offsets.tolist())
    ]


def test_hashes_stay_what_they_were() -> None:
    """A saved column of signatures is only of use while these hold."""
    assert hashes(["The quick brown fox jumps", "你好"], 5) == [
        [12598508514541548374],
        [7721499230442055798],
    ]
