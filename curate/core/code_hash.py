"""Hash of what code computes: of a module and of all that it imports, directly or not.

Comments, what docstrings say and blank lines do not count, nor do modules that only report
(`REPORTING`): an edit of them remakes no stage and retrains no model. The hash is of the compiled
code, so it is another one under another minor version of Python.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from types import CodeType
from typing import Any, Final

from siftune.curate.core.cache_folders import code_caches

__all__ = ["REPORTING", "code_hash", "file_hash", "imported_files", "user_roots"]

REPORTING: Final[Mapping[str, str]] = {
    "siftune/curate/core/progress.py": "writes lines and counts to the terminal",
    "siftune/curate/core/terminal.py": "writes text to the terminal",
    "siftune/curate/core/errors.py": "words errors: where one is raised no result is written",
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
    modules = [place for place in places if isinstance(place, str)]
    files = [place for place in places if isinstance(place, Path)]
    alone = tuple(alone)
    roots = _roots({_PACKAGE, *(module.partition(".")[0] for module in modules)})
    if files:
        roots |= user_roots(files[0])
    key = (places, alone, *roots.items())
    if key in _KNOWN and _unchanged(_KNOWN[key][0]):
        return _KNOWN[key][1]
    found = imported_files([*files, *(_file_of(module, roots) for module in modules)], roots)
    found |= {_file_of(module, roots) for module in alone}
    stamps = {path: _stamp_of(path) for path in found}
    digest = _digest_of(found, roots, lambda path: _code_of(path, *stamps[path]))
    _stored().save()
    if not files and {_PACKAGE} == {name.partition(".")[0] for name in roots}:
        _KNOWN[key] = ({str(path): stamp for path, stamp in stamps.items()}, digest)
    return digest


_KNOWN: Final[dict[tuple[Any, ...], tuple[dict[str, tuple[int, int]], str]]] = {}
"""The files of a hash and how they were when it was made: of our package only, since a user's
folder may get a file that an import finds first."""


def _unchanged(stamps: Mapping[str, tuple[int, int]]) -> bool:
    with suppress(OSError):
        return all(_stamp_of(path) == stamp for path, stamp in stamps.items())
    return False


_BESIDE: Final = ""
_PROJECT: Final = "the project"


def user_roots(file: Path) -> dict[str, Path]:
    """Where a user's file has modules from: its own folder, then the current one."""
    return {_BESIDE: file.parent, _PROJECT: Path.cwd()}


@cache
def file_hash(module: str, file: Path) -> str:
    """Hash of the bytes of a module's file and of all files of its package that it imports."""
    package, depth = module.partition(".")[0], module.count(".")
    roots = {package: file.parents[depth - 1]} if depth else {}
    return _digest_of(
        imported_files([file], roots), roots, lambda path: _bytes_of(path, *_stamp_of(path))
    )


def imported_files(files: Iterable[Path], roots: Mapping[str, Path]) -> set[Path]:
    """``files`` and all that they import of the packages ``roots``, wherever in them it is written.

    ``roots`` has the folder of each package, and those of `user_roots`.
    """
    found, left = set(files), list(files)
    while left:
        path = left.pop()
        named = _imports(path, *_stamp_of(path))
        new = {one for line in named for one in _files(line, path, roots)} - found
        new = {one for one in new if _shown(one, roots) not in REPORTING}
        found |= new
        left += new
    return found


_Import = tuple[str, tuple[str, ...]]


