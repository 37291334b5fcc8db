"""Files of a run folder: outputs, parts that selectors set aside, copies of piped sources."""

from __future__ import annotations

import shutil
from collections.abc import Container, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import atomic_write, hash_file, read_json
from siftune.curate.files.byte_streams import copy_stream, open_pipe, open_stdin
from siftune.curate.files.output_marker import ANSWERS, PAIRS, STAGE_FILES, expression_of
from siftune.curate.files.outputs import check_run_folder
from siftune.curate.files.source_spec import REFERENCE, reference_name

if TYPE_CHECKING:
    from siftune.curate.runs.recipe import Recipe

__all__ = [
    "INGEST_FILES",
    "OUTPUTS",
    "PARTS",
    "RUN_FILES",
    "SOURCE",
    "STREAMS",
    "check_run",
    "earlier_parts",
    "has_streams",
    "in_run",
    "keep_inputs",
    "kept_files",
    "kept_source",
    "key_of_sources",
    "part_file",
    "part_names",
    "remove_parts_but",
    "spool_streams",
    "without_places",
]

OUTPUTS: Final = ("kept.parquet", "ledger.parquet", "quarantine.jsonl")
PARTS: Final = tuple(
    f"{part}{more}.parquet" for part in ("train", "test") for more in ("", "-{number}")
)
"""Parts that a selector may set aside; further ones of one name are numbered from 2."""

INGEST_FILES: Final = ("rows.parquet", "quarantine.jsonl")
"""What ingestion writes into ``stages/.ingest`` before the stage appears."""

STREAMS: Final = ("stdin.jsonl", "pipe-{number}.jsonl", PAIRS, ANSWERS)
"""Copies of standard input and of pipes, pairs that a judge labels, and their answers' rows."""

SOURCE: Final = "source"
"""The folder in which a run keeps the one file that its rows were read from, where it does."""

_CACHES: Final = ("cache/embedding-{hex32}.sqlite", "cache/forward-{hex32}.sqlite")
_GRADIENTS: Final = {  # of `finetune.scorers`
    "cache/adapter-{hex32}/": "epoch-{number}.safetensors",
    "cache/gradients-{hex32}/": "{hex32}.safetensors",
}
RUN_FILES: Final = (
    *(*OUTPUTS, *STREAMS, "manifest.json", "report.html"),
    *("stages/", *(f"stages/{name}" for name in STAGE_FILES)),
    *("stages/.ingest/", *(f"stages/.ingest/{name}" for name in INGEST_FILES)),
    *("cache/", *_CACHES),
    *(f"{cache}-{part}" for cache in _CACHES for part in ("wal", "shm", "journal")),
    *(name for folder, file in _GRADIENTS.items() for name in (folder, folder + file)),
)
"""All that a curate run writes but its parts, as names of `output_marker.Marker`."""


