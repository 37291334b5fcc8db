"""``siftune curate profile``: what is in a set of rows, before any decision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click
from click.exceptions import Exit

from siftune.curate.commands.option_types import renamed_keys
from siftune.curate.commands.output_commands import OutOption, WritingCommand, command_name
from siftune.curate.core.errors import PARTIAL
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.curate.files.source_spec import PAIRINGS

__all__ = ["profile"]

_LARGEST = 2**63 - 1
_COUNT = click.IntRange(1, _LARGEST)


@click.command(cls=WritingCommand)
@click.argument("sources", nargs=-1, required=True, metavar="DATA...")
@click.option(
    "--against",
    multiple=True,
    metavar="FILE",
    help="Benchmark whose items are searched for in the rows; may be given several times.",
)
@click.option(
    "--quality", metavar="HEAD", help="Head of `siftune curate fit-quality`, for quality."
)
@click.option(
    "--toxicity",
    metavar="MODEL",
    help="Head fitted to toxic texts, or a sequence classifier, for toxicity.",
)
@click.option("--label", metavar="LABEL", help="Toxic class of a sequence classifier.")
@click.option(
    "--tokenizer",
    metavar="MODEL",
    help="Tokenizer that lengths are counted in too: a file, or a model by name or folder.",
)
@click.option(
    "--sample",
    type=_COUNT,
    metavar="INT",
    default=5_000,
    show_default=True,
    help="Largest number of rows that are embedded, judged by a head, or searched for label noise.",
)
@click.option(
    "--clusters",
    type=click.IntRange(0, _LARGEST),
    metavar="INT",
    help="Number of clusters, 0 for none.  [default: square root of half the sample, at most 20]",
)
@click.option(
    "--model",
    metavar="MODEL",
    help="Embedding model for the clusters, a name or folder.  [default: all-MiniLM-L6-v2]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="INT",
    default=0,
    show_default=True,
    help="Seed of the sample and of the clusters.",
)
@click.option(
    "--parts",
    metavar="PART[,PART]",
    help="Parts to look at: sources, conversations, tasks, lengths, languages, duplicates, leaks, "
    "personal_data, flags, code, pairs, quality, toxicity, clusters.  [default: all]",
)
@click.option("--format", "layout", help="Raw layout of the rows, where it is not detected.")
@click.option(
    "--map",
    "renames",
    multiple=True,
    metavar="KEY=NAME",
    help="Rename a key of the raw rows before they are read, such as question=prompt.",
)
@click.option("--limit", type=_COUNT, metavar="INT", help="Largest number of rows to read.")
@click.option(
    "--pairs",
    type=click.Choice(PAIRINGS),
    help="Read ranked lists as preference pairs: which answers of each list.",
)
@click.option(
    "--out",
    cls=OutOption,
    check=check_folder,
    help="Folder of profile.html and profile.json, created or replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
@click.option("--dry-run", is_flag=True, help="Print the time and memory it takes, and no figures.")
def profile(
    sources: tuple[str, ...],
    against: tuple[str, ...],
    quality: str | None,
    toxicity: str | None,
    label: str | None,
    tokenizer: str | None,
    sample: int,
    clusters: int | None,
    model: str | None,
    seed: int,
    parts: str | None,
    layout: str | None,
    renames: tuple[str, ...],
    limit: int | None,
    pairs: Any,
    out: Path | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Show what is in DATA (anything that `ingest` reads) before any decision; no row is changed.

    Sources, kinds of prompts, topics with sample rows, languages, lengths, duplicates, leaks of
    benchmarks, personal data and secrets by kind (never their text), refusals and other flags,
    quality and toxicity where a model is named; of pairs length bias and label noise too. What was
    not looked at is listed with the reason, also a benchmark file that cannot be read. No language
    model runs. Where there are several kinds of rows, such as instructions and pairs, each has its
    own figures. Records that could not be read are counted by reason, empty files are named, and
    the exit code is then 4.

    Example: siftune curate profile chats.jsonl --against gsm8k_test.jsonl --out profile
    """
    from siftune.curate.core.progress import Progress, announcing
    from siftune.curate.files.atomic import write_json
    from siftune.curate.profiling.pages import as_page
    from siftune.curate.profiling.profile import forecast_profile
    from siftune.curate.profiling.profile import profile as made
    from siftune.curate.profiling.scoring import Asked
    from siftune.curate.runs.recipe import Recipe

    new = renamed_keys(renames)
    recipe = Recipe("profile", sources, (), seed, layout, new, limit, pairs=pairs)
    listed = tuple(one.strip() for one in (parts or "").split(",") if one.strip())
    asked = Asked(
        against, quality, toxicity, label, tokenizer, sample, clusters, model, seed, listed
    )
    progress = Progress()
    with announcing(progress):
        if dry_run:
            echo(f"{forecast_profile(recipe, asked)}\nnothing was written (--dry-run)")
            return
        done = made(recipe, asked, progress, forecast=True)
    facts = done.to_dict()
    if out is not None:
        with whole_folder(out, command_name()) as part:
            write_json(part / "profile.json", facts)
            page = as_page(facts, command_name())
            (part / "profile.html").write_text(page, encoding="utf-8")
    if as_json:
        echo_json(facts)
    else:
        echo(done)
        if out is not None:
            echo(f"\nwritten to {out / 'profile.html'}")
    if facts["quarantined"] or facts.get("empty_files"):
        raise Exit(PARTIAL)
