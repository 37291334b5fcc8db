"""``siftune curate judge``: rows judged by an LLM, and its forecast; ``judges``: what there is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import rich_click as click
from click.exceptions import Exit

from siftune.curate.commands.click_commands import HintingCommand, component_options, parsed
from siftune.curate.commands.option_types import renamed_keys
from siftune.curate.commands.output_commands import OutOption, WritingCommand, command_name
from siftune.curate.commands.shared_options import (
    LARGEST,
    dry_run_option,
    json_option,
    layout_option,
    limit_option,
    renames_option,
    seed_option,
)
from siftune.curate.core.errors import PARTIAL, UsageError
from siftune.curate.core.outline import outline
from siftune.curate.core.registry import names, summary
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.runners.run_folder import check_run

if TYPE_CHECKING:
    from siftune.curate.judging.call_forecast import CallForecast
    from siftune.curate.judging.judge_columns import JudgeColumns
    from siftune.curate.judging.pairs import PairsOf
    from siftune.curate.runners.run import Result
    from siftune.curate.runs.recipe import Recipe

__all__ = ["judge", "judges"]

_COLUMNS: Final = "siftune.curate.judging.judge_columns"


def _columns() -> type[Any]:
    """The class of a judge's options, for help without polars."""
    from_text = outline(_COLUMNS)
    if from_text is not None:
        return from_text
    from siftune.curate.judging.judge_columns import JudgeColumns

    return JudgeColumns


class _JudgeCommand(WritingCommand):
    """`judge`, with the options of the scorers that ask a judge."""

    def __init__(self, *args: Any, params: list[click.Parameter], **kwargs: Any) -> None:
        own = component_options(_columns(), leave=("judge", "task", "panel"))
        super().__init__(*args, params=[*params, *own], **kwargs)


