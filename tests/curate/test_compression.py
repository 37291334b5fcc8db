"""Compression ratio: a library's stream without its header, and what repetition does to it."""

from __future__ import annotations

import zlib

import pytest

from siftune.curate.scorers.compression import Compression
from tests.contracts.test_scorers import table, turn


def test_the_ratio_is_that_of_zlib_without_its_six_bytes() -> None:
    texts = ["word " * 40, "The quick brown fox jumps over the lazy dog.", "é" * 9, "", None]
    chats = table(
        "conversation", messages=[[turn("user", "Q"), turn("assistant", text)] for text in texts]
    )
    found = Compression()(chats)["compression"].to_list()
    for text, ratio in zip(texts[:3], found, strict=False):
        data = str(text).encode()
        assert ratio == pytest.approx(len(data) / (len(zlib.compress(data, 9)) - 6))
    assert found[0] > 10 > 1.1 > found[1]
    assert found[3:] == [None, None]
    assert Compression(of="prompt")(chats)["compression"].n_unique() == 1
