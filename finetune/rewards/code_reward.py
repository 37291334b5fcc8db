"""Reward from code that a model wrote: a function in a file, run within limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count, Positive
from siftune.curate.files.atomic import digest_of
from siftune.finetune.code_execution.limits import Limits
from siftune.finetune.code_execution.probe import check_limits, needs_network
from siftune.finetune.code_execution.program_text import program_in
from siftune.finetune.code_execution.run import NotRunError, ProgramError, call_function

__all__ = ["CodeReward", "RewardLimits", "called", "number_of"]

_START: Final = 30.0  # seconds for the start of a process, on a busy machine, and for the file
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class CodeReward:
    """The number that ``reward(prompt, completion, row)`` of a Python file gives.

    For functions that a language model writes: Eureka, Ma et al. 2023, arXiv:2310.12931, and
    Text2Reward, Xie et al. 2023, arXiv:2309.11489. Such code is not trusted: it runs as programs of
    `code_tests` do, with the standard library alone and without files, network or environment, and
    no program runs where a limit does not hold. A function of your own needs none of that:
    name it as ``FILE.py:NAME``.

    ``prompt`` and ``completion`` are texts, ``row`` is a dict of the row's plain data with the
    fields of the raw row in it. Each completion is scored in a process of its own, as if it were
    the first, so that a function keeps nothing from one to the next. What fails, takes longer than
    ``seconds`` or gives no finite number has no score. The file is the code, or an answer of a
    model with the code in a fenced block.

    Options:
        file: File with the function.
        function: Name of the function.
        seconds: Seconds for one completion.
        memory_mb: Most memory of a process, in MiB.
        allow: Names of limits that need not hold here, such as network.
    """

    file: str
    function: str = "reward"
    seconds: Positive = 2.0
    memory_mb: Count = 512
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a file that is none, and a name that is none."""
        if not self.function.isidentifier():
            raise ValueError(f"function: expected the name of a function, got {self.function!r}")
        _ = self._program

    def load(self) -> None:
        """Try the limits and the file now, before answers are drawn.

        Raises:
            UsageError: a limit does not hold on this machine, or the file does not run.
        """
        check_limits(self.allow)
        ((ok, found),) = self._called([""], [""], [{}])
        if not ok and found == f"NameError: name {self.function!r} is not defined":
            raise UsageError(f"{self.file}: expected a function {self.function}, got none")

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """The function's number for each completion, or None.

        Raises:
            UsageError: a limit does not hold on this machine, or the file does not run.
        """
        if not rows:
            return []
        check_limits(self.allow)
        found = self._called(prompts, completions, rows)
        return [number_of(value) if ok else None for ok, value in found]

    def _called(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[tuple[bool, Any]]:
        limits = RewardLimits(self.seconds, self.memory_mb, self.allow)
        try:
            return called(self._program, self.function, prompts, completions, rows, limits)
        except ProgramError as error:
            raise UsageError(f"{self.file} does not run: {error}") from None
        except NotRunError:
            return [(False, None)] * len(rows)

    def describe(self) -> dict[str, Any]:
        """The code of the file, for the key of a training."""
        return {"code": digest_of(self._program)}

    @cached_property
    def _program(self) -> str:
        path = Path(self.file)
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it has more than 1 MiB")
            return program_in(path.read_text(encoding="utf-8"), names=[self.function])
        except (OSError, ValueError) as error:
            told = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(
                f"file: {self.file}: expected a Python file with a function "
                f"{self.function} ({told})"
            ) from None


@dataclass(frozen=True)
class RewardLimits:
    """Seconds of one call, most memory of a process in MiB, and limits that need not hold."""

    seconds: float = 2.0
    memory_mb: int = 512
    allow: tuple[str, ...] = ()


def called(
    program: str,
    name: str,
    prompts: Sequence[str],
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    limits: RewardLimits,
) -> list[tuple[bool, Any]]:
    """Call ``name(prompt, completion, row)`` of a program for each completion (`call_function`).

    Raises:
        NotRunError: the machine did not run it.
        ProgramError: the program did not run to its end, so that nothing could be called.
    """
    calls = [
        (prompt, completion, _plain({**row, **(row.get("extra") or {})}))
        for prompt, completion, row in zip(prompts, completions, rows, strict=True)
    ]
    most = Limits(
        cpu_seconds=math.ceil(limits.seconds) + 1,
        wall_seconds=_START + limits.seconds * len(calls),
        memory_mb=limits.memory_mb,
        network=needs_network(limits.allow),
    )
    return call_function(program, name, calls, most, limits.seconds)


def _plain(value: Any) -> Any:
    """The value as plain data: what is none is written out."""
    if isinstance(value, Mapping):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def number_of(value: Any) -> float | None:
    """What a program gave as a number; None if it is none, or not finite."""
    if not isinstance(value, bool | int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
