"""Train and evaluate models: a function for every method, named as its command.

``train.sft``, ``train.reward``, ``train.judge``, ``train.ppo``, ``train.init``, and one for every
objective: ``train.dpo``, ``train.kto``, ... ``dir(siftune.train)`` lists them. Each takes rows
(`siftune.Rows`, a frame, a list of dicts, or a path), the options of its command, and the folder
``out``. It returns what it left: ``.model`` (a folder, which the next training takes), ``.rows``
and ``.metrics``. A model may also be an object of `transformers`, with its ``tokenizer=``; it stays
as it is, what is trained is a copy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.custom import name_and_options
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.registry import checked, closest, find, options, summary
from siftune.curate.files.outputs import check_folder, overwriting
from siftune.finetune.core.methods import (
    JUDGE,
    PREFERENCE,
    TRAINER_GROUP,
    TRAINERS,
    advice_on,
    advice_on_method,
    family_of,
    objectives,
)
from siftune.finetune.core.types import EvalResult, TrainResult
from siftune.finetune.runs.run_folders import check_model
from siftune.models_in_memory import ModelsInMemory
from siftune.session import as_option, as_options, python_errors, scratch

if TYPE_CHECKING:  # the functions that `__getattr__` makes, with their options
    from siftune import method_types
    from siftune.method_types import *  # noqa: F403

__all__ = ["evaluate", "merge", "methods", "prefer", "rejection", "sample"]
if TYPE_CHECKING:
    __all__ += method_types.__all__

_INIT: Final = ("finetune.tools", "init")
_EVALUATE: Final = ("finetune.tools", "evaluate")
_SAMPLE: Final = ("finetune.tools", "sample")
_MERGE: Final = ("finetune.tools", "merge")


def methods() -> tuple[str, ...]:
    """Names of all functions of this module that train."""
    return tuple(dict.fromkeys(("init", *TRAINERS, JUDGE[1], *objectives())))


def __dir__() -> list[str]:
    return [*__all__, *methods()]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in methods():
            return _method(name)
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"siftune.train has no method {name!r}; {advice_on_method(name, methods())}"
        )


@cache
def _method(name: str) -> Callable[..., TrainResult]:
    """The function of a method, with the signature and the documentation of its options."""

    @python_errors()
    def train(rows: Any, **given: Any) -> TrainResult:
        out, overwrite = given.pop("out", None), given.pop("overwrite", False)
        return _trained(name, rows, as_options(given), out, overwrite)

    own, shared = _components(name)
    train.__name__ = train.__qualname__ = name
    train.__module__ = __name__
    train.__doc__ = _doc(name, own, shared)
    train.__signature__ = _signature(own, shared)  # type: ignore[attr-defined]
    return train


def _components(name: str) -> tuple[type[Any], type[Any] | None]:
    """The class that has the options of a method; of an objective, the trainer's too."""
    if name == "init":
        return find(*_INIT), None
    if name == JUDGE[1]:
        return find(*JUDGE), None
    if name in TRAINERS:
        return find(TRAINER_GROUP, TRAINERS[name]), None
    group = family_of(name)
    assert group is not None  # it is one of `methods`
    return find(group, name), find(TRAINER_GROUP, PREFERENCE)


def _trained(
    name: str, rows: Any, given: Mapping[str, Any], out: Any, overwrite: bool
) -> TrainResult:
    models = ModelsInMemory.of(given)
    trainer = _trainer(name, _named_reward(models.options))
    place = _place(name, out)
    if hasattr(trainer, "check_options"):
        trainer.check_options()
    source, _held = _source(rows)
    with overwriting(overwrite):
        check = check_folder if name == "init" else check_model
        check(place, f"finetune {name}", [source])
        models.write()
        result: TrainResult = trainer(source, place)
    return result


