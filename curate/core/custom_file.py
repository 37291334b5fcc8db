"""Components that a user brings: ``path/file.py:NAME``, or a Python function, class or object.

A function is enough: its parameters beside the data are the options of the component, as those of
``__init__`` are of a class. What it answers is checked (`Checked`), so that a mistake in it is one
line with its file and name. A file is imported from its path when it is named, and only then.
"""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import Field, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final, get_type_hints
from uuid import uuid4

from siftune.curate.core.errors import UsageError, closest
from siftune.curate.core.object_hash import NoTextError, file_of, name_of, object_hash
from siftune.curate.core.user_file import failures, imports_of, module_of

__all__ = [
    "Checked",
    "adapted_class",
    "adapter_modules",
    "custom_class",
    "custom_file",
    "custom_text",
    "custom_thing",
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
_texts: dict[str, str] = {}  # what they computed then
_without_text: set[str] = set()  # names of those that a warning was about


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
        file = custom_file(self._origin[1])
        with failures(self._label, file), imports_of(file):
            return function(*given, **options)


def _init_fields(made: Any) -> list[Field[Any]]:
    return [one for one in fields(made) if one.init]


def _rebuilt(group: str, name: str, options: Mapping[str, Any]) -> Any:
    from siftune.curate.core.registry import find  # it imports this module

    return find(group, name)(**options)


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


def adapter_modules(group: str) -> tuple[str, ...]:
    """The modules that check what custom components of a group answer; they are in their keys."""
    return (_ADAPTERS[group].partition(":")[0],) if group in _ADAPTERS else ()


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
