"""Components that a user brings: ``path/file.py:NAME``, or a Python function, class or object.

A function is enough: its parameters beside the data are the options of the component, as those of
``__init__`` are of a class. What it answers is checked (`Checked`), so that a mistake in it is one
line with its file and name. A file is imported from its path when it is named, and only then.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import Field, field, fields, is_dataclass, make_dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final, get_type_hints

from siftune.curate.core.code_hash import imported_files
from siftune.curate.core.errors import BadRow, SiftuneError, UsageError, closest
from siftune.curate.core.object_hash import file_of, name_of, object_hash

__all__ = [
    "Checked",
    "adapted_class",
    "custom_class",
    "custom_file",
    "custom_text",
    "custom_thing",
    "failures",
    "is_custom",
    "lacking",
    "register",
    "short_name",
]

_ADAPTERS: Final = {
    "curate.scorers": "siftune.curate.rows.custom_rows:CheckedScorer",
    "curate.selectors": "siftune.curate.rows.custom_rows:CheckedSelector",
    "curate.formats": "siftune.curate.records.custom_layouts:CheckedFormat",
    "curate.exports": "siftune.curate.records.custom_layouts:CheckedExport",
    "finetune.rewards": "siftune.finetune.rewards.types:CheckedReward",
    "finetune.losses.pair": "siftune.finetune.losses.custom_losses:CheckedPairLoss",
    "finetune.losses.unpaired": "siftune.finetune.losses.custom_losses:CheckedAnswerLoss",
    "finetune.losses.token": "siftune.finetune.losses.custom_losses:CheckedAnswerLoss",
    "finetune.losses.listwise": "siftune.finetune.losses.custom_losses:CheckedListLoss",
}
"""The subclass of `Checked` for each group; imported when a custom component of it is made."""

_registered: dict[str, Any] = {}  # Python objects by the names that `register` gave them


class FunctionComponent:
    """A component made from a function: ``data`` are its parameters that are no options."""

    data: ClassVar[tuple[str, ...]] = ()
    declared: ClassVar[Sequence[str]] = ()  # attributes that the function may set
    _function: ClassVar[Callable[..., Any]]

    @classmethod
    def data_of(cls, names: Sequence[str]) -> tuple[str, ...]:
        """Those of a function's parameters that are given data: the first."""
        return tuple(names[:1])

    @property
    def _options(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in _init_fields(self)}


