"""Text-quality statistics of the answer, and flags for empty, refused or broken answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from siftune.curate.rows.chat import last_turn
from siftune.curate.text import non_answers as signs
from siftune.curate.text import text_statistics as shares
from siftune.curate.text.refusals import refusals
from siftune.curate.text.truncated_code import truncated_code

__all__ = ["Heuristics"]

_SYMBOL: Final = r"[^\p{L}\p{M}\p{N}\s.,;:!?'\"()’‘“”–-]"
_URL: Final = r"(?i)(?:https?://|www\.)\S+"
_ASKS_FOR_LANGUAGE: Final = (
    r"(?i)translat|transliterat|\b(?:language|chinese|mandarin|japanese|kanji|korean|russian|arabic"
    r"|hindi|bengali|tamil|telugu|greek|hebrew|thai|ukrainian|bulgarian|persian|farsi|urdu|english"
    r"|spanish|french|german|emojis?)\b"
)
_REPEATED: Final = 0.5  # songs and tables repeat up to that much
_RUN: Final = 10

_SHARES: Final = (
    *("duplicate_lines", "repeated_ngrams", "symbols", "digits", "uppercase"),
    *("code", "urls", "non_latin"),
)
_FLAGS: Final = (
    *("empty", "placeholder", "open_slots", "refusal", "truncated", "echo"),
    *("repetitive", "script_mismatch", "broken_characters", "no_input", "url_input"),
)


@dataclass(frozen=True)
class Heuristics:
    """Statistics of the last assistant turn, and ``heuristics_flags``, the names of raised flags.

    Shares are of the answer's characters unless another unit is given, and null where there is
    nothing to take a share of; without an answer everything is null.

    * ``duplicate_lines``: lines that were there before, of lines with a letter or digit
    * ``repeated_ngrams``: word 3-grams that were there before, of all 3-grams
    * ``symbols``: what is no letter, digit, space or common punctuation
    * ``digits``; ``uppercase``: of letters; ``non_latin``: of letters
    * ``code``: fenced blocks and lines that only code has; ``urls``
    * ``longest_run``: characters; ``mean_word_length``: characters

    Flags, true or false, each wrong now and then; read some rows before dropping on one. The flags
    selector drops on ``open_slots`` and ``no_input`` only where they are named:

    * ``empty``: spaces at most
    * ``placeholder``: ``<nooutput>``, ``Noinput``, ``N/A`` and the like
    * ``open_slots``: ``<insert date>``, ``{{name}}`` and the like, outside letters and templates
    * ``refusal``: declines, lectures or sends elsewhere in place of helping; English only
    * ``truncated``: stops within a sentence, a code block or a statement of code
    * ``echo``: begins with the whole prompt
    * ``repetitive``: over half duplicate lines (of 4 words or more on average), over half repeated
      3-grams in 20 words or more, or a run of 10 equal characters
    * ``script_mismatch``: most letters are of a script of which the prompt has none, and the prompt
      names no language; by script only, so English for French is not seen
    * ``broken_characters``: replacement marks, or UTF-8 read as Latin-1
    * ``no_input``: the prompt ends with ``No input``, ``N/A`` and the like; of itself no fault
    * ``url_input``: what the prompt asks about is an address only, so that the answer is a guess

    Not for ranking good answers: it finds faults, and most rows have none.
    """

    needs: ClassVar = ("messages",)
    flags: ClassVar = {"heuristics_flags": _FLAGS}
    harmless: ClassVar = {"heuristics_flags": ("open_slots", "no_input")}
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        **{f"heuristics_{name}": pl.Float32 for name in _SHARES},
        "heuristics_longest_run": pl.UInt32,
        "heuristics_mean_word_length": pl.Float32,
        **{f"heuristics_{name}": pl.Boolean for name in _FLAGS},
        "heuristics_flags": pl.List(pl.String),
    }

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation's last assistant turn."""
        prompts, answers = last_turn(batch["messages"])
        table = pl.DataFrame({"prompt": prompts, "answer": answers}).with_columns(
            shares.repeated_ngrams(answers).alias("repeated_ngrams"),
            shares.longest_run(answers).alias("longest_run"),
            _script_mismatch(prompts, answers),
            refusals(prompts, answers).alias("refuses"),
            truncated_code(answers).alias("cut_code"),
            **_statistics(),
        )
        table = table.with_columns(**_flags())
        raised = [pl.when(pl.col(name)).then(pl.lit(name)) for name in _FLAGS]
        answered = pl.col("answer").is_not_null()
        flags = pl.when(answered).then(pl.concat_list(raised).list.drop_nulls()).alias("flags")
        named = table.with_columns(flags).select(pl.all().name.prefix("heuristics_"))
        return named.select(*self.adds).cast(pl.Schema(self.adds))


