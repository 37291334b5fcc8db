"""Programs of a model: what they can do, what they cannot, and that the limits are tried."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.core.errors import UsageError
from siftune.finetune.code_execution import probe, run
from siftune.finetune.code_execution.limits import Limits
from siftune.finetune.code_execution.program_text import program_in
from siftune.finetune.code_execution.run import (
    NotRunError,
    ProgramError,
    call_function,
    run_script,
    run_tests,
)
from siftune.finetune.code_execution.unit_tests import same_output, same_value, unit_tests
from siftune.finetune.code_execution.values import read, written
from siftune.finetune.rewards.code_reward import CodeReward
from siftune.finetune.rewards.code_tests import UnitTestReward

QUICK = Limits(cpu_seconds=2, wall_seconds=60, memory_mb=128, disk_mb=1, files=32, processes=4)
TURNS = [{"role": "user", "content": "Write it."}]


@pytest.fixture(autouse=True, scope="module")
def runs_programs() -> None:
    """Linux with namespaces; elsewhere the refusal is all there is to test."""
    try:
        run_script("", [], QUICK)
    except (NotRunError, FileNotFoundError) as error:
        if sys.platform != "linux" or error.args[0] in ("namespaces", "mounts"):
            pytest.skip(f"programs cannot be limited here: {error}")


def row(**fields: Any) -> dict[str, Any]:
    return {"id": "r:1", "prompt": TURNS, "reference": None, "extra": fields}


def score(program: str, given: dict[str, Any], **options: Any) -> float | None:
    reward = UnitTestReward(memory_mb=128, files=32, processes=4, workers=1, **options)
    return reward(["?"], [program], [given])[0]


SQUARES = {"test_list": ["assert f(2) == 4", "assert f(-3) == 9", "assert f(0) == 0"]}

HOSTILE = {
    "exits": "import sys\nsys.exit(0)",
    "exits_at_once_from_a_call": "import os\ndef f(x): os._exit(0)",
    "equals_everything": "class A:\n  def __eq__(self, other): return True\n"
    "  def __bool__(self): return True\ndef f(x): return A()",
    "equals_everything_as_a_number": "class A(int):\n  def __eq__(self, other): return True\n"
    "def f(x): return A(7)",
    "changes_the_built_ins": "import builtins, json, sys\n"
    "builtins.AssertionError = builtins.all = builtins.isinstance = lambda *a: True\n"
    "json.dumps = lambda *a, **k: '{\"ended\": true}'\ndef f(x): return 7",
    "writes_the_verdict_to_every_pipe": "import os\n"
    "for number in range(3, 64):\n"
    '  for text in (b\'{"sites": 3}\', b\'{"site": 0, "held": true}\', b\'{"ended": true}\'):\n'
    "    try: os.write(number, text + b'\\n')\n"
    "    except OSError: pass\n"
    "print('OK passed')\ndef f(x): return 7",
    "looks_for_the_tests": "import gc, sys\n"
    "texts = [o for o in gc.get_objects() if isinstance(o, (dict, list, str))]\n"
    "found = 'assert f' + '(2)' in repr(texts) + repr(sys.argv)\n"
    "def f(x): return x * x if found else 7",
    "kills_its_parents": "import os, signal\n"
    "for number in (os.getppid(), 1, {host}):\n"
    "  try: os.kill(number, signal.SIGKILL)\n"
    "  except OSError: pass\n"
    "def f(x): return 7",
    "traces_its_parent": "import ctypes, os\n"
    "c = ctypes.CDLL(None)\n"
    "done = [c.ptrace(16, 1, 0, 0), c.ptrace(16, os.getppid(), 0, 0), c.ptrace(0, 0, 0, 0)]\n"
    "def f(x): return x * x if 0 in done else 7",
    "reads_secrets": "import os\n"
    "paths = ['/etc/shadow', '/proc/1/environ', '/proc/self/environ', '{secret}', '/root/.ssh']\n"
    "seen = [p for p in paths if os.path.exists(p)] + [k for k in os.environ if 'SECRET' in k]\n"
    "def f(x): return x * x if seen else 7",
    "writes_to_the_disk": "import os\n"
    "done = []\n"
    "for path in ('{folder}/made', '/made', os.path.dirname(os.__file__) + '/made', '../made'):\n"
    "  try: done.append(open(path, 'w').write('x'))\n"
    "  except OSError: pass\n"
    "def f(x): return x * x if done else 7",
    "follows_links_out": "import os\n"
    "os.symlink('{folder}', 'out')\nos.symlink('../../../..', 'up')\n"
    "done = []\n"
    "for path in ('out/made', 'up{folder}/made', '/tmp/../{folder}/made'):\n"
    "  try: done.append(open(path, 'w').write('x'))\n"
    "  except OSError: pass\n"
    "def f(x): return x * x if done else 7",
    "connects": "import socket\n"
    "done = []\n"
    "for family, address in ((2, ('127.0.0.1', {port})), (1, '{folder}/socket')):\n"
    "  try: done.append(socket.socket(family).connect(address))\n"
    "  except OSError: pass\n"
    "def f(x): return x * x if done else 7",
    "takes_all_memory": "held = []\n"
    "while True: held.append(bytearray(1 << 24))\n"
    "def f(x): return x * x",
    "fills_the_disk": "import os\n"
    "count = 0\n"
    "try:\n"
    "  for number in range(10000):\n"
    "    with open(str(number), 'wb', buffering=0) as file:\n"
    "      for part in range(100): count += file.write(bytes(1 << 20))\n"
    "except OSError: pass\n"
    "def f(x): return x * x if count > 32 << 20 else 7",
    "leaves_a_daemon": "import os, time, ctypes\n"
    "if not os.fork():\n"
    "  os.setsid()\n"
    "  if not os.fork():\n"
    "    ctypes.CDLL(None).prctl(15, b'left-behind', 0, 0, 0)\n"
    "    time.sleep(1000)\n"
    "  os._exit(0)\n"
    "def f(x): return 7",
}


DEAR = ("exits", "equals_everything_as_a_number", "kills_its_parents", "follows_links_out")
DEAR += ("takes_all_memory", "fills_the_disk")


@pytest.mark.parametrize(
    "names",
    [[name for name in HOSTILE if name not in DEAR], pytest.param(DEAR, marks=pytest.mark.slow)],
)
def test_hostile_programs_score_nothing_and_harm_nothing(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o777)
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    monkeypatch.setenv("SIFTUNE_SECRET", "SECRET")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        server.settimeout(0)
        local.bind(str(tmp_path / "socket"))
        local.listen()
        values = {
            "{host}": os.getpid(),
            "{secret}": secret,
            "{folder}": tmp_path,
            "{port}": server.getsockname()[1],
        }
        programs = {}
        for name in names:
            text = HOSTILE[name]
            for mark, value in values.items():
                text = text.replace(mark, str(value))
            programs[name] = text
        reward = UnitTestReward(memory_mb=128, files=32, processes=4, cpu_seconds=2, workers=2)
        rows = [row(**SQUARES)] * len(programs)
        scores = reward(["?"] * len(programs), [*programs.values()], rows)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert dict(zip(programs, scores, strict=True)) == dict.fromkeys(programs, 0.0)
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "socket"}
    assert "left-behind" not in processes()


def processes() -> list[str]:
    """The names of the processes of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            found.append(path.read_text().strip())
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
        "import threading as t\ndef f():\n  while True: t.Thread(target=f).start()\nf()",
        "while True: pass",
        "import signal as s\nfor n in (2, 15, 24, 1): s.signal(n, s.SIG_IGN)\nwhile True: pass",
        "import time\ntime.sleep(10**6)",
        "import os\nwhile True: os.write(1, b'x' * 100000)",
        "import sys\nsys.setrecursionlimit(10**9)\ndef g(n): return sorted([n], key=g)\ng(0)",
        "def g():\n  yield from g()\nlist(g())",
        "x = 10 ** 10 ** 9",
        "import os\nwhile True: os.open('.', 0)",
    ],
)
def test_what_does_not_end_is_ended_in_time(program: str) -> None:
    before = time.monotonic()
    limits = {"cpu_seconds": 1, "wall_seconds": 20.0}
    assert score(program, row(**SQUARES), **limits) == 0
    assert score(program, row(input_output={"inputs": [""], "outputs": ["1"]}), **limits) == 0
    assert time.monotonic() - before < 2 * (20 + 10) + 2


