"""The trainer of a recipe's step, with its options."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.code_hash import code_hash
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import (
    MissingOptionError,
    build,
    closest,
    code_of,
    find,
    has,
    names,
    options,
)
from siftune.curate.core.schema import KINDS
from siftune.curate.files.atomic import digest_of
from siftune.finetune.core.methods import (
    FAMILIES,
    PREFERENCE,
    TRAINER_GROUP,
    TRAINERS,
    advice_on_method,
    family_of,
    objectives,
    option_of,
)
from siftune.finetune.data import training_rows
from siftune.finetune.models.loading import model_hash
from siftune.finetune.rewards.types import entries_of, folders_of
from siftune.finetune.tools.merge import Merge
from siftune.pipelines.train_steps import MERGE, ROW_STEPS, Step, with_models

__all__ = [
    "code_used",
    "hashes_of_options",
    "judges_pairs",
    "reward_key",
    "row_step_of",
    "trainer_of",
]

_KEYS: Final = {
    "output_dir": "the run folder has every model: --out FOLDER",
    "dataset_name": "set `data: rows` or `data: pairs`, which are keys of the recipe",
}
"""What a recipe has in place of arguments of TRL's that no method has."""


def judges_pairs(method: str) -> bool:
    """Whether pair accuracy is measured of ``method``: reward models, and preference training.

    Policies do by their implicit reward (`evaluation.implicit_reward`).
    """
    if method in TRAINERS:
        return method == "reward"
    return family_of(method) not in (None, "finetune.losses.token")


def trainer_of(step: Step, offered: Mapping[str, Any]) -> Any:
    """The trainer of ``step``: its options, and those of ``offered`` that it has fields for.

    Raises:
        UsageError: no such method; an option that the trainer or the objective does not have.
    """
    given = dict(step.options)
    if step.method == MERGE:
        given.setdefault("seed", offered.get("seed"))
        return _built("finetune.tools", MERGE, given, MERGE)
    if step.method in TRAINERS:
        trainer = TRAINERS[step.method]
    else:
        trainer, given = _objective(step.method, given)
    known = options(find(TRAINER_GROUP, trainer))
    _refuse_arguments(step.method, given, known)
    for name, value in offered.items():
        if name in known and value is not None:
            given.setdefault(name, value)
    return _built(TRAINER_GROUP, trainer, given, step.method)


def _built(group: str, name: str, given: Mapping[str, Any], method: str) -> Any:
    """The component of a step.

    Raises:
        UsageError: an option is missing or wrong.
    """
    try:
        return build(group, name, given)
    except MissingOptionError as error:
        raise UsageError(
            f"{method} needs the option {error.option!r}: set {error.option}: VALUE in the step"
        ) from None


def row_step_of(step: Step, offered: Mapping[str, Any], places: Mapping[str, str | None]) -> Any:
    """The component of a step that makes rows: its options, and those of ``offered`` it has.

    ``places`` has the path of each model or rows that an option may name by ``step:LABEL``.

    Raises:
        UsageError: an option that the step does not have.
    """
    given = dict(with_models(step.options, places))
    known = options(find(ROW_STEPS, step.method))
    for name, value in offered.items():
        if name in known:
            given.setdefault(name, value)
    return _built(ROW_STEPS, step.method, given, step.method)


def _refuse_arguments(method: str, given: Mapping[str, Any], known: Container[str]) -> None:
    """Refuse an argument of TRL's by naming the option or the key in its place."""
    for key in given:
        option = option_of(key, known)
        advice = f"did you mean {option}?" if option is not None else _KEYS.get(key)
        if key not in known and advice is not None:
            raise UsageError(f"{method} has no option {key!r}; {advice}")


def _objective(name: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The trainer that runs an objective, and its options, those of the objective apart."""
    group = family_of(name)
    if group is None:
        known = (*TRAINERS, *names(ROW_STEPS), MERGE, "repeat", *objectives())
        raise UsageError(f"no method {name!r}; {advice_on_method(name, known)}")
    own, all_else = options(find(group, name)), options(find(TRAINER_GROUP, PREFERENCE))
    _refuse_arguments(name, given, {**own, **all_else})
    for key in given:
        if key not in own and key not in all_else:
            raise UsageError(f"{name} has no option {key!r}; {closest(key, (*own, *all_else))}")
    loss = {key: given.pop(key) for key in list(given) if key in own}
    build(group, name, loss)  # refuses a wrong option now, not hours later
    return PREFERENCE, {"loss": name, "loss_options": loss, **given}


def code_used(tool: Any) -> str:
    """Hash of the code of a trainer or an evaluation, of its losses and of its reward."""
    used = [code_of(group, name) for group, name in _components_of(tool)]
    return digest_of([code_hash(type(tool).__module__), *used])


def reward_key(reward: str | Mapping[str, Any]) -> Any:
    """What a reward is: its names, weights and options, and of reward models their hashes."""
    folders = folders_of(reward)
    if reward in folders:
        return model_hash(Path(str(reward)))
    hashes = {folder: model_hash(Path(folder)) for folder in folders}
    return [
        [one.name, one.weight, hashes.get(one.reward, one.reward), dict(one.options)]
        for one in entries_of(reward)
    ]


def hashes_of_options(trainer: Any) -> dict[str, str]:
    """Hashes of the models and rows, beside its own, that the options of a trainer name."""
    models = {name: getattr(trainer, name, None) for name in ("ref_model", "critic_model")}
    models["online_merge"] = (getattr(trainer, "online_merge", None) or {}).get("base")
    found = {name: model_hash(model) for name, model in models.items() if model is not None}
    for name in ("gate", "ptx_rows"):
        if (file := getattr(trainer, name, None)) is not None:
            found[name] = training_rows.data_hash(training_rows.load(file, KINDS))
    return found


def _components_of(tool: Any) -> Iterator[tuple[str, str]]:
    """Group and name of the components that options of a trainer name."""
    if isinstance(tool, Merge):
        yield "finetune.merging", tool.method
    losses = {getattr(tool, "loss", None), *(getattr(tool, "also", None) or {})} - {None}
    for name in sorted(losses):
        yield from ((group, name) for group in FAMILIES if has(group, name))
    reward = getattr(tool, "reward", None)
    for one in [] if reward is None else entries_of(reward):
        yield _REWARDS, one.reward if has(_REWARDS, one.reward) else "reward_model"


_REWARDS: Final = "finetune.rewards"
