"""Options of components: whether one has to be set, and the check of a value by its type."""

from __future__ import annotations

from dataclasses import MISSING, Field
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import outside, types_of, types_with_ranges

__all__ = ["check_value", "is_required"]

_SHOWN: Final = 200  # characters of a value that is refused


def is_required(field: Field[Any]) -> bool:
    """Whether an option, as a dataclass field, has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def check_value(component: type[Any], key: str, value: Any, name: str) -> Any:
    """The value of an option, in the type that the component's field has.

    Raises:
        UsageError: it is of another type, outside of its range, or no finite number; the text
            begins with ``name``, what the user calls the component.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError  # heavy; `--help` needs none

    hint = types_of(component)[key]
    if isinstance(value, bool) and bool not in (hint, *get_args(hint)) and hint is not Any:
        raise UsageError(f"{name}: {key}: expected {_type_name(hint)}, got {value}")
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    lists = any(get_origin(kind) is tuple for kind in kinds)
    if isinstance(value, str) and lists and str not in kinds:
        raise UsageError(
            f"{name}: {key}: expected a list, such as {value.split(',')}, got {_short(value)}"
        )
    config = ConfigDict(strict=False, allow_inf_nan=False)  # no option means NaN or infinity
    try:
        found = TypeAdapter(hint, config=config).validate_python(value)
    except ValidationError as error:
        if hasattr(value, "save_pretrained"):  # a tokenizer or model of transformers
            raise UsageError(
                f"{name}: {key}: expected a name or a folder, got a {type(value).__name__} in "
                "memory: write it with its save_pretrained(FOLDER), and give the folder"
            ) from None
        problem = error.errors()[0]["msg"]
        raise UsageError(f"{name}: {key}: {problem} (got {_short(value)})") from None
    wrong = outside(types_with_ranges(component)[key], found)
    if wrong is not None:
        raise UsageError(f"{name}: {key}: {wrong}")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _type_name(hint: Any) -> str:
    """A type as users write it, without None."""
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_type_name(one) for one in get_args(hint) if one is not NoneType)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    return getattr(hint, "__name__", str(hint)).replace("typing.", "")
