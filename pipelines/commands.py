"""``siftune pipelines`` and ``siftune report``."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from click.exceptions import Exit

from siftune.curate.commands.click_commands import GivenPath, HintingGroup
from siftune.curate.commands.output_commands import OutOption, WritingCommand
from siftune.curate.core.errors import PARTIAL, UsageError
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.files.outputs import check_page
from siftune.pipelines.arena.command import arena
from siftune.pipelines.folder import check_pipeline

__all__ = ["pipelines", "report"]


@click.group(cls=HintingGroup)
def pipelines() -> None:
    """Full runs: select, train, compare, report; one manifest from raw row to model."""


pipelines.add_command(arena)


@pipelines.command(cls=WritingCommand)
@click.argument("recipe", type=GivenPath())
@click.option(
    "--out", cls=OutOption, check=check_pipeline, help="Folder of the run.  [default: runs/NAME]"
)
@click.option(
    "-o",
    "--override",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the recipe by its path, such as train.1.sft.lr=1e-4.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check all that the run would, print the plan, and write nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one JSON object.")
@click.option(
    "--no-cache",
    is_flag=True,
    help="Take no finished stages of other runs from .siftune_cache, and keep none there.",
)
def run(
    recipe: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    no_cache: bool,
) -> None:
    """Run RECIPE from its rows to models and a report; what is done is not done again.

    RECIPE is a YAML file, or a name of `siftune pipelines recipes`. The exit code is 4 where a
    judge left rows without a score: their steps, reasons and files are printed.
    """
    from siftune.curate.core.progress import Progress, announcing, if_slow

    say = Progress()
    # imports, models and rows: on a slow machine all of it takes longer than a person waits
    with announcing(say), if_slow(f"checking {recipe}: its models, rows and options"):
        from siftune.curate.runners.project_cache import project_cache
        from siftune.pipelines.judge_forecast import forecast_of_judges
        from siftune.pipelines.preflight import Preflight, forecasts
        from siftune.pipelines.recipe import PACKAGED, read, settings_of
        from siftune.pipelines.render import plan_text, result_text
        from siftune.pipelines.reports.report import write_report
        from siftune.pipelines.run import run_checked

        recipe = PACKAGED.file(recipe)
        pipeline, problems = read(recipe, overrides)
        folder = out or Path("runs") / pipeline.name
        cache = None if no_cache else project_cache()
        Preflight(pipeline, folder, cache, problems, origin=str(recipe)).check()
    if dry_run:
        settings = settings_of(recipe, overrides)
        with announcing(say), if_slow("estimating what the stages cost"):
            predicted = forecasts(pipeline, folder, cache)
            judged = forecast_of_judges(pipeline, folder, predicted)
        echo(plan_text(pipeline, folder, predicted, settings, judged))
        return
    manifest = run_checked(pipeline, folder, say=say, cache=cache)
    try:
        echo(f"report: {write_report(folder)}", err=as_json)
    except UsageError as error:  # the `report` extra is not installed: the run is whole without it
        echo(f"no report: {error}", err=True)
    if as_json:
        echo_json(manifest)
    else:
        echo(result_text(manifest, folder))
    if manifest["unscored"]:
        raise Exit(PARTIAL)


@pipelines.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes that come with siftune, or print the one called NAME, to be edited.

    Example: siftune pipelines recipes rlaif > my.yaml; siftune pipelines run my.yaml
    """
    from siftune.pipelines.recipe import PACKAGED

    if name is not None:
        echo(PACKAGED.text(name))
    elif as_json:
        echo_json(PACKAGED.headers)
    else:
        for one, fields in PACKAGED.headers.items():
            echo(f"{one}: {fields.pop('does')}")
            echo("\n".join(f"  {field}: {text}" for field, text in fields.items()))


@pipelines.command()
def schema() -> None:
    """Print the JSON Schema of pipelines' recipes, with which editors complete and check them.

    Example: siftune pipelines schema > pipeline.schema.json, and as the first line of a recipe:
    # yaml-language-server: $schema=pipeline.schema.json
    """
    from siftune.pipelines.schema import pipeline_schema

    echo_json(pipeline_schema())


@click.command(cls=WritingCommand)
@click.argument("run", type=GivenPath())
@click.option(
    "--out", cls=OutOption, check=check_page, help="HTML file to write.  [default: RUN/report.html]"
)
def report(run: Path, out: Path | None) -> None:
    """Write the report of a curate or pipeline run: one HTML file that works offline."""
    from siftune.pipelines.reports.report import write_report

    echo(write_report(run, out))