def test_shares_of_the_layouts_of_data_sets() -> None:
    """HumanEval, MBPP, APPS with inputs and with calls, CodeContests, LiveCodeBench, plain code."""
    square = "```python\ndef f(x):\n    return x * x\n```"
    check = "def check(candidate):\n    for x in (1, 2):\n        assert candidate(x) == x * x\n"
    assert score(square, row(test=check, entry_point="f", prompt="def f(x):")) == 1
    twice = "def f(x): return x + x"
    assert score(twice, row(**SQUARES)) == pytest.approx(2 / 3)
    assert score(twice, row(**SQUARES), all_or_nothing=True) == 0
    stops = "def f(x):\n    if x < 0: raise ValueError\n    return x * x"
    later = "assert f(2) == 4\nvalue = f(-3)\nassert value == 9\nassert f(0) == 0"
    assert score(stops, row(tests=later)) == pytest.approx(1 / 3)  # two were not reached
    reads = "print(int(input()) ** 2)"
    calls = {"fn_name": "f", "inputs": [[2], [3]], "outputs": [4, [9]]}
    leet = "class Solution:\n    def f(self, x):\n        return x * x"
    assert score(leet, row(input_output=calls)) == 1
    contests = {"public_tests": {"input": ["3"], "output": ["9"]}}
    contests["private_tests"] = {"input": ["5"], "output": ["26"]}
    assert score(reads, row(**contests)) == 0.5
    assert score(reads + "\n1 / 0", row(**contests)) == 0


