"""Builds what is published and tries it in an empty environment: `python -m tests.release_check`.

1. An sdist of the tracked files, and a wheel of the sdist: every module, `py.typed`, templates and
   the licence are in them, tests are not. A tree whose links are text files, as git makes them on
   Windows, gives the same wheel.
2. The wheel in an environment of its own, with the versions of constraints.txt and the base
   dependencies alone: a tour from an empty folder, then one with packages of our folders' names
   there and in site-packages.
3. The same packages in the way of an editable install of the tree without links.

It needs the package index that pip is configured for, and no other network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import shadowing, small_commands

ROOT = Path(__file__).parents[1]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
DATA = {
    *("siftune/py.typed", "siftune/method_types.pyi", "siftune/pipelines/templates/report.html"),
    *(f"siftune/pipelines/recipes/{path.name}" for path in (ROOT / "pipelines/recipes").glob("*")),
    *(f"siftune/curate/recipes/{path.name}" for path in (ROOT / "curate/recipes").glob("*")),
}
TOUR = """\
--version
--help
curate --help
finetune --help
curate run small.yaml --out run
curate explain run rows:1
curate export run --format alpaca --out export
"""
NOTEBOOK = """\
from importlib.metadata import version

import siftune

assert siftune.__version__ == version("siftune")
rows = siftune.read("rows.jsonl").score("length").dedup("exact")
rows = rows.select("top_fraction", by="length_chars", fraction=0.5)
print(f"{rows.kept.height} rows kept, {rows.dropped.height} dropped")
"""


def main() -> None:
    """Run the checks; the first that fails ends it with an error."""
    with TemporaryDirectory(prefix="siftune-release-") as folder:
        work = Path(folder)
        tree, plain = _copy(work / "tree", links=True), _copy(work / "plain", links=False)
        wheel = _build(tree, work / "dist")
        _step("contents", _check_contents(work / "dist", wheel))
        other = _wheel(plain, work / "plain-dist")
        _expect(_names(other), _names(wheel), "the wheel of the tree without links")
        _step("wheel of a tree without links", "the same")
        python = _environment(work / "env")
        _install(python, "-c", str(ROOT / "constraints.txt"), str(wheel))
        _run(python, *PIP, "check")
        _step("tour", _tour(python, work / "tour"))
        _install(python, "-c", str(ROOT / "constraints.txt"), "pytest", "setuptools")
        _obstruct(python)
        _step("other packages of our names, wheel", _shadowed(python, work / "shadowed"))
        _run(python, *PIP, "uninstall", "--yes", "siftune")
        _leave_nothing(python)
        _install(python, "--no-deps", "--no-build-isolation", "--editable", str(plain))
        _step("other packages of our names, editable", _shadowed(python, work / "shadowed-2"))


def _copy(target: Path, links: bool) -> Path:
    """The tracked files; without ``links``, a link is a text file that holds its target."""
    listed = _run(Path("git"), "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink() and not links:
            copy.write_text(os.readlink(source), encoding="utf-8")  # noqa: PTH115
        else:
            shutil.copyfile(source, copy, follow_symlinks=False)
    return target


def _build(tree: Path, dist: Path) -> Path:
    """The wheel, made of the sdist; both in ``dist``."""
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    dist.mkdir()
    _run(Path(sys.executable), "-c", code, str(dist), cwd=tree)
    (sdist,) = dist.glob("*.tar.gz")
    return _wheel(sdist, dist)


def _wheel(source: Path, dist: Path) -> Path:
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir")
    _run(Path(sys.executable), *PIP, "wheel", *options, str(dist), str(source))
    (wheel,) = dist.glob("*.whl")
    return wheel


def _check_contents(dist: Path, wheel: Path) -> str:
    """Compare the wheel's and the sdist's files with the tracked ones."""
    folders = {"siftune": "siftune", **{name: f"siftune/{name}" for name in shadowing.NAMES}}
    modules = {
        f"{target}/{path.relative_to(ROOT / name).as_posix()}"
        for name, target in folders.items()
        for path in map(Path, _tracked(name))
    }
    files = _names(wheel)
    about = {name for name in files if ".dist-info/" in name}
    _expect(files - about, modules | DATA, "the wheel")
    kinds = {name.partition(".dist-info/")[2] for name in about}
    _expect(
        kinds,
        {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"},
        "the wheel's metadata",
    )
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
        wrong = [member.name for member in archive if member.issym() or "/tests/" in member.name]
    _expect(wrong, [], "links and tests in the sdist")
    needed = {path.relative_to(ROOT).as_posix() for name in folders for path in _tracked(name)}
    needed |= {"LICENSE", "README.md", "pyproject.toml", "setup.py", "constraints.txt"}
    _expect(needed - held, set(), "what the sdist lacks")
    return f"{len(modules)} modules"


def _tracked(folder: str) -> Iterator[Path]:
    """The tracked modules of a folder."""
    for name in _run(Path("git"), "ls-files", "-z", folder, cwd=ROOT).split("\0"):
        if name.endswith(".py"):
            yield ROOT / name


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _environment(folder: Path) -> Path:
    """Python of a new environment that holds pip and nothing else."""
    venv.create(folder, with_pip=True)
    return folder / "bin/python"


def _install(python: Path, *words: str) -> None:
    _run(python, *PIP, "install", *words)


def _tour(python: Path, folder: Path) -> str:
    """Run the tour and the notebook's lines in ``folder``, with nothing else on the path."""
    folder.mkdir()
    with contextlib.chdir(folder):
        small_commands.write_source()
    for line in TOUR.splitlines():
        _run(python.parent / "siftune", *line.split(), cwd=folder)
    return _run(python, "-c", NOTEBOOK, cwd=folder).strip()


def _obstruct(python: Path) -> None:
    """Put packages of our folders' names into the environment."""
    shadowing.stubs(_site_packages(python), "of another distribution was imported")


def _leave_nothing(python: Path) -> None:
    """Check that nothing is left of the wheel, then leave what earlier versions left there."""
    folder = _site_packages(python) / "siftune"
    _expect(folder.exists(), False, "files beside the modules after pip uninstall")
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__/siftune.curate.text.utf8.width-1.py311-0a.1.nbc").touch()


def _site_packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(_run(python, "-c", code).strip())


def _shadowed(python: Path, folder: Path) -> str:
    folder.mkdir()
    shadowing.fill(folder)
    return f"{len(list(shadowing.check(python, folder)))} commands"


def _run(program: Path, *words: str, cwd: Path | None = None) -> str:
    """Standard output of a command; its output is shown where it fails."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SIFTUNE"))
    }
    done = subprocess.run(
        [str(program), *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{program} {' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def _expect(found: object, expected: object, what: str) -> None:
    if found == expected:
        return
    if isinstance(found, set) and isinstance(expected, set):
        sys.exit(
            f"{what}: {sorted(expected - found)} are missing, {sorted(found - expected)} too much"
        )
    sys.exit(f"{what}: expected {expected}, got {found}")


def _step(name: str, result: str) -> None:
    print(f"{name}: {result}", flush=True)


if __name__ == "__main__":
    main()
