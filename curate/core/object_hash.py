"""Hash of what a Python object computes, for keys: its code, and the values it uses by name.

Code that an import of a user's file reaches is in the key beside (`code_hash`). This is the rest:
values and code of an interactive session, closures, the object that a method is bound to. An object
is written as pickle writes it, class and state. One that pickle cannot write, such as an open file,
a lock or a connection, has no text.
"""

from __future__ import annotations

import copyreg
import inspect
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

__all__ = ["NoTextError", "file_of", "is_installed", "name_of", "object_hash"]

_DEPTH: Final = 40
"""Objects within objects; deeper ones have no text."""
_PLAIN: Final = (bool, int, float, complex, str, type(None), type(...), type(NotImplemented))


class NoTextError(Exception):
    """The type of a value that has no text, and the name by which it is used."""


def object_hash(thing: Any) -> str:
    """Hash of what a function, class or object computes.

    Raises:
        NoTextError: it uses a value that has none.
    """
    total = sha256()
    try:
        for part in _Walk().texts(thing, "self"):
            text = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
            total.update(f"{len(text)} ".encode())
            total.update(text)
    except RecursionError:
        raise NoTextError(f"'self' ({type(thing).__name__})") from None
    return total.hexdigest()


class _Walk:
    """A walk over an object and what it uses; an object that comes again is its number."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._held: list[Any] = []  # so that no other object gets the same id meanwhile
        self._depth = 0

    def texts(self, value: Any, name: str) -> Iterator[str | bytes]:
        """The text of a value, in parts; ``name`` is that by which it is used."""
        if type(value) in _PLAIN:
            yield repr(value)
        elif type(value) in (bytes, bytearray):
            yield bytes(value)
        elif type(value) is tuple:  # has no identity of its own, as constants of code
            yield f"tuple {len(value)}"
            for one in value:
                yield from self.texts(one, name)
        elif isinstance(value, set | frozenset):
            yield f"set {len(value)}"
            yield from sorted(object_hash(one) for one in value)
        elif id(value) in self._numbers:
            yield f"again {self._numbers[id(value)]}"
        elif self._depth > _DEPTH:
            raise NoTextError(f"{name!r} ({type(value).__name__})")
        else:
            self._numbers[id(value)] = len(self._numbers)
            self._held.append(value)
            self._depth += 1
            yield type(value).__qualname__
            yield from self._inner(value, name)
            self._depth -= 1

    def _inner(self, value: Any, name: str) -> Iterator[str | bytes]:
        if isinstance(value, type):
            yield from self._of_class(value)
        elif inspect.isfunction(value):
            yield from self._of_function(value)
        elif isinstance(value, CodeType):
            yield from self._of_code(value)
        elif inspect.isroutine(value):  # or a method
            yield f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
            yield from self._attributes(value, ("__func__", "__self__", "__wrapped__"))
        elif isinstance(value, property | cached_property):
            yield from self._attributes(value, ("fget", "fset", "fdel", "func"))
        elif type(value) in (list, dict):
            yield str(len(value))
            for one in value if type(value) is list else chain(*value.items()):
                yield from self.texts(one, name)
        else:
            yield from self._of_object(value, name)

    def _attributes(self, value: Any, names: Sequence[str]) -> Iterator[str | bytes]:
        found = {key: getattr(value, key, None) for key in names}
        yield from self._each({key: one for key, one in found.items() if one is not None})

    def _each(self, used: Mapping[str, Any]) -> Iterator[str | bytes]:
        for key, value in used.items():
            yield f"{key}="
            yield from self.texts(value, key)

    def _of_function(self, function: Any) -> Iterator[str | bytes]:
        """Code, defaults and what it uses by name; one of a library is its name, but for closures.

        A function that a library made (``<locals>``) computes by what was given to make it, and so
        does one that a decorator of a library made of a user's (``wraps`` copies its name).
        """
        own = _is_users(function)
        yield f"{function.__module__}.{function.__qualname__}" if not own else function.__name__
        made = "<locals>" in function.__qualname__ or _is_users(inspect.unwrap(function))
        if not own and not made:
            return
        yield from self._of_code(function.__code__)
        yield from self._each({"defaults": function.__defaults__, "kw": function.__kwdefaults__})
        used = dict(zip(function.__code__.co_freevars, _cells(function), strict=True))
        if own:
            known = function.__globals__
            names = _names_in(function.__code__)
            used |= {key: known[key] for key in names if key in known}
            used |= dict(_in_modules(used, names))
        used |= vars(function)
        yield from self._each(dict(sorted(used.items())))

    def _of_code(self, code: CodeType) -> Iterator[str | bytes]:
        """What is compiled, without its place in a file."""
        yield code.co_code
        yield f"{code.co_names} {code.co_varnames}"
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from self._of_code(constant)
            else:
                yield from self.texts(constant, code.co_name)

    def _of_class(self, own: type) -> Iterator[str | bytes]:
        yield f"{own.__module__}.{own.__qualname__}" if not _is_users(own) else own.__name__
        if not _is_users(own):
            return
        for base in own.__bases__:
            yield from self.texts(base, base.__name__)
        used = {key: one for key, one in vars(own).items() if key not in _OF_EVERY_CLASS}
        yield from self._each(dict(sorted(used.items())))

    def _of_object(self, value: Any, name: str) -> Iterator[str | bytes]:
        """An object as pickle writes it: what makes it of what, and its state."""
        try:
            reduced = _of_tensor(value) or _reduced(value)
        except Exception as error:  # each class has its own way to refuse
            raise NoTextError(f"{name!r} ({type(value).__name__})") from error
        if isinstance(reduced, str):  # a global by its name
            yield f"{getattr(value, '__module__', '')}.{reduced}"
            return
        for part in reduced[:2]:
            yield from self.texts(part, name)
        for part in reduced[2:]:
            listed = part if part is None or type(part) in (dict, tuple) else _listed(part)
            yield from self.texts(listed, name)


_OF_EVERY_CLASS: Final = frozenset(
    {"__dict__", "__doc__", "__module__", "__weakref__", "__qualname__", "__firstlineno__"}
    | {"__static_attributes__", "__annotations__", "__annotate__", "__annotate_func__"}
    | {"__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "_abc_impl"}
    | {"__abstractmethods__", "__match_args__", "__parameters__", "__slots__"}
)


def _listed(part: Any) -> Any:
    """Items of an iterator, as those of a list or mapping, or else the state as it is."""
    return list(part) if isinstance(part, Iterator) else part


def _cells(function: Any) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not set yet, as a name that is defined below
            found.append(None)
    return found


def _names_in(code: CodeType) -> set[str]:
    """Names that code uses, and that of functions within it."""
    inner = (_names_in(one) for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*inner)


def _in_modules(used: Mapping[str, Any], names: set[str]) -> Iterator[tuple[str, Any]]:
    """What code may take of users' modules by its names, as ``module.inner.NAME``."""
    seen: set[int] = set()
    left = [(key, one) for key, one in sorted(used.items()) if isinstance(one, ModuleType)]
    while left:
        key, module = left.pop()
        if id(module) in seen or not _is_users(module):
            continue
        seen.add(id(module))
        found = [(f"{key}.{name}", vars(module)[name]) for name in sorted(names & {*vars(module)})]
        yield from found
        left += [item for item in found if isinstance(item[1], ModuleType)]


