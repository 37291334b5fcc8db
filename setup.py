"""The folders of the package: `curate/` is installed as `siftune.curate`, and so are the others.

In the checkout `siftune/curate` is a link to the folder beside it. Builds do not need the links,
which git on Windows and ZIP files turn into text files (CONTRIBUTING.md, "One package").
"""

import sysconfig
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel

FOLDERS = ("curate", "finetune", "pipelines")


def inside(*folders: str) -> list[str]:
    """Names of these packages and of those in them."""
    return find_packages(include=[pattern for one in folders for pattern in (one, f"{one}.*")])


class EditableWheel(editable_wheel):
    """An editable install that no folder left by an uninstalled version hides."""

    def run(self):
        """Remove compiled code of an earlier version, then install."""
        remove_leftover(Path(sysconfig.get_path("purelib"), "siftune"))
        super().run()


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
    cmdclass={"editable_wheel": EditableWheel},
)
