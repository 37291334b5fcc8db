"""The protocol of rewards, finding one by its name or folder, and checks of a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from copy import deepcopy
from dataclasses import MISSING
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from siftune.curate.core import registry
from siftune.curate.core.adapted import Checked, FunctionComponent
from siftune.curate.core.custom import name_in_texts
from siftune.curate.core.errors import UsageError
from siftune.curate.models.precision import Precision

__all__ = ["CheckedReward", "Reward", "load", "of_texts", "reward_of"]


class Reward(Protocol):
    """Gives each completion a number, higher is better, or None where it cannot be scored.

    Text in: a reward never sees the policy's tokens, so it may have any tokenizer, or none. What
    has no score gets no advantage and is left out of the update; it is not worth 0.
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
        answer, or None) and ``tools`` (the functions that may be called, or None).
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
        empty = {"reference": None, "answer": None, "tools": None}
        asked = ([{"role": "user", "content": prompt}] for prompt in prompts)
        rows = [{"id": str(at), "prompt": turns, **empty} for at, turns in enumerate(asked)]
    try:
        return own(reward, prompts, completions, rows)
    except KeyError as error:
        raise UsageError(
            f"{name_in_texts(reward)}: a row has no {error}; the first has "
            f"{', '.join(rows[0]) or 'nothing'}"
        ) from error


def _wrong_list(listed: Any, kind: type[Any], wanted: str) -> str | None:
    """What is wrong with a value that is to be a list of ``kind``; None if nothing is."""
    if isinstance(listed, str | Mapping) or not isinstance(listed, Collection):
        return f"expected a list of {wanted}, got {type(listed).__name__}"
    odd = {type(one) for one in listed if not isinstance(one, kind)}
    if not odd:
        return None
    turns = "; of a conversation give the text of a turn" if odd & {list, dict} else ""
    return f"expected {wanted}, got {', '.join(sorted(one.__name__ for one in odd))}{turns}"


_BATCH: Final = ("prompts", "completions", "rows")
_ONE: Final = ("prompt", "completion", "row")


class _RewardFunction(FunctionComponent):
    """A reward from a function of ``prompts``, ``completions``, ``rows``, or of one of each.

    It is given those of them that it has as parameters: lists, or one by one ``prompt``,
    ``completion``, ``row``.
    """

    @classmethod
    def data_of(cls, names: Sequence[str]) -> tuple[str, ...]:
        """The parameters for data; without such names the first two: prompts, completions."""
        found = tuple(name for name in names if name in _BATCH)
        found = found or tuple(name for name in names if name in _ONE)
        return found or tuple(names[:2])

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> Any:
        """The result of the function."""
        given = (prompts, completions, rows)
        if self.data[0] in _ONE:
            each = [dict(zip(_ONE, one, strict=True)) for one in zip(*given, strict=True)]
            asked = [{name: one[name] for name in self.data} for one in each]
            return [self._function(**one, **self._options) for one in asked]
        if self.data[0] in _BATCH:
            named = dict(zip(_BATCH, given, strict=True))
            return self._function(**{name: named[name] for name in self.data}, **self._options)
        return self._function(*given[: len(self.data)], **self._options)


class CheckedReward(Checked):
    """A user's reward, whose answer is a number or None for each completion."""

    required: ClassVar[Sequence[str]] = ("__call__",)
    function: ClassVar[type[FunctionComponent]] = _RewardFunction

    @classmethod
    def _is_as_ours(cls, own: type[Any], parameters: Sequence[str]) -> bool:
        """With prompts, completions and rows, whatever they are called."""
        return len(parameters) == len(_BATCH) and not set(parameters) & set(_ONE)

    @classmethod
    def note_on_missing(cls, option: str) -> str:
        """How a field of the rows is read, which TRL gives by its name."""
        one = getattr(cls, "data", _BATCH)[0] in _ONE
        way = f"row: row[{option!r}]" if one else f"rows: rows[0][{option!r}], ..."
        return f"; if it is a field of the rows, take the parameter {way}"

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Scores of completions, in order.

        Raises:
            UsageError: there are more or fewer than completions, or one is no number.
        """
        own: Any = super().__call__  # type: ignore[misc]
        given = deepcopy(([*prompts], [*completions], [*rows]))  # it may change what it is given
        answer = self._call(own, *given)
        listed = answer.tolist() if hasattr(answer, "tolist") else answer
        if not isinstance(listed, list | tuple) or len(listed) != len(completions):
            count = f"{len(listed):,}" if isinstance(listed, Sized) else type(listed).__name__
            raise self._refused(
                f"expected a number for each of the {len(completions):,} completions, got {count}"
            )
        return [self._number(one) for one in listed]

    def _number(self, value: Any) -> float | None:
        plain = value.item() if hasattr(value, "item") else value
        if plain is None or plain != plain:
            return None
        if not isinstance(plain, bool | int | float) or math.isinf(plain):
            raise self._refused(f"expected a finite number, or None, got {plain!r}")
        return float(plain)


_REWARDS: Final = "finetune.rewards"


def reward_of(reward: str, options: Mapping[str, Any], precision: Precision = "auto") -> Reward:
    """The component called ``reward``, else the reward model whose folder that is.

    ``precision`` is that of a reward model whose ``options`` give none.

    Raises:
        UsageError: it is neither, or an option does not fit.
    """
    names = registry.names(_REWARDS)
    if registry.has(_REWARDS, reward):
        _refuse_lacking(reward, options)
        found: Reward = registry.build(_REWARDS, reward, options)
        return found
    if not Path(reward).is_dir() and "/" not in reward:
        raise UsageError(
            f"reward {reward!r} is neither a model folder nor a reward; "
            f"{registry.closest(reward, names)}"
        )
    given = {"model": reward, "precision": precision, **options}
    model: Reward = registry.build(_REWARDS, "reward_model", given)
    return model


def load(reward: Reward) -> None:
    """Load what a reward needs, before answers are drawn that it might be unable to score.

    Raises:
        UsageError: its model cannot be used.
    """
    from siftune.finetune.rewards.reward_model import RewardModel

    if isinstance(reward, RewardModel):
        reward.load()


def _refuse_lacking(reward: str, options: Mapping[str, Any]) -> None:
    """Name the flag that sets an option without a default."""
    component = registry.find(_REWARDS, reward)
    known = registry.options(component)
    if not options.keys() <= known.keys():
        return  # that is told first, with what it may have been meant to be
    for key, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and key not in options:
            of_user = issubclass(component, Checked)
            note = component.note_on_missing(key) if of_user else ""
            raise UsageError(
                f"{reward} needs the option {key!r}; "
                f"set it with --reward-options '{{{key}: VALUE}}'{note}"
            )