def test_scripts_end_as_in_an_interpreter() -> None:
    programs = (
        *("print(1)\nexit()", "print(1)\nquit(0)", "import sys\nsys.__stdout__.write('1')"),
        "import atexit\natexit.register(print, 1)",
        "import sys\nprint(1)\nsys.stdout.flush()\nsys.stdout.close()",
        "import io, sys\nprint(1)\nsys.stdout = io.StringIO()",
    )
    assert [run_script(one, [""], QUICK)[0].end for one in programs] == ["exit 0"] * 6
    assert [run_script(one, [""], QUICK)[0].output.strip() for one in programs] == ["1"] * 6


def test_asserts_of_constants_are_no_tests() -> None:
    raises = "def f(x):\n    if x < 0: raise ValueError\n    return x * x"
    negative = "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False\n"
    assert score(raises, row(tests=negative)) == 1
    assert score("def f(x): return x", row(tests=negative)) == 0
    assert score("def f(x): return []", row(tests="for x in f(2):\n    assert x")) == 0
    assert score("def f(x): return 0", row(tests="assert True\nassert f(2) == 4")) == 0
    assert unit_tests({"tests": "f(1)\nassert True"}) is None


def test_what_cannot_be_sent_gives_no_score() -> None:
    changes = {"test_list": ["l = [3, 1]\nf(l)\nassert l == [1, 3]"]}
    assert unit_tests(changes) is None
    calls = "def f(x, n=0): return x(n)"
    assert score(calls, row(test_list=["assert f(lambda x: x + 1, 1) == 2"])) is None
    assert score("def f(x): return sum(x)", row(test_list=["assert f(range(3)) == 3"])) == 1
    tests = [{"input": "2", "output": "4", "testtype": "functional"}]
    given = {"public_test_cases": tests, "metadata": '{"func_name": "f"}'}
    found: Any = unit_tests(given)
    assert found.names == ("f",)


