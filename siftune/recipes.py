"""Run recipes: a selection of rows, or a pipeline from rows to models and a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.files.outputs import check_name, overwriting
from siftune.curate.files.yaml_text import read_yaml
from siftune.curate.runs.recipe import parse
from siftune.rows import Rows, open_run, ran
from siftune.session import python_errors, reporter, scratch

__all__ = ["PipelineRun", "run"]

_OF_PIPELINES: Final = frozenset({"base", "init", "rows", "pairs", "train", "arms"})


@dataclass(frozen=True)
class PipelineRun:
    """What a pipeline left: a folder for each model, the rows it selected, a manifest."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def models(self) -> dict[str, Path]:
        """The folder of each trained model, by the label of its step."""
        return {one["label"]: self.folder / one["path"] for one in self.manifest["models"]}

    @property
    def rows(self) -> Rows | None:
        """The rows that were selected, if the recipe has any."""
        return self._selected("rows")

    @property
    def pairs(self) -> Rows | None:
        """The pairs that were selected, if the recipe has any."""
        return self._selected("pairs")

    def _selected(self, name: str) -> Rows | None:
        folder = self.folder / name
        return open_run(folder) if folder.is_dir() else None


@python_errors()
def run(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    **overrides: Any,
) -> Rows | PipelineRun:
    """Run a recipe, a YAML file, a preset's name or a dict, as `siftune curate run` does.

    A recipe with ``stages`` gives rows. One with ``train`` is a pipeline (`siftune pipelines run`).
    What is done already is not done again. ``out`` is by default ``runs/NAME``; ``overrides``
    replace keys of the recipe: ``source="rows.jsonl"``, ``seed=1``.

    Raises:
        UsageError: an unknown key or component, or an option that is wrong; or ``out`` is in use.
        DataError: a source cannot be read.
    """
    raw = dict(recipe) if isinstance(recipe, Mapping) else read_yaml(_file(Path(recipe)))
    origin = "the recipe" if isinstance(recipe, Mapping) else str(recipe)
    raw |= {key: str(one) if isinstance(one, Path) else one for key, one in overrides.items()}
    with overwriting(overwrite):
        if raw.keys() & _OF_PIPELINES and not raw.keys() & {"source", "stages"}:
            return _pipeline(raw, out, origin)
        try:
            parsed = parse(raw)
        except UsageError as error:
            raise UsageError(f"{origin}: {error}") from None
        return ran(parsed, _folder(out, parsed.name))


def _file(given: Path) -> Path:
    """The file of a recipe: a path, or the name of one that comes with siftune."""
    from siftune.curate.files.packaged_recipes import PRESETS
    from siftune.pipelines.recipe import PACKAGED

    return (PACKAGED if str(given) in PACKAGED.headers else PRESETS).file(given)


def _folder(out: str | Path | None, name: str) -> Path:
    check_name(name)
    return Path("runs") / name if out is None else Path(out)


def _pipeline(raw: Mapping[str, Any], out: str | Path | None, origin: str) -> PipelineRun:
    import yaml

    from siftune.pipelines.preflight import Preflight
    from siftune.pipelines.recipe import read
    from siftune.pipelines.reports.report import write_report
    from siftune.pipelines.run import run_checked

    place = scratch()
    file = place.path / "recipe.yaml"
    file.write_text(yaml.safe_dump(dict(raw)), encoding="utf-8")
    pipeline, problems = read(file)
    folder = _folder(out, pipeline.name)
    Preflight(pipeline, folder, None, problems, origin=origin).check()
    manifest = run_checked(pipeline, folder, say=reporter())
    try:
        write_report(folder)
    except UsageError as error:  # the `report` extra is not installed: the run is whole without it
        reporter()(f"no report: {error}")
    return PipelineRun(folder, manifest)
