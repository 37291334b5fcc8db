"""Every option of every command with odd values: `tries` lists them, ``python -m`` runs them all.

Each try is one command line with valid arguments and a single odd value. It has to end with a
documented exit code, one line where that is not 0 or 4, and with nothing half-written.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import rich_click as click

from pipelines.cli import siftune
from tests.fuzz.commands import called, half_written, shown

__all__ = ["Try", "commands", "failures", "prepare", "tries"]

_ROWS: Final = '{"instruction": "Say %d.", "output": "%d and %d"}\n'
_NUMBERS: Final = (
    *("0", "-1", "1", "-0.5", "1e400", "nan", "inf", "-inf", "1e-400", "abc", "", " ", "null"),
    *("9" * 25, "-" + "9" * 25, "9" * 5000, "[1]", "{a: b}", "2020-99-99", "!!int abc", "true"),
    *("? [a]: b", "&a [*a]", "[" * 3000, "0x" + "f" * 40, "1:30", "*", "%", "\0", "\udcff"),
)
_TEXTS: Final = (
    *(
        "",
        " ",
        "no such",
        "../../x y",
        "a\0b",
        "\udcff",
        "x" * 300,
        "[a]*?",
        "a\nb",
        "é",
        "..",
        ".",
    ),
    *("https://me:secret@host/x", "\x1b[31mred", "-", "--", "=", "a=b=c", "a=", "=b", "1", "~"),
    *(
        "{a: [b",
        ".",
        "!!python/object:os.system x",
        "d.jsonl",
        "file\u202egnp",
        "'",
        '"',
        "${HOME}",
    ),
)
_ARGUMENTS: Final = {"sources": ["d.jsonl"], "rows": ["d.jsonl"], "run": ["run"], "row_id": ["d:1"]}
_ARGUMENTS |= {"recipe": ["r.yaml"], "name": ["no-such-model"], "target": ["dpo"]}
_NEEDED: Final = {"by": "id", "rank_by": "row", "fraction": "0.5", "k": "3", "rows": "3"}
_NEEDED |= {"first": "row", "second": "row", "against": "d.jsonl", "model": "no model"}
_NEEDED |= {"reward": "length", "min": "1", "test_share": "0.5"}


@dataclass(frozen=True)
class Try:
    """One command line; ``command`` and ``flag`` say what is tried."""

    command: str
    flag: str
    words: tuple[str, ...]


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something: its words, and the command with its options."""
    yield from _below(siftune, (), None)


def _below(
    group: Any, words: tuple[str, ...], parent: click.Context | None
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    ctx = click.Context(group, info_name=words[-1] if words else "siftune", parent=parent)
    for name in group.list_commands(ctx):
        own = hasattr(group, "make") and group.place(name) is not None
        command = group.make(name) if own else group.get_command(ctx, name)
        taken = [word for param in group.params for word in _ARGUMENTS.get(str(param.name), [])]
        path = (*words, *taken, name)
        if hasattr(command, "list_commands"):
            yield from _below(command, path, ctx)
        else:
            yield path, command


def tries(words: tuple[str, ...], command: click.Command) -> Iterator[Try]:
    """Each option of ``command`` with each odd value of its kind."""
    name = " ".join(word for word in words if word != "d.jsonl")
    base = [*words, *_arguments(command)]
    for param in command.params:
        given = [*base, *_needed(command, param)]
        for value in _values(param):
            if isinstance(param, click.Argument):
                place = given.index(_ARGUMENTS[str(param.name)][0], len(words))
                yield Try(name, str(param.name), (*given[:place], value, *given[place + 1 :]))
            else:
                yield Try(name, param.opts[0], (*given, param.opts[0], *_of(param, value)))


def _arguments(command: click.Command) -> list[str]:
    arguments = (param for param in command.params if isinstance(param, click.Argument))
    return [word for param in arguments for word in _ARGUMENTS[str(param.name)]]


def _needed(command: click.Command, tried: click.Parameter) -> list[str]:
    """The output and what the command does not work without, but the option that is tried."""
    given = []
    for param in command.params:
        if param is tried or isinstance(param, click.Argument):
            continue
        name = str(param.name)
        if name == "out":
            given += ["--out", "out"]
        elif param.required:
            given += [param.opts[0], _NEEDED.get(name, "1")]
    return given


def _values(param: click.Parameter) -> Sequence[str]:
    if getattr(param, "is_flag", False):
        return ("",)
    if isinstance(param.type, click.types.IntParamType | click.types.IntRange):
        return _NUMBERS
    if param.metavar in ("INT", "FLOAT", "BOOL"):
        return _NUMBERS
    return (*_TEXTS, *_NUMBERS) if param.metavar and "=" in param.metavar else _TEXTS


def _of(param: click.Parameter, value: str) -> tuple[str, ...]:
    return () if getattr(param, "is_flag", False) else (value,)


def prepare(folder: Path) -> None:
    """What the valid arguments name: rows, a finished run, a recipe."""
    (folder / "d.jsonl").write_text("".join(_ROWS % (i, i, i) for i in range(12)))
    (folder / "r.yaml").write_text("source: d.jsonl\nstages: []\n")
    if called("curate", "ingest", "d.jsonl", "--out", "run").code:
        raise RuntimeError("the run that is tried on cannot be made")


def failures(chosen: Sequence[Try], folder: Path) -> Iterator[tuple[Try, str]]:
    """The tries that break the contract, and how; ``folder`` is the current folder, prepared."""
    before = {path.name for path in folder.iterdir()}
    for one in chosen:
        done = called(*one.words)
        problem = done.problem()
        if any(half_written(folder)):
            problem = problem or "something half-written is left"
        if done.code in (1, 2, 3) and (folder / "out" / "manifest.json").exists():
            problem = problem or "a command that failed has left a manifest"
        if problem is not None:
            yield one, problem
        for path in folder.iterdir():
            if path.name not in before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> int:
    """Run tries of all commands, or of those whose name holds a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="tries, drawn from all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a word of the commands to try")
    given = parser.parse_args()
    every = [one for found in commands() for one in tries(*found) if given.only in one.command]
    chosen = random.Random(given.seed).sample(every, min(given.count, len(every)))
    chosen.sort(key=lambda one: one.command)
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare(Path(folder))
        wrong = list(failures(chosen, Path(folder)))
        os.chdir("/")
    for one, problem in wrong:
        print(f"{shown(one.words)}: {problem}", file=sys.stderr)
    print(f"{len(chosen):,} of {len(every):,} tries, {len(wrong)} failures")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