@click.command(cls=_JudgeCommand)
@click.argument("rows")
@click.option(
    "--judge",
    "judges",
    required=True,
    multiple=True,
    metavar="JUDGE",
    help="A chat model (name or folder), the folder of a trained judge, URL#MODEL of a server, "
    "classifier:FOLDER or scripted:FILE.py:NAME; several are a panel, which votes.",
)
@click.option(
    "--task",
    metavar="NAME",
    help="What is judged, of `siftune curate judges`.  [default: alpagasus, of pairs and with "
    "--label pairwise; of a trained judge its own]",
)
@click.option(
    "--out",
    cls=OutOption,
    check=check_run,
    help="Folder of the run, created or replaced.  [required, but with --dry-run and --pilot]",
)
@click.option(
    "--label",
    is_flag=True,
    help="Make preference rows: of two answers to a prompt the one that the judge prefers is "
    "chosen, ties and inconsistent verdicts are dropped.",
)
@click.option(
    "--pairs",
    type=click.Choice(("neighbours", "all")),
    default="neighbours",
    show_default=True,
    help="With --label, the answers to a prompt that are compared: the first and second, the third "
    "and fourth …, or any two.",
)
@click.option(
    "--pilot",
    type=click.IntRange(1, LARGEST),
    metavar="INT",
    help="Judge so many rows at random, print the forecast of all, and stop; their answers are "
    "kept and count.",
)
@click.option(
    "--tokenizer",
    metavar="MODEL",
    help="Tokenizer of the judge's model, for forecasts of a server's tokens.",
)
@click.option(
    "--report",
    is_flag=True,
    help="Print the judge's biases, and the agreement of a panel, with 95 % intervals.",
)
@layout_option
@renames_option
@limit_option
@seed_option("the rows of a pilot")
@dry_run_option("Print calls, tokens and money, and ask nothing.")
@json_option("the result")
def judge(
    rows: str,
    judges: tuple[str, ...],
    task: str | None,
    out: Path | None,
    label: bool,
    pairs: PairsOf,
    pilot: int | None,
    tokenizer: str | None,
    report: bool,
    layout: str | None,
    renames: tuple[str, ...],
    limit: int | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Judge ROWS by an LLM: ratings, comparisons, tags or texts as columns of a run folder.

    A row that got no verdict is null with the reason in the column that ends with _error, and the
    exit code is 4. Every answer is kept: the same command asks none of them again. ROWS is data
    that `ingest` reads, or a run folder.

    Example: siftune curate judge rows.jsonl --judge smollm2 --task deita_quality --out judged
    """
    from siftune.curate.judging.judge_columns import JudgeColumns

    options = parsed(JudgeColumns, given)
    source: dict[str, Any] = {"source": [rows], "format": layout, "map": renamed_keys(renames)}
    source |= {"limit": limit, "seed": seed}
    if not (dry_run or pilot) and out is None:
        raise UsageError("name the folder of the run: --out FOLDER")
    if pilot and not dry_run and out is None:
        _refuse_uncounted(options)
    recipe = _recipe(source, judges, options, task, label)
    if dry_run or pilot:
        which = pairs if label else None
        found, errors = _forecast(recipe, which, tokenizer, 0 if dry_run else pilot or 0, out)
        _print_forecast(found, errors, as_json, dry_run)
    elif out is not None:
        _judged(recipe, out, pairs if label else None, as_json, report)


def _refuse_uncounted(options: dict[str, Any]) -> None:
    """Refuse a pilot with a cap whose money no run would count."""
    if options.get("max_cost") is not None and not options.get("account"):
        raise UsageError(
            "--pilot with --max-cost: name the folder of the run, too, whose cap counts what the "
            "pilot costs: --out FOLDER (or --account NAME, of both commands)"
        )


def _recipe(
    source: dict[str, Any],
    judges: tuple[str, ...],
    options: dict[str, Any],
    task: str | None,
    label: bool,
) -> Recipe:
    """The run: one stage that judges and, of labels, one that drops what has none."""
    from siftune.curate.io import sources
    from siftune.curate.judging.judge_stage import judge_stage
    from siftune.curate.runs.recipe import parse

    kind = "preference" if label else "conversation"
    known = not label and source["source"] != ["-"]
    if not (known or label or task):
        raise UsageError(
            "the rows of standard input are read once: name what is judged, --task pairwise for "
            "pairs, --task alpagasus for conversations"
        )
    if known:
        kind = sources.plan(tuple(source["source"]), source["format"], source["map"], {}).kind
    scorer, given = judge_stage(kind, judges, task, options)
    if known:
        _refuse_unfit(kind, scorer, str(task))
    if label and scorer != "judge_pairwise":
        raise UsageError(
            f"--label: the task {given['task']} compares no two answers: take --task pairwise, or "
            "classifier_preference for a judge that scores each answer"
        )
    stages = [{"score": scorer, **given}]
    if label:
        prefix = "_".join(filter(None, (scorer, options.get("column"))))
        stages.append({"select": "judge_agreement", "prefix": prefix})
    return parse({"name": "judge", **source, "stages": stages})


def _refuse_unfit(kind: str, scorer: str, task: str) -> None:
    """Refuse a task of pairs or lists for rows that have none."""
    wanted, does = _WANTED.get(scorer, (kind, ""))
    if kind != wanted:
        other = _USUAL.get(kind, "alpagasus")
        way = "--label or " if scorer == "judge_pairwise" and kind != "text" else ""
        rows = _PLURAL.get(kind, f"of kind {kind}")
        raise UsageError(f"{task} {does}; these rows are {rows}: take {way}--task {other}")


_WANTED: Final = {
    "judge_pairwise": ("preference", "compares pairs"),
    "judge_ranking": ("ranked", "ranks lists of answers"),
}
_USUAL: Final = {"preference": "pairwise", "ranked": "listwise"}
_PLURAL: Final = {"preference": "pairs", "ranked": "ranked lists", "conversation": "conversations"}


def _judged(recipe: Recipe, out: Path, label: PairsOf | None, as_json: bool, report: bool) -> None:
    from siftune.curate.core.progress import Progress, announcing
    from siftune.curate.render import result_text
    from siftune.curate.runners.judge_pairs import Contradicted
    from siftune.curate.runners.judge_pairs import label as prepare
    from siftune.curate.runners.judge_report import judge_report
    from siftune.curate.runners.project_cache import project_cache
    from siftune.curate.runners.run import run

    say = Progress()
    with announcing(say):
        result = run(
            recipe,
            out,
            say=say,
            command=command_name(),
            cache=project_cache(),
            prepare=partial(prepare, which=label) if label else None,
            again=Contradicted() if label else None,
        )
    measured = judge_report(result, recipe) if report else None
    if as_json:
        more = {} if measured is None else {"report": measured.as_dict()}
        echo_json({**result.manifest, **more})
    else:
        lines = [*_spent(result), result_text(result)]
        if measured is not None:
            lines += ["of the judge, with 95 % intervals:", str(measured)]
        if label and not result.manifest["counts"]["kept"]:
            lines.append(
                "no pair was labelled: `siftune curate explain` has the reason of each row"
            )
        echo("\n".join(lines))
    if result.quarantined or result.failed:
        raise Exit(PARTIAL)


def _spent(result: Result) -> Iterator[str]:
    """What the answers of a run took, in words."""
    sums = result.manifest["stages"][1].get("sums", {})
    tokens = [sums.get(name) for name in ("input_tokens", "output_tokens")]
    if all(one is not None for one in tokens):
        cost = f", ${sums['cost']:,.4f}" if sums.get("cost") else ""
        yield f"  answers: {tokens[0]:,} input and {tokens[1]:,} output tokens{cost}"


def _forecast(
    recipe: Recipe, label: PairsOf | None, tokenizer: str | None, pilot: int, out: Path | None
) -> tuple[CallForecast, dict[str, int]]:
    """What judging takes, and the errors of ``pilot`` rows, drawn at random and judged before."""
    from siftune.curate.judging.call_forecast import forecast_calls
    from siftune.curate.rows.conversation_views import score
    from siftune.curate.rows.score_errors import score_errors
    from siftune.curate.runners.judge_pairs import pairs_of, read_table
    from siftune.curate.runs.recipe import component

    cache = None if out is None else out / "cache"
    scorer: JudgeColumns = component(recipe.stages[0], recipe.seed, cache)
    with TemporaryDirectory() as folder:
        table = read_table(recipe, Path(folder))

        def batches() -> Iterator[Any]:
            yield from pairs_of(table, label) if label else table.batches(scorer.needs)

        errors: dict[str, int] = {}
        if pilot:
            for batch in _sampled(batches(), pilot, recipe.seed):
                errors = dict(score_errors(score(scorer, batch)))
        return forecast_calls(scorer, batches(), tokenizer=tokenizer), errors


def _sampled(batches: Iterator[Any], count: int, seed: int) -> Iterator[Any]:
    """``count`` rows at random: those with the smallest of numbers drawn from their content."""
    import polars as pl

    from siftune.curate.rows.decisions import draws

    held: pl.DataFrame | None = None
    for batch in batches:
        keyed = batch if "digest" in batch.columns else batch.with_columns(digest=pl.lit(""))
        batch = batch.with_columns(_draw=draws(keyed, seed))
        both = batch if held is None else pl.concat([held, batch])
        held = both.bottom_k(count, by="_draw")
    if held is not None:
        yield held.drop("_draw")


def _print_forecast(
    found: CallForecast, errors: dict[str, int], as_json: bool, dry_run: bool
) -> None:
    from dataclasses import asdict

    if as_json:
        echo_json({**asdict(found), "errors": errors})
        return
    last = (
        "nothing was asked (--dry-run)"
        if dry_run
        else (f"{found.answered:,} rows are judged; the command without --pilot judges the others")
    )
    failed = [f"not scored: {reason} {count:,}" for reason, count in errors.items()]
    echo("\n".join([*found.lines(), *failed, last]))


@click.command(cls=HintingCommand)
@json_option("the tables")
def judges(as_json: bool) -> None:
    """List the judges, and the tasks that they can be given, with the scorer of each.

    A judge is named by one text: a chat model in this process (a name or folder), the folder of a
    trained judge, URL#MODEL of an OpenAI-compatible server, decision+URL#MODEL, classifier:FOLDER,
    or scripted:FILE.py:NAME.
    """
    judges = {name: summary("curate.judges", name) for name in names("curate.judges")}
    tasks = {name: summary("curate.judge_tasks", name) for name in names("curate.judge_tasks")}
    scorers = _scorers()
    if as_json:
        echo_json({"judges": judges, "tasks": tasks, "scorers": scorers})
        return
    shown = {f"{name} ({scorers[name]})": text for name, text in tasks.items()}
    for title, listed in (("judges", judges), ("tasks (and the scorer that adds them)", shown)):
        width = max(map(len, listed))
        echo("\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in listed.items())]))


def _scorers() -> dict[str, str]:
    """The scorer of each task."""
    from siftune.curate.core.registry import find
    from siftune.curate.judging.judge_columns import TASKS
    from siftune.curate.judging.judge_stage import scorer_of
    from siftune.curate.judging.judge_task import judge_task

    found = {}
    for name in names(TASKS):
        task: Any = find(TASKS, name)
        if not isinstance(task.__dict__.get("adds"), dict):  # it depends on options
            task = judge_task(name, {})
        found[name] = scorer_of(task)
    return found
