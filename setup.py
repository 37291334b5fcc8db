"""The folders of the package: `curate/` is installed as `siftune.curate`, and so are the others.

In the checkout `siftune/curate` is a link to the folder beside it. Builds do not need the links,
which git on Windows and ZIP files turn into text files (CONTRIBUTING.md, "One package").
"""

import shutil
import sysconfig
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

FOLDERS = ("curate", "finetune", "pipelines")


def inside(*folders: str) -> list[str]:
    """Names of these packages and of those in them."""
    return find_packages(include=[pattern for one in folders for pattern in (one, f"{one}.*")])


class BuildPy(build_py):
    """A build that holds the modules of this tree alone."""

    def run(self):
        """Remove what an earlier build left: a component deleted since would be installed."""
        shutil.rmtree(Path(self.build_lib, "siftune"), ignore_errors=True)
        super().run()


FINDER = '''\
"""Lets no folder `siftune` that holds no package, such as a clone, hide the editable install."""

import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        found = PathFinder.find_spec(name) if name == "siftune" else None
        folder_only = found is not None and found.origin is None
        return spec_from_file_location(name, {module!r}) if folder_only else None


sys.meta_path.insert(0, Finder)
'''


class EditableWheel(editable_wheel):
    """An editable install that no folder called `siftune` hides.

    The finder of setuptools comes after that of `sys.path`, which takes any folder for a package.
    """

    def run(self):
        """Remove compiled code of an earlier version, then install."""
        remove_leftover(Path(sysconfig.get_path("purelib"), "siftune"))
        super().run()

    def _select_strategy(self, *args):
        return WithFinder(super()._select_strategy(*args))


class WithFinder:
    """How setuptools makes an editable install, with `FINDER` beside."""

    def __init__(self, made):
        self.made = made

    def __enter__(self):
        self.made.__enter__()
        return self

    def __exit__(self, *error):
        return self.made.__exit__(*error)

    def __call__(self, wheel, *args):
        """Write the wheel of the install, and the finder into it."""
        self.made(wheel, *args)
        module = Path(__file__).resolve().parent / "siftune/__init__.py"
        wheel.writestr("_siftune_editable.py", FINDER.format(module=str(module)))
        wheel.writestr("_siftune_editable.pth", "import _siftune_editable\n")


def remove_leftover(folder):
    """Remove compiled code in site-packages, where earlier versions kept it.

    pip leaves it there; a folder without ``__init__.py`` is imported in place of this tree.
    """
    if not folder.is_dir() or (folder / "__init__.py").exists():
        return
    ours = (f"{folder.name}.*.nb[ci]", f"{folder.name}.*.lock", "code.*.json", "*.pyc")
    for path in (path for name in ours for path in folder.glob(f"**/__pycache__/{name}")):
        path.unlink()
    for path in sorted((folder, *folder.glob("**/*")), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    if folder.exists():
        raise SystemExit(f"{folder} would hide this install: remove it, or move what is in it")


setup(
    packages=sorted({*inside("siftune"), *(f"siftune.{name}" for name in inside(*FOLDERS))}),
    package_dir={f"siftune.{folder}": folder for folder in FOLDERS},
    cmdclass={"build_py": BuildPy, "editable_wheel": EditableWheel},
)
