"""``siftune finetune``: a command for each trainer, and one for each preference objective."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import rich_click as click

from siftune.curate.commands.click_commands import (
    ComponentGroup,
    GivenPath,
    component_options,
    example_line,
    help_of,
    parsed,
)
from siftune.curate.commands.option_types import key_values
from siftune.curate.commands.output_commands import Check, OutOption, WritingCommand
from siftune.curate.core.errors import SiftuneError, UsageError
from siftune.curate.core.registry import (
    build,
    checked,
    described,
    find,
    names,
    options,
)
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.files.outputs import check_folder
from siftune.finetune.core.methods import (
    JUDGE,
    PREFERENCE,
    TOOLS,
    TRAINER_GROUP,
    TRAINERS,
    advice_on,
    advice_on_method,
    family_of,
)
from siftune.finetune.loss_table import PAIRS, data_of, loss_rows, loss_table
from siftune.finetune.option_texts import OPTION_TEXTS
from siftune.finetune.printed_results import print_result
from siftune.finetune.runs.run_folders import check_comparison, check_model

__all__ = ["finetune"]

_OPTIONS: Final = {"pairs": "options"}  # of the parameter of -o: the option that it sets
_OWN: Final = ("compare", "conformance", "merge")  # tools with arguments or results of their own
_PARTIAL: Final = 4
_OUTS: Final = {
    "evaluate": "evaluation",
    "sample": "samples",
    "compare": "comparison",
    "coverage": "coverage",
    "rejection": "kept",
    "propose_reward": "proposed",
    "reward_ensemble": "ensemble",
}
_DATA: Final = {
    "sft": "Data: conversations, text, or pairs, of which the chosen side is learned.",
    "reward_model": "Data: preference rows (a prompt, a chosen and a rejected answer).",
    "reward_ensemble": "Data: preference rows (a prompt, a chosen and a rejected answer).",
    "judge": "Data: preference rows or ranked lists, or rows with a label, such as a rating.",
    "init": "Data: a .txt file, or text rows.",
    "evaluate": "Data: held-out rows with prompts, or pairs to judge.",
    "sample": "Data: rows with prompts.",
    "coverage": "Data: rows with the prompts that are to be covered, of RL or held-out ones.",
    "propose_reward": "Data: pairs, ranked lists, or answers labelled good or bad.",
    "compare": "Data: preference rows (a prompt, a chosen and a rejected answer).",
}
"""The rows that trainers and tools read, by the module of each that does not declare ``data``."""
_WRITTEN: Final = {  # what is no training
    "init": "Folder of the model that is made.",
    "evaluate": "Folder of the evaluation: the answers or judgements, and their means.",
    "coverage": "Folder of the comparison: its clusters, and the cluster of each prompt.",
    "propose_reward": "Folder of the search: reward.py, and every proposal with its score.",
    "sample": "Folder of the sampled rows, which losses on own samples are trained on.",
    "rejection": "Folder of the rows that are made, and of the decision on every answer.",
    "merge": "Folder of the merged model.",
}
_MERGED: Final = "Example: siftune finetune merge first second --weights .7,.3 --out merged"
_TITLES: Final = {
    "finetune.losses.pair": "Preference losses on pairs",
    "finetune.losses.unpaired": "Preference losses on single labelled answers",
    "finetune.losses.token": "Losses on the tokens of answers",
    "finetune.losses.listwise": "Preference losses on ranked lists of answers",
}


class _Methods(ComponentGroup):
    """Trainers by name, then every objective; imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names; nothing is imported but package folders."""
        return list(dict.fromkeys(name for _, listed in self.sections() for name in listed))

    def sections(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Trainers, the objectives of each family, then the tools."""
        yield "Trainers", (*TRAINERS, JUDGE[1])
        for group, title in _TITLES.items():
            yield title, [name for name in names(group) if name not in TRAINERS]
        yield "Tools", (*TOOLS, *self.commands)

    def instead(self, name: str) -> str | None:
        """Advice on TRL's names of objectives."""
        advice = advice_on_method(name, tuple(self.list_commands(click.Context(self))))
        return None if advice.startswith("there are") else advice

    def place(self, command: str) -> tuple[str, str] | None:
        """A trainer, or an objective."""
        if command in TOOLS:
            return TOOLS[command]
        if command == JUDGE[1]:
            return JUDGE
        if command in TRAINERS:
            return TRAINER_GROUP, TRAINERS[command]
        group = family_of(command)
        return (group, command) if group else None

    def make(self, command: str) -> click.Command:
        """The command of one method."""
        if command in _OWN:
            own = {"conformance": _conformance_command, "merge": _merge_command}
            return own.get(command, _compare_command)()
        if command in TOOLS:
            made = _component_command(command, *TOOLS[command])
            return _of_several_models(made) if command == "evaluate" else made
        if command == JUDGE[1]:
            return _component_command(command, *JUDGE)
        if command in TRAINERS:
            return _component_command(command, TRAINER_GROUP, TRAINERS[command])
        group, name = self.place(command) or ("", command)
        return _loss_command(group, name)


