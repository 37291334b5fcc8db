"""A scorer, selector, format, loss, reward or trainer is one file and its test: nothing is edited.

`tests/added` has one of each, and the tests of each.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from siftune.curate.core import registry
from siftune.finetune.core import methods

ROOT = Path(__file__).parents[1]
ADDED = Path(__file__).with_name("added")
NEW = {
    "curate.scorers": "vowels",
    "curate.selectors": "source_is",
    "curate.formats": "riddle",
    "finetune.losses.pair": "square_gap",
    "finetune.rewards": "no_digits",
    "finetune.trainers": "copy_model",
}
OF_ALL = ("tests/contracts", "tests/oracles/test_registry.py", "tests/oracles/test_mutations.py")
OTHERS = ("tests/api/test_plain_calls.py", "tests/finetune/test_defaults.py")


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The packages of components with the new files in them."""
    for group in NEW:
        package = importlib.import_module(f"siftune.{group}")
        folder = str(ADDED / group.replace(".", "/"))
        monkeypatch.setattr(package, "__path__", [*package.__path__, folder])
    registry.names.cache_clear()
    yield
    for group, name in NEW.items():
        sys.modules.pop(f"siftune.{group}.{name}", None)
    registry.names.cache_clear()


@pytest.mark.usefixtures("packages")
def test_a_new_file_is_found_by_its_group() -> None:
    for group, name in NEW.items():
        assert name in registry.names(group)
        assert registry.summary(group, name).endswith(".")
        assert registry.source_of(group, name).is_relative_to(ADDED)
        assert registry.find(group, name).__module__ == f"siftune.{group}.{name}"
    assert methods.family_of("square_gap") == "finetune.losses.pair"
    assert methods._trainers()["copy_model"] == "copy_model"
    assert registry.declared("finetune.trainers", "copy_model") == {"reads": "rows"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_of_each_is_added_to_a_copy_and_keeps_the_contracts(tmp_path: Path) -> None:
    kept = shutil.ignore_patterns("__pycache__", "added")
    for name in ("curate", "finetune", "pipelines", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=kept)
        if (ADDED / name).is_dir():
            shutil.copytree(ADDED / name, tmp_path / name, dirs_exist_ok=True)
    shutil.copytree(ROOT / "siftune", tmp_path / "siftune", symlinks=True)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    own = [str(path.relative_to(ADDED)) for path in sorted(ADDED.glob("tests/*/test_*.py"))]
    assert len(own) == len(NEW)
    called = " or ".join((*NEW.values(), "every", "test_there", "each_bug", "kill"))
    for tests, only in ((own, ""), ([*OF_ALL, *OTHERS], called)):
        words = [*("-m", "pytest", "-q", "-p", "no:cacheprovider"), *tests, "-k", only]
        loops = str(ROOT / "siftune" / "__pycache__")  # compiled from the same code
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": loops}
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
