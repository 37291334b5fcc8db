"""Answers that are a part of another answer to the same prompt, and which of two copies is whole.

Of two rows with the same words in the prompt, one answer is a *part* of the other if its words are
within the other's in a row, and

* what the other has more is *padding*: before, after or around the part, without negation and
  digit, three words or more that begin (or end) answers to other prompts too, or a known phrase (*I
  hope this helps!*); then the part is the better row;
* or they are five words or more, and at least half of the other's;
* or they are its first three words or more, at least a fifth, and stop within a sentence that the
  other ends.

In the last two cases, what is missing at the end was cut off, and what is more at the start is
padding. The last of three words or more may be the beginning of one: what was cut off within it.

A prompt that is another one of its group with padding around it is the worse one, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.text.non_answers import truncated

__all__ = ["Parts", "answer_parts", "padded_prompts", "wholeness"]

Ints: TypeAlias = npt.NDArray[np.int64]

_LEAST, _CUT, _ADDED = 5, 3, 3  # words: of a part, of one that was cut off, of padding
_COMPARED: Final = 16  # answers to one prompt, of which each is looked for within the others
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
_GREETING: Final = (
    r"(?i)^\W*(?:(?:hey|hi|hello|greetings|dear|good (?:morning|afternoon|evening))\b"
    r"|(?:please|can you|could you|kindly)(?: please)? help\b"
    r"|(?:instruction|prompt|question|task|query|user|human|request)s?\s*:)"
)
_THANKS: Final = (
    r"(?i)\b(?:thanks|thank you|thx|cheers|please|(?:much|greatly) appreciated)\b"
    r"[^.!?\n]{0,40}[.!?]*\W*$"
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
    pairs = _contained(answers, prompts, _OPENING, _CLOSING)
    pairs = pairs.filter(pl.col("padding") | pl.col("large"))
    is_cut = (pl.col("before") == "") & ~pl.col("padding")
    padded, cut = pairs.filter(~is_cut)["whole"], pairs.filter(is_cut)["part"]
    columns = (pairs["part"], pairs["whole"], padded, cut)
    part, whole, padding, cut_off = (each.to_numpy().astype(np.int64) for each in columns)
    return Parts(part, whole, pairs.select("less", "more").to_numpy(), padding, cut_off)


def padded_prompts(prompts: pl.Series, groups: Ints) -> Ints:
    """Positions of the prompts that are another one of their group with padding around it."""
    rows = pl.DataFrame({"text": prompts, "key": groups})
    distinct = rows.unique(maintain_order=True)  # the pairs of equal prompts would be too many
    pairs = _contained(distinct["text"], distinct["key"], _GREETING, _THANKS)
    padded = distinct[pairs.filter("padding")["whole"].unique().to_list()]
    found = rows.with_row_index("row").join(padded, on=["text", "key"], how="semi")["row"]
    return found.sort().to_numpy().astype(np.int64)


def _contained(texts: pl.Series, keys: pl.Series, opening: str, closing: str) -> pl.DataFrame:
    """The pairs of texts with equal keys of which the ``whole`` has all the words of the ``part``.

    With their words (``less``, ``more``), what the whole has ``before`` and after them, whether all
    of that is ``padding``, and whether the part is ``large`` enough by itself.
    """
    norm = pl.col("text").str.to_lowercase().str.replace_all(_NO_WORD, " ").str.strip_chars()
    rows = pl.DataFrame({"text": texts, "key": keys}).with_row_index("row")
    rows = rows.drop_nulls("text").with_columns(norm=norm).filter(pl.col("norm") != "")
    backwards = rows.with_columns(norm=pl.col("norm").str.reverse())
    pairs = pl.concat([_pairs(rows, "start"), _pairs(backwards, "end"), _inner(rows)])
    words = pl.col("norm").str.count_matches(" ").cast(pl.Int64) + 1
    part, whole = (
        rows.select("row", "key", pl.struct("text", "norm", words=words).alias(f"{name}_text"))
        for name in ("part", "whole")
    )
    pairs = pairs.join(part, left_on="part", right_on="row", maintain_order="left")
    pairs = pairs.join(whole.drop("key"), left_on="whole", right_on="row", maintain_order="left")
    return _judged(pairs, opening, closing)


def _pairs(rows: pl.DataFrame, where: Literal["start", "end"]) -> pl.DataFrame:
    """All pairs of rows of a key of which one text begins the other; ``where`` the part is."""
    rows = rows.sort("key", "norm")
    found = [*_prefixes(rows["key"].to_list(), rows["norm"].to_list(), where == "start")]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return _frame(rows["row"].gather(pairs.ravel()).to_numpy().reshape(-1, 2), where)


def _prefixes(keys: list[int], texts: list[str], broken: bool) -> Iterator[tuple[int, int]]:
    """Positions of a text and of one it begins; both lists are sorted by key, then text.

    ``broken``: the last word of three or more may be the beginning of one, too.
    """
    begun: list[list[int]] = []  # the texts that begin the last one, equal ones together, and it
    for at, (key, text) in enumerate(zip(keys, texts, strict=True)):
        while begun and not (keys[begun[-1][0]] == key and text.startswith(texts[begun[-1][0]])):
            begun.pop()
        for same in begun:
            part = texts[same[0]]
            more = text[len(part) :]
            if more[:1] == " " or (more and broken and part.count(" ") + 1 >= _CUT):
                yield from ((other, at) for other in same)
        if begun and texts[begun[-1][0]] == text:
            begun[-1].append(at)
        else:
            begun.append([at])


def _inner(rows: pl.DataFrame) -> pl.DataFrame:
    """All pairs of rows of a key of which one has words before and after those of the other."""
    found = []
    groups = rows.filter(pl.col("key").is_duplicated()).group_by("key").agg("row", "norm")
    for numbers, texts in groups.select("row", "norm").iter_rows():
        if len(texts) <= _COMPARED:
            for part, whole in permutations(range(len(texts)), 2):
                text, longer = texts[part], texts[whole]
                at_end = longer.startswith(f"{text} ") or longer.endswith(f" {text}")
                if f" {text} " in longer and not at_end:
                    found.append((numbers[part], numbers[whole]))
    return _frame(np.array(sorted(found), np.int64).reshape(-1, 2), "within")


def _frame(pairs: npt.NDArray[Any], where: str) -> pl.DataFrame:
    frame = pl.DataFrame(pairs, schema={"part": pl.UInt32, "whole": pl.UInt32})
    return frame.with_columns(where=pl.lit(where))


def _judged(pairs: pl.DataFrame, opening: str, closing: str) -> pl.DataFrame:
    """The columns of `_contained`, for pairs with ``part_text``, ``whole_text`` and ``where``."""
    text, longer = pl.col("part_text").struct, pl.col("whole_text").struct
    less, more = text.field("words"), longer.field("words")
    size, all_size = text.field("norm").str.len_chars(), longer.field("norm").str.len_chars()
    places = zip(pairs["where"], pairs["part_text"], pairs["whole_text"], strict=True)
    at = [
        f"{whole['norm']} ".find(f" {part['norm']} ") + 1 if where == "within" else 0
        for where, part, whole in places
    ]
    from_end = pl.col("where") == "end"
    start = pl.when(from_end).then(all_size - size).otherwise(pl.Series(at, dtype=pl.UInt32))
    pairs = pairs.with_columns(less=less, more=more, start=start).with_columns(
        before=longer.field("norm").str.slice(0, pl.col("start")).str.strip_chars(),
        rest=longer.field("norm").str.slice(pl.col("start") + size),
    )
    pairs = pairs.with_columns(after=pl.col("rest").str.strip_chars())
    broken = (pl.col("rest") != "") & ~pl.col("rest").str.starts_with(" ")
    padding = [
        pl.col(name).eq("") | (_common_end(name, phrase) & ~pl.col(name).str.contains(_UNLIKE))
        for name, phrase in (("before", opening), ("after", closing))
    ]
    ends = text.field("text").str.contains(_ENDS)
    half = (less >= _LEAST) & (2 * less >= more)
    open_end = longer.field("text").str.contains(_ENDS) & ~ends
    cut = (pl.col("before") == "") & open_end & (less >= _CUT) & (5 * less >= more)
    letters = text.field("norm").str.contains(r"[\p{L}\p{M}]\z") & pl.col("rest").str.contains(
        r"^[\p{L}\p{M}]"
    )
    word = text.field("norm").str.extract(r"([^ ]+)\z") + pl.col("rest").str.extract("^([^ ]*)")
    unlike = text.field("norm").str.contains(rf"(?:{_UNLIKE})\z") | word.str.contains(_UNLIKE)
    breaks = letters & ~ends & ~unlike
    much = more > less  # a cut within the very last word may be another word
    return pairs.with_columns(
        padding=padding[0] & padding[1] & ~broken,
        large=(half | cut) & (~broken | (breaks & much)),
    )


def _common_end(name: str, phrase: str) -> pl.Expr:
    """Whether the end ``name`` of a whole has a known phrase, or is that of other keys too."""
    text, longer = pl.col("part_text").struct, pl.col("whole_text").struct
    known = longer.field("text").str.contains(phrase) & ~text.field("text").str.contains(phrase)
    words = pl.col(name).str.count_matches(" ") + 1
    return known | ((pl.col("key").n_unique().over(name) > 1) & (words >= _ADDED))


def wholeness(
    answers: pl.Series,
    words: Ints,
    padded: Ints,
    cut: Ints,
    prompts: pl.Series | None = None,
    common: Ints | None = None,
) -> list[pl.Series]:
    """Columns to rank copies by, larger is better: the whole one before what is cut or padded.

    No padding, not cut off, most words, the commonest words, letters of both cases, most
    characters.

    Args:
        answers: of the rows.
        words: of prompt and answer.
        padded: the rows that were found to have padding.
        cut: the rows that were found to be cut off.
        prompts: of the rows; a greeting or thanks in them is padding.
        common: how common the words of each row are.
    """
    number = pl.int_range(pl.len())
    answer = pl.col("answer").fill_null("")
    padding = answer.str.contains(_OPENING) | answer.str.contains(_CLOSING)
    if prompts is not None:
        prompts = prompts.fill_null("")  # of texts: null would rank as padding does
        padding |= pl.lit(prompts.str.contains(_GREETING) | prompts.str.contains(_THANKS))
    open_end = truncated(answer) | number.is_in(pl.Series(cut).implode())
    frame = pl.DataFrame({"answer": answers, "words": words}).select(
        a=~(padding | number.is_in(pl.Series(padded).implode())),
        b=~open_end,
        c="words",
        common=pl.lit(0) if common is None else pl.Series(common),
        d=answer.str.contains(r"\p{Ll}") & answer.str.contains(r"\p{Lu}"),
        e=answer.str.len_chars(),
    )
    return [column.cast(pl.Int64) for column in frame]
