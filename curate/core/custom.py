"""A component from a name of ours, ``FILE.py:NAME``, a function, a class or an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from siftune.curate.core.adapted import Checked
from siftune.curate.core.component_calls import PlainCall
from siftune.curate.core.custom_file import custom_class, register, short_name
from siftune.curate.core.registry import build, checked, find, names, options

__all__ = ["component", "name_and_options", "name_in_texts"]


def component(group: str, thing: Any, given: Mapping[str, Any] | None = None) -> Any:
    """The component of ``group`` (such as ``curate.scorers``) that ``thing`` is or names.

    A name is one of ours or ``path/file.py:NAME``. A class or function is called with the options
    ``given``, which are checked, and so is what it returns; an object that is a component already
    is returned as it is.

    Raises:
        UsageError: no such component or option; ``thing`` lacks what components of the group have.

    >>> import polars as pl
    >>> def cheap(table: pl.DataFrame) -> pl.Series:
    ...     return table["price"] < 5
    >>> component("curate.selectors", cheap)(pl.DataFrame({"price": [3, 9]}))["reason"].to_list()
    ['passed', 'not_cheap']
    """
    if isinstance(thing, str):
        return build(group, thing, given or {})
    if not isinstance(thing, type) and not given and not is_plain(thing):
        return thing
    name, _ = name_and_options(thing)
    return checked(custom_class(group, name), given or {}, name)


def is_plain(thing: Any) -> bool:
    """Whether an object is a function, and not a component with options of its own."""
    return not hasattr(type(thing), "__dataclass_fields__")


def name_and_options(thing: Any) -> tuple[str, dict[str, Any]]:
    """What a recipe or a trainer's option names ``thing`` by, and the options that it has.

    The name is found in this process alone, unless it is that of a file.

    >>> name_and_options("length")
    ('length', {})
    """
    if isinstance(thing, str):
        return thing, {}
    if isinstance(thing, PlainCall):
        return name_and_options(thing.component)
    if isinstance(thing, Checked):
        own = {key: getattr(thing, key) for key in options(type(thing))}
        unset = getattr(thing, "_fields", ())
        own = {key: value for key, value in own.items() if value is not None or key not in unset}
        return thing._origin[1], own
    if isinstance(thing, type) or is_plain(thing):
        return _own_name(thing) or register(thing), {}
    own = {key: getattr(thing, key) for key in options(type(thing))}
    return _own_name(type(thing)) or register(type(thing)), own


def name_in_texts(thing: Any) -> str:
    """The name of a component in errors: that of recipes and commands, without its file."""
    return short_name(name_and_options(thing)[0])


def _own_name(thing: Any) -> str | None:
    """The name of a component of ours, by its class; None for any other."""
    module = str(getattr(thing, "__module__", ""))
    group, _, name = module.removeprefix("siftune.").rpartition(".")
    ours = isinstance(thing, type) and module.startswith("siftune.") and group.count(".") > 0
    return name if ours and name in names(group) and find(group, name) is thing else None
