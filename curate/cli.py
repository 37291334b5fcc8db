"""``siftune curate``: ingest, score, deduplicate, select, explain and export rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.exceptions import Exit

from siftune.curate.commands.agree import agree
from siftune.curate.commands.click_commands import Components, GivenPath, HintingGroup
from siftune.curate.commands.methods import methods
from siftune.curate.commands.option_types import renamed_keys
from siftune.curate.commands.output_commands import OutOption, WritingCommand, command_name
from siftune.curate.commands.shared_options import (
    dry_run_option,
    json_option,
    layout_option,
    limit_option,
    pairs_option,
    renames_option,
    seed_option,
)
from siftune.curate.core.custom_file import short_name
from siftune.curate.core.errors import PARTIAL, UsageError
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.export_cli import export
from siftune.curate.files.outputs import check_name
from siftune.curate.fit_cli import fit_quality, fit_weights
from siftune.curate.judge_cli import judge, judges
from siftune.curate.measure_cli import measure
from siftune.curate.profile_cli import profile
from siftune.curate.redact_cli import redact
from siftune.curate.runners.run_folder import check_run

if TYPE_CHECKING:
    from siftune.curate.runs.recipe import Recipe

__all__ = ["curate"]

_Command = Callable[..., Any]


@click.group(cls=HintingGroup)
def curate() -> None:
    """Read, score, deduplicate and select rows, with a reason for each decision."""


def _source_options(command: _Command) -> _Command:
    for option in (layout_option, renames_option, limit_option, pairs_option):
        command = option(command)
    return command


def _run_options(command: _Command) -> _Command:
    for option in (
        json_option("the result"),
        dry_run_option("Print the plan and write nothing."),
        click.option(
            "--no-cache",
            is_flag=True,
            help="Take no finished stages of other runs from .siftune_cache, and keep none there.",
        ),
    ):
        command = option(command)
    return command


_out = click.option(
    "--out",
    cls=OutOption,
    check=check_run,
    required=True,
    help="Folder of the run, created or replaced.",
)
_seed = seed_option("all random draws")


@curate.command(cls=WritingCommand)
@click.argument("sources", nargs=-1, required=True)
@_out
@_source_options
@_run_options
def ingest(
    sources: tuple[str, ...],
    out: Path,
    layout: str | None,
    renames: tuple[str, ...],
    limit: int | None,
    pairs: str | None,
    as_json: bool,
    dry_run: bool,
    no_cache: bool,
) -> None:
    """Read SOURCES (files, folders, globs, `-`, hub names) into a run folder.

    Rows that cannot be read go to quarantine.jsonl with file, line and reason; then the exit code
    is 4. A source that cannot be read at all is refused with exit code 3.
    """
    raw = {
        "name": "ingest",
        "source": list(sources),
        "stages": [],
        **_source(layout, renames, limit, pairs),
    }
    _go(raw, out, as_json, dry_run, no_cache)


@curate.command(cls=WritingCommand)
@click.argument("recipe", type=GivenPath())
@click.argument("sources", nargs=-1)
@click.option(
    "--out",
    cls=OutOption,
    check=check_run,
    help="Folder of the run, created or replaced.  [default: runs/NAME]",
)
@click.option(
    "-o",
    "--override",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the recipe by its path, such as stages.2.rows=100.",
)
@_run_options
def run(
    recipe: Path,
    sources: tuple[str, ...],
    out: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
    dry_run: bool,
    no_cache: bool,
) -> None:
    """Run RECIPE on SOURCES: ingest, then its stages; what is done already is not done again.

    RECIPE is a YAML file, or a preset of `siftune curate methods`. SOURCES are data that `ingest`
    reads, in place of the recipe's own.
    """
    from siftune.curate.files.packaged_recipes import PRESETS
    from siftune.curate.files.source_spec import in_recipe
    from siftune.curate.files.yaml_text import read_yaml
    from siftune.curate.runs.recipe import apply_overrides

    recipe = PRESETS.file(recipe)
    raw = read_yaml(recipe)
    try:
        raw = apply_overrides(raw, overrides)
        if sources:
            raw["source"] = list(sources)
        with in_recipe():
            _go(raw, out or _default_folder(raw, recipe), as_json, dry_run, no_cache)
    except UsageError as error:
        if str(error).startswith("output "):
            raise
        raise UsageError(f"{recipe}: {error}") from None


def _default_folder(raw: Mapping[str, Any], recipe: Path) -> Path:
    name = str(raw.get("name", recipe.stem))
    check_name(name)
    return Path("runs") / name


@curate.command()
@click.argument("run", type=GivenPath())
@click.argument("row_id", metavar="ID")
@json_option("the row's trace")
def explain(run: Path, row_id: str, as_json: bool) -> None:
    """Print content, scores and decisions of the row ID in the run folder RUN."""
    from siftune.curate.render import as_text, as_value
    from siftune.curate.runners.explain import row_trace

    trace = row_trace(run, row_id)
    if as_json:
        echo_json(as_value(trace))
    else:
        echo(as_text(trace))


@curate.command()
def schema() -> None:
    """Print the JSON Schema of recipes, with which editors complete and check them.

    Example: siftune curate schema > siftune.schema.json, and as the first line of a recipe:
    # yaml-language-server: $schema=siftune.schema.json
    """
    from siftune.curate.commands.recipe_schema import recipe_schema

    echo_json(recipe_schema())


_VIEWS = ("sides", "turns")  # what a scorer reads of a row; a selector decides on whole rows


def _stage_options(views: bool) -> list[click.Parameter]:
    """Options of a one-stage command besides those of its component."""
    return [one for one in _shared_options.params if views or one.name not in _VIEWS]


@click.command()
@_out
@_seed
@click.option(
    "--sides",
    type=click.Choice(["both", "chosen", "rejected"]),
    help="Sides of a pair that a scorer reads.  [default: both]",
)
@click.option(
    "--turns",
    type=click.Choice(["last", "every"]),
    help="Turns of a chat that a scorer reads.  [default: last]",
)
@_source_options
@_run_options
def _shared_options(**_: Any) -> None: ...


def _one_stage(group: str) -> Callable[..., None]:
    """The action of `score`, `select` and `dedup`: a recipe of one stage."""

    def action(ctx: click.Context, name: str, own: dict[str, Any], given: dict[str, Any]) -> None:
        from siftune.curate.core.registry import build
        from siftune.curate.runs.recipe import GROUPS

        build(GROUPS[group], name, own)  # its errors name flags, those of a recipe name keys
        stage = {group: name, **own}
        stage |= {key: given[key] for key in _VIEWS if given.get(key)}
        raw = {
            "name": short_name(name),
            "source": [ctx.parent.params["rows"] if ctx.parent else ""],
            "seed": given["seed"],
            "stages": [stage],
            **_source(given["layout"], given["renames"], given["limit"], given["pairs"]),
        }
        _go(raw, given["out"], given["as_json"], given["dry_run"], given["no_cache"])

    return action


_INPUT = "Input: data that `ingest` reads, or a run folder. Output: a run folder with "
_OUTPUT = {
    "score": f"{_INPUT}the rows and the columns that are added.",
    "select": f"{_INPUT}the kept rows, and a decision with its reason for every row.",
    "dedup": f"{_INPUT}the kept rows; each dropped row names the row that it duplicates.",
}


def _stage_group(
    name: str, components: str, noun: str, only: Callable[[str], bool], text: str
) -> None:
    """Add a group to `curate` that has one command for each component."""
    group = Components(
        name=name,
        components=components,
        action=_one_stage("score" if name == "score" else "select"),
        only=only,
        common=lambda: _stage_options(views=name == "score"),
        noun=noun,
        params=[click.Argument(["rows"])],
        command_class=WritingCommand,
        output=_OUTPUT[name],
        help=text,
        callback=lambda rows: None,
    )
    curate.add_command(group)


_stage_group(
    "score",
    "curate.scorers",
    "scorer",
    lambda name: True,
    "Add the columns of one scorer to ROWS (any data, or a run folder). FILE.py:NAME is one of "
    "your own: a function or class.",
)
_stage_group(
    "select",
    "curate.selectors",
    "selector",
    lambda name: not name.endswith("_dedup"),
    "Decide on ROWS with one selector. FILE.py:NAME is one of your own: a function or class.",
)
_stage_group(
    "dedup",
    "curate.selectors",
    "deduplicator",
    lambda name: name.endswith("_dedup"),
    "Drop duplicates among ROWS; each dropped row names the row it duplicates.",
)


curate.instead = lambda name: (
    "`siftune curate methods` lists presets, scorers and selectors"
    if name in ("list", "ls", "components", "scorers", "selectors", "presets", "recipes")
    else None
)
curate.add_command(agree)
curate.add_command(export)
curate.add_command(fit_quality)
curate.add_command(fit_weights)
curate.add_command(judge)
curate.add_command(judges)
curate.add_command(profile)
curate.add_command(redact)
curate.add_command(measure)
curate.add_command(methods)


def _source(
    layout: str | None, renames: tuple[str, ...], limit: int | None, pairs: str | None
) -> dict[str, Any]:
    return {"format": layout, "map": renamed_keys(renames), "limit": limit, "pairs": pairs}


def _checked(raw: dict[str, Any]) -> Recipe:
    """The recipe; of one with wrong stages, the columns of the others are checked too.

    Raises:
        SiftuneError: something is wrong; of several problems the text has all.
    """
    from siftune.curate.runs.recipe import read

    draft = read(raw)
    if draft.recipe is not None and not draft.problems.found:
        return draft.recipe
    if draft.recipe is not None and "-" not in draft.recipe.source:  # which is read once
        from siftune.curate.runners.plan import check_columns

        with draft.problems.collecting():
            check_columns(draft.recipe, numbers=draft.numbers)
    draft.problems.refuse()
    raise AssertionError("a recipe without problems is whole")


def _go(raw: dict[str, Any], out: Path, as_json: bool, dry_run: bool, no_cache: bool) -> None:
    """Run or plan a recipe, and print the result."""
    from siftune.curate.core.progress import Progress, announcing
    from siftune.curate.render import plan_text, result_text
    from siftune.curate.runners.preview import preview
    from siftune.curate.runners.project_cache import project_cache
    from siftune.curate.runners.run import run as work

    recipe = _checked(raw)
    say, cache = Progress(), None if no_cache else project_cache()
    with announcing(say):
        if dry_run:
            echo(plan_text(*preview(recipe, out, cache)))
            return
        result = work(recipe, out, say=say, show_forecast=True, command=command_name(), cache=cache)
    if as_json:
        echo_json(result.manifest)
    else:
        echo(result_text(result))
    if result.quarantined or result.failed:
        raise Exit(PARTIAL)


if __name__ == "__main__":
    echo("siftune: this is a part of the command: call `siftune curate`", err=True)
    raise SystemExit(UsageError.exit_code)
