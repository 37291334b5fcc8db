"""Loops that numba compiles, kept on disk until anything they are made from changes."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

from siftune.curate.core.code_hash import file_hash
from siftune.curate.core.progress import if_slow
from siftune.curate.files.lock_files import acquire_lock

_collecting = gc.isenabled()
gc.disable()  # what imports make is there to stay; to look through it takes a third of their time
try:
    from numba import njit, types
    from numba.core import config
    from numba.core.caching import (
        CompileResultCacheImpl,
        FunctionCache,
        IndexDataCacheFile,
        _CacheLocator,
    )
    from numba.core.runtime.nrt import rtsys
    from numba.misc.appdirs import AppDirs
finally:
    if _collecting:
        gc.enable()

__all__ = ["compiled"]

_Loop = TypeVar("_Loop", bound=Callable[..., Any])

_MOST: Final = 2000  # files in a folder: some editions of all loops, about 40 MB
_PATIENCE: Final = 300.0  # seconds that a process waits, in all, for what others compile
_ANNOUNCED: Final = 2.0  # seconds of compiling that are not worth a line


def compiled(**options: Any) -> Callable[[_Loop], _Loop]:
    """`numba.njit` without the GIL, kept on disk; ``options`` are numba's (``inline``, …).

    numba's own ``cache=True`` looks at the file of the outermost function alone, and a change to
    what it calls in another file goes unseen. Here a function is compiled again when its file, or
    one of the same package that this imports, directly or not, has other bytes than before
    (`core.code_hash`).

    A constant in a call has the type of its value: numba would compile a form of its own for it.

    What is kept lies in ``__pycache__`` of the package, or where that cannot be written, in the
    user's folder for caches; where ``NUMBA_CACHE_DIR`` is set, there.
    """

    def decorate(function: _Loop) -> _Loop:
        loop = njit(nogil=True, **options)(function)
        if loop is not function:  # numba is not told to leave functions as they are
            loop._cache = _Kept(function)
            loop.get_call_template = _of_types_alone(loop.get_call_template)
        same: _Loop = loop
        return same

    return decorate


def _of_types_alone(template: Callable[..., Any]) -> Callable[..., Any]:
    """How compiled code calls a loop, but by the types of constants, not by the constants."""

    def get(args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        return template(
            tuple(map(types.unliteral, args)), {k: types.unliteral(v) for k, v in kws.items()}
        )

    return get


def _top(module: str, file: Path) -> Path:
    """The folder of the outermost package that a module belongs to; its own if it is in none."""
    return file.parents[max(module.count(".") - 1, 0)]


class _Place(_CacheLocator):
    """Tells numba what a function was made from; where it lies is known to `_Files`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        module, self._py_file = function.__module__, function.__code__.co_filename
        self._made_from = file_hash(module, Path(self._py_file))
        package = _top(module, Path(self._py_file)) / "__pycache__"
        users = Path(AppDirs("siftune", appauthor=False).user_cache_dir)
        asked = getattr(config, "CACHE_DIR", "")  # NUMBA_CACHE_DIR, as numba has read it
        self.folders = [Path(asked)] if asked else [package, users / "loops"]

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Self:
        return cls(function)

    def get_cache_path(self) -> str:
        return str(self.folders[0])

    def get_source_stamp(self) -> str:
        return self._made_from

    def get_disambiguator(self) -> str:
        return self._made_from[:16]

    def ensure_cache_path(self) -> None:
        """Nothing: `_Files` sees to it."""


class _Result(CompileResultCacheImpl):
    _locator_classes: list[type[object]] = [_Place]  # noqa: RUF012 - as numba has it


