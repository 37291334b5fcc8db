"""What a field could be, by the words of its key and by its value: question, answer or picture."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["could_answer", "could_ask", "is_picture", "map_flag", "of_role", "words"]

_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ROLES: Final[Mapping[str, frozenset[str]]] = {
    "question": _set(
        "question questions query instruction instructions prompt problem input ask user human "
        "request exercise"
    ),
    "answer": _set(
        "answer answers response responses output outputs completion completions reply replies "
        "solution solutions target targets assistant gpt bot summary translation"
    ),
    "chosen": _set("chosen better preferred accepted winner win good positive pos j"),
    "rejected": _set("rejected worse dispreferred loser lose bad negative neg k"),
    "context": _set("context passage document story article paragraph table premise"),
    "choices": _set("choice choices option options ending endings hypothesis"),
    "picture": _set(
        "image images img imgs picture pictures photo photos pixel pixels audio audios video "
        "videos speech wav"
    ),
}
_FACTS: Final = _set(
    "id ids uid uuid qid hash sha url urls link model models generator annotator judge author "
    "date time timestamp tstamp created rating ratings score scores margin rank split index "
    "status meta metadata version count length tokens label labels license licence language lang "
    "rationale feedback critique"
)
"""Words of keys whose values are facts about a row, never its question."""
_SUBJECTS: Final = _set(
    "source dataset origin category subcategory cluster topic task type kind tag tags subject "
    "title name domain level difficulty subset ability style"
)
"""Words of keys whose values are facts about a row where they are short."""
_SIDES: Final = frozenset({"chosen", "rejected"})
_SHORT: Final = 4  # words from which on a title or a task may be a question
_MEDIA: Final = re.compile(
    r"\.(png|jpe?g|webp|gif|bmp|tiff?|svg|wav|mp3|flac|ogg|m4a|mp4|avi|mov|mkv|webm)(\?.*)?\Z", re.I
)


def words(key: str) -> frozenset[str]:
    """The words of a key, in lower case.

    >>> sorted(words("human_ref_A")), sorted(words("isResponse0Safe"))
    (['a', 'human', 'ref'], ['0', 'is', 'response', 'safe'])
    """
    return frozenset(word.lower() for word in _WORDS.findall(key))


def of_role(role: str, keys: Iterable[str]) -> list[str]:
    """The keys that a word of ``role`` is in, those that are nothing but that word first."""
    found = [key for key in keys if words(key) & _ROLES[role]]
    return sorted(found, key=lambda key: len(words(key)))


def map_flag(key: str, name: str) -> str:
    """The option that renames ``key``, as a shell takes it; no control character is shown.

    >>> map_flag("ask", "prompt"), map_flag("the question", "prompt")
    ('--map ask=prompt', "--map 'the question=prompt'")
    """
    text = f"{key}={name}"
    return f"--map {shlex.quote(text if text.isprintable() else ascii(text)[1:-1])}"


def could_answer(key: str, value: Any) -> bool:
    """Whether a field could be the answer to a text beside it."""
    if value is None or value == "":
        return False
    if type(value) in (str, list, dict):
        return bool(words(key) & (_ROLES["answer"] | _SIDES)) and not words(key) & _FACTS
    return type(value) in (int, float) and key.lower() in _ROLES["answer"]


def could_ask(key: str, value: Any) -> bool:
    """Whether a field could be the question that two answers beside it were given to."""
    named = words(key)
    if type(value) is list:
        return bool(value) and type(value[0]) is dict and bool({"role", "from"} & value[0].keys())
    if (
        type(value) is not str
        or not value.strip()
        or named & (_FACTS | _SIDES)
        or _is_number(value)
    ):
        return False
    long = len(value.split()) >= _SHORT or value.rstrip().endswith(("?", "？"))
    return long or not named & _SUBJECTS


def is_picture(key: str, value: Any) -> bool:
    """Whether a field holds or names an image, a sound or a film."""
    if type(value) is str and _MEDIA.search(value):
        return True
    return bool(value) and type(value) in (str, list, dict) and bool(words(key) & _ROLES["picture"])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
