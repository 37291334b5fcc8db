"""Errors for users in one line, with an exit code; those of the system and of libraries, too."""

from __future__ import annotations

import difflib
import errno
import os
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = [
    "PARTIAL",
    "BadRow",
    "DataError",
    "Failure",
    "LockedError",
    "Problems",
    "SiftuneError",
    "UsageError",
    "closest",
    "failure_of",
    "memory_limit",
    "name_in_errors",
    "quoted",
    "raise_all",
    "reading",
]

PARTIAL: Final = 4
"""Exit code of a run that ended well but quarantined rows or left some unscored."""


class SiftuneError(Exception):
    """An error whose text is complete: what was expected, what came, what to do."""

    exit_code = 1


class UsageError(SiftuneError):
    """The command, recipe or option is wrong."""

    exit_code = 2


class DataError(SiftuneError):
    """The input cannot be used at all; the text names the file, and the line or row."""

    exit_code = 3


class LockedError(SiftuneError):
    """Another run has the lock of the output folder."""


def closest(wrong: object, right: Mapping[str, Any] | tuple[str, ...]) -> str:
    """Advice after an unknown name, which in YAML need not be a text.

    >>> closest("DPO", ("kto", "dpo")), closest("Dpo", ("DPO", "KTO"))
    ('did you mean dpo?', 'did you mean DPO?')
    """
    lower = {name.lower(): name for name in reversed(list(right))}
    near = difflib.get_close_matches(str(wrong), list(right), n=1) or [
        lower[name] for name in difflib.get_close_matches(str(wrong).lower(), lower, n=1)
    ]
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(right)}" if right else "it has no options"


_QUOTED: Final = 80  # characters of a value that an error quotes


def quoted(value: object) -> str:
    """A value as an error shows it; of one of many lines, or a long one, its type.

    >>> quoted(5), quoted([0] * 100)
    ('5', 'a value of type list')
    """
    text = repr(value)
    short = len(text) <= _QUOTED and text.isprintable()
    return text if short else f"a value of type {type(value).__name__}"


def raise_all(problems: Sequence[SiftuneError]) -> None:
    """Raise a single problem as it is, or several as one error with a line for each."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = [f"{len(problems)} problems:", *(f"  {problem}" for problem in problems)]
        kinds = [type(problem) for problem in problems]
        raise min(kinds, key=lambda kind: kind.exit_code)("\n".join(lines))


_LIST: Final = re.compile(r"(?s)(.*?)\d+ problems:\n  (.*)")


@dataclass
class Problems:
    """Errors of several checks, collected so that a user sees all of them at once."""

    found: list[SiftuneError] = field(default_factory=list)

    @contextmanager
    def collecting(self, where: str = "") -> Iterator[None]:
        """Collect the error that ends the block, with ``where`` before it; a list one by one."""
        try:
            yield
        except SiftuneError as error:
            kind = type(error)
            self.found += [kind(f"{where}: {one}" if where else one) for one in _each(str(error))]

    def refuse(self, where: str = "") -> None:
        """Raise what was collected, if anything, with ``where`` before it; see `raise_all`."""
        try:
            raise_all(self.found)
        except SiftuneError as error:
            raise type(error)(f"{where}: {error}" if where else str(error)) from None


def _each(text: str) -> list[str]:
    """The problems in the text of `raise_all`, or the text itself."""
    listed = _LIST.fullmatch(text)
    return [text] if listed is None else [listed[1] + one for one in listed[2].split("\n  ")]


class BadRow(Exception):
    """A raw row that cannot be read: it is quarantined, the others are read on.

    ``reason`` is short stable snake_case, ``detail`` is what was expected and what came.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


_OS_ERROR: Final = re.compile(r"\((?:os error|errno) (\d+)\)|\[[Ee]rrno (\d+)\]")
_NO_MEMORY: Final = re.compile(
    r"(?i)out of memory|(can't|cannot|failed to|unable to) allocate|memory allocation|malloc of"
    r"|bad_alloc|failed to map segment"  # of a library that is loaded
    r"|can't start new thread|failed to (launch|spawn|create) (a )?(new |worker )?thread"
)
_TOO_MANY_FILES: Final = re.compile(r"(?i)too ?many ?open ?files")
_QUOTED_FILE: Final = re.compile(r"[Ff]ailed to open (?:local )?file '([^']+)'")
_DAMAGED: Final = ("polars", "pyarrow", "sqlite3", "safetensors", "safetensors_rust", "zstandard")
_MODEL_CODE: Final = ("transformers.models.", "transformers.generation.", "peft.")
_USAGE: Final = 2
_DATA: Final = 3
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OF_WRITING: Final = (*_NO_ROOM, errno.EIO, errno.EBADF)
_NAMES: Final = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)
_REMAKE: Final = "run the command that wrote it again, which makes it anew"
_MEMORY_ADVICE: Final = (
    "out of memory: close other programs, raise the limit (ulimit -v, of threads ulimit -u), or "
    "take fewer rows, shorter texts or a smaller batch; the same command resumes"
)
_NEAR: Final = 0.5  # of the limit: what failed asked for much at once, such as a library
_FILES_ADVICE: Final = (
    "too many open files: raise the limit (ulimit -n) and run the same command again: it resumes"
)