class _Kept(FunctionCache):
    """The compiled forms of a function on disk."""

    _impl_class = _Result

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        place: _Place = self._impl.locator
        name = f"{function.__module__}.{self._impl.filename_base}"
        self._cache_file: Any = _Files(place.folders, name, place.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled form for a signature, or none.

        numba's own way gets it ready to compile first, 0.25 s that are for nothing where the form
        is found; to run, it needs no more than its management of memory.
        """
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


class _Files:
    """Files of their own for each signature of each edition of a function.

    In numba's arrangement they are numbered and shared by all of them: where two processes compile
    at the same time, one may load what the other wrote for other arguments or from other code.
    """

    def __init__(self, folders: list[Path], name: str, made_from: str) -> None:
        self._folders, self._name, self._made_from = folders, name, made_from

    def load(self, key: Any) -> Any:
        """What is kept under ``key``; none if it has to be compiled, which is then `save`d.

        Of processes that lack the same one compiles, and the others wait for what it keeps.
        """
        found = self._load(key)
        if found is None:
            _TURNS.take(self._locks(key))
            found = self._load(key)
            if found is not None:
                _TURNS.end(self._locks(key))
        return found

    def _locks(self, key: Any) -> list[Path]:
        return [folder / f"{self._name}-{_short(key)}.lock" for folder in self._folders]

    def _load(self, key: Any) -> Any:
        """What is kept under ``key``; none if nothing is, or nothing that can be read."""
        for folder in self._folders:
            with suppress(OSError):
                if (found := self._in(folder, key).load(key)) is not None:
                    return found
        return None

    def save(self, key: Any, data: Any) -> None:
        """Keep ``data``; where no folder can be written it is compiled again each time."""
        try:
            for folder in self._folders:
                with suppress(OSError):
                    folder.mkdir(parents=True, exist_ok=True)
                    self._in(folder, key).save(key, data)
                    _sweep(folder, self._name.partition(".")[0])
                    return
        finally:
            _TURNS.end(self._locks(key))

    def _in(self, folder: Path, key: Any) -> Any:
        return IndexDataCacheFile(str(folder), f"{self._name}-{_short(key)}", self._made_from)


def _short(key: Any) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()[:16]


@dataclass
class _Turns:
    """The loops that this process compiles, each under a lock that other processes wait for.

    A lock ends with its process, however that ends. numba lets one thread of a process compile at a
    time; a loop that another one calls is compiled within it.
    """

    held: dict[Path, IO[bytes]] = field(default_factory=dict)
    patience: float = _PATIENCE
    _line: ExitStack = field(default_factory=ExitStack)
    _since: float = 0.0
    _spent: float = 0.0

    def take(self, paths: list[Path]) -> None:
        """Wait for other processes that compile the same; go on where none of ``paths`` can be."""
        if not self.held:
            self._start()
        for path in paths:
            if path in self.held:
                return
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock(path, path.open("ab"))
                return

    def end(self, paths: list[Path]) -> None:
        """Let others go on."""
        for path in paths:
            if (lock := self.held.pop(path, None)) is not None:
                with suppress(PermissionError):  # Windows removes no open file
                    path.unlink(missing_ok=True)
                lock.close()
        if not self.held:
            self._line.close()
            self._spent += time.monotonic() - self._since

    def _lock(self, path: Path, lock: IO[bytes]) -> None:
        while self.patience > 0:
            if acquire_lock(lock.fileno()):
                self.held[path] = lock
                return
            time.sleep(_NAP)
            self.patience -= _NAP
        lock.close()

    def _start(self) -> None:
        """Count the time; once it was long, one line tells what is going on."""
        self._line.close()
        self._since = time.monotonic()
        if self._spent < _ANNOUNCED:
            line = "compiling loops for this machine, once: later runs load them"
            self._line.enter_context(if_slow(line, _ANNOUNCED - self._spent))


_NAP: Final = 0.05  # seconds between two looks at a lock
_TURNS: Final = _Turns()


def _sweep(folder: Path, package: str) -> None:
    """Remove the oldest files of the package's loops beyond `_MOST`; others may lie there too."""
    files = [*folder.glob(f"{package}.*.nb[ci]")]
    if len(files) > _MOST:
        files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in islice(files, _MOST, None):
            path.unlink(missing_ok=True)
