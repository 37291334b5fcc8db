"""Field names: which keys and values may be a question, an answer, a picture or a fact."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

__all__ = [
    "ANSWER_WORDS",
    "CONTEXT_WORDS",
    "PICTURE_KEYS",
    "QUESTION_WORDS",
    "could_answer",
    "could_ask",
    "is_answer",
    "is_context",
    "is_datum",
    "is_fact",
    "is_picture",
    "is_question",
    "keys_with",
    "map_flag",
    "names_picture",
    "of_role",
    "question_text",
    "words",
]

_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ROLES: Final[Mapping[str, frozenset[str]]] = {
    "question": _set(
        "question questions query queries instruction instructions prompt prompts problem input "
        "inputs ask user human "
        "request exercise"
    ),
    "answer": _set(
        "answer answers response responses output outputs completion completions reply replies "
        "solution solutions target targets assistant gpt bot summary summaries translation "
        "highlight highlights caption captions headline abstract tldr"
    ),
    "chosen": _set("chosen better preferred accepted winner win good positive pos j"),
    "rejected": _set("rejected worse dispreferred loser lose bad negative neg k"),
    "context": _set(
        "context contexts passage passages document documents story article articles paragraph "
        "paragraphs table premise background evidence snippet snippets"
    ),
    "choices": _set("choice choices option options ending endings hypothesis"),
    "picture": _set(
        "image images img imgs picture pictures photo photos pixel pixels audio audios video "
        "videos speech wav"
    ),
}
QUESTION_WORDS: Final = _ROLES["question"]
CONTEXT_WORDS: Final = _ROLES["context"]
ANSWER_WORDS: Final = _ROLES["answer"]
_HOLDERS: Final = _set("path paths file files filename url urls uri bytes data base64 b64")
"""Last words of keys whose values contain or name what comes before: ``image_path``."""
_FACTS: Final = _set(
    "id ids uid uuid qid hash sha url urls link model models generator annotator annotators judge "
    "author date time timestamp tstamp created rating ratings score scores margin rank split index "
    "status meta metadata version count length size tokens label labels license licence language "
    "lang rationale feedback critique valid correct quality file files filename path"
)
"""Words of keys whose values are facts about a row, never its question."""
_OF_FACTS: Final = _set("meta is has num")
"""First words of such keys: ``meta_input``, ``is_response_safe``."""
_CATEGORIES: Final = _set(
    "source dataset origin category subcategory cluster type kind tag tags name domain level "
    "difficulty subset ability style"
)
"""Words of keys whose values are facts about a row where they are short."""
_TOPICS: Final = _set("topic task title subject")
"""Words of keys whose values are facts about a row where they are one word."""
_SIDES: Final = frozenset({"chosen", "rejected"})
_SHORT: Final = 4  # words from which on a category or a source may be a question
_PLAIN_HEADS: Final = _set("text texts content contents str string body")
"""Last words of keys that mean the same as what comes before: ``context_text``."""
_DATUM: Final = re.compile(
    r"(https?://|www\.)\S+|\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T ]\d{1,2}:\d{2}\S*)?( ?UTC)?"
    r"|(?=\S*\d)[0-9a-f-]{8,}|\w+(_\w+)+|[\w.-]+/[\w.-]+|(?=\S*\d)(?=\S*[a-z])[\w.]+(-[\w.]+)+"
    r"|\S+\.(pdf|txt|jsonl?|html?|md|csv|parquet|docx?)|true|false|yes|no|none|null|n/a",
    re.I,
)
"""Texts that are an address, a date, a file or an identifier."""
_MEDIA: Final = re.compile(
    r"\.(png|jpe?g|webp|gif|bmp|tiff?|svg|wav|mp3|flac|ogg|m4a|mp4|avi|mov|mkv|webm)(\?.*)?\Z", re.I
)


def words(key: str) -> frozenset[str]:
    """The words of a key, in lower case.

    >>> sorted(words("human_ref_A")), sorted(words("isResponse0Safe"))
    (['a', 'human', 'ref'], ['0', 'is', 'response', 'safe'])
    """
    return frozenset(_in_order(key))


def _in_order(key: str) -> tuple[str, ...]:
    """The words of a key in their order, cached: all rows of a file have the same keys."""
    return _known_in_order(key) if len(key) <= _LONGEST_KNOWN else _split(key)


_LONGEST_KNOWN: Final = 64


@lru_cache(maxsize=1 << 16)
def _known_in_order(key: str) -> tuple[str, ...]:
    return _split(key)


def _split(key: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORDS.findall(key))


def is_fact(key: str) -> bool:
    """Whether a key names a fact about a row: by its last word, or another where that is unclear.

    >>> [key for key in ("model_input", "input_model", "prompt_id", "meta_ask") if is_fact(key)]
    ['input_model', 'prompt_id', 'meta_ask']
    """
    named = [word for word in _in_order(key) if not word.isdigit()]
    if not named or named[0] in _OF_FACTS:
        return bool(named)
    roles = _ROLES["question"] | _ROLES["answer"] | _ROLES["context"]
    return named[-1] not in roles and bool({*named} & _FACTS)


def is_question(key: str) -> bool:
    """Whether a key is a name of a question and nothing else: no ``original_question``.

    >>> is_question("Question"), is_question("user_prompt"), is_question("original_question")
    (True, True, False)
    """
    return bool(words(key)) and words(key) <= _ROLES["question"]


def is_answer(key: str) -> bool:
    """Whether a key is a name of an answer and nothing else: no ``reference_answer``."""
    return bool(words(key)) and words(key) <= _ROLES["answer"]


def is_context(key: str) -> bool:
    """Whether a key names the context of a question.

    >>> is_context("source_document"), is_context("context_text"), is_context("context_length")
    (True, True, False)
    """
    named = [word for word in _in_order(key) if not word.isdigit()]
    while len(named) > 1 and named[-1] in _PLAIN_HEADS:
        named.pop()
    return bool(named) and named[-1] in _ROLES["context"] and named[0] not in _OF_FACTS


def of_role(role: str, keys: Iterable[str]) -> list[str]:
    """The keys with a word of ``role``, those of that word alone first."""
    found = [key for key in keys if words(key) & _ROLES[role]]
    return sorted(found, key=lambda key: len(words(key)))


def map_flag(key: str, name: str) -> str:
    """The option that renames ``key``, quoted for a shell, without control characters.

    >>> map_flag("ask", "prompt"), map_flag("the question", "prompt")
    ('--map ask=prompt', "--map 'the question=prompt'")
    """
    text = f"{key}={name}"
    return f"--map {shlex.quote(text if text.isprintable() else ascii(text)[1:-1])}"


def keys_with(found: Iterable[str]) -> str:
    """A pattern of JSON text in which a key may contain one of some words."""
    return rf'(?i)({"|".join(sorted(found))})[^"\\]*":'


PICTURE_KEYS: Final = keys_with(_ROLES["picture"])
"""Pattern of JSON with a key that `names_picture` may mean."""


def could_answer(key: str, value: Any) -> bool:
    """Whether a field could be the answer to a text beside it."""
    if value is None or value == "":
        return False
    if type(value) in (str, list, dict):
        return bool(words(key) & (_ROLES["answer"] | _SIDES)) and not is_fact(key)
    return type(value) in (int, float) and key.lower() in _ROLES["answer"]


def could_ask(key: str, value: Any) -> bool:
    """Whether a field could be the question of two answers in the same record.

    A text could, unless its key or its value is that of a fact; so could turns, a list of texts,
    and an object with such a text. Of an object of facts only a field named as a question could.
    """
    named = words(key)
    if named & _SIDES and not is_question(key):
        return False
    if type(value) is list:
        return any(could_ask(key, item) for item in value)
    if is_fact(key):
        own = value.items() if type(value) is dict and not _is_renamed(key) else ()
        return any(is_question(inner) and could_ask(inner, item) for inner, item in own)
    if type(value) is dict:
        turn = bool({"role", "from"} & value.keys())
        return turn or any(could_ask(inner, item) for inner, item in value.items())
    return type(value) is str and not is_datum(value) and _is_long_enough(key, value)


def _is_renamed(key: str) -> bool:
    """Whether a key is one that `map_flag` advises for a fact: ``meta_`` and its old name."""
    return key.startswith("meta_")


def _is_long_enough(key: str, text: str) -> bool:
    """Whether a text is more than the name of a category or a topic, where its key is one."""
    named, count = words(key), len(text.split())
    if text.rstrip().endswith(("?", "？")):
        return True
    return count >= (_SHORT if named & _CATEGORIES else 2 if named & _TOPICS else 1)


def question_text(value: Any) -> str | None:
    """The one text of a question: a text, a list of one, or an object of which one could ask.

    >>> question_text(["Why?"]), question_text({"full_text": "Why?", "id": "a1"})
    ('Why?', 'Why?')
    >>> question_text({"post": "A story.", "title": "Its title"})
    """
    if type(value) is str:
        return value if value.strip() else None
    if type(value) is list:
        return question_text(value[0]) if len(value) == 1 else None
    if type(value) is not dict or {"role", "from"} & value.keys():
        return None
    texts = [item for inner, item in value.items() if could_ask(inner, item)]
    return question_text(texts[0]) if len(texts) == 1 else None


def is_picture(key: str, value: Any) -> bool:
    """Whether a field contains or names an image, a sound or a film."""
    if type(value) is str and _MEDIA.search(value):
        return True
    return bool(value) and type(value) in (str, list, dict) and bool(words(key) & _ROLES["picture"])


def names_picture(key: str, value: Any) -> bool:
    """Whether a key is a name of an image, a sound or a film, and its value is one or names one.

    >>> names_picture("image_path", "a.png"), names_picture("image_caption", "A red cat.")
    (True, False)
    """
    named = [word for word in _in_order(key) if not word.isdigit()]
    while len(named) > 1 and named[-1] in _HOLDERS:
        named.pop()
    if not named or named[-1] not in _ROLES["picture"] or named[0] in _OF_FACTS:
        return False
    if type(value) is str:
        return bool(value.strip()) and len(value.split()) == 1
    return bool(value) and isinstance(value, bytes | list | dict)


def is_datum(text: str) -> bool:
    """Whether a text is empty, a number, an address, a date, a file or an identifier.

    >>> [text for text in ("Go.", "2024-01-31", "org/model-7b", "web_qa", "1e3") if is_datum(text)]
    ['2024-01-31', 'org/model-7b', 'web_qa', '1e3']
    """
    text = text.strip()
    if not text or _DATUM.fullmatch(text):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
