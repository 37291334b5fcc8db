"""What a measure is given of a model and held-out rows, and what it returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias

import polars as pl

from siftune.curate.core.adapted import Checked, FunctionComponent

__all__ = ["MEASURED_IN", "Answer", "Asked", "Better", "CheckedMeasure", "Measure", "Values"]

MEASURED_IN: Final = "float32"
"""Format of the weights of arms and base. Log-ratios of arms are about as small as bf16 rounds."""
Answer: TypeAlias = Mapping[str, Any]
"""``id``, ``prompt``, ``completion``, ``reference``, ``tokens``, ``ended``, ``extra``."""
Better: TypeAlias = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Values:
    """A number for each held-out row, None where there is none; ``weights`` such as tokens.

    The weights belong to the rows, not to the model: they are the same for every arm.
    """

    values: Sequence[float | None]
    weights: Sequence[float] | None = None


@dataclass(frozen=True)
class Asked:
    """Held-out rows under one template, and the model that they are measured of.

    ``load`` loads the model, ``answer`` has it answer the rows, ``baseline`` has the answers of
    the arm `random` with the same seed and budget; ``base`` is the model that training started
    from. Models and answers are made when a measure reads them.
    """

    table: pl.DataFrame
    base: str
    load: Callable[[], Any]
    tokenizer: Any
    answer: Callable[[], Sequence[Answer]]
    baseline: Callable[[], Sequence[Answer]] = tuple
    batch_size: int = 16
    seed: int = 0
    memory: dict[Any, Any] = field(default_factory=dict)  # what is the same for every arm

    @cached_property
    def model(self) -> Any:
        """The model of the arm."""
        return self.load()

    @cached_property
    def answers(self) -> Sequence[Answer]:
        """Its answer to each row."""
        return self.answer()

    @cached_property
    def baseline_answers(self) -> Sequence[Answer]:
        """The answer of `random` to each row."""
        return self.baseline()


class Measure(Protocol):
    """A measure: ``better`` is the direction that is good, ``kinds`` the rows that it reads."""

    better: ClassVar[Better]
    kinds: ClassVar[tuple[str, ...]]

    def __call__(self, asked: Asked) -> Values:
        """A number for each row, in order."""


class _MeasureFunction(FunctionComponent):
    """A measure from a function of the answers, a list of `Answer`."""

    declared: ClassVar[Sequence[str]] = ("better", "kinds")
    better: ClassVar[Better] = "higher"
    kinds: ClassVar[tuple[str, ...]] = ("conversation", "preference", "text")

    def __call__(self, asked: Asked) -> Any:
        """The result of the function."""
        options = {key: one for key, one in self._options.items() if key not in self.data}
        return self._function(list(asked.answers), **options)


class CheckedMeasure(Checked):
    """A user's measure, whose answer is a number or None for each row."""

    required: ClassVar[Sequence[str]] = ("__call__",)
    function: ClassVar[type[FunctionComponent]] = _MeasureFunction
    defaults: ClassVar[type[Any]] = _MeasureFunction

    @classmethod
    def _is_as_ours(cls, own: type[Any], parameters: Sequence[str]) -> bool:
        """A class whose ``__call__`` takes what ours takes calls its parameter ``asked``."""
        return list(parameters) == ["asked"]

    def __call__(self, asked: Asked) -> Values:
        """Values of the rows, in order.

        Raises:
            UsageError: there are more or fewer than rows, or one is no number.
        """
        own: Any = super().__call__  # type: ignore[misc]
        found = self._call(own, asked)
        if isinstance(found, Values):
            return found
        listed = found.tolist() if hasattr(found, "tolist") else found
        if not isinstance(listed, list | tuple) or len(listed) != asked.table.height:
            raise self._refused(f"expected a number for each of the {asked.table.height:,} rows")
        return Values([self._number(one) for one in listed])

    def _number(self, value: Any) -> float | None:
        if value is None or value != value:
            return None
        if not isinstance(value, bool | int | float) or math.isinf(value):
            raise self._refused(f"expected a finite number, or None, got {value!r}")
        return float(value)
