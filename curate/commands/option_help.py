"""The help of an option, from the docstring of its component; and the rest of that docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["option_texts", "plain_help", "prose_of"]

_SECTION: Final = re.compile(r"(?ms)^Options:\n(.*?)(?=^\S|\Z)")
_ENTRY: Final = re.compile(r"(?ms)^    (\w+): (.*?)(?=^    \w+: |\Z)")
_SENTENCE: Final = re.compile(r"(?<=[.:;])\s+(?=``\w+``)|(?<=\.)\s+")
_NAMED: Final = re.compile(r"``(\w+)``(?!,| and | or )")


def option_texts(component: type[Any], shared: Mapping[str, str] | None = None) -> dict[str, str]:
    """The text of each option, where there is one.

    That is its entry under ``Options:``, else what ``shared`` has for options that components have
    in common, else the sentence of the docstring that begins with the option's name.

    >>> class Cut:
    ...     '''Cut a text. ``at`` is where. It is kept.
    ...
    ...     Options:
    ...         of: the ``text``
    ...             or both.
    ...     '''
    >>> option_texts(Cut)
    {'at': '`at` is where.', 'of': 'The `text` or both.'}
    """
    doc = inspect.cleandoc(component.__doc__ or "")
    sentences = _SENTENCE.split(" ".join(_SECTION.sub("", doc).split()))
    begun = ((_NAMED.match(sentence), sentence) for sentence in sentences)
    found = {match[1]: plain_help(sentence) for match, sentence in begun if match}
    found |= shared or {}
    for section in _SECTION.findall(doc):
        entries = _ENTRY.findall(section)
        found |= {name: _sentence(text) for name, text in entries}
    return found


def _sentence(text: str) -> str:
    told = plain_help(" ".join(text.split()))
    return told[:1].upper() + told[1:]


def prose_of(doc: str) -> str:
    """A docstring without its ``Options:``, for the top of a command's help."""
    return plain_help(_SECTION.sub("", inspect.cleandoc(doc))).strip()


def plain_help(text: str) -> str:
    """Names in single quotation marks of code, as a terminal shows them.

    >>> plain_help("``any_of`` counts")
    '`any_of` counts'
    """
    return text.replace("``", "`")