class Failure(NamedTuple):
    """The line to print, and the exit code; ``known`` is false for an unforeseen error."""

    text: str
    code: int
    known: bool = True


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Add the name ``path`` to errors of the disk that name no file.

    Raises:
        OSError: in place of an error of a library that only quotes one.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            quoted = _QUOTED_FILE.search(str(error))
            error.filename = quoted[1] if quoted else str(path)
        raise
    except Exception as error:
        number = None if isinstance(error, SiftuneError) else _os_error(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@contextmanager
def reading(path: Path, expected: str = _REMAKE) -> Iterator[None]:
    """Turn any error that a damaged file causes into one line that names ``path``.

    Raises:
        DataError: in place of every error but our own and those of the disk that name a file.
    """
    try:
        yield
    except (SiftuneError, ImportError, NameError, SystemError):  # not of the file: of the program
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        if _limit_advice(error) is not None:
            raise
        raise DataError(f"{path} is damaged ({_first_line(error)}): {expected}") from None


def failure_of(error: BaseException) -> Failure:
    """The line and exit code of any error that ends a command."""
    if isinstance(error, SiftuneError):
        return Failure(str(error), error.exit_code)
    if (advice := _limit_advice(error)) is not None:
        return Failure(advice, 1)
    if isinstance(error, OSError) and error.errno is not None:
        return Failure(_disk(error), _USAGE if error.errno in _NAMES else 1)
    if isinstance(error, RecursionError):
        return Failure("a value is nested too deeply: expected at most 128 levels", _DATA)
    number = _os_error(error)
    if number is not None:
        return Failure(f"{os.strerror(number)}: {_first_line(error)}", 1)
    if type(error).__module__.partition(".")[0] in _DAMAGED:
        text = f"a file cannot be read or written ({_first_line(error)}): it may be damaged"
        return Failure(f"{text}; remove it and run the same command again", _DATA)
    if _is_near_memory_limit():
        return Failure(_MEMORY_ADVICE, 1)
    unfit = _unfit(error)
    if unfit is not None:
        return Failure(unfit, _USAGE, known=False)
    return Failure(_unforeseen(error), 1, known=False)


def _limit_advice(error: BaseException) -> str | None:
    """Advice where memory, threads or open files ran out, in whatever library.

    An import error names the library; its cause is the error before.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MemoryError) or _NO_MEMORY.search(str(found)):
            return _MEMORY_ADVICE
        if _TOO_MANY_FILES.search(str(found)):
            return _FILES_ADVICE
        found = found.__cause__ if isinstance(found, ImportError) else None
    return None


def _is_near_memory_limit() -> bool:
    """Whether the address space reached a limit, so that any allocation may have failed."""
    limit = memory_limit()
    status = Path("/proc/self/status")
    if limit is None or not status.exists():
        return False
    peak_kb = int(status.read_text(encoding="utf-8").partition("VmPeak:")[2].split()[0])
    return peak_kb * 1024 > _NEAR * limit


def memory_limit() -> int | None:
    """The bytes of address space that this process may use (``ulimit -v``); None: no limit."""
    try:
        from resource import (  # type: ignore[attr-defined,unused-ignore]
            RLIM_INFINITY,
            RLIMIT_AS,
            getrlimit,
        )
    except ImportError:  # Windows has no such limits
        return None
    soft: int = getrlimit(RLIMIT_AS)[0]
    return None if soft == RLIM_INFINITY else soft


def _disk(error: OSError) -> str:
    text = error.strerror or ""
    if not text or ". Detail" in text:  # pyarrow puts its own text before the reason
        text = os.strerror(error.errno or 0)
    if error.filename is not None:
        text = f"{text}: {os.fsdecode(error.filename)}"
    elif error.errno in _OF_WRITING:  # where files are written, they are named
        text = f"{text}: standard output"
    elif error.errno == errno.ENOENT and not _has_folder():
        return "the current folder was removed: change into a folder that is there (cd)"
    if error.errno in _NO_ROOM:
        return f"{text}; make room and run the same command again: it resumes"
    if error.errno == errno.ENOENT:
        return f"{text}; if it was removed while the command ran, run the same command again"
    return text


def _has_folder() -> bool:
    """Whether the current folder is still there."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _os_error(error: BaseException) -> int | None:
    """The number of an error of the system that the text of ``error`` quotes."""
    found = _OS_ERROR.search(str(error))
    return None if found is None else int(found[1] or found[2])


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _unfit(error: BaseException) -> str | None:
    """The line of an error from a model's own code, or from adding an adapter to it.

    Model families have their own limits and errors; there is no list of them.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [str(frame.f_globals.get("__name__", "")) for frame in frames]
    inside = next((name for name in reversed(names) if name.startswith(_MODEL_CODE)), None)
    if inside is None:
        return None
    own = (getattr(frame.f_locals.get("self"), "config", None) for frame in frames)
    kinds = (getattr(one, "model_type", None) for one in own)
    kind = next((kind for kind in kinds if kind), "this one")
    adapter = inside.startswith("peft.")
    what = (
        f"an adapter does not fit models of the family {kind}"
        if adapter
        else (f"models of the family {kind} cannot be used so")
    )
    advice = "leave --lora out" if adapter else "try --precision fp32"
    return (
        f"{what} ({type(error).__name__}: {_first_line(error)}): {advice}, or take a model of "
        "another family, such as Llama, Qwen or SmolLM2; SIFTUNE_TRACEBACK=1 shows where it failed"
    )


def _unforeseen(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return (
        f"unexpected {type(error).__name__}{place}: {_first_line(error)}; please report it with "
        "the traceback that SIFTUNE_TRACEBACK=1 shows"
    )
