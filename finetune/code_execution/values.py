"""Values of the built-in types as JSON and back: what a program and its tests exchange.

Of the standard library only. Reading gives built-in types and nothing else, whatever was written:
an object of a class of the program's is named, and stays where it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["read", "written"]

_MOST_DIGITS: Final = 1 << 53  # JSON numbers beyond it are read and written in hex
_LISTS: Final = {"l": list, "t": tuple, "s": set, "f": frozenset}


def written(value: Any, name: Callable[[Any], int]) -> str:
    """The value as one line; ``name`` numbers an object that is no plain data."""
    return json.dumps(_tree(value, name))


def read(text: str | bytes, named: Callable[[int], Any]) -> Any:
    """Parse a line that `written` made; ``named(n)`` is put in place of object number n.

    Raises:
        ValueError: it is none.
    """
    try:
        return _value(json.loads(text), named)
    except (TypeError, ArithmeticError, LookupError, RecursionError) as error:
        raise ValueError(f"no value ({type(error).__name__})") from None


def _tree(value: Any, name: Callable[[Any], int]) -> Any:
    if value is None or isinstance(value, bool | float):
        return float(value) if isinstance(value, float) else value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int(value)
        return number if abs(number) < _MOST_DIGITS else ["i", format(number, "x")]
    if isinstance(value, dict):
        return ["d", [[_tree(key, name), _tree(own, name)] for key, own in value.items()]]
    for tag, kind in _LISTS.items():
        if isinstance(value, kind):
            return [tag, [_tree(one, name) for one in value]]
    return _rarer(value, name)


def _rarer(value: Any, name: Callable[[Any], int]) -> list[Any]:
    from decimal import Decimal  # dear to import, and rare
    from fractions import Fraction

    if isinstance(value, bytes | bytearray):
        return ["b", bytes(value).hex()]
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if isinstance(value, Decimal):
        return ["D", str(value)]
    if isinstance(value, Fraction):
        return ["F", format(value.numerator, "x"), format(value.denominator, "x")]
    return ["r", name(value)]


def _value(tree: Any, named: Callable[[int], Any]) -> Any:
    if not isinstance(tree, list):
        if isinstance(tree, Mapping):
            raise TypeError("an object")
        return tree
    tag, *rest = tree
    if tag in _LISTS:
        return _LISTS[tag](_value(one, named) for one in rest[0])
    if tag == "d":
        return {_value(key, named): _value(own, named) for key, own in rest[0]}
    return _rare(tag, rest, named)


def _rare(tag: str, rest: Sequence[Any], named: Callable[[int], Any]) -> Any:
    if tag == "r":
        return named(int(rest[0]))
    from decimal import Decimal
    from fractions import Fraction

    made: Mapping[str, Callable[..., Any]] = {
        "i": lambda digits: int(digits, 16),
        "b": bytes.fromhex,
        "c": complex,
        "D": Decimal,
        "F": lambda above, below: Fraction(int(above, 16), int(below, 16)),
    }
    return made[tag](*rest)
