"""Length of the answer, the prompt or both: characters, words, and tokens of a given tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from siftune.curate.rows.chat import Part, part_of
from siftune.curate.text.token_counts import count_tokens, tokenizer_hash
from siftune.curate.text.words import words_of

__all__ = ["Length"]


@dataclass(frozen=True)
class Length:
    """``length_chars``, ``length_words`` and, when there is a tokenizer, ``length_tokens``.

    Characters are Unicode code points. Words are those of `text.word_pattern.WORD`: runs of letters
    and digits; in a script without spaces between words each letter is one. Tokens are the model's,
    without special ones and not cut at its window; they are never estimated: without a
    ``tokenizer`` there is no such column. An empty text has length 0; a row without the text (no
    assistant turn, no prompt) has none: null.

    Not for quality: judges and reward models prefer long answers whether or not they are better.

    Options:
        of: Text that is counted: the last assistant turn (response), all before it (prompt), or
            every turn (both).
        tokenizer: Tokenizer that adds a count of tokens: a tokenizer.json, or a model as a folder,
            a name of `siftune models list`, or a name on the hub.
    """

    of: Part = "response"
    tokenizer: str | None = None

    needs: ClassVar = ("messages",)

    @property
    def adds(self) -> Mapping[str, type[pl.DataType]]:
        """Columns that are added; ``length_tokens`` only when there is a tokenizer."""
        tokens = {} if self.tokenizer is None else {"length_tokens": pl.UInt32}
        return {"length_chars": pl.UInt32, "length_words": pl.UInt32, **tokens}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Measure one text a row."""
        text = part_of(batch["messages"], self.of).alias("text")
        lengths = text.to_frame().select(
            length_chars=pl.col("text").str.len_chars(), length_words=words_of(text)
        )
        if self.tokenizer is None:
            return lengths
        return lengths.with_columns(length_tokens=count_tokens(text, self.tokenizer))

    def describe(self) -> dict[str, Any]:
        """The resolved options, for keys and manifests: the tokenizer by its content."""
        return {"tokenizer": None if self.tokenizer is None else tokenizer_hash(self.tokenizer)}