class Checked:
    """A custom component, whose answers are checked. Each group of components has a subclass.

    ``required`` are the attributes that a class has to have, ``defaults`` is the base with those
    that it may leave out, ``function`` the base of a component made from a plain function.
    ``_label`` is the name in errors, ``_origin`` the group and name that it is found by again.
    """

    required: ClassVar[Sequence[str]] = ()
    function: ClassVar[type[FunctionComponent]]
    defaults: ClassVar[type[Any]] = FunctionComponent
    _label: ClassVar[str] = ""
    _origin: ClassVar[tuple[str, str]] = ("", "")

    def __reduce__(self) -> Any:
        """Pickled as its name and options: the process that reads it imports the file itself."""
        options = {one.name: getattr(self, one.name) for one in _init_fields(self)}
        return _rebuilt, (*self._origin, options)

    def _refused(self, wrong: str) -> UsageError:
        return UsageError(f"{self._label}: {wrong}")

    def _call(self, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """What ``function`` returns.

        Raises:
            UsageError: it fails; the text has the error and the line of the user's file.
        """
        with failures(self._label, custom_file(self._origin[1])):
            return function(*given, **options)


def _init_fields(made: Any) -> list[Field[Any]]:
    return [one for one in fields(made) if one.init]


def _rebuilt(group: str, name: str, options: Mapping[str, Any]) -> Any:
    from siftune.curate.core.registry import find  # it imports this module

    return find(group, name)(**options)


def is_custom(name: str) -> bool:
    """Whether a component's name is ``FILE.py:NAME``, or was given by `register`.

    >>> is_custom("rules/mine.py:short"), is_custom("rules/mine.py"), is_custom("length")
    (True, True, False)
    """
    return name in _registered or name.endswith(".py") or ".py:" in name


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
    return adapted_class(group, name, custom_thing(name))


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
    if not file.is_file():
        raise UsageError(f"{name}: there is no file {path}")
    module = _module(file.resolve(), path)
    there = tuple(key for key, value in vars(module).items() if _is_own(module, key, value))
    if not attribute:
        raise UsageError(f"{path}: name what is meant, as {path}:NAME; {closest('', there)}")
    if not hasattr(module, attribute):
        raise UsageError(f"{path} has no {attribute!r}; {closest(attribute, there)}")
    return getattr(module, attribute)


def _is_own(module: ModuleType, key: str, value: Any) -> bool:
    return not key.startswith("_") and getattr(value, "__module__", None) == module.__name__


def register(thing: Any) -> str:
    """A name by which ``thing`` is found in this process, wherever the name of a component is.

    It is ``FILE.py:NAME`` where it was defined in a file, else ``python:NAME``. Two things that
    compute the same share one, as a cell of a notebook that is run again.
    """
    own, file = name_of(thing), file_of(thing)
    place = first = "python" if file is None else str(file)
    number = 1
    while not _is_same(_registered.get(f"{place}:{own}", thing), thing):
        number += 1
        place = f"{first}#{number}"
    _registered[f"{place}:{own}"] = thing
    return f"{place}:{own}"


def _is_same(one: Any, other: Any) -> bool:
    return one is other or object_hash(one) == object_hash(other)


def custom_file(name: str) -> Path | None:
    """The file of a custom component; None where it is of an interactive session."""
    if name in _registered:
        return file_of(_registered[name])
    return Path(name.rpartition(":")[0] or name)


def custom_text(name: str) -> str:
    """Hash of what a Python object computes: its code, and what it uses by name; else nothing."""
    return object_hash(_registered[name]) if name in _registered else ""


_folders: list[str] = []  # of users' files, in `sys.path`


def _module(file: Path, shown: str) -> ModuleType:
    """The module of a file; it is imported again once it, or one beside it, has changed."""
    beside = imported_files([file], {"": file.parent})
    digest = sha256(b"".join(path.read_bytes() for path in sorted(beside))).hexdigest()
    return _imported(file, digest, shown, frozenset(beside - {file}))


@cache
def _imported(file: Path, digest: str, shown: str, beside: frozenset[Path]) -> ModuleType:
    """The module of a file with these bytes; modules ``beside`` it are imported anew."""
    name = f"siftune_custom_{file.stem}_{digest[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{shown}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    _search_last(str(file.parent))
    for stem in (path.stem for path in beside):
        if str(Path(str(getattr(sys.modules.get(stem), "__file__", ""))).parent) in _folders:
            del sys.modules[stem]
    importlib.invalidate_caches()
    sys.modules[name] = module  # dataclasses and pickles look themselves up here
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it is the user's folder
    try:
        with failures(shown, file):
            spec.loader.exec_module(module)
    except SiftuneError:
        del sys.modules[name]
        raise
    finally:
        sys.dont_write_bytecode = writes
    return module


def _search_last(folder: str) -> None:
    """Let modules in a user's folder be found, before other users' but after what is installed."""
    for one in _folders:
        if one in sys.path:
            sys.path.remove(one)
    _folders[:] = [folder, *(one for one in _folders if one != folder)]
    sys.path.extend(_folders)


@contextmanager
def failures(label: str, file: Path | None) -> Iterator[None]:
    """Meanwhile errors of the user's code become one line each.

    Raises:
        UsageError: in place of any other error.
    """
    try:
        yield
    except (SiftuneError, BadRow):
        raise
    except SyntaxError as error:
        raise UsageError(f"{label}: line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split("\n\n")[0].split())
        told = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise UsageError(f"{label}: {_line_of(error, file)}{told}") from error


def _line_of(error: BaseException, file: Path | None) -> str:
    """Where in the user's file an error came up."""
    path = None if file is None else file.resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [one.lineno for one in frames if path is not None and Path(one.filename) == path]
    return f"line {lines[-1]}: " if lines else ""


def _adapter(group: str, name: str) -> type[Checked]:
    if group not in _ADAPTERS:
        raise UsageError(f"{name}: a component of {group} has to be a dataclass of a package")
    module, _, attribute = _ADAPTERS[group].partition(":")
    found: type[Checked] = getattr(importlib.import_module(module), attribute)
    return found


def lacking(group: str, name: str, own: type[Any]) -> None:
    """Refuse a class without what components of a group have.

    Raises:
        UsageError: it lacks something; the text names it.
    """
    required = _adapter(group, name).required if group in _ADAPTERS else ("__call__",)
    missing = [one for one in required if not hasattr(own, one) and one not in _hints(own)]
    if missing:
        raise UsageError(f"{name}: the class has no {missing[0]!r}, which its group needs")


def adapted_class(group: str, name: str, thing: Any) -> type[Any]:
    """The component class made of a user's function, class or object.

    Raises:
        UsageError: it lacks what components of the group have.
    """
    checked = _adapter(group, name)
    space = {
        "_label": re.sub(r"#\d+:", ":", name),
        "_origin": (group, name),
        "__module__": __name__,
    }
    if isinstance(thing, type):
        lacking(group, name, thing)
        return _from_class(checked, thing, name, space)
    if not callable(thing):
        raise UsageError(f"{name}: expected a function or a class, got {type(thing).__name__}")
    return _from_function(checked, thing, name, space)


def _from_class(
    checked: type[Checked], own: type[Any], name: str, space: dict[str, Any]
) -> type[Any]:
    made = own if is_dataclass(own) else _with_options(own, name)
    doc = own.__doc__ if own.__dict__.get("__doc__") else None
    return type(own.__name__, (checked, made, checked.defaults), space | {"__doc__": doc})


def _with_options(own: type[Any], name: str) -> type[Any]:
    """A subclass whose fields are the parameters of ``__init__``."""
    parameters = _parameters(own.__init__, name)[1:] if "__init__" in vars(own) else []
    options = _as_fields(parameters, own.__init__)

    def init(self: Any, *args: Any, **given: Any) -> None:
        bound = inspect.signature(own).bind(*args, **given)
        bound.apply_defaults()
        own.__init__(self, *args, **given)
        for key, value in bound.arguments.items():
            if not hasattr(self, key):
                setattr(self, key, value)

    return make_dataclass(own.__name__, options, bases=(own,), namespace={"__init__": init})


def _from_function(
    checked: type[Checked], function: Callable[..., Any], name: str, space: dict[str, Any]
) -> type[Any]:
    base = checked.function
    parameters = _parameters(function, name)
    data = base.data_of([one.name for one in parameters])
    if not data:
        raise UsageError(f"{name}: the function takes nothing; expected a parameter for the data")
    options = [one for one in parameters if one.name not in data]
    space |= {"_function": staticmethod(function), "data": data, "__doc__": function.__doc__}
    for attribute in base.declared:
        if hasattr(function, attribute):
            space[attribute] = getattr(function, attribute)
    return make_dataclass(
        name_of(function),
        _as_fields(options, function),
        bases=(checked, base),
        frozen=True,
        namespace=space,
    )


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # of builtins
        raise UsageError(f"{name}: the parameters of {function!r} are not known") from None
    star = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one for one in signature.parameters.values() if one.kind not in star]


def _as_fields(parameters: Sequence[inspect.Parameter], owner: Any) -> list[Any]:
    hints = _hints(owner)
    return [
        (one.name, _type_of(one, hints), field(kw_only=True))
        if one.default is inspect.Parameter.empty
        else (one.name, _type_of(one, hints), _default(one.default))
        for one in parameters
    ]


def _default(value: Any) -> Any:
    hashable = type(value).__hash__ is not None
    return (
        field(default=value, kw_only=True)
        if hashable
        else field(default_factory=lambda: copy(value), kw_only=True)
    )


def _type_of(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    """The annotated type, else that of the default, else any."""
    if parameter.name in hints:
        return hints[parameter.name]
    plain = isinstance(parameter.default, bool | int | float | str)
    return type(parameter.default) if plain else Any


def _hints(owner: Any) -> dict[str, Any]:
    try:
        return get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, AttributeError):  # a type that is imported for checkers only
        return {}
