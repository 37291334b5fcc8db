"""Help of a command and of its options, from the docstring of a component."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["option_texts", "plain_help", "prose_of", "short_prose"]

_SECTION: Final = re.compile(r"(?ms)^(?:Options|Args):\n(.*?)(?=^\S|\Z)")
_ENTRY: Final = re.compile(r"(?ms)^    (\w+)(?: \([^)]*\))?: (.*?)(?=^    \w+(?: \([^)]*\))?: |\Z)")
_WORDS: Final = 100  # of a docstring that a command's help has at most, beyond the first paragraph


def option_texts(component: type[Any], shared: Mapping[str, str] | None = None) -> dict[str, str]:
    """The sentence on each option, where there is one.

    That is its entry under ``Options:`` (or ``Args:``) in the docstring of the component or of a
    class above it, else what ``shared`` has for options that components have in common.

    >>> class Cut:
    ...     '''Cut a text.
    ...
    ...     Options:
    ...         of: the ``text``
    ...             or both.
    ...     '''
    >>> option_texts(Cut, {"at": "Where."})
    {'at': 'Where.', 'of': 'The `text` or both.'}
    >>> def cut(response, times=2):
    ...     '''Cut.
    ...
    ...     Args:
    ...         times (int): how often.
    ...     '''
    >>> option_texts(type("cut", (), {"__doc__": cut.__doc__}))
    {'times': 'How often.'}
    """
    texts = dict(shared or {})
    for above in reversed(component.__mro__):
        for section in _SECTION.findall(inspect.cleandoc(above.__doc__ or "")):
            texts |= {name: _sentence(text) for name, text in _ENTRY.findall(section)}
    return texts


def _sentence(text: str) -> str:
    sentence = plain_help(" ".join(text.split()))
    return sentence[:1].upper() + sentence[1:]


def prose_of(doc: str) -> str:
    """A docstring without its ``Options:``."""
    return plain_help(_SECTION.sub("", inspect.cleandoc(doc))).strip()


def short_prose(doc: str) -> str:
    """The start of a docstring, for the top of a command's help: whole paragraphs, and few of them.

    Examples are left out, and ``Options:``, which stand at the options.
    """
    parts = [part for part in prose_of(doc).split("\n\n") if not part.lstrip().startswith(">>>")]
    taken = next(
        (n for n in range(len(parts), 1, -1) if len(" ".join(parts[:n]).split()) <= _WORDS), 1
    )
    return "\n\n".join(parts[:taken])


def plain_help(text: str) -> str:
    """Names in single quotation marks of code, as a terminal shows them.

    >>> plain_help("``any_of`` counts")
    '`any_of` counts'
    """
    return text.replace("``", "`")
