"""Steps of a pipeline: trainings, steps that make rows, and rounds of both, read from a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from siftune.curate.core.custom_file import short_name
from siftune.curate.core.errors import Problems, UsageError
from siftune.curate.core.registry import closest, find, names
from siftune.curate.core.registry import options as known_options
from siftune.curate.files.outputs import check_name
from siftune.finetune.core.methods import reads_of

__all__ = [
    "COSTS",
    "HELD",
    "JUDGES",
    "LATEST",
    "MERGE",
    "MODEL_OF",
    "ROWS",
    "ROW_STEPS",
    "Step",
    "makes_rows",
    "models_named",
    "read_steps",
    "with_models",
]

ROW_STEPS: Final = "pipelines.row_steps"
"""The group of components that make rows from rows: answers of a model, labels of a judge."""
ROWS: Final = ("rows", "pairs")
"""Rows that every recipe may have, beside those that a step makes."""
HELD: Final = ("heldout-prompts", "heldout-pairs")
"""Held-out rows, which steps that make rows may read; no training may read what they make."""
LATEST: Final = "latest"
"""The policy that was trained last: any model but a reward model; the base where there is none."""
MODEL_OF: Final = "step:"
"""Before the label of an earlier step, in any option: the model, or the rows, that it made."""

MERGE: Final = "merge"
"""The step that makes a model of several, and reads no rows."""
JUDGES: Final = ("judge", "second")
COSTS: Final = ("max_cost", "price_input", "price_output", "most_per_call")
"""Keys of a recipe, and options of steps, that name a judge."""

_REPEAT: Final = "repeat"
_REPEAT_KEYS: Final = ("rounds", "steps", "stop")
_LIMITS: Final = ("length", "position", "self_preference", "agreement")
_MOST_ROUNDS: Final = 100


@dataclass(frozen=True)
class Step:
    """One training, one step that makes rows, or one that merges models.

    ``start`` is ``base`` or the label of an earlier model: the one that a training starts from, or
    that answers in a step that makes rows. ``data`` is ``rows``, ``pairs`` or the label of an
    earlier step that makes rows. In round ``round`` of a ``repeat`` (0: in none) the label ends in
    the round's number, and ``name`` is the label without it. ``reward`` is the latest model of the
    name reward, which a training is offered. ``loop`` is the number of the ``repeat``, and ``stop``
    has what differs from the default limits of its drift (`judge_stats.drift.Limits`).
    """

    label: str
    method: str
    start: str
    data: str
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    round: int = 0
    reward: str | None = None
    loop: int = 0
    stop: Mapping[str, float | None] = field(default_factory=dict)


def makes_rows(method: str) -> bool:
    """Whether a step makes rows, not a model."""
    return method in names(ROW_STEPS)


def read_steps(
    raw: Any, problems: Problems, shared: Mapping[str, Any] | None = None
) -> tuple[Step, ...]:
    """The steps of ``train``, those in a ``repeat`` once for each round; problems are collected.

    ``shared`` has the values of the options of `JUDGES` and `COSTS` in the steps that take and name
    none.
    """
    reader = _Reader(problems, shared or {})
    with problems.collecting():
        for number, item in enumerate(_listed(raw, "train"), 1):
            with problems.collecting():
                reader.take(f"train {number}", item)
    return tuple(reader.steps)


def _listed(raw: Any, where: str) -> list[Any]:
    if not isinstance(raw, list):
        raise UsageError(f"{where}: expected a list of `- METHOD: {{options}}`, got {raw!r}")
    return raw


@dataclass
class _Reader:
    """Steps read so far, with the label that each name has at this point.

    ``models`` and ``rows`` have the label that each name stands for: that of the latest step of the
    name. After a step with a problem, ``whole`` is false: a name that is missing may be its own.
    """

    problems: Problems
    shared: Mapping[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=lambda: {"base": "base"})
    rows: dict[str, str] = field(default_factory=lambda: {name: name for name in (*ROWS, *HELD)})
    latest: str = "base"
    whole: bool = True
    held: set[str] = field(default_factory=lambda: set(HELD))  # rows that no training may read
    loop: int = 0
    stop: Mapping[str, float | None] = field(default_factory=dict)

    def take(self, where: str, item: Any, round_: int = 0) -> None:
        """Read one item of the list.

        Raises:
            UsageError: it is no step.
        """
        if not isinstance(item, dict) or len(item) != 1:
            raise UsageError(f"{where}: expected `- METHOD: {{options}}`, got {item!r}")
        ((method, given),) = item.items()
        if not isinstance(given or {}, dict):
            raise UsageError(f"{where} ({method}): expected options, got {given!r}")
        whole, self.whole = self.whole, False
        if method == _REPEAT:
            self._repeat(where, dict(given or {}), round_, whole)
        else:
            self._add(self._step(where, str(method), dict(given or {}), round_, whole))
        self.whole = whole

    def _repeat(self, where: str, given: dict[str, Any], round_: int, whole: bool) -> None:
        if round_:
            raise UsageError(f"{where} (repeat): a repeat cannot be inside another")
        for key in given:
            if key not in _REPEAT_KEYS:
                near = closest(key, _REPEAT_KEYS)
                raise UsageError(f"{where} (repeat): unknown key {key!r}; {near}")
        rounds = given.get("rounds")
        if type(rounds) is not int or not 1 <= rounds <= _MOST_ROUNDS:
            raise UsageError(
                f"{where} (repeat): rounds: expected a whole number from 1 to {_MOST_ROUNDS}, "
                f"got {rounds!r}"
            )
        self.loop += 1
        self.stop = _limits(given.get("stop", {}), f"{where} (repeat): stop")
        items = _listed(given.get("steps"), f"{where} (repeat): steps")
        for number in range(1, rounds + 1):
            for at, item in enumerate(items, 1):
                self.whole = whole
                self.take(f"{where} (repeat, round {number}), step {at}", item, number)

    def _step(
        self, where: str, method: str, options: dict[str, Any], round_: int, whole: bool
    ) -> Step:
        name = str(options.pop("label", short_name(method)))
        check_name(name, f"{where}: label")
        if name == LATEST:
            raise UsageError(f"{where}: label: {LATEST!r} is the model that was trained last")
        label = f"{name}-{round_}" if round_ else name
        place = f"{where} ({method})"
        start, data = self._inputs(method, options, round_, place, whole)
        if label in (*self.models.values(), *self.rows.values()):
            what = "rows" if label in self.rows.values() else "model"
            raise UsageError(f"{where}: a second {what} called {label!r}; give it a `label`")
        if makes_rows(method):
            taken = known_options(find(ROW_STEPS, method))
            options = {**{key: one for key, one in self.shared.items() if key in taken}, **options}
        options = self._resolved(options, place, whole)
        if self.held & {data, *models_named(options)}:
            if not makes_rows(method):
                raise UsageError(
                    f"{place}: data: {data!r} are held-out rows, which no training sees"
                )
            self.held.add(label)
        loop = (self.loop, self.stop) if round_ else (0, {})
        reward = self.models.get("reward")
        return Step(label, method, start, data, options, name, round_, reward, *loop)

    def _inputs(
        self, method: str, options: dict[str, Any], round_: int, place: str, whole: bool
    ) -> tuple[str, str]:
        """The labels of the model that a step starts from and of its rows, out of ``options``."""
        if method == MERGE:
            if extra := [key for key in ("start", "data") if key in options]:
                raise UsageError(
                    f"{place}: unknown key {extra[0]!r}: it merges `models`, such as "
                    "[step:sft, step:dpo], and reads no rows"
                )
            return self.latest, ""
        start = options.pop("start", None) or self._default_start(method, round_)
        data = options.pop("data", None) or ("rows" if makes_rows(method) else reads_of(method))
        start = self._known(str(start), self._starts(), f"{place}: no model", whole)
        return start, self._known(str(data), self.rows, f"{place}: data: no rows are called", whole)

    def _default_start(self, method: str, round_: int) -> str:
        """In rounds the latest policy; else the first sft model, which itself starts from base."""
        if round_ or makes_rows(method):
            return LATEST
        return "sft" if method != "sft" and "sft" in self.models else "base"

    def _starts(self) -> dict[str, str]:
        return {**self.models, LATEST: self.latest}

    def _known(self, name: str, known: Mapping[str, str], what: str, whole: bool) -> str:
        if name in known:
            return known[name]
        if not whole:
            return name
        if what.endswith("no model"):
            raise UsageError(f"{what} {name!r} yet; there are {', '.join(known)}")
        raise UsageError(f"{what} {name!r}; {closest(name, tuple(known))}")

    def _resolved(self, value: Any, place: str, whole: bool) -> Any:
        """``value`` with each ``step:NAME`` in it as ``step:LABEL``."""
        if isinstance(value, dict):
            return {key: self._resolved(one, place, whole) for key, one in value.items()}
        if isinstance(value, list):
            return [self._resolved(one, place, whole) for one in value]
        if isinstance(value, str) and value.startswith(MODEL_OF):
            name = value.removeprefix(MODEL_OF)
            if name in self.rows:
                return MODEL_OF + self.rows[name]
            return MODEL_OF + self._known(name, self._starts(), f"{place}: no model", whole)
        return value

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        if makes_rows(step.method):
            self.rows[step.name] = self.rows[step.label] = step.label
            return
        self.models[step.name] = self.models[step.label] = step.label
        if step.method != "reward":
            self.latest = step.label


def _limits(raw: Any, where: str) -> Mapping[str, float | None]:
    """The limits of drift that a ``repeat`` sets; null is none at all."""
    if raw is None:
        return dict.fromkeys(_LIMITS)
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: expected limits such as `length: 1.5`, or null, got {raw!r}")
    for key, value in raw.items():
        if key not in _LIMITS:
            raise UsageError(f"{where}: unknown key {key!r}; {closest(str(key), _LIMITS)}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and value > 0):
            raise UsageError(f"{where}: {key}: expected a number above 0 or null, got {value!r}")
    return raw


def models_named(options: Mapping[str, Any]) -> Sequence[str]:
    """Labels of the steps (or of rows) that ``step:LABEL`` names in options, at any depth."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, Mapping):
            for one in value.values():
                walk(one)
        elif isinstance(value, list | tuple):
            for one in value:
                walk(one)
        elif isinstance(value, str) and value.startswith(MODEL_OF):
            found.append(value.removeprefix(MODEL_OF))

    walk(options)
    return list(dict.fromkeys(found))


def with_models(value: Any, places: Mapping[str, str | None]) -> Any:
    """``value`` with ``step:LABEL`` replaced by what ``places`` has for the label.

    That is None for rows that the recipe does not have, such as ``pairs``.
    """
    if isinstance(value, Mapping):
        return {key: with_models(one, places) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [with_models(one, places) for one in value]
    if isinstance(value, str) and value.startswith(MODEL_OF):
        return places[value.removeprefix(MODEL_OF)]
    return value
