"""The command ``siftune``: its groups are imported when they are used."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from io import TextIOWrapper
from types import FrameType
from typing import Final, TextIO

import rich_click as click
from click import exceptions

from siftune.curate.commands.click_commands import LazyGroup
from siftune.curate.core.errors import UsageError, failure_of, memory_limit
from siftune.curate.core.progress import Progress, announcing, no_kernel_note
from siftune.curate.core.terminal import echo, one_message
from siftune.curate.files.atomic import is_text

__all__ = ["main", "siftune"]

_LAZY = {
    "curate": "siftune.curate.cli:curate",
    "finetune": "siftune.finetune.cli:finetune",
    "pipelines": "siftune.pipelines.commands:pipelines",
    "report": "siftune.pipelines.commands:report",
    "models": "siftune.pipelines.model_commands:models",
    "doctor": "siftune.pipelines.doctor:doctor",
}


class _Siftune(LazyGroup):
    """The group of all commands; its arguments have to be text."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse words that no file of ours could hold.

        Raises:
            UsageError: a word is not UTF-8, or holds NUL.
        """
        wrong = next((word for word in args if not is_text(word)), None)
        if wrong is not None:
            raise UsageError(
                f"the argument {wrong!r} is not UTF-8 text: rename the file, or correct the option"
            )
        return super().parse_args(ctx, args)


@click.group(cls=_Siftune, lazy=_LAZY, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="siftune")
def siftune() -> None:
    """Select the data that matters, train on it, and prove that it helped.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 input refused, 4 done but some rows were
    set aside, 130 and 143 stopped.
    """


_TRACEBACK: Final = "SIFTUNE_TRACEBACK"
"""A variable of the environment: set, an error that nobody has foreseen shows its traceback."""


_LEAST_MEMORY: Final = 2 << 30  # bytes of address space; threads and libraries reserve much of it


def main() -> None:
    """Run the command line; a user's mistake is one line and an exit code, never a traceback."""
    _open_closed_streams()
    signal.signal(signal.SIGTERM, _stopped)
    no_kernel_note()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what its encoding lacks is no error
    _tell_low_memory_limit()
    code = _run()
    sys.exit(code if _flushed() else 1)


def _tell_low_memory_limit() -> None:
    """Name a limit under which a library may abort the process, too late for any message."""
    limit = memory_limit()
    if limit is not None and limit < _LEAST_MEMORY:
        echo(
            f"the limit of memory, {limit / 1e6:,.0f} MB (ulimit -v), is low: a library may end "
            "the command with no message but its own; raise it where that happens",
            err=True,
        )


def _run() -> int:
    try:
        with announcing(Progress()):
            code = siftune.main(standalone_mode=False)
    except click.Abort:
        return _fail("stopped", 130)
    except KeyboardInterrupt:
        return _fail("stopped; run the same command again to go on", 130)
    except click.ClickException as error:
        return _misused(error)
    except BrokenPipeError:
        _discard(sys.stdout)
        return 0
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # of polars, a panic is no Exception
        return _failed(error)
    return code if isinstance(code, int) else 0


def _failed(error: BaseException) -> int:
    failure = failure_of(error)
    if not failure.known and os.environ.get(_TRACEBACK):
        echo("".join(traceback.format_exception(error)), err=True)  # without keys and passwords
        return 1
    return _fail(failure.text, failure.code)


def _misused(error: click.ClickException) -> int:
    """One line with the command that prints more help; the help itself without any arguments."""
    if isinstance(error, getattr(exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context else ""
    return _fail(" ".join(error.format_message().split()).rstrip(".?") + hint, error.exit_code)


def _fail(text: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nothing can be written to standard error
        echo(f"siftune: {one_message(text)}", err=True)
    return code


def _stopped(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _open_closed_streams() -> None:
    """Connect standard streams that are closed to nothing, so that no file gets their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))


def _flushed() -> bool:
    """Whether all output was taken; what a full disk or a closed pipe did not take is discarded."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        _discard(sys.stdout)
        _fail(failure_of(error).text, 1)
        return False
    return True


def _discard(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
