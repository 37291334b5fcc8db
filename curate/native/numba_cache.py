"""`numba.njit` with a disk cache that is keyed by every source file a loop is compiled from."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

from siftune.curate.core.cache_folders import code_caches
from siftune.curate.core.code_hash import file_hash
from siftune.curate.core.progress import if_slow
from siftune.curate.files.lock_files import acquire_lock

_collecting = gc.isenabled()
gc.disable()  # garbage collection takes a third of the time of these imports and frees nothing
try:
    from numba import njit, types
    from numba.core import config
    from numba.core.caching import (
        CompileResultCacheImpl,
        FunctionCache,
        IndexDataCacheFile,
        _CacheLocator,
    )
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler
    from numba.core.runtime.nrt import rtsys
finally:
    if _collecting:
        gc.enable()

__all__ = ["compile_cached"]

_Loop = TypeVar("_Loop", bound=Callable[..., Any])

_MAX_FILES: Final = 2000  # in a cache folder: several versions of all loops, about 40 MB
_MAX_WAIT: Final = 300.0  # seconds, in all, for loops that other processes compile
_ANNOUNCE_AFTER: Final = 2.0  # seconds of compiling


def compile_cached(function: _Loop, **options: Any) -> _Loop:
    """`numba.njit` of ``function`` without the GIL, cached on disk; ``options`` are numba's.

    numba's own ``cache=True`` hashes only the file of the outermost function, so it misses an edit
    of a called function in another file. Here a function is compiled again when its file, or one of
    the same package that it imports, directly or not, has changed (`core.code_hash`).

    A constant argument has the type of its value: numba would compile a separate version for it.

    For the loops that call it, a loop is compiled apart, only as far as they need (`_LinkedCode`).

    The cache is ``NUMBA_CACHE_DIR`` where that is set, else as in `cache_folders.code_caches`.
    """
    # no wrapper for C is compiled: no loop is a callback of C code
    given: dict[str, Any] = {"nogil": True, "no_cfunc_wrapper": True, **options}
    loop = njit(**given)(function)
    loop._cache = _FunctionCache(function)

    only_linked = {**given, "no_cpython_wrapper": True, "pipeline_class": _LinkedCompiler}

    @cache
    def linked() -> Any:
        return njit(**only_linked)(function)

    def call_template(args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        return linked().get_call_template(
            tuple(map(types.unliteral, args)), {k: types.unliteral(v) for k, v in kws.items()}
        )

    loop.get_call_template = call_template
    loop.get_overload = lambda signature: linked().get_overload(signature)
    result: _Loop = loop
    return result


class _LinkedCode(JITCodeLibrary):
    """Code of a loop for the loops that call it, which link it into theirs.

    numba's own is also wrapped for Python, made machine code and cached, each time with all that it
    calls in it: of loops with several levels of calls that takes a third of the time of compiling.
    """

    def _finalize_final_module(self) -> None:
        """Make no machine code."""
        self._finalized = True


class _LinkedCompiler(Compiler):
    """numba's compiler, with `_LinkedCode` as its result."""

    def compile_extra(self, function: Callable[..., Any]) -> Any:
        """Compile ``function``; the entry point is only a key by which callers find the code."""
        state = self.state
        state.flags.no_compile = True
        codegen = state.targetctx.codegen()
        state.library = _LinkedCode(codegen, function.__qualname__)  # type: ignore[no-untyped-call]
        compiled: Any = super().compile_extra(function)  # type: ignore[no-untyped-call]
        key: Any = [].append  # numba wants a builtin function; this one equals no other
        state.targetctx.insert_user_function(key, compiled.fndesc, [compiled.library])
        return compiled._replace(entry_point=key)


def _package_root(module: str, file: Path) -> Path:
    """Folder of the outermost package of a module, or of the module if it is in no package."""
    return file.parents[max(module.count(".") - 1, 0)]


class _Locator(_CacheLocator):
    """Gives numba the source hash of a function, and `_Files` the folders of its cache."""

    def __init__(self, function: Callable[..., Any]) -> None:
        module, self._py_file = function.__module__, function.__code__.co_filename
        self._source_hash = file_hash(module, Path(self._py_file))
        given = getattr(config, "CACHE_DIR", "")  # NUMBA_CACHE_DIR, as numba has read it
        root = _package_root(module, Path(self._py_file))
        self.folders = [Path(given)] if given else code_caches(root)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Self:
        return cls(function)

    def get_cache_path(self) -> str:
        return str(self.folders[0])

    def get_source_stamp(self) -> str:
        return self._source_hash

    def get_disambiguator(self) -> str:
        return self._source_hash[:16]

    def ensure_cache_path(self) -> None:
        """Do nothing: `_Files` makes the folder."""


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes: list[type[object]] = [_Locator]  # noqa: RUF012 - as numba declares it