def _named_reward(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options in which functions and objects have names: rewards and parts, with their options."""
    for key in ("advantage", "policy_loss"):
        if callable(part := given.get(key)):
            name, own = name_and_options(part)
            own |= given.get(f"{key}_options") or {}
            given = {**given, key: name, **({f"{key}_options": own} if own else {})}
    reward = given.get("reward")
    if isinstance(reward, Mapping):
        return {**given, "reward": {key: _named_entry(one) for key, one in reward.items()}}
    if not callable(reward):
        return dict(given)
    name, own = name_and_options(reward)
    own |= given.get("reward_options", {})
    return {**given, "reward": name, **({"reward_options": own} if own else {})}


def _named_entry(entry: Any) -> Any:
    """One of several rewards, whose ``reward`` may be a function or an object, or a folder."""
    if not isinstance(entry, Mapping):
        return entry
    entry = as_options(entry)
    if not callable(entry.get("reward")):
        return entry
    name, own = name_and_options(entry["reward"])
    return {**entry, "reward": name, "options": {**own, **entry.get("options", {})}}


def _place(name: str, out: Any) -> Path:
    if out is None:
        raise UsageError(f"{name}: out is missing: name the folder for the model")
    return Path(out)


def _trainer(name: str, given: Mapping[str, Any]) -> Any:
    """The trainer with its options checked; those of an objective are set on it."""
    own, shared = _components(name)
    known = {**(_shared(own, shared) if shared else {}), **options(own)}
    for key in given.keys() - known.keys():
        advice = advice_on(key, {*known, "out"}, name)
        if advice is not None or shared is not None:
            raise UsageError(f"{name} has no option {key!r}; {advice or closest(key, known)}")
    if shared is None:
        return checked(own, given, name)
    of_loss = {key: value for key, value in given.items() if key in options(own)}
    rest = {key: value for key, value in given.items() if key not in of_loss}
    return checked(shared, {"loss": name, "loss_options": of_loss, **rest}, name)


def _shared(own: type[Any], trainer: type[Any]) -> dict[str, Any]:
    """The options of an objective's trainer that are not its own."""
    left = {"loss", "loss_options", "beta", *options(own)}
    return {key: one for key, one in options(trainer).items() if key not in left}


def _source(rows: Any) -> tuple[Path, Any]:
    """Where the rows lie, and what has to live as long as they are read.

    Raises:
        DataError: some records of a frame cannot be read, and would be left out unseen.
    """
    from siftune.rows import Rows, taken

    if isinstance(rows, str | Path):
        return Path(rows), None
    whole = taken(rows)
    if not isinstance(rows, Rows) and (bad := whole.counts["quarantined"]):
        first = whole.quarantined.row(0, named=True)
        raise DataError(
            f"{bad:,} of {bad + len(whole):,} records cannot be read, the first (row "
            f"{first['row']}) for {first['reason']}: {first['detail']}; siftune.read(...) sets "
            "them aside: train on what it returns"
        )
    return whole.folder, whole


@python_errors()
def prefer(
    rows: Any,
    loss: str | Callable[..., Any] = "dpo",
    *,
    out: str | Path,
    overwrite: bool = False,
    **given: Any,
) -> TrainResult:
    """Train on preferences by any objective: ``prefer(rows, loss="dpo", model=..., out=...)``.

    ``loss`` is a name, such as ``"dpo"`` or ``path/file.py:NAME``, a loss such as
    ``siftune.losses.DPO(beta=0.1)``, or a function of yours of `siftune.losses.PairLogps` that
    gives one loss a pair. ``given`` are its options and those of the training.

    Raises:
        UsageError: no such objective or option.
    """
    name, own = name_and_options(as_option(loss))
    if family_of(name) is None:
        raise UsageError(f"no objective is called {loss!r}; {advice_on_method(loss, objectives())}")
    return _trained(name, rows, {**own, **as_options(given)}, out, overwrite)


@python_errors()
def evaluate(
    model: Any,
    rows: Any,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **given: Any,
) -> EvalResult:
    """Evaluate a model on held-out rows: its answers to prompts, or its judgement of pairs.

    ``model`` is a folder, a name, what a training returned, or a model in memory, with its
    ``tokenizer``; ``given`` are the options of `siftune finetune evaluate`. Without ``out`` only
    the numbers are kept, in ``.metrics``, and ``.model`` is None.

    Raises:
        UsageError: the model cannot be used, or an option is wrong.
    """
    found = _asked(_EVALUATE, "evaluate", rows, {"model": model, **given}, out, overwrite)
    return EvalResult(None if out is None else found.model, found.rows, found.metrics)


@python_errors()
def sample(
    model: Any, rows: Any, *, out: str | Path, overwrite: bool = False, **given: Any
) -> TrainResult:
    """Let a model answer each prompt several times, and score the answers: rows for training.

    ``given`` are the options of `siftune finetune sample`, such as ``reward``. The folder ``out``
    is what ``train.spo``, ``train.dno`` and others take.

    Raises:
        UsageError: the model or the reward cannot be used, or an option is wrong.
    """
    return _asked(_SAMPLE, "sample", rows, {"model": model, **given}, out, overwrite)


@python_errors()
def rejection(rows: Any, *, out: str | Path, overwrite: bool = False, **given: Any) -> TrainResult:
    """Keep the best of several scored answers to each prompt, or those that a draw accepts.

    ``rows`` are ranked rows with scores, such as what `sample` returned; ``given`` are the options
    of `siftune finetune rejection`. The folder ``out`` is what trainings take.

    Raises:
        UsageError: the rows have no scores, or an option is wrong.
    """
    return _asked(("finetune.tools", "rejection"), "rejection", rows, given, out, overwrite)


@python_errors()
def merge(
    models: Sequence[Any], *, out: str | Path, overwrite: bool = False, **given: Any
) -> TrainResult:
    """Merge the weights of several models into one: ``merge([a, b], out=..., method="ties")``.

    ``models`` are folders, names, or what trainings returned; ``given`` are the options of
    `siftune finetune merge`, such as ``weights`` and ``base``.

    Raises:
        UsageError: the models do not fit each other, or an option is wrong.
    """
    if isinstance(models, str | Path | TrainResult):
        raise UsageError("models: expected a list of two or more models, got one")
    named = as_options({"models": [as_option(one) for one in models], **given})
    command = checked(find(*_MERGE), named, "merge")
    command.check_options()
    with overwriting(overwrite):
        result: TrainResult = command(Path(str(out)))
    return result


def _asked(
    place: tuple[str, str],
    name: str,
    rows: Any,
    given: Mapping[str, Any],
    out: str | Path | None,
    overwrite: bool,
) -> TrainResult:
    models = ModelsInMemory.of(as_options(given))
    command = checked(find(*place), _named_reward(models.options), name)
    source, _held = _source(rows)
    here = scratch() if out is None else None
    folder = here.path / name if here is not None else Path(str(out))
    with overwriting(overwrite):
        models.write()
        result: TrainResult = command(source, folder)
    return result


def _signature(own: type[Any], trainer: type[Any] | None) -> inspect.Signature:
    """``(rows, *, out, overwrite, OPTIONS)``, those without a default first."""
    fields = {**options(own), **({} if trainer is None else _shared(own, trainer))}
    only = inspect.Parameter.KEYWORD_ONLY
    listed = [
        inspect.Parameter(key, only, default=_default(one), annotation=one.type)
        for key, one in fields.items()
    ]
    if "model" in fields:
        listed.append(inspect.Parameter("tokenizer", only, default=None, annotation=Any))
    listed.sort(key=lambda one: one.default is not inspect.Parameter.empty)
    first = inspect.Parameter("rows", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Any)
    out = inspect.Parameter("out", only, annotation="str | Path")
    overwrite = inspect.Parameter("overwrite", only, default=False, annotation="bool")
    return inspect.Signature([first, out, *listed, overwrite], return_annotation="TrainResult")


def _default(field: Any) -> Any:
    from dataclasses import MISSING

    if field.default is not MISSING:
        return field.default
    return inspect.Parameter.empty if field.default_factory is MISSING else field.default_factory()


def _doc(name: str, own: type[Any], trainer: type[Any] | None) -> str:
    """What the method does, then a line for each option."""
    from siftune.curate.commands.option_help import option_texts, prose_of
    from siftune.finetune.option_texts import OPTION_TEXTS

    place = _place_of(name)
    parts = [summary(*place), prose_of(own.__doc__ or "")]
    if trainer is not None:
        from siftune.finetune.loss_table import data_of

        parts.append(data_of(place[0], own))
    texts = option_texts(own, OPTION_TEXTS)
    fields = {**options(own)}
    if trainer is not None:
        fields |= _shared(own, trainer)
        texts = {**option_texts(trainer, OPTION_TEXTS), **texts}
    lines = [f"    {key}: {texts.get(key, '')}".rstrip() for key in fields]
    if "model" in fields:
        lines.append("    tokenizer: the tokenizer of a model that is an object of transformers.")
    told = [
        "Args:",
        "    rows: rows, a frame, a list of dicts, or a path.",
        "    out: the folder of the model.",
        *lines,
        "    overwrite: replace a model that was trained with other options or data.",
    ]
    return "\n\n".join([*parts, "\n".join(told)])


def _place_of(name: str) -> tuple[str, str]:
    if name == "init":
        return _INIT
    if name == JUDGE[1]:
        return JUDGE
    group = None if name in TRAINERS else family_of(name)
    return (TRAINER_GROUP, TRAINERS[name]) if group is None else (group, name)
