"""Rows, and what was decided on them: read, score, deduplicate, select, look, hand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copyfile
from typing import Any, Final, cast, get_args

import polars as pl

from siftune.curate.core.custom import name_and_options
from siftune.curate.core.errors import DataError, SiftuneError, UsageError
from siftune.curate.core.registry import closest, long_name, names
from siftune.curate.files.outputs import overwriting
from siftune.curate.files.source_spec import REFERENCE, SourceSpec, where_set
from siftune.curate.io.plain_frames import frame_of, write_source
from siftune.curate.rows.conversation_views import Sides, Turns
from siftune.curate.runners.plan import plan
from siftune.curate.runners.project_cache import StageCache
from siftune.curate.runners.run import run as run_recipe
from siftune.curate.runners.run_folder import SOURCE, in_run, keep_inputs, without_places
from siftune.curate.runs.recipe import (
    GROUPS,
    Group,
    Recipe,
    Spec,
    checked_seed,
    component,
    pairing,
)
from siftune.curate.runs.run_manifest import KEPT, manifest_of
from siftune.run_rows import RunRows
from siftune.session import as_option, as_options, python_errors, reporter, scratch, session

__all__ = [
    "Rows",
    "open_run",
    "ran",
    "read",
    "taken",
]

_TEMPORARY: Final = (
    "rows of a Python process, in a temporary file that goes with it: the recipe of "
    "rows.save(FOLDER) has a source that stays"
)
_DEDUP: Final = "_dedup"
_ALLOWED: Final = {"sides": get_args(Sides), "turns": get_args(Turns)}


@dataclass(frozen=True, eq=False, repr=False)
class Rows(RunRows):
    """Rows that were read, the scores they got, and for each why it was kept or dropped.

    Every step returns new rows and leaves these as they are. Nothing is lost: the records that
    were read are those in `kept`, `dropped` and `quarantined`. ``len(rows)`` counts the kept ones.

    Attributes:
        folder: a run folder, as `siftune curate run` writes it; temporary unless it was named.
    """

    _recipe: Recipe
    _held: tuple[Any, ...] = field(default=(), repr=False)  # temporary folders, while they are used

    @python_errors()
    def score(
        self,
        scorer: str | Callable[..., Any],
        /,
        *,
        sides: Sides = "both",
        turns: Turns = "last",
        **options: Any,
    ) -> Rows:
        """Add the columns of a scorer, such as ``"length"``, or of a function of yours.

        A function is given a frame, or the ``prompt``, ``response`` or ``messages`` of one row
        (of a pair ``chosen`` and ``rejected``), and returns a number for each row;
        ``path/file.py:NAME`` names one in a file.

        ``sides`` are those of pairs that are scored; with ``turns="every"`` a conversation is
        scored at each answer. ``options`` are those of the scorer; `siftune.scorers` has them all.

        Raises:
            UsageError: no such scorer or option, or a column it reads is not there.
        """
        return self._then("score", scorer, options, sides=sides, turns=turns)

    @python_errors()
    def judge(self, judge: Any, *, task: Any = None, **options: Any) -> Rows:
        """Add what an LLM judge finds of each row: a rating, a comparison of pairs, tags, a text.

        ``judge`` is a text as on the command line (``"smollm2"``, ``"https://host/v1#MODEL"``), a
        function of yours from messages to a text, or a list of judges, which vote. ``task`` is a
        name of `siftune curate judges`, or a class of yours; by default pairs are compared
        (``"pairwise"``) and conversations rated (``"alpagasus"``). ``options`` are those of the
        scorer that the task belongs to, such as ``task_options``, ``max_cost`` or ``cache``.

        A row without a verdict is null, with the reason in the column that ends with ``_error``.

        Raises:
            UsageError: no such judge, task or option.
        """
        from siftune.curate.judging.judge_stage import judge_stage

        scorer, given = judge_stage(self.kind, as_option(judge), task, as_options(options))
        return self._then("score", scorer, given, sides="both", turns="last")

    @python_errors()
    def select(self, selector: str | Callable[..., Any], /, **options: Any) -> Rows:
        """Keep some rows by a selector, such as ``"top_fraction"``, or a function of yours.

        A function is given a frame, or the ``prompt``, ``response`` or ``messages`` of one row
        (of a pair ``chosen`` and ``rejected``), and returns true for each row to keep;
        ``path/file.py:NAME`` names one in a file.

        Raises:
            UsageError: no such selector or option, or a column it reads is not there.
        """
        return self._then("select", selector, options)

    @python_errors()
    def dedup(self, selector: str | Callable[..., Any] = "minhash", /, **options: Any) -> Rows:
        """Drop duplicates by ``"minhash"``, ``"exact"``, ``"semantic"``; each has its survivor.

        ``against`` is what `read` takes, other rows or a run: rows like one of those are dropped
        too; an empty frame or list has none of those.

        Raises:
            UsageError: no such selector or option, or a column it reads is not there.
        """
        if not isinstance(selector, str):
            return self.select(selector, **options)
        name = selector.removesuffix(_DEDUP)
        every = [one for one in names(GROUPS["select"]) if one.endswith(_DEDUP)]
        known = tuple(one.removesuffix(_DEDUP) for one in every)
        if name not in known:
            raise UsageError(f"no duplicates are found by {selector!r}; {closest(name, known)}")
        return self._then("select", name + _DEDUP, options)

    def _then(self, group: Group, what: Any, options: Mapping[str, Any], **shown: Any) -> Rows:
        for key, value in shown.items():
            if value not in (allowed := _ALLOWED[key]):
                raise UsageError(f"{key}: expected one of {', '.join(allowed)}, got {value!r}")
        if isinstance(what, pl.Expr):
            raise UsageError(
                "an expression of polars has no name for the ledger: give a function of the frame, "
                "such as def long_enough(frame): return frame.select(...)"
            )
        name, own = name_and_options(as_option(what))
        name = long_name(GROUPS[group], name)
        options, held = dict(options), cast(Any, None)
        if "against" in options:
            options["against"], held = _reference(group, options["against"])
        spec = Spec(group, name, {**own, **as_options(options)}, **shown)
        component(spec, self._recipe.seed)  # its options, before anything runs
        recipe = replace(self._recipe, stages=(*self._recipe.stages, spec))
        made = ran(recipe, None, (*self._held, held))
        if _hashes(made._manifest) != _hashes(self._manifest):
            raise DataError(f"{', '.join(recipe.source)} changed since it was read: read it again")
        return made

    @property
    def recipe(self) -> dict[str, Any]:
        """What was done, as a recipe: `siftune.run` and `siftune curate run` do it again.

        Rows of a frame or list are in a temporary file, as its ``source_help`` says: another
        process can run the recipe of rows that were saved. A function of no file it cannot find.
        """
        made = self._recipe.as_mapping()
        given = (one for spec in self._recipe.stages for one in spec.options.values())
        if any(_is_temporary(one) for one in (*self._recipe.source, *given)):
            made["source_help"] = _TEMPORARY
        return made

    @python_errors()
    def save(self, folder: str | Path, *, overwrite: bool = False) -> Rows:
        """Keep the run in ``folder``, where the commands of `siftune curate` go on with it.

        Raises:
            UsageError: something else is there, such as another run, and not ``overwrite``.
            DataError: what the rows were made of has changed since, and gives other rows.
        """
        self._check_same()
        place = Path(folder)
        there = (place / "manifest.json").is_file()
        if there and not overwrite and not self._is_as(open_run(place)):
            raise UsageError(f"{place} has another run: name another, or add overwrite=True")
        with overwriting(overwrite):
            ran(self._recipe, place, self._held, prepare=keep_inputs)
        return replace(open_run(place), _held=self._held)

    def _is_as(self, other: Rows) -> bool:
        """Whether other rows were made by the same steps of the same source, wherever that is."""
        mine, theirs = (without_places(one._recipe) for one in (self, other))
        return mine == theirs and _hashes(self._manifest) == _hashes(other._manifest)

    def _check_same(self) -> None:
        """Refuse inputs or code that changed since these rows were made, where it shows in them.

        Raises:
            DataError: they give other rows now.
        """
        now = plan(self._recipe, self.folder)
        keys = [now.ingest_key, *(step.key for step in now.steps)]
        if keys == [stage["key"] for stage in self._manifest["stages"]]:
            return
        again = ran(self._recipe, None, self._held)
        for one in ("kept", "decisions", "quarantined"):
            if not getattr(again, one).equals(getattr(self, one)):
                raise DataError(
                    f"what these rows were made of ({', '.join(self._recipe.source)}, the files "
                    "and code of their stages) has changed and gives others now: read it again"
                )


def _is_temporary(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_relative_to(session())


def _reference(group: Group, value: Any) -> tuple[Any, Any]:
    """Rows to compare with: those that are in memory as a file, and what keeps that.

    Raises:
        UsageError: it is nothing that `read` takes, or empty for a scorer.
        DataError: it cannot be read.
    """
    if value is None or isinstance(value, str | Path | Mapping):
        return value, None
    data = value if isinstance(value, Rows | list | tuple) else frame_of(value)
    if not len(data):
        if group == "score":
            raise UsageError("against: it has no rows, and the scores are by those of it")
        return None, None
    try:
        rows = taken(data, "against")
    except SiftuneError as error:
        error.args = (f"against: {error}",)
        raise
    if not rows.folder.is_relative_to(session()):
        return str(rows.folder), rows
    place = scratch()
    copy = place.path / REFERENCE.format(hex16=rows._manifest["outputs"][KEPT][:16])
    copy.parent.mkdir()
    copyfile(rows.folder / KEPT, copy)
    return str(copy), place


def ran(
    recipe: Recipe,
    folder: Path | None = None,
    held: tuple[Any, ...] = (),
    prepare: Callable[[Recipe, Path], Recipe] | None = None,
) -> Rows:
    """The run of ``recipe`` in ``folder``, by default a temporary one."""
    if folder is None:
        place = scratch()
        folder, held = place.path / "rows", (*held, place)
    cache = StageCache(session() / "stages")  # what another step of this process did already
    run_recipe(recipe, folder, say=reporter(), cache=cache, prepare=prepare)
    return Rows(folder, recipe, held)


@python_errors()
def read(
    source: Any,
    *,
    format: str | None = None,
    map: Mapping[str, str] | None = None,
    limit: int | None = None,
    pairs: str | None = None,
    name: str = "rows",
    seed: int = 0,
) -> Rows:
    """Read rows of any layout: files, folders, hub datasets, frames, lists of dicts.

    Columns such as ``messages``, ``prompt`` and ``response``, ``chosen`` and ``rejected`` or those
    of Alpaca are recognised. A record that cannot be read is set aside in `Rows.quarantined`.

    Args:
        source: a path (file, folder, glob, run folder), a hub name (``owner/name``), or a list of
            them; a frame of polars, pandas or pyarrow, a `datasets.Dataset`; a list of dicts.
        format: the layout, where it cannot be told (``"alpaca"``, ``"sharegpt"``, ...).
        map: new names of columns, such as ``{"question": "prompt"}``.
        limit: read at most so many records.
        pairs: read ranked lists as preference pairs: ``"best_worst"``, ``"best_random"``,
            ``"all"``, ``"adjacent"`` or ``"sweet_spot"``.
        name: comes into the ids of rows of frames: ``rows:1``, ``rows:2``, ...
        seed: of all draws of the stages to come.

    Raises:
        UsageError: an unknown format, or no such file.
        DataError: the layout is unknown, or no record can be read.
    """
    if isinstance(source, Rows):
        return source
    _check_arguments(format, map, limit, seed)
    held: tuple[Any, ...] = ()
    paths = _paths(source)
    if not paths:
        place = scratch()
        data = source if isinstance(source, list) else frame_of(source)
        if not len(data):
            raise DataError("there are no rows: the frame or list is empty")
        folder = place.path / SOURCE
        folder.mkdir()
        paths, held = (str(write_source(data, folder, name)),), (place,)
    if "-" in paths:
        raise UsageError("'-' is standard input, which can be read once: give a file")
    recipe = Recipe("rows", paths, (), seed, format, dict(map or {}), limit, pairs=pairing(pairs))
    return ran(recipe, None, held)


def _check_arguments(format: Any, map: Any, limit: Any, seed: Any) -> None:
    """Refuse arguments of `read` of the wrong type or range."""
    if format is not None and not isinstance(format, str):
        raise UsageError(f"format: expected the name of a layout, got {format!r}")
    if map is not None and not isinstance(map, Mapping):
        raise UsageError(f"map: expected new names, such as {{'question': 'prompt'}}, got {map!r}")
    whole = isinstance(limit, int) and not isinstance(limit, bool)
    if limit is not None and not (whole and limit >= 1):
        raise UsageError(f"limit: expected a whole number of at least 1, got {limit!r}")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UsageError(f"seed: expected a whole number, got {seed!r}")
    checked_seed(seed)


def _paths(source: Any) -> tuple[str, ...]:
    """The paths that a source is, if it is one or several."""
    listed = source if isinstance(source, list | tuple) else [source]
    return tuple(map(str, listed)) if all(isinstance(one, str | Path) for one in listed) else ()


@python_errors()
def open_run(folder: str | Path) -> Rows:
    """The rows of a run folder that was written before, with what was decided on them.

    Raises:
        UsageError: it holds no finished run.
        DataError: its manifest is damaged.
    """
    run = Path(folder)
    known = manifest_of(run)["recipe"]
    known["source"] = tuple(known["source"])
    known["stages"] = tuple(Spec(**spec) for spec in known["stages"])
    known["given"] = {path: SourceSpec(**own) for path, own in known["given"].items()}
    recipe = Recipe(**known)
    return Rows(run, in_run(recipe, run))  # the folder may have been moved


def _hashes(manifest: Mapping[str, Any]) -> list[str]:
    return [one["sha256"] for one in manifest["inputs"]]


@python_errors()
def taken(data: Any, name: str = "rows") -> Rows:
    """Rows of what `read` takes, for a function that has none of its other arguments."""
    try:
        return read(data, name=name)
    except DataError as error:
        raise DataError(f"{error}{where_set(str(error), name)}") from None
