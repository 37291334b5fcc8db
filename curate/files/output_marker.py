"""The marker of an output: the command that wrote it, and the names of the files that it writes.

The marker of a folder is its file ``.siftune``; that of a page is its generator tag. Only files
that a folder's marker covers are ever removed from it.

Names are relative to the folder, those of folders end with ``/``. They are exact, but for these
placeholders: ``{number}`` (digits), ``{hex16}`` and ``{hex32}`` (so many hexadecimal digits),
``{name}`` (of a component) and ``{output}`` (any name, of a folder with a marker of its own). None
of them matches a ``/``; braces in a name are doubled. A folder with a marker of its own, such as a
model in a pipeline's folder, is covered where its name is listed; others are outputs that were put
there, and are left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

import orjson

from siftune.curate.files.atomic import LOCK, kind_of_entry, remove, target_of_part, write_json

__all__ = [
    "ANSWERS",
    "MARKER",
    "PAIRS",
    "STAGE_FILES",
    "Marker",
    "expression_of",
    "foreign",
    "generator_tag",
    "marker_of",
    "remove_covered",
    "remove_matching",
    "remove_own",
    "remove_parts",
    "remove_unused",
    "write_marker",
    "written_names",
]

PAIRS: Final = "pairs.parquet"
"""The pairs that a labelled run made of rows, its source."""
ANSWERS: Final = "answers.parquet"
"""The pair that each of these rows is in: `run_manifest.ANSWER_COLUMNS`."""

STAGE_FILES: Final = tuple(
    "{name}-{hex16}." + ending for ending in ("parquet", "json", "quarantine.jsonl")
)
"""The files of stages in their folder, as names of `Marker`."""

MARKER: Final = ".siftune"

_TAG: Final = re.compile(rb'<meta name="generator" content="siftune ([a-z_ -]+)">')
_HEAD: Final = 4096  # bytes of a page that its generator tag is looked for in
_PLACEHOLDERS: Final = {
    "{name}": r"[A-Za-z0-9_][A-Za-z0-9_-]*",
    "{number}": r"[0-9]+",
    "{hex16}": r"[0-9a-f]{16}",
    "{hex32}": r"[0-9a-f]{32}",
    "{output}": r"[^/]+",
    "{{": r"\{",
    "}}": r"\}",
}
_OUTPUTS: Final = ("{output}", "{name}-{number}")
_TOKEN: Final = re.compile(r"\{\{|\}\}|\{[a-z0-9]*\}|[^{}]+|[{}]")


@dataclass(frozen=True)
class Marker:
    """The command of an output, and the names (see the module) of the files that it writes.

    Raises:
        ValueError: a name leads out of the folder, or is made of placeholders and signs alone.
    """

    command: str
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that no command of ours writes."""
        for name in self.files:
            expression_of(name)

    def covers(self, name: str) -> bool:
        """Whether the command writes a file (or folder: ``name`` ends with ``/``) of this name.

        So it does the hidden file that becomes one of its files once it is whole.
        """
        if name == LOCK:
            return True
        target = target_of_part(name) or name
        return target == MARKER or any(expression_of(one).fullmatch(target) for one in self.files)


@cache
def expression_of(name: str) -> re.Pattern[str]:
    """The regular expression of a name with placeholders.

    Raises:
        ValueError: it is absolute, has an empty part or dots alone as one, an unknown placeholder,
            or a part without a letter or digit of its own (but for folders of outputs).
    """
    for part in name.removesuffix("/").split("/"):
        if name.endswith(f"{part}/") and part in _OUTPUTS:
            continue
        literal = "".join(one for one in _TOKEN.findall(part) if one not in _PLACEHOLDERS)
        if not re.search(r"\w", literal) or set(literal) & set("{}"):
            raise ValueError(f"not the name of a file that we write: {name!r}")
    return re.compile(
        "".join(_PLACEHOLDERS.get(one, re.escape(one)) for one in _TOKEN.findall(name))
    )


def marker_of(path: Path) -> Marker | None:
    """The marker of a folder or page of ours; None where there is none."""
    if path.is_dir():
        return _read(path / MARKER)
    with path.open("rb") as stream:
        found = _TAG.search(stream.read(_HEAD))
    return None if found is None else Marker(found[1].decode())


