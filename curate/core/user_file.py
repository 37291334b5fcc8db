"""Import of a user's Python file by its path, and errors of its code in one line each."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Final

from siftune.curate.core.code_hash import imported_files
from siftune.curate.core.errors import BadRow, SiftuneError, UsageError

__all__ = ["failures", "module_of"]

_folders: Final[list[str]] = []  # of users' files, in `sys.path`
_loading: Final[set[Path]] = set()  # users' files whose code runs now


def module_of(file: Path, shown: str) -> ModuleType:
    """The module of a file; it is imported again once it, or one beside it, has changed."""
    beside = imported_files([file], {"": file.parent})
    digest = sha256(b"".join(path.read_bytes() for path in sorted(beside))).hexdigest()
    return _imported(file, digest, shown, frozenset(beside - {file}))


@cache
def _imported(file: Path, digest: str, shown: str, beside: frozenset[Path]) -> ModuleType:
    """The module of a file with these bytes; modules ``beside`` it are imported anew."""
    name = f"siftune_custom_{file.stem}_{digest[:8]}"
    if file in _loading:
        raise UsageError(
            f"{shown} is run from its top to find what it defines, and asks for itself there: put "
            "functions into a file of their own, or what runs them under if __name__ == '__main__'"
        )
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{shown}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    _search_last(str(file.parent))
    for path in (one.relative_to(file.parent).with_suffix("") for one in beside):
        key = ".".join(path.parent.parts if path.name == "__init__" else path.parts)
        known = Path(str(getattr(sys.modules.get(key), "__file__", "")))
        if any(known.is_relative_to(folder) for folder in _folders):
            del sys.modules[key]
    importlib.invalidate_caches()
    sys.modules[name] = module  # dataclasses and pickles look themselves up here
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it is the user's folder
    _loading.add(file)
    try:
        with failures(shown, file):
            spec.loader.exec_module(module)
    except SiftuneError:
        del sys.modules[name]
        raise
    finally:
        _loading.remove(file)
        sys.dont_write_bytecode = writes
    return module


def _search_last(folder: str) -> None:
    """Let modules in a user's folder be found, before other users' but after what is installed."""
    for one in _folders:
        if one in sys.path:
            sys.path.remove(one)
    _folders[:] = [folder, *(one for one in _folders if one != folder)]
    sys.path.extend(_folders)


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
        text = " ".join(str(error).split("\n\n")[0].split())
        told = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise UsageError(f"{label}: {_line_of(error, file)}{told}") from error


def _line_of(error: BaseException, file: Path | None) -> str:
    """Where in the user's file an error came up."""
    path = None if file is None else file.resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [one.lineno for one in frames if path is not None and Path(one.filename) == path]
    return f"line {lines[-1]}: " if lines else ""
