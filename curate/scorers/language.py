"""Language of a text: ISO 639-1 code and its probability, by py3langid or lingua."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any, ClassVar, Final, Literal

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count, check_ranges
from siftune.curate.core.registry import closest
from siftune.curate.rows.chat import Part, part_of
from siftune.curate.text.language_id import MERGED, NO_LANGUAGE, langid_model, merged, missing

__all__ = ["Language"]

Detector = Literal["py3langid", "lingua"]
_Rank = Callable[[str], list[tuple[str, float]]]
"""Codes and probabilities of a text, the most probable first."""

_READ: Final = 2000  # characters of a text
_NO_PROSE: Final = (
    r"(?s:```.*?(?:```|\z))|`[^`\n]*`|(?i)(?:https?://|www\.)\S+|\S+@\S+|<[^<>\n]{1,200}>"
    r"|(?m:^.*[(){}=<>\[\]].*[;{}][ \t]*$)"  # a line of code
)
_SHARED_SCRIPTS: Final = r"\p{Latin}\p{Cyrillic}\p{Common}\p{Inherited}"
_WEIGHTS: Final = (
    (rf"[\p{{L}}&&[{_SHARED_SCRIPTS}]]", 1),
    (r"[\p{L}&&\p{Greek}]", 2),
    (rf"[[\p{{L}}\p{{M}}]--[{_SHARED_SCRIPTS}\p{{Greek}}]]", 5),
)
"""What a letter counts for: 2 letters of Chinese or Thai show the language as well as 10 Latin."""


@dataclass(frozen=True)
class Language:
    """``language_code`` and ``language_probability`` of the most probable language.

    Fenced code, lines of code, URLs, e-mail addresses and tags are left out first, and 2,000
    characters are read. A text with fewer than ``min_letters`` letters then has null: a name, a
    number or code is in no language. Latin and Cyrillic letters, whose scripts many languages
    share, count for one, Greek letters for two, and letters and vowel signs of other scripts for
    five. ``py3langid`` (Lui and Baldwin 2012, ACL P12-3005: naive Bayes on byte n-grams, 140
    languages, 5 MB) scores about 10,000 texts a CPU second; its probabilities are a softmax over
    scores divided by the square root of the length, for ranking and thresholds rather than for
    betting. ``lingua`` (75 languages, 100 MB) is better on texts of a few words. Both run here, and
    a row's value does not depend on its neighbours.

    Bokmål and Nynorsk are ``no``, Chinese and Arabic of any region ``zh`` and ``ar``. Languages
    that differ little (Croatian and Bosnian, Indonesian and Malay) are often taken for each other:
    name those that may occur.

    Of short lines in Latin script one in ten or twenty is taken for a related language; a larger
    ``min_letters`` (20, or 40) leaves them out. Not for single words, nor for texts of several
    languages.

    Options:
        of: Text whose language is scored: the prompt, the response, or both.
        detector: py3langid (pip install 'siftune[langid]') or lingua ('siftune[lingua]').
        languages: Codes of the languages to choose from, with commas between; none given, all.
        min_letters: Fewest letters of a text with a language; Greek ones count twice, those of
            scripts other than Latin and Cyrillic five times.
    """

    of: Part = "response"
    detector: Detector = "py3langid"
    languages: tuple[str, ...] | None = None
    min_letters: Count = 10

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"language_code": pl.String, "language_probability": pl.Float32}

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score one text a row."""
        text = pl.col("text").str.replace_all(_NO_PROSE, " ").str.head(_READ)
        cleaned = part_of(batch["messages"], self.of).alias("text").to_frame().select(text)
        letters = pl.sum_horizontal(
            weight * pl.col("text").str.count_matches(letter) for letter, weight in _WEIGHTS
        )
        texts = cleaned.select(pl.when(letters >= self.min_letters).then("text"))["text"]
        first = [None if each is None else self._rank(each)[0] for each in texts.to_list()]
        ranks = [None if one is None or one[0] == NO_LANGUAGE else one for one in first]
        found = {
            "language_code": [None if rank is None else rank[0] for rank in ranks],
            "language_probability": [None if rank is None else rank[1] for rank in ranks],
        }
        return pl.DataFrame(found, schema=self.adds)

    def describe(self) -> dict[str, Any]:
        """The version of the detector, whose model comes with it."""
        package = "py3langid" if self.detector == "py3langid" else "lingua-language-detector"
        self._rank  # noqa: B018  # says what is missing
        return {"detector": f"{self.detector} {version(package)}"}

    @cached_property
    def _rank(self) -> _Rank:
        return _langid(self.languages) if self.detector == "py3langid" else _lingua(self.languages)

    def __getstate__(self) -> dict[str, Any]:
        """The options; a loaded model stays in its process."""
        return {key: value for key, value in self.__dict__.items() if key != "_rank"}


def _langid(languages: tuple[str, ...] | None) -> _Rank:
    model = copy(langid_model())
    if languages is not None:
        model.set_languages(_chosen(languages, model.labels))
    return lambda text: merged(model.rank(text))


@cache
def _lingua(languages: tuple[str, ...] | None) -> _Rank:
    try:
        import lingua
    except ImportError:
        raise missing("lingua") from None
    known = {one.iso_code_639_1.name.lower(): one for one in lingua.Language.all()}
    codes = list(known) if languages is None else _chosen(languages, known)
    model = lingua.LanguageDetectorBuilder.from_languages(*(known[one] for one in codes)).build()

    def rank(text: str) -> list[tuple[str, float]]:
        values = model.compute_language_confidence_values(text)
        return merged((one.language.iso_code_639_1.name.lower(), one.value) for one in values)

    return rank


def _chosen(languages: tuple[str, ...], known: Iterable[str]) -> list[str]:
    """The detector's own codes of ``languages``."""
    ours = {code: MERGED.get(code, code) for code in known}
    unknown = sorted(set(languages) - set(ours.values()))
    if unknown:
        near = closest(unknown[0], tuple(sorted(set(ours.values()))))
        raise UsageError(f"language: languages: {unknown[0]!r} is no code of the detector; {near}")
    chosen = sorted(code for code, name in ours.items() if name in languages)
    if len(set(languages)) < 2:
        raise UsageError("language: languages: expected two or more to choose from")
    return chosen
