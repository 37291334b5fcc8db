"""Answers that are a part of another answer to the same prompt, and which of two copies is whole.

Of two rows with the same words in the prompt, one answer is a *part* of the other if its words are
the first or the last of the other's, and

* what the other has more is *padding*: three words or more, without negation and digit, that begin
  (or end) answers to other prompts too, or an answer that begins or ends with a known phrase (*I
  hope this helps!*); then the part is the better row;
* or they are five words or more, and at least half of the other's;
* or they are its first three words or more, at least a fifth, and stop within a sentence that the
  other ends.

In the last two cases, what is missing at the end was cut off, and what is more at the start is
padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.text.non_answers import truncated

__all__ = ["Parts", "answer_parts", "wholeness"]

Ints: TypeAlias = npt.NDArray[np.int64]

_LEAST, _CUT, _ADDED = 5, 3, 3  # words: of a part, of one that was cut off, of padding
_UNLIKE: Final = r"\d|\b(?:not|no|never|cannot|t|without|nor|neither|none|nothing)\b"
_ENDS: Final = r"[.!?。！？।…][\"'”’)\]*_]{0,3}\s*\z"
_NO_WORD: Final = r"[^\p{L}\p{M}\p{N}_]+"
_OPENING: Final = (
    r"(?i)^\W*(?:(?:sure|certainly|of course|absolutely|no problem|great question|good question)\b"
    r"|thank you for (?:your|asking|the)|i(?:['’]d| would) be (?:happy|glad) to|happy to help"
    r"|as an? (?:ai|artificial|(?:large )?language)\b|(?:answer|response|output|assistant)\s*:"
    r"|here(?:['’]s| is| are) (?:the|your|an?|my|some) (?:\w+ )?(?:answer|response|output)\b)"
)
_CLOSING: Final = (
    r"(?i)(?:hope (?:this|that|it) (?:helps|is helpful|was helpful)|let me know (?:if|whether|how)"
    r"|feel free to (?:ask|reach|contact)|(?:is there )?anything else i can"
    r"|thank you for (?:using|reading|asking)|please (?:like|subscribe|rate)"
    r"|i am an? (?:ai|artificial|language))[^.!?\n]*[.!?]*\W*$"
)


class Parts(NamedTuple):
    """Pairs of rows: ``part`` is a part of ``whole``, with ``words`` (n, 2) in each; and flags.

    ``padded`` and ``cut`` are the rows that have padding, or lack what a longer one has.
    """

    part: Ints
    whole: Ints
    words: Ints
    padded: Ints
    cut: Ints


def answer_parts(answers: pl.Series, prompts: pl.Series) -> Parts:
    """The pairs among ``answers``, of which those with equal ``prompts`` are compared."""
    norm = pl.col("answer").str.to_lowercase().str.replace_all(_NO_WORD, " ").str.strip_chars()
    rows = pl.DataFrame({"answer": answers, "prompt": prompts}).with_row_index("row")
    rows = rows.drop_nulls("answer").with_columns(norm=norm).filter(pl.col("norm") != "")
    at_end = _large(_pairs(rows, "norm"), rows, "end")
    rows = rows.with_columns(norm=pl.col("norm").str.reverse())
    at_start = _large(_pairs(rows, "norm"), rows, "start")
    padded = pl.concat([at_start["whole"], at_end.filter("padding")["whole"]])
    pairs = pl.concat([some.select("part", "whole", "less", "more") for some in (at_end, at_start)])
    columns = (pairs["part"], pairs["whole"], padded, at_end.filter(~pl.col("padding"))["part"])
    part, whole, padding, cut = (each.to_numpy().astype(np.int64) for each in columns)
    return Parts(part, whole, pairs.select("less", "more").to_numpy(), padding, cut)


def _pairs(rows: pl.DataFrame, text: str) -> pl.DataFrame:
    """All pairs of rows of a prompt of which one text begins the other, at the end of a word."""
    rows = rows.sort("prompt", text)
    found = [*_prefixes(rows["prompt"].to_list(), rows[text].to_list())]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    numbers = rows["row"].gather(pairs.ravel()).to_numpy().reshape(-1, 2)
    return pl.DataFrame(numbers, schema={"part": pl.UInt32, "whole": pl.UInt32})


def _prefixes(prompts: list[int], texts: list[str]) -> Iterator[tuple[int, int]]:
    """Positions of a text and of one it begins; both lists are sorted by prompt, then text."""
    begun: list[int] = []  # the texts that begin the last one, and itself
    for at, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        while begun:
            last = texts[begun[-1]]
            if prompts[begun[-1]] == prompt and (text == last or text.startswith(f"{last} ")):
                break
            begun.pop()
        yield from ((other, at) for other in begun if texts[other] != text)
        begun.append(at)


def _large(pairs: pl.DataFrame, rows: pl.DataFrame, where: Literal["start", "end"]) -> pl.DataFrame:
    """The pairs whose part is large enough, with numbers of words; ``where`` the whole has more."""
    words = pl.col("norm").str.count_matches(" ").cast(pl.Int64) + 1
    part, whole = (
        rows.select("row", "prompt", pl.struct("answer", "norm", words=words).alias(f"{name}_text"))
        for name in ("part", "whole")
    )
    pairs = pairs.join(part, left_on="part", right_on="row", maintain_order="left")
    pairs = pairs.join(whole.drop("prompt"), left_on="whole", right_on="row", maintain_order="left")
    text, longer = pl.col("part_text").struct, pl.col("whole_text").struct
    less, more = text.field("words"), longer.field("words")
    added = longer.field("norm").str.slice(text.field("norm").str.len_chars() + 1)
    phrase, ends = (_OPENING, False) if where == "start" else (_CLOSING, True)
    known = longer.field("answer").str.contains(phrase) & ~text.field("answer").str.contains(phrase)
    often = (pl.col("prompt").n_unique().over("added") > 1) & (more - less >= _ADDED)
    like = ~(added if ends else added.str.reverse()).str.contains(_UNLIKE)
    open_end = longer.field("answer").str.contains(_ENDS) & ~text.field("answer").str.contains(
        _ENDS
    )
    half = (less >= _LEAST) & (2 * less >= more)
    cut = pl.lit(ends) & open_end & (less >= _CUT) & (5 * less >= more)
    found = pairs.with_columns(added=added, less=less, more=more).with_columns(
        padding=(known | often) & like, large=half | cut
    )
    found = found.filter(pl.col("padding") | pl.col("large"))
    return found.with_columns(pl.col("padding") | pl.lit(not ends))


def wholeness(answers: pl.Series, words: Ints, padded: Ints, cut: Ints) -> list[pl.Series]:
    """Columns to rank copies by, larger is better: the whole one before what is cut or padded.

    No padding, not cut off, most words, letters of both cases, most characters.

    Args:
        answers: of the rows.
        words: of prompt and answer.
        padded: the rows that were found to have padding.
        cut: the rows that were found to be cut off.
    """
    number = pl.int_range(pl.len())
    answer = pl.col("answer").fill_null("")
    padding = answer.str.contains(_OPENING) | answer.str.contains(_CLOSING)
    open_end = truncated(answer) | number.is_in(pl.Series(cut).implode())
    frame = pl.DataFrame({"answer": answers, "words": words}).select(
        a=~(padding | number.is_in(pl.Series(padded).implode())),
        b=~open_end,
        c="words",
        d=answer.str.contains(r"\p{Ll}") & answer.str.contains(r"\p{Lu}"),
        e=answer.str.len_chars(),
    )
    return [column.cast(pl.Int64) for column in frame]
