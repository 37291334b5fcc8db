"""Write the kept rows of a run in the layout of a trainer or of another tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from siftune.curate.core.custom_file import is_custom
from siftune.curate.core.errors import BadRow, UsageError, reading
from siftune.curate.core.registry import build, closest, names, usable
from siftune.curate.core.schema import Kind, kind_of
from siftune.curate.core.types import ExportLayout, Row
from siftune.curate.export_files.card import Exported, LeftOut, dataset_card
from siftune.curate.export_files.raw_layouts import fits_raw, write_raw
from siftune.curate.export_files.training_records import FITS, SHAPES, Shape, records
from siftune.curate.export_files.writers import (
    CONTAINERS,
    column_type,
    data_file,
    fitted,
    same_keys,
    write_rows,
)
from siftune.curate.files.atomic import write_text
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.curate.rows.columns import nearest_columns
from siftune.curate.rows.convert import rows_of
from siftune.curate.runs.run_manifest import KEPT, manifest_of, part_of_run, verified

__all__ = ["Exported", "export"]

COMMAND: Final = "curate export"
_LAYOUTS: Final = "curate.exports"
_FORMATS: Final = "curate.formats"
_CONTAINERS: Final = tuple(CONTAINERS)


@dataclass(frozen=True)
class _Plan:
    """How the rows of a run are written: layout, shape and further columns."""

    title: str
    containers: Sequence[str]
    write: Callable[[Row], list[Row]]
    layout: ExportLayout | None = None
    shape: str = ""


def export(
    run: Path,
    out: Path,
    layout: str = "trl",
    to: str | None = None,
    shape: str | None = None,
    columns: Sequence[str] = (),
) -> Exported:
    """Write the kept rows of ``run`` to ``out`` for a trainer, with a dataset card beside them.

    ``run`` may also be the table of rows that a selector set aside in it, such as ``test.parquet``.
    ``layout`` is one of `curate.exports` (trl, llamafactory, …), a shape (`export_records`) as TRL
    reads it, or a raw format. ``shape`` is what rows are written as, by default what their kind is;
    ``columns`` are written beside what the layout names. Rows that the layout has no place for are
    listed in the result and counted in the card.

    Raises:
        UsageError: unknown layout, shape, container or column; rows of this kind do not fit; or
            ``out`` is not an earlier export.
    """
    if to is not None and to not in _CONTAINERS:
        raise UsageError(f"--to: expected one of {', '.join(_CONTAINERS)}, got {to!r}")
    check_folder(out, COMMAND, [run])
    run, table = part_of_run(run)
    manifest = manifest_of(run)  # is it a finished run?
    path = verified(run, table)
    with reading(path):
        kept = pl.read_parquet(path, glob=False)
    plan = _plan(layout, shape, kind_of(kept), kept)
    container = _container(plan, to)
    rows, left_out, by_source = _written(kept, plan, columns)
    if kept.height and not rows:
        raise UsageError(f"none of the {kept.height:,} rows fits {plan.title}: {left_out[0].why}")
    done = Exported(out, len(rows), left_out, plan.title, by_source, table)
    split = "train" if table == KEPT else Path(table).stem
    name = manifest["recipe"]["name"] + ("" if table == KEPT else f"-{split}")
    data = data_file(container, split)
    texts, usage = _beside(plan, name, data)
    texts["README.md"] = dataset_card(run, done, usage if split == "train" else None)
    with whole_folder(out, COMMAND) as part:
        write_rows(rows, container, part / data)
        for file, text in texts.items():
            write_text(part / file, text)
    return done


def _beside(plan: _Plan, name: str, data: str) -> tuple[dict[str, str], str | None]:
    """The files that a layout writes beside the data, and the command to train on it."""
    if plan.layout is None:
        return {}, None
    files = plan.layout.files(plan.shape, name, data)
    return dict(files), plan.layout.usage(plan.shape, name, data)


def _plan(layout: str, shape: str | None, kind: Kind, kept: pl.DataFrame) -> _Plan:
    """The layout and the shape of the options, checked against the kind of the rows.

    Raises:
        UsageError: there is none of that name, or it does not hold such rows.
    """
    if shape is not None and shape not in SHAPES:
        raise UsageError(f"--as: expected one of {', '.join(SHAPES)}, got {shape!r}")
    if layout in SHAPES:
        if shape not in (None, layout):
            raise UsageError(f"--format {layout} writes {layout}, --as asks for {shape}: omit one")
        layout, shape = "trl", layout
    if is_custom(layout):
        return _trainer_plan(build(_LAYOUTS, layout, {}), shape, kind, kept)
    found = {_simple(name): name for name in names(_LAYOUTS)}.get(_simple(layout))
    if found is not None:
        return _trainer_plan(build(_LAYOUTS, found, {}), shape, kind, kept)
    if layout in names(_FORMATS):
        return _raw_plan(layout, shape, kind)
    known = tuple(dict.fromkeys((*names(_LAYOUTS), *SHAPES, *names(_FORMATS))))
    raise UsageError(f"--format: no layout is called {layout!r}; {closest(layout, known)}")


def _simple(name: str) -> str:
    """A name without case and punctuation: ms-swift equals ms_swift, LLaMA-Factory llamafactory."""
    return name.lower().replace("-", "").replace("_", "")


def _trainer_plan(layout: ExportLayout, shape: str | None, kind: Kind, kept: pl.DataFrame) -> _Plan:
    fits = [one for one in FITS[kind] if one in layout.shapes]
    chosen = shape or _usual(kind, kept)
    if chosen not in FITS[kind]:
        raise UsageError(f"{kind} rows do not fit {chosen}; these do: {', '.join(FITS[kind])}")
    if chosen not in layout.shapes:
        hint = f"--as {' or '.join(fits)}" if fits else "another --format"
        raise UsageError(f"{layout.title} has no layout for {chosen}: try {hint}")

    def write(row: Row) -> list[Row]:
        return [layout.write(chosen, record) for record in records(row, chosen)]

    return _Plan(f"{layout.title} {chosen}", layout.containers, write, layout, chosen)


def _usual(kind: Kind, kept: pl.DataFrame) -> Shape:
    """The shape of a kind of rows; of conversations without any answer it is ``prompt_only``."""
    if kind == "conversation" and kept.height:
        is_answer = pl.element().struct.field("role") == "assistant"
        answered = kept.select(pl.col("messages").list.eval(is_answer).list.any().any()).item()
        return "messages" if answered else "prompt_only"
    return FITS[kind][0]


def _raw_plan(name: str, shape: str | None, kind: Kind) -> _Plan:
    if shape is not None:
        raise UsageError(f"--as needs the layout of a trainer; {name} is a raw format: omit it")
    if not fits_raw(name, kind):
        shapes = [one for one in FITS[kind] if one not in names(_FORMATS)]
        fits = [one for one in usable(_FORMATS) if one in FITS[kind] or fits_raw(one, kind)]
        raise UsageError(
            f"--format: {kind} rows do not fit {name}; these do: "
            f"{', '.join([*names(_LAYOUTS), *shapes, *fits])}"
        )
    return _Plan(name, _CONTAINERS, lambda row: [write_raw(name, row)])


def _container(plan: _Plan, to: str | None) -> str:
    if to is not None and to not in plan.containers:
        raise UsageError(f"--to: {plan.title} is read from {', '.join(plan.containers)}, not {to}")
    return to or plan.containers[0]


def _written(
    kept: pl.DataFrame, plan: _Plan, columns: Sequence[str]
) -> tuple[list[Row], list[LeftOut], Counter[str]]:
    """The rows of the data file, the rows left out, and how many of each source were written."""
    made: list[tuple[Row, Row]] = []
    left_out: list[LeftOut] = []
    by_source: Counter[str] = Counter()
    _check_columns(kept, columns)
    for row in rows_of(kept):
        try:
            new = plan.write(row)
        except BadRow as bad:
            left_out.append(LeftOut(row["id"], row["source"], str(bad)))
            continue
        by_source[row["source"]] += 1
        beside = {name: _value(row, name) for name in columns}
        made += [(record, beside) for record in new]
    rows = same_keys([record for record, _ in made])
    return _with_columns(rows, [beside for _, beside in made], plan.title), left_out, by_source


def _check_columns(kept: pl.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a column that is neither in the table nor a field of any row's ``extra``."""
    unknown = [name for name in columns if name not in kept.columns]
    if not unknown:
        return
    fields = dict.fromkeys(key for row in rows_of(kept.select("extra")) for key in row["extra"])
    for name in unknown:
        if name not in fields:
            known = (*(one for one in kept.columns if one != "extra"), *fields)
            raise UsageError(f"--with: no column {name!r}; {nearest_columns(name, known)}")


def _value(row: Row, name: str) -> Any:
    return row[name] if name in row else row["extra"].get(name)


def _with_columns(rows: list[Row], beside: list[Row], title: str) -> list[Row]:
    """The rows with further columns, each of one type for the whole file.

    Raises:
        UsageError: the layout has a column of that name.
    """
    asked = list(beside[0]) if beside else []
    taken = next((name for name in asked if name in rows[0]), None)
    if taken is not None:
        raise UsageError(f"--with {taken}: {title} has a column of that name itself: omit it")
    types = {name: column_type([one[name] for one in beside]) for name in asked}
    return [
        row | {name: fitted(one[name], types[name]) for name in asked}
        for row, one in zip(rows, beside, strict=True)
    ]
