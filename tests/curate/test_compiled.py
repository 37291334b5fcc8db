"""Compiled loops: found again on disk, and made anew when anything they are made from changes."""

from __future__ import annotations

import fcntl
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from numba.core import config, types

from siftune.curate.core import code_hash
from siftune.curate.core.progress import announcing
from siftune.curate.native import jit, numba_cache

OUTER = """
from siftune.curate.native.jit import compiled
from loops.inner import (
    more,
)
from loops import facts

@compiled()
def outer(x):
    return more(x) * facts.TIMES
"""
INNER = """
from siftune.curate.native.jit import compiled

@compiled(inline="always")
def more(x):
    return x + 1
"""
FACTS = "from loops.deep.facts import TIMES\n"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of loops in a folder of its own."""
    folder = tmp_path / "loops"
    (folder / "deep").mkdir(parents=True)
    texts = {"outer": OUTER, "inner": INNER, "facts": FACTS, "deep/facts": "TIMES = 10\n"}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("SIFTUNE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    yield folder
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "loops"]:
        del sys.modules[name]
    code_hash.file_hash.cache_clear()
    importlib.invalidate_caches()


def fresh() -> Any:
    """`outer` as a new process would have it."""
    forget()
    module: ModuleType = importlib.import_module("loops.outer")
    return module.outer


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    for stale in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        stale.unlink()  # Python itself goes by the second of the change


def was_found(loop: Any) -> bool:
    return bool(loop.stats.cache_hits) and not loop.stats.cache_misses


def test_what_was_compiled_once_is_found_again(loops: Path) -> None:
    first, again = fresh(), None
    assert first(1) == 20
    assert not was_found(first)
    again = fresh()
    assert again(1) == 20
    assert was_found(again)
    assert list((loops / "__pycache__").glob("loops.outer.*.nbc"))


def test_a_called_loop_is_compiled_with_its_caller_and_by_itself_where_python_calls_it(
    loops: Path,
) -> None:
    edit(loops / "inner.py", '(inline="always")', "()")
    edit(loops / "inner.py", "return", 'if x < 0:\n        raise ValueError("below 0")\n    return')
    outer = fresh()
    assert outer(1) == 20
    with pytest.raises(ValueError, match="below 0"):
        outer(-1)
    assert not list((loops / "__pycache__").glob("loops.inner.*.nbc"))
    assert importlib.import_module("loops.inner").more(1) == 2
    assert len(list((loops / "__pycache__").glob("loops.inner.*.nbc"))) == 1


@pytest.mark.parametrize(
    ("file", "old", "new", "result"),
    [
        ("inner.py", "x + 1", "x + 2", 30),
        ("deep/facts.py", "10", "11", 22),
        ("outer.py", "more(x)", "more(x + 1)", 30),
    ],
)
def test_an_edit_of_anything_it_is_made_from_is_seen(
    file: str, old: str, new: str, result: int, loops: Path
) -> None:
    assert fresh()(1) == 20
    edit(loops / file, old, new)
    edited = fresh()
    assert edited(1) == result
    assert not was_found(edited)
    edit(loops / file, new, old)
    restored = fresh()
    assert restored(1) == 20
    assert was_found(restored)


def test_an_edit_of_another_file_of_the_package_compiles_nothing_anew(loops: Path) -> None:
    assert fresh()(1) == 20
    (loops / "stranger.py").write_text("TIMES = 1\n")
    again = fresh()
    assert again(1) == 20
    assert was_found(again)


def blocked(loops: Path) -> None:
    """Take away the package's own folder; permissions would not stop root."""
    (loops / "__pycache__").write_text("")


