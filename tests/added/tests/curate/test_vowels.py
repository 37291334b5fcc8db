"""The vowels of a response are counted."""

import polars as pl

from siftune.curate.core.registry import build
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn

OPTIONS = [{"letters": "aeiou"}]
NO_PATHS = ("letters",)


def test_each_vowel_counts_once():
    chats = pl.DataFrame({"messages": [[turn("assistant", "banana")]]}, schema={"messages": TURNS})
    assert build("curate.scorers", "vowels", OPTIONS[0])(chats)["vowels"].to_list() == [3]