class _FunctionCache(FunctionCache):
    """The compiled versions of a function on disk, one for each signature."""

    _impl_class = _CacheImpl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        locator: _Locator = self._impl.locator
        name = f"{function.__module__}.{self._impl.filename_base}"
        self._cache_file: Any = _Files(locator.folders, name, locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled version for a signature, or None.

        numba's own method first prepares to compile, which takes 0.25 s and is not needed for a
        cached version: only numba's memory runtime is.
        """
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


class _Files:
    """Cache files that are separate for each signature and source hash of a function.

    numba numbers its files and shares the numbers between signatures: of two processes that compile
    at the same time, one may load what the other wrote for other arguments or from other code.
    """

    def __init__(self, folders: list[Path], name: str, source_hash: str) -> None:
        self._folders, self._name, self._source_hash = folders, name, source_hash

    def load(self, key: Any) -> Any:
        """The version cached under ``key``; None if it has to be compiled, and then `save`d.

        Of several processes that miss the same version one compiles, the others wait for its file.
        """
        found = self._load(key)
        if found is None:
            _LOCKS.acquire(self._locks(key))
            found = self._load(key)
            if found is not None:
                _LOCKS.release(self._locks(key))
        return found

    def _locks(self, key: Any) -> list[Path]:
        return [folder / f"{self._name}-{_short(key)}.lock" for folder in self._folders]

    def _load(self, key: Any) -> Any:
        """The version cached under ``key``; None if there is none that can be read."""
        for folder in self._folders:
            with suppress(OSError):
                if (found := self._file(folder, key).load(key)) is not None:
                    return found
        return None

    def save(self, key: Any, data: Any) -> None:
        """Write ``data``; without a writable folder, each process compiles again."""
        try:
            for folder in self._folders:
                with suppress(OSError):
                    folder.mkdir(parents=True, exist_ok=True)
                    self._file(folder, key).save(key, data)
                    _prune(folder, self._name.partition(".")[0])
                    return
        finally:
            _LOCKS.release(self._locks(key))

    def _file(self, folder: Path, key: Any) -> Any:
        return IndexDataCacheFile(str(folder), f"{self._name}-{_short(key)}", self._source_hash)


def _short(key: Any) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()[:16]


@dataclass
class _Locks:
    """File locks of the loops that this process compiles; other processes wait for them.

    The system releases a lock when its process ends. numba compiles on one thread of a process at a
    time; a called loop is compiled while its caller is.
    """

    held: dict[Path, IO[bytes]] = field(default_factory=dict)
    seconds_left: float = _MAX_WAIT
    _notice: ExitStack = field(default_factory=ExitStack)
    _started: float = 0.0
    _spent: float = 0.0

    def acquire(self, paths: list[Path]) -> None:
        """Lock one of ``paths``, waiting for other processes; go on where none can be written."""
        if not self.held:
            self._start()
        for path in paths:
            if path in self.held:
                return
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._lock(path, path.open("ab"))
                return

    def release(self, paths: list[Path]) -> None:
        """Let waiting processes continue."""
        for path in paths:
            if (lock := self.held.pop(path, None)) is not None:
                with suppress(PermissionError):  # Windows removes no open file
                    path.unlink(missing_ok=True)
                lock.close()
        if not self.held:
            self._notice.close()
            self._spent += time.monotonic() - self._started

    def _lock(self, path: Path, lock: IO[bytes]) -> None:
        while self.seconds_left > 0:
            if acquire_lock(lock.fileno()):
                self.held[path] = lock
                return
            time.sleep(_POLL)
            self.seconds_left -= _POLL
        lock.close()

    def _start(self) -> None:
        """Start to count the time; after `_ANNOUNCE_AFTER` seconds print one line."""
        self._notice.close()
        self._started = time.monotonic()
        if self._spent < _ANNOUNCE_AFTER:
            line = "compiling loops for this machine, once: later runs load them"
            self._notice.enter_context(if_slow(line, _ANNOUNCE_AFTER - self._spent))


_POLL: Final = 0.05  # seconds between two attempts to lock
_LOCKS: Final = _Locks()


def _prune(folder: Path, package: str) -> None:
    """Remove the oldest cache files of the package beyond `_MAX_FILES`; other files stay."""
    files = [*folder.glob(f"{package}.*.nb[ci]")]
    if len(files) > _MAX_FILES:
        files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in islice(files, _MAX_FILES, None):
            path.unlink(missing_ok=True)
