"""The public surface is what `public.txt` lists: what changes there is a change for users.

`python -m tests.api.test_public` writes the list anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

import siftune
from siftune.curate.core.registry import find, names, options
from siftune.curate.core.schema import schema_of
from siftune.curate.export_files.card import Exported
from siftune.curate.judge_stats.report import AgreementReport
from siftune.curate.runners.results import LEDGER
from siftune.pipelines.cli import siftune as COMMAND

LIST = Path(__file__).with_name("public.txt")
GROUPS = (
    *("curate.scorers", "curate.selectors", "curate.formats", "curate.exports"),
    *("curate.judges", "curate.judge_tasks"),
    *("finetune.losses.pair", "finetune.losses.unpaired", "finetune.losses.token"),
    *("finetune.losses.listwise", "finetune.rewards", "finetune.tools"),
    *("finetune.advantages", "finetune.policy_losses"),
)


IN_LOSSES = {
    form
    for group in GROUPS
    if ".losses." in group
    for name in names(group)
    for form in (name, name.replace("_", "-"))
}
"""Commands of losses: they have a line each as components."""

GIVEN = (siftune.losses.PairLogps, siftune.losses.AnswerLogps, siftune.losses.ListLogps)
"""What functions of users are given."""

RETURNED = (Exported, AgreementReport)
"""What public functions return that has no name in `siftune` itself."""

KINDS = ("conversation", "text", "preference", "unpaired", "ranked")

IN_FULL = ("init", "sft", "reward", "ppo", "dpo", "kto", "nll", "spo")
"""Methods whose options are listed: those of other objectives are those of their kind."""


def listing() -> str:
    lines = []
    for name in siftune.__all__:
        lines += described(name, getattr(siftune, name))
    lines += [shown("train.prefer", siftune.train.prefer)]
    for name in siftune.train.methods():
        given = list(inspect.signature(getattr(siftune.train, name)).parameters)
        lines.append(
            f"train.{name}({', '.join(given if name in IN_FULL else [*given[:3], '...'])})"
        )
    for value in (*GIVEN, *RETURNED):
        lines += described(value.__name__, value)
    for group in GROUPS:
        lines += [component(group, name) for name in names(group)]
    lines += [f"kept.parquet of {kind}: {', '.join(schema_of(kind))}" for kind in KINDS]
    lines += [f"ledger.parquet: {', '.join(LEDGER)}"]
    lines += commands("siftune", COMMAND)
    return "\n".join(lines) + "\n"


def commands(path: str, command: click.Command) -> Iterator[str]:
    """A line each; those of components are told by their names above."""
    if not isinstance(command, click.Group):
        yield f"command {path}"
        return
    if path.split()[-1] in ("score", "select", "dedup"):
        yield f"commands {path} NAME"
        return
    context = click.Context(command)
    for name in sorted(command.list_commands(context)):
        found = command.get_command(context, name)
        if found is not None and not (path == "siftune finetune" and name in IN_LOSSES):
            yield from commands(f"{path} {name}", found)


def described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"class {name}{bases(value)}"
        own = {one.name: None for one in fields(value)} if is_dataclass(value) else {}
        for member in sorted({**own, **members(value)}):
            if not member.startswith("_"):
                yield f"    {shown(member, inspect.getattr_static(value, member, None))}"
    elif inspect.ismodule(value):
        yield f"module {name}"
    elif callable(value):
        yield shown(name, value)
    else:
        yield name


def members(value: type[Any]) -> dict[str, Any]:
    """What a class has of its own and of its bases of ours that are not public themselves."""
    ours = [one for one in value.__mro__ if one.__module__.startswith("siftune.")]
    hidden = [one for one in ours if one is value or one.__name__ not in siftune.__all__]
    return {name: member for one in reversed(hidden) for name, member in vars(one).items()}


def bases(value: type[Any]) -> str:
    public = [
        base
        for base in value.__bases__
        if base.__name__ in siftune.__all__ or not base.__module__.startswith("siftune.")
    ]
    own = [base.__name__ for base in public if base is not object]
    return f"({', '.join(own)})" if own else ""


def shown(name: str, value: Any) -> str:
    return f"{name}{inspect.signature(value)}" if callable(value) else name


def component(group: str, name: str) -> str:
    """Its name in recipes and on the command line, its class, and its options."""
    found = find(group, name)
    listed = ", ".join(options(found)) if is_dataclass(found) else ""
    return f"{group} {name}: {found.__name__}({listed})"


def test_the_public_surface_is_the_one_that_is_listed():
    assert listing() == LIST.read_text(), "run `python -m tests.api.test_public`, and say it"


def test_every_public_name_is_there_and_has_a_docstring():
    assert siftune.__version__ == version("siftune")
    for name in siftune.__all__:
        value = getattr(siftune, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name
    assert sorted(siftune.__all__) == list(siftune.__all__) == dir(siftune)


def test_every_public_function_and_method_is_typed():
    for name in siftune.__all__:
        value = getattr(siftune, name)
        found = members(value) if inspect.isclass(value) else {name: value}
        own = [one for called, one in found.items() if not called.startswith("_")]
        for member in filter(inspect.isfunction, own):
            signature = inspect.signature(member)
            given = [one for one in signature.parameters.values() if one.name != "self"]
            assert signature.return_annotation is not inspect.Signature.empty, member
            assert all(one.annotation is not one.empty for one in given), member


if __name__ == "__main__":
    LIST.write_text(listing())
