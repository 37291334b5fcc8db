"""Components that a user brings: ``path/file.py:NAME``, or a Python function, class or object.

A file is imported from its path when it is named, and only then. What is made of the function or
class: `adapted`.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from uuid import uuid4

from siftune.curate.core.adapted import adapted_class
from siftune.curate.core.errors import UsageError, closest
from siftune.curate.core.object_hash import NoTextError, file_of, name_of, object_hash
from siftune.curate.core.user_file import module_of

__all__ = [
    "custom_class",
    "custom_file",
    "custom_text",
    "custom_thing",
    "is_custom",
    "register",
    "short_name",
]

_registered: dict[str, Any] = {}  # Python objects by the names that `register` gave them
_texts: dict[str, str] = {}  # what they computed then
_without_text: set[str] = set()  # names of those that a warning was about


_NAMES: Final = re.compile(r"\.py(#\d+)?(:|$)|^python(#\d+)?:")


def is_custom(name: str) -> bool:
    """Whether a component's name is ``FILE.py:NAME``, or one that `register` gives.

    >>> is_custom("rules/mine.py:short"), is_custom("rules/mine.py"), is_custom("length")
    (True, True, False)
    """
    return _NAMES.search(name) is not None


def short_name(name: str) -> str:
    """The name of a component without its file, for labels and names of files.

    >>> short_name("rules/mine.py:short"), short_name("length")
    ('short', 'length')
    """
    return name.rpartition(":")[2] if is_custom(name) else name


def custom_class(group: str, name: str) -> type[Any]:
    """The component class of a custom name, for a group of components.

    Raises:
        UsageError: no such file or name, the file cannot be imported, or it lacks what components
            of the group have.
    """
    return adapted_class(group, name, custom_thing(name), custom_file(name))


def custom_thing(name: str) -> Any:
    """The function, class or object of a custom name; its file is imported.

    Raises:
        UsageError: no such file or name, or the file cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    path, _, attribute = name.rpartition(":")
    if not path:
        path, attribute = name, ""
    file = Path(path)
    if _OF_PROCESS.search(name):
        raise UsageError(
            f"{name} is a function or object of an earlier Python process, which cannot be found "
            "again: give it itself once more, or put it into a file and name it FILE.py:NAME"
        )
    if not file.is_file():
        raise UsageError(f"{name}: there is no file {path}")
    module = module_of(file.resolve(), path)
    there = tuple(key for key, value in vars(module).items() if _is_own(module, key, value))
    if not attribute:
        raise UsageError(f"{path}: name what is meant, as {path}:NAME; {closest('', there)}")
    if not hasattr(module, attribute):
        raise UsageError(f"{path} has no {attribute!r}; {closest(attribute, there)}")
    return getattr(module, attribute)


_OF_PROCESS: Final = re.compile(r"^python(#\d+)?:|\.py#\d+:|:lambda$")


def _is_own(module: ModuleType, key: str, value: Any) -> bool:
    return not key.startswith("_") and getattr(value, "__module__", None) == module.__name__


def register(thing: Any) -> str:
    """A name by which ``thing`` is found in this process, wherever the name of a component is.

    It is ``FILE.py:NAME`` where it was defined in a file, else ``python:NAME``. Two things that
    compute the same share one, as a cell of a notebook that is run again. One that uses a value
    without a text (`object_hash`) has another name each time it is given.
    """
    own, file = name_of(thing), file_of(thing)
    place = first = "python" if file is None else str(file)
    text, number = _text_of(thing, own), 1
    while _texts.setdefault(f"{place}:{own}", text) != text:
        number += 1
        place = f"{first}#{number}"
    _registered[f"{place}:{own}"] = thing
    return f"{place}:{own}"


def _text_of(thing: Any, name: str) -> str:
    try:
        return object_hash(thing)
    except NoTextError as error:
        if name not in _without_text:
            warnings.warn(
                f"{name} uses {error}, which cannot be compared with an earlier one: {name} runs "
                "again wherever it is given, and a run in another process starts anew",
                stacklevel=2,
            )
        _without_text.add(name)
        return uuid4().hex


def custom_file(name: str) -> Path | None:
    """The file of a custom component; None where it is of an interactive session."""
    if name in _registered:
        return file_of(_registered[name])
    return Path(name.rpartition(":")[0] or name)


def custom_text(name: str) -> str:
    """Hash of what a Python object computed when it was given; of what is in a file nothing."""
    return _texts.get(name, "")
