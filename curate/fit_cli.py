"""``siftune curate fit-quality``: a quality head fitted to labelled rows."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from siftune.curate.commands.output_commands import OutOption, WritingCommand, command_name
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.files.outputs import check_folder

if TYPE_CHECKING:
    from siftune.curate.heads.head import Head

__all__ = ["fit_quality"]

_LARGEST: Final = 2**63 - 1
_JUDGED: Final = {
    "rating": "its ratings",
    "binary": "how likely its labels are a yes",
    "pairs": "which of two answers is better",
}


@click.command("fit-quality", cls=WritingCommand)
@click.argument("rows")
@click.option("--out", cls=OutOption, check=check_folder, required=True, help="Folder of the head.")
@click.option(
    "--label",
    metavar="COLUMN",
    help="Column with the labels: ratings, 0 and 1, or a judge's column.  [default: of preference "
    "rows none, the chosen answer is the better one]",
)
@click.option(
    "--positive",
    metavar="TEXT",
    help="The label that is a yes, where labels are texts; any other is a no.",
)
@click.option(
    "--features",
    type=click.Choice(("both", "embedding", "simple")),
    default="both",
    show_default=True,
    help="What the head reads: frozen embeddings, simple statistics of the text, or both.",
)
@click.option(
    "--model",
    metavar="MODEL",
    help="Embedding model, a name or folder.  [default: all-MiniLM-L6-v2]",
)
@click.option(
    "--calibration",
    type=click.Choice(("platt", "isotonic")),
    default="platt",
    show_default=True,
    help="Curve from scores to labels; isotonic takes any shape, wants hundreds of rows, and fits "
    "no pairs.",
)
@click.option("--format", "layout", help="Raw layout of the rows, where it is not detected.")
@click.option(
    "--limit",
    type=click.IntRange(1, _LARGEST),
    metavar="INT",
    help="Largest number of rows to read.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="INT",
    default=0,
    show_default=True,
    help="Seed of the folds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the head's facts as one JSON object.")
def fit_quality(
    rows: str,
    out: Path,
    label: str | None,
    positive: str | None,
    features: Any,
    model: str | None,
    calibration: Any,
    layout: str | None,
    limit: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a quality head to the labelled ROWS: a trained judge, and the scorer fitted_quality.

    The head is linear on features of the prompt and its answer; ratings, labels of yes and no, and
    preference pairs are fitted. Its penalty, its calibration and its figures come from
    cross-validation in which the rows of a prompt stay together. It is a judge, too, by the name of
    its folder: siftune curate judge ROWS --judge head. `siftune finetune judge` trains a whole
    model on the same labels.

    Example: siftune curate fit-quality rated.jsonl --label stars --out head
    """
    from siftune.curate.core.errors import UsageError
    from siftune.curate.files.outputs import whole_folder
    from siftune.curate.heads.features import Features
    from siftune.curate.heads.fitting import fit_head
    from siftune.curate.heads.labelled import labelled_rows
    from siftune.curate.runners.judge_pairs import read_table
    from siftune.curate.runs.recipe import parse

    source = {"source": [rows], "format": layout, "limit": limit, "seed": seed}
    with TemporaryDirectory() as folder:
        table = read_table(parse({"name": "fit", **source, "stages": []}), Path(folder))
        labelled = labelled_rows(table, label, positive)
    if labelled.kind == "pairs" and calibration == "isotonic":
        raise UsageError("--calibration isotonic: pairs are fitted with platt, leave it out")
    head = fit_head(labelled, Features(features, model), calibration, seed)
    with whole_folder(out, command_name()) as part:
        head.write(part)
    if as_json:
        echo_json(head.described)
    else:
        echo("\n".join([*_lines(head), f"written to {out}"]))


def _lines(head: Head) -> list[str]:
    from siftune.curate.judge_calls.trained import figure_lines

    facts = head.facts
    left_out = f"; {facts['left_out']:,} without a label or a text left out" * bool(
        facts["left_out"]
    )
    found = [
        f"{facts['rows']:,} rows of {facts['prompts']:,} prompts{left_out}",
        f"judges {_JUDGED[head.kind]}; on prompts that were held out, with 95 % intervals:",
    ]
    if facts["uncalibrated"]:
        found.insert(1, f"not calibrated, its log-odds stay as fitted: {facts['uncalibrated']}")
    return found + figure_lines(facts["figures"])
