"""Types of options on the command line, from annotations: how one is shown, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from siftune.curate.core.errors import UsageError

__all__ = ["is_repeated", "key_values", "metavar_of", "value_of"]

_PAIR: Final = re.compile(r"\s*[\w./:-]+=")
"""How ``KEY=VALUE`` begins."""
_COMMA: Final = re.compile(r",(?![^()]*\))")
"""A comma between items, and not within parentheses."""
_SHOWN: Final = 60  # characters of a value that cannot be read
_NAMES: Final[Mapping[Any, str]] = {
    bool: "true|false",
    str: "TEXT",
    int: "INT",
    float: "FLOAT",
    Path: "PATH",
}


def metavar_of(hint: Any) -> str:
    """The placeholder of a value in the help.

    >>> metavar_of(int | None), metavar_of(Mapping[str, float]), metavar_of(tuple[str, ...])
    ('INT', 'KEY=VALUE', 'TEXT[,TEXT...]')
    >>> metavar_of(Literal["mean", "sum"]), metavar_of(str | dict[str, int]), metavar_of(Any)
    ('mean|sum', 'TEXT|{KEY: VALUE}', 'VALUE')
    """
    parts = list(_alternatives(hint))
    text = any(part is str for part in parts)
    shown = dict.fromkeys("{KEY: VALUE}" if text and _is_map(one) else _shown(one) for one in parts)
    return "|".join(shown)


def _shown(hint: Any) -> str:
    if _is_map(hint):
        return "KEY=VALUE"
    if _is_list(hint):
        item = metavar_of(_item(hint))
        return f"{item}[,{item}...]"
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    return _NAMES.get(hint, "VALUE")


def is_repeated(hint: Any) -> bool:
    """Whether an option can be given again and again: it is a mapping, and no text."""
    parts = list(_alternatives(hint))
    return any(map(_is_map, parts)) and str not in parts


def value_of(flag: str, hint: Any, given: Any) -> Any:
    """The value of an option that was ``given`` as text (as several where it `is_repeated`).

    Text stays text where the option is one; all else is read as YAML, lists also with commas
    between their items, mappings also as ``KEY=VALUE``.

    >>> value_of("--k", int, "5"), value_of("--of", str, "5"), value_of("--of", list[str], "5,a")
    (5, '5', ['5', 'a'])
    >>> value_of("--reward-options", dict[str, Any] | None, ("words=5,of=both",))
    {'words': 5, 'of': 'both'}

    Raises:
        UsageError: it cannot be read.
    """
    parts = list(_alternatives(hint))
    if is_repeated(hint):
        mapped = next(part for part in parts if _is_map(part))
        return _mapping(flag, (given,) if isinstance(given, str) else given, mapped, len(parts) > 1)
    if _is_word(given, parts):
        return given
    if str in parts and any(map(_is_map, parts)):
        return _read(flag, given) if given.startswith("{") else given
    lists = [part for part in parts if _is_list(part)]
    return _list(flag, given, lists[0]) if lists else _read(flag, given)


def renamed_keys(renames: Sequence[str]) -> dict[str, str]:
    """The values of ``--map`` as a mapping."""
    pairs = [rename.partition("=") for rename in renames]
    for key, equals, name in pairs:
        if not (key and equals and name):
            raise UsageError(f"--map {key}: expected KEY=NAME, such as --map question=prompt")
    return {key: name for key, _, name in pairs}


def key_values(pairs: Sequence[str], flag: str = "-o", item: Any = Any) -> dict[str, Any]:
    """``-o key=value`` options as a mapping, each value read as its type ``item``.

    >>> key_values(["fraction=0.1", "by=ifd"])
    {'fraction': 0.1, 'by': 'ifd'}
    """
    read: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {pair}: expected key=value")
        nested = any(map(_is_map, _alternatives(item)))
        name = f"{flag} {key}"
        read[key.strip()] = _read(name, text) if nested else value_of(name, item, text)
    return read


def _alternatives(hint: Any) -> Iterator[Any]:
    """The types of a union, without None and without what annotates them."""
    if get_origin(hint) in (Union, UnionType):
        for one in get_args(hint):
            yield from _alternatives(one)
    elif get_origin(hint) is Annotated:
        yield from _alternatives(get_args(hint)[0])
    elif hint is not NoneType:
        yield hint


def _kind(hint: Any) -> type:
    kind = get_origin(hint) or hint
    return kind if isinstance(kind, type) else object


def _is_map(hint: Any) -> bool:
    return issubclass(_kind(hint), Mapping)


def _is_list(hint: Any) -> bool:
    kind = _kind(hint)
    return issubclass(kind, Sequence | Set) and not issubclass(kind, str | bytes)


def _item(hint: Any) -> Any:
    """The type of the items of a list, or of the values of a mapping."""
    inner = [one for one in get_args(hint) if one is not Ellipsis]
    return inner[-1] if inner else Any


def _is_word(text: str, parts: Sequence[Any]) -> bool:
    """Whether a text is the value itself: of an option that is text, or a choice among words."""
    words = (get_args(part) for part in parts if get_origin(part) is Literal)
    return any(text in listed for listed in words) or all(part in (str, Path) for part in parts)


def _list(flag: str, text: str, hint: Any) -> Any:
    """``[A, B]``, or ``A,B``, whose items are read each by its type."""
    if text.lstrip().startswith("{") and any(map(_is_map, _alternatives(_item(hint)))):
        text = f"[{text}]"  # commas are within mappings, too
    if text.lstrip().startswith("["):
        return _read(flag, text)
    return [value_of(flag, _item(hint), part.strip()) for part in _COMMA.split(text)]


def _mapping(flag: str, texts: Sequence[str], hint: Any, union: bool) -> Any:
    """``KEY=VALUE``, again and again or with commas between, or ``{KEY: VALUE}``, as a mapping.

    Anything else that is given once is its value where the option is a ``union`` with other types.
    """
    read: dict[str, Any] = {}
    for text in texts:
        parts = text.split(",")
        if not _PAIR.match(text):
            value = _read(flag, text)
        elif all(map(_PAIR.match, parts)):
            value = key_values(parts, flag, _item(hint))
        else:
            value = key_values([text], flag, _item(hint))  # its commas are within the value
        if not isinstance(value, dict):
            if union and len(texts) == 1 and not isinstance(value, str):
                return value
            raise UsageError(
                f"{flag}: expected KEY=VALUE (again and again, or with commas between), "
                f"got {text!r}"
            )
        read |= value
    return read


def _read(flag: str, text: str) -> Any:
    from yaml import YAMLError

    from siftune.curate.files.yaml_text import parse_yaml

    try:
        return parse_yaml(text)
    except YAMLError as error:
        why = getattr(error, "problem", None)
        told = f"{flag}: cannot read {text[:_SHOWN]!r}" + (f" ({why})" if why else "")
        marks = "?" in text
        quote = '; a text with ? needs quotes, as ["Is it short?"]' if marks else ""
        raise UsageError(told + quote) from None
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from None