def _statistics() -> dict[str, pl.Expr]:
    answer = pl.col("answer")
    return {
        "duplicate_lines": shares.duplicate_lines(answer),
        "symbols": shares.share(answer, _SYMBOL),
        "digits": shares.share(answer, r"\p{N}+"),
        "uppercase": shares.share_of_letters(answer, r"\p{Lu}"),
        "code": shares.share(answer, signs.code_lines()),
        "urls": shares.share(answer, _URL),
        "non_latin": shares.share_of_letters(answer, r"[\p{L}--\p{Latin}]"),
        "mean_word_length": shares.mean_word_length(answer),
    }


def _flags() -> dict[str, pl.Expr]:
    answer, prompt = pl.col("answer"), pl.col("prompt")
    flags = {
        "empty": answer.str.strip_chars() == "",
        "placeholder": signs.placeholder(answer),
        "open_slots": signs.open_slots(answer, prompt),
        "refusal": pl.col("refuses"),
        "truncated": signs.truncated(answer) | pl.col("cut_code"),
        "echo": signs.echo(answer, prompt),
        "repetitive": _repetitive(answer),
        "script_mismatch": pl.col("foreign"),
        "broken_characters": signs.broken_characters(answer),
        "no_input": signs.no_input(prompt).fill_null(False),
        "url_input": signs.url_input(prompt).fill_null(False),
    }
    return {name: pl.when(answer.is_not_null()).then(flag) for name, flag in flags.items()}


def _repetitive(answer: pl.Expr) -> pl.Expr:
    words, lines = answer.str.count_matches(r"\S+"), answer.str.count_matches(r"\n") + 1
    repeats = (pl.col("duplicate_lines") > _REPEATED) & (words >= 4 * lines)
    grams = (pl.col("repeated_ngrams") > _REPEATED) & (words >= 20)
    signs_of_it = [repeats, grams, pl.col("longest_run") >= _RUN]
    return pl.any_horizontal(one.fill_null(False) for one in signs_of_it)


def _script_mismatch(prompts: pl.Series, answers: pl.Series) -> pl.Series:
    """Most of at least ten letters are of scripts of which a prompt of as many has none.

    The letters are only counted where a text has one that is not Latin.
    """
    rows = pl.DataFrame({"prompt": prompts, "answer": answers}).with_row_index("row")
    other = pl.col("prompt", "answer").str.contains(r"[\p{L}--\p{Latin}]").fill_null(False)
    mixed = rows.filter(pl.any_horizontal(other)).with_columns(
        shares.letters_in_script(pl.col(text), name).alias(f"{text}_{name}")
        for text in ("prompt", "answer")
        for name in shares.SCRIPTS
    )
    of_answer = pl.sum_horizontal(f"answer_{name}" for name in shares.SCRIPTS)
    of_prompt = pl.sum_horizontal(f"prompt_{name}" for name in shares.SCRIPTS)
    foreign = pl.sum_horizontal(
        pl.when(pl.col(f"prompt_{name}") == 0).then(pl.col(f"answer_{name}")).otherwise(0)
        for name in shares.SCRIPTS
    )
    asked_for = pl.col("prompt").str.contains(_ASKS_FOR_LANGUAGE)
    unlike = (of_answer >= 10) & (of_prompt >= 10) & (2 * foreign > of_answer) & ~asked_for
    raised = mixed.filter(unlike)["row"]
    return rows["row"].is_in(raised.implode()).alias("foreign")
