"""The one command, ``siftune``: its groups are imported when they are asked for."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from types import FrameType

import rich_click as click
from click import exceptions

from curate.core.commands import LazyGroup
from curate.core.errors import SiftuneError
from curate.core.progress import Progress, announcing

__all__ = ["main", "siftune"]

_LAZY = {
    "curate": "curate.cli:curate",
    "finetune": "finetune.cli:finetune",
    "pipelines": "pipelines.commands:pipelines",
    "report": "pipelines.commands:report",
    "models": "pipelines.model_commands:models",
    "doctor": "pipelines.doctor:doctor",
}


@click.group(cls=LazyGroup, lazy=_LAZY, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="siftune")
def siftune() -> None:
    """Select the data that matters, train on it, and prove that it helped.

    Exit codes: 0 all went well, 1 failed, 2 wrong usage, 3 input refused, 4 done but some rows were
    set aside, 130 and 143 stopped.
    """


def main() -> None:
    """Run the command line; a user's mistake is one line and an exit code, never a traceback."""
    signal.signal(signal.SIGTERM, _stopped)
    # imported by transformers wherever it is installed, it tells of kernels that nobody asked for
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    sys.exit(_run())


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
    except SiftuneError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _USER_ERRNOS:
            raise
        return _fail(f"{error.strerror}: {error.filename or 'while writing'}", 1)
    return code if isinstance(code, int) else 0


_USER_ERRNOS = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EMFILE}
_USER_ERRNOS |= {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


def _misused(error: click.ClickException) -> int:
    """One line with the command whose help tells more; the help itself if nothing was asked for."""
    if isinstance(error, getattr(exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    hint = f"; see {context.command_path} --help" if context else ""
    return _fail(" ".join(error.format_message().split()).rstrip(".?") + hint, error.exit_code)


def _fail(text: str, code: int) -> int:
    click.echo(f"siftune: {text}", err=True)
    return code


def _stopped(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
