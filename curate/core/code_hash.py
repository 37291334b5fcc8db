"""Hash of what code computes: of a module and of all that it imports, directly or not.

Comments, what docstrings say and blank lines do not count, nor do modules that only report
(`REPORTING`): an edit of them remakes no stage and retrains no model. The hash is of the compiled
code, so it is another one under another minor version of Python.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, Final

__all__ = ["REPORTING", "code_hash", "file_hash", "imported_files"]

REPORTING: Final[Mapping[str, str]] = {
    "siftune/curate/core/progress.py": "writes lines and counts to the terminal",
    "siftune/curate/core/terminal.py": "writes text to the terminal",
    "siftune/curate/core/run_context.py": "passes counts and figures on to who shows them",
    "siftune/curate/core/column_names.py": "words the advice in an error",
    "siftune/curate/core/system_errors.py": "words errors of the system",
    "siftune/curate/core/transformers_logging.py": "silences a library",
}
"""Modules whose code changes no result, and what they do instead."""

_PACKAGE: Final = "siftune"
_IMPORTS: Final = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|.*)|import[ \t]+([\w.]+))", re.M
)
_TYPES_ONLY: Final = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.M)
_NAME: Final = re.compile(r"\w+")


def code_hash(*places: str | Path, alone: Iterable[str] = ()) -> str:
    """Hash of the code of modules (dotted names, or files) and of what they import.

    Of the modules ``alone`` the code of their own file counts, not what they import.
    """
    roots = {_PACKAGE: _root_of(_PACKAGE)}
    files: list[Path] = [place for place in places if isinstance(place, Path)]
    for place in places:
        if isinstance(place, str):
            roots.setdefault(place.partition(".")[0], _root_of(place.partition(".")[0]))
            files.append(_file_of(place, roots))
    for file in (place for place in places if isinstance(place, Path)):
        roots[""] = file.parent  # modules beside a user's file
    found = imported_files(files, roots)
    found |= {_file_of(module, roots) for module in alone}
    return _digest_of(found, roots, lambda path: _code_of(path, *_stamp_of(path)))


def file_hash(module: str, file: Path) -> str:
    """Hash of the bytes of a module's file and of all files of its package that it imports."""
    roots = {module.partition(".")[0]: file.parents[module.count(".")]} if "." in module else {}
    roots = roots or {module: file.parent}
    return _digest_of(imported_files([file], roots), roots, _bytes_of)


def imported_files(files: Iterable[Path], roots: Mapping[str, Path]) -> set[Path]:
    """``files`` and all that they import of the packages ``roots``, wherever in them it is written.

    ``roots`` has the folder that holds each package; that of ``""`` holds modules of a user.
    """
    skipped = {roots[_PACKAGE] / name for name in REPORTING} if _PACKAGE in roots else set()
    found, left = set(files), list(files)
    while left:
        path = left.pop()
        named = _imports(path, *_stamp_of(path))
        new = {one for line in named for one in _files(line, path, roots)} - found - skipped
        found |= new
        left += new
    return found


_Import = tuple[str, tuple[str, ...]]


@cache
def _imports(path: Path, *stamp: int) -> tuple[_Import, ...]:
    """Modules that a file imports, each with the names that are taken of it."""
    text = _TYPES_ONLY.sub("", path.read_text(encoding="utf-8"))
    return tuple(
        (source or whole, tuple(_NAME.findall(things)))
        for source, things, whole in _IMPORTS.findall(text)
    )


def _files(line: _Import, path: Path, roots: Mapping[str, Path]) -> Iterator[Path]:
    """The files that a line of imports reads of the packages ``roots``."""
    name, things = line
    place = _place(name, path, roots)
    if place is None:
        return
    if place.is_dir():
        inner = (place / f"{thing}.py" for thing in things)
        yield from (one for one in (place / "__init__.py", *inner) if one.is_file())
    elif (file := place.with_suffix(".py")).is_file():
        yield file


def _place(name: str, path: Path, roots: Mapping[str, Path]) -> Path | None:
    """Where a module lies, without its ending; None where it is of no package of ``roots``."""
    inner = name.lstrip(".").replace(".", "/")
    if name.startswith("."):
        return path.parents[len(name) - len(name.lstrip(".")) - 1] / inner
    root = roots.get(name.partition(".")[0])
    if root is None and path.is_relative_to(roots.get("", path / "none")):
        root = roots[""]
    return None if root is None else root / inner


def _root_of(package: str) -> Path:
    """The folder that holds a package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    place = Path(spec.origin)
    return place.parents[1] if place.name == "__init__.py" else place.parent


def _file_of(module: str, roots: Mapping[str, Path]) -> Path:
    place = roots[module.partition(".")[0]] / module.replace(".", "/")
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _digest_of(files: Iterable[Path], roots: Mapping[str, Path], hash_of: Any) -> str:
    total = hashlib.sha256()
    for name, path in sorted((_shown(path, roots), path) for path in files):
        total.update(f"{name}\0{hash_of(path)}\n".encode())
    return total.hexdigest()


def _shown(path: Path, roots: Mapping[str, Path]) -> str:
    """A file by its place in its package, wherever that is installed."""
    inside = next((root for root in roots.values() if path.is_relative_to(root)), path.parent)
    return path.relative_to(inside).as_posix()


def _stamp_of(path: Path) -> tuple[int, int]:
    known = path.stat()
    return known.st_size, known.st_mtime_ns


@cache
def _bytes_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _code_of(path: Path, *stamp: int) -> str:
    """Hash of a file's code; of a file that is no Python, of its bytes."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return _bytes_of(path)
    if sys.version_info >= (3, 13):  # where a class knows the number of its line
        _forget_lines(tree)
    total = hashlib.sha256()
    for part in _parts(compile(tree, "", "exec", dont_inherit=True, optimize=2)):
        total.update(f"{part!r}\0".encode())
    return total.hexdigest()


def _forget_lines(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            node.lineno = 1
            for decorator in node.decorator_list:
                decorator.lineno = 1


def _parts(code: CodeType) -> Iterator[object]:
    """All that a code object does; not where its lines are."""
    yield code.co_name, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    yield code.co_flags, code.co_code, code.co_names, code.co_varnames
    yield code.co_freevars, code.co_cellvars, code.co_exceptiontable
    for constant in code.co_consts:
        yield from _parts(constant) if isinstance(constant, CodeType) else (_plain(constant),)


def _plain(constant: object) -> object:
    """A constant as one whose text is always the same: sets have no order."""
    if isinstance(constant, frozenset):
        return "set", sorted(map(repr, map(_plain, constant)))
    if isinstance(constant, tuple):
        return tuple(map(_plain, constant))
    return constant
