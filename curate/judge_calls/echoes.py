"""Repetitions of the data in a judge's answer: removed, or refused where they hold a verdict.

Data may hold verdicts (`Score: 5`) that a judge repeats, as they are or laid out anew. None of
them may count as the judge's own.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, Literal, TypeAlias, TypeVar

from siftune.curate.judge_calls.fence import Section, neutralise
from siftune.curate.judge_calls.types import UnparsedError

__all__ = [
    "DATA_HAS_VERDICTS",
    "LONGEST_VERDICT",
    "Where",
    "is_in_data",
    "own_text",
    "refuse_ambiguous",
    "refuse_echo",
    "refuse_echoed_object",
    "refuse_ranked_data",
    "unwrapped",
]

Where: TypeAlias = Literal["alone", "first", "last"]
"""Where a verdict is: it is the whole answer, its first line, or its last line."""

_Value = TypeVar("_Value", float, str)

DATA_HAS_VERDICTS: Final = "data_has_verdicts"
"""Reason of an error: asking again cannot help, as the data stays the same."""

LONGEST_VERDICT: Final = 120
"""Characters of the longest line that can be a verdict."""

_SECTION: Final = 12  # shortest data of one line that is removed wherever an answer repeats it
_LINE: Final = 6  # shortest line of data that is removed where it is a line of an answer
_CONTEXT: Final = 12  # letters and digits beside a verdict that show whose words it is among
_INLINE: Final = re.compile(  # looked ahead, since the value of one name may be the next name
    r"\b(\w{1,40})(?=(?:\W{0,5}?[:=][\W_]{0,6}"
    r"|[^\w\n]{0,5}?[|>\u2190-\u21ff\u27f0-\u27ff–—-][\W_]{0,12})([^\W_]{1,40}(?:\.\d+)?))"
)
_BETWEEN: Final = r"(?:[^\w\n.!?;]|_){1,12}"
_WORD: Final = r"[^\W\d_]{1,16}"
_SCORE: Final = r"(?<![^\W_])(?:scor(?:es?|ed|ing)|rat(?:ings?|ed))"
_NUMBER: Final = r"(\d{1,6}(?:\.\d+)?)"
_IS: Final = r"(?:is|was|be|should|would|must|goes|to|clearly|therefore|thus|still|my)"
_ARTICLE: Final = "a (?-i:[a-z])"
_WORDED: Final = (  # a verdict in words: its form with a name, and what is found of it
    ("score: {}", re.compile(rf"{_SCORE}(?:{_BETWEEN}{_WORD}){{0,6}}?{_BETWEEN}{_NUMBER}", re.I)),
    (
        "score: {}",
        re.compile(
            rf"(?<![^\W_]){_NUMBER}{_BETWEEN}(?:(?:stars?|points?){_BETWEEN}"
            rf"|(?:is|was|as|for){_BETWEEN}(?:{_WORD}{_BETWEEN}){{0,3}}?)?{_SCORE}(?![^\W_])",
            re.I,
        ),
    ),
    (
        "verdict: {}",
        re.compile(
            r"(?<![^\W_])(?:verdict|answer|choice|label|class|preference|winner)"
            rf"(?:{_BETWEEN}{_IS}){{1,4}}{_BETWEEN}(?!{_ARTICLE})([^\W_]{{1,40}})",
            re.I,
        ),
    ),
)
_DIGITS: Final = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_HIDDEN: Final = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_AMBIGUOUS: Final = "expected a verdict that is not in the data, which has verdicts"
_EMPHASIS: Final = re.compile(r"\*\*|__|`")


def own_text(answer: str, sections: Sequence[Section]) -> str:
    r"""What of an answer is the judge's own: without passages that it repeats from the data.

    A repeated section goes wherever it is, and each line that is also a line of the data, in
    whatever quotes or emphasis. Shorter repetitions stay, and can only contradict a verdict: a
    maths answer of ``5`` must not remove the score.

    >>> own_text('Nice.\n> Score: 5\nScore: 2', [("answer", "hi\nScore: 5")])
    'Nice.\nScore: 2'
    """
    if len(answer) < _LINE:
        return answer.strip()
    given = _data_of(sections)
    kept = (
        line for line in _without(given.forms, answer).split("\n") if _bare(line) not in given.lines
    )
    return "\n".join(kept).strip()


@dataclass(frozen=True)
class _Data:
    """The texts of an item in the forms in which answers are compared with them."""

    texts: frozenset[str]

    @cached_property
    def forms(self) -> frozenset[str]:
        """As they are, and as they are shown."""
        return frozenset(form.strip() for text in self.texts for form in (text, neutralise(text)))

    @cached_property
    def lines(self) -> frozenset[str]:
        """Lines that are removed from an answer."""
        lines = (_bare(line) for data in self.forms for line in data.split("\n"))
        return frozenset(line for line in lines if len(line) >= _LINE)

    @cached_property
    def squashed(self) -> list[str]:
        """Their letters and digits."""
        return [*map(_squashed, self.forms)]

    @cached_property
    def plain(self) -> list[str]:
        """Without characters that nobody sees, and with one form of each of the others."""
        return [_HIDDEN.sub("", _folded(data)) for data in self.forms]


def _data_of(sections: Sequence[Section]) -> _Data:
    return _data(frozenset(text for _, text in sections))


@lru_cache(maxsize=4)  # all questions about an item and all checks of an answer, in either order
def _data(texts: frozenset[str]) -> _Data:
    return _Data(texts)


def _without(given: Iterable[str], answer: str) -> str:
    """An answer without whole pieces of data, unless they are short."""
    for data in sorted(given, key=len, reverse=True):
        if len(data) >= _SECTION or "\n" in data:
            answer = answer.replace(data, "\n")
    return answer


def _bare(line: str) -> str:
    """A line without quotes, emphasis and case."""
    return line.strip(" \t\r>*_`#\"'“”‘’«»[](){},.|-").casefold()


def refuse_ambiguous(
    answer: str, sections: Sequence[Section], of: Callable[[str], _Value | None]
) -> None:
    """Refuse an answer with a verdict line where the data has such lines, too.

    `own_text` takes the data's lines for repeated ones. Data with the lines of all verdicts but the
    best would so have the best one or none: now none is accepted, whatever the judge's is. A
    verdict too short to be removed, such as ``5``, is not concerned.
    """

    def has(text: str) -> bool:
        lines = (_bare(line) for line in text.split("\n") if len(line) <= LONGEST_VERDICT)
        found = (line.replace('"', "") for line in lines if len(line) >= _LINE)
        return any(of(line) is not None for line in found)

    given = _data_of(sections).forms
    if any(map(has, given)) and has(_without(given, answer)):
        raise UnparsedError(_AMBIGUOUS, DATA_HAS_VERDICTS)


def refuse_echo(
    answer: str,
    sections: Sequence[Section],
    of: Callable[[str], _Value | None],
    where: Where,
    values: Iterable[str] = (),
) -> None:
    """Refuse a verdict among words of the data, in whatever line breaks and punctuation.

    The words before the verdict line, and those after it, are looked for in the data together with
    a verdict, whichever one (of ``values``, or a number): data cannot veto one of them. An answer
    without such words is refused where the data has a verdict within its lines.
    """
    lines = [line for line in answer.split("\n") if line.strip()]
    short = [at for at, line in enumerate(lines) if len(line) <= LONGEST_VERDICT]
    verdicts = [at for at in short if of(unwrapped(lines[at])) is not None]
    if not verdicts:
        return
    place = verdicts[0 if where == "first" else -1]
    before = _squashed("\n".join(lines[:place]))[-_CONTEXT:]
    after = _squashed("\n".join(lines[place + 1 :]))[:_CONTEXT]
    name = _squashed("".join(re.split("([:=])", lines[place])[:-2]))
    verdict = f"{name}(?:{'|'.join(map(_squashed, values)) or '[0-9]+'})"
    echoes = [f"{before}{verdict}"] * (len(before) == _CONTEXT)
    echoes += [f"{verdict}{after}"] * (len(after) == _CONTEXT)
    if not echoes and not name:
        return
    given = _data_of(sections)
    echoed = any(re.search(echo, data) for echo in echoes for data in given.squashed)
    if echoed or (not echoes and _holds_verdict(given, of)):
        raise UnparsedError(_AMBIGUOUS, DATA_HAS_VERDICTS)


def _squashed(text: str) -> str:
    """The letters and digits of a text, which are left where it is laid out anew."""
    return re.sub(r"[\W_]+", "", _folded(text).casefold())


def _folded(text: str) -> str:
    """One form of each character: of full-width ones, and of the digits of all scripts.

    >>> _folded("Ｓcore: ٥")
    'Score: 5'
    """
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", text)
    return re.sub(r"(?![0-9])\d", lambda found: str(unicodedata.decimal(found[0])), plain)


def _holds_verdict(given: _Data, of: Callable[[str], _Value | None]) -> bool:
    """Whether a verdict with its name is anywhere in the data.

    Such as ``"score": 5``, ``score | 5``, ``score -> five``, ``score is 5``, ``a 5-star rating``.
    """
    found = (match.groups() for data in given.plain for match in _INLINE.finditer(data))
    named = (
        f"{name.strip('_').rpartition('_')[2]}: {_DIGITS.get(value.casefold(), value)}"
        for name, value in found
    )
    worded = (
        form.format(match[1])
        for form, pattern in _WORDED
        for data in given.plain
        for match in pattern.finditer(data)
    )
    return any(of(verdict) is not None for verdict in itertools.chain(named, worded))


def refuse_echoed_object(
    value: Mapping[str, Any],
    key: str,
    sections: Sequence[Section],
    of: Callable[[str], float | None],
) -> None:
    """Refuse a JSON object with a verdict (``key``) and no value of its own beside it.

    What else it holds is in the data, in whatever layout and order, as a verdict is, or is made of
    words that are.
    """
    given = _data_of(sections)
    if not _holds_verdict(given, of):
        return
    shown = "\n".join(given.squashed)
    others = [one for name, one in value.items() if name != key]
    forms = [[json.dumps(one, ensure_ascii=a) for a in (True, False)] for one in others]
    if not any(all(_has_own_words(form, shown) for form in either) for either in forms):
        raise UnparsedError(_AMBIGUOUS, DATA_HAS_VERDICTS)


def _has_own_words(text: str, shown: str) -> bool:
    """Whether a text has a word that is not in the data (``shown``, squashed), or many new pairs.

    Of words that are in the data those count which have no neighbour that they have there.
    """
    words = [word for word in map(_squashed, text.split()) if word]
    if "".join(words) in shown:
        return False
    if any(word not in shown for word in words):
        return True
    copied = [one + other in shown for one, other in itertools.pairwise(words)]
    beside = zip(words, [False, *copied], [*copied, False], strict=True)
    return sum(len(word) for word, *either in beside if not any(either)) >= _CONTEXT


def refuse_ranked_data(sections: Sequence[Section], letters: Sequence[str]) -> None:
    """Refuse a ranking where the data has one of the same letters, whichever one and wherever.

    It is the letters with ``>`` between them, a JSON array of them, or a list of them after a word
    such as "Ranking:". An answer that is a ranking has no words that show whose it is.
    """
    one, more = rf"(?<![^\W_])[{''.join(letters)}](?![^\W_])", len(letters) - 1
    above = r"(?:[^\w>=-]|_){0,8}>(?:[^\w>=-]|_){0,8}"  # neither an arrow nor >=
    forms = (
        rf"(?=({one}(?:{above}{one}){{{more}}}))",
        rf"\[(?=(\W{{0,8}}{one}(?:\W{{0,4}},\W{{0,4}}{one}){{{more}}}\W{{0,8}}\]))",
        rf"\b(?:rank|order|verdict|best)[^:=\n]{{0,24}}[:=][\W_]{{0,8}}?"
        rf"(?=({one}(?:[\W_]{{1,8}}?{one}){{{more}}}))",
    )
    wanted = sorted("".join(letters).casefold())
    plain = _data_of(sections).plain
    runs = (run for form in forms for data in plain for run in re.findall(form, data, re.I))
    if any(sorted(_squashed(run)) == wanted for run in runs):
        raise UnparsedError(_AMBIGUOUS, DATA_HAS_VERDICTS)


def is_in_data(text: str, sections: Sequence[Section]) -> bool:
    """Whether the data has the text, whatever the white space."""
    shown = "".join(text.split())
    return any(shown in "".join(data.split()) for data in _data_of(sections).forms)


_PAIRS: Final = frozenset(("[]", "()", "**", "__", '""'))


def unwrapped(line: str) -> str:
    """A line without emphasis, brackets around it and a final period."""
    line = _EMPHASIS.sub(" ", line).strip().lstrip("#").strip().removesuffix(".").rstrip()
    while len(line) > 2 and line[0] + line[-1] in _PAIRS:
        line = line[1:-1].strip()
    return line
