"""Registry of components: found by file name in their folder, imported one by one."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import Field, fields
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

from siftune.curate.core import installed
from siftune.curate.core.adapted import Checked, adapter_modules
from siftune.curate.core.code_hash import code_hash
from siftune.curate.core.custom_file import (
    custom_class,
    custom_file,
    custom_text,
    custom_thing,
    is_custom,
)
from siftune.curate.core.errors import UsageError, closest
from siftune.curate.core.option_values import check_value, is_required
from siftune.curate.core.outline import outline
from siftune.curate.core.terminal import echo

__all__ = [
    "MissingOptionError",
    "build",
    "checked",
    "class_name",
    "closest",
    "code_of",
    "declared",
    "described",
    "find",
    "has",
    "long_name",
    "names",
    "options",
    "own_names",
    "source_of",
    "summary",
    "usable",
]


class MissingOptionError(UsageError):
    """An option that has no default is not set; ``option`` is its name, ``within`` a mapping's.

    The text is for a command line, that of `in_recipe` for a recipe.
    """

    component = ""
    option = ""
    within = ""
    note = ""

    @classmethod
    def of(
        cls, component: str, option: str, within: str = "", note: str = ""
    ) -> MissingOptionError:
        """The error of ``component``, with the flag that sets the option, or the mapping of it.

        ``note`` is appended to the text.
        """
        flag = f"--{(within or option).replace('_', '-')}"
        value = f"'{{{option}: [...]}}'" if within else "VALUE"
        error = cls(f"{component} needs the option {option!r}: {flag} {value}{note}")
        error.component, error.option, error.within = component, option, within
        error.note = note
        return error

    def in_recipe(self, path: str) -> str:
        """The text for a recipe in which the options of the component are at ``path``."""
        if self.within:
            wanted = f"set {self.within}: {{{self.option}: [...]}}"
            return f"{self.component} needs the option {self.option!r}: {wanted} in the recipe"
        return (
            f"{self.component} needs the option {self.option!r}: set {self.option}: VALUE in the "
            f"recipe, or -o {path}.{self.option}=VALUE{self.note}"
        )


@cache
def names(group: str) -> tuple[str, ...]:
    """Names of the components of ``group``, such as ``curate.scorers``, sorted."""
    return tuple(sorted({*own_names(group), *_points(group)}))


@cache
def usable(group: str) -> tuple[str, ...]:
    """The `names` whose components can be used; a line names each of another package that cannot.

    For what looks at all of a group: one broken package is no reason to stop.
    """
    for name in _offered(group)[1]:
        _note_left_out(group, name)
    return tuple(name for name in names(group) if name not in _points(group) or _loads(group, name))


def _loads(group: str, name: str) -> bool:
    try:
        find(group, name)
    except UsageError as error:
        echo(f"{error}: it is left out", err=True)
        return False
    return True


def own_names(group: str) -> set[str]:
    """Names of our own components."""
    return set().union(*(_modules(package) for package in _packages(group)))


def _modules(package: str) -> frozenset[str]:
    """Names of the components in one package."""
    return _modules_in(tuple(_package(package).__path__))


@cache
def _modules_in(path: tuple[str, ...]) -> frozenset[str]:
    own = {module.name for module in pkgutil.iter_modules(path) if not module.ispkg}
    return frozenset(name for name in own if not name.startswith("_") and name not in _SUPPORT)


_FURTHER = {"curate.scorers": "finetune.scorers"}
"""A package above the group's own with more of its components, looked up by name alone."""


def _packages(group: str) -> tuple[str, ...]:
    """The packages that hold our own components of a group."""
    return (group, _FURTHER[group]) if group in _FURTHER else (group,)


def _module(group: str, name: str) -> str:
    """The module of one of our own components."""
    package = next((one for one in _packages(group) if name in _modules(one)), group)
    return f"siftune.{package}.{name}"


_SUPPORT = {"types"}  # modules of a component folder that hold shapes, not a component


def _package(group: str) -> ModuleType:
    """The package of our own components of a group."""
    return importlib.import_module(f"siftune.{group}")


def _points(group: str) -> dict[str, EntryPoint]:
    """Components of the group in other packages."""
    return _offered(group)[0]


@cache
def _note_left_out(group: str, name: str) -> None:
    """Print once that another package's component of the name is left out, if there is one."""
    if (line := _offered(group)[1].get(name)) is not None:
        echo(line, err=True)


@cache
def _offered(group: str) -> tuple[dict[str, EntryPoint], dict[str, str]]:
    """What other packages offer for a group; ours keep their names, in all families."""
    above, taken = group.rpartition(".")[0], own_names(group)
    if above.endswith(".losses"):
        families = pkgutil.iter_modules(_package(above).__path__)
        taken = set[str]().union(
            *(own_names(f"{above}.{one.name}") for one in families if one.ispkg)
        )
    return installed.points(group, taken)


def has(group: str, name: str) -> bool:
    """Whether ``group`` has a component of that name, or it is the name of a user's own."""
    return name in names(group) or is_custom(name)


def long_name(group: str, name: str) -> str:
    """The name of a component that may be given without its ending.

    >>> long_name("curate.selectors", "exact"), long_name("curate.selectors", "random")
    ('exact_dedup', 'random')
    """
    whole = f"{name}_dedup"
    return whole if name not in names(group) and whole in names(group) else name


def find(group: str, name: str) -> type[Any]:
    """The component: the first class that the file ``name`` of ``group`` exports.

    A name ``path/file.py:NAME`` is one of the user's own.

    Raises:
        UsageError: there is none; the text names the closest one.
    """
    if is_custom(name):
        return custom_class(group, name)
    if name not in names(group):
        raise UsageError(f"no {_kind(group)} is called {name!r}; {_other(group, name)}")
    _note_left_out(group, name)
    if name in _points(group):
        return installed.loaded(group, _points(group)[name])
    module = importlib.import_module(_module(group, name))
    exported = (getattr(module, name) for name in module.__all__)
    return next(item for item in exported if isinstance(item, type))