@click.group(cls=_Methods)
def finetune() -> None:
    """Train on what was kept: a proxy model, SFT, reward models, rewards, preference objectives.

    A loss of yours is a command as ours are: siftune finetune FILE.py:NAME PAIRS --model MODEL
    --out OUT; a reward of yours is siftune finetune ppo ROWS --reward FILE.py:NAME.
    """


@finetune.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, for programs.")
def losses(as_json: bool) -> None:
    """List every objective: its paper, the data it is trained on, and what it needs.

    Needs are a reference model, numbers of each pair or answer by the names of their columns, and
    samples of the model that is trained.

    Example: siftune finetune losses
    """
    if as_json:
        echo_json(list(loss_rows()))
    else:
        echo(loss_table())


@finetune.command()
@click.argument("task")
@click.option("--count", type=click.IntRange(1), default=1000, help="Number of rows.")
@click.option("--seed", type=int, default=0, help="Seed of the rows: the same gives the same.")
@click.option(
    "-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the task."
)
def tasks(task: str, count: int, seed: int, pairs: tuple[str, ...]) -> None:
    """Print rows of a procedural task of reasoning-gym, for the reward reasoning_gym.

    They are JSON lines: redirect them to a file, which trainers read.

    Example: siftune finetune tasks chain_sum --count 500 -o min_terms=3
    """
    from siftune.curate.files.json_text import dump
    from siftune.finetune.rewards.reasoning_gym import task_rows

    for row in task_rows(task, count, seed, key_values(pairs)):
        echo(dump(row))


_MODEL: Final = "Folder of the model; the same command continues a stopped training."


def _arguments(out: str = _MODEL, check: Check = check_model) -> list[click.Parameter]:
    return [
        click.Argument(["rows"], type=GivenPath()),
        OutOption(check=check, required=True, help=out),
        click.Option(
            ["-o", "--option", "pairs"],
            multiple=True,
            metavar="KEY=VALUE",
            help="Argument of the Hugging Face trainer, such as warmup_steps=10.",
        ),
    ]


def _component_command(command: str, group: str, name: str) -> click.Command:
    component = described(group, name)

    def callback(rows: Path, out: Path, pairs: tuple[str, ...] = (), **given: Any) -> None:
        found = find(group, name)
        chosen = parsed(found, given) | _passed_on(pairs)
        with _naming_passed_on(pairs):
            print_result(_checked_first(checked(found, chosen, command))(rows, out))

    takes = "options" in options(component)  # a Hugging Face trainer, to pass arguments on to
    replaced = command in TOOLS  # trainings replace nothing, they are resumed
    arguments = _arguments(_WRITTEN.get(command, _MODEL), check_folder if replaced else check_model)
    params = [
        *(arguments if takes else arguments[:2]),
        *component_options(component, leave=("options",), texts=OPTION_TEXTS),
    ]
    text = _help(group, name, component, f"siftune finetune {command} rows.jsonl")
    return _hinting(WritingCommand(name=command, params=params, callback=callback, help=text))


def _of_several_models(command: click.Command) -> click.Command:
    """The command `evaluate`, whose model may be given several times: then they are compared."""
    of_one: Any = command.callback
    option = next(one for one in command.params if one.name == "model")
    assert isinstance(option, click.Option)
    option.multiple = True
    option.help = (
        "Model to evaluate: a folder, a name of `siftune models list`, or a name on the hub; given "
        "several times, the others are compared with the first, paired by prompt."
    )

    def callback(rows: Path, out: Path, model: tuple[str, ...], **given: Any) -> None:
        if len(model) == 1:
            of_one(rows, out, model=model[0], **given)
            return
        from siftune.finetune.comparison.several_models import SeveralModels

        found = find(*TOOLS["evaluate"])
        options = parsed(found, {**given, "model": model[0]})
        SeveralModels(model, checked(found, options, "evaluate"))(rows, out)

    command.callback = callback
    return command


def _loss_command(group: str, name: str) -> click.Command:
    loss, trainer = described(group, name), described(TRAINER_GROUP, PREFERENCE)

    def callback(rows: Path, out: Path, pairs: tuple[str, ...], **given: Any) -> None:
        own = parsed(find(group, name), given)
        trainer = find(TRAINER_GROUP, PREFERENCE)
        rest = parsed(trainer, {key: text for key, text in given.items() if key not in own})
        chosen = {"loss": name, "loss_options": own, **rest, **_passed_on(pairs)}
        with _naming_passed_on(pairs):
            print_result(_checked_first(build(TRAINER_GROUP, PREFERENCE, chosen))(rows, out))

    own = component_options(loss, texts=OPTION_TEXTS)
    # the loss's options are the command's own, `beta` where it has one
    left = ["loss", "loss_options", "beta", "options", *(option.name or "" for option in own)]
    left += ["value_lr"] if group == PAIRS else []  # losses on pairs have no value head
    params = [*_arguments(), *own, *component_options(trainer, leave=left, texts=OPTION_TEXTS)]
    shown = example_line(f"siftune finetune {name} rows.jsonl", trainer, "model")
    text = "\n\n".join([help_of(group, name, loss), data_of(group, loss), shown])
    command = WritingCommand(name=name, params=params, callback=callback, help=text)
    first = ["out", "model", *(str(option.name) for option in own)]
    command.add_panel(click.RichOptionPanel("Output, model and loss", options=first))
    return _hinting(command)


