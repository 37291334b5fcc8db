"""Import of a user's Python file by its path, and errors of its code in one line each."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from importlib.machinery import ModuleSpec
from itertools import product, takewhile
from pathlib import Path
from types import ModuleType
from typing import Final

from siftune.curate.core.code_hash import imported_files, user_roots
from siftune.curate.core.errors import BadRow, SiftuneError, UsageError
from siftune.curate.core.object_hash import is_installed

__all__ = ["failures", "imports_of", "module_of"]

_added: Final[list[str]] = []  # folders of users' files, in `sys.path`
_loading: Final[set[Path]] = set()  # users' files whose code runs now


@dataclass(frozen=True)
class _Imports:
    """What a user's file imports of its own folder and of the project.

    Two files may have modules of one name: each finds its own.
    """

    roots: tuple[Path, ...]
    files: frozenset[Path]
    modules: dict[str, ModuleType] = field(default_factory=dict)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of modules and of packages that they are in; those of packages first."""
        found = set()
        for path, root in product(self.files, self.roots):
            if path.is_relative_to(root):
                parts = path.relative_to(root).with_suffix("").parts
                parts = parts[:-1] if parts[-1] == "__init__" else parts
                found |= {".".join(parts[: at + 1]) for at in range(len(parts))}
        return tuple(sorted(found))

    def is_own(self, module: ModuleType) -> bool:
        """Whether a module is of these files, or a folder with such."""
        place = _place_of(module)
        return place in self.files or any(place in file.parents for file in self.files)

    def is_there(self) -> bool:
        """Whether all of these modules are what an import finds as it is."""
        modules = self.modules
        return all(
            name in modules and sys.modules.get(name) is modules[name] for name in self.names
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Meanwhile imports find these modules, after what is installed."""
        others = {name: sys.modules.pop(name) for name in self.names if self._hides(name)}
        sys.modules.update(self.modules)
        current = [(at, one) for at, one in enumerate(sys.path) if not one or _is_current(one)]
        sys.path[:] = [one for one in sys.path if one and not _is_current(one)]
        _search_last([str(root) for root in self.roots])
        try:
            yield
        finally:
            there = {name: sys.modules[name] for name in self.names if name in sys.modules}
            self.modules.update({key: one for key, one in there.items() if self.is_own(one)})
            sys.modules.update({key: one for key, one in others.items() if not _is_of_a_file(one)})
            for at, one in current:
                sys.path.insert(at, one)

    def _hides(self, name: str) -> bool:
        """Whether another module of that name is a user's, too: of another file, or of a script."""
        known = sys.modules.get(name)
        if known is None or known is self.modules.get(name):
            return False
        place = _place_of(known)
        return place is not None and not is_installed(place)


_imports: Final[dict[Path, _Imports]] = {}  # of each user's file that was imported


def _place_of(module: ModuleType) -> Path | None:
    """The file of a module, or the folder of a package without one."""
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return None if place is None else Path(place)


def _is_current(folder: str) -> bool:
    return Path(folder) == Path.cwd()


def _is_of_a_file(module: ModuleType) -> bool:
    return any(module in known.modules.values() for known in _imports.values())


def imports_of(file: Path | None) -> AbstractContextManager[None]:
    """Meanwhile imports of code of a user's file find what is beside that file."""
    known = _imports.get(file.resolve()) if file is not None and _imports else None
    return nullcontext() if known is None or known.is_there() else known.active()


def module_of(file: Path, shown: str) -> ModuleType:
    """The module of a file; it is imported again once it, or one that it imports, has changed."""
    roots = user_roots(file)
    files = imported_files([file], roots)
    digest = sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()
    return _imported(file, digest, shown, tuple(roots.values()), frozenset(files - {file}))


@cache
def _imported(
    file: Path, digest: str, shown: str, roots: tuple[Path, ...], files: frozenset[Path]
) -> ModuleType:
    """The module of a file with these bytes; ``files`` that it imports are imported anew."""
    place = sha256(f"{file} {digest}".encode()).hexdigest()[:8]
    if file in _loading:
        raise UsageError(
            f"{shown} is run from its top to find what it defines, and asks for itself there: put "
            "functions into a file of their own, or what runs them under if __name__ == '__main__'"
        )
    if importlib.util.spec_from_file_location("_", file) is None:
        raise UsageError(f"{shown}: expected a Python file")
    importlib.invalidate_caches()
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it is the user's folder
    _loading.add(file)
    found = _Imports(roots, files)
    try:
        with found.active(), failures(shown, file):
            package = _package(file, place) if _RELATIVE.search(file.read_bytes()) else None
            name = f"{package}.{file.stem}" if package else f"siftune_custom_{file.stem}_{place}"
            known = sys.modules.get(name) if package else None  # its package may import it
            module = known or _executed(name, file)
    except SiftuneError:
        for one in [one for one in sys.modules if one.partition(".")[0].endswith(f"_{place}")]:
            del sys.modules[one]
        raise
    finally:
        _loading.remove(file)
        sys.dont_write_bytecode = writes
    if files:
        _imports[file] = found
    return module


_RELATIVE: Final = re.compile(rb"^[ \t]*from[ \t]+\.", re.M)


def _package(file: Path, place: str) -> str:
    """The package in which the relative imports of a file are found: its folders, by a new name.

    Those above it with ``__init__.py`` are run, as in an import; a folder without is one, too.
    """
    folders = [*takewhile(lambda one: (one / "__init__.py").is_file(), file.parents)]
    top = folders[-1] if folders else file.parent
    name = f"siftune_custom_{top.name.replace('.', '_')}_{place}"
    if folders:
        _executed(name, top / "__init__.py", [str(top)])
    else:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(top)]
        sys.modules[name] = importlib.util.module_from_spec(spec)
    return ".".join([name, *file.parent.relative_to(top).parts])


def _executed(name: str, file: Path, inside: list[str] | None = None) -> ModuleType:
    """The module of a file, run under a name; of a package ``inside`` are its folders."""
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=inside)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look themselves up here
    spec.loader.exec_module(module)
    return module


def _search_last(folders: list[str]) -> None:
    """Let modules in a user's folders be found, before other users' but after what is installed."""
    for one in _added:
        if one in sys.path:
            sys.path.remove(one)
    _added[:] = [*folders, *(one for one in _added if one not in folders)]
    sys.path.extend(_added)


@contextmanager
def failures(label: str, file: Path | None) -> Iterator[None]:
    """Meanwhile errors of the user's code become one line each.

    Raises:
        UsageError: in place of any other error.
    """
    try:
        yield
    except (SiftuneError, BadRow):
        raise
    except SyntaxError as error:
        raise UsageError(f"{label}: line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        text = str(error)
        if type(error).__module__.startswith("polars"):  # the plan of the query comes behind
            text = text.split("\n\n")[0]
        text = " ".join(text.split())
        if isinstance(error, ModuleNotFoundError):
            text += (
                "; it is looked for in what is installed, beside the file and in the current folder"
            )
        told = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise UsageError(f"{label}: {_line_of(error, file)}{told}") from error


def _line_of(error: BaseException, file: Path | None) -> str:
    """Where in the user's file an error came up."""
    path = None if file is None else file.resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [one.lineno for one in frames if path is not None and Path(one.filename) == path]
    return f"line {lines[-1]}: " if lines else ""
