"""``siftune pipelines arena``."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from siftune.curate.commands.click_commands import GivenPath
from siftune.curate.commands.output_commands import OutOption, WritingCommand
from siftune.curate.core.terminal import echo, echo_json
from siftune.pipelines.arena.folder import check_arena

__all__ = ["arena"]


@click.command(cls=WritingCommand)
@click.argument("recipe", type=GivenPath())
@click.option(
    "--out", cls=OutOption, check=check_arena, help="Folder of the arena.  [default: runs/NAME]"
)
@click.option(
    "-o",
    "--override",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the recipe by its path, such as pool.source=rows.jsonl or base=smollm2.",
)
@click.option(
    "--plan",
    "plan_only",
    is_flag=True,
    help="Print arms, time, cost and power from a short measured trial, and write nothing.",
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0),
    help="Stop between arms when these hours are up; the same command continues.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")
def arena(
    recipe: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    plan_only: bool,
    hours: float | None,
    as_json: bool,
) -> None:
    """Compare selections: methods x budgets x seeds trained on equal answer tokens, from RECIPE.

    Every arm is measured on held-out rows under several templates and compared with `random`,
    paired by seed and prompt, with corrected intervals. What is done is not done again.
    """
    from siftune.curate.core.progress import Progress, announcing, if_slow

    say = Progress()
    with announcing(say), if_slow(f"checking {recipe}"):
        from siftune.pipelines.arena.recipe import load
        from siftune.pipelines.arena.run import plan, run_arena

        made = load(recipe, overrides)
    folder = out or Path("runs") / made.name
    if plan_only:
        with announcing(say), if_slow("a short trial of training and measuring"):
            lines = plan(made, folder)
        echo("\n".join(lines))
        return
    results, whole, lines = run_arena(made, folder, say, hours)
    if as_json:
        echo_json(results)
        return
    echo("\n".join(lines))
    echo(f"{folder / 'results.md'}" + ("" if whole else ": not whole, run the same command again"))