_OTHER_GROUP = {"curate.scorers": "curate.selectors", "curate.selectors": "curate.scorers"}


def _other(group: str, name: str) -> str:
    """Advice after a name that ``group`` does not have: it may be of the other kind."""
    other = _OTHER_GROUP.get(group)
    if other is not None and (whole := long_name(other, name)) in names(other):
        return f"{whole} is a {_kind(other)}"
    return closest(name, names(group))


def described(group: str, name: str) -> type[Any]:
    """The class of a component for its help: options and documentation, at best (`outline`).

    Raises:
        UsageError: there is none; the text names the closest one.
    """
    ours = not is_custom(name) and name in names(group) and name not in _points(group)
    return (outline(_module(group, name)) if ours else None) or find(group, name)


def _kind(group: str) -> str:
    """The word for a component of a group.

    >>> _kind("curate.scorers"), _kind("finetune.policy_losses"), _kind("finetune.losses.pair")
    ('scorer', 'policy loss', 'pair objective')
    """
    above, _, name = group.rpartition(".")
    return (
        f"{name} objective"
        if above.endswith(".losses")
        else name.removesuffix("es" if name.endswith("sses") else "s").replace("_", " ")
    )


def build(group: str, name: str, given: Mapping[str, Any]) -> Any:
    """The component with its options set and checked.

    Raises:
        UsageError: unknown name or option, a value of the wrong type, or no finite number.
    """
    return checked(find(group, name), given, name)


def checked(component: type[Any], given: Mapping[str, Any], name: str = "") -> Any:
    """An instance of a dataclass with its options checked; see `build`."""
    name = name or component.__name__
    known = options(component)
    for key in given:
        if key not in known:
            raise UsageError(f"{name} has no option {key!r}; {_instead(component, key)}")
    missing = [key for key, field in known.items() if is_required(field) and key not in given]
    if missing:
        renamed = getattr(component, "renamed", ())
        before = [old for old, new in renamed if new == missing[0] and old in given]
        note = f" ({before[0]!r} has another meaning now)" if before else ""
        raise MissingOptionError.of(name, missing[0], note=note)
    values = {key: check_value(component, key, value, name) for key, value in given.items()}
    try:
        return component._made_of(values) if issubclass(component, Checked) else component(**values)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _instead(component: type[Any], wrong: object) -> str:
    """The option to set in place of one that is not there: its new name, or the closest."""
    renamed = dict(getattr(component, "renamed", ()))
    return (
        f"did you mean {renamed[wrong]}?"
        if wrong in renamed
        else closest(wrong, options(component))
    )


def options(component: type[Any]) -> dict[str, Field[Any]]:
    """The options of a component class: its dataclass fields, by name."""
    return {field.name: field for field in fields(component) if field.init}


def summary(group: str, name: str) -> str:
    """First line of a component's module docstring, read without importing it.

    A user's own is imported; its first line is that of the function or class.
    """
    if is_custom(name):
        return (custom_thing(name).__doc__ or f"{name}.").strip().partition("\n")[0]
    if name in _points(group):
        return installed.about(_points(group)[name])
    with source_of(group, name).open(encoding="utf-8") as source:
        return source.readline().strip().removeprefix("r").strip('"')


_DECLARED = re.compile(r"(?m)^    (\w+): ClassVar(?:\[.*\])? = (.+)$")


def declared(group: str, name: str) -> dict[str, Any]:
    """The class variables of a component that are literals on one line; nothing is imported."""
    found = {}
    for key, text in _DECLARED.findall(_source(group, name)):
        with suppress(ValueError, SyntaxError):
            found[key] = ast.literal_eval(text)
    return found


_EXPORTED = re.compile(r"""(?m)^__all__ = \[\s*["'](\w+)["']""")


def class_name(group: str, name: str) -> str | None:
    """The name of a component's class; nothing is imported."""
    if name in _points(group):
        return _points(group)[name].attr
    found = _EXPORTED.search(_source(group, name))
    return found[1] if found else None


def _source(group: str, name: str) -> str:
    file = source_of(group, name)
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def source_of(group: str, name: str) -> Path:
    """The file of a component, whose code is part of a stage's key."""
    if is_custom(name) and (own := custom_file(name)) is not None:
        return own
    if name in _points(group):
        return installed.module_file(_points(group)[name]) or Path()
    folders = [folder for package in _packages(group) for folder in _package(package).__path__]
    places = [Path(folder) / f"{name}.py" for folder in folders]
    return next((place for place in places if place.is_file()), places[0])


def code_of(group: str, name: str, *more: str, alone: Iterable[str] = ()) -> str:
    """Hash of the code of a component, of what it imports, and of ``more`` modules (`code_hash`).

    Of a user's file, modules in its folder count too, and ours that check its answers; of a
    function that was given as such, its text and the values that it uses.
    """
    if is_custom(name):
        file = custom_file(name)
        own = () if file is None else (file.resolve(),)
        modules = (*adapter_modules(group), *more)
        return custom_text(name) + code_hash(*own, *modules, alone=alone)
    module = _points(group)[name].module if name in _points(group) else _module(group, name)
    return code_hash(module, *more, alone=alone)


def _rebuilt(group: str, name: str, options: Mapping[str, Any]) -> Any:
    """The custom component that another process pickled."""
    return find(group, name)(**options)


Checked.rebuild = staticmethod(_rebuilt)
