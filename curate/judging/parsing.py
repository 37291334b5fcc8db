"""Strict parsers of a judge's answers: scores, labels, rankings and JSON, never a default."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol, TypeVar

from siftune.curate.judge_calls.echoes import (
    LONGEST_VERDICT,
    Where,
    is_in_data,
    own_text,
    refuse_ambiguous,
    refuse_echo,
    refuse_echoed_object,
    refuse_ranked_data,
    unwrapped,
)
from siftune.curate.judge_calls.fence import FRAME, Section, as_far_as_shown
from siftune.curate.judge_calls.types import Answer, UnparsedError

__all__ = [
    "Asked",
    "Where",
    "distribution",
    "expected_score",
    "json_value",
    "label",
    "own_text",
    "prose",
    "ranking",
    "score",
    "text",
]


_Value = TypeVar("_Value", float, str)


class Asked(Protocol):
    """What a parser needs of a question; a `Question` or a `Prompt`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that were asked for."""

    @property
    def max_tokens(self) -> int:
        """The limit of the answer."""


_NUMBER: Final = r"[+-]?\d{1,6}(?:\.\d{1,6})?"
_SCORE_LINE: Final = re.compile(
    r"(?:(?P<label>(?:[a-z]+[ ])?(?:score|rating))\s{0,3}[:=]\s{0,3})?"
    rf"(?P<value>{_NUMBER})(?:\s{{0,3}}(?:/|out of)\s{{0,3}}(?P<high>\d{{1,6}}))?",
    re.IGNORECASE | re.ASCII,
)
_LABEL_LINE: Final = re.compile(
    r"(?:(?:[a-z]+[ ])?(?:verdict|answer|choice|label|class|preference)\s{0,3}:\s{0,3})?"
    r"(?P<value>[^:]{1,40})",
    re.IGNORECASE | re.ASCII,
)
_CODE_FENCE: Final = re.compile(r"```[a-z]{0,10}[ \t]*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
_REFUSAL: Final = re.compile(
    r"(?i)\W{0,3}(?:i['’]?m sorry|i am sorry|sorry,|i can(?:no|['’])t|i can not|i am unable"
    r"|i['’]m unable|i won['’]t|as an ai\b)"
)


def text(asked: Asked, answer: Answer, *, complete: bool = True) -> str:
    """The text of an answer, without surrounding space.

    Raises:
        UnparsedError: it is empty or, where it has to be ``complete``, was cut at the limit of
            tokens.
    """
    found = (answer.text or "").strip()
    if not found:
        raise UnparsedError("expected an answer, got an empty text")
    if complete and answer.truncated:
        raise UnparsedError(f"expected an answer of at most {asked.max_tokens} tokens", "cut")
    return found


def _shown(asked: Asked, sections: Sequence[Section]) -> list[Section]:
    """The data as far as the judge was shown it, which is all that it can repeat."""
    return as_far_as_shown(sections, getattr(asked, "max_chars", None))


def distribution(asked: Asked, answer: Answer) -> Mapping[str, float] | None:
    """The probabilities of the question's labels, None where the answer is a text.

    Raises:
        UnparsedError: a label has none, or they are no probabilities that sum to 1.
    """
    given = answer.probabilities
    if given is None:
        return None
    missing = [name for name in asked.labels if name not in given]
    if missing or not asked.labels:
        raise UnparsedError(f"expected probabilities of {_listed(asked.labels)}")
    values = [given[name] for name in asked.labels]
    if not all(-1e-6 <= value <= 1 + 1e-6 for value in values):
        raise UnparsedError("expected probabilities between 0 and 1", "out_of_range")
    if abs(math.fsum(values) - 1) > 1e-3:
        raise UnparsedError("expected probabilities that sum to 1", "out_of_range")
    return {name: float(given[name]) for name in asked.labels}


def expected_score(probabilities: Mapping[str, float]) -> float:
    """The mean of numeric labels: ``sum of k * p_k``.

    >>> round(expected_score({"1": 0.25, "2": 0.75}), 4)
    1.75
    """
    return math.fsum(float(name) * value for name, value in probabilities.items())


def score(
    asked: Asked,
    answer: Answer,
    sections: Sequence[Section],
    low: float,
    high: float,
    where: Where,
    *,
    whole: bool = False,
) -> float:
    """The score that an answer gives, from ``low`` to ``high``.

    Probabilities of the labels give their mean. A text gives the number of its verdict line: a
    number, or ``Score: number``, also ``4/5`` where 5 is the highest; as a last line only with its
    label. A JSON object with one ``score`` or ``rating`` counts, too.

    Raises:
        UnparsedError: there is no such line where it has to be, several contradict each other, the
            number is out of range, or (``whole``) is no whole number.
    """
    probabilities = distribution(asked, answer)
    if probabilities is not None:
        return expected_score(probabilities)
    expected = f"a line 'Score: k' with {'a whole' if whole else 'a'} number {low:g} to {high:g}"
    sections = _shown(asked, sections)
    whole_text = text(asked, answer, complete=where != "first")

    def of(line: str) -> float | None:
        return _score_of(line, high, where)

    def valid(line: str) -> float | None:
        found = of(line)
        return found if found is not None and low <= found <= high else None

    refuse_ambiguous(whole_text, sections, valid)
    own = own_text(whole_text, sections)
    if own.startswith(("{", "```")):
        value = _json_score(own, expected, sections, valid)
    else:
        refuse_echo(whole_text, sections, valid, where)
        value = _verdict(own, where, of, expected)
    if not low <= value <= high:
        raise UnparsedError(f"expected {expected}, got a number out of range", "out_of_range")
    if whole and value != int(value):
        raise UnparsedError(f"expected {expected}, got a fraction", "out_of_range")
    return value


def _score_of(line: str, high: float, where: Where) -> float | None:
    found = _SCORE_LINE.fullmatch(line)
    if not found or (where == "last" and not found["label"]):
        return None
    if found["high"] and float(found["high"]) != high:
        return math.inf  # out of another scale
    return float(found["value"])


def _json_score(
    own: str, expected: str, sections: Sequence[Section], of: Callable[[str], float | None]
) -> float:
    value = json_value(own, f"{expected}, or a JSON object with a score")
    keys = [key for key in ("score", "rating") if isinstance(value, dict) and key in value]
    number = value[keys[0]] if len(keys) == 1 else None
    if len(keys) == 1:
        refuse_echoed_object(value, keys[0], sections, of)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise UnparsedError(f"expected {expected}, or a JSON object with one number 'score'")
    return float(number) if abs(number) < 1e6 else math.inf


def label(
    asked: Asked,
    answer: Answer,
    sections: Sequence[Section],
    where: Where,
    spellings: Mapping[str, str] | None = None,
) -> str:
    """The label that a text gives, one of the question's or of ``spellings`` (word to label).

    The verdict line is the label alone, or ``Verdict: label``, in any case, brackets or emphasis.

    Raises:
        UnparsedError: there is no such line where it has to be, or several contradict each other.
    """
    known = {name.casefold(): name for name in asked.labels}
    known |= {word.casefold(): name for word, name in (spellings or {}).items()}
    sections = _shown(asked, sections)
    whole_text = text(asked, answer, complete=where != "first")

    def of(line: str) -> str | None:
        found = _LABEL_LINE.fullmatch(line)
        if not found or (where == "last" and ":" not in line):
            return None
        return known.get(unwrapped(found["value"]).casefold())

    refuse_ambiguous(whole_text, sections, of)
    refuse_echo(whole_text, sections, of, where, known)
    own = own_text(whole_text, sections)
    return _verdict(own, where, of, f"a line with one of {_listed(known.values())}")


def _verdict(own: str, where: Where, of: Callable[[str], _Value | None], expected: str) -> _Value:
    """The value of the only verdict line, or of several that agree."""
    lines = [line for line in own.split("\n") if line.strip()]
    values = [of(unwrapped(line)) if len(line) <= LONGEST_VERDICT else None for line in lines]
    found = {value for value in values if value is not None}
    if not found:
        _refuse(own, expected)
    if len(found) > 1:
        raise UnparsedError(f"expected {expected}, got {len(found)} that contradict each other")
    if where == "alone" and None in values:
        raise UnparsedError(f"expected {expected} and nothing else")
    if values[0 if where == "first" else -1] is None:
        raise UnparsedError(f"expected {expected} as the {where} line")
    return found.pop()


def ranking(
    asked: Asked, answer: Answer, sections: Sequence[Section], letters: Sequence[str]
) -> tuple[str, ...]:
    """All ``letters``, best first, from a line such as ``B > A > C`` or a JSON array of them.

    Raises:
        UnparsedError: there is no such line, a letter is missing, unknown or given twice, or the
            data has a ranking, too.
    """
    expected = f"a ranking of {_listed(letters)}, each once, as in {' > '.join(letters)}"
    sections = _shown(asked, sections)
    own = own_text(text(asked, answer), sections)

    def of(line: str) -> str | None:
        names = [unwrapped(part).upper() for part in line.rpartition(":")[2].split(">")]
        return " ".join(names) if len(names) == len(letters) else None

    if own.startswith(("[", "```")):
        found = json_value(own, expected, sections)
    else:
        found = _verdict(own, "alone", of, expected).split(" ")
    if not isinstance(found, list) or sorted(map(str, found)) != sorted(letters):
        raise UnparsedError(f"expected {expected}")
    refuse_ranked_data(sections, letters)
    return tuple(map(str, found))


_MARK: Final = re.compile(
    "|".join((r"\[(?:BEGIN|END) [^\]\n]{1,40} [0-9a-f]{16}\]", *map(re.escape, FRAME)))
)


def prose(asked: Asked, answer: Answer, *, complete: bool = True) -> str:
    """The text of an answer that is wanted as it is, such as a revision.

    Raises:
        UnparsedError: it is empty, repeats marks or sentences around the data, as small models do,
            or, where it has to be ``complete``, was cut at the limit of tokens.
    """
    found = text(asked, answer, complete=complete)
    if _MARK.search(found):
        raise UnparsedError("expected a text without the marks around the data")
    return found


def _refuse(own: str, expected: str) -> NoReturn:
    if _REFUSAL.match(own):
        raise UnparsedError(f"expected {expected}, got a refusal", "refused")
    raise UnparsedError(f"expected {expected}, got none")


def json_value(own: str, expected: str, sections: Sequence[Section] = ()) -> Any:
    """The one JSON object or array that an answer is, in a code fence or not.

    Raises:
        UnparsedError: text around it, a truncated value, NaN or infinity, a key given twice, or it
            is in the data (``sections``), in whatever layout.
    """
    whole = _CODE_FENCE.fullmatch(own.strip())
    try:
        value = json.loads(
            whole[1] if whole else own, object_pairs_hook=_once, parse_constant=_no_constant
        )
        if "\\u" in own:  # an escape may be half a character, which no column holds
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        _refuse(own, f"{expected} and nothing else")
    if not isinstance(value, dict | list):
        raise UnparsedError(f"expected {expected}")
    if value and is_in_data(json.dumps(value, ensure_ascii=False), sections):
        raise UnparsedError(f"expected {expected} that is not in the data")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
