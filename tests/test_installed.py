"""As installed: all packages, beside others of our folders' names, and others' components."""

from __future__ import annotations

import json
import pickle
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from siftune import train
from siftune.curate.cli import curate
from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.finetune import cli
from siftune.finetune.core import methods
from tests import shadowing

ROOT = Path(__file__).parents[1]
METADATA = "Metadata-Version: 2.1\nName: siftune-shout\nVersion: 1.0\n"
CHATS = pl.DataFrame(
    {"messages": [[turn("user", "Hey!"), turn("assistant", "Yes!!")]]}, schema={"messages": TURNS}
)
SCORER = '''\
"""How loud a row is."""

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

__all__ = ["Shout"]


@dataclass(frozen=True)
class Shout:
    """Exclamation marks of a row, times ``factor``."""

    factor: int = 1

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"shout": pl.Int64}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Count in each conversation."""
        text = batch["messages"].list.eval(pl.element().struct.field("content")).list.join("")
        return pl.DataFrame({"shout": text.str.count_matches("!").cast(pl.Int64) * self.factor})
'''

TRAINER = '''\
"""Distil a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from siftune import TrainResult

__all__ = ["Distil"]


@dataclass(frozen=True)
class Distil:
    """Distil.

    Options:
        factor: How much.
    """

    factor: int = 1

    reads: ClassVar = "rows"

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train."""
        out.mkdir()
        return TrainResult(out, len(rows.read_text().splitlines()), {"factor": self.factor})

    def check_options(self) -> None:
        """All are right."""
'''


def test_packages_of_our_folders_names_are_no_obstacle(tmp_path):
    work, others = tmp_path / "work", tmp_path / "site-packages"
    work.mkdir()
    others.mkdir()
    shadowing.fill(work)
    shadowing.stubs(others, "of another distribution was imported")
    ran = list(shadowing.check(Path(sys.executable), work, f"{others}:{ROOT}"))
    assert len(ran) == 4
    assert {"by-module", "by-script", "by-pytest"} < {path.name for path in work.iterdir()}


@pytest.mark.parametrize("name", shadowing.NAMES)
def test_a_folder_of_ours_is_not_imported_under_its_own_name(name):
    with pytest.raises(ImportError, match=f"import siftune.{name}: this folder"):
        runpy.run_path(str(ROOT / name / "__init__.py"), run_name=name)


def of_setup(line: str, *words: str) -> str:
    """What ``line`` prints after `setup.py` was run, ``given`` being what it gives to `setup`."""
    script = (
        "import json, pathlib, runpy, sys, setuptools; given = {}; setuptools.setup = given.update"
    )
    script += f"; names = runpy.run_path('setup.py'); {line}"
    command = [sys.executable, "-c", script, *words]  # setuptools is imported before distutils
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_build_takes_every_folder_with_modules():
    given = json.loads(of_setup("print(json.dumps(given, default=str))"))
    folders = {
        path.parent
        for path in ROOT.glob("*/**/*.py")
        if path.parts[len(ROOT.parts)] in (*shadowing.NAMES, "siftune")
    }
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(given["packages"]) == {
        name if name.startswith("siftune") else f"siftune.{name}" for name in names
    }
    assert given["package_dir"] == {f"siftune.{name}": name for name in shadowing.NAMES}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package `siftune_shout` with these entry points on the path."""

    def forget():
        for cached in (
            registry._offered,
            registry._note_left_out,
            registry.names,
            registry.usable,
        ):
            cached.cache_clear()

    def put(entry_points, code):
        info = tmp_path / "siftune_shout-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA)
        (info / "entry_points.txt").write_text(entry_points)
        (tmp_path / "siftune_shout.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "siftune_shout", raising=False)
        forget()

    yield put
    monkeypatch.undo()
    forget()


def test_a_scorer_of_an_installed_package_is_found_by_its_name(install):
    install("[curate.scorers]\nshout = siftune_shout:Shout\n", SCORER)
    assert "shout" in registry.names("curate.scorers")
    scorer = registry.build("curate.scorers", "shout", {"factor": 2})
    assert scorer(CHATS)["shout"].to_list() == [6]


def test_a_trainer_of_an_installed_package_is_a_command_and_a_function(
    install, tmp_path, monkeypatch
):
    entry_points = "[finetune.trainers]\ndistil = siftune_shout:Distil\n"
    install(entry_points, TRAINER)
    found = methods._trainers()
    assert found["distil"] == "distil"
    for module in (methods, cli, train):
        monkeypatch.setattr(module, "TRAINERS", found)
    assert methods.reads_of("distil") == "rows"
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}\n{}\n")
    words = ["distil", str(rows), "--out", str(tmp_path / "m"), "--factor", "3"]
    done = CliRunner().invoke(cli.finetune, words, catch_exceptions=False)
    assert "2 rows; factor 3" in done.output
    assert "How much." in CliRunner().invoke(cli.finetune, ["distil", "--help"]).output
    assert train.distil(rows, out=tmp_path / "n", factor=2).metrics == {"factor": 2}


def test_no_folder_of_its_name_hides_an_editable_install(tmp_path):
    """As beside a clone, whose folder has the name and holds no package."""
    (tmp_path / "siftune").mkdir()
    finder = of_setup("print(names['FINDER'].format(module=sys.argv[1]))", "siftune/__init__.py")
    code = "import sys; sys.path.insert(0, '')\n{}\nimport siftune; print(siftune.__spec__.origin)"
    found = [
        subprocess.run(
            [sys.executable, "-S", "-E", "-c", code.format(more)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        for more in ("", finder)
    ]
    assert found[0].stdout == "None\n"
    assert "siftune/__init__.py" in found[1].stderr  # it is looked for, and not there


@pytest.mark.slow
def test_an_editable_install_has_its_finder_and_a_build_nothing_of_an_earlier_one(tmp_path):
    for name in ("siftune", *shadowing.NAMES):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    shutil.copy(ROOT / "setup.py", tmp_path)
    deleted = tmp_path / "build/lib/siftune/curate/deleted.py"
    deleted.parent.mkdir(parents=True)
    deleted.touch()
    code = "from setuptools import build_meta as m; m.build_wheel('b'); m.build_editable('e')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    built, editable = (next(tmp_path.glob(f"{name}/*.whl")) for name in "be")
    assert "siftune/curate/__init__.py" in zipfile.ZipFile(built).namelist()
    assert "siftune/curate/deleted.py" not in zipfile.ZipFile(built).namelist()
    held = zipfile.ZipFile(editable)
    assert held.read("_siftune_editable.pth") == b"import _siftune_editable\n"
    assert str(tmp_path / "siftune/__init__.py") in held.read("_siftune_editable.py").decode()


OTHERS = """\
[curate.scorers]
length = siftune_shout:Shout
loud = siftune_shout:loud
gone = siftune_gone:Gone