def test_a_package_that_cannot_be_written_is_kept_in_the_users_folder(
    loops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    blocked(loops)
    assert fresh()(1) == 20
    assert list(loops.parent.glob("users/siftune/code/loops.outer.*.nbc"))
    again = fresh()
    assert again(1) == 20
    assert was_found(again)


def test_an_installed_package_is_left_as_it_was_installed(loops: Path) -> None:
    (loops.parent / "loops-1.0.dist-info").mkdir()
    assert fresh()(1) == 20
    assert list(loops.parent.glob("users/siftune/code/loops.outer.*.nbc"))
    assert not list((loops / "__pycache__").glob("*.nb?"))
    assert not list((loops / "__pycache__").glob("*.lock"))
    again = fresh()
    assert again(1) == 20
    assert was_found(again)


def test_what_came_with_a_package_is_found_where_nothing_can_be_written(
    loops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fresh()(1) == 20

    def refuse(*given: object, **named: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "mkdir", refuse)
    again = fresh()
    assert again(1) == 20
    assert was_found(again)
    assert again(0.5) == 15  # compiled, and not kept
    last = fresh()
    assert last(0.5) == 15
    assert not was_found(last)


def test_the_folder_that_numba_is_told_is_used(
    loops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "told"))
    assert fresh()(1) == 20
    assert list((tmp_path / "told").glob("loops.outer.*.nbc"))
    assert not list((loops / "__pycache__").glob("*.nbc"))


def test_each_kind_of_arguments_has_files_of_its_own(loops: Path) -> None:
    outer = fresh()
    assert (outer(1), outer(0.5)) == (20, 15)
    files = sorted((loops / "__pycache__").glob("loops.outer.*.nbc"))
    assert len({file.name.split(".py")[1] for file in files}) == 2
    for file in files:  # what another process writes for other arguments does no harm
        file.unlink()
        again = fresh()
        assert (again(1), again(0.5)) == (20, 15)


def test_a_constant_in_a_call_is_no_kind_of_its_own() -> None:
    @jit.compiled()
    def called(x: int, y: int) -> int:
        return x + y

    @jit.compiled()
    def calling(x: int) -> int:
        return int(called(x, 0) + called(x, 2) + called(1, x))

    assert calling(3) == 3 + 5 + 4
    template, *_ = called.get_call_template((types.int64, types.int64), {})  # type: ignore[attr-defined]
    assert len(template.cases) == 1


def test_old_files_do_not_pile_up(loops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_cache, "_MAX_FILES", 6)
    made = []
    for times in range(10, 16):
        fresh()(1)
        made.append({path.name for path in (loops / "__pycache__").glob("*.nb?")})
        edit(loops / "deep/facts.py", str(times), str(times + 1))
    assert max(map(len, made)) <= 6
    edit(loops / "deep/facts.py", "16", "15")
    newest = fresh()
    assert newest(1) == 30
    assert was_found(newest)


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from loops.outer import outer
print([outer(kind(3)) for kind in ({})])
print(int(outer.stats.cache_misses.total()), "numba.np.linalg" in sys.modules)
"""


def run(loops: Path, kinds: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN.format(kinds), str(loops.parent)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_of_processes_that_start_together_one_compiles_and_the_others_wait(loops: Path) -> None:
    edit(loops / "outer.py", "return more(x)", f"return {' + '.join(['more(x)'] * 40)}")
    outs = [process.communicate()[0] for process in [run(loops, "int,") for _ in range(2)]]
    lasts = sorted(out.splitlines()[1] for out in outs)
    assert lasts == ["0 False", "1 True"]  # whoever waits does not even set up the compiler
    assert not list((loops / "__pycache__").glob("*.lock"))


def test_a_process_that_waits_for_a_stopped_one_goes_on_by_itself(
    loops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fresh()(1) == 20
    [data] = (loops / "__pycache__").glob("loops.outer.*.nbc")
    [index] = (loops / "__pycache__").glob("loops.outer.*.nbi")
    name = index.stem
    data.unlink()
    index.unlink()
    monkeypatch.setattr(numba_cache._LOCKS, "seconds_left", 0.1)
    with (loops / "__pycache__" / f"{name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        again = fresh()
        assert again(1) == 20
    assert not was_found(again)


def test_compiling_that_takes_long_is_announced(
    loops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(numba_cache, "_ANNOUNCE_AFTER", 0.01)
    monkeypatch.setattr(numba_cache, "_LOCKS", numba_cache._Locks())
    with announcing(lines.append):
        assert fresh()(1) == 20
        assert fresh()(1) == 20
    assert lines == ["compiling loops for this machine, once: later runs load them"]


@pytest.mark.slow  # each kind of arguments has files of its own, see above
def test_processes_that_start_together_do_not_mix_up_what_they_make(loops: Path) -> None:
    kinds = ["int, float, complex", "complex, float, int"]
    both = [run(loops, kind) for kind in kinds]
    for process, expected in zip(both, ("[40, 40.0, (40+0j)]", "[(40+0j), 40.0, 40]"), strict=True):
        out, _ = process.communicate()
        assert out.splitlines()[0] == expected
    out, _ = run(loops, "float, int, complex").communicate()
    assert out.splitlines() == ["[40.0, 40, (40+0j)]", "0 False"]  # and nothing was set up
