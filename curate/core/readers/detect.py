"""Which format a source has: told by its first rows together, said aloud, never row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from curate.core.errors import BadRow, DataError
from curate.core.registry import find, names
from curate.core.types import Format, Row

__all__ = ["FORMATS", "SAMPLE", "Detected", "detect", "named"]

FORMATS: Final = "curate.formats"
SAMPLE: Final = 50
"""How many good rows detection looks at."""

Detected = tuple[str, Format, int]
"""Name, format, and how many of the rows looked at match it."""


def named(name: str) -> Format:
    """The format called ``name``.

    Raises:
        UsageError: there is none; the text names the closest.
    """
    made: Format = find(FORMATS, name)()
    return made


def detect(source: str, rows: Sequence[Row]) -> Detected:
    """The one format that more than half of ``rows`` match.

    A format that lists others in ``over`` is preferred to them when both match.

    Raises:
        DataError: none does, or more than one; the text names the candidates and the flag to set.
    """
    counts = _count(rows)
    fitting = {name: made for name, made in counts.items() if 2 * made[2] > len(rows)}
    beaten = {other for _, made, _ in fitting.values() for other in made.over}
    left = [made for name, made in fitting.items() if name not in beaten]
    if len(left) == 1:
        return left[0]
    if left:
        both = " and ".join(name for name, _, _ in left)
        raise DataError(
            f"{source}: its rows fit {both}; say which with --format {left[0][0]} "
            f"or --format {left[-1][0]}"
        )
    raise DataError(f"{source}: {_no_format(counts, rows)}")


def _count(rows: Sequence[Row]) -> dict[str, Detected]:
    formats = {name: named(name) for name in names(FORMATS)}
    return {
        name: (name, made, sum(made.matches(row) for row in rows)) for name, made in formats.items()
    }


def _no_format(counts: dict[str, Detected], rows: Sequence[Row]) -> str:
    best = max(counts.values(), key=lambda made: made[2])
    keys = ", ".join(sorted({str(key)[:40] for row in rows[:5] for key in row})[:12])
    if best[2]:
        found = f"only {best[2]} of the first {len(rows)} rows fit {best[0]}, none fits more"
    else:
        found = f"no format fits rows with {f'the keys {keys}' if keys else 'no keys'}"
    return (
        f"{found}; set --format (one of {', '.join(counts)}), or rename keys with "
        "--map, as in --map question=prompt"
    )


def renamed(row: Row, mapping: Mapping[str, str]) -> Row:
    """``row`` with its keys as ``mapping`` has them.

    Raises:
        BadRow: two keys would have one name.
    """
    result: dict[str, Any] = {}
    for key, value in row.items():
        name = mapping.get(key, key)
        if name in result:
            raise BadRow("duplicate_key", f"{key!r} is renamed to {name!r}, which is there too")
        result[name] = value
    return result
