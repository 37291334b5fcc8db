"""Items of benchmark files in any layout: the question, the choices and the answer of each.

A file that is rows of a known format is read as such. In any other one, the questions are found by
the names of the keys (`question`, `problem`, `goal`, …), also in objects and lists inside a record
(``{"doc": {"question": …}}``, ``{"data": [{"paragraphs": [{"qas": […]}]}]}``), each turn of several
is a question, and choices are a list, an object with a list ``text``, or keys such as ``A`` to
``D``. Of a folder every file may have another layout. A question with choices is an item with and
without them; one that several records have (*Which of these is true?*) only with them. A table
without a head, such as MMLU's, has the question in its first column; of a ``.txt`` each line is an
item. Where no key of a file is known, the longest text of each record is taken, and a line says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import polars as pl

from siftune.curate.core.errors import BadRow, DataError
from siftune.curate.core.progress import announce
from siftune.curate.dedup.reference_rows import read_reference
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.io.file_part import Part
from siftune.curate.io.source_parts import expand, name_parts
from siftune.curate.rows.chat import text_of

__all__ = ["ITEM", "check_items", "read_items"]

ITEM: Final[Mapping[str, type[pl.DataType]]] = {
    "id": pl.String,
    "prompt": pl.String,
    "response": pl.String,
    "with_choices": pl.String,
}
_LOOKED_AT: Final = 50  # records of a file, by which it is checked
_FEW: Final = 3  # words: a question of fewer is taken only if there is no other text
_SENTENCE: Final = 5  # words: a key of so many is no name, a text of so many may be a question

# Keys in small letters without signs; the first ones first.
_QUESTIONS: Final = (
    *("question", "problem", "prompt", "instruction", "query", "goal", "stem", "turns"),
    *("problemstatement", "questiontext", "questionstem"),
)
_TEXTS: Final = (  # a question only if no object inside the record has one
    *("ctx", "premise", "sentence", "input", "task", "text", "story", "content", "context"),
    *("statement", "claim", "sentence1", "ctxa", "startphrase", "title"),
)
_ANSWERS: Final = (
    *("answer", "solution", "output", "response", "completion", "target", "canonicalsolution"),
    *("bestanswer", "rationale", "explanation", "code", "chosen", "referenceanswer"),
)
_CHOICES: Final = ("choices", "options", "endings", "candidates", "answerchoices")
_LETTERED: Final = re.compile(r"(?:[a-j]|(?:option|choice|sol|ending|answer)[a-j0-9])")

_Texts: TypeAlias = Mapping[str, Any]


class _Item(NamedTuple):
    prompt: str
    response: str | None
    choices: tuple[str, ...]


def read_items(against: SourceOption) -> tuple[pl.DataFrame, int]:
    """The items (columns `ITEM`), and the number of records that have no question.

    Raises:
        UsageError: an unknown format.
        DataError: it cannot be read, or no record has a question.
    """
    given = SourceSpec.of(against, "against")
    try:
        table, bad = read_reference(against)
    except DataError as error:
        if given.format is not None or given.map:
            raise
        return _of_any_layout(given.path, error)
    columns = {part: text_of(table, part).cast(pl.String) for part in ("prompt", "response")}
    items = pl.DataFrame({"id": table["id"].cast(pl.String), **columns})
    # of a document the text is what is searched for, as a prompt is
    return items.select(
        "id",
        pl.coalesce("prompt", "response").alias("prompt"),
        pl.when(pl.col("prompt").is_not_null()).then("response").alias("response"),
        with_choices=pl.lit(None, pl.String),
    ), len(bad)


def check_items(against: SourceOption) -> None:
    """Check that the first records of a benchmark file can be read.

    Raises:
        UsageError: an unknown format.
        DataError: they cannot be read, or have no question.
    """
    from siftune.curate.dedup.reference_rows import reference_schema

    given = SourceSpec.of(against, "against")
    try:
        reference_schema(against)
    except DataError as error:
        if given.format is not None or given.map:
            raise
        _of_any_layout(given.path, error, most=_LOOKED_AT)


def _of_any_layout(
    path: str, error: DataError, most: int | None = None
) -> tuple[pl.DataFrame, int]:
    """The items of files in unknown layouts, of the first ``most`` records of each.

    Raises:
        DataError: ``error``, of reading them in known formats: they have no question.
    """
    if Path(path).suffix.lower() == ".txt" and Path(path).is_file():
        return _of_lines(Path(path), error)
    rows: list[tuple[str, _Item]] = []
    unread = 0
    parts = expand(path)
    for name, part in zip(name_parts(parts), parts, strict=True):
        found, without = _of_part(part, most)
        unread += without
        rows += [(f"{name}:{number}", one) for number, one in found]
    if not rows:
        raise error
    return pl.DataFrame(_columns(rows), schema=ITEM), unread


def _of_lines(path: Path, error: DataError) -> tuple[pl.DataFrame, int]:
    """The lines of a text."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    rows = [
        (f"{path.stem}:{number}", _Item(line.strip(), None, ()))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not rows:
        raise error
    return pl.DataFrame(_columns(rows), schema=ITEM), 0