def _reduced(value: Any) -> Any:
    """What pickle writes of an object: a name, or what makes it, of what, and its state."""
    if isinstance(value, ModuleType):
        return value.__name__
    known = copyreg.dispatch_table.get(type(value))
    return value.__reduce_ex__(4) if known is None else known(value)


def _of_tensor(value: Any) -> tuple[Any, ...] | None:
    """The numbers of a tensor, which pickle writes with their place in memory; else None."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return None
    numbers = value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes()
    return type(value), (str(value.dtype), tuple(value.shape), numbers)


def _is_users(thing: Any) -> bool:
    """Whether a function, class or module is a user's: of a session, or of a file of theirs."""
    module = thing.__name__ if isinstance(thing, ModuleType) else str(thing.__module__)
    if module.partition(".")[0] in ("siftune", *sys.builtin_module_names):
        return False
    if isinstance(thing, type) and module == "__main__":  # what runs may itself be installed
        return True
    path = _defined_in(thing)
    return path is None or not is_installed(path)


@cache
def is_installed(file: Path) -> bool:
    """Whether a file is of Python itself or of an installed package."""
    known = sysconfig.get_paths()
    folders = (known[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))
    return any(file.is_relative_to(folder) for folder in folders)


def name_of(thing: Any) -> str:
    """The name of a function or class, or of the class of an object."""
    if isinstance(thing, partial):
        return name_of(thing.func)
    return str(getattr(thing, "__name__", type(thing).__name__)).strip("<>")


def file_of(thing: Any) -> Path | None:
    """The file in which a function, a class, or the class of an object was defined, if any."""
    owner = thing.__func__ if inspect.ismethod(thing) else thing
    if inspect.isfunction(owner):
        owner = inspect.unwrap(owner)  # what a decorator of a library is about
    return _defined_in(
        owner if inspect.isfunction(owner) or isinstance(owner, type) else type(owner)
    )


def _defined_in(thing: Any) -> Path | None:
    try:
        file = Path(inspect.getfile(thing))
    except (TypeError, OSError):  # a builtin, or a class of an interactive session
        return None
    return file if file.is_file() else None