@cache
def _imports(path: Path, *stamp: int) -> tuple[_Import, ...]:
    """Modules that a file imports, each with the names that are taken of it.

    Of our files, each import on a line of its own, they are found by their text: to parse all takes
    a second.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.is_relative_to(_HOME):
        return tuple(
            (source or whole, tuple(_NAME.findall(things)))
            for source, things, whole in _IMPORTS.findall(_TYPES_ONLY.sub("", text))
        )
    try:
        return tuple(_imported(ast.parse(text)))
    except (SyntaxError, ValueError):
        return ()


def _imported(tree: ast.AST) -> Iterator[_Import]:
    """The imports in a file, wherever they are but for checkers of types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((one.name, ()) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            things = tuple(one.name for one in node.names)
            yield "." * node.level + (node.module or ""), things
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _imported(ast.Module(node.orelse, []))
        else:
            yield from _imported(node)


def _files(line: _Import, path: Path, roots: Mapping[str, Path]) -> Iterator[Path]:
    """The files that a line of imports reads of the packages ``roots``."""
    name, things = line
    place = _place(name, path, roots)
    if place is None:
        return
    for top in (roots[key] for key in (_BESIDE, _PROJECT) if key in roots):
        if place.is_relative_to(top):  # the code of packages runs before that of modules in them
            packages = place.relative_to(top).parents[:-1]
            yield from (one for above in packages if (one := top / above / "__init__.py").is_file())
    if place.is_dir():
        names = [name for thing in things for name in (f"{thing}.py", f"{thing}/__init__.py")]
        found = (place / name for name in ("__init__.py", *names))
        yield from (one for one in found if one.is_file())
    elif (file := place.with_suffix(".py")).is_file():
        yield file


def _place(name: str, path: Path, roots: Mapping[str, Path]) -> Path | None:
    """Where a module lies, without its ending; None where it is of no package of ``roots``."""
    first, _, rest = name.partition(".")
    if name.startswith("."):
        inner = name.lstrip(".")
        return path.parents[len(name) - len(inner) - 1] / inner.replace(".", "/")
    part, _, inner = rest.partition(".")
    if f"{first}.{part}" in roots:
        return roots[f"{first}.{part}"] / inner.replace(".", "/")
    if first in roots:
        return roots[first] / rest.replace(".", "/")
    return _user_place(name, path, roots)


def _user_place(name: str, path: Path, roots: Mapping[str, Path]) -> Path | None:
    """Where a module that a user's file imports lies: where Python looks first, there it is."""
    folders = [roots[key] for key in (_BESIDE, _PROJECT) if key in roots]
    packages = [folder for key, folder in roots.items() if key not in (_BESIDE, _PROJECT)]
    is_users = any(path.is_relative_to(folder) for folder in folders)
    if not is_users or any(path.is_relative_to(folder) for folder in packages):
        return None
    if name.partition(".")[0] == _PACKAGE:  # in a clone; it is imported already, and stays so
        return None
    places = (folder / name.replace(".", "/") for folder in folders)
    return next((one for one in places if one.is_dir() or one.with_suffix(".py").is_file()), None)


def _roots(packages: Iterable[str]) -> dict[str, Path]:
    """The folder of each package, and of our parts where they do not lie in that of the whole."""
    roots = {package: _folder_of(package) for package in packages}
    for part in ("curate", "finetune", "pipelines"):
        if not (roots[_PACKAGE] / part).is_dir():  # an editable install without links
            roots[f"{_PACKAGE}.{part}"] = _folder_of(f"{_PACKAGE}.{part}")
    return roots


def _folder_of(package: str) -> Path:
    """The folder of a package; of a lone module the one that it is in."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return Path(spec.origin).parent


def _file_of(module: str, roots: Mapping[str, Path]) -> Path:
    place = _place(module, Path(), roots)
    assert place is not None, module
    if "." not in module and not (place / "__init__.py").is_file():
        return place / f"{module}.py"
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _digest_of(files: Iterable[Path], roots: Mapping[str, Path], hash_of: Any) -> str:
    total = hashlib.sha256()
    for name, path in sorted((_shown(path, roots), path) for path in files):
        total.update(f"{name}\0{hash_of(path)}\n".encode())
    return total.hexdigest()


def _shown(path: Path, roots: Mapping[str, Path]) -> str:
    """A file by its place in its package, wherever that is installed."""
    for package, folder in roots.items():
        if path.is_relative_to(folder):
            return Path(package.replace(".", "/"), path.relative_to(folder)).as_posix()
    return path.name


def _stamp_of(path: str | Path) -> tuple[int, int]:
    known = os.stat(path)  # noqa: PTH116 - a fifth of the time of `Path.stat`
    return known.st_size, known.st_mtime_ns


@cache
def _bytes_of(path: Path, *stamp: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _code_of(path: Path, size: int, changed: int) -> str:
    """Hash of a file's code, or the bytes of one that is no Python; those of ours are stored."""
    known = _stored().files.get(str(path), [None])
    if known[:2] == [size, changed]:
        return str(known[2])
    digest = _compiled(path, size, changed)
    if path.is_relative_to(_HOME):
        _stored().add(str(path), [size, changed, digest])
    return digest


def _compiled(path: Path, *stamp: int) -> str:
    source: Any = path.read_bytes()
    try:
        if sys.version_info >= (3, 13):  # where a class knows the number of its line
            source = _without_lines(ast.parse(source))
        code = compile(source, "", "exec", dont_inherit=True, optimize=2)
    except (SyntaxError, ValueError):
        return _bytes_of(path, *stamp)
    total = hashlib.sha256()
    for part in _parts(code):
        total.update(f"{part!r}\0".encode())
    return total.hexdigest()


class _Stored:
    """Hashes of files of the package, beside their compiled forms: to compile takes 0.3 s a run.

    They are in the first of ``paths`` that can be read, and written to the first that can be.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)
        self.changed = False

    @cached_property
    def files(self) -> dict[str, list[Any]]:
        """Size, time of change and hash by path; empty where there are none to be read."""
        for path in self.paths:
            with suppress(OSError, ValueError):
                found = json.loads(path.read_bytes())
                if isinstance(found, dict):
                    return found
        return {}

    def add(self, path: str, known: list[Any]) -> None:
        """Store the hash of one more file."""
        self.files[path] = known
        self.changed = True

    def save(self) -> None:
        """Write what is new; where that cannot be, it is computed again each time."""
        if self.changed:
            there = {path: known for path, known in self.files.items() if Path(path).is_file()}
            for path in self.paths:
                with suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    part = path.with_suffix(f".{os.getpid()}.tmp")
                    part.write_text(json.dumps(there), encoding="utf-8")
                    part.replace(path)
                    break
        self.changed = False


_HOME: Final = Path(__file__).parents[2]


@cache
def _stored() -> _Stored:
    name = f"code.{sys.implementation.cache_tag}.json"
    return _Stored(folder / name for folder in code_caches(_HOME))


def _without_lines(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            node.lineno = 1
            for decorator in node.decorator_list:
                decorator.lineno = 1
    return tree


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
