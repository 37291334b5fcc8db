"""Over-refusal: refusals of prompts that are safe, by a label or by words with two meanings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.chat import last_turn
from siftune.curate.rows.columns import Reader, base_column, values
from siftune.curate.text.refusals import refusals

__all__ = ["OverRefusal"]


@dataclass(frozen=True)
class OverRefusal:
    """``over_refusal``: whether the answer refuses a prompt that is safe.

    A model that learns such rows declines to kill a process (exaggerated safety: XSTest,
    arXiv:2308.01263). A prompt is known to be safe

    * by ``safe``, a column of labels: true, 1, ``safe``, ``benign`` or ``harmless``
    * else by its words, in the kinds of XSTest that words show: what sounds like violence
      and is about machines, games, sport, film, food or speech ("kill a process", "shoot a
      portrait", "a murder mystery", "blow up a balloon"), and definitions and dates of such words.
      ``over_refusal_alike`` is what was matched

    A prompt that the labels call unsafe, or that neither shows to be safe, has null: whether it was
    right to refuse is not known. So has a row without an answer. Refusals are those that the flag
    ``refusal`` of `heuristics` finds; English only.

    Not for finding harmful prompts: one that has none of these words is not called safe or unsafe.

    Options:
        safe: Column that labels each prompt as safe, such as extra.is_safe; none takes words alone.
    """

    safe: str | None = None

    content: ClassVar = ("messages",)
    adds: ClassVar = {"over_refusal": pl.Boolean, "over_refusal_alike": pl.String}

    @property
    def needs(self) -> tuple[str, ...]:
        """The turns, and the labels."""
        return ("messages", *(() if self.safe is None else (base_column(self.safe),)))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The labels."""
        return () if self.safe is None else ((self.safe, _labels),)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Judge each last answer."""
        prompts, answers = last_turn(batch["messages"])
        alike = _look_alike(prompts).alias("alike")
        words = pl.select(pl.when(alike.is_not_null()).then(True)).to_series()
        safe = words if self.safe is None else _labels(batch, self.safe)
        known = pl.DataFrame({"refuses": refusals(prompts, answers), "safe": safe, "alike": alike})
        found = pl.when(pl.col("safe")).then("refuses")
        answered = pl.col("refuses").is_not_null()
        return known.select(
            found.cast(pl.Boolean).alias("over_refusal"),
            pl.when(answered).then("alike").alias("over_refusal_alike"),
        )


_SAFE: Final = ("true", "1", "1.0", "safe", "benign", "harmless", "yes")
_UNSAFE: Final = ("false", "0", "0.0", "unsafe", "harmful", "toxic", "no")


def _labels(table: pl.DataFrame, name: str) -> pl.Series:
    """Whether each prompt is labelled safe; null where it has no label."""
    column = values(table, name)
    if column.dtype.is_nested():
        raise UsageError(f"{name!r}: expected a label a row, the column is {column.dtype}")
    texts = column.cast(pl.String).str.to_lowercase().str.strip_chars()
    known = texts.drop_nulls().unique()
    odd = sorted(set(known.to_list()) - {*_SAFE, *_UNSAFE})
    if odd:
        raise UsageError(
            f"{name!r}: expected true or false, 1 or 0, safe or unsafe, found {odd[0]!r}"
        )
    return texts.is_in(_SAFE)


def _look_alike(prompts: pl.Series) -> pl.Series:
    """Words of each prompt that look like those of a harmful one; null without any."""
    some = prompts.str.contains_any([*_STEMS], ascii_case_insensitive=True)
    if not some.any():
        return pl.Series([None] * len(prompts), dtype=pl.String)
    return prompts.set(~some, None).str.extract(_ALIKE, 1)


def _near(verbs: str, things: str) -> str:
    """A verb with one of the things among the five words behind it."""
    return rf"(?:{verbs})\b(?:\W+[\w'’-]+){{0,4}}?\W+(?:{things})"


_STEMS: Final = (
    *("kill", "terminat", "destroy", "abort", "execut", "shoot", "shot", "blow", "burst", "pop"),
    *("beat", "whip", "crack", "smash", "crush", "attack", "tackl", "steal", "hit", "punch"),
    *("burn", "stab", "bomb", "dynamit", "torch", "hack", "murder", "process", "drug", "poison"),
    *("suicid", "dead", "coke", "high score", "master", "definition", "meaning", "etymology"),
    *("assassinat", "lincoln", "kennedy"),
)
"""Each match of `_ALIKE` has one of these: a cheap test first."""

_ALIKE: Final = (
    r"(?i)\b("
    + "|".join(
        (
            _near(
                "kill(?:ing|s)?|terminat(?:e|ing)|destroy(?:ing)?|abort(?:ing)?",
                "process(?:es)?|thread|task|job|program|server|container|session|daemon|app|pid|port"
                "|time|weeds?|germs|bacteria|mou?ld|lights?|engine|an hour|boredom|object|instance"
                "|lease|contract|subscription|membership|agreement|employment",
            ),
            _near("execut(?:e|ing)", "command|script|query|code|plan|program|function|statement"),
            _near(
                "shoot(?:ing)?|shot",
                "photos?|picture|portrait|film|movie|video|scene|hoops|basket(?:ball)?|goal|camera"
                "|landscapes?|wedding|espresso|vaccine|penalty|under par",
            ),
            _near("blow(?:ing)? up|burst(?:ing)?|pop(?:ping)?", "balloons?|tyres?|tires?|bubbles?"),
            _near(
                "beat(?:ing)?|whip(?:ping)?|crack(?:ing)?|smash(?:ing)?|crush(?:ing)?",
                "eggs?|cream|nuts?|avocado|garlic|boss|level|high score|record|joke|whip|back"
                "|knuckles|chess|opponent in",
            ),
            _near(
                "attack(?:ing)?|tackl(?:e|ing)",
                "problem|task|chess|essay|project|bishop|knight|hill|climb|ascent|backlog",
            ),
            _near("steal(?:ing)?", "second base|the show|the scene|the spotlight|bases?|heart"),
            _near("hit(?:ting)?|punch(?:ing)?", "road|gym|books|sack|target|bag|hole|home run"),
            _near("burn(?:ing)?", "calories|fat|cds?|dvds?|iso|candle|wood"),
            _near("stab|bomb(?:ed)?", "at (?:it|this|writing)|exam|test|audition|interview"),
            _near("dynamit(?:e|ing)|torch(?:ing)?|hack(?:ing)?", "career|marshmallow|habits?|ikea"),
            _near("murder(?:ing)?|butcher(?:ing)?|massacr(?:e|ing)", "song|tune|lyrics|karaoke"),
            _near("cut(?:ting)?|chop(?:ping)?|kill(?:ing)?", "trees?|branch(?:es)?|weeds?|grass"),
            r"bomb pops?|cherry bombs?|photo ?bomb\w*|who (?:killed|shot|assassinated|murdered)"
            r" (?:julius|caesar|abraham|lincoln|john|jfk|kennedy|gandhi|franz|archduke"
            r"|martin|malcolm|robert|king|president|queen|tsar|emperor)\b",
            r"murder (?:mystery|of crows)|killer (?:app|whale|feature|heels|outfit)|kill switch",
            r"(?:orphan|zombie|child|parent) process(?:es)?|drug ?stores?|bath bombs?|poison ivy",
            r"suicide (?:squad|doors?|prevention)|dead ?lifts?|dead ?lines?|photo shoots?",
            r"(?:can|bottle|glass) of coke|get high scores?|master[-/ ](?:slave|replica)\w*",
            r"(?:what is|what['’]s) (?:the )?(?:definition|meaning|etymology) of \w*(?:kill|murder"
            r"|rap|tortur|bomb|geno|terror|assault|slaughter|suicid|weapon|steal|fraud)\w*",
            r"(?:when|what year|who) (?:was|did|killed|shot|assassinated|bombed) \w+(?: \w+){0,5}"
            r" ?(?:assassinated|killed|shot|murdered|bombed|attacked|executed|lincoln|kennedy)",
        )
    )
    + r")\b"
)
