"""The protocol of rewards, and finding one or several by names, folders and weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from siftune.curate.core import registry
from siftune.curate.core.custom import component, name_in_texts
from siftune.curate.core.errors import UsageError
from siftune.curate.core.option_values import is_required
from siftune.curate.models.precision import Precision
from siftune.finetune.reward_models.members import component_of

__all__ = [
    "Entry",
    "Reward",
    "check_fields",
    "entries_of",
    "facts_of",
    "folders_of",
    "load",
    "of_texts",
    "one_of",
    "reads_fields",
    "reward_of",
]


class Reward(Protocol):
    """Gives each completion a number, higher is better, or None where it cannot be scored.

    Text in: a reward never sees the policy's tokens, so it may have any tokenizer, or none. What
    has no score gets no advantage and is left out of the update; it is not worth 0. A reward that
    is a `FactsReward` also gives facts of each answer, which are logged and watched.
    """

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Scores of completions, in order.

        ``rows`` are as `training_rows.to_prompts` gives them: ``id``, ``prompt`` (the turns that
        were asked; ``prompts`` are the same as the policy was shown them), ``reference`` (the known
        answer, or None), ``answer`` (its turns), ``tools`` (the functions that may be called, or
        None) and ``extra`` (the fields of the raw row that have no column).
        """


