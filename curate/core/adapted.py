"""Components made of what a user brings: a Python function, class or object.

A function is enough: its parameters beside the data are the options of the component, as those of
``__init__`` are of a class. What it returns is checked (`Checked`), so that a mistake in it is one
line with its file and name.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import Field, field, fields, is_dataclass, make_dataclass
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Final, get_type_hints

from siftune.curate.core.errors import UsageError, quoted
from siftune.curate.core.object_hash import name_of
from siftune.curate.core.user_file import failures, imports_of

__all__ = [
    "Checked",
    "FunctionComponent",
    "adapted_class",
    "adapter_modules",
    "hints_of",
    "lacking",
]

_ADAPTERS: Final = {
    "curate.scorers": "siftune.curate.rows.custom_rows:CheckedScorer",
    "curate.selectors": "siftune.curate.rows.custom_rows:CheckedSelector",
    "curate.formats": "siftune.curate.records.custom_layouts:CheckedFormat",
    "curate.exports": "siftune.curate.records.custom_layouts:CheckedExport",
    "finetune.rewards": "siftune.finetune.core.reward_functions:CheckedReward",
    "finetune.advantages": "siftune.finetune.advantages.types:CheckedAdvantage",
    "finetune.policy_losses": "siftune.finetune.policy_losses.types:CheckedPolicyLoss",
    "finetune.watch.detectors": "siftune.finetune.watch.detectors.types:CheckedDetector",
    "finetune.losses.pair": "siftune.finetune.losses.custom_losses:CheckedPairLoss",
    "finetune.losses.unpaired": "siftune.finetune.losses.custom_losses:CheckedAnswerLoss",
    "finetune.losses.token": "siftune.finetune.losses.custom_losses:CheckedAnswerLoss",
    "finetune.losses.listwise": "siftune.finetune.losses.custom_losses:CheckedListLoss",
    "pipelines.arena.measures": "siftune.pipelines.arena.measures.types:CheckedMeasure",
}
"""The subclass of `Checked` for each group; imported when a custom component of it is made."""


class FunctionComponent:
    """A component made from a function: ``data`` are its parameters that are no options."""

    data: ClassVar[tuple[str, ...]] = ()
    declared: ClassVar[Sequence[str]] = ()  # attributes that the function may set
    reads_fields: ClassVar[bool] = False  # whether `_fields` are read from rows
    _fields: ClassVar[tuple[str, ...]] = ()  # parameters without a default, beside the data
    _function: ClassVar[Callable[..., Any]]
    _annotated: ClassVar[Callable[..., Any]]

    @classmethod
    def data_of(cls, names: Sequence[str]) -> tuple[str, ...]:
        """Those of a function's parameters that are given data: the first."""
        return tuple(names[:1])

    @property
    def _options(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in _init_fields(self)}