[curate.formats]
lacking = siftune_shout:Shout

[finetune.losses.pair]
kto = siftune_shout:Shout
broken = siftune_shout:Broken

[finetune.trainers]
absent = siftune_gone:Absent
"""
LOUD = """
def loud(response: str, factor: int = 1) -> int:
    return factor * response.count("!")
"""


def test_a_component_of_a_package_that_is_broken_or_takes_our_name_is_left_out(install, capsys):
    install(OTHERS, SCORER + LOUD)
    assert registry.find("curate.scorers", "loud").__name__ == "loud"
    assert "'length'" not in capsys.readouterr().err  # which nobody has asked for yet
    for group, lost in (("curate.formats", "lacking"), ("finetune.losses.pair", "broken")):
        assert set(registry.names(group)) - set(registry.usable(group)) == {lost}
    assert registry.find("curate.scorers", "length").__name__ == "Length"
    assert "kto" not in registry.names("finetune.losses.pair")
    assert "absent" in methods._trainers()
    said = capsys.readouterr().err
    for line in (
        "'length' of the package siftune-shout is left out: siftune has a component of that name",
        "'kto' of the package siftune-shout is left out: siftune has a component of that name",
        "'lacking' of the package siftune-shout cannot be used (lacking: the class has no 'kind', "
        "which its group needs): it is left out",
        "'broken' of the package siftune-shout cannot be imported (AttributeError: module",
    ):
        assert line in said
    with pytest.raises(UsageError, match=r"'gone' of the package siftune-shout cannot be imported"):
        registry.find("curate.scorers", "gone")
    listed = CliRunner().invoke(curate, ["score", "rows.jsonl", "--help"]).output
    assert "'gone' of the package siftune-shout" in " ".join(listed.split())
    made = registry.build("curate.scorers", "loud", {"factor": 2})
    assert pickle.loads(pickle.dumps(made))(CHATS)["loud"].to_list() == [4]


def test_an_editable_install_removes_compiled_code_that_would_hide_it(tmp_path):
    """pip removes what it installed, and left loops that earlier versions compiled there."""
    left, used, installed = (tmp_path / name / "siftune" for name in ("left", "used", "installed"))
    for folder in (left, used, installed):
        (folder / "__pycache__").mkdir(parents=True)
        (folder / "curate/__pycache__").mkdir(parents=True)
        loop = "siftune.curate.text.utf8.width-1.py311-0a.1"
        for name in (f"{loop}.nbi", f"{loop}.nbc", f"{loop}.lock", "code.cpython-311.json"):
            (folder / "__pycache__" / name).touch()
    (used / "notes.txt").touch()
    (installed / "__init__.py").touch()
    refuse = "; ".join(
        [
            "remove = names['remove_leftover']",
            "remove(pathlib.Path(sys.argv[1]))",
            "remove(pathlib.Path(sys.argv[2]))",
            "\ntry: remove(pathlib.Path(sys.argv[3]))\nexcept SystemExit as error: print(error)",
        ]
    )
    said = of_setup(refuse, str(left), str(installed), str(used))
    assert not left.exists()
    assert len(list(installed.glob("__pycache__/*"))) == 4
    assert [path.name for path in used.rglob("*")] == ["notes.txt"]
    assert said.strip() == f"{used} would hide this install: remove it, or move what is in it"
