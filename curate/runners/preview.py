"""What a run would do: its stages, their time and memory, the calls of its judges."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from siftune.curate.runners.forecast import Forecast
from siftune.curate.runners.judge_forecast import with_calls
from siftune.curate.runners.plan import Plan, plan
from siftune.curate.runners.project_cache import StageCache
from siftune.curate.runners.run import forecast_run
from siftune.curate.runners.run_folder import spool_streams
from siftune.curate.runs.recipe import Recipe

__all__ = ["preview"]


def preview(
    recipe: Recipe, out: Path, cache: StageCache | None = None
) -> tuple[Plan, list[Forecast]]:
    """The plan and the forecast of a run, with that of its judges; nothing is written to ``out``.

    Raises:
        UsageError: a stage reads a column that does not exist.
        DataError: a source cannot be read.
    """
    with TemporaryDirectory() as folder:
        planned = plan(spool_streams(recipe, Path(folder)), out, cache=cache)
        return planned, with_calls(planned, forecast_run(planned, out))
