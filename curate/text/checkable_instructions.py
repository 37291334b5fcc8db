r"""Checkable instructions of IFEval: whether a text has so many words, no comma, a title, ...

Instruction-Following Evaluation for Large Language Models, arXiv:2311.07911, table 1, by the names
and arguments of its files. Written for time linear in the text. Where the authors' code asks a
library for what has no sharp definition, ours differs in rare texts: sentences (nltk's punkt there,
a rule here), tokens of which capital words are counted (nltk), and the language (langdetect there,
py3langid here). Keywords are taken as texts, not as patterns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from siftune.curate.text.language_id import langid_model, merged

__all__ = ["INSTRUCTIONS", "follows", "loose_variants", "sentence_count"]

Arguments = Mapping[str, Any]

_WORD: Final = re.compile(r"\w+")
_TOKEN: Final = re.compile(r"[^\W_]+(?:[-.'’&][^\W_]+)*")
_SENTENCE_END: Final = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’)\]*_]*+(?=\s|\Z)|[。！？]++"  # a run of dots is read once
)
_ABBREVIATION: Final = re.compile(
    r"(?i:\b(?:mr|mrs|ms|dr|prof|st|jr|sr|vs|etc|e\.g|i\.e|cf|approx|vol|fig|inc|ltd|co))$"
    r"|\b[A-HJ-Z]$|\b(?:[A-Za-z]\.)+[A-Za-z]$"
)
_READ: Final = 2000  # characters of which the language is read
_HIGHLIGHT: Final = re.compile(r"\*[^\n*]*\*")
_DOUBLE: Final = re.compile(r"\*\*[^\n*]*\*\*")
_DIVIDER: Final = re.compile(r"\s?\*\*\*\s?")
_FENCES: Final = ("```json", "```Json", "```JSON", "```")
_CONSTRAINED: Final = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def follows(instruction: str, arguments: Arguments, text: str) -> bool | None:
    """Whether ``text`` follows an instruction, such as ``punctuation:no_comma``; strict.

    None where there is no such instruction, or an argument is missing or wrong. An empty text
    follows none.

    >>> follows("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "a b")
    False
    """
    check = INSTRUCTIONS.get(instruction)
    given = {key: one for key, one in arguments.items() if one is not None and one == one}
    if check is None:
        return None
    try:
        return check(text, given) and bool(text.strip())
    except (KeyError, TypeError, ValueError, AttributeError):  # of arguments: texts raise none
        return None


def loose_variants(text: str) -> Iterator[str]:
    """The eight texts of the loose accuracy: without first and last line, and without asterisks."""
    lines = text.split("\n")
    cut = (lines, lines[1:], lines[:-1], lines[1:-1])
    for at, part in enumerate(cut):
        whole = "\n".join(part)
        whole = whole.strip() if at else whole
        yield whole
        yield whole.replace("*", "")


def sentence_count(text: str) -> int:
    """The number of sentences: ends with a mark before white space, but not after abbreviations.

    >>> sentence_count("Mr. Smith paid $3.50. Did he? Yes!"), sentence_count("no mark")
    (3, 1)
    """
    count, last = 0, 0
    for found in _SENTENCE_END.finditer(text):
        before = text[max(last, found.start() - 12) : found.start()]
        inside = found[0].startswith(".") and found.end() < len(text)
        if inside and _ABBREVIATION.search(before):
            continue
        count += bool(text[last : found.start()].strip())
        last = found.end()
    return count + bool(_WORD.search(text, last))


def _compared(count: int, relation: str, wanted: float) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(relation)
    return count < wanted if relation == "less than" else count >= wanted


def _number(arguments: Arguments, key: str) -> float:
    return float(arguments[key])


def _times(text: str, word: str) -> int:
    return len(re.findall(re.escape(word.strip()), text, re.IGNORECASE))


def _existence(text: str, given: Arguments) -> bool:
    return all(_times(text, word) for word in _listed(given["keywords"]))


def _listed(words: Any) -> list[str]:
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise TypeError("expected a list of words")
    return list(words)


def _frequency(text: str, given: Arguments) -> bool:
    times = _times(text, given["keyword"])
    return _compared(times, given["relation"], _number(given, "frequency"))


def _forbidden(text: str, given: Arguments) -> bool:
    whole = (rf"(?<!\w){re.escape(word)}(?!\w)" for word in _listed(given["forbidden_words"]))
    return not any(re.search(word, text, re.IGNORECASE) for word in whole)


def _letter(text: str, given: Arguments) -> bool:
    letter = given["letter"].strip().lower()
    if len(letter) != 1:
        raise ValueError(letter)
    times = text.lower().count(letter)
    return _compared(times, given["let_relation"], _number(given, "let_frequency"))


def _language(text: str, given: Arguments) -> bool:
    return _is_in(text, given["language"])


def _is_in(text: str, wanted: str) -> bool:
    if not isinstance(wanted, str):
        raise TypeError(wanted)
    if not any(char.isalpha() for char in text):  # no language: it counts, as the authors say
        return True
    code = merged(langid_model().rank(text[:_READ]))[0][0]
    return bool(code == wanted.lower().partition("-")[0])


def _sentences(text: str, given: Arguments) -> bool:
    return _compared(sentence_count(text), given["relation"], _number(given, "num_sentences"))


def _paragraphs(text: str, given: Arguments) -> bool:
    parts = [part.strip() for part in _DIVIDER.split(text)]
    right = sum(map(bool, parts)) == _number(given, "num_paragraphs")
    return right and all(parts[1:-1])  # only the first and the last may be empty


def _words(text: str, given: Arguments) -> bool:
    count = len(_WORD.findall(text))
    return _compared(count, given["relation"], _number(given, "num_words"))


def _first_word(text: str, given: Arguments) -> bool:
    """The n-th paragraph begins with a word, and there are so many; blank lines divide them."""
    paragraphs = text.split("\n\n")
    count = sum(bool(part.strip()) for part in paragraphs)
    nth, wanted = int(given["nth_paragraph"]), _number(given, "num_paragraphs")
    begins = given["first_word"].lower()
    if nth < 1 or nth > count or not paragraphs[nth - 1].strip():
        return False
    first = paragraphs[nth - 1].split()[0].lstrip("'").lstrip('"')
    word = re.split(r"[.,?!'\"]", first)[0].lower()
    return count == wanted and word == begins


def _placeholders(text: str, given: Arguments) -> bool:
    count = 0
    for line in text.split("\n"):
        at = 0
        while (start := line.find("[", at)) >= 0 and (end := line.find("]", start)) >= 0:
            count, at = count + 1, end + 1
    return count >= _number(given, "num_placeholders")


def _postscript(text: str, given: Arguments) -> bool:
    marker = given["postscript_marker"].strip().lower()
    known = {"p.p.s": r"p\.\s?p\.\s?s", "p.s.": r"p\.\s?s\."}
    return re.search(known.get(marker, re.escape(marker)), text.lower()) is not None


def _bullets(text: str, given: Arguments) -> bool:
    lines = [line.strip() for line in text.split("\n")]
    count = sum(
        line.startswith("-") or (line[:1] == "*" and line[1:2] not in ("", "*")) for line in lines
    )
    return count == _number(given, "num_bullets")


def _constrained(text: str, _: Arguments) -> bool:
    return any(option in text for option in _CONSTRAINED)


def _highlights(text: str, given: Arguments) -> bool:
    single = sum(bool(one.strip("*").strip()) for one in _HIGHLIGHT.findall(text))
    double = sum(bool(one[2:-2].strip()) for one in _DOUBLE.findall(text))
    return single + double >= _number(given, "num_highlights")


def _sections(text: str, given: Arguments) -> bool:
    splitter = re.escape(given["section_spliter"].strip())  # spelled so in the files
    return len(re.findall(rf"{splitter}\s?\d+", text)) >= _number(given, "num_sections")


def _json(text: str, _: Arguments) -> bool:
    inner = text.strip()
    for fence in _FENCES:
        inner = inner.removeprefix(fence)
    try:
        json.loads(inner.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _: Arguments) -> bool:
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if start >= 0 and line[start + 2 : end].strip("<> \t") and end > start:
            return True
    return False


def _two_responses(text: str, _: Arguments) -> bool:
    parts = [part.strip() for part in text.split("******")]
    if not all(parts[1:-1]):
        return False
    said = [part for part in parts if part]
    return len(said) == 2 and said[0] != said[1]


def _repeat(text: str, given: Arguments) -> bool:
    return text.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def _end(text: str, given: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def _quotation(text: str, _: Arguments) -> bool:
    inner = text.strip()
    return len(inner) > 1 and inner[0] == inner[-1] == '"'


def _capital_words(text: str, given: Arguments) -> bool:
    count = sum(token.isupper() for token in _TOKEN.findall(text))
    return _compared(count, given["capital_relation"], _number(given, "capital_frequency"))


def _all_capital(text: str, _: Arguments) -> bool:
    return text.isupper() and _is_in(text.lower(), "en")  # capitals are no part of the model


def _all_lower(text: str, _: Arguments) -> bool:
    return text.islower() and _is_in(text, "en")


def _no_comma(text: str, _: Arguments) -> bool:
    return "," not in text


INSTRUCTIONS: Final[Mapping[str, Callable[[str, Arguments], bool]]] = {
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _all_capital,
    "change_case:english_lowercase": _all_lower,
    "combination:repeat_prompt": _repeat,
    "combination:two_responses": _two_responses,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:json_format": _json,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": _title,
    "keywords:existence": _existence,
    "keywords:forbidden_words": _forbidden,
    "keywords:frequency": _frequency,
    "keywords:letter_frequency": _letter,
    "language:response_language": _language,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_words": _words,
    "punctuation:no_comma": _no_comma,
    "startend:end_checker": _end,
    "startend:quotation": _quotation,
}
"""The 25 instructions by their names in the files of IFEval."""
