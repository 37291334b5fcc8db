"""``siftune curate agree``: judges' labels in one file against gold labels in another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import rich_click as click

from siftune.curate.commands.label_join import joined, label_rows, report_on
from siftune.curate.commands.output_commands import OutOption, WritingCommand
from siftune.curate.commands.shared_options import json_option
from siftune.curate.core.errors import UsageError
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.files.outputs import check_folder

if TYPE_CHECKING:
    from pathlib import Path

    from siftune.curate.judge_stats.calibration import Method

__all__ = ["agree"]


@click.command(cls=WritingCommand)
@click.argument("judged")
@click.argument("gold")
@click.option(
    "--judge",
    "judges",
    required=True,
    multiple=True,
    metavar="COLUMN[,COLUMN]",
    help="Columns of JUDGED with a judge's labels; several are compared, and voted as a panel.",
)
@click.option(
    "--label",
    metavar="COLUMN",
    help="Column of GOLD with the true labels.  [default: the name of the judge's]",
)
@click.option(
    "--on",
    metavar="COLUMN",
    help="Column that both files have one value of for each row.  [default: id, that of the run "
    "or that of its source, else digest]",
)
@click.option(
    "--prompt",
    metavar="COLUMN",
    help="Column of JUDGED whose equal values are one draw of the intervals.  [default: the "
    "prompt of the row, where it has one]",
)
@click.option(
    "--level",
    type=click.Choice(("nominal", "ordinal", "interval", "probability")),
    help="Kind of label: names, ranks, numbers, or the probability of a gold 1.  [default: what "
    "the labels are]",
)
@click.option(
    "--tie", default="tie", show_default=True, help="Label of a tie; also 0.5 beside 0 and 1."
)
@click.option("--win", help="Label of a win, for win rates that are corrected by gold.")
@click.option(
    "--worst",
    type=click.IntRange(0),
    metavar="INT",
    default=5,
    show_default=True,
    help="Number of rows to list that differ most.",
)
@click.option(
    "--calibrate",
    type=click.Choice(("platt", "isotonic", "temperature")),
    help="Fit the judge's scores to gold labels of 0 and 1, and write calibration.json to --out: "
    "the option calibration of scorers that ask a judge.",
)
@click.option(
    "--fit-weights",
    is_flag=True,
    help="Fit the weights of the task propositions to gold labels, higher for better answers, and "
    "write weights.json to --out: the task's option weights.",
)
@click.option(
    "--out",
    cls=OutOption,
    check=check_folder,
    help="Folder of what --calibrate or --fit-weights fits, created or replaced.",
)
@json_option("the result")
def agree(
    judged: str,
    gold: str,
    judges: tuple[str, ...],
    as_json: bool,
    calibrate: Method | None,
    fit_weights: bool,
    out: Path | None,
    **how: Any,
) -> None:
    """Measure how the labels in JUDGED agree with those in GOLD, with 95 % intervals.

    Both are files or folders of rows (JSON lines, CSV, parquet, a run folder), joined by an id.
    Kappa (agreement beyond chance) comes first; rows of one prompt are one draw. With --win the win
    rate is corrected by the gold labels of a part of the rows.

    Example: siftune curate agree judged gold.jsonl --judge winner --label label --win first
    """
    from siftune.curate.commands import agree_outputs  # which loads numpy: help is quick

    if bool(calibrate or fit_weights) != (out is not None):
        raise UsageError("--out and one of --calibrate and --fit-weights: give both or neither")
    names = [name.strip() for value in judges for name in value.split(",")]
    listed = list(dict.fromkeys(names))
    rows, gold_rows = label_rows(judged), label_rows(gold)
    report = report_on(rows, gold_rows, listed, judged, gold, **how)
    kin = {name: agree_outputs.kin_of(judged, name, rows) for name in listed}
    fitted: dict[str, Any] = {}
    if out is not None:
        if len(listed) > 1:
            raise UsageError("--out: one judge is fitted at a time: give one column to --judge")
        given = joined(rows, gold_rows, listed, judged, gold, **_of_join(how))
        fitted = agree_outputs.write(out, given, calibrate, fit_weights)
    if as_json:
        echo_json({**report.as_dict(), "kin": kin, **fitted})
    else:
        echo("\n".join([str(report), *agree_outputs.lines(kin, fitted, out)]))


def _of_join(how: Mapping[str, Any]) -> dict[str, Any]:
    return {name: how[name] for name in ("label", "on", "prompt")}