def test_objects_of_a_program_decide_nothing() -> None:
    program = (
        "class A:\n    def __contains__(self, x): return True\n    def __len__(self): return 3\n"
        "    def __iter__(self): return iter([1])\n"
        "    def startswith(self, x): return True\ndef f(x): return A()"
    )
    lies = ["assert 5 in f(2)", "assert len(f(2)) == 3", "assert f(3).startswith('q')"]
    assert score(program, row(test_list=lies)) == 0
    assert score(program, row(test_list=["assert len(f(2)) == 1 and 1 in f(2)"])) == 1


def test_rows_without_readable_tests_have_no_score() -> None:
    """None of these runs anything."""
    unreadable = [
        row(),
        row(test_list=[]),
        row(test_list=["f(2) == 4"]),  # checks nothing
        row(test_list=["assert f(2) =="]),
        row(test_list=["assert eval(f(2)) == 24"]),  # what the program gave would be run
        row(tests="import numpy as np\nassert f(2) == np.square(2)"),
        row(input_output={"inputs": ["1"], "outputs": []}),
        row(input_output="{"),
        {"id": "r:2", "prompt": TURNS, "reference": None},
    ]
    assert UnitTestReward()(["?"] * 9, ["def f(x): return 4"] * 9, unreadable) == [None] * 9
    assert unit_tests(SQUARES, "tests") is None
    assert UnitTestReward()([], [], []) == []


def test_names_of_the_program_in_tests() -> None:
    """A program's own ``set`` decides nothing, unless it is what is asked for."""
    tests: Any = unit_tests({"test_list": ["assert set(f(2)) == {1}", "assert math.ceil(f(1))"]})
    assert tests.remote == {"f": "f"}
    assert tests.code.startswith("import math\n")
    tests = unit_tests({"test_list": ["assert sum(10, 15) == 6"]})
    assert tests.remote == {"sum": "sum"}
    tests = unit_tests({"tests": "from solution import g as h\nassert h(1) == 1"})
    assert tests.remote == {"h": "g"}


def test_a_module_that_the_program_writes_is_none_of_its_tests() -> None:
    """In the one folder that both could see; its code would run beside the verdict."""
    forged = (
        "import os\nfor n in range(3, 9):\n  try: os.write(n, FORGED)\n  except OSError: pass\n"
        "os._exit(0)\n"
    )
    lines = b'{"site": 0, "held": true}\n{"site": 1, "held": true}\n{"ended": true}\n'
    program = (
        "import os\nos.chmod('.', 0o777)\n"
        f"text = {forged.replace('FORGED', repr(lines))!r}\n"
        "for name in ('statistics', 'colorsys', 'siftune'):\n"
        "  open(name + '.py', 'w').write(text + 'sqrt = lambda x: 9')\n"
        "  os.chmod(name + '.py', 0o777)\n"
        "def f(x): return 9\n"
    )
    code = "import statistics, colorsys\nassert f(1) == 1\nassert f(2) == 2\n"
    ran = run_tests(program, code, {"f": "f"}, QUICK)
    assert (ran.held, ran.failed, ran.is_ended) == (0, 2, True)


def test_what_a_test_does_with_the_program() -> None:
    """Exceptions, iterators, attributes; a failed assert is not the end."""
    program = (
        "class Box:\n    size = 3\n    def twice(self): return self.size * 2\n"
        "    def __contains__(self, x): return x == 3\n"
        "def bad(x): raise KeyError('no')\n"
        "def some(n): yield from range(n)\n"
        "def big(n): return 10 ** n\n"
        "def same(x): return x\n"
    )
    code = (
        "try:\n    bad(1)\nexcept KeyError as error:\n    assert 'no' in str(error)\n"
        "assert list(some(3)) == [0, 1, 2]\n"
        "assert 1 == 2\n"
        "box = Box()\nassert box.twice() == 6 and box == box\nassert Box() != Box()\n"
        "assert 3 in box\nassert 4 not in box\n"
        "for x in (1, 2):\n    assert same(x) == 2\n"
        "assert big(400) == 10 ** 400\n"
        "value = {1: (2.5, b'x'), 'a': {3}, None: [True, 1j, float('inf')]}\n"
        "assert same(value) == value and type(same((1,))) is tuple\n"
        "def test_later():\n    assert same('é\\ud800') == 'é\\ud800'\n"
        "assert same(nothing)\n"
    )
    names = {name: name for name in ("Box", "bad", "some", "big", "same", "nothing")}
    ran = run_tests(program, code, names, QUICK)
    assert (ran.sites, ran.held, ran.failed) == (12, 9, 3)  # 1 == 2, once in the loop, and no name
    assert ran.is_ended


