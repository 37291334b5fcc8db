"""Small commands of curation give the same without what only Linux and macOS have."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from siftune.curate.files.lock_files import acquire_lock, open_lock_file
from tests import small_commands

ROOT = Path(__file__).parents[1]


def _run(folder: Path, *words: str) -> dict[str, object]:
    """What the small commands print and write in ``folder``, run in a process of their own."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "SIFTUNE_STAGE_CACHE": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_small_commands_do_the_same_without_the_modules_that_windows_lacks(tmp_path, monkeypatch):
    script = small_commands.__file__
    windows = _run(tmp_path / "windows", "-X", "warn_default_encoding", script, "--windows")
    # a process of its own: what earlier tests loaded and set would change the help
    expected = _run(tmp_path / "here", script)
    assert windows == expected
    assert [
        line for line, result in expected.items() if isinstance(result, list) and result[0]
    ] == []
    monkeypatch.chdir(tmp_path / "here")
    assert len(list(small_commands.written())) > 10


def test_without_any_locks_every_process_gets_one(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with os.fdopen(open_lock_file(tmp_path / "lock")) as file:
        assert acquire_lock(file.fileno())


def test_a_lock_that_fails_is_an_error(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with (
        os.fdopen(open_lock_file(tmp_path / "lock")) as file,
        pytest.raises(OSError, match="no locks"),
    ):
        acquire_lock(file.fileno())