class Checked:
    """A custom component, whose results are checked. Each group of components has a subclass.

    ``required`` are the attributes that a class has to have, ``defaults`` is the base with those
    that it may leave out, ``function`` the base of a component made from a plain function.
    ``reserved`` are names that its options cannot have. ``_label`` is the name in errors, ``_file``
    where it is defined, ``_origin`` the group and name that it is found by again; ``rebuild`` finds
    it, and is set by `core.registry`, which knows all groups.
    """

    required: ClassVar[Sequence[str]] = ()
    function: ClassVar[type[FunctionComponent]]
    defaults: ClassVar[type[Any]] = FunctionComponent
    reserved: ClassVar[Container[str]] = ()
    rebuild: ClassVar[Any]
    _label: ClassVar[str] = ""
    _file: ClassVar[Path | None] = None
    _origin: ClassVar[tuple[str, str]] = ("", "")

    def __reduce__(self) -> Any:
        """Pickled as its name and options: the process that reads it imports the file itself."""
        options = {one.name: getattr(self, one.name) for one in _init_fields(self)}
        return self.rebuild, (*self._origin, options)

    def _refused(self, wrong: str) -> UsageError:
        return UsageError(f"{self._label}: {wrong}")

    def _call(self, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """What ``function`` returns.

        Raises:
            UsageError: it fails; the text has the error and the line of the user's file.
        """
        with failures(self._label, self._file), imports_of(self._file):
            return function(*given, **options)

    @classmethod
    def _is_as_ours(cls, own: type[Any], parameters: Sequence[str]) -> bool:
        """Whether a class whose ``__call__`` has these parameters is; else as a function is."""
        return True

    @classmethod
    def _complete(cls, made: type[Checked]) -> None:
        """Complete what a new class declares."""

    @classmethod
    def _made_of(cls, options: Mapping[str, Any]) -> Checked:
        """The component with its options, once what it declares was checked.

        Raises:
            UsageError: it cannot be made, or declares what cannot be.
        """
        with failures(cls._label, cls._file), imports_of(cls._file):
            made = cls(**options)
            made._check_declared()
        return made

    def _check_declared(self) -> None:
        """Refuse what it declares, such as columns of no type."""


def _init_fields(made: Any) -> list[Field[Any]]:
    return [one for one in fields(made) if one.init]


def adapter_modules(group: str) -> tuple[str, ...]:
    """The modules that check what custom components of a group answer; they are in their keys."""
    return (_ADAPTERS[group].partition(":")[0],) if group in _ADAPTERS else ()


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
    if missing := _missing(required, own):
        raise UsageError(f"{name}: the class has no {missing[0]!r}, which its group needs")


def _missing(required: Sequence[str], own: type[Any]) -> list[str]:
    return [one for one in required if not hasattr(own, one) and one not in hints_of(own)]


def adapted_class(group: str, name: str, thing: Any, file: Path | None) -> type[Any]:
    """The component class made of a user's function, class or object, which is of ``file``.

    Raises:
        UsageError: it lacks what components of the group have.
    """
    checked = _adapter(group, name)
    space = {
        "_label": re.sub(r"#\d+:", ":", name).removeprefix("python:"),
        "_file": file,
        "_origin": (group, name),
        "__module__": __name__,
    }
    if isinstance(thing, type):
        made = _from_class(checked, thing, name, space)
    elif callable(thing):
        made = _from_function(checked, thing, name, space)
    else:
        of_its_class = file is None or name.endswith(f":{type(thing).__name__}")
        where = "" if of_its_class else f"{name}: "
        raise UsageError(f"{where}expected a function or a class, got {quoted(thing)}")
    taken = next((one.name for one in _init_fields(made) if one.name in checked.reserved), None)
    if taken is not None:
        raise UsageError(
            f"{name}: its parameter {taken!r} is called as an option that every stage has: give it "
            "another name"
        )
    checked._complete(made)
    return made


def _from_class(
    checked: type[Checked], own: type[Any], name: str, space: dict[str, Any]
) -> type[Any]:
    _resolve_hints(own)
    call = _parameters(own.__call__, name)[1:] if "__call__" in dir(own) else []
    if call and not _is_whole(checked, own, [one.name for one in call]):
        return _from_callable(checked, own, call, name, space)
    lacking(space["_origin"][0], name, own)
    made = own if is_dataclass(own) else _with_options(own, name)
    doc = own.__doc__ if own.__dict__.get("__doc__") else None
    return type(own.__name__, (checked, made, checked.defaults), space | {"__doc__": doc})


def _is_whole(checked: type[Checked], own: type[Any], parameters: Sequence[str]) -> bool:
    """Whether a class is a component as it is, not one whose objects are used as functions."""
    return checked._is_as_ours(own, parameters) and not _missing(checked.required, own)


def _from_callable(
    checked: type[Checked],
    own: type[Any],
    call: Sequence[inspect.Parameter],
    name: str,
    space: dict[str, Any],
) -> type[Any]:
    """A class whose objects are called as functions are: its options are those of ``__init__``."""
    base = checked.function
    data = base.data_of([one.name for one in call])
    space |= {"data": data, "__doc__": own.__doc__, "_options": {}}
    space["_fields"] = _without_default(call, data)
    space["_annotated"] = staticmethod(own.__call__)
    space["_function"] = cached_property(
        lambda self: own(**{one.name: getattr(self, one.name) for one in _init_fields(self)})
    )
    for attribute in base.declared:
        if isinstance(getattr(own, attribute, None), property):
            space[attribute] = property(partial(_declared_by, attribute))
        elif hasattr(own, attribute):
            space[attribute] = getattr(own, attribute)
    options = _as_fields(_parameters(own, name), own.__init__)
    return make_dataclass(
        own.__name__, options, bases=(checked, base), frozen=True, namespace=space
    )


def _declared_by(attribute: str, made: Any) -> Any:
    return getattr(made._function, attribute)


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
    space["_annotated"] = staticmethod(_annotated(function))
    space["_fields"] = _without_default(options) if base.reads_fields else ()
    for attribute in base.declared:
        if hasattr(function, attribute):
            space[attribute] = getattr(function, attribute)
    return make_dataclass(
        name_of(function),
        _as_fields(options, function, space["_fields"]),
        bases=(checked, base),
        frozen=True,
        namespace=space,
    )


def _annotated(function: Callable[..., Any]) -> Callable[..., Any]:
    """What has the annotations of a function, of a part of one, or of an object's ``__call__``."""
    inner = function.func if isinstance(function, partial) else function
    return inner if inspect.isroutine(inner) else type(inner).__call__


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # of builtins
        raise UsageError(f"{name}: the parameters of {function!r} are not known") from None
    if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))):
        raise UsageError(f"{name}: expected a function, got one of async def: use def")
    star = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one for one in signature.parameters.values() if one.kind not in star]