def test_odd_results_of_calls_are_wrong_and_break_nothing() -> None:
    program = (
        "from decimal import Decimal\n"
        "deep = []\nfor _ in range(300): deep = [deep]\n"
        "def f(x): return [Decimal('sNaN'), deep, {10 ** 5000: 1}, 'a' * 2_000_000, object][x]\n"
    )
    calls = {"fn_name": "f", "inputs": [[0], [1], [2], [4], [3]], "outputs": [1, 1, 1, 1, 1]}
    assert score(program, row(input_output=calls)) == 0
    assert same_value((1, [2]), [1, [2]])
    assert same_value({1: 2}, {"1": 2})


def test_each_run_is_as_the_first() -> None:
    program = (
        "import os\nprint(os.listdir(), input(), sorted({'a', 'b'}, key=hash))\n"
        "open('left', 'w').close()\nif not os.fork():\n    import time\n    time.sleep(1000)\n"
    )
    first, second = run_script(program, ["x", "x"], QUICK)
    assert first == second
    assert first.output.startswith("[] x")
    again = run_script(program, ["x"], QUICK)
    assert again == [first]  # the order of sets is that of every run


def test_calls_of_a_function_in_processes_of_their_own() -> None:
    program = (
        "import os\nseen = []\n"
        "def f(x):\n    seen.append(x)\n    if x == 1: os._exit(0)\n    return len(seen)\n"
    )
    calls = [[0], [1], [2]]
    apart = call_function(program, "f", calls, QUICK, 30.0)
    assert [apart[0], apart[2]] == [(True, 1), (True, 1)]
    assert apart[1][0] is False
    together = call_function(program, "f", calls, QUICK, None)
    assert together[0] == (True, 1)
    assert [ok for ok, _ in together] == [True, False, False]


def test_the_program_in_a_completion() -> None:
    two = "```python\ndef f(x): return 1\n```\nUse it:\n```python\nprint(f(2))\n```\n```sh\nls\n```"
    assert program_in(two, names=["f"]) == "def f(x): return 1"
    assert program_in(two) == "print(f(2))"
    assert program_in("<think>```\n1\n```</think>x = 2") == "x = 2"
    assert program_in("```py\ncut = 1") == "cut = 1"
    asked = 'def f(x):\n    """Square."""\n'
    assert program_in("    return x * x", asked, ["f"]) == asked + "    return x * x"
    prompt = f"from typing import List\nimport the data\nimport numpy\n{asked}"
    written = "def f(x: List): return 1"
    assert program_in(written, prompt, ["f"]) == f"from typing import List\n{written}"
    solution = "class Solution:\n    def f(self, x: List): return 1"
    assert program_in(solution, "", ["f"]) == f"from typing import *\n{solution}"
    assert program_in("~~~\n```\ny = 1\n~~~") == "```\ny = 1"


def test_outputs_are_compared_by_words() -> None:
    assert same_output(" 1\n2 \n\n", "1 2")
    assert same_output("0.1000001", "0.1")
    assert not same_output("0.1001", "0.1")
    assert not same_output("1", "1 2")
    assert not same_output("1.0", "1")
    assert not same_output("nan", "0.5")


def test_values_are_of_built_in_types_whatever_is_written() -> None:
    class Text(str):
        __slots__ = ()

    assert type(read(written(Text("a"), int), int)) is str
    assert read('["r", 3]', lambda number: f"object {number}") == "object 3"
    for wrong in ('["x", 1]', "{}", '["l"]', '["F", "1", "0"]', "[" * 100_000):
        with pytest.raises(ValueError, match="no value"):
            read(wrong, int)