def check_run(path: Path, command: str, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output path that ``command``, a curate run, may not write into."""
    check_run_folder(path, command, RUN_FILES, inputs)


def part_file(selector: Any, taken: Container[str]) -> str | None:
    """The name of the file for the rows that a selector sets aside; None if it sets none aside.

    Of several of one name, the first that is not in ``taken``.
    """
    name = getattr(selector, "sets_aside", None)
    if name is None:
        return None
    names = (f"{name}{more}.parquet" for more in chain([""], (f"-{at}" for at in count(2))))
    return next(one for one in names if one not in taken)


def part_names(recipe: Recipe) -> list[str]:
    """The parts that a run of the recipe writes; none of a stage whose options are wrong."""
    from siftune.curate.runs.recipe import component  # heavy; `--help` needs none of it

    names: list[str] = []
    for spec in recipe.stages:
        with suppress(UsageError):  # the plan refuses it, with all others
            if spec.group == "select":
                part = part_file(component(spec, recipe.seed), names)
                names += [] if part is None else [part]
    return names


def earlier_parts(folder: Path) -> dict[str, str]:
    """The parts that the last run in a folder wrote, with the hash of each."""
    manifest = folder / "manifest.json"
    try:
        facts = read_json(manifest) if manifest.is_file() else None
    except UsageError:  # damaged
        return {}
    outputs = facts.get("outputs") if isinstance(facts, dict) else None
    listed = outputs.items() if isinstance(outputs, dict) else ()
    return {name: hashed for name, hashed in listed if _is_part(name)}


def remove_parts_but(folder: Path, names: Container[str], earlier: Mapping[str, str]) -> None:
    """Remove the parts that an earlier recipe wrote; a file that was changed since then stays."""
    for name, hashed in earlier.items():
        path = folder / name
        if name not in names and path.is_file() and hash_file(path) == hashed:
            path.unlink()


def _is_part(name: str) -> bool:
    return any(expression_of(one).fullmatch(name) for one in PARTS)


def spool_streams(recipe: Recipe, folder: Path) -> Recipe:
    """``recipe`` with each source that can be read only once copied to a file of ``folder``."""
    held = [_held(source, at, folder) for at, source in enumerate(recipe.source, 1)]
    names = dict(zip(recipe.source, held, strict=True))
    given = {names[path]: how for path, how in recipe.given.items()}
    return replace(recipe, source=tuple(held), given=given)


def kept_source(recipe: Recipe) -> Path | None:
    """The one file in a folder `SOURCE` that a recipe reads; None where it reads another."""
    path = Path(recipe.source[0]) if len(recipe.source) == 1 and not recipe.given else None
    return path if path is not None and path.parent.name == SOURCE else None


def key_of_sources(recipe: Recipe) -> Sequence[str]:
    """The sources by what rows depend on: of a `kept_source` that is its name, not its place."""
    path = kept_source(recipe)
    return recipe.source if path is None else (path.name,)


def without_places(recipe: Recipe) -> Recipe:
    """``recipe`` with inputs that `keep_inputs` would copy by their names alone."""
    stages = tuple(
        replace(one, options={key: reference_name(v) or v for key, v in one.options.items()})
        for one in recipe.stages
    )
    return replace(recipe, source=tuple(key_of_sources(recipe)), stages=stages)


def kept_files(recipe: Recipe, with_source: bool) -> list[str]:
    """What `keep_inputs` writes, as names of `output_marker.Marker`."""
    source = kept_source(recipe) if with_source else None
    names = [] if source is None else [f"{SOURCE}/{source.name.translate(_DOUBLED)}"]
    if any(map(reference_name, _options_of(recipe))):
        names.append(REFERENCE)
    return [one for name in names for one in (f"{name.partition('/')[0]}/", name)]


_DOUBLED: Final = str.maketrans({"{": "{{", "}": "}}"})


def _options_of(recipe: Recipe) -> list[Any]:
    return [value for spec in recipe.stages for value in spec.options.values()]


def keep_inputs(recipe: Recipe, folder: Path) -> Recipe:
    """``recipe`` with its `kept_source`, and each `source_spec.REFERENCE`, copied to ``folder``."""
    for path in _kept(recipe):
        target = folder.absolute() / _name_of(path)
        if path == target or (target.is_file() and hash_file(target) == hash_file(path)):
            continue
        target.parent.mkdir(exist_ok=True)
        with atomic_write(target) as part:
            shutil.copyfile(path, part)
    return in_run(recipe, folder)


def in_run(recipe: Recipe, folder: Path) -> Recipe:
    """``recipe`` with its inputs that `keep_inputs` copied to ``folder``, wherever it is now."""
    there = {str(path): folder.absolute() / _name_of(path) for path in _kept(recipe)}
    found = {given: str(path) for given, path in there.items() if path.is_file()}
    stages = tuple(
        replace(spec, options={key: _in(found, one) for key, one in spec.options.items()})
        for spec in recipe.stages
    )
    return replace(recipe, source=tuple(_in(found, one) for one in recipe.source), stages=stages)


def _kept(recipe: Recipe) -> list[Path]:
    source = kept_source(recipe)
    given = [] if source is None else [source]
    return given + [Path(one) for one in _options_of(recipe) if reference_name(one)]


def _name_of(path: Path) -> str:
    return reference_name(str(path)) or f"{SOURCE}/{path.name}"


def _in(found: Mapping[str, str], value: Any) -> Any:
    return found.get(str(Path(value)), value) if isinstance(value, str) else value


def has_streams(recipe: Recipe) -> bool:
    """Whether a source of ``recipe`` can be read only once, such as a pipe."""
    return any(map(_is_stream, recipe.source))


def _held(source: str, number: int, folder: Path) -> str:
    if not _is_stream(source):
        return source
    held = folder / ("stdin.jsonl" if source == "-" else f"pipe-{number}.jsonl")
    with atomic_write(held) as part, _opened(source) as coming, part.open("wb") as stream:
        copy_stream(coming, stream, "standard input" if source == "-" else source)
    return str(held)


def _is_stream(source: str) -> bool:
    if source == "-":
        return True
    try:
        return Path(source).is_fifo() or Path(source).is_char_device()
    except OSError:  # a name longer than any file's
        return False


def _opened(source: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(open_stdin()) if source == "-" else open_pipe(Path(source))
