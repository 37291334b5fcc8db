"""Small commands of curation in the current folder, with or without what only Linux and macOS have.

`python tests/small_commands.py --windows` takes it away first, and prints what the commands printed
and wrote. Our own modules also fail there where they open a text file without an encoding.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline")
NAMES = {
    os: "O_NOFOLLOW O_NONBLOCK O_CLOEXEC O_DIRECTORY mkfifo mknod fork forkpty getuid geteuid "
    "getgid getegid set_blocking sysconf getloadavg wait4 killpg setsid chown "
    "lchown fchmod statvfs",
    signal: "SIGKILL SIGHUP SIGALRM SIGUSR1 SIGUSR2 SIGPIPE SIGCHLD SIGSTOP SIGCONT alarm pause",
}
ROWS = [
    {"instruction": "Name a colour.", "output": "Blue is a colour; so are red and green — naïve."},
    {"instruction": "Name a colour.", "output": "Blue is a colour; so are red and green — naïve."},
    {"instruction": "Add one and two.", "output": "Three."},
    {"instruction": "Say it.", "output": "As an AI language model, I cannot say that."},
    {"instruction": "What is the capital of Norway?", "output": "Oslo is the capital of Norway."},
]
RECIPE = """\
name: small
source: rows.jsonl
stages:
  - score: length
  - score: heuristics
  - select: flags
  - select: exact_dedup
    by: length_words
  - select: minhash_dedup
    by: length_words
  - select: longest
    rows: 2
"""
COMMANDS = """\
--help
curate --help
curate ingest --help
curate select quota --help
finetune --help
models --help
curate ingest rows.jsonl --out all
curate score all length --out scored
curate select scored top_k --by length_words --rows 2 --out best
curate dedup all exact_dedup --out distinct
curate run small.yaml --out run
curate run small.yaml --out run
curate explain run rows:1
curate export run --format alpaca --out export
"""


def without_posix() -> None:
    """Take away the modules and names that Windows lacks."""
    sys.modules.update(dict.fromkeys(MODULES))
    for module, names in NAMES.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    warnings.filterwarnings("error", category=EncodingWarning, module="siftune")


def write_source() -> None:
    """Write the rows and the recipe."""
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")
    Path("small.yaml").write_text(RECIPE, encoding="utf-8")


def run_all() -> dict[str, object]:
    """Run the commands; what each printed, and the digests of what they wrote."""
    from click.testing import CliRunner

    import siftune
    from siftune.pipelines import cli

    write_source()
    found: dict[str, object] = {}
    for number, line in enumerate(COMMANDS.splitlines()):
        done = CliRunner().invoke(cli.siftune, line.split(), prog_name="siftune")
        error = repr(done.exception) if done.exception else ""
        found[f"{number} {line}"] = [done.exit_code, done.stdout, error]
    rows = siftune.read("rows.jsonl").score("length").dedup("exact")
    found["api"] = {"kept": list(rows.kept["id"]), "dropped": list(rows.dropped["id"])}
    return found | dict(written())


def written() -> Iterator[tuple[str, str]]:
    """Path and digest of each file with rows; other files hold times."""
    for path in sorted(Path().rglob("*")):
        if path.suffix in (".parquet", ".jsonl") and "stages" not in path.parts:
            yield path.as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    if "--windows" in sys.argv:
        without_posix()
    json.dump(run_all(), sys.stdout)