def _read(path: Path) -> Marker | None:
    """The marker in a file; None where it is not of the form that `write_marker` writes."""
    if kind_of_entry(path) != "a file":
        return None
    try:
        facts = orjson.loads(path.read_bytes())
        command, files = facts["command"], facts["files"]
        if not isinstance(command, str) or not command.strip() or not command.isprintable():
            return None
        if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
            return None
        return Marker(command, tuple(files))
    except (KeyError, TypeError, ValueError):
        return None


def write_marker(folder: Path, marker: Marker) -> None:
    """Mark ``folder`` as an output of ours."""
    write_json(folder / MARKER, asdict(marker))


def generator_tag(command: str) -> str:
    """The tag in the head of a page that marks it as written by ``command``."""
    return f'<meta name="generator" content="siftune {command}">'


def written_names(folder: Path) -> tuple[str, ...]:
    """The names of all that is in a folder that we have just written, as a marker lists them."""
    names = (name for _, name, _ in _entries(folder))
    return tuple(sorted(name.replace("{", "{{").replace("}", "}}") for name in names))


def foreign(folder: Path, marker: Marker) -> Iterator[Path]:
    """What is in a folder of ours that its marker, or that of a folder it lists, does not cover."""
    for item, name, inner in _entries(folder):
        if inner is not None and marker.covers(name):
            yield from foreign(item, inner)
        elif not _is_covered(item, name, marker):
            yield item


def _is_covered(item: Path, name: str, marker: Marker) -> bool:
    """Whether the marker covers ``name``; of a page its generator tag is asked for besides."""
    return marker.covers(name) and (not name.endswith(".html") or marker_of(item) is not None)


def _entries(folder: Path) -> Iterator[tuple[Path, str, Marker | None]]:
    """Each thing in ``folder``, its relative name, and the marker of an output folder in it.

    Links and devices have the name "": no marker covers them. What is in a folder that has a marker
    of its own is not listed.
    """
    for root, folders, files in os.walk(folder):
        for one in sorted(folders):
            path = Path(root, one)
            inner = None if path.is_symlink() else _read(path / MARKER)
            if inner is not None:
                folders.remove(one)
            yield path, _name_in(folder, path), inner
        for one in sorted(files):
            yield Path(root, one), _name_in(folder, Path(root, one)), None


def _name_in(folder: Path, path: Path) -> str:
    found, name = kind_of_entry(path), path.relative_to(folder).as_posix()
    return {"a file": name, "a folder": f"{name}/"}.get(str(found), "")


def remove_own(folder: Path) -> None:
    """Remove from a folder with a marker what the marker covers, and the folder if it is empty."""
    marker = _read(folder / MARKER)
    if marker is None:
        return
    remove_covered(folder, marker)
    if {item.name for item in folder.iterdir()} <= {MARKER, LOCK}:
        remove(folder)


def remove_covered(folder: Path, marker: Marker) -> None:
    """Remove what the marker covers, but the marker itself and the lock."""
    found = [one for one in _entries(folder) if one[1] not in (MARKER, LOCK)]
    for item, name, inner in reversed(found):
        if not _is_covered(item, name, marker):
            continue
        if inner is not None:
            remove_own(item)
        elif name.endswith("/"):
            with contextlib.suppress(OSError):  # it is not empty
                item.rmdir()
        else:
            item.unlink()


def remove_matching(folder: Path, files: Sequence[str]) -> None:
    """Remove files of these names from a folder, and the folder if nothing else is in it."""
    if kind_of_entry(folder) == "a folder":
        remove_covered(folder, Marker("", tuple(files)))
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()


def remove_parts(folder: Path, marker: Marker) -> None:
    """Remove files that the marker covers and a killed process had not finished to write."""
    for item, name, inner in _entries(folder):
        if inner is None and target_of_part(name) is not None and marker.covers(name):
            item.unlink()


def remove_unused(folder: Path, marker: Marker, scratch: Sequence[str]) -> None:
    """Empty a folder that holds no file but our marker, our lock and those named in ``scratch``.

    It is left alone where it holds a folder that ``marker`` does not cover.
    """
    files, found = Marker(marker.command, tuple(scratch)), list(_entries(folder))
    if all(
        inner is None and (marker if name.endswith("/") else files).covers(name)
        for _, name, inner in found
    ):
        for item, _, _ in found:
            remove(item)
