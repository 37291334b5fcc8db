"""``siftune curate export``: the kept rows of a run in the layout of a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click
from click.exceptions import Exit

from siftune.curate.commands.click_commands import GivenPath
from siftune.curate.commands.output_commands import OutOption, WritingCommand
from siftune.curate.core.errors import PARTIAL
from siftune.curate.core.terminal import echo
from siftune.curate.files.outputs import check_folder

__all__ = ["export"]


class _ExportCommand(WritingCommand):
    """`export`, whose help lists the layouts."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from siftune.curate.core.registry import names, summary

        lines = (f"{name}: {summary('curate.exports', name)}" for name in names("curate.exports"))
        self.epilog = "\n\n".join(["Layouts of trainers:", *lines])
        super().format_help(ctx, formatter)


@click.command(cls=_ExportCommand)
@click.argument("run", type=GivenPath())
@click.option(
    "--format",
    "layout",
    default="trl",
    show_default=True,
    help="Layout of a trainer, listed below, or the name of a raw format.",
)
@click.option(
    "--as",
    "shape",
    help="Shape of the records: messages (of a pair: the chosen side), prompt_completion, "
    "prompt_only, preference, "
    "unpaired or text.  [default: what the kind of the rows is]",
)
@click.option(
    "--to",
    help="Container: jsonl, parquet or datasets.  [default: what the trainer's documentation uses]",
)
@click.option(
    "--with",
    "columns",
    multiple=True,
    metavar="COLUMN[,COLUMN]",
    help="Add a column: a score, source, id, or a field of the raw rows.",
)
@click.option(
    "--out",
    cls=OutOption,
    check=check_folder,
    required=True,
    help="Folder of the export, created or replaced.",
)
def export(
    run: Path, layout: str, shape: str | None, to: str | None, columns: tuple[str, ...], out: Path
) -> None:
    """Write the kept rows of RUN for a trainer or another tool, with a dataset card.

    RUN is a run folder, or the rows that a split set aside in one: runs/split/test.parquet.
    Conversations leave as lists of turns, so the trainer applies its chat template. Rows that the
    layout has no place for are left out and listed; then the exit code is 4.
    """
    from siftune.curate.export_files.write import export as write

    asked = [name.strip() for value in columns for name in value.split(",")]
    done = write(run, out, layout, to, shape, list(dict.fromkeys(asked)))
    for row in done.left_out[:5]:
        echo(f"{row.id}: left out: {row.why}", err=True)
    echo(f"{done.rows:,} rows written to {done.path}, {len(done.left_out):,} left out")
    if done.left_out:
        raise Exit(PARTIAL)