def _without_default(
    parameters: Sequence[inspect.Parameter], data: Sequence[str] = ()
) -> tuple[str, ...]:
    every = (one.name for one in parameters if one.default is inspect.Parameter.empty)
    return tuple(name for name in every if name not in data)


def _as_fields(
    parameters: Sequence[inspect.Parameter], owner: Any, unset: Sequence[str] = ()
) -> list[Any]:
    """Dataclass fields of parameters; those ``unset`` are None where nothing is given."""
    hints = hints_of(owner)
    defaults = {one.name: None if one.name in unset else one.default for one in parameters}
    return [
        (one.name, _type_of(one, hints), field(kw_only=True))
        if defaults[one.name] is inspect.Parameter.empty
        else (one.name, _type_of(one, hints), _default(defaults[one.name]))
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


def hints_of(owner: Any) -> dict[str, Any]:
    """The types in annotations; those that only checkers can resolve are left out."""
    try:
        return get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, AttributeError):
        owners = owner.__mro__[::-1] if isinstance(owner, type) else (owner,)
        every = [(one, *item) for one in owners for item in _annotations(one).items()]
        found: dict[str, Any] = {}
        for place, key, hint in every:
            with suppress(NameError, TypeError, AttributeError):
                found |= get_type_hints(_with_hint(place, key, hint), include_extras=True)
        return found


def _annotations(owner: Any) -> dict[str, Any]:
    """Those of a function, or of a class without its bases."""
    if isinstance(owner, type):  # as an attribute they may be those of a base
        return vars(owner).get("__annotations__") or {}
    return getattr(owner, "__annotations__", None) or {}


def _with_hint(owner: Any, key: str, hint: Any) -> Any:
    """An object with this annotation alone, which is resolved where the owner's are."""
    own = {"__annotations__": {key: hint}}
    if isinstance(owner, type):
        return type("_", (), {**own, "__module__": owner.__module__})
    return SimpleNamespace(**own, __globals__=getattr(owner, "__globals__", {}))


def _resolve_hints(own: type[Any]) -> None:
    """Let a class's annotations be resolved: any value fits those that only checkers can."""
    known = hints_of(own)
    for one in own.__mro__:
        annotations = _annotations(one)
        annotations |= dict.fromkeys(annotations.keys() - known.keys(), Any)
