"""``siftune curate measure``: figures of a set of rows as a whole, by their embeddings."""

from __future__ import annotations

import rich_click as click

from siftune.curate.commands.click_commands import HintingCommand
from siftune.curate.commands.shared_options import json_option
from siftune.curate.core.terminal import echo, echo_json

__all__ = ["measure"]


@click.command(cls=HintingCommand)
@click.argument("rows")
@click.option(
    "--pool",
    metavar="SOURCE",
    help="Rows that ROWS were selected from: for coverage, and for the densities of NovelSum.",
)
@click.option(
    "--embedding",
    metavar="COLUMN",
    default="embedding",
    show_default=True,
    help="Column with the embeddings; rows without any are embedded.",
)
@click.option(
    "--model",
    metavar="MODEL",
    help="Embedding model for rows without embeddings, a name or folder.  [default: "
    "all-MiniLM-L6-v2]",
)
@json_option("the figures")
def measure(rows: str, pool: str | None, embedding: str, model: str | None, as_json: bool) -> None:
    """Measure ROWS as a set: Vendi score, NovelSum, log-determinant, and coverage of a pool.

    ROWS and the pool are run folders, tables or raw files; of a run folder its kept rows count.
    Figures of sets of different sizes do not compare, but for coverage of one pool. NovelSum takes
    every pair of rows: minutes for tens of thousands.

    Example: siftune curate measure runs/best --pool runs/all
    """
    from siftune.curate.runners.measure import measure as figures_of

    found = figures_of(rows, pool, embedding, model)
    if as_json:
        echo_json(found.as_dict())
    else:
        echo(str(found))
