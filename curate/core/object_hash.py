"""Hash of what a Python object of a user computes, such as a function of a notebook."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Set
from hashlib import sha256
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

__all__ = ["file_of", "name_of", "object_hash"]


def object_hash(thing: Any) -> str:
    """Hash of what ``thing`` computes: its code, and the values that it uses by name."""
    return sha256("\n".join(_texts(thing, set())).encode()).hexdigest()


def _texts(thing: Any, seen: set[int]) -> Iterator[str]:
    """The code of a function or class, of functions that it calls, and the values it uses."""
    seen.add(id(thing))
    if not inspect.isfunction(thing):
        yield name_of(thing)
        members = vars(thing if isinstance(thing, type) else type(thing))
        used = {key: one for key, one in members.items() if key not in _OF_EVERY_CLASS}
        used |= {} if isinstance(thing, type) else getattr(thing, "__dict__", {})
    else:
        yield _code_text(thing.__code__)
        yield f"{thing.__defaults__!r} {thing.__kwdefaults__!r}"
        by_name = inspect.getclosurevars(thing)
        used = {**by_name.globals, **by_name.nonlocals}
    for key, value in sorted(used.items()):
        if not _is_code(value):
            yield f"{key}={_value_text(value)}"
        elif _is_theirs(value) and id(value) not in seen:
            yield from _texts(value, seen)


_OF_EVERY_CLASS: Final = frozenset({"__dict__", "__doc__", "__module__", "__weakref__"})


def _is_code(value: Any) -> bool:
    return inspect.isroutine(value) or isinstance(value, type | ModuleType | property)


def _code_text(code: CodeType) -> str:
    """What is compiled, without its place in a file."""
    inner = [_code_text(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return f"{code.co_code!r} {code.co_names} {code.co_varnames} {inner}"


def _value_text(value: Any) -> str:
    """A value as text; one that cannot be written is itself and no other."""
    if isinstance(value, bool | int | float | str | bytes | None):
        return repr(value)
    if isinstance(value, list | tuple | set | frozenset):
        items = [_value_text(one) for one in value]
        return f"{type(value).__name__} {sorted(items) if isinstance(value, Set) else items}"
    if isinstance(value, Mapping):
        return f"mapping {[(_value_text(key), _value_text(one)) for key, one in value.items()]}"
    if hasattr(value, "tobytes") and hasattr(value, "shape"):  # an array
        return f"{value.dtype} {value.shape} {sha256(value.tobytes()).hexdigest()}"
    return f"{type(value).__name__} at {id(value)}"


def _is_theirs(value: Any) -> bool:
    """Whether it is a function or class of an interactive session, as all without a file are."""
    return (inspect.isfunction(value) or isinstance(value, type)) and file_of(value) is None


def name_of(thing: Any) -> str:
    """The name of a function or class, or of the class of an object."""
    return str(getattr(thing, "__name__", type(thing).__name__)).strip("<>")


def file_of(thing: Any) -> Path | None:
    """The file in which a function, a class or an object's class was defined, if there is one."""
    owner = thing if inspect.isfunction(thing) or isinstance(thing, type) else type(thing)
    try:
        file = Path(inspect.getfile(owner))
    except (TypeError, OSError):  # a builtin, or a class of an interactive session
        return None
    return file if file.is_file() else None
