"""``siftune curate fit-quality`` and ``fit-weights``: what is fitted to rows, to score others."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from siftune.curate.commands.click_commands import HintingCommand
from siftune.curate.commands.output_commands import OutOption, WritingCommand, command_name
from siftune.curate.commands.shared_options import (
    LARGEST,
    json_option,
    layout_option,
    limit_option,
    seed_option,
)
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.files.outputs import check_folder

if TYPE_CHECKING:
    import polars as pl

    from siftune.curate.heads.head import Head
    from siftune.curate.heads.score_weights import Proxy, ScoreWeights

__all__ = ["fit_quality", "fit_weights"]

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
@layout_option
@limit_option
@seed_option("the folds")
@json_option("the head's facts")
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
        found.insert(1, f"not calibrated, its scores stay as fitted: {facts['uncalibrated']}")
    return found + figure_lines(facts["figures"])


@click.command("fit-weights", cls=HintingCommand)
@click.argument("rows")
@click.option(
    "--scores",
    required=True,
    metavar="COLUMN[,COLUMN]",
    help="Scores to weigh, columns or expressions of which a larger value is better.",
)
@click.option(
    "--against",
    required=True,
    metavar="SOURCE",
    help="Held-out rows, such as you want answered well: the loss on one half of their prompts "
    "chooses the weights, the loss on the other half is reported.",
)
@click.option(
    "--keep",
    required=True,
    type=click.IntRange(1, LARGEST),
    metavar="INT",
    help="Number of rows of each selection.",
)
@click.option(
    "--loss",
    metavar="FILE.py:NAME",
    help="Function of yours that trains on a frame of selected rows and returns the loss on a "
    "frame of held-out ones.  [default: an n-gram model]",
)
@click.option(
    "--proxies",
    type=click.IntRange(8, 100_000),
    metavar="INT",
    default=64,
    show_default=True,
    help="Number of random weightings that are tried.",
)
@seed_option("the weightings")
@json_option("the fit")
def fit_weights(
    rows: str,
    scores: str,
    against: str,
    keep: int,
    loss: str | None,
    proxies: int,
    seed: int,
    as_json: bool,
) -> None:
    """Learn how to weigh several scores of ROWS, a scored run or table, for a held-out set.

    Rows are selected by random weights of the standard scores, a small model is trained on each
    selection, and a regression from weights to held-out losses chooses the weights (the plan of
    Meta-rater, arXiv:2504.14194). What is printed is an expression for --by.

    Example: siftune curate fit-weights runs/scored --scores ifd,-length_words --against held.jsonl
    --keep 1000
    """
    from siftune.curate.commands.option_types import value_of
    from siftune.curate.dedup.reference_rows import reference_rows
    from siftune.curate.heads.score_weights import fit_score_weights, halves

    names = value_of("--scores", tuple[str, ...], scores)
    table = reference_rows(rows)
    choose, check = (_proxy(loss, table, half) for half in halves(reference_rows(against), seed))
    fit = fit_score_weights(table, names, keep, choose, check, proxies, seed)
    if as_json:
        echo_json(fit.as_dict())
    else:
        echo("\n".join(_weight_lines(fit)))


def _proxy(loss: str | None, table: pl.DataFrame, held_out: pl.DataFrame) -> Proxy:
    from siftune.curate.core.custom_file import custom_thing
    from siftune.curate.core.errors import UsageError
    from siftune.curate.heads.score_weights import NgramProxy
    from siftune.curate.rows.chat import text_of

    if loss is None:
        return NgramProxy(text_of(table, "both"), text_of(held_out, "both"))
    function = custom_thing(loss)
    if not callable(function):
        raise UsageError(f"--loss {loss}: expected a function of two frames, got {function!r}")
    return lambda rows: float(function(table[rows], held_out))


def _weight_lines(fit: ScoreWeights) -> list[str]:
    losses = {
        "these weights": fit.loss,
        "all alike": fit.equal,
        "the best score alone": fit.best_single,
        "five random selections, mean ({:.5g} to {:.5g})".format(*fit.random_range): fit.random,
    }
    return [
        f'--by "{fit.by}"',
        f"loss of {fit.kept:,} of {fit.rows:,} rows on held-out prompts that chose no weights:",
        *(f"  {value:.5g}  {name}" for name, value in losses.items()),
        f"{fit.proxies} proxies; R² of the regression {fit.r2:.2f}, leave-one-out",
    ]
