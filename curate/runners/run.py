"""Run a recipe into a run folder: kept rows, and a decision with a reason for every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from siftune.curate.core.errors import DataError, SiftuneError
from siftune.curate.core.progress import NoProgress, ProgressReporter, run_context
from siftune.curate.files.atomic import atomic_write, hash_file, read_json, write_json
from siftune.curate.files.output_marker import remove_matching
from siftune.curate.files.outputs import may_overwrite, run_folder
from siftune.curate.files.source_spec import input_paths, reference_name
from siftune.curate.io.ingest import ingest
from siftune.curate.rows.conversation_views import score, score_schema
from siftune.curate.rows.decisions import DECISIONS
from siftune.curate.rows.expressions import scores
from siftune.curate.rows.score_errors import ScoreTotals, error_columns, with_errors
from siftune.curate.rows.table import ROW, Table
from siftune.curate.runners.forecast import Forecast, forecast, forecast_lines, source_rows
from siftune.curate.runners.plan import Plan, Step, plan
from siftune.curate.runners.project_cache import StageCache
from siftune.curate.runners.results import (
    Prepared,
    RowGroupWriter,
    manifest_of,
    replaced,
    replaced_columns,
    unchanged,
    write_kept,
    write_ledger,
    write_part,
)
from siftune.curate.runners.run_folder import (
    INGEST_FILES,
    OUTPUTS,
    RUN_FILES,
    SOURCE,
    STREAMS,
    check_run,
    earlier_parts,
    has_streams,
    kept_files,
    kept_source,
    part_file,
    part_names,
    remove_parts_but,
    spool_streams,
)
from siftune.curate.runs.recipe import Recipe, Spec, component
from siftune.curate.runs.stage_store import StageStore, StoredStage, measured

__all__ = ["OUTPUTS", "Result", "Runner", "forecast_run", "run"]

_TIMED_ROWS = 20_000  # a run of fewer rows takes about as long as timing it
_FORECAST_SECONDS = 1.0  # CPU seconds: no table for a shorter run


class Runner(Protocol):
    """Where score stages run."""

    def map(
        self, batches: Iterator[pl.DataFrame], spec: Spec, seed: int, cache: Path
    ) -> Iterator[pl.DataFrame]:
        """The scores of each batch, in order; the component is built where it runs."""


@dataclass(frozen=True)
class Local:
    """The default runner: batches one after the other; components use all cores as they need."""

    def map(
        self, batches: Iterator[pl.DataFrame], spec: Spec, seed: int, cache: Path
    ) -> Iterator[pl.DataFrame]:
        """``_row``, ``id`` and the score columns of each batch, in order."""
        scorer = component(spec, seed, cache)
        for batch in batches:
            scores = score(scorer, batch, spec.sides, spec.turns)
            yield scores.insert_column(0, batch[ROW])


@dataclass(frozen=True)
class Result:
    """Folder and manifest of a run, and the stages that it ran."""

    out: Path
    manifest: Mapping[str, Any]
    worked: list[str] = field(default_factory=list)  # labels of the stages that were not yet done

    @property
    def quarantined(self) -> int:
        """Rows that could not be read."""
        return int(self.manifest["counts"]["quarantined"])

    @property
    def failed(self) -> int:
        """Rows that a stage could not score for a reason of its own, as an LLM judge has."""
        stages = self.manifest["stages"]
        return sum(sum(stage.get("errors", {}).values()) for stage in stages)


def run(
    recipe: Recipe,
    out: Path,
    runner: Runner | None = None,
    say: ProgressReporter | None = None,
    show_forecast: bool = False,
    command: str = "curate run",
    cache: StageCache | None = None,
    prepare: Callable[[Recipe, Path], Recipe | Prepared] | None = None,
    again: Callable[[Path], bool] | None = None,
) -> Result:
    """Run what is not done yet, and write the outputs.

    With ``show_forecast`` the cost of each stage is printed first (`runners.forecast`). ``command``
    marks the folder: the same command may write into it again. Finished stages are taken from
    ``cache``, and new ones are stored in it. ``prepare`` may write a source into the folder, and
    gives the recipe to run, and the rows that are not in that source;
    ``again`` is asked of the finished folder whether all of that is to be done once more.

    Raises:
        LockedError: another process runs in ``out``.
        UsageError: ``out`` is not of this command (`files.outputs`).
        SiftuneError: a stage cannot run; the text names the stage.
    """
    own = kept_source(recipe)
    there = own is not None and own.parent == out.absolute() / SOURCE
    read = [] if there else input_paths(asdict(recipe))
    inputs = [one for one in read if one != out.absolute() / (reference_name(str(one)) or "..")]
    check_run(out, command, inputs)
    if may_overwrite() and not has_streams(recipe) and prepare is None:
        plan(recipe, out)  # a run that is refused removes nothing
    kept = kept_files(recipe, there or prepare is not None)
    files = [*RUN_FILES, *part_names(recipe), *kept]
    with run_folder(out, command, files, inputs, scratch=STREAMS):
        spooled = spool_streams(recipe, out)
        while True:
            made = prepare(spooled, out) if prepare else spooled
            prepared = made if isinstance(made, Prepared) else Prepared(made)
            held = plan(prepared.recipe, out, cache=cache)
            work = _Work(held, out, runner or Local(), say or NoProgress(), cache, prepared)
            for line in replaced(held, out):
                work.say(line)
            if show_forecast:
                timed = forecast_run(work.plan, out, _TIMED_ROWS)
                for line in forecast_lines(timed, _FORECAST_SECONDS):
                    work.say(line)
            result = work.finish()
            if again is None or not again(out):
                return result


def forecast_run(planned: Plan, out: Path, least: int = 0) -> list[Forecast]:
    """Forecast of each stage of a plan, timed where there are at least ``least`` rows."""

    def trial(recipe: Recipe, folder: Path) -> Mapping[str, Any]:
        work = _Work(plan(recipe, folder, inputs=[]), folder, Local(), NoProgress())
        return work.finish().manifest

    return forecast(planned, out, trial, least)


@dataclass
class _Work:
    plan: Plan
    out: Path
    runner: Runner
    say: ProgressReporter
    cache: StageCache | None = None
    prepared: Prepared | None = None
    worked: list[str] = field(default_factory=list)

    @property
    def stages(self) -> StageStore:
        return StageStore(self.out / "stages")

    def finish(self) -> Result:
        ingested = self._done("ingest", "ingest", self.plan.ingest_key, self._ingest)
        table = self._table(ingested)
        decisions: list[tuple[str, Path]] = []
        parts: dict[str, Table] = {}
        notes = {"ingest": ingested}
        for step in self.plan.steps:
            make = self._score if step.spec.group == "score" else self._select
            work = partial(make, step=step, table=table)
            done = self._done(step.label, step.name, step.key, work, step.writes)
            notes[step.label] = done
            path = self.stages.path(step.name, step.key)
            if step.spec.group == "score":
                table = table.with_scores(path, done.facts["columns"])
            else:
                decisions.append((step.label, path))
                keep = pl.read_parquet(path, columns=["keep"], glob=False)["keep"].to_numpy()
                selector = component(step.spec, self.plan.recipe.seed)
                if (part := part_file(selector, parts)) is not None:
                    parts[part] = table.keep(~keep)
                table = table.keep(keep).with_scores(path, done.facts.get("rewritten", ()))
        return self._write(table, decisions, notes, parts)

    def _done(
        self,
        label: str,
        name: str,
        key: str,
        work: Callable[[Path], Mapping[str, Any]],
        writes: Sequence[str] = (),
    ) -> StoredStage:
        known = self.stages.done(name, key, writes)
        if known is not None:
            self.say(f"{label}: done before")
            return known
        if self.cache is not None and not writes:
            known = self.cache.fetch(name, key, self.stages)
        if known is not None:
            self.say(f"{label}: done in another run of this project")
            return known
        self.say(f"{label}: running")
        self.worked.append(label)
        try:
            made = self.stages.make(name, key, work)
        except SiftuneError as error:
            raise type(error)(
                f"stage {label}: {error}" if label != "ingest" else str(error)
            ) from error
        if self.cache is not None and not writes:
            self.cache.keep(name, key, self.stages)
        self.say(f"{label}: {made.summary} in {made.seconds:.1f} s, peak {made.peak_mb:,.0f} MB")
        return made

    def _ingest(self, part: Path) -> Mapping[str, Any]:
        recipe = self.plan.recipe
        aside_folder = self.out / "stages" / ".ingest"
        remove_matching(aside_folder, INGEST_FILES)  # what a killed run left
        got = ingest(
            recipe.source,
            aside_folder,
            format=recipe.format,
            mapping=recipe.map,
            limit=recipe.limit,
            progress=self._ingest_progress(),
            given=recipe.given,
            pairs=recipe.pairs,
        )
        for line in got.said:
            self.say(line)
        for path in self.plan.changed():
            raise DataError(f"{path} changed while it was read: run again when it is whole")
        (aside_folder / "rows.parquet").replace(part)
        final = self.stages.path("ingest", self.plan.ingest_key).with_suffix(".quarantine.jsonl")
        (aside_folder / "quarantine.jsonl").replace(final)
        remove_matching(aside_folder, INGEST_FILES)
        facts = {k: v for k, v in asdict(got).items() if k != "inputs"}
        return {**facts, "quarantine_sha256": hash_file(final)}

    def _ingest_progress(self) -> Callable[[int], None]:
        rows = source_rows(self.plan.recipe)
        unit = "rows" if rows.counted else "rows (estimated)"
        return lambda done: self.say.count("ingest", done, rows.count, unit)

    def _table(self, ingested: StoredStage) -> Table:
        rows = self.stages.path("ingest", self.plan.ingest_key)
        height = pq.read_metadata(rows).num_rows
        return Table(rows, ingested.facts["kind"], height, np.arange(height))

    def _score(self, part: Path, step: Step, table: Table) -> Mapping[str, Any]:
        seed, cache = self.plan.recipe.seed, self.out / "cache"
        scorer = component(step.spec, seed, cache)
        if hasattr(scorer, "notice"):
            self.say(f"{step.label}: {scorer.notice()}")
        schema = score_schema(scorer, table.kind, step.spec.sides, step.spec.turns)
        columns = list(schema)
        totals = ScoreTotals(columns, getattr(scorer, "summed", ()))
        batch_rows = 0  # rows of the batch that is being scored

        def batches() -> Iterator[pl.DataFrame]:
            nonlocal batch_rows
            whole = getattr(scorer, "whole", False) and len(table.alive)
            for batch in [table.gather(scorer.needs)] if whole else table.batches(scorer.needs):
                batch_rows = batch.height
                yield batch

        def within(done: int, of: int, unit: str) -> None:
            so_far = totals.rows + batch_rows * done // max(of, 1)
            self.say.count(step.label, so_far, len(table.alive))

        for line in replaced_columns(scorer, columns, table):
            self.say(f"{step.label}: {line}")
        self.say.count(step.label, 0, len(table.alive))

        with RowGroupWriter(part) as groups, run_context(within) as context:
            for scores in self.runner.map(batches(), step.spec, seed, cache):
                groups.write(scores.select(ROW, "id", *columns))
                totals.add(scores)
                self.say.count(step.label, totals.rows, len(table.alive))
            if not totals.rows:
                groups.write(pl.DataFrame(schema={ROW: pl.Int64, "id": pl.String, **schema}))
        self._say_texts(step, context.metrics)
        about = {
            name: getattr(scorer, name)()
            for name in ("describe", "measured")  # its resolved options, and what it measured
            if hasattr(scorer, name)
        }
        return {**totals.facts(getattr(scorer, "may_pass", None)), **about}

    def _say_texts(self, step: Step, metrics: Mapping[str, Any]) -> None:
        """The metrics that are sentences for the user, a line each."""
        for name, text in metrics.items():
            if isinstance(text, str):
                self.say(f"{step.label}: {name}: {text}")

    def _select(self, part: Path, step: Step, table: Table) -> Mapping[str, Any]:
        selector = component(step.spec, self.plan.recipe.seed, self.out / "cache")
        optional = [name for name in getattr(selector, "wants", ()) if name in table.columns]
        rows = table.gather([*selector.needs, *optional])
        with run_context() as context:
            decided = selector(rows.drop(ROW))
        self._say_texts(step, context.metrics)
        if decided.height != rows.height or decided["keep"].null_count():
            raise TypeError(f"{step.name} decided on {decided.height} of {rows.height} rows")
        decided = with_errors(decided, selector.needs, _errors(table))
        rows.select(ROW, "id").hstack(decided).write_parquet(part, compression="zstd")
        rewritten = [name for name in decided.columns if name not in DECISIONS]
        measured_here = context.metrics | _tokens_kept(selector, rows, decided["keep"])
        counts = decided.group_by("keep", "reason").len().sort("keep", "reason").rows()
        return {
            "rows": rows.height,
            "kept": int(decided["keep"].sum()),
            "reasons": {f"{'kept' if keep else 'dropped'}/{why}": n for keep, why, n in counts},
            **({"rewritten": rewritten} if rewritten else {}),
            **({"measured": measured_here} if measured_here else {}),
        }

    def _write(
        self,
        table: Table,
        decisions: list[tuple[str, Path]],
        notes: dict[str, StoredStage],
        parts: dict[str, Table],
    ) -> Result:
        prepared = self.prepared or Prepared(self.plan.recipe)
        manifest = manifest_of(self.plan, table, notes, parts, prepared)
        known = self.out / "manifest.json"
        if not unchanged(self.out, known, manifest):
            clock: dict[str, float] = {}
            with measured(clock):
                manifest["outputs"] = self._outputs(table, decisions, parts, prepared)
            manifest["clock"]["outputs"] = clock
            write_json(known, manifest)
        steps = [("ingest", self.plan.ingest_key), *((s.name, s.key) for s in self.plan.steps)]
        self.stages.drop_all_but({self.stages.path(name, key) for name, key in steps})
        return Result(self.out, read_json(known), self.worked)

    def _outputs(
        self,
        table: Table,
        decisions: list[tuple[str, Path]],
        parts: dict[str, Table],
        prepared: Prepared,
    ) -> dict[str, str]:
        """Write the outputs, and remove parts of an earlier recipe; the hash of each output."""
        quarantine = self.stages.path("ingest", self.plan.ingest_key).with_suffix(
            ".quarantine.jsonl"
        )
        unread = self.out / "quarantine.jsonl"
        with atomic_write(unread) as part:
            part.write_bytes(prepared.unread + quarantine.read_bytes())
        earlier = earlier_parts(self.out)
        remove_parts_but(self.out, parts, earlier)
        for name, rows in parts.items():
            write_part(self.out / name, rows, earlier)
        write_kept(self.out / "kept.parquet", table)
        unscored = _errors(table)
        ledger = self.out / "ledger.parquet"
        write_ledger(ledger, table.rows, decisions, unread, unscored, prepared.dropped)
        return {name: hash_file(self.out / name) for name in (*OUTPUTS, *parts)}


def _tokens_kept(selector: Any, rows: pl.DataFrame, keep: pl.Series) -> dict[str, int]:
    """The tokens of the rows that a token budget keeps."""
    if getattr(selector, "tokens", None) is None:
        return {}
    return {"tokens": int(scores(rows, selector.tokens_by).filter(keep).sum() or 0)}


def _errors(table: Table) -> pl.DataFrame | None:
    """``_row`` and the columns of errors that the scorers of this run added; None without any."""
    names = error_columns(table.score_schema)
    return table.gather(names).select(ROW, *names) if names else None