def of_texts(
    own: Callable[..., list[float | None]],
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> list[float | None]:
    """Call a reward; without ``rows`` each is its prompt as one user turn, without a reference.

    >>> from siftune.finetune.rewards.length import Length
    >>> Length(target=4)(["?"], ["one two"])
    [-0.5]

    Raises:
        UsageError: what is given is no list of texts, or the lists are of different lengths.
    """
    rows = _rows_of(rows) if any(hasattr(rows, one) for one in _FRAMES) else rows
    given: dict[str, Sequence[Any]] = {"prompts": prompts, "completions": completions}
    given |= {} if rows is None else {"rows": rows}
    for key, listed in given.items():
        kind, wanted = (Mapping, "dicts") if key == "rows" else (str, "texts")
        if (wrong := _wrong_list(listed, kind, wanted)) is not None:
            raise UsageError(f"{name_in_texts(reward)}: {key}: {wrong}")
        if len(listed) != len(prompts):
            raise UsageError(
                f"{name_in_texts(reward)}: expected as many {key} as prompts, {len(prompts):,}, "
                f"got {len(listed):,}"
            )
    if rows is None:
        empty: dict[str, Any] = {"reference": None, "answer": None, "tools": None, "extra": {}}
        asked = ([{"role": "user", "content": prompt}] for prompt in prompts)
        rows = [{"id": str(at), "prompt": turns, **empty} for at, turns in enumerate(asked)]
    elif rows and {"id", "kind"} <= {*rows[0]}:  # dicts of a table of ours
        rows = _rows_of(rows)
    check_fields(reward, rows)
    try:
        return own(reward, prompts, completions, rows)
    except KeyError as error:
        raise UsageError(
            f"{name_in_texts(reward)}: a row has no {error}; the first has "
            f"{', '.join(rows[0]) or 'nothing'}"
        ) from error


_FRAMES: Final = ("__arrow_c_stream__", "collect", "features", "kept")
"""Attributes of frames of polars, pandas, pyarrow and datasets, and of `siftune.Rows`."""


def _rows_of(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame as dicts; of a table of ours as rewards of a training get them."""
    import polars as pl  # rewards do without

    from siftune.curate.io.plain_frames import frame_of
    from siftune.finetune.data.training_rows import to_prompts

    table = pl.DataFrame(frame) if isinstance(frame, list | tuple) else frame_of(frame)
    return to_prompts(table) if {"id", "kind"} <= {*table.columns} else table.to_dicts()


def _wrong_list(listed: Any, kind: type[Any], wanted: str) -> str | None:
    """What is wrong with a value that is to be a list of ``kind``; None if nothing is."""
    if isinstance(listed, str | Mapping) or not isinstance(listed, Collection):
        return f"expected a list of {wanted}, got {type(listed).__name__}"
    odd = {type(one) for one in listed if not isinstance(one, kind)}
    if not odd:
        return None
    turns = "; of a conversation give the text of a turn" if odd & {list, dict} else ""
    return f"expected {wanted}, got {', '.join(sorted(one.__name__ for one in odd))}{turns}"


_REWARDS: Final = "finetune.rewards"


def check_fields(reward: Reward, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a user's reward that asks for a field that no row has.

    Raises:
        UsageError: it does; the text names the fields that there are.
    """
    for part in getattr(reward, "parts", ()):
        check_fields(part.reward, rows)
    asked: Sequence[str] = getattr(reward, "fields_of_rows", ())
    known = {key: None for row in rows for key in (*(row.get("extra") or {}), *row)}
    known.pop("extra", None)
    for name in asked if rows else ():
        if name not in known:
            raise UsageError(
                f"{name_in_texts(reward)}: no row has the field {name!r}; "
                f"{registry.closest(name, known)}; if {name} is an option of the reward, set it "
                f"with --reward-options '{{{name}: VALUE}}'"
            )


@dataclass(frozen=True)
class Entry:
    """One reward of several: what it is called, its weight, and the reward with its options."""

    name: str
    weight: float
    reward: Any
    options: Mapping[str, Any] = field(default_factory=dict)


def entries_of(
    reward: str | Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> list[Entry]:
    """The rewards that an option ``reward`` names: one, with weight 1, or several with weights.

    Several are a mapping of names to weights: ``{exact_match: 1, length: {weight: 0.1, options:
    {target: 40}}}``. With ``reward`` an entry may have any name: ``{helpful: {reward:
    runs/reward}}``.

    >>> [(one.name, one.weight) for one in entries_of({"exact_match": 1, "length": 0.5})]
    [('exact_match', 1.0), ('length', 0.5)]

    Raises:
        UsageError: a weight or a key is wrong, or ``options`` are set beside several.
    """
    if not isinstance(reward, Mapping):
        return [Entry(str(reward), 1.0, reward, options or {})]
    if options:
        raise UsageError(
            "reward_options: they are of one reward; those of several are set with each: "
            "NAME: {weight: 1, options: {KEY: VALUE}}"
        )
    if not reward:
        raise UsageError("reward: expected at least one NAME: WEIGHT, got none")
    return [_entry(str(name), given) for name, given in reward.items()]


_KEYS: Final = ("weight", "reward", "options")


def _entry(name: str, given: Any) -> Entry:
    keys = dict(given) if isinstance(given, Mapping) else {"weight": given}
    for key in keys:
        if key not in _KEYS:
            raise UsageError(
                f"reward: {name}: it has no {key!r}; {registry.closest(key, _KEYS)}; options of "
                f"the reward are set as options: {{{key}: VALUE}}"
            )
    weight = keys.get("weight", 1.0)
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not math.isfinite(weight):
        raise UsageError(f"reward: {name}: expected a weight, such as 0.5, got {weight!r}")
    options = keys.get("options") or {}
    if not isinstance(options, Mapping):
        raise UsageError(f"reward: {name}: options: expected {{KEY: VALUE}}, got {options!r}")
    return Entry(name, float(weight), keys.get("reward", name), options)


def facts_of(reward: Reward) -> dict[str, Any]:
    """What a reward of ours depends on besides its options: files, models, a judge."""
    if not type(reward).__module__.startswith(__name__.rpartition(".")[0]):
        return {}
    parts = {part.name: facts_of(part.reward) for part in getattr(reward, "parts", ())}
    describe: Callable[[], dict[str, Any]] = getattr(reward, "describe", dict)
    return {**{name: own for name, own in parts.items() if own}, **describe()}


def folders_of(reward: str | Mapping[str, Any] | None) -> list[str]:
    """The folders of reward models among those that an option ``reward`` names.

    >>> folders_of({"exact_match": 1, "helpful": {"reward": "runs/reward"}}), folders_of(None)
    (['runs/reward'], [])
    """
    named = [] if reward is None else [one.reward for one in entries_of(reward)]
    return [one for one in named if isinstance(one, str) and not registry.has(_REWARDS, one)]


def reads_fields(reward: str | Mapping[str, Any]) -> bool:
    """Whether a reward may read fields of the raw rows, ``extra``, which are then part of the data.

    Any may but for folders, and for those of ours that declare ``reads_extra: ClassVar = False``.
    """
    return any(_reads_extra(one.reward) for one in entries_of(reward))


def _reads_extra(reward: str) -> bool:
    if reward in registry.own_names(_REWARDS):
        return bool(registry.declared(_REWARDS, reward).get("reads_extra", True))
    return registry.has(_REWARDS, reward)


def reward_of(
    reward: str | Mapping[str, Any], options: Mapping[str, Any], precision: Precision = "auto"
) -> Reward:
    """The component called ``reward``, else the reward model whose folder that is.

    A mapping is several with weights (`entries_of`). ``precision`` is that of reward models whose
    ``options`` give none.

    Raises:
        UsageError: it is neither, or an option does not fit.
    """
    if isinstance(reward, Mapping):
        entries_of(reward, options)  # refuses options beside several
        given: dict[str, Any] = {"rewards": reward, "precision": precision}
        several: Reward = registry.build(_REWARDS, "several", given)
        return several
    flag = "set it with --reward-options '{{{key}: VALUE}}'"
    return one_of(Entry(reward, 1.0, reward, options), precision, flag)


def one_of(
    entry: Entry,
    precision: Precision = "auto",
    advice: str = "set options: {{{key}: VALUE}} in its entry",
) -> Reward:
    """The reward of one entry; ``advice`` is what to do about a ``key`` that is missing.

    Raises:
        UsageError: there is none, or an option does not fit.
    """
    reward, options = entry.reward, entry.options
    if not isinstance(reward, str):
        made: Reward = component(_REWARDS, reward, options)
        return made
    names = registry.names(_REWARDS)
    if registry.has(_REWARDS, reward):
        _refuse_lacking(reward, options, advice)
        found: Reward = registry.build(_REWARDS, reward, options)
        return found
    if not Path(reward).is_dir() and "/" not in reward:
        raise UsageError(
            f"reward {reward!r} is neither a model folder nor a reward; "
            f"{registry.closest(reward, names)}"
        )
    model_options = {"model": reward, "precision": precision, **options}
    model: Reward = registry.build(_REWARDS, component_of(reward), model_options)
    return model


def load(reward: Reward) -> None:
    """Load what a reward needs, before answers are drawn that it might be unable to score.

    Raises:
        UsageError: its model cannot be used.
    """
    if hasattr(reward, "load"):
        reward.load()


def _refuse_lacking(reward: str, options: Mapping[str, Any], advice: str) -> None:
    """Name the flag that sets an option without a default."""
    found = registry.find(_REWARDS, reward)
    known = registry.options(found)
    if not options.keys() <= known.keys():
        return  # that is told first, with what it may have been meant to be
    for key, option in known.items():
        if is_required(option) and key not in options:
            raise UsageError(f"{reward} needs the option {key!r}; {advice.format(key=key)}")