def test_every_limit_holds_here() -> None:
    assert probe.missing_limits() == {}


def test_the_probe_sees_a_process_without_limits(tmp_path: Path) -> None:
    """Each check that harms nothing, in a plain process of this user."""
    checks = (
        "[user(), file_system(), environment(), descriptors(), system_calls(), memory(), disk()]"
    )
    text = probe._PROBE.partition("print(json.dumps")[0] + f"print({checks})"
    text = text.replace('open(folder + "/probe", "w")', "None").replace("0x10000000", "0")
    with Path(os.devnull).open() as null:
        done = subprocess.run(
            [sys.executable, "-c", text],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={"A": "1"},
            pass_fds=[null.fileno()],
        )
    assert done.stdout.strip() == str([False] * 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "broken"),
    [
        ("user", "c.os.setresuid = c.os.setresgid = lambda *a: None"),
        (
            "network",
            "s._NUMBERS = s._NUMBERS.replace('socket 41 198', 'x 500 500'); c._NEW_NETWORK = 0",
        ),
        ("file_system", "c._LIBRARIES += ('/usr/bin',)"),
        ("environment", "c.os.environ['A'] = '1'"),
        ("descriptors", "l.os.closerange = lambda *a: None"),
        ("system_calls", "l.confine.__globals__['calls'].filter_system_calls = lambda: None"),
        ("memory", "limited(r.RLIMIT_AS)"),
        ("files", "limited(r.RLIMIT_NOFILE)"),
        ("processes", "limited(r.RLIMIT_NPROC)"),
        ("core", "limited(r.RLIMIT_CORE, (1, 1))"),
        ("cpu_time", "limited(r.RLIMIT_CPU)"),
        ("left_over", "l._end_all = lambda: None"),
        ("disk", "limited(r.RLIMIT_FSIZE); c.fresh_folder.__code__ = free.__code__"),
    ],
)
def test_the_probe_names_a_limit_that_is_taken_away(
    limit: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put back what holds each, one at a time, and no program is run."""
    before = (
        "import resource as r, sys; sys.path[:0] = [" + repr(run._PACKAGES) + "]\n"
        "from siftune.finetune.code_execution import confinement as c, launcher as l\n"
        "from siftune.finetune.code_execution import system_calls as s\n"
        "real = r.setrlimit\n"
        "def limited(kind, other=None):\n"
        "  r.setrlimit = lambda k, v: real(k, v if k != kind else other or r.getrlimit(k))\n"
        "def free(limits, user, is_first):\n"
        "  calls.mount('tmpfs', WORK, 'tmpfs', 0, f'mode=777,nr_inodes={limits[\"files\"] + 1}')\n"
    )
    monkeypatch.setattr(run, "_START", f"{before}{broken}\nl.main()")
    monkeypatch.setattr(probe, "_LIMITS", replace(probe._LIMITS, wall_seconds=20))
    assert limit in probe.missing_limits.__wrapped__()


def test_a_limit_that_does_not_hold_refuses_the_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    held: dict[str, str] = {"memory": "it could do otherwise"}
    monkeypatch.setattr(probe, "missing_limits", lambda network: held)
    with pytest.raises(UsageError, match=r"its memory is limited does not hold \(memory: .*allow"):
        UnitTestReward().load()
    with pytest.raises(UsageError, match="not run here"):
        UnitTestReward()(["?"], ["x"], [row(**SQUARES)])
    UnitTestReward(allow=("memory",)).load()
    held = {"namespaces": "Operation not permitted"}
    with pytest.raises(UsageError, match="run as root, or let plain users"):
        UnitTestReward().load()
    with pytest.raises(UsageError, match="no limit is called 'net'"):
        UnitTestReward(allow=("net",)).load()
    with pytest.raises(ValueError, match="memory_mb: expected 64 or more"):
        UnitTestReward(memory_mb=2)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="Linux on x86-64 or 64-bit ARM only"):
        UnitTestReward().load()


def test_what_ends_in_the_middle_of_a_line_was_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_START", 'import os; os.write(1, b\'{"case": 0}\\n{"ca\')')
    with pytest.raises(NotRunError, match="launcher"):
        run_script("", [""], QUICK)


def test_what_the_machine_failed_to_run_has_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Iterator[None]:
        raise NotRunError("launcher", "no memory")

    monkeypatch.setattr(run, "_launched", fails)
    monkeypatch.setattr(probe, "missing_limits", lambda network: {})
    assert score("def f(x): return 4", row(**SQUARES)) is None


WRITTEN = """Here is the reward:
```python
import os
seen = []

def reward(prompt, completion, row):
    seen.append(completion)
    if completion == "slow":
        while True: pass
    if completion == "exit":
        os._exit(0)
    odd = {"nan": float("nan"), "none": None, "text": "7", "huge": 10 ** 400, "yes": True}
    if completion in odd:
        return odd[completion]
    return len(seen) + len(prompt) + row["level"] / 2 + len(row["prompt"])
```
"""


def test_a_reward_that_a_model_wrote_is_a_number_or_none(tmp_path: Path) -> None:
    file = tmp_path / "written.md"
    file.write_text(WRITTEN)
    reward = CodeReward(str(file), seconds=5.0, memory_mb=128)
    said = ["a", "nan", "none", "text", "huge", "yes", "exit", "b"]
    found = reward(["??"] * 8, said, [row(level=3)] * 8)
    assert found == [5.5, None, None, None, None, 1.0, None, 5.5]  # 1 + 2 + 3/2 + 1, each time
    assert reward([], [], []) == []


@pytest.mark.slow
def test_a_slow_reward_function_costs_its_own_completion_alone(tmp_path: Path) -> None:
    file = tmp_path / "written.md"
    file.write_text(WRITTEN)
    reward = CodeReward(str(file), seconds=2.0)
    assert reward(["??"] * 2, ["slow", "a"], [row(level=3)] * 2) == [None, 5.5]


def test_what_the_machine_did_not_run_has_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def unable(*arguments: Any) -> None:
        given.append(arguments)
        raise NotRunError("memory", "no")

    for module, called in (("code_tests", "run_tests"), ("code_reward", "call_function")):
        where = f"siftune.finetune.rewards.{module}"
        monkeypatch.setattr(f"{where}.{called}", unable)
        monkeypatch.setattr(f"{where}.check_limits", lambda allow: None)
        monkeypatch.setattr(f"{where}.needs_network", lambda allow: False)
    tests = {"extra": {"test_list": ["assert f(2) == 2"]}}
    assert UnitTestReward()(["?"], ["def f(x): return x"], [tests]) == [None]
    file = tmp_path / "written.md"
    file.write_text(WRITTEN)
    assert CodeReward(str(file))(["?"], ["a"], [row(level=3)]) == [None]
    broken = "siftune.finetune.rewards.code_reward.call_function"
    monkeypatch.setattr(broken, lambda *_: (_ for _ in ()).throw(ProgramError("SyntaxError")))
    with pytest.raises(UsageError, match=r"written\.md does not run: SyntaxError"):
        CodeReward(str(file))(["?"], ["a"], [row(level=3)])
    *_, limits, seconds = given[1]  # for one completion, and one second more to stop it by force
    assert (seconds, limits.cpu_seconds, limits.memory_mb) == (2.0, 3, 512)


def test_a_file_that_is_no_reward_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "written.py"
    file.write_text("def reward(:\n")
    with pytest.raises(UsageError, match=r"written\.py does not run: SyntaxError"):
        CodeReward(str(file)).load()
    file.write_text("def other(prompt, completion, row): return 1")
    with pytest.raises(UsageError, match=r"written\.py: expected a function reward, got none"):
        CodeReward(str(file)).load()
    file.write_text("def reward(:\n")
    with pytest.raises(UsageError, match="expected a Python file with a function reward"):
        CodeReward(str(tmp_path / "none.py"))
    with pytest.raises(ValueError, match="function: expected the name"):
        CodeReward(str(file), function="a b")
