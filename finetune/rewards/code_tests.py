"""Code checked by unit tests: the share of the row's tests that the completion's program passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from siftune.curate.core.ranges import Count, Positive
from siftune.finetune.code_execution.limits import Limits
from siftune.finetune.code_execution.probe import check_limits, needs_network
from siftune.finetune.code_execution.program_text import program_in
from siftune.finetune.code_execution.run import (
    NotRunError,
    ProgramError,
    call_function,
    run_script,
    run_tests,
)
from siftune.finetune.code_execution.unit_tests import (
    CallTests,
    CodeTests,
    UnitTests,
    same_output,
    same_value,
    unit_tests,
)

__all__ = ["UnitTestReward"]


@dataclass(frozen=True)
class UnitTestReward:
    """Passed tests by all tests, 0 to 1; with ``all_or_nothing`` 1 where all pass, else 0.

    The program is the completion's fenced block of Python, else all of it; where it lacks the
    function that is asked for and the prompt begins it, prompt and completion (HumanEval). Tests
    are those of the raw row, in the layouts of HumanEval, MBPP, APPS, TACO, CodeContests and
    LiveCodeBench (`code_execution.unit_tests`), or of ``field``. All or nothing is what papers
    report as pass@1, and what Le et al. 2022 (CodeRL, arXiv:2207.01780) reward most; the share is
    denser. A row without readable tests has no score, and neither has one that the machine failed
    to run; a program that fails, is killed or out of time fails the tests that are left.

    A program runs as another user (as root) or in a namespace of users, without network, files of
    the machine, environment or open files, with limits on time, memory, disk, processes and
    output. Each limit is tried first, and where one does not hold no program is run. Linux only.
    What tests expect is never where the program is: outputs are compared in this process, and
    asserts are run in a process of their own, which gets plain data of built-in types. So a
    program's own ``__eq__`` decides nothing, and objects of its classes equal nothing.

    Programs have Python's standard library alone.

    Options:
        field: Field of the raw row with the tests; by default the first known one.
        all_or_nothing: Whether all tests have to pass for a reward.
        cpu_seconds: Processor seconds of a process of the program.
        wall_seconds: Seconds for one test with a standard input, or for all other tests of a row.
        memory_mb: Most memory of a process of the program, in MiB.
        disk_mb: Most that a program can write, in MiB; its folder is in memory.
        files: Most files in its folder, and most open ones.
        processes: Most processes and threads of a program.
        output_kb: Most output that is read, in KiB; a program that writes more fails.
        workers: Programs that are run at a time.
        allow: Names of limits that need not hold here, such as network.

    >>> row = {"extra": {"test_list": ["assert f(2) == 4", "assert f(3) == 9"]}}
    >>> UnitTestReward()(["?"], ["def f(x): return x + x"], [row])  # doctest: +SKIP
    [0.5]
    """

    field: str | None = None
    all_or_nothing: bool = False
    cpu_seconds: Count = 10
    wall_seconds: Positive = 30.0
    memory_mb: Count = 512
    disk_mb: Count = 16
    files: Count = 64
    processes: Count = 8
    output_kb: Count = 1024
    workers: Count = 4
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse limits under which no program could run."""
        _ = self._limits

    @property
    def _limits(self) -> Limits:
        return Limits(
            self.cpu_seconds,
            self.wall_seconds,
            self.memory_mb,
            self.disk_mb,
            self.files,
            self.processes,
            self.output_kb,
        )

    def _limits_here(self) -> Limits:
        """The limits, with the network where no namespace can be had and that is allowed."""
        return replace(self._limits, network=needs_network(self.allow))

    def load(self) -> None:
        """Try the limits now, before answers are drawn.

        Raises:
            UsageError: one does not hold on this machine.
        """
        check_limits(self.allow)

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Between 0 and 1, or None for each completion.

        Raises:
            UsageError: a limit does not hold on this machine.
        """
        fields = ({**row, **(row.get("extra") or {})} for row in rows)
        tests = [unit_tests(one, self.field) for one in fields]
        if any(one is not None for one in tests):
            self.load()
        with ThreadPoolExecutor(self.workers) as pool:
            asked = map(_asked, prompts, rows)
            return list(pool.map(self._score, asked, completions, tests))

    def _score(self, asked: str, completion: str, tests: UnitTests | None) -> float | None:
        if tests is None:
            return None
        program = program_in(completion, asked, tests.names)
        try:
            share = _share(program, tests, self._limits_here())
        except NotRunError:
            return None
        return float(share == 1) if self.all_or_nothing else share


def _asked(prompt: str, row: Mapping[str, Any]) -> str:
    """The text of the last turn that was asked, without a template around it."""
    turns = row.get("prompt")
    return str(turns[-1]["content"] or "") if isinstance(turns, list) and turns else prompt


def _share(program: str, tests: UnitTests, limits: Limits) -> float:
    """The share of the tests that a program passes."""
    if isinstance(tests, CodeTests):
        ran = run_tests(program, tests.code, tests.remote, limits)
        if not ran.is_ended:
            return min(ran.held, ran.sites - 1) / ran.sites if ran.sites else 0.0
        reached = ran.held + ran.failed
        return ran.held / reached if reached else float(ran.sites == 0)
    count = len(tests.outputs)
    if isinstance(tests, CallTests):
        try:
            given = call_function(program, tests.names[0], tests.calls, limits, None)
        except ProgramError:
            return 0.0
        pairs = zip(given, tests.outputs, strict=True)
        return sum(ok and same_value(own, known) for (ok, own), known in pairs) / count
    ended = run_script(program, tests.inputs, limits)
    pairs_of_texts = zip(ended, tests.outputs, strict=False)
    return (
        sum(one.end == "exit 0" and same_output(one.output, out) for one, out in pairs_of_texts)
        / count
    )
