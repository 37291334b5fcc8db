"""A format's usual records, declared, so that many of them can be taken without reading each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Layout", "Said"]


@dataclass(frozen=True)
class Said:
    """One turn: its role, the key of its text, and of a text that may follow after a blank line.

    The text ``beside`` may be missing, null or empty, and is then as if it were not there; else it
    stays in ``extra`` as well.
    """

    role: str
    key: str
    beside: str | None = None


@dataclass(frozen=True)
class Layout:
    """What `Format.read` makes of a record whose fields are just this; of others nothing is said.

    ``columns`` are the content columns with their turns. Where ``listed`` names keys instead, just
    one of them holds the list of turns, each an object of ``turn`` (role and text) and nothing
    else, with roles of ``roles`` (raw to ours). ``numbers`` are facts, finite numbers or null.
    ``unused`` fields are dropped where they are null or empty; where they are not, the layout does
    not apply. All other fields are left to ``extra``. Rows whose ``differ`` columns are equal are
    not taken.
    """

    columns: Mapping[str, tuple[Said, ...]] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    turn: tuple[str, str] = ("role", "content")
    roles: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    differ: tuple[str, str] | None = None