def _compare_command() -> click.Command:
    described_as = described(*TOOLS["compare"])

    def callback(rows: Path, out: Path, **given: Any) -> int:
        from siftune.finetune.comparison.compare import Compare, table_of

        facts = checked(Compare, parsed(Compare, given), "compare")(rows, out)
        echo(table_of(facts))
        return _PARTIAL if any(not one["runs"] for one in facts["means"].values()) else 0

    rows, place, _ = _arguments("Folder of the comparison and of its runs.", check_comparison)
    return _hinting(
        WritingCommand(
            name="compare",
            params=[rows, place, *component_options(described_as, texts=OPTION_TEXTS)],
            callback=callback,
            help=_help(*TOOLS["compare"], described_as, "siftune finetune compare pairs.jsonl"),
        )
    )


def _conformance_command() -> click.Command:
    described_as = described(*TOOLS["conformance"])

    def callback(target: str, pairs: tuple[str, ...], **given: Any) -> int:
        from siftune.finetune.comparison.conformance import Conformance, loss_at, table_of

        suite = checked(Conformance, parsed(Conformance, given), "conformance")
        findings = suite(loss_at(target, key_values(pairs)))
        echo(table_of(findings))
        if failed := sum(one.fate == "failed" for one in findings):
            raise SiftuneError(f"{target}: {failed} of {len(findings)} checks failed")
        return 0

    params: list[click.Parameter] = [
        click.Argument(["target"], metavar="MODULE:NAME"),
        click.Option(
            ["-o", "--option", "pairs"],
            multiple=True,
            metavar="KEY=VALUE",
            help="Option of the loss, such as beta=0.2.",
        ),
        *component_options(described_as, texts=OPTION_TEXTS),
    ]
    return click.RichCommand(
        name="conformance",
        params=params,
        callback=callback,
        help=help_of(*TOOLS["conformance"], described_as)
        + "\n\nExample: siftune finetune conformance my_loss.py:MyLoss --like dpo",
    )


def _merge_command() -> click.Command:
    described_as = described(*TOOLS["merge"])

    def callback(models: tuple[Path, ...], out: Path, **given: Any) -> None:
        from siftune.finetune.tools.merge import Merge, result_line  # torch

        chosen = {**parsed(Merge, given), "models": tuple(map(str, models))}
        echo(result_line(_checked_first(checked(Merge, chosen, "merge"))(out)))

    params = [
        click.Argument(["models"], type=GivenPath(), nargs=-1, required=True),
        *_arguments(_WRITTEN["merge"], check_folder)[1:2],
        *component_options(described_as, leave=("models",), texts=OPTION_TEXTS),
    ]
    text = f"{help_of(*TOOLS['merge'], described_as)}\n\n{_MERGED}"
    return _hinting(WritingCommand(name="merge", params=params, callback=callback, help=text))


def _help(group: str, name: str, component: type[Any], words: str) -> str:
    shown = example_line(words, component, _OUTS.get(name, "model"))
    data = _DATA.get(name, getattr(component, "data", ""))
    parts = [help_of(group, name, component), data, shown]
    return "\n\n".join(part for part in parts if part)


def _hinting(command: WritingCommand) -> WritingCommand:
    """``command``, which answers TRL's names of options with ours."""
    known = {_OPTIONS.get(str(param.name), str(param.name)) for param in command.params}
    command.instead = lambda name: advice_on(name, known, str(command.name))
    return command


def _checked_first(component: Any) -> Any:
    """``component``, whose options are checked before rows and models are loaded."""
    check = getattr(component, "check_options", None)
    if check is not None:
        check()
    return component


def _passed_on(pairs: tuple[str, ...]) -> dict[str, Any]:
    return {"options": key_values(pairs)} if pairs else {}


@contextmanager
def _naming_passed_on(pairs: tuple[str, ...]) -> Iterator[None]:
    """Name the arguments that were passed on, unchecked, where the Hugging Face trainer fails.

    Raises:
        UsageError: in place of what it raises about a value.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if not pairs:
            raise
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(
            f"the Hugging Face trainer fails with -o {' -o '.join(pairs)}: {first}; correct it, or "
            "leave it out"
        ) from error


if __name__ == "__main__":
    echo("siftune: this is a part of the command: call `siftune finetune`", err=True)
    raise SystemExit(UsageError.exit_code)
