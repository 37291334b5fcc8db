"""The folders of the package: `curate/` is installed as `siftune.curate`, and so are the others.

In the checkout `siftune/curate` is a link to the folder beside it. Builds do not need the links,
which git on Windows and ZIP files turn into text files (CONTRIBUTING.md, "One package").
"""

from setuptools import find_packages, setup

FOLDERS = ("curate", "finetune", "pipelines")


def inside(*folders: str) -> list[str]:
    """Names of these packages and of those in them."""
    return find_packages(include=[pattern for one in folders for pattern in (one, f"{one}.*")])


setup(
    packages=sorted({*inside("siftune"), *(f"siftune.{name}" for name in inside(*FOLDERS))}),
    package_dir={f"siftune.{folder}": folder for folder in FOLDERS},
)
