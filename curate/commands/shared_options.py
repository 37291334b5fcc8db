"""Options that commands of `curate` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import rich_click as click

from siftune.curate.files.source_spec import PAIRINGS

__all__ = [
    "LARGEST",
    "dry_run_option",
    "json_option",
    "layout_option",
    "limit_option",
    "pairs_option",
    "renames_option",
    "seed_option",
]

_Option: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
LARGEST: Final = 2**63 - 1  # of whole numbers that a command takes

layout_option: Final = click.option(
    "--format", "layout", help="Raw layout of the rows, where it is not detected."
)
renames_option: Final = click.option(
    "--map",
    "renames",
    multiple=True,
    metavar="KEY=NAME",
    help="Rename a key of the raw rows before they are read, such as question=prompt.",
)
limit_option: Final = click.option(
    "--limit",
    type=click.IntRange(1, LARGEST),
    metavar="INT",
    help="Largest number of rows to read.",
)
pairs_option: Final = click.option(
    "--pairs",
    type=click.Choice(PAIRINGS),
    help="Read ranked lists as preference pairs, with margins: which answers of each list.",
)


def seed_option(draws: str) -> _Option:
    """The option ``--seed``, of ``draws``."""
    return click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        metavar="INT",
        default=0,
        show_default=True,
        help=f"Seed of {draws}.",
    )


def json_option(what: str) -> _Option:
    """The flag ``--json``, which prints ``what``."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what} as one JSON object.")


def dry_run_option(text: str) -> _Option:
    """The flag ``--dry-run`` with its help."""
    return click.option("--dry-run", is_flag=True, help=text)