def _of_part(part: Part, most: int | None) -> tuple[list[tuple[str, _Item]], int]:
    """The items of a file with their numbers, and how many records have none."""
    named: list[tuple[str, _Item]] = []
    guessed: list[tuple[str, _Item]] = []
    unnamed = unguessed = 0
    for number, raw in part.records():
        if most is not None and number > most:
            break
        found = [] if isinstance(raw, BadRow) else [*_items_in(raw)]
        unnamed += not found
        ends = [""] if len(found) == 1 else [f".{at}" for at in range(1, len(found) + 1)]
        named += [(f"{number}{end}", one) for end, one in zip(ends, found, strict=True)]
        texts = [*_guessed(raw, number == 1)] if not named else []
        unguessed += not texts
        guessed += [(f"{number}{end}", one) for end, one in texts]
    if named or not guessed:
        return named, unnamed
    if most is None:
        announce(f"{part.shown}: no key of a question is known; the longest text of each is taken")
    return guessed, unguessed


def _guessed(record: Any, first: bool) -> Iterator[tuple[str, _Item]]:
    """The longest text of a record without a known key; of a table without a head its columns."""
    if not isinstance(record, Mapping):
        return
    if any(len(str(key).split()) >= _SENTENCE for key in record):  # its first row was read as keys
        rows = {".head": [*map(str, record)]} if first else {}
        for end, (asked, *choices) in {**rows, "": [*map(str, record.values())]}.items():
            yield end, _Item(asked, None, tuple(choices))
        return
    longest = max(
        (text for value in record.values() for text in _texts_of(value)), key=len, default=""
    )
    if len(longest.split()) >= _SENTENCE:
        yield "", _Item(longest, None, ())


def _columns(rows: Sequence[tuple[str, _Item]]) -> dict[str, list[str | None]]:
    asked = Counter(item.prompt.casefold() for _, item in rows if item.choices)
    found: dict[str, list[str | None]] = {name: [] for name in ITEM}
    for row, item in rows:
        own = not item.choices or asked[item.prompt.casefold()] == 1
        found["id"].append(row)
        found["prompt"].append(item.prompt if own else None)
        found["response"].append(item.response)
        whole = "\n".join([item.prompt, *item.choices]) if item.choices else None
        found["with_choices"].append(whole)
    return found


def _items_in(record: Any) -> Iterator[_Item]:
    """The items of a record, or of the objects in it."""
    if not isinstance(record, Mapping):
        return
    texts = {_plain(key): value for key, value in record.items()}
    asked = _first(texts, _QUESTIONS)
    few = max((len(text.split()) for text in asked), default=0) < _FEW
    inside = [] if asked and not few else [*_inside(record)]
    if inside:
        yield from inside
        return
    more = _first(texts, _TEXTS)
    if few and more:
        asked = more
    elif not few and "instruction" in texts and (shown := _texts_of(texts.get("input"))):
        asked = ["\n".join([*asked, *shown])]
    choices = _choices(texts)
    answers = [text for name in _ANSWERS for text in _texts_of(texts.get(name))]
    response = "\n".join(answers) or None
    for text in asked:
        yield _Item(text, response, choices)
        response = None


def _inside(record: Mapping[Any, Any]) -> Iterator[_Item]:
    """The items of the objects in a record; choices beside an object are not its own."""
    for value in record.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping) and not {"label", "role"} & {_plain(key) for key in one}:
                yield from _items_in(one)


def _plain(key: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(key).lower())


def _first(texts: _Texts, names: Sequence[str]) -> list[str]:
    """The texts under the first of the names that has one of a few words, or any."""
    found = [some for name in names if (some := _texts_of(texts.get(name)))]
    long = (some for some in found if any(len(text.split()) >= _FEW for text in some))
    return next(long, found[0] if found else [])


def _texts_of(value: Any) -> list[str]:
    """A text, or the texts of a list of them."""
    values = value if isinstance(value, list) else [value]
    return [text.strip() for text in values if isinstance(text, str) and text.strip()]


def _choices(texts: _Texts) -> tuple[str, ...]:
    """The texts of the choices of a record."""
    for name in _CHOICES:
        value = texts.get(name)
        if isinstance(value, Mapping):
            value = value.get("text") or value.get("texts") or list(value.values())
        if isinstance(value, list):
            value = [one.get("text") if isinstance(one, Mapping) else one for one in value]
        if found := _texts_of(value):
            return tuple(found)
    names = sorted(name for name in texts if _LETTERED.fullmatch(name))
    found = [text for name in names for text in _texts_of(texts[name])]
    return tuple(found) if len(found) > 1 else ()
